package gateway

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestFieldsForAnotherHostAreNobodys(t *testing.T) {
	h, err := ParseHeaders([]byte("/*\n  X-Frame-Options: DENY\nhttps://site.pages.dev/*\n  X-Robots-Tag: noindex\n/a\n  ! X-Frame-Options\n  X-A: a\n"))
	if err == nil || strings.Count(err.Error(), "\n") != 1 || !strings.Contains(err.Error(), `line 3: "https://site.pages.dev/*" is on a host`) || !strings.Contains(err.Error(), "line 6: ") {
		t.Errorf("%v", err)
	}
	got := http.Header{}
	h.apply("/a", got)
	if len(got) != 2 || got.Get("X-Frame-Options") != "DENY" || got.Get("X-A") != "a" {
		t.Errorf("%v", got)
	}
}

func TestGlobsMatchWholePaths(t *testing.T) {
	for _, c := range []struct {
		glob, path string
		want       bool
	}{
		{"/", "/", true}, {"/", "/a", false}, {"/*", "/", true}, {"/*", "/a/b.html", true},
		{"/a", "/a", true}, {"/a", "/a/", false}, {"/a/*", "/a/", true}, {"/a/*", "/a", true}, {"/a/*", "/ab", false}, {"/a/*", "/a/b/c", true},
		{"/*.js", "/x.js", true}, {"/*.js", "/a/b/x.js", true}, {"/*.js", "/x.json", false}, {"/*.js", "/x.js.map.js", true},
		{"/a/*/c", "/a/b/c", true}, {"/a/*/c", "/a/b/x/c", true}, {"/a/*/c", "/a/c", false}, {"/a/*/c*", "/a/b/cd/x", true},
		{"/:lang/about", "/de/about", true}, {"/:lang/about", "/about", false}, {"/:lang/about", "//about", false}, {"/:lang/about", "/a/b/about", false},
		{"/*/:x/z", "/a/b/c/z", true}, {"/*/:x/z", "/a/z", false}, {"/:a/:b", "/x/y", true}, {"/:a/:b", "/x/y/", false},
		{"/a%20b", "/a b", true}, {"/*aab", "/aaab", true}, {"/*ab*ab", "/abxab", true}, {"/*ab*ab", "/ab", false}, {"/:a", "/", false},
	} {
		g, err := parseGlob(c.glob)
		must(t, err)
		if got := g.match(c.path); got != c.want {
			t.Errorf("%s and %s: %v", c.glob, c.path, got)
		}
	}
}

func TestSafeFieldsAreSortedAndCanonical(t *testing.T) {
	if !slices.IsSorted(safeFields) {
		t.Error("not sorted: they are searched")
	}
	for _, f := range safeFields {
		if http.CanonicalHeaderKey(f) != f {
			t.Errorf("%s is spelled %s", f, http.CanonicalHeaderKey(f))
		}
	}
}

// dressed publishes a small site with these headers, and gives its origin.
func (w *world) dressed(headers string) string {
	w.t.Helper()
	n := w.publish("dressed", w.build(map[string]string{
		"index.html": "home", "a/page.html": "page", "a/app.js": "1", "data": `{"a":1}`, "404.html": "lost", "img.png": "png", "_headers": headers, "_redirects": "/old /a/page.html\n/in/* /a/page.html 200",
	}))
	return "http://" + n.String() + ".ipns.localhost"
}

func TestSiteSetsHeadersOfItsOwnAnswers(t *testing.T) {
	w := newWorld(t, nil)
	site := w.dressed(`# for all
/*
  X-Frame-Options: DENY
  Referrer-Policy: no-referrer
  Access-Control-Allow-Origin: https://friend.example
  Link: </a/app.js>; rel=preload
  Link: </img.png>; rel=preload
/a/*
  X-Frame-Options: SAMEORIGIN
/:dir/page.html
  X-Page: yes
/data
  content-type: application/json
/a/app.js
  Cache-Control: public, max-age=99999999, immutable
`)
	home := w.get(site + "/")
	home.want(t, 200, "home")
	for k, v := range map[string]string{
		"X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Access-Control-Allow-Origin": "https://friend.example",
		"Link": "</a/app.js>; rel=preload, </img.png>; rel=preload", "X-Page": "", "X-Content-Type-Options": "nosniff",
	} {
		home.wantHeader(t, k, v)
	}
	page := w.get(site + "/a/page.html")
	page.wantHeader(t, "X-Frame-Options", "SAMEORIGIN")
	page.wantHeader(t, "Referrer-Policy", "no-referrer")
	page.wantHeader(t, "X-Page", "yes")
	w.get(site+"/data").wantHeader(t, "Content-Type", "application/json")
	w.get(site+"/no/such").wantHeader(t, "X-Frame-Options", "DENY") // error pages of the site are its answers, too
	w.get(site+"/in/x").wantHeader(t, "X-Frame-Options", "DENY")
	w.get(site+"/", "If-None-Match", home.Header.Get("Etag")).wantHeader(t, "X-Frame-Options", "DENY")
	w.do(http.MethodHead, site+"/data").wantHeader(t, "Content-Type", "application/json")

	// The site may say how long its files are kept, but not beyond its record's end, an hour from now.
	if cc := w.get(site + "/a/app.js").Header.Get("Cache-Control"); cc != "public, max-age=3599, immutable" && cc != "public, max-age=3598, immutable" {
		t.Errorf("Cache-Control %q", cc)
	}
}

func TestHeadersCountOnOriginsOfTheSitesOwnOnly(t *testing.T) {
	w := newWorld(t, nil)
	w.dressed("/*\n  X-Frame-Options: DENY\n  Content-Security-Policy: default-src 'self'\n")
	root := w.sites.list[0].Root.String()
	r := w.get("http://127.0.0.1/ipfs/" + root + "/")
	r.want(t, 200, "home")
	r.wantHeader(t, "X-Frame-Options", "")
	r.wantHeader(t, "Content-Security-Policy", sandbox)
	w.get("http://"+root+".ipfs.localhost/").wantHeader(t, "X-Frame-Options", "DENY")
	w.get("http://dressed.localhost/").wantHeader(t, "X-Frame-Options", "DENY")
}

func TestSiteCannotSetWhatIsNotItsOwn(t *testing.T) {
	for _, name := range []string{
		"Set-Cookie", "Content-Length", "Content-Encoding", "Transfer-Encoding", "Connection", "Keep-Alive", "Upgrade", "Trailer", "TE", "ETag", "Last-Modified",
		"Ipfs-Path", "X-Ipfs-Path", "X-Ipfs-Roots", "Ipfs-Uri", "Location", "Date", "Server", "Vary", "Age", "Via", "Accept-Ranges", "Content-Range", "Allow", "Alt-Svc",
		"WWW-Authenticate", "Clear-Site-Data", "X-Accel-Redirect", "X-Sendfile", "X-Forwarded-Host", "X-Real-IP", "Server-Timing", "Refresh", "Proxy-Authenticate",
	} {
		h, err := ParseHeaders([]byte("/*\n  " + name + ": x\n"))
		if err != nil || len(h.Ignored) != 1 || h.Ignored[0].Line != 2 {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
		got := http.Header{}
		h.apply("/", got)
		if len(got) != 0 {
			t.Errorf("%s: sets %v", name, got)
		}
	}
}

func TestMistakesInAHeadersFileAreToldByLineAndTakeNoPageAway(t *testing.T) {
	many := strings.Repeat("/a\n", maxHeaderRules) + "/b\n"
	for text, want := range map[string]string{
		"/a\n  basic-auth: me:secret\n":              "line 2: Basic-Auth: nothing here can be kept from readers",
		"X-A: b\n":                                   "line 1:",
		"/a\n  X-A: b\nnonsense\n":                   "line 3:",
		"/a\n  X A: b\n":                             "line 2:",
		"/a\n  X-A:\n":                               "line 2:",
		"/a\n  X-A: \x01\n":                          "line 2:",
		"/a\n  X-A: b\rX-B: c\n":                     "line 2:",
		"/a\n  Content-Type: no type\n":              "line 2:",
		"/*/*/*/*/*\n  X-A: b\n":                     "line 1:",
		"/a b\n  X-A: b\n":                           "line 1:",
		"/a\n Content-Type: a/b\n Content-Type: a/b": "line 3: Content-Type stands twice",
		"/a\n" + strings.Repeat(" Link: "+strings.Repeat("x", 1000)+"\n", 5): "line 6: Link is longer than 4096 bytes",
		many:                                     "line 1001:",
		"#" + strings.Repeat("x", 64<<10):        "larger than 65536 bytes",
		"/a\n X-A: " + strings.Repeat("x", 5000): "line 2:",
	} {
		if _, err := ParseHeaders([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v", text, err)
		}
	}
	if _, err := ParseHeaders([]byte("#" + strings.Repeat("x", 64<<10-1))); err != nil {
		t.Error(err)
	}
	w := newWorld(t, nil)
	site := w.dressed("nonsense\n/*\n  X-Frame-Options: DENY\n")
	r := w.get(site + "/")
	r.want(t, 200, "home")
	r.wantHeader(t, "X-Frame-Options", "DENY")
}

func TestAByteOrderMarkBeforeHeadersAndOptionsSaysNothing(t *testing.T) {
	hs, err := ParseHeaders([]byte("\ufeff/*\r\n  X-A: b\r\n"))
	h := http.Header{}
	hs.apply("/x", h)
	if err != nil || h.Get("X-A") != "b" {
		t.Errorf("%v, %v", h, err)
	}
	if o, err := ParseOptions([]byte("\ufefflisting: off\r\n")); err != nil || !o.NoListing {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestAnErrorIsNotKeptForAsLongAsTheSiteHasItsFilesKept(t *testing.T) {
	w := newWorld(t, nil)
	site := w.dressed("/*\n  Cache-Control: public, max-age=999, immutable\n  X-Frame-Options: DENY\n")
	if cc := w.get(site + "/").Header.Get("Cache-Control"); cc != "public, max-age=999, immutable" {
		t.Errorf("of a page: %q", cc)
	}
	for _, path := range []string{"/no/such", "/nothing.js"} {
		r := w.get(site + path)
		r.want(t, 404, "lost")
		r.wantHeader(t, "X-Frame-Options", "DENY")
		if cc := r.Header.Get("Cache-Control"); strings.Contains(cc, "999") || strings.Contains(cc, "immutable") {
			t.Errorf("%s: %q", path, cc)
		}
	}
}

func TestAHeadersFileThatIsAFolderIsNone(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("odd", w.build(map[string]string{"index.html": "x", "_headers/x": "y", "_options/x": "y"}))
	w.get("http://odd.localhost/").want(t, 200, "x")
}

func TestCacheTimesAreCapped(t *testing.T) {
	for in, want := range map[string]string{
		"public, max-age=100, immutable": "public, max-age=60, immutable",
		"max-age=10":                     "max-age=10",
		"MAX-AGE=\"100\",s-maxage=61, stale-while-revalidate=99999999999999999999": "MAX-AGE=60, s-maxage=60, stale-while-revalidate=60",
		"no-store": "no-store",
	} {
		if got := capAge(in, time.Minute); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzParseHeaders(f *testing.F) {
	f.Add([]byte("/*\n  X-Frame-Options: DENY\n/a/:b\n  Cache-Control: max-age=1\n  Cache-Control: no-cache\n"), "/a/b")
	f.Add([]byte("# x\n\n/*a*b*\nSet-Cookie: a=b\nX-A: \r\n"), "/aab")
	f.Fuzz(func(t *testing.T, text []byte, path string) {
		hs, _ := ParseHeaders(text)
		h := http.Header{}
		hs.apply(path, h)
		for name, values := range h {
			if !siteMaySet(name) || len(values) != 1 || strings.ContainsAny(values[0], "\r\n\x00") {
				t.Fatalf("%q: %q", name, values)
			}
		}
	})
}

func BenchmarkHeadersOfAHostileSite(b *testing.B) {
	var text strings.Builder
	for range maxHeaderRules {
		text.WriteString("/*" + strings.Repeat("a", 24) + "*b/:x/c*d\n X-A: b\n")
	}
	hs, err := ParseHeaders([]byte(text.String()))
	if err != nil {
		b.Fatal(err)
	}
	path := "/" + strings.Repeat("a", 8<<10)
	for b.Loop() {
		hs.apply(path, http.Header{})
	}
}

func TestASitesHeadersLeaveTheListOfAFolderAPage(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("blog", w.build(map[string]string{"index.html": "x", "files/a": "a", "_headers": "/*\n  Content-Security-Policy: default-src 'self'\n  X-Frame-Options: DENY\n/files/*\n  Content-Type: text/plain\n  Content-Disposition: attachment\n"}))
	w.get("http://blog.localhost/").wantHeader(t, "Content-Security-Policy", "default-src 'self'")
	r := w.get("http://blog.localhost/files/")
	r.wantHeader(t, "X-Frame-Options", "DENY")
	r.wantHeader(t, "Content-Security-Policy", pagePolicy())
	r.wantHeader(t, "Content-Type", "text/html; charset=utf-8")
	r.wantHeader(t, "Content-Disposition", "")
	r = w.get("http://blog.localhost/files/a")
	r.wantHeader(t, "Content-Type", "text/plain")
	r.wantHeader(t, "Content-Disposition", "attachment")
}

func TestAPageThatStandsInForAMissingFileIsNotKeptAsThatFile(t *testing.T) {
	headers := `/assets/*
  Cache-Control: public, max-age=31536000, immutable
/short/*
  Cache-Control: max-age=5
/never/*
  Cache-Control: no-store
/shared/*
  Cache-Control: s-maxage=86400
`
	for how, site := range map[string]map[string]string{
		"a rule": {"_redirects": "/* /index.html 200\n"}, "200.html": {"200.html": "app"},
	} {
		w := newWorld(t, nil)
		site["index.html"], site["_headers"], site["assets/there.js"], site["assets/page.html"] = "app", headers, "js", "page"
		name := w.publish("app", w.build(site)).String()
		base := "http://" + name + ".ipns.localhost"
		plain := w.get(base + "/").Header.Get("Cache-Control")
		age := func(cc string) string { head, _, _ := strings.Cut(cc, "="); return head } // the seconds run
		for path, want := range map[string]string{
			"/assets/gone": plain, "/assets/sub/gone": plain, "/shared/x": plain, "/short/x": "max-age=5", "/never/x": "no-store", "/assets/there.js": "", "/assets/page": "",
		} {
			r := w.get(base + path)
			cc := r.Header.Get("Cache-Control")
			switch {
			case r.StatusCode != 200:
				t.Errorf("%s, %s: %s", how, path, r.Status)
			case want == "" && !strings.Contains(cc, "immutable"), want == plain && (age(cc) != age(plain) || strings.Contains(cc, "immutable")), want != "" && want != plain && cc != want:
				t.Errorf("%s, %s: Cache-Control %q, want %q", how, path, cc, want)
			}
		}
	}
}
