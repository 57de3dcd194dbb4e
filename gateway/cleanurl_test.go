package gateway

import (
	"strings"
	"testing"
)

// pretty is the site of https://github.com/slorber/trailing-slash-guide, and some more.
var pretty = map[string]string{
	"index.html": "home", "file.html": "file", "folder/index.html": "folder", "both.html": "both", "both/index.html": "both folder",
	"posts.html": "posts", "posts/one.html": "one", "bare/data.txt": "1", "v1.2.html": "version", "404.html": "lost",
}

func (w *world) pretty(extra map[string]string) string {
	w.t.Helper()
	files := map[string]string{}
	for _, m := range []map[string]string{pretty, extra} {
		for k, v := range m {
			files[k] = v
		}
	}
	n := w.publish("pretty", w.build(files))
	return "http://" + n.String() + ".ipns.localhost"
}

// wantAll checks answers given as "200 body" or "301 location".
func (w *world) wantAll(site string, want map[string]string) {
	w.t.Helper()
	for path, want := range want {
		r := w.get(site + path)
		got := r.body
		if loc := r.Header.Get("Location"); loc != "" {
			got = loc
			r.wantHeader(w.t, "Cache-Control", "no-cache")
		}
		if got = r.Status[:4] + got; got != want && !(strings.HasSuffix(want, " *") && got[:4] == want[:4]) {
			w.t.Errorf("%s: %.200q, want %q", path, got, want)
		}
	}
}

func TestPagesAreFoundWithoutTheirExtension(t *testing.T) {
	w := newWorld(t, nil)
	w.wantAll(w.pretty(nil), map[string]string{
		"/": "200 home", "/file": "200 file", "/file/": "301 /file", "/file/?a=%20b": "301 /file?a=%20b", "/file.html": "200 file",
		"/folder": "301 /folder/", "/folder/": "200 folder", "/folder/index.html": "200 folder",
		"/both": "301 /both/", "/both/": "200 both folder", "/both.html": "200 both",
		"/posts": "200 posts", "/posts/": "301 /posts", "/posts/one": "200 one", "/v1.2": "200 version",
		"/bare/": "200 *", "/file.htm": "404 lost", "/file//": "301 /file", "/file%2F": "301 /file", "/v1.2%2f": "301 /v1.2", "/%66ile/": "301 /file", "//file/": "404 lost", "/.html": "404 lost", "/no": "404 lost",
	})
}

func TestCanonicalURLsAreRedirectedToWhereTheSiteAsks(t *testing.T) {
	w := newWorld(t, nil)
	w.wantAll(w.pretty(map[string]string{"_options": "clean-urls: canonical\n", "_redirects": "/re /file.html 200", "a%b.html": "odd"}), map[string]string{
		"/file": "200 file", "/file.html": "301 /file", "/file.html?x=1": "301 /file?x=1", "/index.html": "301 /", "/folder/index.html": "301 /folder/",
		"/both.html": "200 both", "/posts.html": "301 /posts", "/404.html": "200 lost", "/re": "200 file", "/a%25b.html": "301 /a%25b", "/nothing.html": "404 lost",
	})
}

func TestCleanURLsAndListingsCanBeTurnedOff(t *testing.T) {
	w := newWorld(t, nil)
	site := w.pretty(map[string]string{"_options": "# mine\nclean-urls: off\nlisting: off\n"})
	w.wantAll(site, map[string]string{"/file": "404 lost", "/file.html": "200 file", "/bare/": "404 lost", "/bare": "301 /bare/", "/posts/": "404 lost", "/posts/one.html": "200 one", "/bare/data.txt": "200 1", "/": "200 home"})
	root := w.sites.list[0].Root.String()
	w.get("http://127.0.0.1/ipfs/"+root+"/bare/").want(t, 200, "") // whoever has the CID can list it anyway
}

func TestApplicationThatKnowsItsPathsAnswersForPagesOnly(t *testing.T) {
	w := newWorld(t, nil)
	w.wantAll(w.pretty(map[string]string{"200.html": "app", "_redirects": "/old /file 302\n/gone /404.html 410"}), map[string]string{
		"/some/where": "200 app", "/some/where/": "200 app", "/x.html": "200 app", "/x.js": "404 lost", "/x.png": "404 lost",
		"/old": "302 /file", "/gone": "410 lost", "/file": "200 file",
	})
	root := w.sites.list[0].Root.String()
	w.get("http://127.0.0.1/ipfs/"+root+"/some/where").want(t, 404, "lost")
}

func TestOptionsAreToldByLine(t *testing.T) {
	for text, want := range map[string]string{
		"listing: maybe\n": "line 1:", "#\n\nclean-urls\n": "line 3:", "x: y": "line 1:", "#" + strings.Repeat("x", 4<<10): "larger",
	} {
		if _, err := ParseOptions([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v", text, err)
		}
	}
	o, err := ParseOptions([]byte("  listing :off\r\nunknown: 1\nclean-urls: canonical"))
	if err == nil || !o.NoListing || o.CleanURLs != CleanCanonical {
		t.Errorf("%+v, %v: the lines that are right must count", o, err)
	}
}

func FuzzCleanPaths(f *testing.F) {
	for _, s := range []string{"/a", "/a/", "/a.html", "/x/index.html", "//a", "/a/../b", "/.html", "/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if page, ok := cleanPage(path); ok && (!strings.HasSuffix(page, ".html") || strings.TrimRight(path, "/")+".html" != page) {
			t.Fatalf("%q is %q", path, page)
		}
		if clean, ok := cleanPath(path); ok && !strings.HasPrefix(path, clean) {
			t.Fatalf("%q is at %q", path, clean)
		}
		_, _ = ParseOptions([]byte(path))
	})
}
