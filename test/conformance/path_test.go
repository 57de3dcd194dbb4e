package conformance

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
)

const forever = "public, max-age=29030400, immutable"

// missingCID is of content that nobody has.
const missingCID = "QmYzfKSE55XCjD1MW128RfciAf2DViABhEiXfgVFMabSjN"

// legacy is what the deprecated X-Ipfs-Path has to be, if it is there at all.
func legacy(path string) string { return "~^$|^" + regexp.QuoteMeta(path) + "$" }

func (g *gateway) pathUnixFS(t *testing.T) {
	root := "/ipfs/" + g.listing.cid.String()
	crumbs := `/ipfs/<a href="` + root + `">` + g.listing.cid.String() + `</a>/<a href="` + root + `/%C4%85">ą</a>/<a href="` + root + `/%C4%85/%C4%99">ę</a>`
	g.runAll(t, []check{
		{name: "the listing of a root has no way up", url: root + "/", status: 200, has: []string{"Index of"}, hasNot: []string{`">..</a>`}},
		{name: "a folder is redirected to its path with a slash", url: root + "/ą/ę", status: 301,
			want: map[string]string{"Location": root + "/%C4%85/%C4%99/"}},
		{name: "a listing links the way up, each name, each CID", url: root + "/ą/ę/", status: 200,
			want: map[string]string{"Etag": `~"DirIndex-`},
			has: []string{"Index of", crumbs, `<a href="` + root + `/%C4%85/%C4%99/..">..</a>`,
				`<a href="` + root + `/%C4%85/%C4%99/file-%C5%BA%C5%82.txt">file-źł.txt</a>`,
				`<a class="ipfs-hash" translate="no" href="/ipfs/` + g.odd.cid.String() + `?filename=file-%25C5%25BA%25C5%2582.txt">`}},
		{name: "what is not there is 404", url: root + "/i-do-not-exist", status: 404},
		{name: "a folder with a symlink lists both", url: "/ipfs/" + g.link.cid.String() + "/", status: 200, has: []string{">foo<", ">bar<"}},
		{name: "the block of a folder with a symlink", url: "/ipfs/" + g.link.cid.String() + "?format=raw", status: 200, body: string(g.block(t, g.link))},
		{name: "a symlink answers with what it says", url: "/ipfs/" + g.link.cid.String() + "/bar", status: 200, body: "foo"},
		{name: "an odd file name is found", url: "/ipfs/" + g.percent.cid.String() + "/Portugal%252C+España=Peninsula%20Ibérica.txt", status: 200, body: "percent\n"},
		{name: "a folder whose block has its data first", url: "/ipfs/" + g.swapped.cid.String() + "/", status: 200, has: []string{">a.txt<", ">b.txt<"}},
		{name: "a file in a folder whose block has its data first", url: "/ipfs/" + g.swapped.cid.String() + "/b.txt", status: 200, body: "b\n"},
		{name: "a file in a sharded folder", url: "/ipfs/" + g.sharded.cid.String() + "/685.txt", status: 200, body: text(300 + 685)},
		{name: "what is not in a sharded folder is 404", url: "/ipfs/" + g.sharded.cid.String() + "/1685.txt", status: 404},
		{name: "an identity CID", url: "/ipfs/bafkqabtimvwgy3yk", status: 200, body: "hello\n"},
		{name: "no CID is 400", url: "/ipfs/QmInvalidCID", status: 400},
		{name: "a POST is refused", url: root + "/", method: http.MethodPost, status: 405, want: map[string]string{"Allow": "~GET"}},
	})
}

func (g *gateway) pathCache(t *testing.T) {
	t.Run("ipfs", func(t *testing.T) { g.cacheOf(t, "/ipfs/"+g.fixtures.cache["root"].cid.String(), forever) })
	t.Run("ipns", func(t *testing.T) {
		g.cacheOf(t, "/ipns/"+g.keys["cache"].name, `~^public, max-age=[1-9][0-9]{0,2}$`) // the record may be kept for ten minutes
	})
	// Only what is here counts, and nobody is asked.
	g.runAll(t, []check{
		{name: "only-if-cached of what is nowhere", url: "/ipfs/" + missingCID, header: []string{"Cache-Control", "only-if-cached"}, status: 412},
		{name: "HEAD, only-if-cached of what is nowhere", url: "/ipfs/" + missingCID, method: http.MethodHead, header: []string{"Cache-Control", "only-if-cached"}, status: 412},
	})
}

// cacheOf checks the headers of one root, by whatever path it is asked for.
func (g *gateway) cacheOf(t *testing.T, root, keep string) {
	id := func(name string) string { return g.fixtures.cache[name].cid.String() }
	roots := func(names ...string) (s string) {
		for _, n := range names {
			s += "," + id(n)
		}
		return s[1:]
	}
	page := root + "/root2/root3/root4/index.html"
	uri := strings.Replace(root[1:], "/", "://", 1)
	listed := g.ask(t, http.MethodGet, root+"/root2/root3/").Header.Get("Etag")
	var checks []check
	for _, match := range []string{`"` + id("index.html") + `"`, `"fake1", "fake2", "` + id("index.html") + `"`, `W/"` + id("index.html") + `"`, "*"} {
		checks = append(checks, check{name: "If-None-Match " + match, url: page, header: []string{"If-None-Match", match}, status: 304,
			want: map[string]string{"Etag": `"` + id("index.html") + `"`, "Cache-Control": keep}})
	}
	for _, match := range []string{listed, "W/" + listed, `W/"` + id("root3") + `"`} {
		checks = append(checks, check{name: "If-None-Match of a listing " + match, url: root + "/root2/root3/", header: []string{"If-None-Match", match}, status: 304})
	}
	listing := "~^$|^public, max-age=604800, stale-while-revalidate=2678400$"
	if strings.HasPrefix(root, "/ipns/") {
		listing = "~^$|^public, max-age=[0-9]+$"
	}
	g.runAll(t, append(checks, []check{
		{name: "a listing", url: root + "/root2/root3/", status: 200, want: map[string]string{
			"X-Ipfs-Path": legacy(root + "/root2/root3/"), "Ipfs-Uri": uri + "/root2/root3/", "X-Ipfs-Roots": roots("root", "root2", "root3"), "Etag": "~DirIndex-.*_CID-" + id("root3"), "Cache-Control": listing}},
		{name: "a folder's page", url: root + "/root2/root3/root4/", status: 200, body: "hello\n", want: map[string]string{
			"X-Ipfs-Path": legacy(root + "/root2/root3/root4/"), "Ipfs-Uri": uri + "/root2/root3/root4/", "X-Ipfs-Roots": roots("root", "root2", "root3", "root4"), "Etag": `"` + id("root4") + `"`, "Cache-Control": keep}},
		{name: "a folder's page that is known", url: root + "/root2/root3/root4/", header: []string{"If-None-Match", `"` + id("root4") + `"`}, status: 304},
		{name: "a file", url: page, status: 200, body: "hello\n", want: map[string]string{
			"X-Ipfs-Path": legacy(page), "Ipfs-Uri": uri + "/root2/root3/root4/index.html", "X-Ipfs-Roots": roots("root", "root2", "root3", "root4", "index.html"), "Etag": `"` + id("index.html") + `"`, "Cache-Control": keep,
			"Content-Length": "6", "Accept-Ranges": "bytes"}},
		{name: "HEAD of a file", url: page, method: http.MethodHead, status: 200, want: map[string]string{"Content-Length": "6", "Etag": `"` + id("index.html") + `"`, "Cache-Control": keep}},
		{name: "a folder as DAG-JSON", url: root + "/root2/root3/root4/?format=dag-json", status: 406},
		{name: "a folder as JSON", url: root + "/root2/root3/root4/?format=json", status: 200, want: map[string]string{"Cache-Control": keep}},
		{name: "a folder as a block", url: root + "/root2/root3/root4/?format=raw", status: 200, body: string(g.block(t, g.fixtures.cache["root4"])), want: map[string]string{"Cache-Control": keep}},
		{name: "only-if-cached of a block that is here", url: root + "/root2/root3/root4/?format=raw", header: []string{"Cache-Control", "only-if-cached"}, status: 200},
		{name: "HEAD, only-if-cached of a block that is here", url: root + "/root2/root3/root4/?format=raw", method: http.MethodHead, header: []string{"Cache-Control", "only-if-cached"}, status: 200},
		{name: "only-if-cached of what is here", url: root + "/root2/root3/root4/?format=json", header: []string{"Cache-Control", "only-if-cached"}, status: 200},
		{name: "HEAD, only-if-cached of what is here", url: root + "/root2/root3/root4/?format=json", method: http.MethodHead, header: []string{"Cache-Control", "only-if-cached"}, status: 200},
	}...))
}

func (g *gateway) pathRanges(t *testing.T) {
	file := "/ipfs/" + g.mixed["subdir"].cid.String() + "/ascii.txt"
	missing := "/ipfs/" + g.missing.cid.String()
	g.runAll(t, []check{
		{name: "one range", url: file, header: []string{"Range", "bytes=6-16"}, status: 206, body: ascii[6:17],
			want: map[string]string{"Content-Type": "~text/plain", "Content-Range": "bytes 6-16/31"}},
		{name: "the end", url: file, header: []string{"Range", "bytes=-3"}, status: 206, body: ascii[28:], want: map[string]string{"Content-Range": "bytes 28-30/31"}},
		{name: "more than the whole from the end", url: file, header: []string{"Range", "bytes=-300"}, status: 206, body: ascii, want: map[string]string{"Content-Range": "bytes 0-30/31"}},
		{name: "from a place on", url: file, header: []string{"Range", "bytes=20-"}, status: 206, body: ascii[20:], want: map[string]string{"Content-Range": "bytes 20-30/31"}},
		{name: "past the end", url: file, header: []string{"Range", "bytes=31-"}, status: 416, want: map[string]string{"Content-Range": "bytes */31"}},
		{name: "several", url: file, header: []string{"Range", "bytes=6-16,0-4"}, status: 206,
			want: map[string]string{"Content-Type": "~^multipart/byteranges; boundary="},
			has:  []string{"Content-Range: bytes 6-16/31", "Content-Range: bytes 0-4/31", "Content-Type: text/plain", ascii[6:17], ascii[:5]}},
		{name: "several of a block", url: file, header: []string{"Accept", "application/vnd.ipld.raw", "Range", "bytes=6-16,0-4"}, status: 206,
			want: map[string]string{"Content-Type": "~^multipart/byteranges; boundary="},
			has:  []string{"Content-Range: bytes 6-16/31", "Content-Range: bytes 0-4/31", "Content-Type: application/vnd.ipld.raw", ascii[6:17], ascii[:5]}},
		{name: "before a missing block", url: missing, header: []string{"Range", "bytes=100-199"}, status: 206, body: strings.Repeat("x", 100), want: map[string]string{"Content-Range": "bytes 100-199/768"}},
		{name: "after a missing block", url: missing, header: []string{"Range", "bytes=600-601"}, status: 206, body: "zz", want: map[string]string{"Content-Range": "bytes 600-601/768"}},
	})
}

func (g *gateway) pathURI(t *testing.T) {
	tricky, nested, slashed, percent := g.tricky.cid.String(), g.nested.cid.String(), g.slashed.cid.String(), g.percent.cid.String()
	plain := "ipfs://" + tricky + "/plain.txt"
	canonical := "Portugal%252C%2BEspa%C3%B1a%3DPeninsula%20Ib%C3%A9rica.txt"
	page := "ipns://" + g.keys["cache"].name + "/root2/root3/root4/index.html"
	g.runAll(t, []check{
		{name: "bare", url: "/ipfs/" + g.hello.cid.String(), status: 200, want: map[string]string{"Ipfs-Uri": "ipfs://" + g.hello.cid.String()}},
		{name: "folder", url: "/ipfs/" + nested + "/sub%20dir/", status: 200, want: map[string]string{"Ipfs-Uri": "ipfs://" + nested + "/sub%20dir/"}},
		{name: "delimiters within segments", url: "/ipfs/" + nested + "/sub%20dir/file%21%27%28%29%2A~.txt", status: 200, body: "nested\n",
			want: map[string]string{"Ipfs-Uri": "ipfs://" + nested + "/sub%20dir/file%21%27%28%29%2A~.txt"}},
		{name: "escaped slashes and dots", url: "/ipfs/" + tricky + "/a%2F..%2Fplain%2Etxt", status: 200, body: "plain\n", want: map[string]string{"Ipfs-Uri": plain}},
		{name: "a nested file, not the link with a slash", url: "/ipfs/" + slashed + "/a/b.txt", status: 200, body: "the nested file\n", want: map[string]string{"Ipfs-Uri": "ipfs://" + slashed + "/a/b.txt"}},
		{name: "the same by an escaped slash", url: "/ipfs/" + slashed + "/a%2Fb.txt", status: 200, body: "the nested file\n", want: map[string]string{"Ipfs-Uri": "ipfs://" + slashed + "/a/b.txt"}},
		{name: "without the query", url: "/ipfs/" + tricky + "/plain.txt?filename=download.txt&format=json", status: 200, want: map[string]string{"Ipfs-Uri": plain}},
		{name: "URI delimiters", url: "/ipfs/" + tricky + "/a%23b%3Fc.txt", status: 200, body: "delimiters\n",
			want: map[string]string{"Ipfs-Uri": "ipfs://" + tricky + "/a%23b%3Fc.txt", "X-Ipfs-Path": legacy("/ipfs/" + tricky + "/a#b?c.txt")}},
		{name: "beyond ASCII", url: "/ipfs/" + tricky + "/emoji%F0%9F%9A%80.txt", status: 200, body: "rocket\n",
			want: map[string]string{"Ipfs-Uri": "ipfs://" + tricky + "/emoji%F0%9F%9A%80.txt", "X-Ipfs-Path": ""}},
		{name: "of a redirect", url: "/ipfs/" + tricky, status: 301, want: map[string]string{"Location": "/ipfs/" + tricky + "/", "Ipfs-Uri": "ipfs://" + tricky}},
		{name: "canonical spelling", url: "/ipfs/" + percent + "/" + canonical, status: 200, want: map[string]string{"Ipfs-Uri": "ipfs://" + percent + "/" + canonical, "X-Ipfs-Path": ""}},
		{name: "raw delimiters", url: "/ipfs/" + percent + "/Portugal%252C+Espa%C3%B1a=Peninsula%20Ib%C3%A9rica.txt", status: 200, want: map[string]string{"Ipfs-Uri": "ipfs://" + percent + "/" + canonical}},
		{name: "lower-case hex", url: "/ipfs/" + percent + "/Portugal%252C%2bEspa%c3%b1a%3dPeninsula%20Ib%c3%a9rica%2etxt", status: 200, want: map[string]string{"Ipfs-Uri": "ipfs://" + percent + "/" + canonical}},
		{name: "CIDv0", url: "/ipfs/" + cid.NewCidV0(g.tricky.cid.Hash()).String() + "/plain.txt", status: 200, body: "plain\n", want: map[string]string{"Ipfs-Uri": plain}},
		{name: "a name's folder", url: "/ipns/" + g.keys["cache"].name + "/root2/root3/", status: 200, want: map[string]string{"Ipfs-Uri": "ipns://" + g.keys["cache"].name + "/root2/root3/"}},
		{name: "a name as a peer ID", url: "/ipns/" + g.keys["cache"].peer + "/root2/root3/root4/index.html", see: func(t *testing.T, a answer) {
			if loc := a.Header.Get("Location"); a.StatusCode > 399 || loc != "" && "ipns:/"+strings.TrimPrefix(loc, "/ipns") != page {
				t.Errorf("%s, Location %q, want none or %s", a.Status, loc, page)
			}
			if uri := a.Header.Get("Ipfs-Uri"); uri != "" && uri != page {
				t.Errorf("Ipfs-Uri %q, want none or %s", uri, page)
			}
		}},
	})
}

func (g *gateway) pathCORS(t *testing.T) {
	want := map[string]string{"Access-Control-Allow-Origin": "*"}
	has := map[string][]string{
		"Access-Control-Allow-Methods":  {"GET", "HEAD", "OPTIONS"},
		"Access-Control-Allow-Headers":  {"Content-Type", "Range", "User-Agent", "X-Requested-With"},
		"Access-Control-Expose-Headers": {"Content-Range", "Content-Length", "X-Ipfs-Roots", "X-Chunked-Output", "X-Stream-Output", "Ipfs-Uri"},
	}
	see := func(t *testing.T, a answer) {
		for key, values := range has {
			for _, v := range values {
				if !strings.Contains(a.Header.Get(key), v) {
					t.Errorf("%s: %q lacks %s", key, a.Header.Get(key), v)
				}
			}
		}
	}
	g.runAll(t, []check{
		{name: "GET", url: "/ipfs/bafkqabtimvwgy3yk/", want: want, see: see},
		{name: "OPTIONS", url: "/ipfs/bafkqabtimvwgy3yk/", method: http.MethodOptions, want: want, see: see},
	})
}
