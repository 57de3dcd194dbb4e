package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/replicate"
)

func TestAHostKilledInTheMiddleOfAFetchFinishesAfterItsRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	host := w.hosts("alice")[0]
	w.know("author", host)
	files := map[string][]byte{"index.html": []byte("large"), "404.html": []byte("no")}
	for i := range 12 {
		files[fmt.Sprintf("parts/%02d.bin", i)] = noise(4<<20, uint64(i))
	}
	s := w.writeFiles("large", files)

	args := append([]string{"publish", s.dir, "--site", "blog", "--copies", "1"}, loopback...)
	pub := w.begin(nil, "author", args...)
	done := func() (bytes int64) { // -1: the host has not been asked yet
		bytes = -1
		for _, p := range w.pins(host.ready) {
			if p.Status == replicate.Pinned {
				t.Fatal("the fetch was over before its middle was seen")
			}
			bytes, _ = strconv.ParseInt(p.Info[replicate.InfoBytesDone], 10, 64)
		}
		return bytes
	}
	const middle = 4 << 20
	until(t, "the host is asked", func() bool { return done() >= 0 })
	// The source takes short breaths and holds them when it is looked at, so that the kill is sure to be in the middle.
	until(t, "some of the site is at the host", func() bool {
		pub.signal(syscall.SIGCONT)
		time.Sleep(10 * time.Millisecond)
		pub.signal(syscall.SIGSTOP)
		return done() > middle
	})
	if n := done(); n <= middle || n >= 48<<20 {
		t.Fatalf("%d bytes are at the host: that is not the middle", n)
	}
	host.Kill()
	host.comeBack()
	pub.signal(syscall.SIGCONT)

	// Whether the author had the patience is one thing; the site has to get there in any case.
	first := pub.wait()
	if first.code != 0 {
		if kind, message, _ := first.failure(t); kind != "unavailable" {
			t.Errorf("the publish ended with %s: %s", kind, message)
		}
		w.publish("author", s.dir, "--copies", "1")
	}
	t.Logf("the publish that was running ended with %d", first.code)
	st := w.status("author", "--check")
	if len(st.Hosts) != 1 || st.Hosts[0].State != "proved" || st.SafeUntil == nil {
		t.Fatalf("status %+v, want the one host to have proved", st)
	}
	wantOnlyNamePin(t, w.pins(host.ready), st.Name)
	if err := os.RemoveAll(w.home("author")); err != nil {
		t.Fatal(err)
	}
	out := w.home("copy")
	w.must(nil, "stranger", append([]string{"get", "/ipns/" + st.Name, "-o", out, "--peer", host.Addrs[0]}, loopback...)...)
	sameTree(t, out, s)
}

// wantOnlyNamePin fails unless a host has nothing pinned but what follows the name.
func wantOnlyNamePin(t *testing.T, pins []replicate.PinStatus, name string) {
	t.Helper()
	var names int
	for _, p := range pins {
		if p.Pin.Meta[replicate.MetaName] == name && p.Status == replicate.Pinned {
			names++
			continue
		}
		t.Errorf("a pin is left over: %s of %s, %v", p.Status, p.Pin.CID, p.Pin.Meta)
	}
	if names != 1 {
		t.Errorf("%d pins follow the name, want 1", names)
	}
}

// cut says when a publish is killed: at the nth line about a step, or after a part of the time
// that a whole publish takes, and then how much later.
type cut struct {
	step  string
	nth   int
	part  float64
	later time.Duration
	other bool // the run after the kill publishes something else
}

func (c cut) String() string {
	at := fmt.Sprintf("%s %d", c.step, c.nth)
	if c.step == "" {
		at = fmt.Sprintf("%.0f%%", c.part*100)
	}
	if c.later > 0 {
		at += " + " + c.later.String()
	}
	if c.other {
		at += ", then another"
	}
	return at
}

func TestAPublishCutOffAnywhereLeavesTheOldReleaseAndCompletesWhenRunAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	hosts := w.hosts("alice", "bob")
	w.know("author", hosts...)
	// Readers ask again soon, so that what they see is what the hosts say now.
	w.configure("author", "[publish]\nttl = \"1s\"\n")
	began := time.Now()
	old := w.cutSite(0)
	last := w.publish("author", old.dir)
	whole := time.Since(began)
	gate := w.gateway("gate", hosts...)
	servedWhole(t, gate.Gateway, last.Name+".ipns", old)

	cuts := []cut{
		{step: "build", nth: 1}, {step: "built", nth: 1}, {step: "ask", nth: 1}, {step: "ask", nth: 1, later: 100 * time.Millisecond},
		{step: "place", nth: 1}, {step: "place", nth: 3}, {step: "place", nth: 3, other: true}, {step: "fetch", nth: 1},
		{step: "prove", nth: 1}, {step: "prove", nth: 2, other: true}, {step: "sign", nth: 1}, {step: "sign", nth: 1, later: 30 * time.Millisecond},
		{step: "sign", nth: 1, later: 100 * time.Millisecond, other: true}, {step: "look", nth: 1},
		{part: 0.2}, {part: 0.4}, {part: 0.6}, {part: 0.8},
	}
	for i, c := range cuts {
		next := w.cutSite(2*i + 1)
		ended := w.cutOff("author", next, c, whole)
		var own struct{ Sequence uint64 } // of the record that the author would hand out
		w.must(&own, "author", "name", "resolve", "blog", "--network", "offline")
		signed := own.Sequence > last.Sequence
		t.Logf("%s: ended by itself %t, signed %t", c, ended, signed)
		if (c.step == "sign" || c.step == "look") && !signed {
			t.Errorf("%s: nothing was signed", c)
		}
		if err := servesOneOf(gate.Gateway, last.Name+".ipns", old, next, signed); err != nil {
			t.Fatalf("%s: after the kill: %v", c, err)
		}

		number := last.Number + 1
		if c.other {
			next = w.cutSite(2*i + 2)
			if signed {
				number++
			}
		}
		p := w.publish("author", next.dir)
		if p.Number != number || p.Sequence <= own.Sequence || len(p.proved()) != 2 || !p.Live {
			t.Fatalf("%s: run again: live %t (%q), want release %d with a sequence above %d: %+v", c, p.Live, p.Warnings, number, own.Sequence, p)
		}
		until(t, "the new release is served", func() bool { return servesAll(gate.Gateway, p.Name+".ipns", next) == nil })
		for _, h := range hosts {
			wantOnlyNamePin(t, w.pins(h.ready), p.Name)
		}
		if t.Failed() {
			t.Fatalf("so it is after %s", c)
		}
		old, last = next, p
	}
}

// cutSite is a small site with files of one block and of several.
func (w *world) cutSite(i int) site {
	mark := fmt.Sprintf("cut-%d", i)
	return w.writeFiles(mark, map[string][]byte{
		"index.html": []byte(mark), "404.html": []byte("no " + mark), "a/b/page.html": []byte("deep " + mark),
		"unchanged.bin": noise(1<<20, 1), "changed.bin": noise(2<<20, uint64(i)),
	})
}

// cutOff publishes and kills the process. It tells whether the process was faster.
func (w *world) cutOff(author string, s site, c cut, whole time.Duration) (ended bool) {
	w.t.Helper()
	reached := make(chan struct{})
	var seen int
	heard := func(line string) {
		if step, _, _ := strings.Cut(line, " "); step == c.step {
			if seen++; seen == c.nth {
				close(reached)
			}
		}
	}
	r := w.begin(heard, author, append([]string{"publish", s.dir, "--site", "blog", "--progress"}, loopback...)...)
	wait := time.Minute
	if c.step == "" {
		wait = time.Duration(c.part * float64(whole))
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-reached:
	case <-timer.C:
	case <-r.done:
	}
	if c.step != "" {
		select {
		case <-reached:
		default:
			w.t.Fatalf("%s: never got there: %s", c, r.errs.String())
		}
	}
	if c.later > 0 {
		timer.Reset(c.later)
		select {
		case <-r.done:
		case <-timer.C:
		}
	}
	r.kill()
	return r.cmd.ProcessState.Exited()
}

// servesOneOf wants one release whole: the old one, or where it was signed the new one. The name
// may move from one to the other while pages are read; it doesn't move back.
func servesOneOf(gateway, label string, old, next site, signed bool) (err error) {
	for range 2 {
		status, body, ferr := fetch(browser(gateway), origin(gateway, label)+"/", "")
		if ferr != nil || status != http.StatusOK {
			return fmt.Errorf("status %d, %v: %s", status, ferr, body)
		}
		switch {
		case bytes.Equal(body, old.files["index.html"]):
			err = servesAll(gateway, label, old)
		case !bytes.Equal(body, next.files["index.html"]):
			return fmt.Errorf("neither release: %s", body)
		case !signed:
			return fmt.Errorf("the new release is served, and was not signed")
		default:
			return servesAll(gateway, label, next)
		}
		if err == nil || !signed {
			return err
		}
	}
	return err
}

// siteStatus is the part of status's JSON that tests look at.
type siteStatus struct {
	Alias, Name, Root, Release string
	Number, Sequence           uint64
	Live                       bool
	SafeUntil                  *time.Time `json:"safe_until"`
	Hosts                      []struct {
		ID, Name, State, Error string
		VerifiedAt             *time.Time `json:"verified_at"`
	}
}

// status asks about the site blog.
func (w *world) status(home string, more ...string) siteStatus {
	w.t.Helper()
	var out struct{ Sites []siteStatus }
	w.must(&out, home, append([]string{"status", "blog"}, append(more, loopback...)...)...)
	if len(out.Sites) != 1 {
		w.t.Fatalf("status of %d sites", len(out.Sites))
	}
	return out.Sites[0]
}
