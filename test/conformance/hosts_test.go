package conformance

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multibase"
	"github.com/multiformats/go-multicodec"
)

func (g *gateway) subdomainIPFS(t *testing.T) {
	both(t, func(t *testing.T, host string) {
		t.Run("listing", func(t *testing.T) { g.subdomainListing(t, host) })
		t.Run("redirect", func(t *testing.T) { g.toSubdomain(t, host) })
		t.Run("origin", func(t *testing.T) { g.onSubdomain(t, host) })
	})
	g.runAll(t, []check{
		{name: "an unknown host is served by path", url: "http://fake.domain.com/ipfs/" + g.hello.cid.String(), status: 200, body: "hello\n"},
		{name: "a proxy names the host", url: "http://fake.domain.com/ipfs/" + g.hello.cid.String(), header: []string{"X-Forwarded-Host", public}, status: 301,
			want: map[string]string{"Location": origin(g.hello.cid.String(), "ipfs", public, "/")}},
		{name: "a proxy names host and scheme", url: "http://fake.domain.com/ipfs/" + g.hello.cid.String(), header: []string{"X-Forwarded-Host", public, "X-Forwarded-Proto", "https"}, status: 301,
			want: map[string]string{"Location": "https://" + g.hello.cid.String() + ".ipfs." + public + "/"}},
		{name: "names on a host without names", url: "http://ipfs-only.example/ipns/" + g.keys["hello"].name, status: 404},
		{name: "a name's origin on a host without names", url: origin(g.keys["hello"].name, "ipns", "ipfs-only.example", "/"), status: 404},
		{name: "content on a host without names", url: origin(g.hello.cid.String(), "ipfs", "ipfs-only.example", "/"), status: 200, body: "hello\n"},
	})
}

func (g *gateway) subdomainListing(t *testing.T, host string) {
	id := g.listing.cid.String()
	at := "//" + host + "/ipfs/" + id
	g.runAll(t, []check{
		{name: "no way up from a root", url: origin(id, "ipfs", host, "/"), status: 200, has: []string{"Index of"}, hasNot: []string{`<a href="/">..</a>`}},
		{name: "a folder gets its slash", url: origin(id, "ipfs", host, "/ą/ę"), status: 301, want: map[string]string{"Location": "/%C4%85/%C4%99/"}},
		{name: "a folder", url: origin(id, "ipfs", host, "/ą/ę/"), status: 200, want: map[string]string{"Etag": `~"DirIndex-`},
			has: []string{"Index of", `<a href="/%C4%85/%C4%99/..">..</a>`,
				`/ipfs/<a href="` + at + `">` + id + `</a>/<a href="` + at + `/%C4%85">ą</a>/<a href="` + at + `/%C4%85/%C4%99">ę</a>`,
				`<a href="/%C4%85/%C4%99/file-%C5%BA%C5%82.txt">file-źł.txt</a>`,
				`<a class="ipfs-hash" translate="no" href="//` + host + `/ipfs/` + g.odd.cid.String() + `?filename=file-%25C5%25BA%25C5%2582.txt">`}},
	})
}

func (g *gateway) toSubdomain(t *testing.T, host string) {
	to := func(c cid.Cid, path string) map[string]string {
		return map[string]string{"Location": origin(c.String(), "ipfs", host, path)}
	}
	base := "http://" + host
	v0 := cid.NewCidV0(g.helloPB.cid.Hash()).String()
	g.runAll(t, []check{
		{name: "CIDv1", url: base + "/ipfs/" + g.hello.cid.String() + "/", status: 301, want: to(g.hello.cid, "/")},
		{name: "CIDv1 without a slash", url: base + "/ipfs/" + g.hello.cid.String(), status: 301, want: to(g.hello.cid, "/")},
		{name: "an odd name", url: base + "/ipfs/" + g.percent.cid.String() + "/Portugal%252C+España=Peninsula%20Ibérica.txt", status: 301,
			want: to(g.percent.cid, "/Portugal%252C+Espa%C3%B1a=Peninsula%20Ib%C3%A9rica.txt")},
		{name: "a folder", url: base + "/ipfs/" + g.dir.cid.String() + "/", status: 301, want: to(g.dir.cid, "/")},
		{name: "CIDv0", url: base + "/ipfs/" + v0 + "/", status: 301, want: to(g.helloPB.cid, "/")},
		{name: "no CID", url: base + "/ipfs/QmInvalidCID", status: 400, has: []string{`invalid path "/ipfs/QmInvalidCID"`}},
		{name: "behind a proxy with TLS", url: base + "/ipfs/" + g.hello.cid.String() + "/", header: []string{"X-Forwarded-Proto", "https"}, status: 301,
			want: map[string]string{"Location": "https://" + g.hello.cid.String() + ".ipfs." + host + "/"}},
		{name: "behind a proxy without TLS", url: base + "/ipfs/" + g.hello.cid.String() + "/", header: []string{"X-Forwarded-Proto", "http"}, status: 301, want: to(g.hello.cid, "/")},
		{name: "ipfs://", url: query(base+"/ipfs/", "uri", "ipfs://QmXoypizjW3WknFiJnKLwHCnL72vedxjQkDDP1mXWo6uco/wiki/Diego_Maradona.html"), status: 301,
			want: map[string]string{"Location": "/ipfs/QmXoypizjW3WknFiJnKLwHCnL72vedxjQkDDP1mXWo6uco/wiki/Diego_Maradona.html"}},
		{name: "a CID that fits no label", url: base + "/ipfs/" + g.tooLong.cid.String(), status: 400, has: []string{"CID incompatible with DNS label length limit of 63"}},
	})
}

func (g *gateway) onSubdomain(t *testing.T, host string) {
	id := g.dir.cid.String()
	at := func(path string) string { return origin(id, "ipfs", host, path) }
	crumb := "//" + host + "/ipfs/" + id
	g.runAll(t, []check{
		{name: "a file", url: origin(g.hello.cid.String(), "ipfs", host, ""), status: 200, body: "hello\n"},
		{name: "the namespace is not mounted", url: origin(g.hello.cid.String(), "ipfs", host, "/ipfs/"+g.hello.cid.String()), status: 404},
		{name: "a folder called ipfs", url: at("/ipfs/file.txt"), status: 200, body: "I am a txt file\n"},
		{name: "links of a listing", url: at("/"), status: 200, has: []string{`<a href="/hello">hello</a>`, `<a href="/ipfs">ipfs</a>`}},
		{name: "the way up", url: at("/ipfs/ipns/"), status: 200, has: []string{"Index of", `<a href="/ipfs/ipns/..">..</a>`, `<a href="/ipfs/ipns/bar">bar</a>`,
			`/ipfs/<a href="` + crumb + `">` + id + `</a>/<a href="` + crumb + `/ipfs">ipfs</a>/<a href="` + crumb + `/ipfs/ipns">ipns</a>`}},
		{name: "a file in a folder", url: at("/ipfs/ipns/bar"), status: 200, body: "text-file-content\n"},
		{name: "headers", url: at("/hello"), status: 200, want: map[string]string{"X-Ipfs-Path": legacy("/ipfs/" + id + "/hello"), "Ipfs-Uri": "ipfs://" + id + "/hello", "X-Ipfs-Roots": id + "," + g.hello.cid.String()}},
		{name: "a CID that fits no label", url: origin(g.tooLong.cid.String(), "ipfs", host, "/"), status: 400, has: []string{"CID incompatible with DNS label length limit of 63"}},
	})
}

func (g *gateway) subdomainIPNS(t *testing.T) {
	both(t, func(t *testing.T, host string) {
		for _, kind := range []string{"rsa", "hello"} {
			k := g.keys[kind]
			to := map[string]string{"Location": origin(k.name, "ipns", host, "/")}
			g.runAll(t, []check{
				{name: kind + ", as a peer ID", url: "http://" + host + "/ipns/" + k.peer, status: 301, want: to},
				{name: kind + ", as it is by path", url: "http://" + host + "/ipns/" + k.name, status: 301, want: to},
				{name: kind + ", as it is", url: origin(k.name, "ipns", host, "/"), status: 200, body: "hello\n"},
				{name: kind + ", as a CID of another codec", url: origin(k.as(t, uint64(multicodec.DagPb), multibase.Base36), "ipns", host, "/"), status: 301, want: to},
				{name: kind + ", headers", url: origin(k.name, "ipns", host, "/"), status: 200, want: map[string]string{
					"X-Ipfs-Path": legacy("/ipns/" + k.name + "/"), "Ipfs-Uri": "ipns://" + k.name + "/", "X-Ipfs-Roots": g.hello.cid.String(), "Cache-Control": "~^public, max-age=[1-9][0-9]{0,2}$"}},
			})
		}
		inline := "en-wikipedia--on-org"
		g.runAll(t, []check{
			{name: "a domain", url: "http://" + host + "/ipns/en.wikipedia-on.org/wiki/", status: 301, want: map[string]string{"Location": origin(inline, "ipns", host, "/wiki/")}},
			{name: "a domain behind a proxy with TLS", url: "http://" + host + "/ipns/en.wikipedia-on.org/wiki/", header: []string{"X-Forwarded-Proto", "https"}, status: 301,
				want: map[string]string{"Location": "https://" + inline + ".ipns." + host + "/wiki/"}},
			{name: "an inlined domain", url: origin("dnslink-example", "ipns", host, "/"), status: 200, body: "hello\n"},
			{name: "a whole domain", url: origin("dnslink.example", "ipns", host, "/"), status: 200, body: "hello\n"},
			{name: "an inlined domain that links to a name", url: origin("named-example", "ipns", host, "/root2/root3/root4/"), status: 200, body: "hello\n"},
			{name: "a whole domain that links to a name", url: origin("named.example", "ipns", host, "/root2/root3/root4/"), status: 200, body: "hello\n"},
			{name: "ipns://", url: "http://" + host + "/ipns/?uri=ipns%3A%2F%2Fen.wikipedia-on.org", status: 301, want: map[string]string{"Location": "/ipns/en.wikipedia-on.org"}},
		})
	})
}

func (g *gateway) dnslink(t *testing.T) {
	host := "website.example.org"
	at := "//" + host
	g.runAll(t, []check{
		{name: "no way up from a root", url: "http://" + host + "/", status: 200, has: []string{"Index of"}, hasNot: []string{`<a href="/">..</a>`}},
		{name: "a folder gets its slash", url: "http://" + host + "/ą/ę", status: 301, want: map[string]string{"Location": "/%C4%85/%C4%99/"}},
		{name: "a folder", url: "http://" + host + "/ą/ę/", status: 200, want: map[string]string{"Etag": `~"DirIndex-`, "Ipfs-Uri": "ipns://" + host + "/%C4%85/%C4%99/"},
			has: []string{"Index of", `<a href="/%C4%85/%C4%99/..">..</a>`,
				`/ipns/<a href="` + at + `/">` + host + `</a>/<a href="` + at + `/%C4%85">ą</a>/<a href="` + at + `/%C4%85/%C4%99">ę</a>`,
				`<a href="/%C4%85/%C4%99/file-%C5%BA%C5%82.txt">file-źł.txt</a>`,
				`<a class="ipfs-hash" translate="no" href="https://cid.ipfs.tech/#` + g.odd.cid.String() + `" target="_blank" rel="noreferrer noopener">`}},
		{name: "a name with a dot is an authority", url: "http://" + host + "/", status: 200, want: map[string]string{"Ipfs-Uri": "ipns://" + host + "/"}},
		{name: "a name without a dot is none", url: "http://undotted/", want: map[string]string{"Ipfs-Uri": ""}},
		{name: "that points below a root", url: "http://subpath.example.org/root3/root4/index.html", status: 200, body: "hello\n"},
		{name: "by path", url: "/ipns/" + host + "/ą/ę/file-źł.txt", status: 200, body: oddText, want: map[string]string{
			"Ipfs-Uri": "ipns://" + host + "/%C4%85/%C4%99/file-%C5%BA%C5%82.txt", "Cache-Control": "!immutable"}},
		{name: "under a host with subdomains", url: "http://blog." + public + "/ą/ę/file-źł.txt", status: 200, body: oddText},
		{name: "no domain under a host with subdomains", url: "http://nothing." + public + "/", status: 404},
		{name: "of a name", url: "http://named.example/root2/root3/root4/", status: 200, body: "hello\n", want: map[string]string{"Cache-Control": "!immutable"}},
		{name: "a domain without link", url: "/ipns/nothing.example.org/", status: 404},
	})
}

func (g *gateway) redirects(t *testing.T) {
	both(t, func(t *testing.T, host string) {
		on := func(site, path string) string { return origin(g.redirect[site].cid.String(), "ipfs", host, path) }
		to := func(loc string) map[string]string { return map[string]string{"Location": loc} }
		page := func(name string) map[string]string {
			return map[string]string{"Cache-Control": forever, "Etag": `"` + g.redirect[name].cid.String() + `"`}
		}
		checks := []check{
			{name: "no status is 301", url: on("examples", "/redirect-one"), status: 301, want: to("/one.html")},
			{name: "301", url: on("examples", "/301-redirect-one"), status: 301, want: to("/one.html")},
			{name: "302", url: on("examples", "/302-redirect-two"), status: 302, want: to("/two.html")},
			{name: "200", url: on("examples", "/200-index"), status: 200, body: "my index\n"},
			{name: "placeholders", url: on("examples", "/posts/2022/01/01/hello-world"), status: 301, want: to("/articles/2022/01/01/hello-world")},
			{name: "splat", url: on("examples", "/splat/one.html"), status: 301, want: to("/redirected-splat/one.html")},
			{name: "404", url: on("examples", "/not-found/has-no-redirects-entry"), status: 404, body: "my 404\n", want: page("404.html")},
			{name: "410", url: on("examples", "/gone/has-no-redirects-entry"), status: 410, body: "my 410\n", want: page("410.html")},
			{name: "451", url: on("examples", "/unavail/has-no-redirects-entry"), status: 451, body: "my 451\n", want: page("451.html")},
			{name: "catch-all", url: on("examples", "/catch-all"), status: 200, body: "my index\n"},
			{name: "what is there comes first", url: on("examples", "/one.html"), status: 200, body: "my one\n"},
			{name: "the query is kept", url: on("examples", "/redirect-one?a=b"), status: 301, want: to("/one.html?a=b")},
			{name: "a forced rule", url: on("forced", "/not-found"), status: 500, has: []string{"could not parse _redirects:", `forced redirects (or "shadowing") are not supported`}},
			{name: "too large a file", url: on("too-large", "/not-found"), status: 500, has: []string{"could not parse _redirects:", "redirects file size cannot exceed"}},
			{name: "lines that end in CR LF", url: on("newlines", "/redirect-one"), status: 301, want: to("/one.html")},
			{name: "bad codes hurt only what is missing", url: on("bad-codes", "/found.html"), status: 200, body: "my found\n", hasNot: []string{"unsupported redirect status"}},
			{name: "bad codes", url: on("bad-codes", "/not-found"), status: 500},
		}
		for _, code := range []int{301, 302, 303, 307, 308} {
			checks = append(checks, check{name: fmt.Sprint("good code ", code), url: on("good-codes", fmt.Sprint("/a", code)), status: code, want: to(fmt.Sprint("/b", code))})
		}
		g.runAll(t, checks)
	})
	application := g.redirect["spa.html"].cid.String()
	for name, at := range map[string]string{
		"on an origin of its own": origin(g.redirect["spa"].cid.String(), "ipfs", public, "/missing-page"),
		"on a domain's origin":    origin("spa-example-org", "ipns", public, "/missing-page"),
		"by DNSLink":              "http://spa.example.org/missing-page",
	} {
		html := []string{"Accept", "text/html"}
		g.runAll(t, []check{
			{name: "an application's page " + name, url: at, header: html, status: 200, body: "the application\n", want: map[string]string{"Etag": `"` + application + `"`}},
			{name: "an application's page that is known " + name, url: at, header: append(html, "If-None-Match", `"`+application+`"`), status: 304},
		})
	}
	g.runAll(t, []check{
		{name: "by DNSLink", url: "http://redirects.example.org/redirect-one", status: 301, want: map[string]string{"Location": "/one.html"}},
		{name: "a page by DNSLink", url: "http://redirects.example.org/not-found/has-no-redirects-entry", status: 404, body: "my 404\n",
			want: map[string]string{"Etag": `"` + g.redirect["404.html"].cid.String() + `"`, "Cache-Control": "!immutable", "Date": "~."}},
		{name: "not where sites share an origin", url: "/ipfs/" + g.redirect["examples"].cid.String() + "/redirect-one", status: 404},
	})
}

// proxyMode uses the gateway as an HTTP proxy: by whole URLs, and by CONNECT.
func (g *gateway) proxyMode(t *testing.T) {
	checks := []check{
		{name: "an origin", url: origin(g.hello.cid.String(), "ipfs", public, "/"), status: 200, body: "hello\n"},
		{name: "a redirect", url: "http://" + public + "/ipfs/" + cid.NewCidV0(g.helloPB.cid.Hash()).String() + "/", status: 301,
			want: map[string]string{"Location": origin(g.helloPB.cid.String(), "ipfs", public, "/")}},
		{name: "a folder called ipfs", url: origin(g.dir.cid.String(), "ipfs", public, "/ipfs/file.txt"), status: 200, body: "I am a txt file\n"},
		{name: "a domain", url: "http://dnslink.example/", status: 200, body: "hello\n"},
	}
	t.Run("whole URLs", func(t *testing.T) {
		p := *g
		p.client = g.proxy
		p.runAll(t, checks)
	})
	for _, c := range checks {
		t.Run("CONNECT/"+c.name, func(t *testing.T) {
			p := *g
			p.client = g.tunnel(t, c.url)
			p.run(t, c)
		})
	}
	t.Run("CONNECT elsewhere", func(t *testing.T) {
		if _, status := g.connect(t, "elsewhere.example:443"); status < 400 {
			t.Errorf("status %d", status)
		}
	})
}

// tunnel is a client whose one connection was made by CONNECT to the URL's host.
func (g *gateway) tunnel(t *testing.T, to string) *http.Client {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, to, nil)
	must(t, err)
	conn, status := g.connect(t, r.Host+":80")
	if status != http.StatusOK {
		t.Fatalf("CONNECT %s: %d", r.Host, status)
	}
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// connect asks for a tunnel, and reads no more than the answer's head.
func (g *gateway) connect(t *testing.T, to string) (net.Conn, int) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", g.addr)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	_, err = io.WriteString(conn, "CONNECT "+to+" HTTP/1.1\r\nHost: "+to+"\r\n\r\n")
	must(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodConnect})
	must(t, err)
	return conn, resp.StatusCode
}
