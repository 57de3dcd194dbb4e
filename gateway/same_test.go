package gateway

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// intended are the differences to boxo's answers, and why.
var intended = []struct {
	why   string
	meant func(asked question, ours, boxos reply) bool
}{
	{"a suffix longer than the file is the whole file, as RFC 9110 says, not no range at all", func(q question, ours, boxos reply) bool {
		return strings.HasPrefix(q.header["Range"], "bytes=-") && ours.StatusCode == http.StatusPartialContent &&
			(boxos.StatusCode == http.StatusOK && ours.body == boxos.body || boxos.StatusCode == http.StatusUnprocessableEntity)
	}},
	{"a 304 for what was not looked at says Vary though content so small has no other coding", func(_ question, ours, boxos reply) bool {
		return ours.StatusCode == http.StatusNotModified && sameBut(ours, boxos, "Vary")
	}},
	{"the list of a folder, which is HTML, is not said to be at ?format=json", func(q question, ours, boxos reply) bool {
		return q.header["Accept"] == "application/json" && isListing(ours.Header) && sameBut(ours, boxos, "Content-Location")
	}},
	{"the type is found by the file's beginning, also where a range begins elsewhere", func(q question, ours, boxos reply) bool {
		return q.header["Range"] != "" && !strings.Contains(q.url, ".js") && sameBut(ours, boxos, "Content-Type")
	}},
}

// question is one request.
type question struct {
	method, url string
	header      map[string]string
}

// TestAnswersAreTheSameAsBoxos sends each request to three: to boxo, to what
// answers without it, and there again, where the answer is ready.
func TestAnswersAreTheSameAsBoxos(t *testing.T) {
	site := maps.Clone(blog)
	maps.Copy(site, map[string]string{
		"noext": "<!DOCTYPE html><title>x</title>", "empty": "", "empty.txt": "", "data": "\x89PNG\r\n\x1a\n", "ä ö/ü.html": "ü",
		"_redirects": "/old /docs/ 301\n/app/* /docs/index.html 200\n/gone /404.html 410\n", "docs/x.wasm": "\x00asm", "index.d/index.html/file": "a folder",
	})
	store := blockstore.NewMemory()
	ours := newWorld(t, func(c *Config) { c.Blocks = store; c.Hosts = sameHosts })
	ours.store = store
	root := ours.build(site)
	name := ours.publish("blog", root)
	boxos := newWorld(t, func(c *Config) {
		c.Blocks, c.Names, c.Sites, c.Hosts = store, ours.resolver, ours.sites, sameHosts
		c.boxoOnly = true
	})
	lone, err := root.Prefix().Sum([]byte("nobody has this"))
	must(t, err)
	asked := questions(root, lone, name.String())
	for _, q := range asked {
		want := q.ask(t, boxos)
		for _, turn := range []string{"first", "again"} {
			got := q.ask(t, ours)
			if q.method != http.MethodOptions && !sameBut(got, want) && !slices.ContainsFunc(intended, func(i struct {
				why   string
				meant func(question, reply, reply) bool
			}) bool {
				return i.meant(q, got, want)
			}) {
				t.Errorf("%s: %+v\nours  %s\nboxos %s", turn, q, shown(got), shown(want))
			}
		}
	}
	t.Logf("%d requests", len(asked))
}

var sameHosts = map[string]HostConfig{"paths.example": {}, "raw.example": {TrustlessOnly: true}}

func questions(root, lone cid.Cid, name string) (out []question) {
	paths := []string{
		"/", "/index.html", "/style.css", "/docs", "/docs/", "/docs/index.html", "/docs/a%20b%25%23.html", "/plain/", "/plain/file.txt", "/plain/file.txt/", "/plain/file.txt/below",
		"/big.bin", "/.well-known/thing", "/img/logo.svg", "/deep/er/and/er/x.js", "/noext", "/empty", "/empty.txt", "/data", "/%C3%A4%20%C3%B6/%C3%BC.html", "/docs/x.wasm",
		"/index.d/", "/missing", "/docs/missing.html", "/old", "/app/x", "/gone", "/_redirects", "//docs//", "/docs//index.html", "/style.css?v=1", "/docs?x=%20", "/style.css?filename=a.txt&download=true",
		"/docs/?go-get=1", "/docs?go-get=1", "/?format=raw", "/style.css?format=json", "/DOCS/", "/docs/%2e/", "/docs%2Findex.html", "/style.css?uri=ipfs://x",
	}
	headers := []map[string]string{
		nil,
		{"Range": "bytes=0-0"}, {"Range": "bytes=2-"}, {"Range": "bytes=-3"}, {"Range": "bytes=-0"}, {"Range": "bytes=-99999999"}, {"Range": "bytes=99999999-"}, {"Range": "x"},
		{"Range": "bytes=0-3", "If-Range": `"x"`}, {"If-None-Match": "*"}, {"If-None-Match": `"x", W/"y"`}, {"If-Match": `"x"`},
		{"If-Modified-Since": "Mon, 02 Jan 2006 15:04:05 GMT"}, {"Accept": "application/json"}, {"Accept": "text/html,*/*;q=0.8"}, {"Accept": "application/vnd.ipld.raw"},
		{"Cache-Control": "only-if-cached"}, {"Cache-Control": "no-cache"}, {"Service-Worker": "script"}, {"Accept-Encoding": "gzip, br"},
	}
	origins := []string{
		"http://blog.localhost", "http://BLOG.localhost:80", "http://" + name + ".ipns.localhost", "http://" + root.String() + ".ipfs.localhost",
		"http://127.0.0.1/ipns/" + name, "http://paths.example/ipfs/" + root.String(), "http://raw.example/ipfs/" + root.String(), "http://127.0.0.1/ipfs/" + cid.NewCidV0(root.Hash()).String(),
	}
	for i, o := range origins {
		for _, p := range paths {
			for j, h := range headers {
				if i > 0 && (p == "/big.bin" || j > 0 && (i+j)%5 != 0) { // a fifth is enough where only the origin is another
					continue
				}
				out = append(out, question{http.MethodGet, o + p, h})
				if j%4 == 0 {
					out = append(out, question{http.MethodHead, o + p, h})
				}
			}
		}
	}
	for _, p := range []string{"/ipfs/" + root.String(), "/ipfs/x/", "/ipns/x", "/ipfs/" + lone.String() + "/", "/ipns/" + name} {
		out = append(out, question{http.MethodGet, "http://127.0.0.1" + p, nil})
	}
	return out
}

func (q question) ask(t *testing.T, w *world) reply {
	t.Helper()
	var pairs []string
	for k, v := range q.header {
		pairs = append(pairs, k, v)
	}
	return w.do(q.method, q.url, pairs...)
}

// sameBut compares all that is not made of the time.
func sameBut(a, b reply, but ...string) bool {
	if a.StatusCode != b.StatusCode || a.body != b.body && !errorText(a) {
		return false
	}
	return maps.EqualFunc(without(a, but), without(b, but), slices.Equal)
}

func without(r reply, but []string) http.Header {
	h := r.Header.Clone()
	for _, k := range append(but, "Date", "Server-Timing") {
		h.Del(k)
	}
	if at, err := http.ParseTime(h.Get("Last-Modified")); err == nil && time.Since(at) < time.Hour {
		h.Set("Last-Modified", "now")
	}
	if seconds := 0; h.Get("Cache-Control") != immutable {
		if n, _ := fmt.Sscanf(h.Get("Cache-Control"), "public, max-age=%d", &seconds); n == 1 && seconds > 5 {
			h.Set("Cache-Control", "public, max-age=some minutes")
		}
	}
	if errorText(r) {
		h.Del("Content-Length") // it says how long it took, and why
	}
	return h
}

// errorText tells whether an answer is our text of an error, not a page of the site.
func errorText(r reply) bool {
	return r.StatusCode >= 400 && r.Header.Get("Cache-Control") == "no-store"
}

func shown(r reply) string { return fmt.Sprintf("%d %v %.200q", r.StatusCode, r.Header, r.body) }
