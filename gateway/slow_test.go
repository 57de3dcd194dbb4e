package gateway

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
)

// pipes is a listener whose connections are pipes, so that time can be the test's own.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

func TestSlowClientsAreCut(t *testing.T) {
	const patience = 10 * time.Second // of the gateway with peers
	big := strings.Repeat("0123456789abcdef", 64<<10)
	for name, c := range map[string]struct {
		says  string
		reads int // bytes before it takes no more; -1: all
		most  time.Duration
	}{
		"a header that doesn't end":   {"GET / HTTP/1.1\r\nHost: blog.localhost\r\nX-Slow: ", -1, headerTimeout},
		"a body that doesn't end":     {"PUT /routing/v1/ipns/k51 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nrec", -1, bodyTime},
		"a reader that reads nothing": {"GET /ipfs/ROOT HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 0, patience + writeStall + patience},
		"a reader that stops":         {"GET /ipfs/ROOT HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 100 << 10, patience + writeStall + patience},
		"nobody who asks again":       {"GET /ipfs/ROOT HTTP/1.1\r\nHost: 127.0.0.1\r\nRange: bytes=0-9\r\n\r\n", -1, idleTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := blockstore.NewMemory()
				root := buildFile(t, store, big)
				h, err := New(Config{Blocks: store, RetrievalTimeout: patience, Routing: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if _, err := io.ReadAll(r.Body); err == nil {
						t.Error("the body came whole")
					}
				})})
				must(t, err)
				ln := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- Serve(ctx, ln, h, nil) }()
				conn, began := ln.dial(), time.Now()
				_, err = io.WriteString(conn, strings.ReplaceAll(c.says, "ROOT", root))
				must(t, err)
				if c.reads >= 0 {
					_, err = io.ReadFull(conn, make([]byte, c.reads))
					must(t, err)
					time.Sleep(c.most + time.Second) // and then the rest of what was on its way
				}
				rest, _ := io.Copy(io.Discard, conn)
				if c.reads >= 0 && rest+int64(c.reads) >= int64(len(big)) {
					t.Error("all of it came")
				}
				if took := time.Since(began); took > c.most+time.Second {
					t.Errorf("cut after %s", took)
				}
				conn.Close()
				cancel()
				must(t, <-ended)
			})
		})
	}
}

// buildFile puts a file into the store and gives its CID.
func buildFile(t *testing.T, store blockstore.Store, text string) string {
	t.Helper()
	w := &world{t: t, store: store}
	root := w.build(map[string]string{"big.bin": text})
	at, err := merkle.Resolve(t.Context(), store, root, "big.bin")
	must(t, err)
	return at.String()
}
