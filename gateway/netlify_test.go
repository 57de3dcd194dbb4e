package gateway

import (
	"os"
	"strings"
	"testing"
)

// TestASiteMadeForNetlifyBehavesAsTheDocsSay runs the table of docs/operations.md.
func TestASiteMadeForNetlifyBehavesAsTheDocsSay(t *testing.T) {
	text, err := os.ReadFile("../docs/operations.md")
	must(t, err)
	_, section, ok := strings.Cut(string(text), "\n### A site made for Netlify\n")
	if !ok {
		t.Fatal("the section is gone")
	}
	_, rows, _ := strings.Cut(section, "| request | Netlify | here |\n|---|---|---|\n")
	rows, _, _ = strings.Cut(rows, "\n\n")

	files := map[string]string{
		"_redirects": "/old /about\n/temp /about 302\n/news/:y/:slug /blog/:slug?year=:y\n/ext/* https://example.org/:splat 302\n/app/* /app.html 200\n/store /closed 404\n/about.html /elsewhere\n/us /about 200\n/shop /blog/ 200\n/en/* /en/404.html 404\n",
		"_headers":   "/*\n  X-Frame-Options: DENY\n/assets/*\n  Cache-Control: public, max-age=31536000, immutable\n",
	}
	for _, name := range []string{"index.html", "about.html", "app.html", "closed.html", "404.html", "docs.html", "docs/setup.html", "blog/index.html", "both.html", "both/index.html", "assets/app.1a2b.js"} {
		files[name] = name // each file says which it is
	}
	w := newWorld(t, nil)
	w.publish("netlify", w.build(files))
	n := 0
	for row := range strings.SplitSeq(rows, "\n") {
		cells := strings.Split(row, " | ")
		if len(cells) != 3 {
			t.Fatalf("%q", row)
		}
		path, _, _ := strings.Cut(strings.Trim(cells[0], "|` "), "`")
		here := strings.Trim(cells[2], "| ")
		r := w.get("http://netlify.localhost" + path)
		got := r.Status[:4] + r.body
		if loc := r.Header.Get("Location"); loc != "" {
			got = r.Status[:4] + loc
		}
		if got != here {
			t.Errorf("%s: %q, the docs say %q", path, got, here)
		}
		if strings.HasPrefix(here, "200") || strings.HasPrefix(here, "404") {
			r.wantHeader(t, "X-Frame-Options", "DENY")
		}
		n++
	}
	if n < 20 {
		t.Errorf("only %d rows", n)
	}
	if cc := w.get("http://netlify.localhost/assets/app.1a2b.js").Header.Get("Cache-Control"); !strings.HasSuffix(cc, ", immutable") {
		t.Errorf("Cache-Control: %q", cc)
	}
}
