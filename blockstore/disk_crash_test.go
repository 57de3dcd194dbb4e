package blockstore_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/blockstore/storetest"
)

var crashSeeds = flag.Int("crash.seeds", 40, "how many schedules of work the power is cut in, 25 times each")

// crashPoints is how often the power is cut in one schedule of work.
const crashPoints = 25

// promise is what a store has acknowledged so far. A crash must not take it.
type promise struct {
	mu     sync.Mutex
	synced map[string]blockstore.Block // by blocks' multihash; their session shields them
	kept   map[string][]blockstore.Block
	gone   map[string]bool // kept before, and released
}

func newPromise() *promise {
	return &promise{synced: map[string]blockstore.Block{}, kept: map[string][]blockstore.Block{}, gone: map[string]bool{}}
}

func (p *promise) copy() *promise {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := newPromise()
	for k, v := range p.synced {
		c.synced[k] = v
	}
	for k, v := range p.kept {
		c.kept[k] = v
	}
	for k := range p.gone {
		c.gone[k] = true
	}
	return c
}

// forget takes back a promise before the call that ends it: from then until it
// returns, either is right.
func (p *promise) forget(owner string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.kept, owner)
	delete(p.gone, owner)
}

// schedule is a random sequence of everything a store does, the same for the same seed.
type schedule struct {
	t   *testing.T
	rng *rand.Rand
	p   *promise
	n   int // distinguishes the blocks of each step
}

func (s *schedule) blocks() []blockstore.Block {
	s.n++
	blks := storetest.Blocks(s.t, s.n, 1+s.rng.IntN(12), 20+s.rng.IntN(300))
	return append(blks, storetest.Blocks(s.t, s.n, s.rng.IntN(3), 3000+s.rng.IntN(9000))...)
}

// run does so many steps, or stops at the first error.
func (s *schedule) run(store blockstore.Store, steps int) error {
	sess, err := store.Begin(s.t.Context(), "work")
	if err != nil {
		return err
	}
	var unsynced []blockstore.Block
	for range steps {
		switch s.rng.IntN(8) {
		case 0, 1:
			blks := s.blocks()
			if _, err := sess.Put(s.t.Context(), blks...); err != nil {
				return err
			}
			unsynced = append(unsynced, blks...)
		case 2, 3:
			if err := sess.Sync(s.t.Context()); err != nil {
				return err
			}
			s.p.mu.Lock()
			for _, b := range unsynced {
				s.p.synced[string(b.Cid().Hash())] = b
			}
			s.p.mu.Unlock()
			unsynced = nil
		case 4, 5:
			if err := s.keep(store); err != nil {
				return err
			}
		case 6:
			if err := s.release(store); err != nil {
				return err
			}
		case 7:
			if _, err := store.Collect(s.t.Context(), blockstore.CollectOptions{}); err != nil {
				return err
			}
		}
	}
	return nil
}

// settle releases what the crash before left in the balance.
func (s *schedule) settle(store blockstore.Store) {
	for i := range owners {
		owner := fmt.Sprint("owner ", i)
		roots, err := store.Kept(s.t.Context(), owner)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, root := range roots {
			if blks := s.p.kept[owner]; blks != nil && blks[0].Cid() == root {
				continue
			}
			if err := store.Release(s.t.Context(), owner, root); err != nil {
				s.t.Fatal(err)
			}
		}
	}
}

const owners = 4

// keep keeps something under a root for one of a few owners, who lets go of
// what it had.
func (s *schedule) keep(store blockstore.Store) error {
	ctx := s.t.Context()
	if err := s.release(store); err != nil {
		return err
	}
	owner := fmt.Sprint("owner ", s.rng.IntN(owners))
	s.p.mu.Lock()
	_, has := s.p.kept[owner]
	s.p.mu.Unlock()
	if has {
		return nil
	}
	other, err := store.Begin(ctx, "")
	if err != nil {
		return err
	}
	defer other.Close()
	blks := s.blocks()
	if _, err := other.Put(ctx, blks...); err != nil {
		return err
	}
	s.p.forget(owner)
	if err := other.Keep(ctx, owner, blks[0].Cid(), storetest.All(blks...)); err != nil {
		return err
	}
	s.p.mu.Lock()
	s.p.kept[owner] = blks
	s.p.mu.Unlock()
	return other.Close()
}

func (s *schedule) release(store blockstore.Store) error {
	s.p.mu.Lock()
	keepers := slices.Sorted(maps.Keys(s.p.kept))
	s.p.mu.Unlock()
	if len(keepers) == 0 || s.rng.IntN(2) == 0 {
		return nil
	}
	owner := keepers[s.rng.IntN(len(keepers))]
	s.p.mu.Lock()
	blks := s.p.kept[owner]
	s.p.mu.Unlock()
	s.p.forget(owner)
	if err := store.Release(s.t.Context(), owner, blks[0].Cid()); err != nil {
		return err
	}
	s.p.mu.Lock()
	s.p.gone[owner] = true
	s.p.mu.Unlock()
	return nil
}

// holds fails the test unless the store has all that was promised, also after
// a collection.
func (p *promise) holds(t *testing.T, what string, s blockstore.Store) {
	t.Helper()
	ctx := t.Context()
	if _, err := s.Collect(ctx, blockstore.CollectOptions{}); err != nil {
		t.Fatalf("%s: Collect: %v", what, err)
	}
	for _, b := range p.synced {
		if _, err := s.Get(ctx, b.Cid()); err != nil {
			t.Fatalf("%s: synced: %v", what, err)
		}
	}
	for owner, blks := range p.kept {
		roots, err := s.Kept(ctx, owner)
		if err != nil || len(roots) != 1 || roots[0] != blks[0].Cid() {
			t.Fatalf("%s: %s keeps %v, %v", what, owner, roots, err)
		}
		for _, b := range blks {
			if _, err := s.Get(ctx, b.Cid()); err != nil {
				t.Fatalf("%s: kept: %v", what, err)
			}
		}
		if u, err := s.Usage(ctx, owner); err != nil || u.Blocks != int64(len(blks)) {
			t.Fatalf("%s: usage of %d blocks: %+v, %v", what, len(blks), u, err)
		}
	}
	for owner := range p.gone {
		if roots, err := s.Kept(ctx, owner); err != nil || len(roots) != 0 {
			t.Fatalf("%s: %s keeps %v again, %v", what, owner, roots, err)
		}
	}
	// What is there is right, and what the index says is there.
	v, err := s.(blockstore.Verifier).Verify(ctx, blockstore.VerifyOptions{})
	if err != nil || len(v.Damaged)+len(v.Missing)+len(v.Unlisted) != 0 {
		t.Fatalf("%s: Verify: %+v, %v", what, v, err)
	}
}

// openCrashed opens the store in small segments, so that they fill up and are rewritten.
func openCrashed(t *testing.T, fs vfs.FS) (blockstore.Store, error) {
	return blockstore.OpenDiskOn(t.Context(), fs, home, blockstore.WithSegments(blockstore.DiskOptions{}, 24<<10))
}

// The power is cut before any operation on the file system, and of what was not
// synced then anything may be there: every 4 KiB of a file and every name in a directory
// by itself, so that later writes may be there and earlier ones not.
func TestStorageFaultsPowerCutBeforeAnyOperationTakesNothingAcknowledged(t *testing.T) {
	seeds := *crashSeeds
	if testing.Short() {
		seeds = 3
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			cutPower(t, uint64(seed))
		})
	}
}

// cut is the disk as a power cut left it, and what had been promised until then.
type cut struct {
	fs *vfs.MemFS
	p  *promise
	at string
}

func cutPower(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 7))
	disk, p := crashable(t), newPromise()
	// Two lives: the second begins with what a crash left of the first.
	for life := range 2 {
		cuts := live(t, disk, p, rng, seed, life)
		if len(cuts) == 0 {
			t.Fatal("the power was never cut")
		}
		for _, c := range cuts {
			s, err := openCrashed(t, c.fs)
			if err != nil {
				t.Fatalf("%s: %v", c.at, err)
			}
			c.p.holds(t, c.at, s)
			if err := s.Close(); err != nil {
				t.Fatalf("%s: %v", c.at, err)
			}
		}
		next := cuts[rng.IntN(len(cuts))]
		disk, p = next.fs, next.p
	}
}

// live works on the disk and cuts the power at random operations, each time on a copy.
func live(t *testing.T, disk *vfs.MemFS, p *promise, rng *rand.Rand, seed uint64, life int) (cuts []cut) {
	var (
		mu   sync.Mutex
		ops  int
		next = 1 + rng.IntN(20)
		dice = rand.New(rand.NewPCG(seed, uint64(life)))
	)
	hooked := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if ops++; ops < next || len(cuts) == crashPoints/2 {
			return nil
		}
		next = ops + 1 + dice.IntN(40)
		c := cut{p: p.copy(), at: fmt.Sprintf("seed %d, life %d, before write %d (%s)", seed, life, ops, op.Path)}
		c.fs = disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 10, 50, 90, 100}[dice.IntN(5)], RNG: dice})
		cuts = append(cuts, c)
		return nil
	}))
	s, err := openCrashed(t, hooked)
	if err != nil {
		t.Fatal(err)
	}
	work := schedule{t: t, rng: rng, p: p, n: life * 100}
	work.settle(s)
	if err := work.run(s, 40); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	return append(cuts, cut{fs: disk, p: p, at: fmt.Sprintf("seed %d, life %d, closed", seed, life)})
}

// A disk that refuses one or many operations, at any of them: the call says so,
// what was acknowledged can be read meanwhile, and all of it is there when
// the disk works again, and where the power is cut instead.
func TestStorageFaultsRefusedOperationsTakeNothingAcknowledged(t *testing.T) {
	seeds := *crashSeeds / 2
	if testing.Short() {
		seeds = 3
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			for point := range crashPoints {
				refuse(t, uint64(seed), point)
			}
		})
	}
}

func refuse(t *testing.T, seed uint64, point int) {
	rng := rand.New(rand.NewPCG(seed, uint64(point)))
	disk, p := crashable(t), newPromise()
	reason := refusals[rng.IntN(len(refusals))]
	from := 1 + rng.IntN(250)
	to := from + []int{1, 2, 10, 1 << 30}[rng.IntN(4)]
	var mu sync.Mutex
	ops := 0
	hooked := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if !breakable(op) {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if ops++; ops >= from && ops < to {
			return reason
		}
		return nil
	}))
	what := fmt.Sprintf("seed %d, point %d, writes %d to %d refused", seed, point, from, to)
	s, err := openCrashed(t, hooked)
	if err == nil {
		work := schedule{t: t, rng: rng, p: p}
		err = work.run(s, 40)
	}
	if err != nil && !errors.Is(err, reason) {
		t.Fatalf("%s: the error does not give the reason: %v", what, err)
	}
	if s != nil {
		for _, b := range p.synced {
			if _, err := s.Get(t.Context(), b.Cid()); err != nil {
				t.Fatalf("%s: reading stopped: %v", what, err)
			}
		}
	}
	power := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rng})
	if s != nil {
		s.Close() // it may say what it could not do; nobody was promised that
	}
	for how, fs := range map[string]*vfs.MemFS{"repaired": disk, "power cut": power} {
		again, err := openCrashed(t, fs)
		if err != nil {
			t.Fatalf("%s, %s: %v", what, how, err)
		}
		p.holds(t, what+", "+how, again)
		if err := again.Close(); err != nil {
			t.Fatalf("%s, %s: %v", what, how, err)
		}
	}
}
