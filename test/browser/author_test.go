package browser

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/holdfast-sites/holdfast/test/world"
)

// studio is an author's machine whose gateway knows the aliases, one host, and a browser.
type studio struct {
	t    *testing.T
	w    *world.World
	b    *chromium
	port string
	made int
}

func newStudio(t *testing.T) *studio {
	t.Helper()
	b := start(t)
	w := world.New(t)
	hosts := w.Hosts("author", "alice")
	gate := w.Gateway("author", hosts...)
	return &studio{t: t, w: w, b: b, port: port(t, gate.Gateway)}
}

// publish publishes files as the next release of a site.
func (s *studio) publish(alias string, files map[string]string) world.Published {
	s.t.Helper()
	s.made++
	bytes := make(map[string][]byte)
	for name, text := range files {
		bytes[name] = []byte(text)
	}
	return s.w.Publish("author", alias, s.w.Folder(fmt.Sprintf("%s-%d", alias, s.made), bytes), 1)
}

// at is an address under a label of localhost; no label is the gateway itself.
func (s *studio) at(label, path string) string {
	if label != "" {
		label += "."
	}
	return "http://" + label + "localhost:" + s.port + path
}

// value is what a script of the shown page comes to; a promise is waited for.
func (s *studio) value(js string) any {
	s.t.Helper()
	v, failed := s.b.script(js)
	if failed != "" {
		s.t.Fatalf("%s: %s", js, failed)
	}
	return v
}

// download fetches a URL under localhost into a file.
func (s *studio) download(from, name string) string {
	s.t.Helper()
	u, err := url.Parse(from)
	if err != nil {
		s.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, from, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.URL.Host, req.Host = "127.0.0.1:"+u.Port(), u.Host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %s %v", from, resp.Status, err)
	}
	return filepath.Join(s.w.Folder("downloads", map[string][]byte{name: body}), name)
}

// What an author publishes, as a browser on the same machine sees it. One machine and one browser
// serve all of it, since starting them is what takes time.
func TestABrowserOnTheAuthorsMachine(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	for name, promise := range map[string]func(*testing.T, *studio){
		"two sites see nothing of each other":           twoSites,
		"an app answers every address of its own":       app,
		"a video is played from where one seeks to":     video,
		"a service worker stays on its site":            serviceWorker,
		"a release shows when the page is reloaded":     release,
		"a folder is listed":                            folder,
		"the page about a site says who holds it":       about,
		"a site can't read what the node keeps besides": nosy,
	} {
		t.Run(name, func(t *testing.T) {
			outer, browser := s.t, s.b.t
			s.t, s.b.t = t, t
			defer func() { s.t, s.b.t = outer, browser }()
			promise(t, s)
		})
	}
}

func twoSites(t *testing.T, s *studio) {
	first := s.publish("first", map[string]string{"index.html": "<title>first</title>"})
	second := s.publish("second", map[string]string{"index.html": "<title>second</title>"})
	labels := []string{"first", "second", first.Name + ".ipns", second.Name + ".ipns"}
	for i, label := range labels {
		if p := s.b.open(s.at(label, "/")); p.Status != 200 || p.Title != []string{"first", "second"}[i%2] {
			t.Fatalf("%s shows %+v", label, p)
		}
		if v := s.value(`localStorage.length + "," + document.cookie`); v != "0," {
			t.Errorf("%s finds %q of others", label, v)
		}
		s.value("localStorage.setItem('of', `" + label + "`), document.cookie = 'of=" + label + "', document.cookie = 'wide=1; domain=localhost'")
	}
	for _, label := range labels {
		s.b.open(s.at(label, "/"))
		if v := s.value(`localStorage.getItem("of") + ";" + document.cookie`); v != label+";of="+label {
			t.Errorf("%s finds %q of its own", label, v)
		}
	}

	listed := s.b.open(s.at("", "/"))
	s.b.shoot("landing")
	if !strings.Contains(listed.Text, "first") || !strings.Contains(listed.Text, "1 of 1 copy proved") {
		t.Errorf("the landing page lists neither site: %q", listed.Text)
	}
	if p := s.b.follow("second"); p.URL != s.at("second", "/") {
		t.Errorf("the link leads to %s", p.URL)
	}
}

// app is a site of one page that draws all others.
func app(t *testing.T, s *studio) {
	page := `<!doctype html><title>app</title><main></main><script>
document.title = 'app ' + location.pathname + location.search
document.querySelector('main').innerHTML = '<a href="/inside">inside</a>'
document.querySelector('a').onclick = (e) => { e.preventDefault(); history.pushState(0, '', '/inside'); document.title = 'app ' + location.pathname }
</script>`
	for name, files := range map[string]map[string]string{
		"by a rule": {"index.html": page, "style.css": "main{color:red}", "_redirects": "/* /index.html 200\n"},
	} {
		s.publish("app", files)
		if p := s.b.open(s.at("app", "/deep/in/the/app?q=1")); p.Status != 200 || p.Title != "app /deep/in/the/app?q=1" || p.URL != s.at("app", "/deep/in/the/app?q=1") {
			t.Errorf("%s: a deep address shows %d %q at %s", name, p.Status, p.Title, p.URL)
		}
		s.value(`document.querySelector('a').click()`)
		if p := s.b.reload(); p.Status != 200 || p.Title != "app /inside" {
			t.Errorf("%s: reloaded inside, it shows %d %q", name, p.Status, p.Title)
		}
		if v := s.value(`fetch('/style.css').then((r) => r.text())`); v != "main{color:red}" {
			t.Errorf("%s: what is there is %q", name, v)
		}
	}
}

func serviceWorker(t *testing.T, s *studio) {
	s.publish("worker", map[string]string{
		"index.html": "<title>worker</title>",
		"sw.js":      `onfetch = (e) => { if (e.request.url.includes('caught')) e.respondWith(new Response('caught here')) }; onactivate = (e) => e.waitUntil(clients.claim())`,
	})
	s.publish("bystander", map[string]string{"index.html": "<title>bystander</title>", "404.html": "not here"})
	s.b.open(s.at("worker", "/"))
	s.value(`navigator.serviceWorker.register('/sw.js').then(() => navigator.serviceWorker.ready).then(() => navigator.serviceWorker.controller ||
		new Promise((done) => { navigator.serviceWorker.oncontrollerchange = done })).then(() => 0)`)
	if v := s.value(`fetch('/caught').then((r) => r.text())`); v != "caught here" {
		t.Fatalf("the worker does not work on its own site: %v", v)
	}
	for _, label := range []string{"bystander", ""} {
		s.b.open(s.at(label, "/"))
		if v := s.value(`navigator.serviceWorker.getRegistrations().then((r) => r.length + ',' + !!navigator.serviceWorker.controller)`); v != "0,false" {
			t.Errorf("%s has the worker of another site: %v", label, v)
		}
	}
	if p := s.b.open(s.at("bystander", "/caught")); p.Status != 404 || p.Text != "not here" {
		t.Errorf("a worker answers for another site: %d %q", p.Status, p.Text)
	}
	// By path a worker would be every site's.
	s.b.open("http://127.0.0.1:" + s.port + "/")
	if _, failed := s.b.script(`navigator.serviceWorker.register('/ipns/x/sw.js')`); failed == "" {
		t.Error("a service worker was registered where sites share an origin")
	}
}

func release(t *testing.T, s *studio) {
	s.publish("news", map[string]string{"index.html": "<title>old</title><link rel=stylesheet href=style.css>", "style.css": "body{--v:old}"})
	if p := s.b.open(s.at("news", "/")); p.Title != "old" {
		t.Fatalf("shows %+v", p)
	}
	s.publish("news", map[string]string{"index.html": "<title>new</title><link rel=stylesheet href=style.css>", "style.css": "body{--v:new}"})
	if p := s.b.reload(); p.Status != 200 || p.Title != "new" {
		t.Errorf("reloaded, it shows %d %q", p.Status, p.Title)
	}
	// What a page asks for may come from the browser's cache for the record's TTL; asked again, it is new.
	if v := s.value(`fetch('style.css', { cache: 'no-cache' }).then((r) => r.text())`); v != "body{--v:new}" {
		t.Errorf("the new release's style is %v", v)
	}
	// Who can't have that says so in _headers.
	for _, v := range []string{"one", "two"} {
		s.publish("paper", map[string]string{"index.html": "<title>" + v + "</title><link rel=stylesheet href=style.css>", "style.css": "body{--v:" + v + "}", "_headers": "/*.css\n  Cache-Control: no-cache\n"})
		if v == "one" {
			s.b.open(s.at("paper", "/"))
		} else {
			s.b.reload()
		}
		if got := s.value(`document.title + ' ' + getComputedStyle(document.body).getPropertyValue('--v')`); got != v+" "+v {
			t.Errorf("page and style are %v, want %s", got, v)
		}
	}
}

func folder(t *testing.T, s *studio) {
	files := map[string]string{"index.html": "<title>x</title>", "files/ź & co.txt": "odd", "files/under/a.txt": "deep"}
	for i := range 8 {
		files[fmt.Sprintf("files/a rather long name of a picture %d.jpeg", i)] = strings.Repeat("x", 1000*i)
	}
	s.publish("shelf", files)
	p := s.b.open(s.at("shelf", "/files/"))
	s.b.shoot("listing")
	if p.Status != 200 || !strings.HasPrefix(p.Title, "Index of /ipns/") || !strings.Contains(p.Text, "7.0 kB") {
		t.Errorf("a folder shows %d %q: %s", p.Status, p.Title, p.Text)
	}
	if p := s.b.follow("ź & co.txt"); p.Text != "odd" {
		t.Errorf("the link of a file shows %q at %s", p.Text, p.URL)
	}
	s.b.open(s.at("shelf", "/files/"))
	if p := s.b.follow("under"); p.URL != s.at("shelf", "/files/under/") {
		t.Errorf("the link of a folder leads to %s", p.URL)
	}
	if p := s.b.follow(".."); p.URL != s.at("shelf", "/files/") {
		t.Errorf("up is %s", p.URL)
	}
}

func about(t *testing.T, s *studio) {
	s.publish("known", map[string]string{"index.html": "<title>A known site</title>"})
	last := s.publish("known", map[string]string{"index.html": "<title>A known site, again</title>", "more.txt": strings.Repeat("more ", 3000)})
	s.b.open(s.at("", "/"))
	p := s.b.open(s.at("", "/-/site/"+last.Name))
	s.b.shoot("about")
	for _, want := range []string{"A known site, again", last.Root, "1 of 1 wanted copies proved", "Safe until", "alice", "Releases", "ipfs dag import"} {
		if !strings.Contains(p.Text, want) {
			t.Errorf("the page about a site does not say %q: %s", want, p.Text)
		}
	}
	// What the commands with curl download is what the others say of it.
	urls := regexp.MustCompile(`'(http://[^']+)'`).FindAllStringSubmatch(p.Text, -1)
	if len(urls) != 2 {
		t.Fatalf("the page has the URLs %q", urls)
	}
	var put struct{ Value string }
	s.w.Run(&put, "sceptic", "name", "put", s.download(urls[0][1], "site.ipns-record"), "--name", last.Name)
	if put.Value != "/ipfs/"+last.Root {
		t.Errorf("the record leads to %s", put.Value)
	}
	var imported struct{ Roots []string }
	s.w.Run(&imported, "sceptic", "import", s.download(urls[1][1], "site.car"))
	if len(imported.Roots) != 1 || imported.Roots[0] != last.Root {
		t.Errorf("imported: %+v", imported)
	}
	// The commands that need no gateway do what the page says, for somebody who has nothing yet.
	peer := regexp.MustCompile(`--peer (\S+)`).FindStringSubmatch(p.Text)
	if peer == nil {
		t.Fatalf("no holder's address on the page: %s", p.Text)
	}
	s.w.Run(nil, "reader", "get", "-o", s.w.Home("copy"), "--peer", peer[1], "ipns://"+last.Name)
	if _, err := os.Stat(filepath.Join(s.w.Home("copy"), "more.txt")); err != nil {
		t.Error(err)
	}
	var verified struct{ Releases int }
	if s.w.Run(&verified, "reader", "history", "--verify", "--peer", peer[1], last.Name); verified.Releases != 2 {
		t.Errorf("%d releases were verified, want 2", verified.Releases)
	}
	if p := s.b.follow("Open the site"); p.Title != "A known site, again" {
		t.Errorf("the site is not where the page says: %+v", p)
	}
	s.b.open(s.at("", "/-/site/"+last.Name))
	if p := s.b.follow("1"); p.Title != "A known site" {
		t.Errorf("the first release is not where the page says: %+v", p)
	}
}

// nosy is a site that wants to know which others the node keeps.
func nosy(t *testing.T, s *studio) {
	p := s.publish("nosy", map[string]string{"index.html": "<title>nosy</title>"})
	for _, from := range []string{s.at("nosy", "/"), "http://127.0.0.1:" + s.port + "/ipns/" + p.Name + "/"} {
		s.b.open(from)
		for _, at := range []string{s.at("", "/"), "http://127.0.0.1:" + s.port + "/", s.at("", "/-/site/"+p.Name)} {
			if v := s.value("fetch('" + at + "').then((r) => r.text(), (e) => e.name)"); v != "TypeError" {
				t.Errorf("%s reads %s: %v", from, at, v)
			}
			if v := s.value("new Promise((done) => { const f = document.createElement('iframe'); f.src = '" + at + "'; f.onload = () => { try { done(f.contentDocument ? f.contentDocument.body.innerText : '') } catch (e) { done('') } }; document.body.append(f) })"); v != "" {
				t.Errorf("%s shows %s in a frame and reads %v", from, at, v)
			}
		}
	}
}
