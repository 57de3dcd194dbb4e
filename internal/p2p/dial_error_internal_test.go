package p2p

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/p2p/net/swarm"
)

func TestAPeerOutOfReachIsToldInOneLine(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp4", Err: errors.New("connection refused")}
	err := error(&dialError{"peer", &swarm.DialError{
		Cause: swarm.ErrAllDialsFailed, DialErrors: []swarm.TransportError{{Cause: refused}, {Cause: errors.New("no route")}}, Skipped: 3,
	}})
	text := err.Error()
	if strings.Contains(text, "\n") || !strings.Contains(text, "connection refused; no route; and 3 addresses more") {
		t.Errorf("%q", text)
	}
	if !errors.Is(err, swarm.ErrAllDialsFailed) || !errors.Is(err, refused) {
		t.Errorf("the causes are lost: %v", err)
	}
	if text := (&dialError{"peer", errors.New("no addresses")}).Error(); !strings.HasSuffix(text, ": no addresses") {
		t.Errorf("%q", text)
	}
}
