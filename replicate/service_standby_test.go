package replicate_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
	"github.com/holdfast-sites/holdfast/replicate"
)

// policyOf puts a policy with these members into the author's store.
func (h *pinHost) policyOf(copies int, members ...peer.ID) cid.Cid {
	h.t.Helper()
	pol := replicate.Policy{Copies: copies, Keep: 1, Expires: time.Now().Add(300 * 24 * time.Hour).UTC().Truncate(time.Second)}
	for _, id := range members {
		pol.Roster = append(pol.Roster, replicate.Member{ID: id, Addrs: []string{"/ip4/203.0.113.9/tcp/4001"}})
	}
	b, err := replicate.EncodePolicy(pol)
	if err != nil {
		h.t.Fatal(err)
	}
	h.put(b)
	return b.Cid()
}

// standby adds a standby's pin of a site, and waits until it has the policy that the name's record names.
func (h *pinHost) standby(s naming.Signer, policy cid.Cid, seq int, meta ...string) (id string) {
	h.t.Helper()
	id = h.add(withMeta(namePin(s, policy, meta...), replicate.MetaRole, replicate.RoleStandby))
	h.wait(id, "there", func(st replicate.PinStatus) bool { return st.Info[replicate.InfoSequence] == fmt.Sprint(seq) })
	return id
}

func (h *pinHost) takeOver(n naming.Name) {
	h.t.Helper()
	if err := h.service.TakeOver(h.t.Context(), n); err != nil {
		h.t.Fatal(err)
	}
}

func (h *pinHost) letGo(n naming.Name) {
	h.t.Helper()
	if err := h.service.LetGo(h.t.Context(), n); err != nil {
		h.t.Fatal(err)
	}
}

func stoodBack(st replicate.PinStatus) bool { return st.Info[replicate.InfoRoot] == "" }

func TestAStandbyHoldsTheSiteWhileItIsItsTurnAndThePolicyBeforeAndAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPinHost(t)
		s := namingtest.Signer(t, "site")
		root := h.site("v1", 3, 100)
		pol := h.policyOf(1, somePeerID(t))
		h.serve()
		h.publish(s, naming.Statement{Value: "/ipfs/" + root.String(), Sequence: 4, Policy: pol})
		id := h.standby(s, pol, 4)
		st := h.status(id)
		if st.Info[replicate.InfoRole] != replicate.RoleStandby || st.Info[replicate.InfoHolds] != "" || st.Info[replicate.InfoRoot] != "" {
			t.Fatalf("before its turn: %v", st.Info)
		}
		for range 2 { // said again it is the same
			h.takeOver(s.Name())
		}
		st = h.wait(id, "in its turn", at(root, 4))
		if _, err := time.Parse(time.RFC3339, h.wait(id, "holding", holding).Info[replicate.InfoHolds]); err != nil {
			t.Errorf("holds since %v", err)
		}
		h.wantWhole(root)
		if from := h.fetcher.sources(); len(from) != 1 || from[0].ID != somePeerID(t) {
			t.Errorf("fetched from %v, want the roster", from)
		}
		next := h.site("v2", 3, 100)
		h.publish(s, naming.Statement{Value: "/ipfs/" + next.String(), Sequence: 5, Policy: pol})
		h.wait(id, "following the name", at(next, 5))

		h.letGo(s.Name())
		h.wait(id, "let go", stoodBack)
		h.waitKeeps(id, pol, bytesOf(pol))
		if st := h.status(id); st.Status != replicate.Pinned || st.Info[replicate.InfoHolds] != "" {
			t.Errorf("after its turn: %s %v", st.Status, st.Info)
		}
		h.takeOver(s.Name())
		h.wait(id, "in its turn again", at(next, 5))
	})
}

func holding(st replicate.PinStatus) bool { return st.Info[replicate.InfoHolds] != "" }

func TestATurnThatBeganBeforeACrashGoesOnAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPinHost(t)
		s := namingtest.Signer(t, "site")
		root := h.site("v1", 3, 100)
		pol := h.policyOf(1, somePeerID(t))
		stop := h.serve()
		h.publish(s, naming.Statement{Value: "/ipfs/" + root.String(), Sequence: 1, Policy: pol})
		id := h.standby(s, pol, 1)
		stop()
		h.takeOver(s.Name()) // written down, and nobody does the work
		h.build()
		stop = h.serve()
		h.wait(id, "in its turn", at(root, 1))
		stop()
		h.letGo(s.Name())
		h.build()
		h.serve()
		h.wait(id, "let go", stoodBack)
		h.waitKeeps(id, pol, bytesOf(pol))
	})
}

// At whichever write the process is cut off, in either direction: what is kept afterwards is what the last word says.
func TestATurnCutOffAtAnyWriteLeavesNothingBehind(t *testing.T) {
	for writes := range 5 {
		for _, stays := range []bool{true, false} {
			t.Run(fmt.Sprint(writes, " writes, stays ", stays), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := newPinHost(t)
					s := namingtest.Signer(t, "site")
					root := h.site("v1", 3, 100)
					pol := h.policyOf(1, somePeerID(t))
					stop := h.serve()
					h.publish(s, naming.Statement{Value: "/ipfs/" + root.String(), Sequence: 1, Policy: pol})
					id := h.standby(s, pol, 1)
					stop()

					store := &failing{PinStore: h.db, left: writes}
					h.build(func(c *replicate.ServiceConfig) { c.Pins = store })
					h.takeOver(s.Name())
					stop = h.serve()
					time.Sleep(time.Second)
					if !stays {
						h.letGo(s.Name())
						time.Sleep(time.Second)
					}
					stop()
					h.build()
					h.serve()
					if stays {
						h.wait(id, "in its turn", at(root, 1))
						h.wantWhole(root)
					} else {
						h.wait(id, "let go", stoodBack)
						h.waitKeeps(id, pol, bytesOf(pol))
					}
				})
			})
		}
	}
}

func TestHoldersAreNotToldToLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPinHost(t)
		s := namingtest.Signer(t, "site")
		root := h.site("v1", 3, 100)
		h.serve()
		h.publish(s, naming.Statement{Value: "/ipfs/" + root.String(), Sequence: 1})
		id := h.add(namePin(s, root))
		h.wait(id, "there", at(root, 1))
		if err := h.service.TakeOver(t.Context(), s.Name()); !errors.Is(err, replicate.ErrNotFound) {
			t.Errorf("there is no standby: %v", err)
		}
		h.letGo(s.Name())
		time.Sleep(5 * time.Minute)
		st, err := h.service.StandingOf(t.Context(), s.Name())
		if err != nil || st.Standby || st.Root != root || st.Sequence != 1 || st.Site != s.Name() {
			t.Errorf("%+v, %v", st, err)
		}
		if _, err := h.service.StandingOf(t.Context(), namingtest.Signer(t, "other").Name()); !errors.Is(err, replicate.ErrNotFound) {
			t.Errorf("a site of nobody's: %v", err)
		}
	})
}

func TestAHostThatHasLostARootFetchesItAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPinHost(t)
		s := namingtest.Signer(t, "site")
		root := h.site("v1", 3, 100)
		h.serve()
		h.publish(s, naming.Statement{Value: "/ipfs/" + root.String(), Sequence: 1})
		id := h.add(namePin(s, root))
		h.wait(id, "there", at(root, 1))
		if err := h.blocks.Release(t.Context(), replicate.Owner(id), root); err != nil {
			t.Fatal(err)
		}
		h.collect()
		if st, err := h.service.StandingOf(t.Context(), s.Name()); err != nil || st.Root.Defined() {
			t.Errorf("it says that it holds what it has lost: %+v, %v", st, err)
		}
		time.Sleep(3 * time.Minute)
		h.wantWhole(root)
		h.wantKept(id, root)
	})
}

func TestTheBestOfSeveralPinsOfASiteCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPinHost(t)
		s := namingtest.Signer(t, "site")
		root := h.site("v1", 3, 100)
		pol := h.policyOf(1, somePeerID(t))
		h.serve()
		h.publish(s, naming.Statement{Value: "/ipfs/" + root.String(), Sequence: 1, Policy: pol})
		h.standby(s, pol, 1)
		h.standby(s, pol, 1)
		all, err := h.service.Standings(t.Context())
		if err != nil || len(all) != 1 || !all[0].Standby || all[0].Root.Defined() || all[0].Policy != pol {
			t.Fatalf("%+v, %v", all, err)
		}
		id := h.add(namePin(s, root))
		h.wait(id, "there", at(root, 1))
		all, err = h.service.Standings(t.Context())
		if err != nil || len(all) != 1 || all[0].Standby || all[0].Root != root || all[0].Holds.IsZero() {
			t.Fatalf("%+v, %v", all, err)
		}
	})
}

func (f *copier) sources() []peer.AddrInfo {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.from
}

func somePeerID(t *testing.T) peer.ID {
	t.Helper()
	id, err := peer.Decode(somePeer)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
