package p2p

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	libp2phttp "github.com/libp2p/go-libp2p/p2p/http"
	"github.com/libp2p/go-libp2p/p2p/net/gostream"
)

// Bounds on HTTP over libp2p, on both sides.
const (
	httpHeaderTimeout = 10 * time.Second
	httpHeaderBytes   = 32 << 10
	httpWriteStall    = 30 * time.Second // of a peer that does not read
)

// SetHTTP sets what peers get over libp2p. Until then they get 503.
func (n *Node) SetHTTP(h http.Handler) {
	if h == nil {
		h = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "nothing is served here yet", http.StatusServiceUnavailable)
		})
	}
	n.handler.Store(&h)
}

// RemotePeer is the peer that sent a request over libp2p, authenticated by the
// connection. Empty where r came another way.
func RemotePeer(r *http.Request) peer.ID {
	id, _ := r.Context().Value(remotePeerKey{}).(peer.ID)
	return id
}

type remotePeerKey struct{}

// serveHTTP answers HTTP on libp2p streams. go-libp2p's own server (p2p/http) does nothing
// for a host without listen addresses, and has no timeouts.
func (n *Node) serveHTTP() (*http.Server, error) {
	l, err := gostream.Listen(n.host, httpProtocol, gostream.IgnoreEOF())
	if err != nil {
		return nil, err
	}
	var known libp2phttp.WellKnownHandler
	known.AddProtocolMeta("/ipfs/gateway", libp2phttp.ProtocolMeta{Path: "/"})
	mux := http.NewServeMux()
	mux.Handle(libp2phttp.WellKnownProtocols, &known)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		(*n.handler.Load()).ServeHTTP(w, r)
	})
	s := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: httpHeaderTimeout,
		IdleTimeout:       httpHeaderTimeout,
		MaxHeaderBytes:    httpHeaderBytes,
		ErrorLog:          slog.NewLogLogger(n.log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			id, err := peer.Decode(c.RemoteAddr().String())
			if err != nil {
				return ctx
			}
			return context.WithValue(ctx, remotePeerKey{}, id)
		},
	}
	// A stream costs next to nothing, and one left over by a client is one less for the others.
	s.SetKeepAlivesEnabled(false)
	go s.Serve(stallListener{l}) // ends with Close
	return s, nil
}

// stallListener cuts clients that stop reading: an answer may take as long as
// it likes as long as it moves.
type stallListener struct{ net.Listener }

func (l stallListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return stallConn{c}, nil
}

type stallConn struct{ net.Conn }

func (c stallConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(httpWriteStall)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// HTTPClient sends requests to one peer over libp2p, whatever host their URLs
// name ("http://peer/path" will do). An open connection is used, whoever opened it; otherwise
// the peer is dialled, at those of its addresses that may be dialled. The
// client has no timeout of its own beyond the wait for a stream; redirects are not followed.
func (n *Node) HTTPClient(ai peer.AddrInfo) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				if n.host == nil {
					return nil, ErrOffline
				}
				return n.openHTTP(ctx, ai)
			},
			DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
				return nil, errors.New("HTTP over libp2p is encrypted already: use http URLs")
			},
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: httpHeaderBytes,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (n *Node) openHTTP(ctx context.Context, ai peer.AddrInfo) (net.Conn, error) {
	if err := n.connect(ctx, ai); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(network.WithNoDial(ctx, "connected"), n.cfg.ConnectTimeout)
	defer cancel()
	return dialStream(ctx, n.host, ai.ID)
}

func dialStream(ctx context.Context, h host.Host, id peer.ID) (net.Conn, error) {
	s, err := h.NewStream(ctx, id, httpProtocol)
	if err != nil {
		return nil, err
	}
	return clientConn{s}, nil
}

// clientConn is a stream as http.Transport wants it. Close resets it: a server
// that still writes is to learn at once that nobody reads any more, and a
// plain close of the reading side leaves it waiting for room.
type clientConn struct{ network.Stream }

func (c clientConn) Close() error         { return c.Reset() }
func (c clientConn) LocalAddr() net.Addr  { return peerAddr(c.Conn().LocalPeer()) }
func (c clientConn) RemoteAddr() net.Addr { return peerAddr(c.Conn().RemotePeer()) }

type peerAddr peer.ID

func (a peerAddr) Network() string { return gostream.Network }
func (a peerAddr) String() string  { return peer.ID(a).String() }
