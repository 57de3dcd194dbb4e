package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
)

func TestARenewedNameOutlivesItsAuthorAndARestartOfAllHosts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	hosts := w.hosts("alice", "bob", "carol")
	w.know("author", hosts...)
	first := w.publish("author", w.numbered(1).dir, "--lifetime", "48h")
	var renewed struct {
		Sequence   uint64
		ValidUntil time.Time `json:"valid_until"`
	}
	w.must(&renewed, "author", append([]string{"name", "renew", "blog", "--lifetime", "2y"}, loopback...)...)
	if renewed.Sequence <= first.Sequence || time.Until(renewed.ValidUntil) < 17519*time.Hour {
		t.Fatalf("renewed with sequence %d until %s", renewed.Sequence, renewed.ValidUntil)
	}
	if err := os.RemoveAll(w.home("author")); err != nil {
		t.Fatal(err)
	}
	for _, h := range hosts {
		h.Kill()
	}
	for _, h := range hosts {
		h.comeBack()
	}
	for _, h := range hosts {
		var got struct {
			Root       string
			Sequence   uint64
			ValidUntil time.Time `json:"valid_until"`
		}
		w.must(&got, "stranger-of-"+h.home, append([]string{"name", "resolve", first.Name, "--peer", h.Addrs[0]}, loopback...)...)
		if got.Root != first.Root || got.Sequence != renewed.Sequence || !got.ValidUntil.Equal(renewed.ValidUntil) {
			t.Errorf("%s tells %+v, want %s with sequence %d until %s", h.home, got, first.Root, renewed.Sequence, renewed.ValidUntil)
		}
	}
	if saw, err := pageReader("", w.gateway("late", hosts[1]).Gateway, first.Name).look(); saw != 1 {
		t.Errorf("a reader who comes now sees release %d: %v", saw, err)
	}
}

func TestAGatewayIsToldOfANewReleaseWithoutAsking(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	hosts := w.hosts("alice", "bob", "carol")
	w.know("author", hosts...)
	// With a TTL of a day nobody asks again by themselves.
	name := w.publish("author", w.numbered(1).dir, "--ttl", "24h").Name
	gate := w.gateway("gate", hosts[0])
	reader := pageReader("", gate.Gateway, name)
	if saw, err := reader.look(); saw != 1 {
		t.Fatalf("release %d: %v", saw, err)
	}
	for number := uint64(2); number <= 4; number++ {
		w.publish("author", w.numbered(int(number)).dir, "--ttl", "24h")
		// The gateway isn't asked for the name while we wait: what it keeps is read behind its back.
		until(t, "the gateway has the record", func() bool { return w.kept(gate.home, name) == number })
		if saw, err := reader.look(); saw != number {
			t.Errorf("the first look after the push shows release %d, want %d: %v", saw, number, err)
		}
	}
}

// kept is the sequence of the best record of a name in a home; 0 where there is none.
func (w *world) kept(home, name string) uint64 {
	w.t.Helper()
	n, err := naming.ParseName(name)
	if err != nil {
		w.t.Fatal(err)
	}
	db, err := state.Open(w.t.Context(), filepath.Join(w.home(home), "state.db"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer db.Close()
	rec, err := db.Best(w.t.Context(), n)
	if err != nil {
		w.t.Logf("%s: %v", home, err)
		return 0
	}
	return rec.Sequence()
}
