package browser

import (
	"io/fs"
	"net/url"
	"strings"
	"testing"

	"github.com/holdfast-sites/holdfast/examples"
	"github.com/holdfast-sites/holdfast/test/world"
)

func sample(t *testing.T, w *world.World) string {
	t.Helper()
	tree, err := fs.Sub(examples.Sites, "site")
	if err != nil {
		t.Fatal(err)
	}
	return w.Copy("sample", tree)
}

func port(t *testing.T, gateway string) string {
	t.Helper()
	u, err := url.Parse(gateway)
	if err != nil {
		t.Fatal(err)
	}
	return u.Port()
}

func TestABrowserReadsASiteWhoseAuthorIsGone(t *testing.T) {
	t.Parallel()
	b := start(t)
	w := world.New(t)
	hosts := w.Hosts("author", "alice", "bob")
	p := w.Publish("author", "kelp", sample(t, w), len(hosts))
	w.Forget("author")
	gate := w.Gateway("gate", hosts...)
	site := "http://" + p.Name + ".ipns.localhost:" + port(t, gate.Gateway)

	is := func(got page, path, title string) {
		t.Helper()
		if got.URL != site+path || got.Title != title || got.Status != 200 {
			t.Errorf("shows %s, %q with status %d; want %s, %q", got.URL, got.Title, got.Status, site+path, title)
		}
	}
	is(b.open(site+"/"), "/", "Kelp")
	b.shoot("site")
	if v, failed := b.script(`document.images[0].naturalWidth > 0 && getComputedStyle(document.body).maxWidth`); v == false || v == "none" {
		t.Errorf("the page's picture or style is not there: %v %s", v, failed)
	}
	is(b.follow("Notes"), "/notes/", "Notes · Kelp")
	is(b.follow("Tides & 100%"), "/notes/tides%20%26%20100%25.html", "Tides · Kelp")
	b.shoot("odd-name")
	is(b.follow("Back"), "/notes/", "Notes · Kelp")
	is(b.follow("Back"), "/", "Kelp")
	is(b.follow("An address that moved"), "/about.html", "About · Kelp")
	is(b.open(site), "/", "Kelp")

	missing := b.follow("A page that is not there")
	if missing.URL != site+"/no/such/page" || missing.Status != 404 || missing.Title != "Not here · Kelp" || !strings.Contains(missing.Text, "The tide took it") {
		t.Errorf("a missing page is %+v, want the site's own 404", missing)
	}
	b.shoot("site-404")

	// By path: on a host that has subdomains the site's own origin answers.
	is(b.open("http://localhost:"+port(t, gate.Gateway)+"/ipns/"+p.Name+"/notes/"), "/notes/", "Notes · Kelp")
	is(b.open("http://localhost:"+port(t, gate.Gateway)+"/ipns/"+p.Name), "/", "Kelp")

	b.open("http://localhost:" + port(t, gate.Gateway) + "/")
	b.shoot("landing-empty")
	is(b.fill("#address", "ipns://"+p.Name+"/about.html"), "/about.html", "About · Kelp")
}

// spy tells, in its page's title, what a script of the site may do.
const spy = `<!doctype html><title>no script ran</title><h1>spy</h1><script>
let seen
try { localStorage.setItem('mark', location.host); seen = 'wrote' } catch (e) { seen = e.name }
document.title = seen
</script>`

func TestASiteThatSharesAnOriginCanKeepNothingThere(t *testing.T) {
	t.Parallel()
	b := start(t)
	w := world.New(t)
	hosts := w.Hosts("author", "alice")
	p := w.Publish("author", "spy", w.Folder("spy", map[string][]byte{"index.html": []byte(spy)}), 1)
	gate := w.Gateway("gate", hosts...)

	own := b.open("http://" + p.Name + ".ipns.localhost:" + port(t, gate.Gateway) + "/")
	if own.Title != "wrote" {
		t.Fatalf("on an origin of its own the script says %q, want that it wrote", own.Title)
	}
	for _, path := range []string{"/ipns/" + p.Name + "/", "/ipfs/" + p.Root + "/"} {
		shared := b.open("http://127.0.0.1:" + port(t, gate.Gateway) + path)
		if shared.Status != 200 || shared.Title != "SecurityError" || !strings.Contains(shared.Text, "spy") {
			t.Errorf("%s shows %q with status %d; want the page, its script kept from localStorage", path, shared.Title, shared.Status)
		}
		if v, failed := b.script(`window.origin`); v != "null" {
			t.Errorf("%s has the origin %v %s, want one of its own", path, v, failed)
		}
		if v, _ := b.script(`document.cookie`); v != nil && v != "" {
			t.Errorf("%s reads cookies: %v", path, v)
		}
	}
}

func TestABrowserIsToldWhichStepFailed(t *testing.T) {
	t.Parallel()
	b := start(t)
	w := world.New(t)
	hosts := w.Hosts("author", "alice")
	p := w.Publish("author", "kelp", sample(t, w), 1)
	w.Folder("gate", map[string][]byte{"config.toml": []byte("[gateway]\nretrieval_timeout = \"3s\"\n")})
	gate := w.Gateway("gate", hosts...)
	at := "http://" + p.Name + ".ipns.localhost:" + port(t, gate.Gateway)
	if got := b.open(at + "/"); got.Status != 200 {
		t.Fatalf("%+v", got)
	}
	hosts[0].Kill()

	// What was read stays; what was not can't be had.
	if got := b.open(at + "/"); got.Status != 200 || got.Title != "Kelp" {
		t.Errorf("the page that was read is %d %q once its host is gone", got.Status, got.Title)
	}
	got := b.open(at + "/notes/")
	b.shoot("504")
	if got.Status != 504 || !strings.Contains(got.Text, p.Root) || !strings.Contains(got.Text, p.Name) {
		t.Errorf("a page whose host is gone is %d, want 504 with name and root: %s", got.Status, got.Text)
	}

	unknown := b.open("http://localhost:" + port(t, gate.Gateway) + "/nothing")
	b.shoot("404")
	if unknown.Status != 404 {
		t.Errorf("status %d, want 404", unknown.Status)
	}
	w.Run(nil, "gate", "deny", "add", "/ipns/"+p.Name+"/about.html", "--reason", "court-order")
	for tries := 0; ; tries++ { // a running node looks for changes of its lists every second or two
		if got := b.open(at + "/about.html"); got.Status == 410 || tries == 1000 {
			if got.Status != 410 || !strings.Contains(got.Text, "court-order") {
				t.Errorf("a denied page shows %d: %s", got.Status, got.Text)
			}
			b.shoot("410")
			break
		}
	}
	about := b.open("http://localhost:" + port(t, gate.Gateway) + "/-/site/" + p.Name)
	if about.Status != 200 || about.Title != "Kelp" || !strings.Contains(about.Text, p.Root) || !strings.Contains(about.Text, "Verify it yourself") {
		t.Errorf("the page about a site whose host is gone is %d %q: %s", about.Status, about.Title, about.Text)
	}
}
