package gateway

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/deny"
)

// FuzzRequest sends whatever a client may write, to a gateway with something to
// hide: no answer shows what is denied, leads to anybody else, or is our fault.
func FuzzRequest(f *testing.F) {
	dir := f.TempDir()
	lists, err := deny.Open(deny.Config{Dir: dir})
	must(f, err)
	links := &naming.DNSLink{Static: map[string]string{}}
	w := newWorld(f, func(c *Config) {
		c.Denied, c.DNSLinks, c.TrustedProxies = lists, links, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		c.Hosts = map[string]HostConfig{"gw.example": {Subdomains: true, InlineDNSLink: true}, "bare.example": {TrustlessOnly: true}}
	})
	const secret = "TOPSECRET"
	files := map[string]string{
		"index.html": "home", "secret.html": secret, "by-cid.txt": secret + "2", "docs/index.html": secret + "3", "404.html": "nothing here",
		"_redirects": "/r /secret.html 200\n/to/* /:splat 302\n/d/* /docs/:splat 200\n", "_headers": "/*\n  X-Own: 1\n",
	}
	root := w.build(files)
	name := w.publish("blog", root).String()
	links.Static["site.example"] = "/ipns/" + name
	leaf, err := merkle.Resolve(f.Context(), w.store, root, "by-cid.txt")
	must(f, err)
	rules := "/ipfs/" + root.String() + "/secret.html\n/ipns/" + name + "/docs/*\n/ipfs/" + root.String() + "/docs/*\n/ipfs/" + leaf.String() + "\n"
	must(f, os.WriteFile(filepath.Join(dir, "x.deny"), []byte(rules), 0o600))
	_, err = lists.Reload()
	must(f, err)

	// ROOT and NAME stand for what differs from run to run.
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: blog.localhost\r\n\r\n",
		"GET /r HTTP/1.1\r\nHost: blog.localhost\r\nAccept: application/json\r\n\r\n",
		"GET /docs?x HTTP/1.1\r\nHost: NAME.ipns.localhost\r\nRange: bytes=0-1,3-\r\n\r\n",
		"GET /to//evil.example/ HTTP/1.1\r\nHost: site.example\r\n\r\n",
		"GET /to/%5cevil.example HTTP/1.1\r\nHost: blog.localhost:99\r\n\r\n",
		"GET /ipfs/ROOT?format=tar HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
		"GET /ipfs/ROOT/docs HTTP/1.1\r\nHost: gw.example\r\nX-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: https\r\n\r\n",
		"GET /ipns/site.example//secret.html HTTP/1.1\r\nHost: [::1]:80\r\nAccept: application/vnd.ipld.car\r\n\r\n",
		"HEAD /ipfs/ROOT/by-cid.txt HTTP/1.1\r\nHost: gw.example\r\nCache-Control: only-if-cached\r\nIf-None-Match: *\r\n\r\n",
		"GET /-/open?address=//evil.example HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET /ipfs/?uri=ipns://site.example/docs HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: br\r\n\r\n",
		"GET http://bare.example/ipfs/ROOT?format=raw&filename=x%0d%0a HTTP/1.1\r\nHost: x\r\n\r\n",
		"OPTIONS /ipfs/ROOT HTTP/1.1\r\nHost: site-example.ipns.gw.example\r\n\r\n",
		"CONNECT evil.example:1 HTTP/1.1\r\nHost: evil.example\r\n\r\n",
	} {
		f.Add(s)
	}
	fill := strings.NewReplacer("ROOT", root.String(), "NAME", name)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(fill.Replace(text))))
		if err != nil {
			return
		}
		r.RemoteAddr = "192.0.2.1:1"
		out := httptest.NewRecorder()
		serveAborting(w.handler, out, r)
		if out.Code >= 500 && out.Code != http.StatusNotImplemented && out.Code != http.StatusGatewayTimeout {
			t.Errorf("%d %s", out.Code, out.Body)
		}
		if strings.Contains(out.Body.String(), secret) {
			t.Errorf("what is denied is shown: %d %v", out.Code, out.Header())
		}
		if to := out.Header().Get("Location"); to != "" && !ownPlace(to) && !strings.HasPrefix(to, fmt.Sprintf("http://%s/", strings.ToLower(r.Host))) {
			t.Errorf("%s leads away: %d", to, out.Code)
		}
		for k, values := range out.Header() {
			for _, v := range values {
				if strings.ContainsFunc(k+v, func(c rune) bool { return c < ' ' || c == 0x7f }) {
					t.Errorf("%s: %q", k, v)
				}
			}
		}
	})
}

// ownPlace tells whether a Location stays on the origin, or leads to one under a host of ours.
func ownPlace(to string) bool {
	u, err := url.Parse(to)
	if err != nil || strings.HasPrefix(to, "//") || strings.ContainsAny(to, "\\\t\r\n") {
		return false
	}
	h, err := parseHost(u.Host)
	return u.Host == "" && u.Scheme == "" && strings.HasPrefix(to, "/") ||
		err == nil && (u.Scheme == "http" || u.Scheme == "https") && (strings.HasSuffix("."+h.name, ".localhost") || strings.HasSuffix("."+h.name, ".gw.example"))
}
