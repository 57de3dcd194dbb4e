package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// site is a folder on disk and what is in it.
type site struct {
	dir   string
	files map[string][]byte // slash path → bytes
}

// writeSite makes a small site with the names and sizes that break things.
func (w *world) writeSite(mark string) site {
	w.t.Helper()
	files := map[string][]byte{
		"index.html":                   []byte("<h1>" + mark + "</h1>"),
		"404.html":                     []byte("<h1>not here: " + mark + "</h1>"),
		"docs/index.html":              []byte("<p>docs " + mark),
		"docs/404.html":                []byte("<h1>no such doc</h1>"),
		"empty.txt":                    {},
		"a b & c #1 100%?.html":        []byte("odd " + mark),
		"ünïcode/日本語.txt":              []byte("utf-8"),
		".well-known/security.txt":     []byte("Contact: nobody"),
		"big.bin":                      noise(3<<20+17, 7),
		"deep/a/b/c/d/e/f/g/h/leaf.js": []byte("1"),
	}
	for i := range 40 {
		files[fmt.Sprintf("notes/%02d.html", i)] = fmt.Appendf(nil, "<p>%s note %d %s", mark, i, strings.Repeat("x", i*97))
	}
	return w.writeFiles("site-"+mark, files)
}

func (w *world) writeFiles(name string, files map[string][]byte) site {
	w.t.Helper()
	s := site{dir: filepath.Join(w.dir, name), files: files}
	for p, b := range files {
		file := filepath.Join(s.dir, filepath.FromSlash(p))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(file, b, 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
	return s
}

// noise is bytes that look random and are the same in every run.
func noise(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed)})
	_, _ = r.Read(b)
	return b
}

// browser reads pages as a browser does, whatever the name resolves to here.
func browser(gateway string) *http.Client {
	u, err := url.Parse(gateway)
	if err != nil {
		panic(err)
	}
	return &http.Client{
		Timeout: time.Minute,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, u.Host)
			},
		},
	}
}

// origin is a site's own origin at a gateway.
func origin(gateway, label string) string {
	u, err := url.Parse(gateway)
	if err != nil {
		panic(err)
	}
	return "http://" + label + ".localhost:" + u.Port()
}

func pageURL(base, path string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		segments[i] = url.PathEscape(s)
	}
	return base + "/" + strings.Join(segments, "/")
}

// fetch gets one page.
func fetch(hc *http.Client, url string, accept string) (status int, body []byte, err error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, err
	}
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	resp, err := hc.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// servedWhole fails unless every page arrives byte for byte.
func servedWhole(t *testing.T, gateway, label string, s site) {
	t.Helper()
	if err := servesAll(gateway, label, s); err != nil {
		t.Fatal(err)
	}
}

func servesAll(gateway, label string, s site) error {
	hc, base := browser(gateway), origin(gateway, label)
	for p, want := range s.files {
		status, got, err := fetch(hc, pageURL(base, p), "")
		if err != nil {
			return err
		}
		if status != http.StatusOK || !bytes.Equal(got, want) {
			return fmt.Errorf("%s: status %d, %d bytes, want 200 and %d bytes: %.300s", p, status, len(got), len(want), got)
		}
	}
	return nil
}

// sameTree compares a folder on disk with what should be in it.
func sameTree(t *testing.T, dir string, s site) {
	t.Helper()
	found := 0
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		got, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		want, ok := s.files[filepath.ToSlash(rel)]
		if !ok || !bytes.Equal(got, want) {
			return fmt.Errorf("%s differs", rel)
		}
		found++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found != len(s.files) {
		t.Fatalf("%d files, want %d", found, len(s.files))
	}
}
