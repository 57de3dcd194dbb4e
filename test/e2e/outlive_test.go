package e2e

import (
	"os"
	"slices"
	"testing"
	"time"
)

func TestASiteOutlivesItsAuthorsMachine(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 5)
	hosts := w.hosts("alice", "bob", "carol", "dave")
	w.know("author", hosts...)
	s := w.writeSite("one")
	p := w.publish("author", s.dir, "--copies", "4", "-m", "first")

	if got := p.proved(); len(got) != 4 {
		t.Fatalf("proved by %v, want four hosts: %+v", got, p)
	}
	if !p.Live || p.SafeUntil == nil || time.Until(*p.SafeUntil) < 360*24*time.Hour {
		t.Errorf("live %v, safe until %v, want live and safe for a year (%v)", p.Live, p.SafeUntil, p.Warnings)
	}
	if p.Number != 1 || p.Sequence != 1 {
		t.Errorf("release %d with sequence %d, want 1 and 1", p.Number, p.Sequence)
	}

	// The author is gone for good: process and home.
	if err := os.RemoveAll(w.home("author")); err != nil {
		t.Fatal(err)
	}

	// A gateway that never saw the site.
	gate := w.gateway("gate", hosts[0])
	servedWhole(t, gate.Gateway, p.Name+".ipns", s)

	// And again after its own restart.
	gate.stop()
	gate.start()
	servedWhole(t, gate.Gateway, p.Name+".ipns", s)

	// One, then two hosts are killed, the one that the gateway was told of first.
	hosts[0].Kill()
	servedWhole(t, gate.Gateway, p.Name+".ipns", s)
	hosts[1].Kill()
	servedWhole(t, gate.Gateway, p.Name+".ipns", s)

	// A reader who starts now, and knows only a survivor.
	late := w.gateway("late", hosts[3])
	servedWhole(t, late.Gateway, p.Name+".ipns", s)

	// The site comes back to disk as it was.
	var got struct {
		Root         string
		Files, Bytes int64
	}
	out := w.home("copy")
	w.must(&got, "stranger", append([]string{"get", "/ipns/" + p.Name, "-o", out, "--peer", hosts[2].Addrs[0]}, loopback...)...)
	if got.Root != p.Root || got.Files != p.Files {
		t.Errorf("got %+v, want root %s with %d files", got, p.Root, p.Files)
	}
	sameTree(t, out, s)
}

func TestANewReleaseIsSeenEverywhereAndTheOldOneIsNotHeldForEver(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 5)
	hosts := w.hosts("alice", "bob", "carol")
	w.know("author", hosts...)
	gate := w.gateway("gate", hosts...)
	for i, mark := range []string{"one", "two", "three", "four"} {
		s := w.writeSite(mark)
		p := w.publish("author", s.dir, "-m", mark)
		if p.Number != uint64(i+1) || len(p.proved()) != 3 || len(p.Warnings) != 0 {
			t.Fatalf("release %d proved by %v, warnings %v", p.Number, p.proved(), p.Warnings)
		}
		late := w.gateway("late-"+mark, hosts[i%3])
		servedWhole(t, late.Gateway, p.Name+".ipns", s)
		late.stop()
		if i == 0 {
			servedWhole(t, gate.Gateway, p.Name+".ipns", s)
		}
	}
	var h struct {
		Releases []struct {
			Number  uint64
			Message string
		}
	}
	w.must(&h, "author", "history", "blog", "--network", "offline")
	var messages []string
	for _, r := range h.Releases {
		messages = append(messages, r.Message)
	}
	if !slices.Equal(messages, []string{"four", "three", "two", "one"}) {
		t.Errorf("history %v", messages)
	}
}

func TestServeEndsInGoodOrderWhenItIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	host := w.hosts("alice")[0]
	// It takes a fraction of a second. What this would catch waits for one of the node's own deadlines.
	if took := host.stop(); took >= 30*time.Second {
		t.Errorf("took %s", took)
	}
	if code := host.Cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
