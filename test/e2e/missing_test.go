package e2e

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/gateway"
)

func TestAMissingPathGetsTheNearestNotFoundPageOfTheSite(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	host := w.hosts("alice")[0]
	w.know("author", host)
	s := w.writeSite("one")
	p := w.publish("author", s.dir)
	gate := w.gateway("gate", host)
	base := origin(gate.Gateway, p.Name+".ipns")
	for path, page := range map[string]string{
		"/nowhere":              "404.html",
		"/nowhere/deep/in.html": "404.html",
		"/notes/99.html":        "404.html",
		"/docs/nothing":         "docs/404.html",
		"/docs/a/b/c.html":      "docs/404.html",
		"/index.html/more":      "404.html",
	} {
		status, body, err := fetch(browser(gate.Gateway), base+path, "text/html")
		if err != nil {
			t.Fatal(err)
		}
		if status != http.StatusNotFound || string(body) != string(s.files[page]) {
			t.Errorf("%s: status %d with %.200q, want 404 with %s", path, status, body, page)
		}
	}
}

// pageFailure is an error page for programs.
type pageFailure struct {
	Kind, Detail, Step, Name, Root, Path, Block string
	Asked, Holders                              []string
	Millis                                      int64 `json:"elapsed_ms"`
}

// wantTimeout asks for a page that can't be had.
func wantTimeout(t *testing.T, at, label, path string) pageFailure {
	t.Helper()
	began := time.Now()
	status, body, err := fetch(browser(at), origin(at, label)+path, "application/json")
	if err != nil {
		t.Fatal(err)
	}
	var f pageFailure
	if err := json.Unmarshal(body, &f); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	if took := time.Since(began); status != http.StatusGatewayTimeout || took >= gateway.DefaultRetrievalTimeout {
		t.Errorf("status %d after %s, want 504 after the 3 s of the config: %s", status, took, body)
	}
	return f
}

func TestAnUnavailableBlockIsATimeoutThatNamesRootAndPeersAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.configure("gate", "[gateway]\nretrieval_timeout = \"3s\"\n")

	// Nobody has the site: it was published for one machine, which is off, and its record was
	// carried to a host.
	host := w.hosts("alice")[0]
	s := w.writeSite("one")
	p := w.publish("author", s.dir, "--copies", "0")
	file := filepath.Join(w.dir, p.Name+".ipns-record")
	w.must(nil, "author", "name", "get", "blog", "--network", "offline", "-o", file)
	w.must(nil, "courier", append([]string{"name", "put", file, "--peer", host.Addrs[0]}, loopback...)...)
	gate := w.gateway("gate", host)
	f := wantTimeout(t, gate.Gateway, p.Name+".ipns", "/docs/index.html")
	if f.Root != p.Root || f.Kind != "unavailable" || f.Name != p.Name || f.Step != "root" {
		t.Errorf("the failure is %+v, want step root of %s", f, p.Root)
	}
	if asked := strings.Join(f.Asked, "\n"); !strings.Contains(asked, host.Peer) {
		t.Errorf("asked is %q, want %s in it", asked, host.Peer)
	}
	status, page, err := fetch(browser(gate.Gateway), origin(gate.Gateway, p.Name+".ipns")+"/", "text/html")
	if err != nil || status != http.StatusGatewayTimeout || !strings.Contains(string(page), p.Root) || !strings.Contains(string(page), host.Peer) {
		t.Errorf("the page for people: status %d, %v: %s", status, err, page)
	}

	// All holders of a site that was read a moment ago are dead.
	w.know("second", host)
	q := w.publish("second", s.dir)
	if err := servesSome(gate.Gateway, q.Name+".ipns", s, "index.html"); err != nil {
		t.Fatal(err)
	}
	host.Kill()
	f = wantTimeout(t, gate.Gateway, q.Name+".ipns", "/big.bin")
	if f.Root != q.Root || f.Kind != "unavailable" || f.Block == "" {
		t.Errorf("the failure is %+v, want a block under %s", f, q.Root)
	}
	if who := strings.Join(append(f.Asked, f.Holders...), "\n"); !strings.Contains(who, host.Peer) {
		t.Errorf("asked %v, holders %v: want %s in one", f.Asked, f.Holders, host.Peer)
	}
	// What is here is served on.
	if err := servesSome(gate.Gateway, q.Name+".ipns", s, "index.html"); err != nil {
		t.Error(err)
	}
}

// servesSome wants a few pages byte for byte.
func servesSome(gateway, label string, s site, paths ...string) error {
	part := site{files: make(map[string][]byte)}
	for _, p := range paths {
		part.files[p] = s.files[p]
	}
	return servesAll(gateway, label, part)
}
