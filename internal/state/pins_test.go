package state_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
	"github.com/holdfast-sites/holdfast/replicate"
)

func row(id string) replicate.PinRow {
	return replicate.PinRow{
		ID: id, Tenant: "tenant", Pin: replicate.Pin{CID: namingtest.CID(id)},
		Created: start.Truncate(time.Microsecond), Status: replicate.Queued, Due: start,
	}
}

func addPin(t *testing.T, db *state.DB, r replicate.PinRow) replicate.PinRow {
	t.Helper()
	got, err := db.AddPin(t.Context(), r, replicate.Room{})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func lease(by string, now time.Time) replicate.Lease {
	return replicate.Lease{By: by, Now: now, Until: now.Add(time.Minute)}
}

func TestAPinComesBackAsItWasAddedAndAsItWasSaved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	db := open(t, path)
	s := namingtest.Signer(t, "a")
	r := row("one")
	r.Pin.Name, r.Pin.Origins = `O'Name"`, []string{"/ip4/1.2.3.4/tcp/1"}
	r.Pin.Meta = map[string]string{replicate.MetaName: s.Name().String(), `a"b.c`: "\u2028'", "": ""}
	if got := addPin(t, db, r); !reflect.DeepEqual(got, r) {
		t.Fatalf("added %+v\nwant %+v", got, r)
	}
	r.LeasedBy, r.LeasedUntil = "me", start.Add(time.Minute)
	if got, err := db.LeaseNext(t.Context(), replicate.WorkNew, lease("me", start)); err != nil || !reflect.DeepEqual(got, r) {
		t.Fatalf("leased %+v, %v\nwant %+v", got, err, r)
	}
	r.Status, r.Done, r.Attempts, r.Failing, r.LastError = replicate.Pinned, replicate.Count{Blocks: 1, Bytes: 2}, 3, start, "why"
	r.Due, r.Root, r.Sequence, r.Switched = start.Add(time.Hour), namingtest.CID("r"), naming.MaxSequence, start.Add(time.Minute)
	r.Kept, r.Dropping = []cid.Cid{namingtest.CID("k1"), namingtest.CID("k2")}, []cid.Cid{namingtest.CID("d")}
	r.Release, r.Policy, r.Fetching, r.Refused = namingtest.CID("rel"), namingtest.CID("pol"), namingtest.CID("f"), namingtest.CID("ref")
	if err := db.SavePin(t.Context(), r, "me", false); err != nil {
		t.Fatal(err)
	}
	db.Close()
	db = open(t, path)
	if got, err := db.GetPin(t.Context(), "tenant", "one"); err != nil || !reflect.DeepEqual(got, r) {
		t.Fatalf("saved %+v, %v\nwant %+v", got, err, r)
	}
	if names, err := db.FollowedNames(t.Context()); err != nil || !slices.Equal(names, []naming.Name{s.Name()}) {
		t.Fatalf("followed %v, %v", names, err)
	}
}

func TestTimesOfCreationAreUniqueForATenant(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	a, b := open(t, path), open(t, path)
	var mu sync.Mutex
	seen := map[string]bool{}
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			r := row(fmt.Sprint(i))
			r.Tenant = fmt.Sprint("tenant ", i%2)
			got, err := []*state.DB{a, b}[i/2%2].AddPin(t.Context(), r, replicate.Room{})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			key := got.Tenant + got.Created.String()
			if seen[key] || got.Created.Before(r.Created) || got.Created.Sub(r.Created) >= 20*time.Millisecond {
				t.Errorf("created %v for %s", got.Created, r.Tenant)
			}
			seen[key] = true
		})
	}
	wg.Wait()
}

func TestOneRowIsLeasedToOneWorkerOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	dbs := []*state.DB{open(t, path), open(t, path)}
	for i := range 20 {
		addPin(t, dbs[0], row(fmt.Sprint(i)))
	}
	var mu sync.Mutex
	owners := map[string]string{}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			me := fmt.Sprint("worker ", w)
			for {
				r, err := dbs[w%2].LeaseNext(t.Context(), replicate.WorkNew, lease(me, start))
				if errors.Is(err, replicate.ErrNotFound) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if owners[r.ID] != "" {
					t.Errorf("%s was leased to %s and %s", r.ID, owners[r.ID], me)
				}
				owners[r.ID] = me
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(owners) != 20 {
		t.Errorf("%d rows were leased, want 20", len(owners))
	}
}

func TestALeaseIsHeldGivenBackAndRunsOut(t *testing.T) {
	db := fresh(t)
	ctx := t.Context()
	r := addPin(t, db, row("a"))
	if _, err := db.LeaseNext(ctx, replicate.WorkNew, lease("a", start.Add(-time.Microsecond))); !errors.Is(err, replicate.ErrNotFound) {
		t.Fatalf("before it is due: %v, want ErrNotFound", err)
	}
	if _, err := db.LeaseNext(ctx, replicate.WorkStanding, lease("a", start)); !errors.Is(err, replicate.ErrNotFound) {
		t.Fatalf("work of the other kind: %v, want ErrNotFound", err)
	}
	if next, err := db.NextDue(ctx, replicate.WorkNew); err != nil || !next.Equal(start) {
		t.Fatalf("next due %v, %v; want %v", next, err, start)
	}
	if _, err := db.LeaseNext(ctx, replicate.WorkNew, lease("a", start)); err != nil {
		t.Fatal(err)
	}
	if next, err := db.NextDue(ctx, replicate.WorkNew); err != nil || !next.Equal(start.Add(time.Minute)) {
		t.Fatalf("next due of a leased row %v, %v; want the lease's end", next, err)
	}
	if _, err := db.LeasePin(ctx, "a", lease("b", start.Add(59*time.Second))); !errors.Is(err, replicate.ErrLeased) {
		t.Fatalf("of somebody else: %v, want ErrLeased", err)
	}
	if err := db.RenewLease(ctx, "a", lease("a", start.Add(30*time.Second)), replicate.Count{Blocks: 7, Bytes: 70}); err != nil {
		t.Fatal(err)
	}
	if err := db.RenewLease(ctx, "a", lease("b", start), replicate.Count{}); !errors.Is(err, replicate.ErrLeased) {
		t.Fatalf("renewing somebody else's: %v, want ErrLeased", err)
	}
	if _, err := db.LeasePin(ctx, "a", lease("b", start.Add(61*time.Second))); !errors.Is(err, replicate.ErrLeased) {
		t.Fatalf("after the renewal: %v, want ErrLeased", err)
	}
	if got, err := db.LeasePin(ctx, "a", lease("b", start.Add(90*time.Second))); err != nil || got.Done.Blocks != 7 {
		t.Fatalf("when it has run out: %+v, %v", got, err)
	}
	r.Status = replicate.Pinned
	if err := db.SavePin(ctx, r, "a", true); !errors.Is(err, replicate.ErrLeased) {
		t.Fatalf("a save by who lost it: %v, want ErrLeased", err)
	}
	if got, err := db.GetPin(ctx, "", "a"); err != nil || got.Status != replicate.Queued {
		t.Fatalf("it was written: %+v, %v", got, err)
	}
	if err := db.GiveBack(ctx, "a", "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.LeasePin(ctx, "a", lease("c", start)); !errors.Is(err, replicate.ErrLeased) {
		t.Fatalf("given back by who does not have it: %v, want ErrLeased", err)
	}
	if err := db.GiveBack(ctx, "", "b"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.LeasePin(ctx, "a", lease("c", start)); err != nil {
		t.Fatalf("given back: %v", err)
	}
	if _, err := db.LeasePin(ctx, "none", lease("c", start)); !errors.Is(err, replicate.ErrNotFound) {
		t.Fatalf("no row: %v, want ErrNotFound", err)
	}
}

func TestRowsNeverTriedComeBeforeThoseThatFail(t *testing.T) {
	db := fresh(t)
	ctx := t.Context()
	old := addPin(t, db, row("old"))
	if _, err := db.LeasePin(ctx, "old", lease("me", start)); err != nil {
		t.Fatal(err)
	}
	old.Status, old.Attempts, old.Due = replicate.Pinning, 1, start.Add(-time.Hour)
	if err := db.SavePin(ctx, old, "me", true); err != nil {
		t.Fatal(err)
	}
	addPin(t, db, row("new"))
	for _, want := range []string{"new", "old"} {
		if got, err := db.LeaseNext(ctx, replicate.WorkNew, lease("me", start)); err != nil || got.ID != want {
			t.Fatalf("got %s, %v; want %s", got.ID, err, want)
		}
	}
}

func TestARemovedRowIsSeenByItsRemoverOnly(t *testing.T) {
	db := fresh(t)
	ctx := t.Context()
	s := namingtest.Signer(t, "a")
	r := row("a")
	r.Pin.Meta = map[string]string{replicate.MetaName: s.Name().String(), replicate.MetaAuditor: s.Name().Peer().String()}
	r = addPin(t, db, r)
	if got, err := db.AuditorPins(ctx, s.Name().Peer()); err != nil || len(got) != 1 {
		t.Fatalf("of the auditor: %v, %v", got, err)
	}
	if _, err := db.LeasePin(ctx, "a", lease("worker", start)); err != nil {
		t.Fatal(err)
	}
	if err := db.RemovePin(ctx, "other", "a", start); !errors.Is(err, replicate.ErrNotFound) {
		t.Fatalf("by another tenant: %v, want ErrNotFound", err)
	}
	if err := db.RemovePin(ctx, "tenant", "a", start); err != nil {
		t.Fatal(err)
	}
	if err := db.RemovePin(ctx, "tenant", "a", start); !errors.Is(err, replicate.ErrNotFound) {
		t.Fatalf("twice: %v, want ErrNotFound", err)
	}
	if _, err := db.GetPin(ctx, "tenant", "a"); !errors.Is(err, replicate.ErrNotFound) {
		t.Fatalf("get: %v, want ErrNotFound", err)
	}
	if _, n, err := db.ListPins(ctx, "", replicate.Query{Status: []replicate.Status{replicate.Queued}}); err != nil || n != 0 {
		t.Fatalf("listed: %d, %v", n, err)
	}
	if got, err := db.AuditorPins(ctx, s.Name().Peer()); err != nil || len(got) != 0 {
		t.Fatalf("of the auditor: %v, %v", got, err)
	}
	if got, err := db.FollowedNames(ctx); err != nil || len(got) != 0 {
		t.Fatalf("followed: %v, %v", got, err)
	}
	for what, err := range map[string]error{
		"save":  db.SavePin(ctx, r, "worker", false),
		"renew": db.RenewLease(ctx, "a", lease("worker", start), replicate.Count{}),
	} {
		if !errors.Is(err, replicate.ErrLeased) {
			t.Errorf("%s by the worker: %v, want ErrLeased", what, err)
		}
	}
	if err := db.GiveBack(ctx, "a", "worker"); err != nil {
		t.Fatal(err)
	}
	got, err := db.LeaseNext(ctx, replicate.WorkStanding, lease("remover", start))
	if err != nil || !got.Removed {
		t.Fatalf("the remover gets %+v, %v", got, err)
	}
	if err := db.ForgetPin(ctx, "a", "worker"); !errors.Is(err, replicate.ErrLeased) {
		t.Fatalf("forgotten by somebody else: %v, want ErrLeased", err)
	}
	if err := db.ForgetPin(ctx, "a", "remover"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.LeasePin(ctx, "a", lease("x", start)); !errors.Is(err, replicate.ErrNotFound) {
		t.Fatalf("afterwards: %v, want ErrNotFound", err)
	}
}

func TestAPinThatStandsRemovesWhatItReplacesInTheSameStep(t *testing.T) {
	db := fresh(t)
	ctx := t.Context()
	addPin(t, db, row("old"))
	r := row("new")
	r.Replaces = "old"
	r.Tenant = "other"
	if _, err := db.AddPin(ctx, r, replicate.Room{}); !errors.Is(err, replicate.ErrNotFound) {
		t.Fatalf("replacing another tenant's: %v, want ErrNotFound", err)
	}
	r.Tenant = "tenant"
	r = addPin(t, db, r)
	if _, err := db.LeasePin(ctx, "new", lease("me", start)); err != nil {
		t.Fatal(err)
	}
	r.Status = replicate.Pinning
	if err := db.SavePin(ctx, r, "me", false); err != nil {
		t.Fatal(err)
	}
	if _, err := db.GetPin(ctx, "tenant", "old"); err != nil {
		t.Fatalf("the old one meanwhile: %v", err)
	}
	r.Status = replicate.Pinned
	if err := db.SavePin(ctx, r, "me", true); err != nil {
		t.Fatal(err)
	}
	if _, err := db.GetPin(ctx, "tenant", "old"); !errors.Is(err, replicate.ErrNotFound) {
		t.Fatalf("the old one afterwards: %v, want ErrNotFound", err)
	}
	if got, err := db.LeaseNext(ctx, replicate.WorkStanding, lease("me", start)); err != nil || got.ID != "old" || !got.Removed {
		t.Fatalf("to be removed: %+v, %v", got, err)
	}
}

func TestOnlyPinnedRowsThatFollowANameBecomeDueWithIt(t *testing.T) {
	db := fresh(t)
	ctx := t.Context()
	s := namingtest.Signer(t, "a")
	for _, id := range []string{"waits", "follows", "snapshot"} {
		r := row(id)
		if id != "snapshot" {
			r.Pin.Meta = map[string]string{replicate.MetaName: s.Name().String()}
		}
		r = addPin(t, db, r)
		if _, err := db.LeasePin(ctx, id, lease("me", start)); err != nil {
			t.Fatal(err)
		}
		if r.Due = start.Add(time.Hour); id != "waits" {
			r.Status = replicate.Pinned
		}
		if err := db.SavePin(ctx, r, "me", true); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.DueName(ctx, s.Name(), start); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]time.Time{"waits": start.Add(time.Hour), "follows": start, "snapshot": start.Add(time.Hour)} {
		if got, err := db.GetPin(ctx, "", id); err != nil || !got.Due.Equal(want) {
			t.Errorf("%s is due %v, %v; want %v", id, got.Due, err, want)
		}
	}
}
