package gateway

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/deny"
)

// denying is a gateway with a denylist that write writes anew.
func denying(t *testing.T, change func(*Config)) (w *world, write func(lines ...string)) {
	dir := t.TempDir()
	lists, err := deny.Open(deny.Config{Dir: dir})
	must(t, err)
	w = newWorld(t, func(c *Config) {
		c.Denied = lists
		if change != nil {
			change(c)
		}
	})
	return w, func(lines ...string) {
		t.Helper()
		must(t, os.WriteFile(filepath.Join(dir, "test.deny"), []byte(strings.Join(lines, "\n")+"\n"), 0o600))
		_, err := lists.Reload()
		must(t, err)
	}
}

func TestWhatIsDeniedIsServedInNoForm(t *testing.T) {
	w, write := denying(t, nil)
	root := w.build(blog)
	name := w.publish("blog", root).String()
	style, err := merkle.Resolve(t.Context(), w.store, root, "style.css")
	must(t, err)
	base := "http://127.0.0.1/ipfs/" + root.String()
	// whole is every way to get a file, or something that holds it.
	whole := []string{
		"http://blog.localhost/style.css", "http://" + name + ".ipns.localhost/style.css", base + "/style.css", base + "/style.css?format=raw",
		base + "/style.css?format=car", "http://127.0.0.1/ipns/" + name + "/style.css", base + "?format=car", base + "?format=tar", "http://127.0.0.1/ipns/" + name + "?format=tar",
	}
	served := func(url string) bool {
		r, err := w.try("GET", url)
		return err == nil && r.StatusCode == 200
	}
	all := func(want bool, why string, urls ...string) {
		t.Helper()
		for _, url := range urls {
			if served(url) != want {
				t.Errorf("%s: %s served: %v", why, url, !want)
			}
		}
	}
	for range 2 { // also what may have been kept ready
		all(true, "nothing is denied", whole...)
	}
	for _, rule := range []string{
		"/ipfs/" + style.String(), "/ipfs/" + cid.NewCidV1(cid.DagProtobuf, style.Hash()).String(),
		"/ipfs/" + root.String() + "/style.css", "/ipfs/" + root.String() + "/st*", "/ipfs/" + root.String() + "/*",
	} {
		write(rule)
		all(false, rule, whole...)
	}
	write("/ipfs/" + style.String() + " gateway_status:451 reason:court-order")
	r := w.get(base + "/style.css")
	r.want(t, 451, "")
	if !strings.Contains(r.body, "court-order") {
		t.Errorf("the reason is not told: %s", r.body)
	}
	all(false, "by its own CID", "http://127.0.0.1/ipfs/"+style.String(), "http://127.0.0.1/ipfs/"+style.String()+"?format=raw")
	all(true, "what isn't denied", "http://blog.localhost/", base+"/", base+"/big.bin", base+"?format=car&dag-scope=block")
	write("/ipfs/"+root.String()+"/*", "!/ipfs/"+root.String()+"/style.css")
	all(true, "an exception", base+"/style.css")
	all(false, "all but an exception", base+"/big.bin", "http://blog.localhost/", base+"?format=car")
	write("/ipns/" + name)
	all(false, "the name with all below it", "http://blog.localhost/", "http://blog.localhost/big.bin", "http://"+name+".ipns.localhost/style.css", "http://127.0.0.1/ipns/"+name+"/style.css")
	all(true, "the same without the name", base+"/style.css")
	write()
	all(true, "nothing is denied any more", whole...)
}

func TestWhatIsDeniedByItsPathIsServedByNoWayAround(t *testing.T) {
	w, write := denying(t, nil)
	files := map[string]string{"_redirects": "/other /secret.html 200\n/gone /secret.html 404\n/docs2/* /docs/:splat 200\n"}
	for name, text := range blog {
		files[name] = text
	}
	files["secret.html"], files["404.html"], files["docs/index.html"] = "SECRET", "SECRET", "SECRET"
	root := w.build(files)
	name := w.publish("blog", root).String()
	byName, byRoot := "http://127.0.0.1/ipns/"+name, "http://127.0.0.1/ipfs/"+root.String()
	own, ownRoot := "http://blog.localhost", "http://"+root.String()+".ipfs.localhost"
	const car = "application/vnd.ipld.car"
	ways := [][]string{}
	for _, at := range []string{byName, byRoot, own, ownRoot} {
		ways = append(ways, [][]string{
			{at + "/secret.html"}, {at + "//secret.html"}, {at + "/docs//../secret.html"}, {at + "/secret%2Ehtml"}, {at + "/secret.html/"},
			{at + "/secret.html", "Accept", "application/json"}, {at + "/secret.html", "If-Unmodified-Since", "Thu, 01 Jan 2099 00:00:00 GMT"},
			{at + "/docs/"}, {at + "/docs/", "If-Match", "*"}, {at + "/docs//"}, {at + "/docs/index.html"},
			{at + "/nothing/here"}, {at + "/404.html"},
			{at + "/secret.html", "Range", "bytes=0-2,4-5"}, {at + "/secret.html", "Accept-Encoding", "gzip"},
			{at + "?format=car"}, {at + "/?format=tar"}, {at + "/", "Accept", car}, {at + "/", "Accept", "application/vnd.ipld.CAR"},
			{at + "/", "Accept", "text/html", "Accept", car}, {at + "/", "Accept", "text/html, " + car + "; dups=y"},
			{at + "/", "Accept", "application/x-tar; q=0.1"}, {at + "/?format=car&dag-scope=all&dag-scope=block"},
			{at + "/docs/?format=tar"}, {at + "/secret.html?format=raw"}, {at + "//secret.html?format=raw"},
		}...)
	}
	for _, at := range []string{own, ownRoot} {
		ways = append(ways, [][]string{{at + "/secret"}, {at + "/other"}, {at + "/gone"}, {at + "/docs2/"}, {at + "/docs2/index.html"}, {at + "/other", "Accept", "application/json"}}...)
	}
	shown := func(way []string) bool {
		r, err := w.try(http.MethodGet, way[0], way[1:]...)
		return err == nil && strings.Contains(r.body, "SECRET")
	}
	open := 0
	for _, way := range ways {
		if shown(way) {
			open++
		}
	}
	if open < len(ways)/2 {
		t.Fatalf("%d of %d ways lead to what isn't denied yet", open, len(ways))
	}
	for at, prefixes := range map[string][]string{"/ipns/" + name: {byName, own}, "/ipfs/" + root.String(): {byName, byRoot, own, ownRoot}} {
		write(at+"/secret.html", at+"/docs/index.html", at+"/404.html")
		for _, way := range ways {
			if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(way[0], p) }) && shown(way) {
				t.Errorf("%s is denied, and shown by %q", at, way)
			}
		}
	}
}

func TestADeniedBlockIsConfirmedToNobody(t *testing.T) {
	w, write := denying(t, nil)
	root := w.build(blog)
	file, err := merkle.Resolve(t.Context(), w.store, root, "plain/file.txt")
	must(t, err)
	url := "http://127.0.0.1/ipfs/" + root.String() + "/plain/file.txt"
	asked := func(want bool) {
		t.Helper()
		for _, header := range [][]string{
			{}, {"If-None-Match", `"` + file.String() + `"`}, {"If-None-Match", "*"}, {"If-None-Match", `"` + file.String() + `.raw"`, "Accept", "application/vnd.ipld.raw"},
			{"If-None-Match", "*", "Accept", "application/vnd.ipld.car"}, {"Cache-Control", "only-if-cached"}, {"If-Match", "*"}, {"If-None-Match", `W/"` + file.String() + `.x-tar"`, "Accept", "application/x-tar"},
		} {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				r, err := w.try(method, url, header...)
				if err != nil || (r.StatusCode == http.StatusOK || r.StatusCode == http.StatusNotModified) != want {
					t.Errorf("%s %q: %v, %v", method, header, r.StatusCode, err)
				}
			}
		}
	}
	asked(true)
	write("/ipfs/" + file.String())
	asked(false)
}

func TestWhatWasKeptIsNotServedOnceItIsDenied(t *testing.T) {
	w, write := denying(t, nil)
	text := strings.Repeat("all work and no play\n", 100_000)
	root := w.build(map[string]string{"book.txt": text, "docs/page.html": "page", "big.bin": strings.Repeat("0123456789abcdef", 300_000)})
	base := "http://127.0.0.1/ipfs/" + root.String()
	leafOf := func(name string) cid.Cid {
		file, err := merkle.Resolve(t.Context(), w.store, root, name)
		must(t, err)
		b, err := w.store.Get(t.Context(), file)
		must(t, err)
		node, err := merkledag.DecodeProtobuf(b.RawData())
		must(t, err)
		return node.Links()[1].Cid
	}
	book, leaf := leafOf("book.txt"), leafOf("big.bin")
	docs, err := merkle.Resolve(t.Context(), w.store, root, "docs")
	must(t, err)
	for range 2 {
		w.get(base+"/book.txt", "Accept-Encoding", "gzip").wantHeader(t, "Content-Encoding", "gzip")
		w.get(base+"/big.bin").want(t, 200, "")
		w.get(base+"/docs/page.html").want(t, 200, "page")
	}
	write("/ipfs/"+book.String(), "/ipfs/"+leaf.String(), "/ipfs/"+docs.String())
	c := w.gateway().content
	w.get("http://127.0.0.1/").want(t, 200, "") // whoever comes first has all forgotten
	// A request that was under way keeps what it has read meanwhile.
	late, err := w.store.Get(t.Context(), leaf)
	must(t, err)
	c.leaves.kept.Set(leaf, late)
	if r, err := w.try(http.MethodGet, base+"/book.txt", "Accept-Encoding", "gzip"); err == nil && r.StatusCode == 200 {
		t.Error("a text that is kept compressed")
	}
	if r, err := w.try(http.MethodGet, base+"/big.bin"); err == nil && r.StatusCode == 200 {
		t.Error("a block that is kept")
	}
	w.get(base+"/docs/page.html").want(t, 410, "")
}

func TestTheIndexPageOfADeniedFolderIsServedToNoOddRequest(t *testing.T) {
	w, write := denying(t, nil)
	root := w.build(map[string]string{"index.html": "home", "sub/index.html": "sub"})
	w.publish("blog", root)
	sub, err := merkle.Resolve(t.Context(), w.store, root, "sub")
	must(t, err)
	ask := func(want int) {
		t.Helper()
		w.get("http://blog.localhost/sub/?filename=a").want(t, want, "")
		w.get("http://blog.localhost/sub/", "If-Match", "*").want(t, want, "")
		w.do(http.MethodHead, "http://blog.localhost/sub/?x=%20").want(t, want, "")
	}
	ask(200)
	write("/ipfs/" + sub.String())
	ask(410)
}

func TestThereIsNoPageAboutADeniedSite(t *testing.T) {
	w, write := denying(t, nil)
	page := "http://localhost/-/site/" + w.publish("blog", w.build(blog)).String()
	w.get(page).want(t, 200, "")
	write("/ipns/" + strings.TrimPrefix(page, "http://localhost/-/site/"))
	w.get(page).want(t, 410, "")
}

func TestADeniedDomainAndTheNameBehindItAreNotServed(t *testing.T) {
	links := &naming.DNSLink{Static: map[string]string{}}
	w, write := denying(t, func(c *Config) { c.DNSLinks = links })
	name := w.publish("blog", w.build(blog)).String()
	links.Static["site.example"], links.Static["other.example"] = "/ipns/"+name, "/ipns/"+name
	write("/ipns/site.example/*")
	w.get("http://site.example/").want(t, 410, "")
	w.get("http://other.example/").want(t, 200, "")
	links.Static["below.example"] = "/ipns/" + name + "/docs"
	write("/ipns/"+name+"/style.css", "/ipns/"+name+"/docs/index.html")
	for range 2 {
		w.get("http://other.example/style.css").want(t, 410, "")
		w.get("http://other.example/").want(t, 200, "")
		w.get("http://below.example/").want(t, 410, "")
		w.get("http://below.example/404.html").want(t, 200, "")
		w.get("http://127.0.0.1/ipns/below.example?format=tar").want(t, 410, "")
	}
	write("/ipns/" + name)
	w.get("http://other.example/").want(t, 410, "")
}

func TestADeniedPathIsNotServedUnderAnotherThatLeadsThere(t *testing.T) {
	p := &past{}
	w, write := denying(t, func(c *Config) { c.Earlier = p })
	old := w.build(map[string]string{"index.html": "old", "old.js": "old script"})
	p.set(old, time.Now().Add(day))
	root := w.build(map[string]string{
		"index.html": "denied", "page.html": "denied", "d/index.html": "denied", "200.html": "denied", "sub/404.html": "denied", "a.js": strings.Repeat("hello", 1000), "a.js.br": "denied",
		"404.html": "lost", "_redirects": "/x /page.html 200\n/x/* /page.html 200\n/y /d/ 200\n/z /page.html 404\n",
	})
	name := w.publish("blog", root).String()
	origins := []string{"http://blog.localhost", "http://" + name + ".ipns.localhost", "http://127.0.0.1/ipns/" + name, "http://" + root.String() + ".ipfs.localhost", "http://127.0.0.1/ipfs/" + root.String()}
	ways := map[string][]string{
		"/index.html": {"/", "/index", "/index.html"}, "/page.html": {"/page", "/page.html", "/page.html/", "/page/", "/x", "/x/1", "/z"}, "/d/index.html": {"/d/", "/y/", "/d/index"},
		"/200.html": {"/nothing", "/200"}, "/sub/404.html": {"/sub/nothing.js", "/sub/404"}, "/a.js.br": {"/a.js", "/a.js.br"}, "/old.js": {"/old.js"},
	}
	for _, at := range []struct {
		rule    string
		origins []string
	}{{"/ipns/" + name, origins[:3]}, {"/ipfs/" + root.String(), origins}} {
		for denied, paths := range ways {
			write()
			for _, path := range paths { // once, so that it could be ready
				w.get(at.origins[0]+path, "Accept-Encoding", "br", "Sec-Fetch-Dest", "empty")
			}
			write(at.rule + denied)
			for _, site := range at.origins {
				for _, path := range paths {
					r := w.get(site+path, "Accept-Encoding", "br", "Sec-Fetch-Dest", "empty")
					if strings.Contains(r.body, "denied") && r.StatusCode != 410 || r.body == "old script" {
						t.Errorf("%s%s is denied: %s%s is %d %.40q", at.rule[:6], denied, site, path, r.StatusCode, r.body)
					}
				}
			}
		}
	}
	write("/ipfs/" + old.String() + "/old.js")
	w.get("http://blog.localhost/old.js").want(t, 404, "lost")
	write("/ipns/" + name + "/d/i*")
	w.get("http://blog.localhost/d/").want(t, 410, "")
	write("/ipns/" + name + "/e/index.html")
	w.get("http://blog.localhost/d/").want(t, 200, "denied") // nothing else is
}

// TestPeersAreDeniedByPathsToo as far as they say a path: whoever asks for a block by its CID says none.
func TestPeersAreDeniedByPathsToo(t *testing.T) {
	var lists *deny.Lists
	w, write := denying(t, func(c *Config) { lists = c.Denied })
	root := w.build(map[string]string{"index.html": "x", "docs/a.html": "a", "docs/b.html": "b"})
	cidOf := func(path string) string {
		c, err := merkle.Resolve(t.Context(), w.store, root, path)
		must(t, err)
		return "/ipfs/" + c.String()
	}
	peers := NewTrustless(w.store, lists, nil)
	at := "/ipfs/" + root.String()
	status := func(url string) int {
		out := httptest.NewRecorder()
		func() {
			defer func() { _ = recover() }() // a CAR that is cut
			peers.ServeHTTP(out, httptest.NewRequest("GET", "http://peer"+url, nil))
		}()
		return out.Code
	}
	for _, c := range []struct {
		rule   string
		status map[string]int
	}{
		{"# nothing", map[string]int{at + "?format=car": 200, at + "/docs/a.html?format=raw": 406, at + "/docs/a.html?format=car": 200}},
		{at + "/docs/a.html", map[string]int{
			at + "/docs/a.html?format=raw": 410, at + "/docs/a.html?format=car": 410, at + "/docs?format=car": 410, at + "?format=car": 410,
			at + "/docs//a.html?format=car&dag-scope=block": 410, at + "/docs/%61.html?format=raw": 410,
			at + "/docs/b.html?format=car": 200, at + "?format=car&dag-scope=block": 200, at + "?format=car&dag-scope=entity": 200, at + "?format=raw": 200, at + "/docs?format=car&dag-scope=block": 200,
			cidOf("docs/a.html") + "?format=raw": 200, cidOf("docs") + "?format=car": 200, // what docs/operations.md says of them
		}},
		{at + "/docs/*", map[string]int{at + "/docs?format=raw": 410, at + "?format=car": 410, at + "/index.html?format=car": 200, cidOf("docs") + "?format=raw": 200}},
		{at + "/*", map[string]int{at + "?format=raw": 410, at + "?format=car": 410, at + "/index.html?format=car": 410, cidOf("docs") + "?format=car": 200}},
		{cidOf("docs/a.html"), map[string]int{cidOf("docs/a.html") + "?format=raw": 410, at + "/docs/a.html?format=car": 410, at + "/docs/b.html?format=car": 200}},
		{at + "\n!" + at + "/docs/b.html", map[string]int{at + "?format=raw": 410, at + "/docs/b.html?format=car": 200, at + "/docs/a.html?format=car": 410}},
	} {
		write(c.rule)
		for url, want := range c.status {
			if got := status(url); got != want {
				t.Errorf("%s: %s is %d, want %d", c.rule, url, got, want)
			}
		}
	}
}
