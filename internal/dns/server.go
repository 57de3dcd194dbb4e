package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	wire "github.com/miekg/dns"
)

const (
	// maxDatagram is the largest UDP answer that is asked for, in bytes: what passes everywhere unfragmented.
	maxDatagram = 1232
	// tryTime is how long one server may take for one try over UDP, and over TCP for all of it.
	tryTime = 1500 * time.Millisecond
	// tries is how often each server is tried: datagrams get lost.
	tries = 2
)

// askServers asks servers ("host:port") in order, each with UDP and, where that is not enough, TCP. A server that
// said that it can't tell is not tried again.
func askServers(servers []string) exchange {
	return func(ctx context.Context, q *wire.Msg) (*wire.Msg, error) {
		failed := make(map[string]error, len(servers))
		for range tries {
			for _, s := range servers {
				if _, said := failed[s].(rcodeError); said {
					continue
				}
				m, err := askServer(ctx, s, q)
				if err == nil {
					return m, nil
				}
				if failed[s] = err; ctx.Err() != nil {
					break
				}
			}
		}
		var errs []error
		for _, s := range servers {
			if err := failed[s]; err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", s, err))
			}
		}
		return nil, errors.Join(errs...)
	}
}

func askServer(ctx context.Context, server string, q *wire.Msg) (*wire.Msg, error) {
	m, err := converse(ctx, "udp", server, q)
	if err == nil && m.Truncated {
		m, err = converse(ctx, "tcp", server, q)
	}
	if err != nil {
		return nil, err
	}
	return m, whole(m)
}

// whole is nil for a message that can be read as an answer.
func whole(m *wire.Msg) error {
	switch {
	case m.Rcode != wire.RcodeSuccess && m.Rcode != wire.RcodeNameError:
		return rcodeError(m.Rcode)
	case m.Truncated:
		return errors.New("the answer is truncated")
	}
	return nil
}

// converse puts one question over one connection.
func converse(ctx context.Context, network, server string, q *wire.Msg) (*wire.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, network, server)
	if err != nil {
		return nil, err
	}
	conn := &wire.Conn{Conn: c, UDPSize: maxDatagram}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := conn.WriteMsg(q); err != nil {
		return nil, err
	}
	for {
		m, err := conn.ReadMsg()
		switch {
		case err == nil && answers(m, q):
			return m, nil
		case ctx.Err() != nil:
			return nil, fmt.Errorf("no answer over %s: %w", network, ctx.Err())
		case network == "tcp" && err == nil:
			return nil, errNotAnswered
		case network == "tcp" || isNet(err):
			return nil, err
		}
		// A datagram that is no answer may be anybody's; the answer may still come.
	}
}

func isNet(err error) bool {
	var ne net.Error
	return errors.As(err, &ne)
}

var errNotAnswered = errors.New("what came is not the answer to the question")

// answers tells whether m answers q. A server that could not read the question may leave it out.
func answers(m, q *wire.Msg) bool {
	if m.Id != q.Id || !m.Response || m.Opcode != wire.OpcodeQuery {
		return false
	}
	if len(m.Question) == 0 {
		return m.Rcode != wire.RcodeSuccess && m.Rcode != wire.RcodeNameError
	}
	a, b := m.Question[0], q.Question[0]
	return len(m.Question) == 1 && a.Qtype == b.Qtype && a.Qclass == b.Qclass && wire.CanonicalName(a.Name) == wire.CanonicalName(b.Name)
}
