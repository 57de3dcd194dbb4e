package upkeep_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	mh "github.com/multiformats/go-multihash"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/internal/upkeep"
	"github.com/holdfast-sites/holdfast/merkle"
)

// replica is a network of one other store, and counts what it is asked for.
type replica struct {
	mu    sync.Mutex
	store blockstore.Store // nil: nobody is there
	asked atomic.Int64
	slow  chan struct{} // answers wait until it is closed; nil: they don't
}

func (r *replica) Remote() blockstore.Getter { return r }

func (r *replica) Connect(context.Context, []peer.AddrInfo) error { return nil }

func (r *replica) Get(ctx context.Context, c cid.Cid) (blockstore.Block, error) {
	r.asked.Add(1)
	if r.slow != nil {
		<-r.slow
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.store == nil {
		return blockstore.Block{}, &blockstore.BlockError{CID: c, Kind: blockstore.ErrUnavailable}
	}
	return r.store.Get(ctx, c)
}

func (r *replica) Fetch(ctx context.Context, into blockstore.Session, roots []cid.Cid, _ []peer.AddrInfo,
	limits merkle.Limits, _ func(merkle.Count)) (cids []cid.Cid, err error) {
	for b, err := range merkle.Walk(ctx, r, roots, merkle.WalkOptions{Limits: limits}) {
		if err != nil {
			return nil, err
		}
		if _, err := into.Put(ctx, b); err != nil {
			return nil, err
		}
		cids = append(cids, b.Cid())
	}
	return cids, nil
}

func (r *replica) is(s blockstore.Store) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.store = s
}

// home is a disk store that keeps a small folder for "site:a", with a copy of it elsewhere.
type home struct {
	dir   string
	store blockstore.Store
	copy  blockstore.Store
	built merkle.Built
	net   *replica
	care  *upkeep.Caretaker
}

func newHome(t *testing.T) *home {
	t.Helper()
	h := &home{dir: filepath.Join(t.TempDir(), "blocks"), copy: blockstore.NewMemory(), net: &replica{}}
	folder := t.TempDir()
	for i := range 5 {
		text := strings.Repeat(fmt.Sprintf("page %d ", i), 100)
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("%d.html", i)), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	h.open(t)
	for _, s := range []blockstore.Store{h.store, h.copy} {
		h.built = build(t, s, folder, "site:a")
	}
	h.net.is(h.copy)
	return h
}

func build(t *testing.T, store blockstore.Store, folder, owner string) merkle.Built {
	t.Helper()
	s, err := store.Begin(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b, err := merkle.Build(t.Context(), s, folder, merkle.BuildOptions{})
	if err == nil {
		err = s.Keep(t.Context(), owner, b.Root, slices.Values(b.CIDs))
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (h *home) open(t *testing.T) {
	t.Helper()
	store, err := blockstore.OpenDisk(t.Context(), h.dir, blockstore.DiskOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	h.store = store
	h.care = upkeep.New(upkeep.Config{
		Store: store, Network: func() upkeep.Network { return h.net },
		Owners: func(context.Context) ([]upkeep.Owner, error) {
			return []upkeep.Owner{{ID: "site:a", Label: `site "a"`, Advice: "publish it again"}, {ID: "import", Label: "imports", Partial: true}}, nil
		},
	})
}

// damage flips a bit of the block on disk. It closes the store and opens it again.
func (h *home) damage(t *testing.T, c cid.Cid) {
	t.Helper()
	b, err := h.copy.Get(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
	segments, _ := filepath.Glob(filepath.Join(h.dir, "segments", "*.car"))
	for _, path := range segments {
		car, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(car, b.RawData())
		if at < 0 {
			continue
		}
		car[at] ^= 1
		if err := os.WriteFile(path, car, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h.open(t)
}

func (h *home) verify(t *testing.T, req upkeep.VerifyRequest) upkeep.Report {
	t.Helper()
	r, err := h.care.Verify(t.Context(), req, func(upkeep.Event) {})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestADamagedBlockIsMendedOnceForAllWhoReadIt(t *testing.T) {
	h := newHome(t)
	leaf := h.built.CIDs[0]
	h.damage(t, leaf)
	h.net.slow = make(chan struct{})
	store := h.care.Mending()
	var readers sync.WaitGroup
	for range 20 {
		readers.Go(func() {
			if b, err := store.Get(t.Context(), leaf); err != nil || !b.Cid().Equals(leaf) {
				t.Errorf("%v, %v", b.Cid(), err)
			}
		})
	}
	close(h.net.slow)
	readers.Wait()
	if n := h.net.asked.Load(); n != 1 {
		t.Errorf("the replica was asked %d times", n)
	}
	if _, err := h.store.Get(t.Context(), leaf); err != nil {
		t.Errorf("it was not put back: %v", err)
	}
}

func TestAReaderWhoGivesUpLeavesTheBlockToTheNext(t *testing.T) {
	h := newHome(t)
	leaf := h.built.CIDs[0]
	h.damage(t, leaf)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.care.Mending().Get(ctx, leaf); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err := h.care.Mending().Get(t.Context(), leaf); err != nil {
		t.Error(err)
	}
}

func TestNoticingFailsAtOnceAndServeMends(t *testing.T) {
	h := newHome(t)
	leaf := h.built.CIDs[0]
	h.damage(t, leaf)
	if _, err := h.care.Noticing().Get(t.Context(), leaf); !errors.Is(err, blockstore.ErrCorrupt) || h.net.asked.Load() != 0 {
		t.Fatalf("%v, asked %d times", err, h.net.asked.Load())
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- h.care.Serve(ctx) }()
	for {
		if _, err := h.store.Get(ctx, leaf); err == nil {
			break
		}
		runtime.Gosched()
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestWhatNobodyHasIsNotAskedForAgainAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := rawBlock(t, "x").Cid()
		r := &replica{}
		care := upkeep.New(upkeep.Config{Store: blockstore.NewMemory(), Network: func() upkeep.Network { return r }})
		try := func(want int64) {
			t.Helper()
			if _, err := care.Mend(t.Context(), c); !errors.Is(err, blockstore.ErrUnavailable) || r.asked.Load() != want {
				t.Errorf("%v, asked %d times, want %d", err, r.asked.Load(), want)
			}
		}
		try(1)
		try(1)
		time.Sleep(time.Minute)
		try(2)
		time.Sleep(time.Minute)
		try(2) // longer each time
		time.Sleep(time.Minute)
		try(3)
		time.Sleep(time.Hour)
		has := blockstore.NewMemory()
		put(t, has, rawBlock(t, "x"))
		r.is(has)
		if _, err := care.Mend(t.Context(), c); err != nil {
			t.Error(err)
		}
	})
}

func rawBlock(t *testing.T, text string) blockstore.Block {
	t.Helper()
	b, err := blockstore.NewBlock(cid.Prefix{Version: 1, Codec: cid.Raw, MhType: mh.SHA2_256, MhLength: -1}, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func put(t *testing.T, store blockstore.Store, blks ...blockstore.Block) {
	t.Helper()
	s, err := store.Begin(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), blks...); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestServeGivesBackMuchWithinTheHourAndLittleWithinTheDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := blockstore.NewMemory()
		care := upkeep.New(upkeep.Config{Store: store})
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- care.Serve(ctx) }()
		there := func(b blockstore.Block) bool {
			infos, err := store.Stat(t.Context(), []cid.Cid{b.Cid()})
			return err == nil && infos[0].Present
		}
		little := rawBlock(t, "little")
		put(t, store, little)
		time.Sleep(61 * time.Minute)
		if !there(little) {
			t.Error("a few bytes were worth a collection")
		}
		var much []blockstore.Block
		for i := range 80 {
			much = append(much, rawBlock(t, strings.Repeat(fmt.Sprintf("%8d", i), 1<<17)))
		}
		put(t, store, much...)
		time.Sleep(time.Hour)
		if there(much[0]) || there(little) {
			t.Error("80 MB that nobody keeps are still there")
		}
		put(t, store, little)
		time.Sleep(24 * time.Hour)
		if there(little) {
			t.Error("a few bytes are there after a day")
		}
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

func TestVerifyNamesWhatIsDamagedAndWhoNeedsIt(t *testing.T) {
	h := newHome(t)
	leaf := h.built.CIDs[0]
	h.damage(t, leaf)
	h.net.is(nil)
	r := h.verify(t, upkeep.VerifyRequest{})
	if r.Left != 1 || len(r.Damaged) != 1 || len(r.Missing) != 0 {
		t.Fatalf("%+v", r)
	}
	want := upkeep.Need{Root: h.built.Root.String(), Owner: "site:a", For: `site "a"`}
	if d := r.Damaged[0]; d.CID != leaf.String() || d.Since == nil || d.Reason == "" || !slices.Equal(d.Needed, []upkeep.Need{want}) {
		t.Errorf("%+v", d)
	}
	r = h.verify(t, upkeep.VerifyRequest{Fix: true})
	if r.Left != 1 || r.Fixed != 0 || r.Damaged[0].Why == "" || !slices.Equal(r.Advice, []string{"publish it again"}) {
		t.Errorf("where nobody has it: %+v", r)
	}
	h.net.is(h.copy)
	if r = h.verify(t, upkeep.VerifyRequest{Fix: true}); r.Left != 0 || r.Fixed != 1 {
		t.Errorf("where somebody has it: %+v", r)
	}
	if r = h.verify(t, upkeep.VerifyRequest{}); r.Left != 0 || len(r.Damaged) != 0 {
		t.Errorf("afterwards: %+v", r)
	}
}

func TestFixDropsADamagedBlockThatNobodyNeeds(t *testing.T) {
	h := newHome(t)
	stray := rawBlock(t, "a block that nobody keeps")
	put(t, h.store, stray)
	put(t, h.copy, stray)
	h.damage(t, stray.Cid())
	if r := h.verify(t, upkeep.VerifyRequest{}); r.Left != 1 || len(r.Damaged[0].Needed) != 0 {
		t.Errorf("%+v", r)
	}
	if r := h.verify(t, upkeep.VerifyRequest{Fix: true}); r.Left != 0 || h.net.asked.Load() != 0 {
		t.Errorf("%+v, asked %d times", r, h.net.asked.Load())
	}
}

func TestFixTriesWhatAnOwnerHasAtHandFirst(t *testing.T) {
	h := newHome(t)
	leaf := h.built.CIDs[0]
	h.damage(t, leaf)
	care := upkeep.New(upkeep.Config{Store: h.store, Owners: func(context.Context) ([]upkeep.Owner, error) {
		return []upkeep.Owner{{ID: "site:a", Restore: func(ctx context.Context, into blockstore.Session) error {
			b, err := h.copy.Get(ctx, leaf)
			if err == nil {
				_, err = into.Put(ctx, b)
			}
			return err
		}}}, nil
	}})
	r, err := care.Verify(t.Context(), upkeep.VerifyRequest{Fix: true}, func(upkeep.Event) {})
	if err != nil || r.Left != 0 || r.Fixed != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestRootsAreKeptAgainAfterTheIndexWasLost(t *testing.T) {
	h := newHome(t)
	// An import that lacks blocks is kept as far as it is there, without its codec.
	node, err := h.copy.Get(t.Context(), h.built.Root)
	if err != nil {
		t.Fatal(err)
	}
	part := cid.NewCidV1(cid.Raw, node.Cid().Hash())
	s, err := h.store.Begin(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Keep(t.Context(), "import", part, slices.Values([]cid.Cid{part, h.built.CIDs[1]})); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Close(), h.store.Close(), os.RemoveAll(filepath.Join(h.dir, "index"))); err != nil {
		t.Fatal(err)
	}
	if _, err := blockstore.RebuildIndex(t.Context(), h.dir, blockstore.DiskOptions{}); err != nil {
		t.Fatal(err)
	}
	h.open(t)
	r := h.verify(t, upkeep.VerifyRequest{})
	if len(r.Unlisted) != 2 || r.Left != 2 {
		t.Fatalf("%+v", r)
	}
	if _, err := h.care.Collect(t.Context(), upkeep.CollectRequest{}, func(upkeep.Event) {}); !errors.Is(err, blockstore.ErrCorrupt) {
		t.Errorf("a collection while nobody knows what is kept: %v", err)
	}
	if r = h.verify(t, upkeep.VerifyRequest{Fix: true}); r.Left != 0 || r.Fixed != 2 {
		t.Fatalf("%+v", r)
	}
	if err := h.store.Release(t.Context(), "site:a", h.built.Root); err != nil {
		t.Fatal(err)
	}
	got, err := h.care.Collect(t.Context(), upkeep.CollectRequest{}, func(upkeep.Event) {})
	if err != nil || got.Blocks != 0 { // the import keeps what is there of its DAG, which is all
		t.Errorf("%+v, %v", got, err)
	}
	if r, err := merkle.Verify(t.Context(), h.store, h.built.Root, merkle.WalkOptions{}); err != nil || !r.Whole() {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestAnInterruptedVerificationIsNoFinding(t *testing.T) {
	h := newHome(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.care.Verify(ctx, upkeep.VerifyRequest{}, func(upkeep.Event) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if r := h.verify(t, upkeep.VerifyRequest{}); r.Left != 0 {
		t.Errorf("%+v", r)
	}
}

func TestAStoreThatCannotBeVerifiedSaysSo(t *testing.T) {
	care := upkeep.New(upkeep.Config{Store: blockstore.NewMemory()})
	if _, err := care.Verify(t.Context(), upkeep.VerifyRequest{}, func(upkeep.Event) {}); !errors.Is(err, upkeep.ErrNoVerifier) {
		t.Errorf("%v", err)
	}
}
