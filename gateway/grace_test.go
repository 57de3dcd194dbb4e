package gateway

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/naming"
)

// past is the Earlier of the tests: what one site showed before.
type past struct {
	mu    sync.Mutex
	root  cid.Cid
	until time.Time
	asked int
}

func (p *past) Before(_ context.Context, _ naming.Name, now cid.Cid) (cid.Cid, time.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	return p.root, p.until, p.root.Defined()
}

func (p *past) set(root cid.Cid, until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.root, p.until = root, until
}

var (
	oldSite = map[string]string{
		"index.html": "old home", "app.1.js": "old script", "about.html": "old page", "img/a.png": "old image",
		"data": "old data", "docs/index.html": "old docs", "empty.css": "", "big.bin": strings.Repeat("0123456789abcdef", 200_000),
	}
	newSite = map[string]string{"index.html": "new home", "app.2.js": "new script", "404.html": "no such page"}
)

const day = 24 * time.Hour

// changed is a gateway with a site that has just changed from oldSite to one of these files.
func changed(t *testing.T, files map[string]string, change func(*Config)) (w *world, p *past, site string) {
	t.Helper()
	p = &past{}
	w = newWorld(t, func(c *Config) {
		c.Earlier = p
		if change != nil {
			change(c)
		}
	})
	p.set(w.build(oldSite), time.Now().Add(day))
	n := w.publish("blog", w.build(files))
	return w, p, "http://" + n.String() + ".ipns.localhost"
}

func TestAnOpenPageFindsItsPartsForTheGrace(t *testing.T) {
	w, p, site := changed(t, newSite, nil)
	script := []string{"Sec-Fetch-Dest", "script", "Sec-Fetch-Mode", "no-cors"}
	r := w.get(site+"/app.1.js", script...)
	r.want(t, http.StatusOK, "old script")
	r.wantHeader(t, "Cache-Control", "public, max-age=60")
	if etag := r.Header.Get("Etag"); etag == "" {
		t.Error("no ETag")
	} else {
		w.get(site+"/app.1.js", append(script, "If-None-Match", etag)...).want(t, http.StatusNotModified, "")
	}
	if v := strings.Join(r.Header.Values("Vary"), ","); !strings.Contains(v, "Sec-Fetch-Dest") {
		t.Errorf("Vary: %q", v)
	}
	w.get(site+"/big.bin", "Sec-Fetch-Dest", "empty", "Range", "bytes=3000000-3000003").want(t, http.StatusPartialContent, "0123")
	w.get(site+"/empty.css", "Sec-Fetch-Dest", "style").want(t, http.StatusOK, "")
	w.do(http.MethodHead, site+"/img/a.png", "Sec-Fetch-Dest", "image").want(t, http.StatusOK, "")
	// By path, too, and without a word from the client.
	name := strings.TrimSuffix(strings.TrimPrefix(site, "http://"), ".ipns.localhost")
	w.get("http://127.0.0.1/ipns/"+name+"/app.1.js").want(t, http.StatusOK, "old script")

	// What the newest release has is never taken from the one before.
	w.get(site+"/app.2.js", script...).want(t, http.StatusOK, "new script")
	// A grace that is about to end is no longer in a cache than that.
	p.set(p.root, time.Now().Add(10*time.Second))
	var seconds int
	cc := w.get(site+"/app.1.js", script...).Header.Get("Cache-Control")
	if n, err := fmt.Sscanf(cc, "public, max-age=%d", &seconds); n != 1 || err != nil || seconds >= 10 {
		t.Errorf("Cache-Control %q with less than ten seconds left", cc)
	}
	p.set(p.root, time.Now().Add(-time.Second))
	w.get(site+"/app.1.js", script...).want(t, http.StatusNotFound, "no such page")
	p.set(cid.Undef, time.Time{})
	w.get(site+"/app.1.js", script...).want(t, http.StatusNotFound, "no such page")
}

func TestOldPagesAreNotShownToWhoeverOpensThem(t *testing.T) {
	w, p, site := changed(t, newSite, nil)
	for _, tc := range []struct {
		path   string
		header []string
		found  bool
	}{
		{"/about.html", nil, false},
		{"/about.HTML", nil, false},
		{"/docs", nil, false},
		{"/docs/", nil, false},
		{"/data", nil, false},
		{"/img/a.png", nil, true},
		{"/img/a.png", []string{"Sec-Fetch-Mode", "navigate"}, false},
		{"/img/a.png", []string{"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, false},
		{"/img/a.png", []string{"Sec-Fetch-Dest", "iframe"}, false},
		{"/img/a.png", []string{"Sec-Fetch-Dest", "object"}, false},
		{"/app.1.js", []string{"Sec-Fetch-Dest", "serviceworker", "Sec-Fetch-Mode", "same-origin"}, false},
		{"/app.1.js", []string{"Sec-Fetch-Dest", "worker", "Sec-Fetch-Mode", "same-origin"}, true},
		{"/data", []string{"Sec-Fetch-Dest", "empty", "Sec-Fetch-Mode", "cors"}, true},
		{"/about.html", []string{"Sec-Fetch-Dest", "empty", "Sec-Fetch-Mode", "cors"}, true},                                                // a part of a page that a script puts in
		{"/about.html", []string{"Sec-Fetch-Dest", "empty", "Sec-Fetch-Mode", "cors", "Accept", "text/html, application/xhtml+xml"}, false}, // a page by script
		{"/img/a.png", []string{"Accept", "text/html,application/xhtml+xml,image/avif,*/*;q=0.8"}, false},                                   // opened, by a browser that says no more: over http
		{"/img/a.png", []string{"Accept", "image/avif,image/webp,*/*;q=0.8"}, true},
		{"/docs", []string{"Sec-Fetch-Dest", "empty"}, false}, // a folder
		{"/nowhere.js", []string{"Sec-Fetch-Dest", "script"}, false},
	} {
		status := http.StatusNotFound
		if tc.found {
			status = http.StatusOK
		}
		if r := w.get(site+tc.path, tc.header...); r.StatusCode != status {
			t.Errorf("%s %q: %d %.40q", tc.path, tc.header, r.StatusCode, r.body)
		}
	}
	// A fixed root never was anything else.
	asked := p.asked
	root := w.build(newSite)
	w.get("http://127.0.0.1/ipfs/"+root.String()+"/app.1.js").want(t, http.StatusNotFound, "no such page")
	if p.asked != asked {
		t.Error("the past of a CID was asked for")
	}
}

// TestWhoeverOpensAPartOfAnOldPageHasNotGivenAllItsAnswer: a cache between would else keep the 404 for the page that wants the part.
func TestWhoeverOpensAPartOfAnOldPageHasNotGivenAllItsAnswer(t *testing.T) {
	w, _, site := changed(t, newSite, nil)
	for range 2 { // also where it is ready
		for path, status := range map[string]int{"/img/a.png": 404, "/about.html": 404, "/app.2.js": 200} {
			r := w.get(site+path, "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Accept", "text/html")
			if v := strings.Join(r.Header.Values("Vary"), ","); r.StatusCode != status || strings.Contains(v, "Sec-Fetch-Dest") != (status == 404) || status == 404 && !strings.Contains(v, "Sec-Fetch-Mode") {
				t.Errorf("%s: %s, Vary %q", path, r.Status, v)
			}
		}
	}
}

func TestTheNewReleasesRulesComeBeforeOldFilesUnlessTheyCatchAll(t *testing.T) {
	files := map[string]string{
		"index.html": "new home", "b.png": "new image",
		"_redirects": "/img/a.png /b.png 301\n/data /b.png 200\n/empty.css /nowhere 410\n/docs/* /index.html 301\n/* /index.html 200\n",
	}
	w, p, site := changed(t, files, nil)
	part := []string{"Sec-Fetch-Dest", "empty"}
	w.get(site+"/img/a.png", part...).want(t, http.StatusMovedPermanently, "")
	w.get(site+"/data", part...).want(t, http.StatusOK, "new image")
	w.get(site+"/empty.css", part...).want(t, http.StatusGone, "")
	w.get(site+"/docs/index.html", part...).want(t, http.StatusMovedPermanently, "")
	w.get(site+"/app.1.js", part...).want(t, http.StatusOK, "old script")
	w.get(site+"/app.0.js", part...).want(t, http.StatusOK, "new home")
	w.get(site+"/about.html").want(t, http.StatusOK, "new home")
	p.set(cid.Undef, time.Time{})
	w.get(site+"/app.1.js", part...).want(t, http.StatusOK, "new home")
}

// gone has no block of one root, and counts who asks for it.
type gone struct {
	blockstore.Getter
	mu    sync.Mutex
	root  cid.Cid
	slow  bool
	asked int
}

func (g *gone) Get(ctx context.Context, c cid.Cid) (blockstore.Block, error) {
	g.mu.Lock()
	mine, slow := c.Equals(g.root), g.slow
	if mine {
		g.asked++
	}
	g.mu.Unlock()
	if !mine {
		return g.Getter.Get(ctx, c)
	}
	if slow {
		<-ctx.Done()
		return blockstore.Block{}, &blockstore.BlockError{CID: c, Kind: blockstore.ErrUnavailable, Err: ctx.Err()}
	}
	return blockstore.Block{}, &blockstore.BlockError{CID: c, Kind: blockstore.ErrUnavailable}
}

func TestAnOldReleaseThatNobodyHasAnyMoreIsLookedForOnce(t *testing.T) {
	for _, slow := range []bool{false, true} {
		g := &gone{slow: slow}
		w, p, site := changed(t, newSite, func(c *Config) { g.Getter, c.Blocks = c.Blocks, g })
		g.mu.Lock()
		g.root = p.root
		g.mu.Unlock()
		for range 20 {
			w.get(site+"/app.1.js").want(t, http.StatusNotFound, "no such page")
		}
		if g.asked != 1 {
			t.Errorf("asked for %d times", g.asked)
		}
		w.get(site+"/index.html").want(t, http.StatusOK, "new home")
	}
}
