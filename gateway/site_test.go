package gateway

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
)

func TestSiteIsServedAtItsAliasItsNameAndItsCID(t *testing.T) {
	w := newWorld(t, nil)
	root := w.build(blog)
	name := w.publish("blog", root)
	for _, host := range []string{"blog.localhost:8080", name.String() + ".ipns.localhost:8080", root.String() + ".ipfs.localhost:8080", "BLOG.LocalHost."} {
		r := w.get("http://" + host + "/")
		r.want(t, 200, blog["index.html"])
		r.wantHeader(t, "Content-Type", "text/html; charset=utf-8")
		if csp := r.Header.Get("Content-Security-Policy"); csp != "" {
			t.Errorf("%s: a policy of ours on a site's origin: %s", host, csp)
		}
		w.get("http://"+host+"/big.bin").want(t, 200, blog["big.bin"])
		w.get("http://"+host+"/docs/a%20b%25%23.html").want(t, 200, "odd name")
		w.get("http://"+host+"/.well-known/thing").want(t, 200, "known")
		w.get("http://"+host+"/docs/").want(t, 200, blog["docs/index.html"])
	}
}

func TestFolderRedirectKeepsOriginAndQuery(t *testing.T) {
	w := newWorld(t, nil)
	root := w.build(blog)
	name := w.publish("blog", root)
	for _, host := range []string{"blog.localhost:8080", name.String() + ".ipns.localhost:8080", root.String() + ".ipfs.localhost:8080"} {
		r := w.get("http://" + host + "/docs?q=a%20b&x=1&uri=ftp%3A%2F%2Fx")
		r.want(t, 301, "")
		r.wantHeader(t, "Location", "/docs/?q=a%20b&x=1&uri=ftp%3A%2F%2Fx")
	}
	r := w.raw("GET //docs HTTP/1.1\r\nHost: blog.localhost\r\nConnection: close\r\n\r\n")
	r.want(t, 301, "")
	r.wantHeader(t, "Location", "/docs/")
}

func TestSitesOwnUriParameterIsLeftAlone(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("blog", w.build(blog))
	w.get("http://blog.localhost/?uri=https://example.org").want(t, 200, blog["index.html"])
}

func TestMissingPathGetsTheNearest404Page(t *testing.T) {
	w := newWorld(t, nil)
	root := w.build(blog)
	w.publish("blog", root)
	for path, want := range map[string]string{
		"/nothing":            "no such page",
		"/nothing/at/all":     "no such page",
		"/docs/nothing":       "no such doc",
		"/docs/no/thing/":     "no such doc",
		"/plain/nothing.html": "no such page",
		"/style.css/below":    "no such page",
	} {
		r := w.get("http://blog.localhost"+path, "If-None-Match", "*", "Range", "bytes=0-1")
		r.want(t, 404, want)
		r.wantHeader(t, "Content-Type", "text/html; charset=utf-8")
		r.wantHeader(t, "Etag", "")
		w.get("http://127.0.0.1:1/ipfs/"+root.String()+path).want(t, 404, want)
	}
	r := w.do(http.MethodHead, "http://blog.localhost/nothing")
	r.want(t, 404, "")
	r.wantHeader(t, "Content-Length", "12")
}

func TestALongPathThatIsMissingCostsNoMoreThanAShortOne(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("blog", w.build(blog))
	cost := func(path string) float64 {
		return testing.AllocsPerRun(1, func() {
			rec := httptest.NewRecorder()
			w.handler.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "http://blog.localhost"+path, nil))
			if rec.Code != http.StatusNotFound || rec.Body.String() != "no such doc" {
				t.Errorf("%.20s: %d %q", path, rec.Code, rec.Body)
			}
		})
	}
	if short, long := cost("/docs/x/y"), cost("/docs/x"+strings.Repeat("/y", 10_000)); long > 3*short {
		t.Errorf("%v allocations, %v for a short one", long, short)
	}
}

func TestMissingPathOfASiteWithout404PageGetsOurs(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("bare", w.build(map[string]string{"index.html": "x"}))
	r := w.get("http://bare.localhost/<script>alert(1)</script>", "Accept", "text/html")
	r.want(t, 404, "")
	if strings.Contains(r.body, "<script>alert") || !strings.Contains(r.body, "&lt;script&gt;alert(1)") {
		t.Errorf("the path is not escaped: %s", r.body)
	}
}

func TestHeadAnswersAsGetWithoutBody(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("blog", w.build(blog))
	for _, path := range []string{"/", "/big.bin", "/plain/file.txt", "/docs/"} {
		g, h := w.get("http://blog.localhost"+path), w.do(http.MethodHead, "http://blog.localhost"+path)
		h.want(t, 200, "")
		if h.body != "" {
			t.Errorf("%s: HEAD has a body", path)
		}
		for _, k := range []string{"Content-Length", "Content-Type", "Etag"} {
			if g.Header.Get(k) != h.Header.Get(k) {
				t.Errorf("%s: %s is %q with GET and %q with HEAD", path, k, g.Header.Get(k), h.Header.Get(k))
			}
		}
	}
}

func TestRanges(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("blog", w.build(blog))
	big, small := blog["big.bin"], blog["plain/file.txt"]
	for _, c := range []struct {
		path, ask string
		status    int
		body      string
	}{
		{"/big.bin", "bytes=0-9", 206, big[:10]},
		{"/big.bin", "bytes=1048570-1048589", 206, big[1048570:1048590]},
		{"/big.bin", "bytes=-7", 206, big[len(big)-7:]},
		{"/big.bin", "bytes=3199990-", 206, big[3199990:]},
		{"/big.bin", "bytes=3199990-9999999", 206, big[3199990:]},
		{"/big.bin", "bytes=3200000-", 416, ""},
		{"/big.bin", "bytes=9223372036854775807-", 416, ""},
		{"/plain/file.txt", "bytes=2-5", 206, small[2:6]},
		{"/plain/file.txt", "bytes=12-", 416, ""},
		{"/plain/file.txt", "bytes=99999999999999999999-", 200, small},
		{"/plain/file.txt", "bytes=-0", 416, ""},
		{"/plain/file.txt", "bytes=-99", 206, small},
		{"/plain/file.txt", "bytes=5-2", 200, small},
		{"/plain/file.txt", "chars=5-2", 200, small},
		{"/plain/file.txt", "bytes=0-8,2-11", 200, small},    // more than the whole
		{"/plain/file.txt", "bytes=0-3,12-", 206, small[:4]}, // of the second there is nothing
		{"/plain/file.txt", "bytes=12-,13-", 416, ""},
		{"/plain/file.txt", "bytes=" + strings.Repeat("0-,", 1000) + "0-", 200, small},
	} {
		r := w.get("http://blog.localhost"+c.path, "Range", c.ask)
		if r.StatusCode != c.status || c.body != "" && r.body != c.body {
			t.Errorf("%s %.60s: status %d, %d bytes, want %d, %d bytes; %.200q", c.path, c.ask, r.StatusCode, len(r.body), c.status, len(c.body), r.body)
		}
		if c.status == 416 && !strings.HasPrefix(r.Header.Get("Content-Range"), "bytes */") {
			t.Errorf("%s %s: Content-Range %q", c.path, c.ask, r.Header.Get("Content-Range"))
		}
	}
}

func TestIfNoneMatchGets304(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("blog", w.build(blog))
	for _, path := range []string{"/", "/big.bin", "/docs/"} {
		etag := w.get("http://blog.localhost" + path).Header.Get("Etag")
		if etag == "" {
			t.Fatalf("%s has no Etag", path)
		}
		r := w.get("http://blog.localhost"+path, "If-None-Match", etag)
		r.want(t, 304, "")
		r.wantHeader(t, "Etag", etag)
		w.get("http://blog.localhost"+path, "If-None-Match", `"other"`).want(t, 200, "")
	}
}

func TestReleaseIsSeenOnceItIsAccepted(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("blog", w.build(map[string]string{"index.html": "one"}))
	first := w.get("http://blog.localhost/")
	first.want(t, 200, "one")
	if cc := first.Header.Get("Cache-Control"); cc != "public, max-age=59" && cc != "public, max-age=60" {
		t.Errorf("Cache-Control %q, want the record's TTL", cc)
	}
	w.publish("blog", w.build(map[string]string{"index.html": "two"}))
	w.get("http://blog.localhost/", "If-None-Match", first.Header.Get("Etag")).want(t, 200, "two")
}

func TestNothingUnderANameIsCachedBeyondItsTTL(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("blog", w.build(blog))
	for _, path := range []string{"/", "/plain/", "/nothing", "/docs"} {
		cc := w.get("http://blog.localhost" + path).Header.Get("Cache-Control")
		if cc != "public, max-age=59" && cc != "public, max-age=60" && cc != "no-cache" {
			t.Errorf("%s: %q", path, cc)
		}
	}
}

func TestMaxAgeShrinksWithTheResolversCacheAndNeverPassesTheRecordsEnd(t *testing.T) {
	keys, err := naming.OpenKeyring(t.TempDir())
	must(t, err)
	_, err = keys.New("a")
	must(t, err)
	s, err := keys.Signer("a")
	must(t, err)
	now := time.Now()
	w := newWorld(t, nil)
	root := w.build(map[string]string{"a": "a"})
	sign := func(ttl, life time.Duration) naming.Record {
		rec, err := s.Sign(naming.Statement{Value: "/ipfs/" + root.String(), Sequence: 1, TTL: ttl, ValidUntil: now.Add(life)})
		must(t, err)
		return rec
	}
	long := sign(time.Minute, time.Hour)
	if got := chainTTL([]naming.Resolution{{Record: long, Fresh: time.Minute}}, now); got != time.Minute {
		t.Errorf("fresh: %v", got)
	}
	if got := chainTTL([]naming.Resolution{{Record: long, Fresh: time.Minute}, {Record: long, Fresh: 15 * time.Second}}, now); got != 15*time.Second {
		t.Errorf("a chain: %v, want what its least fresh record has left", got)
	}
	if got := chainTTL([]naming.Resolution{{Record: long}}, now); got != 0 {
		t.Errorf("one that is being asked for again: %v", got)
	}
	dying := []naming.Resolution{{Record: sign(time.Hour, 20*time.Second), Fresh: time.Hour}}
	if got := chainTTL(dying, now); got > 20*time.Second {
		t.Errorf("a record that ends in 20 s may be kept for %v", got)
	}
}
