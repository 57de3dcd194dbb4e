// Package browser opens published sites in a real Chromium.
package browser

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/test/program"
	"github.com/holdfast-sites/holdfast/test/world"
)

func TestMain(m *testing.M) { program.Main(m) }

// chromium is a running browser with one page.
type chromium struct {
	t     *testing.T
	in    io.Writer
	out   *bufio.Reader
	shots string
}

// page is what the browser shows.
type page struct {
	URL, Title, Text string
	Status           int
	Headers          map[string]string
	Value            any      // of a script
	Ranges           []string // the Content-Range of what a script's page has asked for
	Complaints       []string // of the console since the page was opened
	Error            string   // the browser could not do it
}

// start starts a browser with a profile of its own; it ends with the test.
func start(t *testing.T) *chromium {
	t.Helper()
	path := world.Chromium(t)
	// Not t.Context(): a driver that is killed leaves its browser behind.
	cmd := world.NPM(context.WithoutCancel(t.Context()), t, "browser.mjs", "playwright-core")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	profile, err := os.MkdirTemp("", "hf-chromium")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(profile) })
	var stderr strings.Builder // to be read after Wait only
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close() // the driver closes the browser, then ends
		defer time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() }).Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("browser.mjs: %v\n%s", err, stderr.String())
		}
	})
	b := &chromium{t: t, in: in, out: bufio.NewReader(out), shots: os.Getenv("HOLDFAST_SCREENSHOTS")}
	if b.shots == "" {
		b.shots = t.TempDir()
	} else if err := os.MkdirAll(b.shots, 0o755); err != nil {
		t.Fatal(err)
	}
	b.send(map[string]string{"chromium": path, "profile": profile})
	return b
}

func (b *chromium) send(v any) {
	b.t.Helper()
	if err := json.NewEncoder(b.in).Encode(v); err != nil {
		b.t.Fatalf("browser: %v", err)
	}
}

func (b *chromium) try(what map[string]string) page {
	b.t.Helper()
	b.send(what)
	line, err := b.out.ReadBytes('\n')
	if err != nil {
		b.t.Fatalf("browser, %v: %v", what, err)
	}
	var p page
	if err := json.Unmarshal(line, &p); err != nil {
		b.t.Fatalf("browser, %v: %v: %s", what, err, line)
	}
	return p
}

func (b *chromium) do(what map[string]string) page {
	b.t.Helper()
	p := b.try(what)
	if p.Error != "" {
		b.t.Fatalf("browser, %v: %s", what, p.Error)
	}
	return p
}

// open types an address.
func (b *chromium) open(url string) page {
	b.t.Helper()
	return b.do(map[string]string{"open": url})
}

// reload asks for the page again.
func (b *chromium) reload() page {
	b.t.Helper()
	return b.do(map[string]string{"reload": "yes"})
}

// follow clicks the link with this text.
func (b *chromium) follow(text string) page {
	b.t.Helper()
	return b.do(map[string]string{"follow": text})
}

// fill types into a field and presses Enter.
func (b *chromium) fill(selector, text string) page {
	b.t.Helper()
	return b.do(map[string]string{"fill": selector, "with": text, "press": "Enter"})
}

// until waits for an expression to be true, of this page or of one that takes its place.
func (b *chromium) until(js string) page {
	b.t.Helper()
	return b.do(map[string]string{"until": js})
}

// script evaluates an expression in the page; failed is what it threw.
func (b *chromium) script(js string) (value any, failed string) {
	b.t.Helper()
	p := b.try(map[string]string{"script": js})
	return p.Value, p.Error
}

// The widths of a phone and of a desk, in CSS pixels.
var widths = []string{"390", "1440"}

// shoot takes pictures of the page, in light and in dark, on a phone and on a desk, for people
// to look at: HOLDFAST_SCREENSHOTS is the folder where they stay. No page may be wider than the
// screen, or have the browser complain.
func (b *chromium) shoot(name string) {
	b.t.Helper()
	for _, width := range widths {
		for _, scheme := range []string{"dark", "light"} {
			file, err := filepath.Abs(filepath.Join(b.shots, name+"-"+width+"-"+scheme+".png"))
			if err != nil {
				b.t.Fatal(err)
			}
			if p := b.do(map[string]string{"shot": file, "scheme": scheme, "width": width}); len(p.Complaints) > 0 {
				b.t.Errorf("%s has the browser complain: %q", name, p.Complaints)
			}
			if i, err := os.Stat(file); err != nil || i.Size() < 1000 {
				b.t.Errorf("no picture in %s: %v", file, err)
			}
		}
		if over, failed := b.script(`document.documentElement.scrollWidth - document.documentElement.clientWidth`); over != float64(0) {
			b.t.Errorf("%s is %v pixels wider than a screen of %s (%s)", name, over, width, failed)
		}
	}
}
