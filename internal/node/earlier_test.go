package node

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
	"github.com/holdfast-sites/holdfast/replicate"
)

// history is a site's releases and records, with a clock beside them.
type history struct {
	*earlier
	t     *testing.T
	store blockstore.Store
	clock time.Time
	seq   uint64
	asked int
}

func newHistory(t *testing.T) *history {
	h := &history{t: t, store: blockstore.NewMemory(), clock: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)}
	h.earlier = &earlier{blocks: h, now: func() time.Time { return h.clock }}
	return h
}

// Get implements blockstore.Getter.
func (h *history) Get(ctx context.Context, c cid.Cid) (blockstore.Block, error) {
	h.asked++
	return h.store.Get(ctx, c)
}

func (h *history) put(b blockstore.Block, err error) cid.Cid {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
	s, err := h.store.Begin(h.t.Context(), "")
	if err != nil {
		h.t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Put(h.t.Context(), b); err != nil {
		h.t.Fatal(err)
	}
	return b.Cid()
}

func (h *history) release(n uint64, root string, previous cid.Cid) cid.Cid {
	return h.put(merkle.EncodeRelease(merkle.Release{Root: namingtest.CID(root), Number: n, Previous: previous, Time: h.clock, Tool: "test"}))
}

func (h *history) policy(grace time.Duration) cid.Cid {
	return h.put(replicate.EncodePolicy(replicate.Policy{Grace: grace, Expires: h.clock.Add(1000 * time.Hour)}))
}

// leads has the name lead to a root by a new record.
func (h *history) leads(root string, release, policy cid.Cid) naming.Name {
	h.t.Helper()
	h.seq++
	s := namingtest.Signer(h.t, "site")
	rec, err := s.Sign(naming.Statement{
		Value: "/ipfs/" + namingtest.CID(root).String(), Sequence: h.seq, Release: release, Policy: policy, ValidUntil: time.Now().Add(time.Hour),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.saw(s.Name(), []naming.Resolution{{Record: rec}})
	return s.Name()
}

// want asks what there was before; "" for nothing.
func (h *history) want(n naming.Name, root, before string, until time.Time) {
	h.t.Helper()
	got, end, ok := h.Before(h.t.Context(), n, namingtest.CID(root))
	if before == "" {
		if ok {
			h.t.Errorf("before %s was %s, until %s", root, got, end)
		}
		return
	}
	if !ok || got != namingtest.CID(before) || !end.Equal(until) {
		h.t.Errorf("before %s was %s, until %s, %v; want %s until %s", root, got, end, ok, namingtest.CID(before), until)
	}
}

func TestTheReleaseBeforeIsKnownForItsGrace(t *testing.T) {
	h := newHistory(t)
	day := h.policy(24 * time.Hour)
	r1 := h.release(1, "one", cid.Undef)
	made := h.clock
	r2 := h.release(2, "two", r1)

	// Where the switch was not seen the release's own time counts.
	h.clock = h.clock.Add(time.Hour)
	n := h.leads("two", r2, day)
	h.want(n, "two", "one", made.Add(24*time.Hour))
	h.want(n, "one", "one", made.Add(24*time.Hour)) // what is worked out stays
	asked := h.asked
	h.want(n, "two", "one", made.Add(24*time.Hour))
	if h.asked != asked {
		t.Error("it is read again each time")
	}
	// A record that lives longer changes nothing; where the switch was seen, its time counts.
	h.leads("two", r2, day)
	r3 := h.release(3, "three", r2)
	h.clock = h.clock.Add(30 * time.Minute) // the copies took their time
	h.leads("three", r3, day)
	h.want(n, "three", "two", h.clock.Add(24*time.Hour))
	h.clock = h.clock.Add(24*time.Hour - time.Second)
	h.want(n, "three", "two", h.clock.Add(time.Second))
	h.clock = h.clock.Add(time.Second)
	h.want(n, "three", "", time.Time{})
}

func TestNothingIsKnownOfWhatWasTakenBack(t *testing.T) {
	h := newHistory(t)
	day, none := h.policy(24*time.Hour), h.policy(0)
	r1 := h.release(1, "one", cid.Undef)
	r2 := h.release(2, "two", r1)
	n := h.leads("two", r2, none)
	h.want(n, "two", "", time.Time{})
	// The same root under another message says nothing of what was before it.
	r3 := h.release(3, "two", r2)
	h.leads("two", r3, day)
	h.want(n, "two", "", time.Time{})
	r4 := h.release(4, "four", r3)
	h.leads("four", r4, day)
	h.want(n, "four", "two", h.clock.Add(24*time.Hour))
	// A grace that is ended later ends.
	h.leads("four", r4, none)
	h.want(n, "four", "", time.Time{})
}

func TestAPastThatCannotBeReadIsNone(t *testing.T) {
	h := newHistory(t)
	day := h.policy(24 * time.Hour)
	r1 := h.release(1, "one", cid.Undef)
	n := h.leads("one", r1, day)
	h.want(n, "one", "", time.Time{})
	for i, lost := range []struct{ release, policy cid.Cid }{
		{cid.Undef, day}, {r1, cid.Undef}, {namingtest.CID("lost"), day}, {h.release(2, "two", r1), namingtest.CID("lost")},
		{h.release(3, "two", namingtest.CID("lost")), day}, {h.release(4, "another", r1), day},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			h.leads("two", lost.release, lost.policy)
			h.want(n, "two", "", time.Time{})
			asked := h.asked
			h.want(n, "two", "", time.Time{})
			if h.asked != asked {
				t.Error("it is looked for again at once")
			}
		})
	}
	// A clock that is ahead does not make it longer, and what was lost is looked for again.
	made := h.clock
	h.clock = h.clock.Add(1000 * time.Hour)
	late := h.release(2, "two", r1)
	h.clock = made
	other := newHistory(t)
	other.store, other.clock = h.store, made
	other.leads("two", late, day)
	other.want(n, "two", "one", made.Add(24*time.Hour))
	if _, _, ok := h.Before(t.Context(), namingtest.Signer(t, "stranger").Name(), namingtest.CID("one")); ok {
		t.Error("something was before what nobody has asked for")
	}
}
