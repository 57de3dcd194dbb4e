package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// pageful is as much as a page.
func pageful(what string) string { return strings.Repeat(what+"\n", 13<<10/(len(what)+1)) }

var pagesForOthers = map[string]string{
	"index.html": pageful("home"), "404.html": pageful("nothing there"), "about.html": pageful("about"),
	"app.html": pageful("application"), "gone.html": pageful("gone"), "_headers": "/blog/*\n  X-Part: blog\n",
	"_redirects": "/app/* /app.html 200\n/old/* /gone.html 410\n",
}

func TestPagesForOtherPathsAreReadyToo(t *testing.T) {
	blocks := &countedBlocks{}
	w := newWorld(t, func(c *Config) { blocks.Getter = c.Blocks; c.Blocks = blocks })
	name := w.publish("blog", w.build(pagesForOthers))
	for _, c := range []struct {
		path, page string
		status     int
	}{
		{"/about", "about.html", 200},
		{"/app/any/route", "app.html", 200},
		{"/old/page", "gone.html", 410},
		{"/blog/missing", "404.html", 404},
		{"/favicon.ico", "404.html", 404},
	} {
		want := w.get("http://blog.localhost" + c.path)
		want.want(t, c.status, pagesForOthers[c.page])
		before := blocks.reads.Load()
		for range 2 {
			got := w.get("http://blog.localhost" + c.path)
			got.want(t, c.status, pagesForOthers[c.page])
			if !sameBut(got, want, "Cache-Control", "Server-Timing", "Last-Modified", "Date") {
				t.Errorf("%s: again %s\nfirst %s", c.path, shown(got), shown(want))
			}
		}
		if n := blocks.reads.Load() - before; n != 0 {
			t.Errorf("%s: %d blocks were read again", c.path, n)
		}
		if c.status >= 400 { // an error is never "not modified", nor sent in parts
			w.get("http://blog.localhost"+c.path, "If-None-Match", "*").want(t, c.status, pagesForOthers[c.page])
			w.get("http://blog.localhost"+c.path, "Range", "bytes=0-1").want(t, c.status, pagesForOthers[c.page])
		}
		w.do(http.MethodHead, "http://blog.localhost"+c.path).want(t, c.status, "")
	}
	w.get("http://blog.localhost/blog/missing").wantHeader(t, "X-Part", "blog")
	w.get("http://blog.localhost/about", "If-None-Match", "*").want(t, 304, "")
	next := map[string]string{"index.html": "home", "blog/missing.html": "here now", "app/any/route": "a file"}
	if w.publish("blog", w.build(next)) != name {
		t.Fatal("another name")
	}
	w.get("http://blog.localhost/blog/missing").want(t, 200, "here now")
	w.get("http://blog.localhost/app/any/route").want(t, 200, "a file")
	w.get("http://blog.localhost/old/page").want(t, 404, "")
}

func TestAFloodOfMissingPathsPushesNoPageOut(t *testing.T) {
	const most = 2 << 20
	blocks := &countedBlocks{}
	w := newWorld(t, func(c *Config) { blocks.Getter = c.Blocks; c.Blocks, c.ReadyBytes = blocks, most })
	w.publish("blog", w.build(pagesForOthers))
	real := []string{"/", "/about", "/about.html", "/gone.html"}
	g := w.gateway()
	for _, p := range real {
		if r := ask(g, http.MethodGet, "http://blog.localhost"+p); r.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", p, r.Status)
		}
	}
	pages := g.ready.answers.EstimatedSize()
	for i := range 500 {
		ask(g, http.MethodGet, fmt.Sprintf("http://blog.localhost/%d/missing", i))
		ask(g, http.MethodGet, fmt.Sprintf("http://blog.localhost/app/%d", i))
	}
	if n := g.ready.answers.EstimatedSize(); n != pages {
		t.Errorf("%d pages are kept, %d before the flood", n, pages)
	}
	if n := g.ready.missing.WeightedSize(); n > most/shareOfAnswers/shareOfMissing {
		t.Errorf("%d bytes for what is missing", n)
	}
	before := blocks.reads.Load()
	for _, p := range real {
		w.get("http://blog.localhost"+p).want(t, 200, "")
	}
	if n := blocks.reads.Load() - before; n != 0 {
		t.Errorf("%d blocks were read again after the flood", n)
	}
}

func TestAReadyErrorPageHidesNoPartOfAnOpenPage(t *testing.T) {
	w, _, site := changed(t, newSite, nil)
	for range 2 {
		w.get(site+"/app.1.js", "Sec-Fetch-Dest", "document", "Sec-Fetch-Mode", "navigate").want(t, http.StatusNotFound, newSite["404.html"])
		w.get(site+"/app.1.js", "Sec-Fetch-Dest", "script").want(t, http.StatusOK, oldSite["app.1.js"])
		w.get(site+"/app.1.js").want(t, http.StatusOK, oldSite["app.1.js"])
		w.get(site+"/about").want(t, http.StatusNotFound, newSite["404.html"])
		w.get(site+"/data", "Sec-Fetch-Dest", "empty").want(t, http.StatusOK, oldSite["data"])
		w.get(site+"/data").want(t, http.StatusNotFound, newSite["404.html"])
	}
}

func TestAWholeBlockIsKeptWithoutACopy(t *testing.T) {
	b, err := blockstore.NewBlock(cid.NewPrefixV1(cid.Raw, multihash.SHA2_256), []byte("one block"))
	must(t, err)
	k := &keeping{}
	k.allow("no-cache", time.Time{}, false, int64(b.Size()), b.RawData())
	k.start(200, http.Header{})
	k.add(b.RawData()[:3], 9)
	k.add(b.RawData()[3:], 9)
	if string(k.body) != "one block" || &k.body[0] != &b.RawData()[0] {
		t.Errorf("%q was kept, or a copy", k.body)
	}
	packed := []byte("packed")
	k = &keeping{}
	k.allow("no-cache", time.Time{}, false, int64(b.Size()), b.RawData())
	k.start(200, http.Header{})
	k.add(packed, 6)
	if string(k.body) != "packed" {
		t.Errorf("%q was kept of what was sent", k.body)
	}
}
