package node_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/node"
)

// previewed is a folder that is being shown.
type previewed struct {
	t      *testing.T
	dir    string
	addr   string
	builds chan node.PreviewBuild
	told   atomic.Int64 // events of the first look
}

func preview(t *testing.T, files ...string) *previewed {
	t.Helper()
	p := &previewed{t: t, dir: t.TempDir(), builds: make(chan node.PreviewBuild, 100)}
	for i := 0; i < len(files); i += 2 {
		p.write(files[i], files[i+1])
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- node.Preview{Dir: p.dir, Alias: "draft", Report: func(author.Event) { p.told.Add(1) }, Built: func(b node.PreviewBuild) { p.builds <- b }}.Serve(ctx, ln)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return p
}

func (p *previewed) write(name, text string) {
	p.t.Helper()
	path := filepath.Join(p.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		p.t.Fatal(err)
	}
	whole := filepath.Join(p.t.TempDir(), "file") // nobody is to see half of it
	if err := errors.Join(os.WriteFile(whole, []byte(text), 0o644), os.Rename(whole, path)); err != nil {
		p.t.Fatal(err)
	}
}

// get asks the site for a path, as a browser does.
func (p *previewed) get(path string) *http.Response {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, "http://"+p.addr+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	req.Host = "draft.localhost"
	req.Header.Set("Accept", "text/html,*/*")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func (p *previewed) wants(path string, status int, body string) *http.Response {
	p.t.Helper()
	resp := p.get(path)
	got, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status || string(got) != body {
		p.t.Errorf("%s: %d %q (%v), want %d %q", path, resp.StatusCode, got, err, status, body)
	}
	return resp
}

// reloads is what a page has behind it, by the number of looks at the folder.
func reloads(looks int) string {
	return fmt.Sprintf("\n<script src=\"/-/preview/reload.js?%d\"></script>\n", looks)
}

func TestAPreviewIsWhatTheGatewayShowsAndOneScriptMore(t *testing.T) {
	p := preview(t, "index.html", "home", "about.html", "about", "a.css", "body{}", "404.html", "lost", "_headers", "/*\n  X-Frame-Options: DENY\n", "_redirects", "/old /about 302\n")
	if b := <-p.builds; b.Err != nil || b.Preflight == nil || b.Root == "" {
		t.Fatalf("%+v", b)
	}
	if h := p.wants("/", 200, "home"+reloads(1)).Header; h.Get("X-Frame-Options") != "DENY" || h.Get("Cache-Control") != "no-store" {
		t.Errorf("%v", h)
	}
	p.wants("/about", 200, "about"+reloads(1))
	p.wants("/a.css", 200, "body{}")
	p.wants("/nothing", 404, "lost"+reloads(1))
	if loc := p.wants("/old", 302, "").Header.Get("Location"); loc != "/about" {
		t.Errorf("Location: %s", loc)
	}
	p.wants("/-/preview/events?0", 200, ": waiting\n\ndata: changed\n\n") // a page of an earlier look
}

func TestAnOpenPageIsToldOfAChange(t *testing.T) {
	p := preview(t, "index.html", "one")
	<-p.builds
	events := bufio.NewReader(p.get("/-/preview/events").Body)
	if line, err := events.ReadString('\n'); err != nil || line != ": waiting\n" {
		t.Fatalf("%q %v", line, err)
	}
	told := p.told.Load()
	if told == 0 {
		t.Error("nothing was told of how far the first look is")
	}
	p.write("index.html", "two")
	for {
		line, err := events.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == "data: changed\n" {
			break
		}
	}
	p.wants("/", 200, "two"+reloads(2))
	if p.told.Load() != told {
		t.Error("a later look was told of, too")
	}
}

func TestAPreviewTellsOfBadRulesAndShowsThePagesAllTheSame(t *testing.T) {
	p := preview(t, "index.html", "home", "_redirects", "/a /b 999\n")
	if b := <-p.builds; b.Err == nil || !strings.Contains(b.Err.Error(), "line 1") {
		t.Errorf("%+v", b)
	}
	p.wants("/", 200, "home"+reloads(1))
	resp := p.get("/a")
	page, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 500 || !strings.Contains(string(page), "line 1") || !strings.HasSuffix(string(page), reloads(1)) {
		t.Errorf("status %d, %s", resp.StatusCode, page)
	}
	if csp := resp.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "; script-src 'self'; connect-src 'self'") {
		t.Errorf("the page can't load itself anew when the rules are mended: %q", csp)
	}
	p.write("_redirects", "/a / 302\n")
	for b := range p.builds {
		if b.Err == nil {
			break
		}
	}
	p.wants("/a", 302, "")
}
