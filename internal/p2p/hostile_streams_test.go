package p2p

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/ipfs/boxo/bitswap/network/bsnet"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// TestTenThousandStreamsAreCapped: one peer opens streams of every protocol that we speak, and says a word or nothing on
// each. It gets its share; the others go on.
func TestTenThousandStreamsAreCapped(t *testing.T) {
	n := open(t)
	n.SetHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }))
	grown := watchMemory(t)
	for name, tc := range map[string]struct {
		protocol protocol.ID
		word     string
	}{
		"HTTP, nothing said":   {httpProtocol, ""},
		"HTTP, half a request": {httpProtocol, "GET / HTTP/1.1\r\nHost: x\r\n"},
		"bitswap":              {bsnet.ProtocolBitswap, "\x7f"},
		"the DHT":              {privatePrefix + "/kad/1.0.0", "\x7f"},
		"names":                {NamesProtocol, "\x7f"},
		"identify":             {"/ipfs/id/1.0.0", ""},
		"ping":                 {"/ipfs/ping/1.0.0", "x"},
		"nothing we speak":     {"/none/1.0.0", ""},
	} {
		h := attacker(t)
		attack(t, h, n)
		opened := openStreams(t, h, n, tc.protocol, tc.word, 10_000/8)
		held := streamsOf(n, h)
		t.Logf("%s: %d streams opened, %d held", name, opened, held)
		if held > 1024 {
			t.Errorf("%s: %d streams of one peer are open", name, held)
		}
		wantUsable(t, n, 60)
		h.Close()
		eventually(t, name+": its streams are gone", func() bool { return streamsOf(n, h) == 0 })
	}
	wantBounded(t, grown)
}

// openStreams tries to open so many streams, and keeps them open. It tells how many it believes to have.
func openStreams(t *testing.T, from host.Host, to *Node, p protocol.ID, word string, count int) (opened int) {
	t.Helper()
	for range count {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		s, err := from.NewStream(ctx, to.ID(), p)
		cancel()
		if err != nil {
			continue
		}
		if _, err := io.WriteString(s, word); err != nil {
			s.Reset()
			continue
		}
		opened++
	}
	return opened
}

// streamsOf is how many streams a peer has open at a node.
func streamsOf(n *Node, h host.Host) (count int) {
	for _, c := range n.Host().Network().ConnsToPeer(h.ID()) {
		for _, s := range c.GetStreams() {
			if s.Stat().Direction == network.DirInbound {
				count++
			}
		}
	}
	return count
}

// TestManyConnectionsDoNotKeepOthersOut: a peer may connect again and again, and a stranger under new names.
func TestManyConnectionsDoNotKeepOthersOut(t *testing.T) {
	n := open(t)
	grown := watchMemory(t)
	again := attacker(t)
	again.Peerstore().AddAddrs(n.ID(), info(t, n).Addrs, time.Hour)
	for range 100 {
		_, _ = again.Network().DialPeer(network.WithForceDirectDial(t.Context(), "again"), n.ID()) // some are refused
	}
	if got := len(n.Host().Network().ConnsToPeer(again.ID())); got > 16 {
		t.Errorf("%d connections of one peer", got)
	}
	var strangers []host.Host
	for range connHigh + 50 { // more than the connection manager lets be for long
		h := attacker(t)
		strangers = append(strangers, h)
		_ = h.Connect(t.Context(), info(t, n))
	}
	if got := len(n.Host().Network().Peers()); got <= connHigh {
		t.Errorf("%d of %d strangers are connected: who comes after them is kept out", got, connHigh+50)
	}
	wantUsable(t, n, 61)
	for _, h := range strangers {
		h.Close()
	}
	wantBounded(t, grown)
}
