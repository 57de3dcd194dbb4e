package gateway

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/holdfast-sites/holdfast/blockstore"
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
	site := map[string]string{
		"index.html": page, "docs/a/b/page.html": page, "large.bin": strings.Repeat("large ", 2_500_000/6),
		"404.html": page, "app.html": page, "_redirects": "/app/* /app.html 200\n",
	}
	for _, c := range []struct {
		name, path string
		header     []string
		nothing    bool // keep nothing: as on the first request
	}{
		{name: "ready/page", path: "/docs/a/b/page.html"},
		{name: "ready/index", path: "/"},
		{name: "ready/clean", path: "/docs/a/b/page"},
		{name: "ready/304", path: "/docs/a/b/page.html", header: []string{"If-None-Match", "*"}},
		{name: "ready/range", path: "/docs/a/b/page.html", header: []string{"Range", "bytes=100-199"}},
		{name: "ready/404", path: "/missing.html"},
		{name: "ready/application", path: "/app/some/route"},
		{name: "first/page", path: "/docs/a/b/page.html", nothing: true},
		{name: "first/304", path: "/docs/a/b/page.html", header: []string{"If-None-Match", "*"}, nothing: true},
		{name: "first/404", path: "/missing.html", nothing: true},
		{name: "first/application", path: "/app/some/route", nothing: true},
		{name: "large", path: "/large.bin"},
	} {
		b.Run(c.name, func(b *testing.B) {
			w := newWorld(b, func(cfg *Config) {
				if c.nothing {
					cfg.ReadyBytes = -1
				}
			})
			w.publish("blog", w.build(site))
			r := httptest.NewRequest(http.MethodGet, "http://blog.localhost"+c.path, nil)
			for i := 0; i+1 < len(c.header); i += 2 {
				r.Header.Set(c.header[i], c.header[i+1])
			}
			w.handler.ServeHTTP(&nowhere{header: http.Header{}}, httptest.NewRequest(http.MethodGet, "http://blog.localhost"+c.path, nil))
			measure(b, w.handler, r)
		})
	}
}

// BenchmarkColdPages asks for another page each time, of more than are kept, from
// the store on disk.
func BenchmarkColdPages(b *testing.B) {
	const pages = 1000
	dir := b.TempDir()
	store, err := blockstore.OpenDisk(b.Context(), dir, blockstore.DiskOptions{})
	must(b, err)
	b.Cleanup(func() { must(b, store.Close()) })
	w := newWorld(b, func(cfg *Config) { cfg.Blocks, cfg.ReadyBytes = store, 6<<20 })
	w.store = store
	site := map[string]string{}
	for i := range pages {
		site[fmt.Sprintf("pages/%d/%d.html", i%10, i)] = strings.Repeat(fmt.Sprintf("page %8d\n", i), 950)
	}
	w.publish("blog", w.build(site))
	var asked []*http.Request
	for i := range pages {
		asked = append(asked, httptest.NewRequest(http.MethodGet, fmt.Sprintf("http://blog.localhost/pages/%d/%d.html", i%10, i), nil))
	}
	measure(b, w.handler, asked...)
}

// measure sends the requests in turn.
func measure(b *testing.B, h http.Handler, asked ...*http.Request) {
	out := &nowhere{header: http.Header{}}
	h.ServeHTTP(out, asked[0])
	b.SetBytes(int64(out.bytes))
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		clear(out.header)
		h.ServeHTTP(out, asked[n%len(asked)])
	}
}
