package replicate_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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

func TestANamePinFollowsItsNameAndKeepsAsManyRootsAsAsked(t *testing.T) {
	h := newPinHost(t)
	h.serve()
	s := namingtest.Signer(t, "site")
	var roots []cid.Cid
	for i := range 5 {
		roots = append(roots, h.site(fmt.Sprint("v", i), 5, 500))
	}
	id := h.add(namePin(s, roots[0], replicate.MetaKeep, "2"))
	h.waitStatus(id, replicate.Pinned)
	h.wantKept(id, roots[0])

	want := [][]cid.Cid{
		{roots[0]},
		{roots[1], roots[0]},
		{roots[2], roots[1], roots[0]}, // its own CID stays for ever
		{roots[3], roots[2], roots[0]},
		{roots[4], roots[3], roots[0]},
	}
	for i, root := range roots {
		h.publish(s, toRoot(root, uint64(i+1)))
		st := h.wait(id, "there", at(root, i+1))
		h.wait(id, "rid of the old", func(replicate.PinStatus) bool { return len(h.kept(id)) == len(want[i]) })
		h.wantKept(id, want[i]...)
		if got := st.Info[replicate.InfoKept]; got != join(want[i]) {
			t.Fatalf("kept is %s\nwant %s", got, join(want[i]))
		}
	}
	h.collect()
	for _, root := range want[4] {
		h.wantWhole(root)
	}
	if names, err := h.service.FollowedNames(t.Context()); err != nil || !slices.Equal(names, []naming.Name{s.Name()}) {
		t.Errorf("followed names: %v, %v", names, err)
	}

	// Back to an earlier release: a new record, with a root that is here already.
	h.publish(s, toRoot(roots[3], 6))
	h.wait(id, "back", at(roots[3], 6))
	h.wantKept(id, roots[3], roots[4], roots[0])

	if err := h.service.Delete(t.Context(), h.tenant, id); err != nil {
		t.Fatal(err)
	}
	h.waitGone(id)
	if names, err := h.service.FollowedNames(t.Context()); err != nil || len(names) != 0 {
		t.Errorf("followed names after Delete: %v, %v", names, err)
	}
}

func join(cs []cid.Cid) string {
	var s []string
	for _, c := range cs {
		s = append(s, c.String())
	}
	return strings.Join(s, ",")
}

func TestANameIsLookedUpWithoutBeingTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPinHost(t)
		s := namingtest.Signer(t, "site")
		r1, r2 := h.site("v1", 3, 100), h.site("v2", 3, 100)
		id := h.add(namePin(s, r1))
		h.serve()
		time.Sleep(10 * time.Minute)
		st := h.status(id)
		if st.Status != replicate.Pinned || st.Info[replicate.InfoRoot] != "" || st.Info[replicate.InfoLastError] != "" {
			t.Fatalf("before the first record: %s %v; want it pinned, and no complaint", st.Status, st.Info)
		}
		rec, err := s.Sign(naming.Statement{Value: "/ipfs/" + r2.String(), Sequence: 1, ValidUntil: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		if err := h.db.Accept(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if st := h.status(id); !at(r2, 1)(st) {
			t.Fatalf("two minutes after the record came: %v", st.Info)
		}
	})
}

func TestTheOldRootStaysUntilTheNewOneIsWhole(t *testing.T) {
	h := newPinHost(t)
	h.serve()
	s := namingtest.Signer(t, "site")
	r1, r2, r3 := h.site("v1", 5, 500), h.site("v2", 5, 500), h.site("v3", 5, 500)
	id := h.add(namePin(s, r1, replicate.MetaKeep, "1"))
	h.publish(s, toRoot(r2, 1))
	h.wait(id, "at the first", at(r2, 1))

	reached, goOn := make(chan struct{}), make(chan struct{})
	h.fetcher.set(func(f *copier) {
		f.gate = func(_ context.Context, _ blockstore.Session, n int) error {
			if n == 3 {
				close(reached)
				<-goOn
			}
			return nil
		}
	})
	h.publish(s, toRoot(r3, 2))
	<-reached
	h.collect()
	h.wantWhole(r2)
	h.wantKept(id, r1, r2)
	if st := h.status(id); !at(r2, 1)(st) {
		t.Errorf("half way: %s %v", st.Status, st.Info)
	}
	close(goOn)
	h.wait(id, "at the second", at(r3, 2))
	h.wait(id, "rid of the old", func(replicate.PinStatus) bool { return len(h.kept(id)) == 2 })
	h.wantKept(id, r1, r3)
	h.collect()
	h.wantWhole(r3)
}

func TestARootThatIsHereAlreadyIsTakenWithoutAFetch(t *testing.T) {
	h := newPinHost(t)
	h.serve()
	s := namingtest.Signer(t, "site")
	r1, r2 := h.site("v1", 5, 500), h.site("v2", 5, 500)
	id := h.add(namePin(s, r1))
	h.waitStatus(id, replicate.Pinned)
	temp := h.add(replicate.Pin{CID: r2, Meta: map[string]string{replicate.MetaSite: s.Name().String()}})
	h.waitStatus(temp, replicate.Pinned)
	before := len(h.fetcher.asked())
	h.fetcher.set(func(f *copier) { f.down = true })
	h.publish(s, toRoot(r2, 1))
	h.wait(id, "switched", at(r2, 1))
	if n := len(h.fetcher.asked()); n != before {
		t.Errorf("the fetcher was asked %d times more", n-before)
	}
	if err := h.service.Delete(t.Context(), h.tenant, temp); err != nil {
		t.Fatal(err)
	}
	h.waitGone(temp)
	h.collect()
	h.wantWhole(r2)
}

func TestMaxBytesHoldsWhateverTheNamesOwnerPublishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPinHost(t)
		s := namingtest.Signer(t, "site")
		r1, huge, r3 := h.site("v1", 3, 1000), h.site("huge", 100, 1000), h.site("v3", 3, 1000)
		id := h.add(namePin(s, r1, replicate.MetaMaxBytes, "10000"))
		h.serve()
		h.publish(s, toRoot(r1, 1))
		time.Sleep(time.Second)
		if st := h.status(id); !at(r1, 1)(st) {
			t.Fatalf("at first: %s %v", st.Status, st.Info)
		}
		h.publish(s, toRoot(huge, 2))
		time.Sleep(time.Hour)
		st := h.status(id)
		if !at(r1, 1)(st) || !strings.Contains(st.Info[replicate.InfoLastError], merkle.ErrLimit.Error()) {
			t.Fatalf("after something huge: %s %v; want the old root, and the reason", st.Status, st.Info)
		}
		h.wantKept(id, r1)
		if n := count(h.fetcher.asked(), huge); n != 1 {
			t.Errorf("the huge root was fetched %d times in an hour, want once", n)
		}
		h.collect()
		if u, err := h.blocks.Size(t.Context()); err != nil || u > 10_000 {
			t.Errorf("the store has %d bytes, %v; want the space back", u, err)
		}
		if names, err := h.service.FollowedNames(t.Context()); err != nil || len(names) != 1 {
			t.Errorf("the name is not followed any more: %v, %v", names, err)
		}
		h.publish(s, toRoot(r3, 3))
		time.Sleep(2 * time.Minute)
		if st := h.status(id); !at(r3, 3)(st) || st.Info[replicate.InfoLastError] != "" {
			t.Fatalf("after something that fits: %s %v", st.Status, st.Info)
		}
	})
}

func count(cs []cid.Cid, c cid.Cid) int {
	n := 0
	for _, x := range cs {
		if x == c {
			n++
		}
	}
	return n
}

func TestOlderRootsGoFirstWhenMaxBytesIsReached(t *testing.T) {
	h := newPinHost(t)
	h.serve()
	s := namingtest.Signer(t, "site")
	// Each release has one file of 3000 bytes of its own; five are more than 16 000 bytes with their folders.
	var roots []cid.Cid
	for i := range 6 {
		roots = append(roots, h.site(fmt.Sprint("v", i), 1, 3000))
	}
	id := h.add(namePin(s, roots[0], replicate.MetaKeep, "64", replicate.MetaMaxBytes, "16000"))
	for i, root := range roots {
		h.publish(s, toRoot(root, uint64(i+1)))
		h.wait(id, "there", at(root, i+1))
	}
	h.wait(id, "rid of the old", func(replicate.PinStatus) bool { return len(h.kept(id)) == 5 })
	h.wantKept(id, roots[0], roots[2], roots[3], roots[4], roots[5])
	if u, err := h.blocks.Usage(t.Context(), replicate.Owner(id)); err != nil || u.Bytes > 16000 {
		t.Errorf("usage %+v, %v", u, err)
	}

	// One that fits alone, and not beside the pin's own CID.
	big := h.site("big", 1, 14000)
	h.publish(s, toRoot(big, 7))
	st := h.wait(id, "refused", func(st replicate.PinStatus) bool { return st.Info[replicate.InfoLastError] != "" })
	if !strings.Contains(st.Info[replicate.InfoLastError], replicate.ErrQuota.Error()) || !at(roots[5], 6)(st) {
		t.Errorf("after one too large: %v", st.Info)
	}
	h.wantKept(id, roots[0], roots[2], roots[3], roots[4], roots[5])
}

// scripted answers with the records that a test gives it, checked by nobody.
type scripted struct{ records chan naming.Record }

func (s *scripted) Follow(_ context.Context, n naming.Name) ([]naming.Resolution, cid.Cid, error) {
	select {
	case r := <-s.records:
		root, _ := r.Root()
		return []naming.Resolution{{Record: r}}, root, nil
	default:
		return nil, cid.Undef, &naming.ResolveError{Name: n, Kind: naming.ErrUnavailable}
	}
}

func TestANamePinNeverGoesBackToALowerSequence(t *testing.T) {
	h := newPinHost(t)
	script := &scripted{records: make(chan naming.Record, 1)}
	h.build(func(c *replicate.ServiceConfig) { c.Names = script })
	h.serve()
	s := namingtest.Signer(t, "site")
	r1, r2 := h.site("v1", 3, 100), h.site("v2", 3, 100)
	id := h.add(namePin(s, r1))
	feed := func(root cid.Cid, seq uint64) {
		st := toRoot(root, seq)
		st.ValidUntil = time.Now().Add(time.Hour)
		rec, err := s.Sign(st)
		if err != nil {
			t.Fatal(err)
		}
		script.records <- rec
		waitFor(t, "the record to be taken", func() bool { h.service.FollowNow(s.Name()); return len(script.records) == 0 })
	}
	feed(r2, 5)
	h.wait(id, "at the newer", at(r2, 5))
	feed(r1, 4)
	// What comes after it shows that it was dealt with.
	feed(r2, 6)
	h.wait(id, "past the older", at(r2, 6))
	if st := h.status(id); st.Info[replicate.InfoKept] != join([]cid.Cid{r2, r1}) {
		t.Errorf("kept %s", st.Info[replicate.InfoKept])
	}
}

func TestTheReleaseAndPolicyThatTheRecordNamesAreKept(t *testing.T) {
	h := newPinHost(t)
	h.serve()
	s := namingtest.Signer(t, "site")
	r1, r2 := h.site("v1", 3, 100), h.site("v2", 3, 100)
	first := h.release(merkle.Release{Root: r1, Number: 1})
	second := h.release(merkle.Release{Root: r2, Number: 2, Previous: first})
	pol1, pol2 := h.block(cid.DagCBOR, "\xa1aa\x01"), h.block(cid.DagCBOR, "\xa1aa\x02")

	id := h.add(namePin(s, r2))
	h.publish(s, naming.Statement{Value: "/ipfs/" + r2.String(), Sequence: 1, Release: second, Policy: pol1})
	h.wait(id, "there", at(r2, 1))
	h.waitKeeps(id, r2, bytesOf(second), bytesOf(pol1))
	h.collect()
	if rel, err := merkle.ReadRelease(t.Context(), h.blocks, second); err != nil || rel.Number != 2 {
		t.Fatalf("the release is not to be read: %v", err)
	}
	if info, err := h.blocks.Stat(t.Context(), []cid.Cid{first, r1}); err != nil || info[0].Present || info[1].Present {
		t.Errorf("the previous release or its root was fetched: %v, %v", info, err)
	}

	third := h.release(merkle.Release{Root: r2, Number: 3, Previous: second})
	h.publish(s, naming.Statement{Value: "/ipfs/" + r2.String(), Sequence: 2, Release: third, Policy: pol2})
	h.wait(id, "there", at(r2, 2))
	h.waitKeeps(id, r2, bytesOf(second), bytesOf(third), bytesOf(pol2))

	// A release pinned by somebody is a DAG like any other, and not whole because its block is here.
	pin := h.add(replicate.Pin{CID: third})
	h.waitStatus(pin, replicate.Pinned)
	h.wantWhole(first)
}

func bytesOf(c cid.Cid) cid.Cid { return cid.NewCidV1(cid.Raw, c.Hash()) }

func (h *pinHost) waitKeeps(id string, want ...cid.Cid) {
	h.t.Helper()
	waitFor(h.t, "what is kept to be "+join(sorted(want...)), func() bool { return slices.Equal(h.kept(id), sorted(want...)) })
}

func (h *pinHost) release(r merkle.Release) cid.Cid {
	h.t.Helper()
	r.Time, r.Tool = time.Unix(1_000_000_000, 0).UTC(), "test"
	b, err := merkle.EncodeRelease(r)
	if err != nil {
		h.t.Fatal(err)
	}
	h.put(b)
	return b.Cid()
}

func TestABadReleaseOrPolicyDoesNotKeepTheRootBack(t *testing.T) {
	h := newPinHost(t)
	h.serve()
	s := namingtest.Signer(t, "site")
	r1, r2 := h.site("v1", 3, 100), h.site("v2", 3, 100)
	large := h.block(cid.DagCBOR, strings.Repeat("x", 64<<10+1))
	fits := h.block(cid.DagCBOR, strings.Repeat("x", 64<<10))
	id := h.add(namePin(s, r1))
	h.publish(s, naming.Statement{Value: "/ipfs/" + r2.String(), Sequence: 1, Release: namingtest.CID("nowhere"), Policy: large})
	st := h.wait(id, "there with an error", func(st replicate.PinStatus) bool {
		return at(r2, 1)(st) && st.Info[replicate.InfoLastError] != ""
	})
	if e := st.Info[replicate.InfoLastError]; !strings.Contains(e, "release") || !strings.Contains(e, "policy") {
		t.Errorf("last error %q, want it to name both", e)
	}
	h.waitKeeps(id, r1, r2)
	h.publish(s, naming.Statement{Value: "/ipfs/" + r2.String(), Sequence: 2, Policy: fits})
	h.wait(id, "there without", func(st replicate.PinStatus) bool { return at(r2, 2)(st) && st.Info[replicate.InfoLastError] == "" })
	h.waitKeeps(id, r1, r2, bytesOf(fits))
}

func TestThroughADeployKeyThePolicyIsTheOutermostAndTheReleaseTheInnermost(t *testing.T) {
	h := newPinHost(t)
	h.serve()
	site, deploy := namingtest.Signer(t, "site"), namingtest.Signer(t, "deploy")
	root := h.site("v1", 3, 100)
	outerPol, innerPol := h.block(cid.DagCBOR, "\xa1aa\x01"), h.block(cid.DagCBOR, "\xa1aa\x02")
	outerRel := h.release(merkle.Release{Root: root, Number: 7})
	innerRel := h.release(merkle.Release{Root: root, Number: 8})
	id := h.add(namePin(site, root))
	h.publish(deploy, naming.Statement{Value: "/ipfs/" + root.String(), Sequence: 9, Release: innerRel, Policy: innerPol})
	h.publish(site, naming.Statement{Value: "/ipns/" + deploy.Name().String(), Sequence: 3, Release: outerRel, Policy: outerPol})
	h.wait(id, "there", at(root, 3))
	h.waitKeeps(id, root, bytesOf(innerRel), bytesOf(outerPol))
}

func TestAStandbyHoldsThePolicyAndNoSite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPinHost(t)
		s := namingtest.Signer(t, "site")
		root := h.site("v1", 3, 100)
		pol := h.block(cid.DagCBOR, "\xa1aa\x01")
		id := h.add(withMeta(namePin(s, pol), replicate.MetaRole, replicate.RoleStandby))
		h.serve()
		h.publish(s, naming.Statement{Value: "/ipfs/" + root.String(), Sequence: 4, Policy: pol})
		time.Sleep(2 * time.Minute)
		st := h.status(id)
		if st.Status != replicate.Pinned || st.Info[replicate.InfoSequence] != "4" || st.Info[replicate.InfoRoot] != "" {
			t.Fatalf("%s %v", st.Status, st.Info)
		}
		h.wantKept(id, pol, bytesOf(pol))
		if count(h.fetcher.asked(), root) != 0 {
			t.Error("the standby fetched the site")
		}
	})
}

// failing is a store that refuses one SavePin, and then all until it is mended.
type failing struct {
	replicate.PinStore
	left int
}

var errGone = errors.New("the store is gone")

func (f *failing) SavePin(ctx context.Context, row replicate.PinRow, by string, giveBack bool) error {
	if f.left--; f.left < 0 {
		return errGone
	}
	return f.PinStore.SavePin(ctx, row, by, giveBack)
}

// At whichever write the process is cut off: when the name has moved on by the
// time it comes back, nothing is kept that should not be, and nothing lacks.
func TestAFollowCutOffAtAnyWriteLeavesNothingBehind(t *testing.T) {
	for writes := range 6 {
		t.Run(fmt.Sprint(writes, " writes"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newPinHost(t)
				s := namingtest.Signer(t, "site")
				r1, r2, r3 := h.site("v1", 3, 100), h.site("v2", 3, 100), h.site("v3", 3, 100)
				r4 := h.site("v4", 3, 100)
				id := h.add(namePin(s, r1, replicate.MetaKeep, "1"))
				stop := h.serve()
				h.publish(s, toRoot(r2, 1))
				time.Sleep(5 * time.Second)
				h.wantKept(id, r1, r2)
				stop()

				h.build(func(c *replicate.ServiceConfig) { c.Pins = &failing{h.db, writes} })
				stop = h.serve()
				h.publish(s, toRoot(r3, 2))
				time.Sleep(5 * time.Second)
				stop()

				h.build()
				h.serve()
				h.publish(s, toRoot(r4, 3))
				time.Sleep(3 * time.Minute)
				if st := h.status(id); !at(r4, 3)(st) {
					t.Fatalf("afterwards: %s %v", st.Status, st.Info)
				}
				h.wantKept(id, r1, r4)
				h.collect()
				h.wantWhole(r1)
				h.wantWhole(r4)
			})
		})
	}
}

func TestARecordThatComesWhileTheNameIsFollowedIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPinHost(t)
		s := namingtest.Signer(t, "site")
		r1, r2, r3 := h.site("v1", 3, 100), h.site("v2", 3, 100), h.site("v3", 3, 100)
		id := h.add(namePin(s, r1))
		h.serve()
		time.Sleep(time.Second)
		h.fetcher.set(func(f *copier) {
			f.gate = func(context.Context, blockstore.Session, int) error { time.Sleep(time.Second); return nil }
		})
		h.publish(s, toRoot(r2, 1))
		time.Sleep(2 * time.Second)
		h.publish(s, toRoot(r3, 2))
		time.Sleep(10 * time.Second)
		if st := h.status(id); !at(r3, 2)(st) {
			t.Fatalf("ten seconds later: %s %v", st.Status, st.Info)
		}
	})
}
