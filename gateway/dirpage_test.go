package gateway

import (
	"context"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
)

var folders = map[string]string{
	"ą/file-ź.txt":                  "text",
	"ą/<b>&'\".txt":                 "odd",
	"ą/under/deep.txt":              "deep",
	"ą/a b?#%25.txt":                "odd too",
	"ą/javascript:alert(1)":         "x",
	"ą/" + strings.Repeat("n", 200): "long",
}

func TestFolderWithoutIndexIsListedAsReadersKnowIt(t *testing.T) {
	w := newWorld(t, nil)
	root := w.build(folders)
	name := w.publish("blog", root)
	file := resolve(t, w, root, "ą/file-ź.txt")
	folder := resolve(t, w, root, "ą")
	for at, base := range map[string]string{
		"http://127.0.0.1:8080/ipfs/" + root.String():      "",
		"http://" + root.String() + ".ipfs.localhost:8080": "//localhost:8080",
		"http://" + name.String() + ".ipns.localhost:8080": "//localhost:8080",
		"http://blog.localhost:8080":                       "//localhost:8080",
	} {
		r := w.get(at + "/%C4%85/")
		r.want(t, 200, "")
		_, path, _ := strings.Cut(strings.TrimPrefix(at, "http://"), "/")
		here := "/%C4%85/"
		if path != "" {
			here = "/" + path + here
		}
		for _, s := range []string{
			"<title>Index of /ip", ">Index of /ip", folder.String(),
			`<a href="` + here + `file-%C5%BA.txt">file-ź.txt</a>`,
			`<a href="` + here + `..">..</a>`,
			`<a class="ipfs-hash" translate="no" href="` + base + "/ipfs/" + file.String() + `?filename=file-%25C5%25BA.txt">`,
			`%3Cb%3E`, `a%20b%3F%23%2525.txt`, "4 B",
		} {
			if !strings.Contains(r.body, s) {
				t.Errorf("%s: %s is not on the page: %s", at, s, r.body[strings.Index(r.body, "<h1"):])
			}
		}
		for _, s := range []string{"<b>", `href="javascript`, "ZgotmplZ", "onclick"} {
			if strings.Contains(r.body, s) {
				t.Errorf("%s: %s is on the page", at, s)
			}
		}
		if top := w.get(at + "/"); top.StatusCode != 200 || strings.Contains(top.body, `">..</a>`) {
			t.Errorf("%s: the root is %d, or leads above itself", at, top.StatusCode)
		}
		etag := r.Header.Get("Etag")
		if !strings.HasPrefix(etag, `"DirIndex-`) || !strings.HasSuffix(etag, "_CID-"+folder.String()+`"`) {
			t.Errorf("%s: Etag %s", at, etag)
		}
		again := w.get(at+"/%C4%85/", "If-None-Match", etag)
		again.want(t, 304, "")
		again.wantHeader(t, "Etag", etag)
		again.wantHeader(t, "Content-Type", "")
		w.get(at+"/%C4%85/", "If-None-Match", `W/"`+folder.String()+`"`).want(t, 304, "")
		head := w.do(http.MethodHead, at+"/%C4%85/")
		head.want(t, 200, "")
		head.wantHeader(t, "Etag", etag)
		if head.body != "" {
			t.Errorf("%s: HEAD has a body", at)
		}
	}
	if cc := w.get("http://127.0.0.1:8080/ipfs/" + root.String() + "/").Header.Get("Cache-Control"); !strings.HasPrefix(cc, "public, max-age=604800") {
		t.Errorf("Cache-Control %q of an immutable folder", cc)
	}
}

func TestFolderOfManyEntriesIsListedUpToABound(t *testing.T) {
	entries := make([]merkle.Entry, maxEntries+7)
	for i := range entries {
		entries[i] = merkle.Entry{Name: fmt.Sprint(i), CID: cid.MustParse("bafkqaaa"), Size: 1}
	}
	p := newListing(entries, cid.MustParse("bafkqaaa"), "/", origin{}, "/ipfs/bafkqaaa")
	if len(p.Entries) != maxEntries || p.More != 7 || p.Total != len(entries) || p.Bytes != int64(len(entries)) {
		t.Errorf("%d lines, %d more of %d, %d bytes", len(p.Entries), p.More, p.Total, p.Bytes)
	}
}

func TestTheBlocksOfAListedFolderAreReadOnce(t *testing.T) {
	w, g := countedWorld(t)
	files := map[string]string{"index.html": "x"}
	for i := range 1300 { // enough for a folder of several blocks
		files["many/"+strings.Repeat("n", 200)+fmt.Sprint(i)] = "x"
	}
	w.publish("blog", w.build(files))
	for _, query := range []string{"", "?filename=a", "?x=%20"} {
		clear(g.asked)
		r := w.get("http://blog.localhost/many/"+query, "Cache-Control", "only-if-cached")
		r.want(t, 200, "")
		if n := strings.Count(r.body, "<tr>"); n != 1300+2 {
			t.Errorf("%d lines", n)
		}
		shards := 0
		for c, n := range g.asked {
			if c.Prefix().Codec == cid.DagProtobuf && n == 1 {
				shards++
			} else if n > 4 { // the folder itself is on the way, too
				t.Errorf("%s was read %d times", c, n)
			}
		}
		if shards < 10 {
			t.Errorf("%d shards were read once", shards)
		}
	}
}

func TestTheIndexPageOfALargeFolderCostsNoneOfItsOtherBlocks(t *testing.T) {
	w, g := countedWorld(t)
	files := map[string]string{"many/index.html": "<h1>many</h1>"}
	for i := range 1300 { // enough for a folder of several blocks
		files["many/"+strings.Repeat("n", 200)+fmt.Sprint(i)] = "x"
	}
	w.publish("blog", w.build(files))
	ask := map[string][]string{
		"":             nil,
		"?filename=a":  nil,
		"?download=1":  nil,
		"?x=%20":       nil,
		"?if-match":    {"If-Match", "*"},
		"?unmodified":  {"If-Unmodified-Since", "Fri, 01 Jan 2100 00:00:00 GMT"},
		"?only-cached": {"Cache-Control", "only-if-cached"},
		"?range":       {"Range", "bytes=0-3", "If-Match", "*"},
	}
	for query, header := range ask {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			clear(g.asked)
			r := w.do(method, "http://blog.localhost/many/"+query, header...)
			if r.StatusCode != 200 && r.StatusCode != 206 || method == http.MethodGet && !strings.HasPrefix("<h1>many</h1>", r.body) {
				t.Errorf("%s %s: %s %q", method, query, r.Status, r.body)
			}
			if len(g.asked) > 6 {
				t.Errorf("%s %s: %d blocks were read", method, query, len(g.asked))
			}
		}
	}
}

func TestNoNameInAFolderUpsetsItsPage(t *testing.T) {
	names := []string{"..", ".", "", "a/b", "../../x", "\u202egnp.exe", "a\nb", "\xff", "<script>", "\"onload=", "javascript:x", "//evil.example", "?q", "#f", "%2e%2e", "\\evil", strings.Repeat("w", 5000)}
	var entries []merkle.Entry
	for _, n := range names {
		entries = append(entries, merkle.Entry{Name: n, CID: cid.MustParse("bafkqaaa"), Size: -1})
	}
	var b strings.Builder
	must(t, pages.ExecuteTemplate(&b, "listing", newListing(entries, cid.MustParse("bafkqaaa"), "/\u202e<b>/", origin{}, "/ipfs/bafkqaaa/\u202e<b>")))
	if strings.Contains(b.String(), "\u202e") || !utf8.ValidString(b.String()) || strings.Contains(b.String(), "<script>") || strings.Contains(b.String(), "<b>") {
		t.Errorf("%s", b.String())
	}
	for _, m := range regexp.MustCompile(`<tr><td><a href="([^"]*)">`).FindAllStringSubmatch(b.String(), -1) {
		u, err := url.Parse(html.UnescapeString(m[1]))
		if err != nil || u.Host != "" || u.Scheme != "" || u.RawQuery != "" || u.Fragment != "" || !strings.HasPrefix(u.Path, "/") || strings.HasPrefix(u.Path, "//") {
			t.Errorf("%q leads away: %v", m[1], err)
		}
	}
}

func TestFolderWhoseBlocksAreAwayIs504AndNoListing(t *testing.T) {
	w, l := newLossyWorld(t, 0)
	root := w.build(folders)
	w.publish("blog", root)
	folder := resolve(t, w, root, "ą")
	l.happens = func(_ context.Context, c cid.Cid) error {
		if c.Equals(folder) {
			return &blockstore.BlockError{CID: c, Kind: blockstore.ErrUnavailable}
		}
		return nil
	}
	w.get("http://blog.localhost/%C4%85/").want(t, 504, "")
}

func resolve(t *testing.T, w *world, root cid.Cid, path string) cid.Cid {
	t.Helper()
	c, err := merkle.Resolve(t.Context(), w.store, root, path)
	must(t, err)
	return c
}
