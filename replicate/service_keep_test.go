package replicate_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
	"github.com/holdfast-sites/holdfast/replicate"
)

// policy puts a policy into the author's store.
func (h *pinHost) policy(p replicate.Policy) cid.Cid {
	h.t.Helper()
	if p.Expires.IsZero() {
		p.Expires = time.Now().Add(365 * 24 * time.Hour).Truncate(time.Second)
	}
	b, err := replicate.EncodePolicy(p)
	if err != nil {
		h.t.Fatal(err)
	}
	h.put(b)
	return b.Cid()
}

// under is toRoot with a policy.
func under(policy, root cid.Cid, seq uint64) naming.Statement {
	st := toRoot(root, seq)
	st.Policy = policy
	return st
}

func (h *pinHost) sites(n int) (roots []cid.Cid) {
	for i := range n {
		roots = append(roots, h.site(fmt.Sprint("v", i), 3, 500))
	}
	return roots
}

func TestTheSitesPolicySaysHowManyRootsStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPinHost(t)
		s := namingtest.Signer(t, "site")
		r := h.sites(5)
		id := h.add(namePin(s, r[0], replicate.MetaKeep, "1"))
		defer h.serve()()
		three, one := h.policy(replicate.Policy{Keep: 3}), h.policy(replicate.Policy{Keep: 1})
		for i := 1; i <= 4; i++ {
			h.publish(s, under(three, r[i], uint64(i)))
			time.Sleep(time.Second)
		}
		h.wantKept(id, r[4], r[3], r[2], r[0], bytesOf(three))

		// Fewer from now on: the next look at the name lets them go, no new root is needed.
		h.publish(s, under(one, r[4], 5))
		time.Sleep(time.Second)
		h.wantKept(id, r[4], r[0], bytesOf(one))
		if st := h.status(id); st.Info[replicate.InfoKept] != join([]cid.Cid{r[4], r[0]}) {
			t.Errorf("kept is %s", st.Info[replicate.InfoKept])
		}

		// A policy that has ended says nothing any more: the pin's own terms count.
		past := h.policy(replicate.Policy{Keep: 9, Expires: time.Now().Add(time.Minute).Truncate(time.Second)})
		time.Sleep(time.Hour)
		for i := 1; i <= 3; i++ {
			h.publish(s, under(past, r[i], uint64(5+i)))
			time.Sleep(time.Second)
		}
		h.wantKept(id, r[3], r[0], bytesOf(past))
	})
}

func TestTheRootBeforeStaysForItsGraceAndNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPinHost(t)
		s := namingtest.Signer(t, "site")
		r := h.sites(4)
		id := h.add(namePin(s, r[0]))
		seldom := func(c *replicate.ServiceConfig) { c.FollowInterval = 100 * time.Hour }
		h.build(seldom)
		stop := h.serve()
		pol := h.policy(replicate.Policy{Keep: 1, Grace: 2 * time.Hour})
		for i := 1; i <= 3; i++ {
			h.publish(s, under(pol, r[i], uint64(i)))
			time.Sleep(time.Second)
		}
		h.wantKept(id, r[3], r[2], r[0], bytesOf(pol)) // and not the one before that
		time.Sleep(time.Hour)
		stop()
		h.build(seldom) // a restart forgets nothing
		stop = h.serve()
		time.Sleep(time.Hour - 5*time.Second)
		h.wantKept(id, r[3], r[2], r[0], bytesOf(pol))
		time.Sleep(10 * time.Second)
		h.wantKept(id, r[3], r[0], bytesOf(pol))
		stop()
	})
}

// unreadable is a store that can't read one block.
type unreadable struct {
	blockstore.Store
	mu sync.Mutex
	c  cid.Cid
}

func (u *unreadable) set(c cid.Cid) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.c = c
}

func (u *unreadable) Get(ctx context.Context, c cid.Cid) (blockstore.Block, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if c.Equals(u.c) {
		return blockstore.Block{}, &blockstore.BlockError{CID: c, Kind: blockstore.ErrUnavailable}
	}
	return u.Store.Get(ctx, c)
}

func TestAPolicyThatCannotBeReadJustNowCostsNoRoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPinHost(t)
		store := &unreadable{Store: h.blocks}
		h.build(func(c *replicate.ServiceConfig) { c.Blocks = store })
		s := namingtest.Signer(t, "site")
		r := h.sites(5)
		id := h.add(namePin(s, r[0], replicate.MetaKeep, "1"))
		defer h.serve()()
		three := h.policy(replicate.Policy{Keep: 3})
		for i := 1; i <= 3; i++ {
			h.publish(s, under(three, r[i], uint64(i)))
			time.Sleep(time.Second)
		}
		store.set(three)
		time.Sleep(10 * time.Minute)
		h.wantKept(id, r[3], r[2], r[1], r[0], bytesOf(three))
		h.publish(s, under(three, r[4], 4))
		time.Sleep(time.Second)
		h.wantKept(id, r[4], r[3], r[2], r[1], r[0], bytesOf(three))
		store.set(cid.Undef)
		time.Sleep(10 * time.Minute)
		h.wantKept(id, r[4], r[3], r[2], r[0], bytesOf(three))
	})
}

func TestTheGraceEndsThoughTheNameDoesNotResolveAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPinHost(t)
		script := &scripted{records: make(chan naming.Record, 1)}
		h.build(func(c *replicate.ServiceConfig) { c.Names = script })
		s := namingtest.Signer(t, "site")
		r := h.sites(3)
		id := h.add(namePin(s, r[0]))
		defer h.serve()()
		pol := h.policy(replicate.Policy{Keep: 1, Grace: time.Hour})
		for i := 1; i <= 2; i++ {
			st := under(pol, r[i], uint64(i))
			st.ValidUntil = time.Now().Add(time.Hour)
			rec, err := s.Sign(st)
			if err != nil {
				t.Fatal(err)
			}
			script.records <- rec
			h.service.FollowNow(s.Name())
			time.Sleep(15 * time.Minute)
		}
		h.wantKept(id, r[2], r[1], r[0], bytesOf(pol))
		time.Sleep(time.Hour)
		h.wantKept(id, r[2], r[0], bytesOf(pol))
	})
}

func TestTheGraceRootGoesFirstWhereThereIsNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPinHost(t)
		s := namingtest.Signer(t, "site")
		var r []cid.Cid
		for i := range 3 { // 3000 bytes of their own each
			r = append(r, h.site(fmt.Sprint("v", i), 1, 3000))
		}
		id := h.add(namePin(s, r[0], replicate.MetaMaxBytes, "8000"))
		defer h.serve()()
		pol := h.policy(replicate.Policy{Keep: 1, Grace: time.Hour})
		for i := 1; i <= 2; i++ {
			h.publish(s, under(pol, r[i], uint64(i)))
			time.Sleep(time.Second)
		}
		if st := h.status(id); !at(r[2], 2)(st) {
			t.Fatalf("%s %v", st.Status, st.Info)
		}
		h.wantKept(id, r[2], r[0], bytesOf(pol))
	})
}

func TestAPolicyThatAllowsMoreGivesARefusedRootAnotherChance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPinHost(t)
		s := namingtest.Signer(t, "site")
		r := h.sites(2)
		id := h.add(namePin(s, r[0]))
		defer h.serve()()
		h.publish(s, under(h.policy(replicate.Policy{MaxBytes: 1000}), r[1], 1))
		time.Sleep(time.Second)
		if st := h.status(id); st.Info[replicate.InfoRoot] != "" || st.Info[replicate.InfoLastError] == "" {
			t.Fatalf("over the policy's maxBytes: %v", st.Info)
		}
		h.publish(s, under(h.policy(replicate.Policy{MaxBytes: 100_000}), r[1], 2))
		time.Sleep(time.Second)
		if st := h.status(id); !at(r[1], 2)(st) || st.Info[replicate.InfoLastError] != "" {
			t.Fatalf("with room: %v", st.Info)
		}
	})
}

// What an author does to take something back: a policy without grace, and a pin
// that begins with the new root.
func TestAReplacedNamePinWithoutGraceKeepsTheNewRootAndTheHistoryOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var takenBack atomic.Int32
		h := newPinHost(t, func(c *replicate.ServiceConfig) { c.OnTakenBack = func() { takenBack.Add(1) } })
		s := namingtest.Signer(t, "site")
		r := h.sites(3)
		id := h.add(namePin(s, r[0]))
		defer h.serve()()
		usual, none := h.policy(replicate.Policy{Keep: 2, Grace: time.Hour}), h.policy(replicate.Policy{Keep: 1})
		var rel []cid.Cid
		for i, pol := range []cid.Cid{usual, usual, none} {
			prev := cid.Undef
			if i > 0 {
				prev = rel[i-1]
			}
			rel = append(rel, h.release(merkle.Release{Root: r[i], Number: uint64(i + 1), Previous: prev}))
			st := under(pol, r[i], uint64(i+1))
			st.Release = rel[i]
			h.publish(s, st)
			time.Sleep(time.Second)
		}
		h.wantKept(id, r[2], r[0], bytesOf(none), bytesOf(rel[0]), bytesOf(rel[1]), bytesOf(rel[2]))
		takenBack.Store(0)

		st, err := h.service.Replace(t.Context(), h.tenant, id, namePin(s, r[2]))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		next := st.RequestID
		if st := h.status(next); !at(r[2], 3)(st) {
			t.Fatalf("%s %v", st.Status, st.Info)
		}
		h.wantKept(id)
		h.wantKept(next, r[2], bytesOf(none), bytesOf(rel[0]), bytesOf(rel[1]), bytesOf(rel[2]))
		if takenBack.Load() == 0 {
			t.Error("nobody was told that there is something to collect at once")
		}
		h.collect()
		h.wantWhole(r[2])
		h.wantGone(r[2], r[0], r[1])
	})
}

// wantGone fails where the host has a block that is under the old roots and not under the one that stays.
func (h *pinHost) wantGone(stays cid.Cid, old ...cid.Cid) {
	h.t.Helper()
	now, err := merkle.Verify(h.t.Context(), h.author, stays, merkle.WalkOptions{})
	if err != nil {
		h.t.Fatal(err)
	}
	needed := map[cid.Cid]bool{}
	for _, c := range now.CIDs {
		needed[c] = true
	}
	for _, root := range old {
		was, err := merkle.Verify(h.t.Context(), h.author, root, merkle.WalkOptions{})
		if err != nil {
			h.t.Fatal(err)
		}
		var infos []blockstore.Info
		if infos, err = h.blocks.Stat(h.t.Context(), was.CIDs); err != nil {
			h.t.Fatal(err)
		}
		for _, i := range infos {
			if i.Present && !needed[i.CID] {
				h.t.Errorf("%s of %s is still there", i.CID, root)
			}
		}
	}
}
