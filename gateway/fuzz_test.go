package gateway

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	redirects "github.com/ipfs/go-ipfs-redirects-file"
)

func FuzzParseHost(f *testing.F) {
	for _, s := range []string{"localhost", "blog.localhost:8080", "[::1]:80", "127.0.0.1", "a@b", "x:y", "127.1", "0x7f.0.0.1", "[fe80::1%25eth0]", "a..b", "-a", "a.", "K51.IPNS.localhost", "1.2.3.4.5", "[::ffff:127.0.0.1]", "blog.localhost\r\nX: y", "blog.localhost\x00", "blog.localhost:+80", "blog.localhost:080", "blog。localhost", "xn--a.localhost", "a_b.localhost", "[::1]:80:80", "[::1]x", strings.Repeat("a", 64) + ".localhost", strings.Repeat("a.", 130) + "b"} {
		f.Add(s)
	}
	hosts, err := checkHosts(map[string]HostConfig{"gw.example": {Subdomains: true}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, err := parseHost(s)
		if err != nil {
			return
		}
		again, err := parseHost(h.String())
		if err != nil || again != h {
			t.Fatalf("%q parses to %+v, which is written %q and parses to %+v (%v)", s, h, h.String(), again, err)
		}
		// A browser must agree about what the host is.
		u, err := url.Parse("http://" + h.String() + "/x")
		if err != nil || u.Host != h.String() || u.User != nil || u.Path != "/x" {
			t.Fatalf("%q: a URL with %q is %+v (%v)", s, h.String(), u, err)
		}
		locate(hosts, h)
	})
}

func FuzzRuleTargetStaysAtItsOrigin(f *testing.F) {
	f.Add("/to/*", "/:splat", "/to/\\evil.example", "x=1")
	f.Add("/:a/:b", "/:a/:b", "/\\/evil", "")
	f.Add("/x/*", "https://example.org/:splat?q=:splat#:splat", "/x/@evil", "q=2&q=3")
	f.Add("/x*", "https://example.org", "/xy", "a")
	f.Add("/:a", "https://example.org:80:a", "/x", "")
	f.Add("/*", "javascript::splat", "/alert(1)", "")
	f.Fuzz(func(t *testing.T, from, to, path, query string) {
		if strings.ContainsAny(from+to, " \t\r\n\v\f") {
			return // it is the parser that splits lines
		}
		p, err := parsePattern(from)
		if err != nil {
			return
		}
		m, ok := p.match(strings.Split(strings.TrimSuffix(path, "/"), "/"))
		if !ok {
			return
		}
		target, err := parseTarget(redirects.Rule{From: from, To: to, Status: 302})
		if err != nil {
			return
		}
		loc := target.location(m, query)
		for _, c := range []byte(loc) {
			if c <= ' ' || c >= 0x7f || c == '\\' {
				t.Fatalf("%q holds byte %#x", loc, c)
			}
		}
		if target.origin == "" {
			if !strings.HasPrefix(loc, "/") || strings.HasPrefix(loc, "//") {
				t.Fatalf("%q with %q leads to %q", to, path, loc)
			}
		} else if rest, ok := strings.CutPrefix(loc, target.origin); !ok || rest != "" && !strings.ContainsAny(rest[:1], "/?#") {
			t.Fatalf("%q with %q leads to %q", to, path, loc)
		}
		if p := target.contentPath(m); !strings.HasPrefix(p, "/") || strings.Contains(p+"/", "/../") {
			t.Fatalf("%q with %q reads %q", to, path, p)
		}
	})
}

func FuzzParseRedirects(f *testing.F) {
	f.Add([]byte("/a /b\n/c/* https://example.org/:splat 302\n# x\n"))
	f.Add([]byte("/:a/:a /b 200\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		rules, err := ParseRedirects(text)
		if err != nil {
			return
		}
		for _, path := range []string{"/a", "/c/d/e", string(text)} {
			if r, m, ok := rules.match(path); ok {
				r.to.location(m, "")
			}
			rules.Answer(path)
		}
	})
}

func FuzzSafeRedirect(f *testing.F) {
	f.Add("/docs", "a=b", "/docs/?a=b")
	f.Add("//evil", "", "//evil/")
	f.Add("/\\evil", "", "/%5Cevil/")
	f.Fuzz(func(t *testing.T, path, query, loc string) {
		got := safeRedirect(&url.URL{Path: path, RawQuery: query}, loc)
		if !staysAt(got, "/") || strings.HasPrefix(got, "//") {
			t.Fatalf("%q for %q is %q", loc, path, got)
		}
	})
}

func FuzzRangeIsDroppedOrWellFormed(f *testing.F) {
	for _, s := range []string{"bytes=0-1", "bytes=-0", "bytes=-5", "bytes=5-", "bytes=1-0", "bytes=0-0,1-1", "bytes=99999999999999999999-", "x=1-2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h := map[string][]string{"Range": {s}}
		normalizeRange(h)
		if got, ok := h["Range"]; ok && (len(got) != 1 || !strings.HasPrefix(got[0], "bytes=") || strings.Contains(got[0], ",")) {
			t.Fatalf("%q becomes %q", s, got)
		}
	})
}

func FuzzSpansLieInTheFile(f *testing.F) {
	for _, s := range []string{"bytes=0-0", "bytes=-5", "bytes=5-", "bytes=-0", "bytes=9223372036854775807-", "bytes=0-1,2-3", "bytes= 1 - 2", "x", "bytes=-"} {
		f.Add(s, int64(10))
		f.Add(s, int64(0))
	}
	f.Fuzz(func(t *testing.T, s string, size int64) {
		if size < 0 {
			return
		}
		p, partial, err := spanOf(http.Header{"Range": {s}}, "", time.Time{}, size)
		if err == nil && (p.from < 0 || p.to > size || p.from > p.to || partial && p.length() == 0 || !partial && p.length() != size) {
			t.Errorf("%q of %d bytes: %+v, partial %t", s, size, p, partial)
		}
	})
}

func FuzzETagListsMatchOnlyWhatTheyHold(f *testing.F) {
	for _, s := range []string{"*", `"a"`, `W/"a", "b"`, `"a`, `,,"a" , x`, `"b" "a"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if listsETag(s, `"a"`) && !strings.Contains(s, `"a"`) && !strings.Contains(s, "*") {
			t.Errorf("%q holds no \"a\"", s)
		}
		if !listsETag(`"x",`+` W/"a"`, `W/"a"`) {
			t.Error("weak tags differ")
		}
	})
}
