package gateway

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// nowhere is a ResponseWriter that costs nothing itself.
type nowhere struct {
	header http.Header
	status int
	bytes  int
}

func (n *nowhere) Header() http.Header         { return n.header }
func (n *nowhere) WriteHeader(status int)      { n.status = status }
func (n *nowhere) Write(p []byte) (int, error) { n.bytes += len(p); return len(p), nil }

// BenchmarkGateway shows what one request costs the handler: allocations, and
// time without the connection's.
func BenchmarkGateway(b *testing.B) {
	page := strings.Repeat("<p>thirteen kilobytes of a page</p>\n", 375)
	for _, c := range []struct {
		name, path string
		header     []string
		nothing    bool // keep nothing: as on the first request
	}{
		{name: "ready/page", path: "/docs/a/b/page.html"},
		{name: "ready/index", path: "/"},
		{name: "ready/304", path: "/docs/a/b/page.html", header: []string{"If-None-Match", "*"}},
		{name: "ready/range", path: "/docs/a/b/page.html", header: []string{"Range", "bytes=100-199"}},
		{name: "first/page", path: "/docs/a/b/page.html", nothing: true},
		{name: "first/304", path: "/docs/a/b/page.html", header: []string{"If-None-Match", "*"}, nothing: true},
		{name: "large", path: "/large.bin"},
		{name: "missing", path: "/missing.html"},
	} {
		b.Run(c.name, func(b *testing.B) {
			var h http.Handler
			w := newWorld(b, func(cfg *Config) {
				if c.nothing {
					cfg.ReadyBytes = -1
				}
			})
			h = w.handler
			w.publish("blog", w.build(map[string]string{
				"index.html": page, "docs/a/b/page.html": page, "large.bin": strings.Repeat("large ", 2_500_000/6),
			}))
			r := httptest.NewRequest(http.MethodGet, "http://blog.localhost"+c.path, nil)
			for i := 0; i+1 < len(c.header); i += 2 {
				r.Header.Set(c.header[i], c.header[i+1])
			}
			ask := func(r *http.Request) *nowhere {
				out := &nowhere{header: http.Header{}}
				h.ServeHTTP(out, r)
				return out
			}
			ask(httptest.NewRequest(http.MethodGet, "http://blog.localhost"+c.path, nil))
			b.SetBytes(int64(ask(r).bytes))
			out := &nowhere{header: http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				clear(out.header)
				h.ServeHTTP(out, r)
			}
		})
	}
}
