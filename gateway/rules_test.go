package gateway

import (
	"strings"
	"testing"
	"time"
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
		begun := time.Now()
		r := w.get("http://ruled.localhost/api/x", "Accept", "application/json")
		if r.StatusCode != 500 || !strings.Contains(r.body, `"kind":"rules"`) {
			t.Errorf("%s: %d %s", name, r.StatusCode, r.body)
		}
		if d := time.Since(begun); d > 2*time.Second {
			t.Errorf("%s: took %v", name, d)
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
