package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// released is one line of what --watch --json prints.
type released struct {
	published
	Changed int64
	Error   *struct{ Kind, Message string }
}

// watcher is a command with --watch.
type watcher struct {
	t     *testing.T
	cmd   *exec.Cmd
	errs  syncBuffer
	lines chan released // closed at its end
}

// watch starts a command with --watch. It ends with the test.
func (w *world) watch(home string, args ...string) *watcher {
	w.t.Helper()
	x := &watcher{t: w.t, cmd: w.command(context.Background(), home, append(append(args, "--watch"), loopback...)...), lines: make(chan released, 100)}
	out, err := x.cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	x.cmd.Stderr = &x.errs
	if err := x.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() { // ends with the process
		defer close(x.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			var r released
			if err := json.Unmarshal(s.Bytes(), &r); err != nil {
				w.t.Errorf("%v: %s", err, s.Bytes())
			}
			x.lines <- r
		}
		_ = x.cmd.Wait()
	}()
	w.t.Cleanup(func() {
		_ = x.cmd.Process.Kill()
		for range x.lines {
		}
	})
	return x
}

// next is what it prints next.
func (x *watcher) next() released {
	x.t.Helper()
	select {
	case r, ok := <-x.lines:
		if !ok {
			x.t.Fatalf("it has ended: %s", x.errs.String())
		}
		return r
	case <-time.After(patience):
		x.t.Fatalf("it prints nothing: %s", x.errs.String())
	}
	panic("unreachable")
}

// release is the next release, which has to be the one of that number.
func (x *watcher) release(number uint64) released {
	x.t.Helper()
	r := x.next()
	if r.Error != nil || r.Number != number || r.Sequence != number {
		x.t.Fatalf("release %d, sequence %d, error %v, want release and sequence %d", r.Number, r.Sequence, r.Error, number)
	}
	return r
}

// interrupt ends it as Ctrl-C does.
func (x *watcher) interrupt() {
	x.t.Helper()
	_ = x.cmd.Process.Signal(os.Interrupt)
	for r := range x.lines {
		x.t.Errorf("after its end: %+v", r)
	}
	if code := x.cmd.ProcessState.ExitCode(); code != 0 || x.errs.String() != "" {
		x.t.Errorf("it ended with %d: %s", code, x.errs.String())
	}
}

// save writes a file as an editor does: beside it first, then over it.
func (s site) save(t *testing.T, path, text string) {
	t.Helper()
	name := filepath.Join(s.dir, filepath.FromSlash(path))
	if err := errors.Join(os.WriteFile(name+"~", []byte(text), 0o644), os.Rename(name+"~", name)); err != nil {
		t.Fatal(err)
	}
}

// arrives waits until a page has a text.
func arrives(t *testing.T, hc *http.Client, url, text string) {
	t.Helper()
	until(t, url+" has "+text, func() bool {
		status, body, err := fetch(hc, url, "")
		return err == nil && status == 200 && strings.Contains(string(body), text)
	})
}

func TestASavedPageIsServedByUpWatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	s := w.writeSite("one")
	x := w.watch("home", "up", s.dir, "--site", "blog", "--gateway", "127.0.0.1:0")
	first := x.release(1)
	_, port, ok := strings.Cut(strings.TrimSuffix(first.URLs[0], "/"), ".localhost:")
	if !ok {
		t.Fatalf("addresses: %q", first.URLs)
	}
	gate := "http://127.0.0.1:" + port
	hc, base := browser(gate), origin(gate, "blog")
	arrives(t, hc, base+"/docs/", "docs one")

	s.save(t, "docs/index.html", "<p>docs two")
	arrives(t, hc, base+"/docs/", "docs two")
	if r := x.release(2); r.Changed != 1 || r.Root == first.Root {
		t.Errorf("one file was saved: %d changed, root %s", r.Changed, r.Root)
	}

	// What can't be published is told, and what mends it is noticed.
	pipe := filepath.Join(s.dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := x.next(); r.Error == nil || r.Error.Kind != "failed" || !strings.Contains(r.Error.Message, "FIFO") {
		t.Errorf("a FIFO leads to %+v", r)
	}
	s.save(t, "docs/index.html", "<p>docs three")
	if err := os.Remove(pipe); err != nil {
		t.Fatal(err)
	}
	arrives(t, hc, base+"/docs/", "docs three")
	x.release(3)

	// A generator makes the folder anew.
	four := w.writeSite("four")
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	s = w.writeFiles("site-one", four.files)
	// It may have been caught in the middle, once or twice.
	until(t, "the new site is published", func() bool { return servesAll(gate, "blog", s) == nil })
	x.drain()
	x.interrupt()
}

// drain takes what it has printed so far, or is about to.
func (x *watcher) drain() {
	for {
		select {
		case <-x.lines:
		default:
			return
		}
	}
}

func TestPublishWatchGoesThroughTheRunningNodeOrKeepsOneOpen(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{true, false} {
		t.Run(fmt.Sprintf("a node runs: %t", running), func(t *testing.T) {
			t.Parallel()
			publishWatch(t, running)
		})
	}
}

func publishWatch(t *testing.T, running bool) {
	w := newWorld(t, 1)
	s := w.writeSite("one")
	var gate *node
	if running {
		gate = w.gateway("home")
	}
	x := w.watch("home", "publish", s.dir, "--site", "blog", "--copies", "0")
	x.release(1)
	s.save(t, "index.html", "<h1>two</h1>")
	two := x.release(2)
	if two.Changed != 1 {
		t.Errorf("%d files changed", two.Changed)
	}
	if running {
		hc := browser(gate.Gateway)
		arrives(t, hc, origin(gate.Gateway, "blog")+"/", "two")
	}
	// The home can be used meanwhile.
	if r := w.try("home", "get", "blog", "-o", filepath.Join(w.dir, "copy")); r.code != 0 {
		t.Errorf("get: %d %s%s", r.code, r.out, r.stderr)
	}
	if st := w.status("home"); st.Root != two.Root {
		t.Errorf("status says %s", st.Root)
	}
	x.interrupt()
}
