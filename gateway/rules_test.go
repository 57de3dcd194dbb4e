package gateway

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
)

func (w *world) ruled(rules string) {
	w.t.Helper()
	files := map[string]string{"index.html": "home", "app.html": "app", "gone.html": "gone page", "a/index.html": "folder a", "404.html": "lost", "_redirects": rules}
	w.publish("ruled", w.build(files))
}

func TestRulesRedirectRewriteAndEnd(t *testing.T) {
	w := newWorld(t, nil)
	w.ruled(strings.Join([]string{
		"# a comment",
		"/old /app.html",
		"/temp /app.html 302",
		"/post/:year/:slug /a/:slug?year=:year 301",
		"/away/* https://example.org/in/:splat 307",
		"/spa/* /app.html 200",
		"/dir/* /a/ 200",
		"/dead /gone.html 410",
		"/denied /gone.html 451",
		"/nopage /not-there.html 410",
		"/static/* /app.html?v=1&w=2 302",
		"/void/* /no-such.html 200",
		"/up/* /../:splat 200",
	}, "\n"))
	for _, c := range []struct {
		path   string
		status int
		want   string // Location or body
	}{
		{"/old", 301, "/app.html"},
		{"/old/", 301, "/app.html"},
		{"/old?a=1", 301, "/app.html?a=1"},
		{"/temp", 302, "/app.html"},
		{"/post/2024/x%20y", 301, "/a/x%20y?year=2024"},
		{"/post/2024/:year", 301, "/a/:year?year=2024"},
		{"/post/a%26b/x", 301, "/a/x?year=a%26b"},
		{"/away/a/b?q=1", 307, "https://example.org/in/a/b?q=1"},
		{"/away/", 307, "https://example.org/in/"},
		{"/spa/any/thing", 200, "app"},
		{"/dir/x/", 200, "folder a"},
		{"/dead", 410, "gone page"},
		{"/denied", 451, "gone page"},
		{"/nopage", 410, ""},
		{"/static/x?v=9", 302, "/app.html?w=2&v=9"},
		{"/static/x?w=7&w=8", 302, "/app.html?v=1&w=7&w=8"},
		{"/void/x", 404, "lost"},
		{"/up/app.html", 200, "app"},
		{"/nothing", 404, "lost"},
		{"/a", 301, "/a/"},
		{"/app.html", 200, "app"},
	} {
		r := w.get("http://ruled.localhost" + c.path)
		got := r.body
		if r.StatusCode >= 300 && r.StatusCode < 400 {
			got = r.Header.Get("Location")
		}
		if r.StatusCode != c.status || c.want != "" && got != c.want {
			t.Errorf("%s: %d %q, want %d %q", c.path, r.StatusCode, got, c.status, c.want)
		}
	}
	root := w.sites.list[0].Root
	w.get("http://127.0.0.1/ipfs/"+root.String()+"/old").want(t, 404, "lost") // rules need an origin of their own
	w.get("http://ruled.localhost/_redirects").want(t, 200, "")
}

func TestWhatIsEscapedInARuleMeansItself(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("escaped", w.build(map[string]string{"b c/é.html": "found", "x/1-2.txt": "1", "404.html": "lost", "_redirects": strings.Join([]string{
		"/caf%C3%A9 /b%20c/%C3%A9.html 302",
		"/naïve /b%20c/é.html 302",
		"/sp%20ace/:what /b%20c/:what 200",
		"/s%2Fl /deep 302",
		"/100%25/* /percent/:splat 302",
		"/pre%20fix* /rest/:splat 302",
		"/in/* /b%20c/:splat 200",
		"/date/:y/:m /x/:y-:m.txt 302",
		"/slug/:my-slug/:my /x/:my-slug/:my 302",
		"/c/:id /x/:id:x/%3Aid 302",
		"/colon/: /x 302",
	}, "\n")}))
	w.wantAll("http://escaped.localhost", map[string]string{
		"/caf%C3%A9": "302 /b%20c/%C3%A9.html", "/caf%c3%a9": "302 /b%20c/%C3%A9.html", "/na%C3%AFve": "302 /b%20c/%C3%A9.html",
		"/sp%20ace/%C3%A9.html": "200 found", "/s/l": "302 /deep", "/s%2Fl": "302 /deep", "/100%25/a%25b": "302 /percent/a%25b", "/pre%20fixed": "302 /rest/ed", "/pre": "404 lost",
		"/in/%C3%A9.html": "200 found", "/date/1/2": "302 /x/1-2.txt", "/slug/a/b": "302 /x/a/b", "/c/:x": "302 /x/:x:x/%3Aid", "/colon/:": "302 /x", "/colon/a": "404 lost",
	})
}

func TestRuleNeverLeadsToAnotherOriginByWhatWasAsked(t *testing.T) {
	w := newWorld(t, nil)
	w.ruled("/to/* /:splat 302\n/p/:a/:b /:a/:b 302\n/x/* https://example.org/:splat 302\n/q/* /app.html?to=:splat 302")
	for _, path := range []string{
		"/to/%5cevil.example", "/to/%5c%5cevil.example", "/to//evil.example", "/to///evil.example", "/to/%2f%2fevil.example", "/to/%2fevil.example", "/to/%09/evil.example",
		"/to/javascript:alert(1)", "/to/https://evil.example", "/to/%0d%0aX-Evil:%201", "/to/%0d%0a%0d%0a<script>", "/to/@evil.example", "/to/%E2%80%AE",
		"/p/%5c/evil.example", "/p/%2f/evil.example", "/p/javascript:/x", "/x/@evil.example", "/x/%5c@evil.example", "/x/%0d%0aX-Evil:1", "/q/a%26b=c%23d%0d%0a", "/x/..%5cevil",
	} {
		r := w.raw("GET " + path + " HTTP/1.1\r\nHost: ruled.localhost\r\nConnection: close\r\n\r\n")
		if r.Header.Get("X-Evil") != "" {
			t.Fatalf("%s: made a header", path)
		}
		if r.StatusCode != 302 {
			continue // refused
		}
		if loc := r.Header.Get("Location"); !staysAt(loc, "https://example.org/") {
			t.Errorf("%s leads to %q", path, loc)
		}
	}
}

// staysAt tells whether a browser that follows loc stays on its origin, or goes to the one that the rule names.
func staysAt(loc, named string) bool {
	for _, c := range []byte(loc) {
		if c <= ' ' || c >= 0x7f || c == '\\' {
			return false
		}
	}
	return strings.HasPrefix(loc, named) || strings.HasPrefix(loc, "/") && !strings.HasPrefix(loc, "//")
}

func TestRulesFileThatCannotBeUsedIsAnErrorAtOnce(t *testing.T) {
	for name, text := range map[string]string{
		"too large":       strings.Repeat("/a /b\n", 65537/6+1),
		"proxy":           "/api/* https://evil.example/:splat 200\n",
		"proxied page":    "/api/* https://evil.example/ 404\n",
		"slashes":         "/a //evil.example/\n",
		"backslash":       "/a /\\evil.example/\n",
		"javascript":      "/a javascript:alert(1)\n",
		"user":            "/a https://me@evil.example/\n",
		"host of request": "/a/* https://:splat/\n",
		"opaque":          "/a/* https::splat\n",
		"half a host":     "/a/* https://example.org:splat/\n",
		"twice":           "/:a/:a /x\n",
		"status":          "/a /b 999\n",
		"forced":          "/a /b 301!\n",
		"BOM":             "\ufeff/a /b\n",
		"NUL":             "/a /b\x00\n",
		"too many fields": "/a /b 301 x\n",
	} {
		if _, err := ParseRedirects([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
		w := newWorld(t, nil)
		w.ruled(text)
		r := w.get("http://ruled.localhost/api/x", "Accept", "application/json")
		if r.StatusCode != 500 || !strings.Contains(r.body, `"kind":"rules"`) {
			t.Errorf("%s: %d %s", name, r.StatusCode, r.body)
		}
		w.get("http://ruled.localhost/app.html").want(t, 200, "app") // what is there is served all the same
	}
	exact := "/a /b\n" + strings.Repeat("#", 65536-6)
	if _, err := ParseRedirects([]byte(exact)); err != nil {
		t.Errorf("65536 bytes: %v", err)
	}
}

func TestRulesFileThatIsAFolderIsAnError(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("ruled", w.build(map[string]string{"index.html": "x", "_redirects/x": "y"}))
	w.get("http://ruled.localhost/nothing").want(t, 500, "")
}

func TestRulesFileThatIsASymlinkIsAnError(t *testing.T) {
	w := newWorld(t, nil)
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "index.html"), []byte("home"), 0o644))
	if err := os.Symlink("index.html", filepath.Join(dir, "_redirects")); err != nil {
		t.Skip(err)
	}
	s, err := w.store.Begin(t.Context(), "")
	must(t, err)
	defer s.Close()
	b, err := merkle.Build(t.Context(), s, dir, merkle.BuildOptions{Symlinks: merkle.SymlinksKeep})
	must(t, err)
	w.publish("linked", b.Root)
	w.get("http://linked.localhost/nothing").want(t, 500, "")
	w.get("http://linked.localhost/").want(t, 200, "home")
}

func TestRulesAreEvaluatedOnceHoweverTheyLoop(t *testing.T) {
	w := newWorld(t, nil)
	w.ruled("/a1 /b1 200\n/b1 /a1 200\n/self /self 200\n/chain /a1 410\n/x/* /x/:splat/y 200\n/more/* /more/:splat/z 302\n")
	for path, status := range map[string]int{"/a1": 404, "/b1": 404, "/self": 404, "/chain": 410, "/x/1": 404, "/more/1": 302} {
		if r := w.get("http://ruled.localhost" + path); r.StatusCode != status {
			t.Errorf("%s: %d, want %d", path, r.StatusCode, status)
		}
	}
}

// counted tells how often each block is asked for, and may have some of them missing.
type counted struct {
	blockstore.Getter
	mu      sync.Mutex
	asked   map[cid.Cid]int
	missing map[cid.Cid]bool
}

func (g *counted) Get(ctx context.Context, c cid.Cid) (blockstore.Block, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked[c]++
	if g.missing[c] {
		return blockstore.Block{}, blockstore.ErrUnavailable
	}
	return g.Getter.Get(ctx, c)
}

func countedWorld(t *testing.T) (*world, *counted) {
	g := &counted{asked: map[cid.Cid]int{}, missing: map[cid.Cid]bool{}}
	w := newWorld(t, func(cfg *Config) { g.Getter, cfg.Blocks = cfg.Blocks, g })
	return w, g
}

// fileOf is the CID of a file at the top of the last published site.
func (w *world) fileOf(name string) cid.Cid {
	w.t.Helper()
	id, err := merkle.Resolve(w.t.Context(), w.store, w.sites.list[len(w.sites.list)-1].Root, name)
	must(w.t, err)
	return id
}

func TestRulesAreReadOncePerRoot(t *testing.T) {
	w, g := countedWorld(t)
	w.publish("ruled", w.build(map[string]string{"index.html": "x", "_redirects": "/old / 302\n# " + t.Name(), "_headers": "/*\n  X-A: b\n", "_options": "listing: off"}))
	for range 5 {
		w.get("http://ruled.localhost/old").want(t, 302, "")
		w.get("http://ruled.localhost/").wantHeader(t, "X-A", "b")
	}
	for _, name := range []string{"_redirects", "_headers", "_options"} {
		if n := g.asked[w.fileOf(name)]; n != 1 {
			t.Errorf("%s was read %d times", name, n)
		}
	}
}

func TestRulesThatCannotBeHadAreNoAnswerAboutThePath(t *testing.T) {
	w, g := countedWorld(t)
	w.publish("ruled", w.build(map[string]string{"index.html": "home", "404.html": "lost", "_redirects": "/old / 302\n", "_headers": "/*\n  X-A: b\n"}))
	g.missing[w.fileOf("_redirects")] = true
	w.get("http://ruled.localhost/old").want(t, 504, "")
	w.get("http://ruled.localhost/nothing").want(t, 504, "")
	w.get("http://ruled.localhost/").want(t, 200, "home") // rules say nothing about what is there

	// Headers may forbid what must not be done with any page.
	w.publish("headed", w.build(map[string]string{"index.html": "home 2", "_headers": "/*\n  Content-Security-Policy: default-src 'none'\n"}))
	g.missing[w.fileOf("_headers")] = true
	w.get("http://headed.localhost/").want(t, 504, "")
	delete(g.missing, w.fileOf("_headers")) // and none of it is remembered
	w.get("http://headed.localhost/").wantHeader(t, "Content-Security-Policy", "default-src 'none'")
}

func TestThousandsOfRulesAreEvaluatedAtOnce(t *testing.T) {
	var b strings.Builder
	for i := range 4000 {
		fmt.Fprintf(&b, "/:a/%d/* /\n", i)
	}
	rules, err := ParseRedirects([]byte(b.String()))
	must(t, err)
	if allocs := testing.AllocsPerRun(10, func() { rules.match("/x/nothing/" + strings.Repeat("y/", 1000)) }); allocs > 10 {
		t.Errorf("%v allocations for a path that nothing matches", allocs)
	}
	many, err := ParseRedirects([]byte(strings.Repeat("/y* /\n", 8000)))
	must(t, err)
	if allocs := testing.AllocsPerRun(10, func() { many.match("/x" + strings.Repeat("/y", 10000)) }); allocs > 10 {
		t.Errorf("%v allocations for a splat that nothing matches", allocs)
	}
	_, m, ok := rules.match("/x/3999/a/b")
	if !ok || m["a"] != "x" || m["splat"] != "a/b" {
		t.Errorf("%v %v", m, ok)
	}
}

func TestARulesTargetIsFoundAsAPageIs(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("ruled", w.build(map[string]string{"index.html": "home", "about.html": "about", "blog.html": "blog", "blog/post.html": "post", "shop/index.html": "shop", "shop.html": "not the shop",
		"files/a.txt": "a", "404.html": "lost", "_redirects": strings.Join([]string{
			"/top / 200", "/us /about 200", "/journal /blog 200", "/posts/* /blog/:splat 200", "/buy /shop 200", "/list /files/ 200", "/closed /about 404", "/ended /shop 410", "/nothing/* /none.html 404", "/en/* /en/404 404"}, "\n")}))
	for path, want := range map[string]string{
		"/top": "200 home", "/us": "200 about", "/journal": "200 blog", "/posts/post": "200 post", "/buy": "200 shop", "/closed": "404 about", "/ended": "410 shop", "/nothing/x": "404 lost", "/en/x": "404 lost",
	} {
		if r := w.get("http://ruled.localhost" + path); r.Status[:4]+r.body != want {
			t.Errorf("%s: %s %q, want %q", path, r.Status, r.body, want)
		}
	}
	w.publish("strict", w.build(map[string]string{"about.html": "about", "404.html": "lost", "_options": "clean-urls: off", "_redirects": "/us /about 200"}))
	w.get("http://strict.localhost/us").want(t, 404, "lost")
}

func TestMistakeInRulesIsToldByLine(t *testing.T) {
	for text, want := range map[string]string{
		"/a /b\n\n/c /d 301!\n":  "line 3: forced redirects (or \"shadowing\") are not supported",
		"# x\n/a\x00 /b\n":       "line 2: holds a NUL byte",
		"/a //evil\n":            "line 1: ",
		"/a /b\n/:x/:x /y\n":     "line 2: ",
		"/a /b Country=de x y\n": "line 1: \"Country=de\" is a condition",
	} {
		if _, err := ParseRedirects([]byte(text)); err == nil || !strings.Contains(err.Error(), "could not parse _redirects: "+want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestEveryLineThatIsRefusedIsToldAndWhatToDoInstead(t *testing.T) {
	text := strings.Join([]string{
		"/fine /b # by Netlify",
		"/fine /b",
		"/store id=:id /blog/:id 301",
		"/ /china 302 Country=cn,hk,tw",
		"/admin/* 200! Role=admin",
		"/api/* https://api.example.com/:splat 200",
		"https://blog.example.com/* /blog/:splat",
		"/path/* /other/:splat 301!",
		"/*.js 200",
		"/api/* 404",
	}, "\n")
	_, err := ParseRedirects([]byte(text))
	if err == nil {
		t.Fatal("taken")
	}
	lines := strings.Split(err.Error(), "\n")
	want := []string{"line 1: a comment needs", "line 3: \"id=:id\" is a query parameter", "line 4: \"Country=cn,hk,tw\" is a condition", "line 5: \"Role=admin\" is a condition",
		"line 6: \"https://api.example.com/:splat\" is on another host, and there is no server here", "line 7: \"https://blog.example.com/*\" is on a host", "line 8: forced redirects", "line 9: what is there", "line 10: what is there"}
	if len(lines) != len(want) {
		t.Fatalf("%d lines: %v", len(lines), err)
	}
	for i, l := range lines {
		number, why, _ := strings.Cut(want[i], ": ")
		if !strings.HasPrefix(l, "could not parse _redirects: "+number+": ") || !strings.Contains(l, why) {
			t.Errorf("%q, want %q", l, want[i])
		}
	}
	if _, err := ParseRedirects([]byte("\ufeff/a /b\n")); err == nil || !strings.Contains(err.Error(), "line 1: ") || !strings.Contains(err.Error(), "byte order mark") {
		t.Errorf("%v", err)
	}
	if _, err := ParseRedirects([]byte(strings.Repeat("/a /b 301!\n", 100))); err == nil || strings.Count(err.Error(), "\n") != maxRefused || !strings.HasSuffix(err.Error(), "and 80 more lines") {
		t.Errorf("%v", err)
	}
}

func TestErrorPageOfARuleSaysWhatItIs(t *testing.T) {
	w := newWorld(t, nil)
	w.ruled("/dead /gone.html 410")
	page := w.get("http://ruled.localhost/gone.html")
	r := w.get("http://ruled.localhost/dead")
	r.want(t, 410, "gone page")
	r.wantHeader(t, "Etag", page.Header.Get("Etag"))
	r = w.get("http://" + w.sites.list[0].Root.String() + ".ipfs.localhost/dead")
	r.wantHeader(t, "Cache-Control", "public, max-age=29030400, immutable")
}

func TestARedirectThatLeadsToItselfIsNone(t *testing.T) {
	w := newWorld(t, nil)
	w.ruled("/loop /loop/ 301\n/back/ /back 302\n/same/* /same/:splat?x=1\n/:a/on /:a/on#here\n/caf%C3%A9 /café/\n/away /elsewhere\n/ext https://example.org/ext\n")
	w.wantAll("http://ruled.localhost", map[string]string{
		"/loop": "404 lost", "/loop/": "404 lost", "/back": "404 lost", "/same/a/b": "404 lost", "/x/on": "404 lost", "/caf%C3%A9": "404 lost",
		"/away": "301 /elsewhere", "/ext": "301 https://example.org/ext",
	})
	rules, err := ParseRedirects([]byte("/loop /loop/ 301\n"))
	must(t, err)
	if _, answered := rules.Answer("/loop"); answered {
		t.Error("a preflight would take it for an answer")
	}
}

func TestRulesThatNoRequestComesToAreTold(t *testing.T) {
	there := map[string]bool{"/": true, "/about": true, "/caf\u00e9": true, "/blog/first": true}
	idle := IdleRules([]byte("# x\n/ /home 302\n/about/ /us\n/caf%C3%A9 /x\n/a?id=1 /x\n/b /x\n/b/ /y\n/news/* /blog/:splat\n/news/old /x\n/news/:year/* /x\n/news /x\n/new* /x\n/:lang/x /y\n/* /index.html 200\n/late /x\n/blog/:post /x\nbroken\n"),
		func(path string) bool { return there[path] })
	var got []string
	for _, r := range idle {
		got = append(got, fmt.Sprintf("%d %s (%s)", r.Line, r.From, r.There))
	}
	want := []string{"2 / (/)", "3 /about/ (/about)", "4 /caf%C3%A9 (/caf\u00e9)", "5 /a?id=1 ()", "7 /b/ ()", "9 /news/old ()", "10 /news/:year/* ()", "11 /news ()", "15 /late ()", "16 /blog/:post ()"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	// What is told has no effect indeed: without it everything is answered as before.
	rules, err := ParseRedirects([]byte("/news/* /blog/:splat\n/news/old /x\n/news/:year/* /y\n/news /z\n"))
	must(t, err)
	for _, path := range []string{"/news", "/news/", "/news/old", "/news/2024/a"} {
		if r, m, ok := rules.match(path); !ok || !strings.HasPrefix(r.to.location(m, ""), "/blog/") {
			t.Errorf("%s is answered by %+v", path, r)
		}
	}
}
