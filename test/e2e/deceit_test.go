package e2e

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-sites/holdfast/replicate"
)

func TestAHostThatLacksOneBlockFailsItsAuditAndASpareTakesItsPlace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	honest := w.hosts("alice", "bob")
	_, liar := w.role("hollow", "mallory")
	w.add("author", liar.Pins, liar.Token, "mallory")
	// The honest hosts are of one operator, so that the liar of another is always tried.
	w.knowAs("author", "one", honest[0])
	s := w.writeSite("one")

	// Nobody else is there: the publish fails, and names who lied.
	r := w.try("author", append([]string{"publish", s.dir, "--site", "blog", "--copies", "2"}, loopback...)...)
	if r.code != 5 {
		t.Fatalf("exit code %d, want 5: %s%s", r.code, r.out, r.stderr)
	}
	kind, message, body := r.failure(t)
	if kind != "unavailable" || !strings.Contains(message, "mallory") || !strings.Contains(message, "1 of 2") || !strings.Contains(message, string(replicate.NotHeld)) {
		t.Errorf("%s: %s", kind, message)
	}
	if body["proved"] != 1.0 || body["wanted"] != 2.0 {
		t.Errorf("proved %v of %v, want 1 of 2", body["proved"], body["wanted"])
	}
	if got := w.try("author", "status", "blog"); got.code != 3 {
		t.Errorf("after a publish that failed, status ends with %d: %s", got.code, got.out)
	}
	for _, h := range []ready{honest[0].ready, liar.ready} {
		if pins := w.pins(h); len(pins) != 0 {
			t.Errorf("%d pins are left by a publish that failed", len(pins))
		}
	}

	// A spare is there: it counts, the liar doesn't, and that is said.
	w.knowAs("author", "one", honest[1])
	p := w.publish("author", s.dir, "--copies", "2")
	got := p.proved()
	slices.Sort(got)
	if !slices.Equal(got, []string{"alice", "bob"}) || !p.Live {
		t.Errorf("proved by %v, live %t (%v), want alice and bob", got, p.Live, p.Warnings)
	}
	var said string
	for _, h := range p.Hosts {
		if h.Name == "mallory" {
			said = h.State + " " + h.Error
		}
	}
	if !strings.HasPrefix(said, "failed") || !strings.Contains(said, string(replicate.NotHeld)) {
		t.Errorf("of mallory is said %q", said)
	}
	if pins := w.pins(liar.ready); len(pins) != 0 {
		t.Errorf("%d pins are left at the liar", len(pins))
	}
	gate := w.gateway("gate", honest[1])
	servedWhole(t, gate.Gateway, p.Name+".ipns", s)
}

func TestAHostThatSignsAFalseProofIsNotCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	_, liar := w.role("forger", "mallory")
	w.add("author", liar.Pins, liar.Token, "mallory")
	s := w.writeSite("one")
	r := w.try("author", append([]string{"publish", s.dir, "--site", "blog", "--copies", "1"}, loopback...)...)
	if r.code != 5 {
		t.Fatalf("exit code %d, want 5: %s%s", r.code, r.out, r.stderr)
	}
	_, message, body := r.failure(t)
	if !strings.Contains(message, "mallory") || !strings.Contains(message, string(replicate.Wrong)) || body["proved"] != 0.0 {
		t.Errorf("%s: %v", message, body)
	}
}

func TestAPeerThatServesWrongBytesIsNamedAndAnotherUsed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	host := w.hosts("alice")[0]
	w.know("author", host)
	s := w.writeSite("one")
	p := w.publish("author", s.dir)
	bad, corrupter := w.role("corrupter", "mallory", rootEnv+"="+p.Root, sourceEnv+"="+host.Addrs[0])

	out := w.home("copy")
	r := w.try("reader", append([]string{"get", "/ipfs/" + p.Root, "-o", out, "--verbose", "--peer", corrupter.Addrs[0], "--peer", host.Addrs[0]}, loopback...)...)
	if r.code != 0 {
		t.Fatalf("exit code %d with a good peer beside the bad one: %s%s", r.code, r.out, r.stderr)
	}
	sameTree(t, out, s)
	if !strings.Contains(r.stderr, corrupter.Peer) {
		t.Errorf("nothing is said of %s: %s", corrupter.Peer, r.stderr)
	}

	// Nobody else has it, which is waited for a minute else.
	w.configure("stranger", "[timeouts]\nidle = \"10s\"\n")
	out = w.home("other")
	r = w.try("stranger", append([]string{"get", "/ipfs/" + p.Root, "-o", out, "--peer", corrupter.Addrs[0]}, loopback...)...)
	if r.code != 5 && r.code != 6 {
		t.Errorf("exit code %d, want 5 or 6", r.code)
	}
	if _, message, _ := r.failure(t); !strings.Contains(message, corrupter.Peer) || !strings.Contains(message, "hash to") {
		t.Errorf("the error does not say that %s sent wrong bytes: %s", corrupter.Peer, message)
	}
	if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was written: %v", err)
	}
	bad.stop()
}
