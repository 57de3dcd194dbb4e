package browser

import (
	"strings"
	"testing"

	"github.com/holdfast-sites/holdfast/test/world"
)

// An author writes, with a preview open in the browser beside it.
func TestABrowserShowsEachChangeOfAPreviewByItself(t *testing.T) {
	t.Parallel()
	b := start(t)
	w := world.New(t)
	save := func(name, text string) string {
		return w.Folder("draft", map[string][]byte{name: []byte(text)})
	}
	page := func(title string) string {
		return "<!doctype html><title>" + title + "</title><link rel=stylesheet href=/style.css>"
	}
	save("index.html", page("one"))
	dir := save("style.css", "body { --look: plain }")
	at := w.Preview(dir)
	if p := b.open(at); p.Status != 200 || p.Title != "one" || len(p.Complaints) > 0 {
		t.Fatalf("shows %+v", p)
	}
	save("index.html", page("two"))
	b.until(`document.title === 'two'`)
	save("style.css", "body { --look: fine }")
	b.until(`getComputedStyle(document.body).getPropertyValue('--look') === 'fine'`)

	// What is not there yet, and rules with a mistake, are shown as readers would see them until they are mended.
	if p := b.open(at + "new"); p.Status != 404 || len(p.Complaints) > 0 {
		t.Errorf("what isn't written yet shows %d, %q", p.Status, p.Complaints)
	}
	save("new.html", page("written"))
	b.until(`document.title === 'written'`)
	if _, failed := b.script(`window.before = true`); failed != "" {
		t.Fatal(failed)
	}
	save("_redirects", "# moved\n/old /new Country=de\n/older /new 301!\n")
	b.until(`!window.before`)
	p := b.open(at + "old")
	b.shoot("preview-rules")
	for _, want := range []string{"line 2: \"Country=de\" is a condition", "\ncould not parse _redirects: line 3: "} {
		if p.Status != 500 || !strings.Contains(p.Text, want) {
			t.Errorf("rules with mistakes show %d without %q: %s", p.Status, want, p.Text)
		}
	}
	save("_redirects", "/old /new\n")
	if p := b.until(`document.title === 'written'`); p.URL != at+"new" {
		t.Errorf("once the rule is mended, %s is shown", p.URL)
	}
}
