package gateway

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multibase"
	"github.com/multiformats/go-multihash"
)

func TestPathsOnLocalhostRedirectToOrigins(t *testing.T) {
	w := newWorld(t, nil)
	root := w.build(blog)
	name := w.publish("blog", root)
	v0 := cid.NewCidV0(root.Hash()).String()
	for path, want := range map[string]string{
		"/ipfs/" + root.String():                           "http://" + root.String() + ".ipfs.localhost:99/",
		"/ipfs/" + root.String() + "/docs/a%20b%25%23?x=1": "http://" + root.String() + ".ipfs.localhost:99/docs/a%20b%25%23?x=1",
		"/ipfs/%62" + root.String()[1:] + "/a":             "http://" + root.String() + ".ipfs.localhost:99/a",
		"/ipfs/" + v0 + "/docs/":                           "http://" + root.String() + ".ipfs.localhost:99/docs/",
		"/ipns/" + name.String() + "/docs":                 "http://" + name.String() + ".ipns.localhost:99/docs",
		"/ipns/" + name.Peer().String() + "/":              "http://" + name.String() + ".ipns.localhost:99/",
	} {
		r := w.get("http://localhost:99" + path)
		r.want(t, 301, "")
		r.wantHeader(t, "Location", want)
	}
	r := w.get("http://" + strings.ToLower(name.Peer().String()) + ".ipns.localhost/")
	r.want(t, 400, "")
	hashed, err := cid.V1Builder{Codec: cid.Libp2pKey, MhType: multihash.SHA2_256}.Sum([]byte("a large public key"))
	must(t, err)
	r = w.get("http://" + hashed.String() + ".ipns.localhost/docs?x=1") // bafz…: another spelling would be another origin
	r.want(t, 301, "")
	k2, err := hashed.StringOfBase(multibase.Base36)
	must(t, err)
	r.wantHeader(t, "Location", "http://"+k2+".ipns.localhost/docs?x=1")
	w.get("http://localhost/ipns/blog/").want(t, 400, "")
	w.get("http://localhost/ipns/evil.example%2F@x/").want(t, 400, "")
	w.get("http://ipns.localhost/").want(t, 404, "")
	w.get("http://nobody.localhost/").want(t, 404, "")
}

func TestPathsElsewhereAreServedInASandbox(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Hosts = map[string]HostConfig{"paths.example": {}, "only.example": {Paths: []string{"/ipfs"}}, "raw.example": {TrustlessOnly: true}}
	})
	root := w.build(blog)
	name := w.publish("blog", root)
	for _, host := range []string{"127.0.0.1:8080", "[::1]:8080", "192.0.2.7", "unknown.example", "paths.example:8443"} {
		for _, path := range []string{"/ipfs/" + root.String(), "/ipns/" + name.String()} {
			r := w.get("http://" + host + path + "/")
			r.want(t, 200, blog["index.html"])
			csp := r.Header.Get("Content-Security-Policy")
			if !strings.HasPrefix(csp, "sandbox") || strings.Contains(csp, "allow-same-origin") {
				t.Errorf("%s%s: policy %q", host, path, csp)
			}
			r.wantHeader(t, "Access-Control-Allow-Origin", "*")
			r = w.get("http://" + host + path + "/docs?a=b%20c")
			r.want(t, 301, "")
			r.wantHeader(t, "Location", path+"/docs/?a=b%20c")
			w.get("http://"+host+path+"/docs/x.js", "Service-Worker", "script").want(t, 400, "")
		}
	}
	w.get("http://only.example/ipfs/"+root.String()+"/").want(t, 200, "")
	w.get("http://only.example/ipns/"+name.String()+"/").want(t, 404, "")
	w.get("http://raw.example/ipfs/"+root.String()+"/").want(t, 406, "")
	w.get("http://raw.example/ipfs/"+root.String()+"?format=raw").want(t, 200, "")
	r := w.do(http.MethodOptions, "http://127.0.0.1/ipfs/"+root.String())
	r.want(t, 204, "")
	r.wantHeader(t, "Access-Control-Allow-Origin", "*")
}

func TestNothingPrivateIsOnThePort(t *testing.T) {
	w := newWorld(t, nil)
	for _, host := range []string{"localhost", "127.0.0.1", "unknown.example"} {
		for _, path := range []string{"/debug/pprof/", "/debug/vars", "/metrics", "/api/v0/id", "/control", "/routing/v1/ipns/x", "/favicon.ico", "/ipld/x", "/-/", "/pins"} {
			w.get("http://"+host+path).want(t, 404, "")
		}
	}
	w.get("http://unknown.example/").want(t, 404, "")
}

func TestTraversalNeverLeavesTheSite(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("blog", w.build(blog))
	other := w.build(map[string]string{"index.html": "another site"})
	targets := []string{"ipfs/" + other.String() + "/index.html", "etc/passwd"}
	for _, up := range []string{
		"../", "..%2f", "..%2F", "%2e%2e/", "%2e%2e%2f", "%2E%2E%2F", ".%2e/", "%2e./", "..\\", "..%5c", "%2e%2e%5c", "%252e%252e/", "%252e%252e%252f",
		"..%c0%af", "%c0%ae%c0%ae/", "..;/", "....//", "%00../", "..%00/", "./../", "%2e/%2e%2e/", "\xef\xbc\x8e\xef\xbc\x8e/",
	} {
		for _, target := range targets {
			for _, lead := range []string{"/", "/docs/", "//"} {
				text := "GET " + lead + up + up + up + target + " HTTP/1.1\r\nHost: blog.localhost\r\nConnection: close\r\n\r\n"
				r := w.raw(text)
				if r.StatusCode < 400 || r.StatusCode >= 500 {
					t.Errorf("%q: status %d", lead+up, r.StatusCode)
				}
				if strings.Contains(r.body, "another site") || strings.Contains(r.body, "root:x") {
					t.Errorf("%q: out of the site: %.100q", lead+up, r.body)
				}
			}
		}
	}
}

func TestFilenameParameterMakesOneWellFormedHeaderOrNone(t *testing.T) {
	w := newWorld(t, nil)
	root := w.build(blog)
	url := "http://127.0.0.1/ipfs/" + root.String() + "/plain/file.txt?filename="
	for _, bad := range []string{"a%0d%0aX-Evil:1", "a%0ab", "a%00b", "%7f", strings.Repeat("a", 60<<10)} {
		r := w.get(url + bad)
		r.want(t, 400, "")
		if r.Header.Get("X-Evil") != "" || r.Header.Get("Content-Disposition") != "" {
			t.Errorf("%.20s: %v", bad, r.Header)
		}
	}
	for _, odd := range []string{`a%22b%3bc=%5c%22.txt`, "%F0%9F%90%8B.txt", strings.Repeat("b", 200)} {
		r := w.get(url + odd)
		r.want(t, 200, blog["plain/file.txt"])
		d := r.Header.Values("Content-Disposition")
		if len(d) != 1 || strings.Count(d[0], `"`) != 2 || strings.Contains(d[0], `\`) {
			t.Errorf("%.20s: %q", odd, d)
		}
	}
}

func TestForwardedHeadersCountOnlyFromTrustedProxies(t *testing.T) {
	w := newWorld(t, nil)
	root := w.build(blog)
	w.publish("blog", root)
	forward := []string{"X-Forwarded-Host", "evil.example", "X-Forwarded-Proto", "https", "Forwarded", "host=evil.example;proto=https", "X-Forwarded-Prefix", "/evil", "X-Original-Url", "/evil"}
	r := w.get("http://localhost:5/ipfs/"+root.String()+"/", forward...)
	r.want(t, 301, "")
	r.wantHeader(t, "Location", "http://"+root.String()+".ipfs.localhost:5/")
	w.get("http://blog.localhost/", forward...).want(t, 200, blog["index.html"])

	behind := newWorld(t, func(c *Config) {
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		c.Hosts = map[string]HostConfig{"gw.example": {Subdomains: true}}
	})
	r = behind.get("http://internal:5/ipfs/"+root.String()+"/", "X-Forwarded-Host", "gw.example", "X-Forwarded-Proto", "https")
	r.want(t, 301, "")
	r.wantHeader(t, "Location", "https://"+root.String()+".ipfs.gw.example/")
	behind.get("http://internal:5/", "X-Forwarded-Host", "a@b").want(t, 400, "")
	behind.build(blog)
	for range 2 { // what the client wrote comes before what the proxy adds, in one header or in two
		r = behind.get("http://internal/ipfs/"+root.String()+"/", "X-Forwarded-Host", "evil.example, gw.example", "X-Forwarded-Proto", "http", "X-Forwarded-Proto", "HTTPS")
		r.wantHeader(t, "Location", "https://"+root.String()+".ipfs.gw.example/")
		behind.get("http://internal/style.css", "X-Forwarded-Host", "evil.example", "X-Forwarded-Host", root.String()+".ipfs.gw.example").want(t, 200, "body{}")
	}
}

func TestMalformedRequestsAreRefused(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("blog", w.build(blog))
	long := strings.Repeat("a", 64)
	for name, c := range map[string]struct {
		text   string
		status int
	}{
		"two hosts":        {"GET / HTTP/1.1\r\nHost: blog.localhost\r\nHost: localhost\r\n\r\n", 400},
		"no host":          {"GET / HTTP/1.1\r\n\r\n", 400},
		"empty host":       {"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400},
		"user":             {"GET / HTTP/1.1\r\nHost: me@blog.localhost\r\n\r\n", 400},
		"long label":       {"GET / HTTP/1.1\r\nHost: " + long + ".localhost\r\n\r\n", 400},
		"number":           {"GET / HTTP/1.1\r\nHost: 127.1\r\n\r\n", 400},
		"bad port":         {"GET / HTTP/1.1\r\nHost: blog.localhost:99999\r\n\r\n", 400},
		"slash":            {"GET / HTTP/1.1\r\nHost: blog.localhost/x\r\n\r\n", 400},
		"length and chunk": {"GET / HTTP/1.1\r\nHost: blog.localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		"two lengths":      {"GET / HTTP/1.1\r\nHost: blog.localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400},
		"body":             {"GET / HTTP/1.1\r\nHost: blog.localhost\r\nContent-Length: 2\r\n\r\nhi", 400},
		"connect":          {"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n", 405},
		"post":             {"POST / HTTP/1.1\r\nHost: blog.localhost\r\n\r\n", 405},
		"trace":            {"TRACE / HTTP/1.1\r\nHost: blog.localhost\r\n\r\n", 405},
		"big headers":      {"GET / HTTP/1.1\r\nHost: blog.localhost\r\nX: " + strings.Repeat("x", 80<<10) + "\r\n\r\n", 431},
		"absolute":         {"GET http://blog.localhost HTTP/1.1\r\nHost: evil.example\r\n\r\n", 200},
	} {
		if r := w.raw(c.text); r.StatusCode != c.status {
			t.Errorf("%s: status %d, want %d: %.200q", name, r.StatusCode, c.status, r.body)
		}
	}
}

func TestLandingPageListsSitesOnlyOnThisMachine(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Hosts = map[string]HostConfig{"gw.example": {Subdomains: true}} })
	root := w.build(blog)
	name := w.publish("blog", root)
	w.sites.list = append(w.sites.list, Site{Alias: "evil", Name: name, Title: `<img src=x onerror=alert(1)>`})
	for _, host := range []string{"localhost:8080", "127.0.0.1:8080", "[::1]:8080"} {
		r := w.get("http://" + host + "/")
		r.want(t, 200, "")
		if !strings.Contains(r.body, `href="http://blog.localhost:8080/"`) || !strings.Contains(r.body, `href="/-/site/`+name.String()) {
			t.Errorf("%s: the site is not listed: %s", host, r.body)
		}
		if strings.Contains(r.body, "<img") {
			t.Errorf("%s: a title is not escaped", host)
		}
		r.wantHeader(t, "Access-Control-Allow-Origin", "")
		if csp := r.Header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'; style-src 'sha256-") {
			t.Errorf("policy %q", csp)
		}
	}
	for _, host := range []string{"gw.example", "192.0.2.9:8080"} {
		r := w.get("http://" + host + "/")
		r.want(t, 200, "")
		if strings.Contains(r.body, "blog") {
			t.Errorf("%s: tells about sites", host)
		}
	}
}

func TestOpenRedirectsToAddressesAndNowhereElse(t *testing.T) {
	w := newWorld(t, nil)
	root := w.build(blog)
	name := w.publish("blog", root)
	at := ".localhost:8080"
	for address, want := range map[string]string{
		"blog":                             "http://blog" + at + "/",
		"blog/docs/a b":                    "http://blog" + at + "/docs/a%20b",
		root.String():                      "http://" + root.String() + ".ipfs" + at + "/",
		" ipfs://" + root.String() + "/x ": "http://" + root.String() + ".ipfs" + at + "/x",
		"/ipns/" + name.String():           "http://" + name.String() + ".ipns" + at + "/",
		name.String() + "/docs/":           "http://" + name.String() + ".ipns" + at + "/docs/",
		name.String() + "//evil.example":   "http://" + name.String() + ".ipns" + at + "//evil.example",
		"":                                 "",
		"//evil.example":                   "",
		"http://evil.example/":             "",
		"javascript:alert(1)":              "",
		"example.org":                      "",
		"/ipfs/nonsense":                   "",
		"blog.evil.example":                "",
		"@evil.example":                    "",
	} {
		for _, host := range []string{"localhost:8080", "127.0.0.1:8080"} {
			r := w.get("http://" + host + "/-/open?address=" + queryEscape(address))
			if want == "" {
				r.want(t, 400, "")
				continue
			}
			r.want(t, 303, "")
			r.wantHeader(t, "Location", want)
		}
	}
}

func TestStyleHashCoversTheStyleSent(t *testing.T) {
	w := newWorld(t, nil)
	body := w.get("http://localhost/").body
	_, rest, _ := strings.Cut(body, "<style>")
	style, _, ok := strings.Cut(rest, "</style>")
	if !ok || style != pageCSS {
		t.Fatalf("the page's style is not the one that was hashed: %.200q", style)
	}
	if strings.Contains(body, "<script") || strings.Contains(body, "http://") && strings.Contains(body, "src=") {
		t.Fatal(fmt.Sprint("the page has a script or asks elsewhere: ", body))
	}
}
