package replicate_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
	"github.com/holdfast-sites/holdfast/replicate"
)

func TestAPinIsFetchedAndKept(t *testing.T) {
	pinned := make(chan replicate.PinRow, 1)
	h := newPinHost(t, func(c *replicate.ServiceConfig) {
		c.OnPinned = func(_ context.Context, row replicate.PinRow) { pinned <- row }
		c.TenantAddrs = func(o []string) ([]peer.AddrInfo, error) {
			ai, err := peer.AddrInfoFromString(o[0])
			return []peer.AddrInfo{*ai}, err
		}
	})
	root := h.site("v1", 10, 1000)
	id := h.add(replicate.Pin{CID: root, Name: "mine", Origins: []string{someAddr}, Meta: map[string]string{"app": "x"}})
	if st := h.status(id); st.Status != replicate.Queued || st.Pin.Name != "mine" || st.Pin.Meta["app"] != "x" || st.Delegates[0] != someAddr {
		t.Fatalf("right after Add: %+v", st)
	}
	h.serve()
	st := h.waitStatus(id, replicate.Pinned)
	h.wantKept(id, root)
	h.collect()
	h.wantWhole(root)
	if row := <-pinned; row.ID != id || row.Kept[0] != root {
		t.Errorf("OnPinned got %+v", row)
	}
	if st.Info[replicate.InfoBlocksDone] != "11" || st.Info[replicate.InfoBytes] != st.Info[replicate.InfoBytesDone] || st.Info[replicate.InfoLastError] != "" {
		t.Errorf("info %v", st.Info)
	}
	if len(h.fetcher.from) != 1 || h.fetcher.from[0].ID.String() != somePeer {
		t.Errorf("the pin's origin was not asked: %v", h.fetcher.from)
	}
}

func TestOneOfTwoPinsThatShareADAGGoesAndTheOtherStaysWhole(t *testing.T) {
	h := newPinHost(t)
	h.serve()
	root := h.site("v1", 5, 1000)
	a, b := h.add(replicate.Pin{CID: root}), h.add(replicate.Pin{CID: root})
	h.waitStatus(a, replicate.Pinned)
	h.waitStatus(b, replicate.Pinned)
	if err := h.service.Delete(t.Context(), h.tenant, a); err != nil {
		t.Fatal(err)
	}
	h.waitGone(a)
	h.collect()
	h.wantWhole(root)
	h.wantKept(b, root)
	if err := h.service.Delete(t.Context(), h.tenant, b); err != nil {
		t.Fatal(err)
	}
	h.waitGone(b)
	h.collect()
	if info, err := h.blocks.Stat(t.Context(), []cid.Cid{root}); err != nil || info[0].Present {
		t.Fatalf("nobody keeps the root, and it is still there: %v", err)
	}
}

func TestAPinIsQueuedBeforeItIsAcknowledged(t *testing.T) {
	h := newPinHost(t)
	id := h.add(replicate.Pin{CID: h.site("v1", 3, 100)})
	// The process is killed right after the answer: nothing of it is left but the files.
	path := h.db.Path()
	after := copyFiles(t, filepath.Dir(path), filepath.Base(path), filepath.Base(path)+"-wal")
	db, err := state.Open(t.Context(), filepath.Join(after, filepath.Base(path)))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if row, err := db.GetPin(t.Context(), h.tenant.ID, id); err != nil || row.Status != replicate.Queued {
		t.Fatalf("after the kill: %+v, %v", row, err)
	}
}

func copyFiles(t *testing.T, dir string, names ...string) string {
	t.Helper()
	to := t.TempDir()
	for _, n := range names {
		b, err := os.ReadFile(filepath.Join(dir, n))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, n), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// What a killed process leaves is its files, as they were at that moment.
func TestAFetchKilledHalfWayIsFinishedByTheNextProcess(t *testing.T) {
	h := newPinHost(t)
	dir := t.TempDir()
	disk, err := blockstore.OpenDisk(t.Context(), dir, blockstore.DiskOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { disk.Close() })
	h.blocks = disk
	h.build()

	const half = 20
	reached := make(chan struct{})
	h.fetcher.set(func(f *copier) {
		f.gate = func(ctx context.Context, into blockstore.Session, n int) error {
			if n < half {
				return nil
			}
			if err := into.Sync(ctx); err != nil { // as the service does every few seconds
				return err
			}
			close(reached)
			<-ctx.Done()
			return ctx.Err()
		}
	})
	root := h.site("v1", 40, 1000)
	id := h.add(replicate.Pin{CID: root})
	stop := h.serve()
	<-reached

	path := h.db.Path()
	files := copyFiles(t, filepath.Dir(path), filepath.Base(path), filepath.Base(path)+"-wal")
	blocks := t.TempDir()
	if err := os.CopyFS(blocks, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	stop()

	next := &pinHost{t: t, author: h.author, tenant: h.tenant, fetcher: &copier{source: h.author}}
	if next.db, err = state.Open(t.Context(), filepath.Join(files, filepath.Base(path))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { next.db.Close() })
	if next.blocks, err = blockstore.OpenDisk(t.Context(), blocks, blockstore.DiskOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { next.blocks.Close() })
	next.names = newResolver(next.db)
	next.build()
	if row, err := next.db.GetPin(t.Context(), "", id); err != nil || row.Status != replicate.Pinning || row.LeasedBy == "" || row.Reserved == 0 {
		t.Fatalf("the row that was left: %+v, %v; want it leased and pinning, with room reserved", row, err)
	}
	next.collect() // a collection before the work goes on
	next.serve()
	next.waitStatus(id, replicate.Pinned)
	next.wantKept(id, root)
	next.wantWhole(root)
	next.wantBooks(next.uses(), 0) // what was reserved when it was killed is not for ever
	if n := len(next.fetcher.copied); n != 41-half {
		t.Errorf("the second process fetched %d blocks, want the %d that were not there", n, 41-half)
	}
}

func TestAServiceThatIsStoppedHalfWayGoesOn(t *testing.T) {
	h := newPinHost(t)
	reached := make(chan struct{})
	h.fetcher.set(func(f *copier) {
		f.gate = func(ctx context.Context, into blockstore.Session, n int) error {
			if n < 5 {
				return nil
			}
			close(reached)
			<-ctx.Done()
			return ctx.Err()
		}
	})
	id := h.add(replicate.Pin{CID: h.site("v1", 10, 100)})
	stop := h.serve()
	<-reached
	stop()
	if row, err := h.db.GetPin(t.Context(), "", id); err != nil || row.LeasedBy != "" || row.Attempts != 0 {
		t.Fatalf("after a clean stop: %+v, %v; want the row given back, and no failure counted", row, err)
	}
	h.fetcher.set(func(f *copier) { f.gate = nil })
	h.build()
	h.serve()
	h.waitStatus(id, replicate.Pinned)
}

func TestADeletedPinIsNotFetchedToItsEnd(t *testing.T) {
	h := newPinHost(t)
	reached := make(chan struct{})
	h.fetcher.set(func(f *copier) {
		f.gate = func(ctx context.Context, into blockstore.Session, n int) error {
			if n < 5 {
				return nil
			}
			close(reached)
			<-ctx.Done()
			return ctx.Err()
		}
	})
	id := h.add(replicate.Pin{CID: h.site("v1", 10, 100)})
	h.serve()
	<-reached
	if err := h.service.Delete(t.Context(), h.tenant, id); err != nil {
		t.Fatal(err)
	}
	h.waitGone(id)
	waitFor(t, "the space to come back", func() bool {
		h.collect()
		n, err := h.blocks.Size(t.Context())
		return err == nil && n == 0
	})
	waitFor(t, "the row to go", func() bool {
		_, err := h.db.LeasePin(t.Context(), id, replicate.Lease{By: "x", Now: time.Now()})
		return errors.Is(err, replicate.ErrNotFound)
	})
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !done() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestAPinOverTheLimitFailsWithTheReasonAndTheSpaceComesBack(t *testing.T) {
	h := newPinHost(t, func(c *replicate.ServiceConfig) { c.MaxPinBytes = 5000 })
	h.serve()
	id := h.add(replicate.Pin{CID: h.site("v1", 20, 1000)})
	st := h.waitStatus(id, replicate.Failed)
	if !strings.Contains(st.Info[replicate.InfoLastError], "limit") || st.Info[replicate.InfoNextTry] != "" {
		t.Errorf("info %v; want the limit named and no next try", st.Info)
	}
	h.wantKept(id)
	waitFor(t, "the space to come back", func() bool {
		h.collect()
		n, err := h.blocks.Size(t.Context())
		return err == nil && n == 0
	})

	small := withMeta(replicate.Pin{CID: h.site("small", 2, 100)}, replicate.MetaMaxBytes, "150")
	h.waitStatus(h.add(small), replicate.Failed)
	small.Meta[replicate.MetaMaxBytes] = "5000"
	h.waitStatus(h.add(small), replicate.Pinned)
	small.Meta[replicate.MetaMaxBytes] = "150" // whole here already: the limit holds even so
	h.waitStatus(h.add(small), replicate.Failed)
	small.Meta[replicate.MetaMaxBytes] = "5001"
	if _, err := h.service.Add(t.Context(), h.tenant, small); !errors.Is(err, replicate.ErrQuota) {
		t.Errorf("asking for more than the host gives: %v, want ErrQuota", err)
	}
}

func TestAMalformedDAGFailsAtOnce(t *testing.T) {
	h := newPinHost(t)
	h.serve()
	id := h.add(replicate.Pin{CID: h.block(cid.DagProtobuf, "this is no dag-pb")})
	if st := h.waitStatus(id, replicate.Failed); st.Info[replicate.InfoLastError] == "" {
		t.Errorf("no reason given: %v", st.Info)
	}
}

func TestAnUnavailableSourceIsAskedAgainAndGivenUpAfterADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPinHost(t)
		root := h.site("v1", 3, 100)
		h.fetcher.set(func(f *copier) { f.down = true })
		h.serve()
		lost, id := h.add(replicate.Pin{CID: namingtest.CID("nobody has this")}), h.add(replicate.Pin{CID: root})
		time.Sleep(500 * time.Millisecond)
		st := h.status(id)
		if st.Status != replicate.Pinning || st.Info[replicate.InfoNextTry] == "" || !strings.Contains(st.Info[replicate.InfoLastError], "nobody answered") {
			t.Fatalf("after the first failure: %s %v", st.Status, st.Info)
		}
		time.Sleep(10 * time.Second)
		if n := len(h.fetcher.asked()); n < 2*3 || n > 2*5 {
			t.Errorf("%d tries for two pins in 10 s, want 4 each, more or less", n)
		}
		time.Sleep(time.Hour)
		h.fetcher.set(func(f *copier) { f.down = false })
		time.Sleep(12 * time.Minute)
		if st := h.status(id); st.Status != replicate.Pinned || st.Info[replicate.InfoLastError] != "" || st.Info[replicate.InfoNextTry] != "" {
			t.Fatalf("the source came back an hour later: %s %v", st.Status, st.Info)
		}
		if st := h.status(lost); st.Status != replicate.Pinning {
			t.Fatalf("after an hour: %s", st.Status)
		}
		time.Sleep(24 * time.Hour)
		if st := h.status(lost); st.Status != replicate.Failed || st.Info[replicate.InfoLastError] == "" {
			t.Fatalf("after a day: %s %v", st.Status, st.Info)
		}
	})
}

func TestASourceThatSendsNothingIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPinHost(t)
		h.fetcher.set(func(f *copier) {
			f.gate = func(ctx context.Context, into blockstore.Session, n int) error { <-ctx.Done(); return ctx.Err() }
		})
		h.serve()
		id := h.add(replicate.Pin{CID: h.site("v1", 3, 100)})
		time.Sleep(119 * time.Second)
		if st := h.status(id); st.Info[replicate.InfoLastError] != "" {
			t.Fatalf("given up too early: %v", st.Info)
		}
		time.Sleep(2 * time.Second)
		if st := h.status(id); st.Status != replicate.Pinning || !strings.Contains(st.Info[replicate.InfoLastError], "nothing came") {
			t.Fatalf("after two minutes of nothing: %s %v", st.Status, st.Info)
		}
	})
}

func TestProgressIsShownWhileItGoesOn(t *testing.T) {
	h := newPinHost(t)
	reached, goOn := make(chan struct{}), make(chan struct{})
	h.fetcher.set(func(f *copier) {
		f.gate = func(ctx context.Context, into blockstore.Session, n int) error {
			if n == 5 {
				close(reached)
				<-goOn
			}
			return nil
		}
	})
	h.serve()
	id := h.add(replicate.Pin{CID: h.site("v1", 10, 1000)})
	<-reached
	st := h.status(id)
	close(goOn)
	if st.Status != replicate.Pinning || st.Info[replicate.InfoBlocksDone] != "5" || st.Info[replicate.InfoBytesDone] == "" {
		t.Errorf("half way: %s %v", st.Status, st.Info)
	}
	h.waitStatus(id, replicate.Pinned)
}

func TestReplaceKeepsTheOldUntilTheNewStands(t *testing.T) {
	h := newPinHost(t)
	h.serve()
	r1, r2 := h.site("v1", 5, 1000), h.site("v2", 5, 1000)
	old := h.add(replicate.Pin{CID: r1})
	h.waitStatus(old, replicate.Pinned)

	hold := make(chan struct{})
	h.fetcher.set(func(f *copier) {
		f.gate = func(ctx context.Context, into blockstore.Session, n int) error {
			if n == 3 {
				<-hold
			}
			return nil
		}
	})
	st, err := h.service.Replace(t.Context(), h.tenant, old, replicate.Pin{CID: r2})
	if err != nil || st.RequestID == old || st.Status != replicate.Queued {
		t.Fatalf("replace: %+v, %v", st, err)
	}
	h.wait(st.RequestID, "half way", func(st replicate.PinStatus) bool { return st.Info[replicate.InfoBlocksDone] == "3" })
	h.collect()
	h.wantWhole(r1)
	if got := h.status(old); got.Status != replicate.Pinned {
		t.Fatalf("the old one meanwhile: %s", got.Status)
	}
	close(hold)
	h.waitStatus(st.RequestID, replicate.Pinned)
	h.waitGone(old)
	h.collect()
	h.wantWhole(r2)

	// A replacement that fails leaves what was there.
	h.fetcher.set(func(f *copier) { f.gate = nil })
	bad, err := h.service.Replace(t.Context(), h.tenant, st.RequestID, replicate.Pin{CID: h.block(cid.DagProtobuf, "malformed")})
	if err != nil {
		t.Fatal(err)
	}
	h.waitStatus(bad.RequestID, replicate.Failed)
	h.collect()
	h.wantWhole(r2)
	h.wantKept(st.RequestID, r2)
	if _, err := h.service.Replace(t.Context(), h.tenant, "no such id", replicate.Pin{CID: r1}); !errors.Is(err, replicate.ErrNotFound) {
		t.Errorf("replacing nothing: %v, want ErrNotFound", err)
	}
}

func TestAnotherTenantsPinIsNotFoundByAnyVerb(t *testing.T) {
	h := newPinHost(t)
	h.serve()
	root := h.site("v1", 3, 100)
	id := h.add(replicate.Pin{CID: root})
	h.waitStatus(id, replicate.Pinned)
	other, _ := h.newTenant("other")
	ctx := t.Context()
	_, getErr := h.service.Get(ctx, other, id)
	_, replaceErr := h.service.Replace(ctx, other, id, replicate.Pin{CID: root})
	for verb, err := range map[string]error{
		"get": getErr, "replace": replaceErr, "delete": h.service.Delete(ctx, other, id),
	} {
		if !errors.Is(err, replicate.ErrNotFound) {
			t.Errorf("%s: %v, want ErrNotFound", verb, err)
		}
	}
	if res, err := h.service.List(ctx, other, replicate.Query{}); err != nil || res.Count != 0 || len(res.Results) != 0 {
		t.Errorf("list: %+v, %v", res, err)
	}
	for _, nobody := range []func() error{
		func() error { _, err := h.service.Get(ctx, replicate.Tenant{}, id); return err },
		func() error { _, err := h.service.List(ctx, replicate.Tenant{}, replicate.Query{}); return err },
		func() error { return h.service.Delete(ctx, replicate.Tenant{}, id) },
		func() error {
			_, err := h.service.Add(ctx, replicate.Tenant{}, replicate.Pin{CID: root})
			return err
		},
	} {
		if err := nobody(); !errors.Is(err, replicate.ErrUnauthorized) {
			t.Errorf("a tenant without id: %v, want ErrUnauthorized", err)
		}
	}
	h.wantKept(id, root)
}

// durable is a store that counts the barriers of its sessions.
type durable struct {
	blockstore.Store
	syncs atomic.Int64
}

type durableSession struct {
	blockstore.Session
	store *durable
}

func (d *durable) Begin(ctx context.Context, id string) (blockstore.Session, error) {
	s, err := d.Store.Begin(ctx, id)
	return durableSession{s, d}, err
}

func (s durableSession) Sync(ctx context.Context) error {
	s.store.syncs.Add(1)
	return s.Session.Sync(ctx)
}

func TestWhatHasComeIsMadeDurableWhileTheFetchGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPinHost(t)
		store := &durable{Store: h.blocks}
		h.blocks = store
		h.build()
		h.fetcher.set(func(f *copier) {
			f.gate = func(ctx context.Context, into blockstore.Session, n int) error {
				time.Sleep(5 * time.Second)
				return nil
			}
		})
		h.serve()
		h.add(replicate.Pin{CID: h.site("v1", 40, 100)})
		time.Sleep(61 * time.Second)
		if n := store.syncs.Load(); n < 4 || n > 7 {
			t.Fatalf("%d barriers in a minute, want one each 10 s or so", n)
		}
	})
}

func TestTwoProcessesOnOneStoreShareTheWork(t *testing.T) {
	h := newPinHost(t, func(c *replicate.ServiceConfig) { c.Workers = 2 })
	fetched := map[cid.Cid]int{}
	var ids []string
	for i := range 30 {
		ids = append(ids, h.add(replicate.Pin{CID: h.site(fmt.Sprint("v", i), 3, 100)}))
	}
	h.serve()
	h.build(func(c *replicate.ServiceConfig) { c.Identity = "second" })
	h.serve()
	for _, id := range ids {
		h.waitStatus(id, replicate.Pinned)
	}
	for _, c := range h.fetcher.asked() {
		if fetched[c]++; fetched[c] > 1 {
			t.Errorf("%s was fetched more than once", c)
		}
	}
}

func TestARowWhoseWorkerIsGoneIsTakenOverWhenTheLeaseRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPinHost(t)
		id := h.add(replicate.Pin{CID: h.site("v1", 3, 100)})
		now := time.Now()
		if _, err := h.db.LeaseNext(t.Context(), replicate.WorkNew, replicate.Lease{By: "gone", Now: now, Until: now.Add(time.Minute)}); err != nil {
			t.Fatal(err)
		}
		h.serve()
		time.Sleep(59 * time.Second)
		if st := h.status(id); st.Status != replicate.Queued {
			t.Fatalf("before the lease has run out: %s", st.Status)
		}
		time.Sleep(2 * time.Second)
		if st := h.status(id); st.Status != replicate.Pinned {
			t.Fatalf("after the lease has run out: %s %v", st.Status, st.Info)
		}
	})
}

func TestALongFetchKeepsItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPinHost(t)
		h.fetcher.set(func(f *copier) {
			f.gate = func(ctx context.Context, into blockstore.Session, n int) error { time.Sleep(time.Minute); return nil }
		})
		id := h.add(replicate.Pin{CID: h.site("v1", 9, 100)})
		h.serve()
		h.build(func(c *replicate.ServiceConfig) { c.Identity = "second" })
		h.serve()
		time.Sleep(5 * time.Minute)
		row, err := h.db.GetPin(t.Context(), "", id)
		if err != nil || row.Done.Blocks == 0 || !row.LeasedUntil.After(time.Now()) {
			t.Fatalf("after five minutes: %+v, %v", row, err)
		}
		time.Sleep(6 * time.Minute)
		if st := h.status(id); st.Status != replicate.Pinned {
			t.Fatalf("%s %v", st.Status, st.Info)
		}
		if n := len(h.fetcher.asked()); n != 1 {
			t.Errorf("fetched %d times, want once", n)
		}
	})
}

func TestAuditorsAreThoseThatPinsName(t *testing.T) {
	h := newPinHost(t)
	site, other := namingtest.Signer(t, "site"), namingtest.Signer(t, "other")
	auditor := namingtest.Signer(t, "auditor").Name().Peer()
	r1, r2, r3 := h.site("v1", 3, 100), h.site("v2", 3, 100), h.site("v3", 3, 100)
	meta := []string{replicate.MetaAuditor, auditor.String()}
	h.add(namePin(site, r1, meta...))
	h.add(replicate.Pin{CID: r2, Meta: map[string]string{replicate.MetaSite: other.Name().String(), replicate.MetaAuditor: peer.ToCid(auditor).String()}})
	for _, c := range []struct {
		who  string
		by   peer.ID
		site naming.Signer
		root cid.Cid
		want bool
	}{
		{"the auditor of a name pin, about its root", auditor, site, r1, true},
		{"the auditor of a name pin, about a root to come", auditor, site, r3, true},
		{"the auditor of an ordinary pin, about its root", auditor, other, r2, true},
		{"the auditor of an ordinary pin, about another root", auditor, other, r1, false},
		{"a stranger", namingtest.Signer(t, "stranger").Name().Peer(), site, r1, false},
		{"nobody", "", site, r1, false},
	} {
		if got := h.service.Audited(t.Context(), c.by, c.site.Name(), []cid.Cid{c.root}); got != c.want {
			t.Errorf("%s: %v, want %v", c.who, got, c.want)
		}
	}
}
