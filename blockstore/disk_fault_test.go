package blockstore_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/blockstore/storetest"
)

const home = "/home/blocks"

// breakable tells whether a fault may be injected. In race builds pebble checks
// invariants of its own, which don't hold after a failed change of its manifest: it expects
// that to end the process. There those faults are left to the builds without.
func breakable(op errorfs.Op) bool {
	ofManifest := strings.Contains(op.Path, "MANIFEST") || strings.Contains(op.Path, "marker.") || strings.HasSuffix(op.Path, "index")
	return op.Kind.ReadOrWrite() == errorfs.OpIsWrite && !(raceBuild && ofManifest)
}

// refusals are what a disk says when it won't.
var refusals = []error{syscall.EIO, syscall.ENOSPC}

// crashable is a file system in memory that knows what was synced.
func crashable(t *testing.T) *vfs.MemFS {
	t.Helper()
	fs := vfs.NewCrashableMem()
	if err := fs.MkdirAll("/home", 0o700); err != nil {
		t.Fatal(err)
	}
	root, err := fs.OpenDir("/")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(root.Sync(), root.Close()); err != nil {
		t.Fatal(err)
	}
	return fs
}

// work does a bit of everything and remembers what was acknowledged.
type work struct {
	kept     [][]blockstore.Block
	synced   [][]blockstore.Block // and their session was not closed
	released []blockstore.Block
}

const rounds = 6

// do stops at the first error. step is called after every acknowledgement.
func (w *work) do(t *testing.T, s blockstore.Store, step func()) error {
	ctx := t.Context()
	sess, err := s.Begin(ctx, "work")
	if err != nil {
		return err
	}
	for i := range rounds {
		blks := append(storetest.Blocks(t, 10+i, 10, 200), storetest.Blocks(t, 50+i, 3, 20<<10)...)
		if _, err := sess.Put(ctx, blks...); err != nil {
			return err
		}
		switch i % 3 {
		case 0:
			if err := sess.Keep(ctx, "owner", blks[0].Cid(), storetest.All(blks...)); err != nil {
				return err
			}
			w.kept = append(w.kept, blks)
		case 1:
			if err := sess.Sync(ctx); err != nil {
				return err
			}
			w.synced = append(w.synced, blks)
		case 2:
			other, err := s.Begin(ctx, "")
			if err != nil {
				return err
			}
			gone := storetest.Blocks(t, 90+i, 5, 2000)
			if _, err := other.Put(ctx, gone...); err != nil {
				return err
			}
			if err := other.Keep(ctx, "tenant", gone[0].Cid(), storetest.All(gone...)); err != nil {
				return err
			}
			if err := other.Close(); err != nil {
				return err
			}
			if err := s.Release(ctx, "tenant", gone[0].Cid()); err != nil {
				return err
			}
			w.released = append(w.released, gone[0])
			if _, err := s.Collect(ctx, blockstore.CollectOptions{}); err != nil {
				return err
			}
		}
		step()
	}
	return nil
}

// intact fails the test unless the store on fs has all that was acknowledged,
// also after a collection.
func (w *work) intact(t *testing.T, what string, fs vfs.FS) {
	t.Helper()
	s, err := blockstore.OpenDiskOn(t.Context(), fs, home, blockstore.DiskOptions{})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	defer s.Close()
	if _, err := s.Collect(t.Context(), blockstore.CollectOptions{}); err != nil {
		t.Fatalf("%s: Collect: %v", what, err)
	}
	for _, blks := range append(w.kept[:len(w.kept):len(w.kept)], w.synced...) {
		for _, err := range s.GetMany(t.Context(), storetest.CIDs(blks)) {
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
	}
	for _, blks := range w.kept {
		n := 0
		for _, err := range s.KeptCIDs(t.Context(), blks[0].Cid()) {
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			n++
		}
		if n != len(blks) {
			t.Fatalf("%s: %d of %d kept blocks are listed", what, n, len(blks))
		}
	}
	for _, root := range w.released {
		for _, err := range s.KeptCIDs(t.Context(), root.Cid()) {
			if !errors.Is(err, blockstore.ErrNotFound) {
				t.Fatalf("%s: a released root is kept: %v", what, err)
			}
		}
	}
}

func TestStorageFaultsPowerCutTakesNothingAcknowledged(t *testing.T) {
	runs := 12
	if testing.Short() {
		runs = 3
	}
	for run := range runs {
		rng := rand.New(rand.NewPCG(uint64(run), 1))
		fs := crashable(t)
		s, err := blockstore.OpenDiskOn(t.Context(), fs, home, blockstore.DiskOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var w work
		err = w.do(t, s, func() {
			// What was not synced is lost, or there, or there in part.
			cut := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 50, 100}[run%3], RNG: rng})
			w.intact(t, "power cut", cut)
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		w.intact(t, "closed", fs)
	}
}

// A disk that breaks at the n-th write, for many n, for ever or for a moment:
// a call that it breaks says so, and what was acknowledged is there when the disk
// works again, whether the process went on to close the store or the machine went down.
func TestStorageFaultsBrokenDiskTakesNothingAcknowledged(t *testing.T) {
	for _, c := range []struct{ length, step int64 }{{math.MaxInt32, 2}, {1, 3}, {3, 5}} {
		if testing.Short() {
			c.step *= 5
		}
		for n := int64(1); breakDisk(t, n, n+c.length); n += c.step {
		}
	}
}

// breakDisk is false where there were not as many writes.
func breakDisk(t *testing.T, from, to int64) bool {
	t.Helper()
	fs := crashable(t)
	var writes atomic.Int64
	var repaired atomic.Bool
	broken := errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if !breakable(op) || repaired.Load() {
			return nil
		}
		if n := writes.Add(1); n >= from && n < to {
			return syscall.EIO
		}
		return nil
	}))
	what := fmt.Sprintf("broken at writes %d to %d", from, to)
	var w work
	s, err := blockstore.OpenDiskOn(t.Context(), broken, home, blockstore.DiskOptions{})
	if err == nil {
		err = w.do(t, s, func() {})
	}
	if err != nil && !errors.Is(err, syscall.EIO) {
		t.Fatalf("%s: the error does not give the reason: %v", what, err)
	}
	if s != nil {
		for _, blks := range w.kept {
			if _, err := s.Get(t.Context(), blks[3].Cid()); err != nil {
				t.Fatalf("%s: reading stopped: %v", what, err)
			}
		}
	}
	cut := fs.CrashClone(vfs.CrashCloneCfg{})
	if s != nil {
		if closed := s.Close(); err == nil && closed == nil && len(w.kept)+len(w.synced)+len(w.released) != rounds {
			t.Errorf("%s: nobody was told", what)
		}
	}
	repaired.Store(true)
	w.intact(t, what+", repaired", fs)
	w.intact(t, what+", power cut", cut)
	return writes.Load() >= from
}

func TestStorageFaultsFullDiskIsToldAndOverWhenThereIsRoom(t *testing.T) {
	fs := crashable(t)
	var full atomic.Bool
	s, err := blockstore.OpenDiskOn(t.Context(), errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && (op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpFileWrite) {
			return syscall.ENOSPC
		}
		return nil
	})), home, blockstore.DiskOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sess, err := s.Begin(t.Context(), "work")
	if err != nil {
		t.Fatal(err)
	}
	before, during, after := storetest.Blocks(t, 1, 50, 3000), storetest.Blocks(t, 2, 50, 3000), storetest.Blocks(t, 3, 50, 3000)
	if _, err := sess.Put(t.Context(), before...); err != nil {
		t.Fatal(err)
	}
	if err := sess.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	full.Store(true)
	_, err = sess.Put(t.Context(), during...)
	if err == nil {
		err = sess.Sync(t.Context())
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("on a full disk: %v", err)
	}
	if _, err := sess.Put(t.Context(), after...); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Put on a full disk: %v", err)
	}
	for _, err := range s.GetMany(t.Context(), storetest.CIDs(before)) {
		if err != nil {
			t.Fatalf("reading from a full disk: %v", err)
		}
	}
	full.Store(false)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		_, err := sess.Put(ctx, after...)
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.ENOSPC) || ctx.Err() != nil {
			t.Fatalf("there is room again: %v", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
	if err := errors.Join(sess.Sync(ctx), s.Close()); err != nil {
		t.Fatal(err)
	}
	w := work{synced: [][]blockstore.Block{before, during, after}}
	w.intact(t, "after a full disk", fs)
}

func TestStorageFaultsPutNamesTheFileThatItCouldNotWriteAndNoBlock(t *testing.T) {
	for what, kind := range map[string]errorfs.OpKind{
		"begun": errorfs.OpOpen, "written": errorfs.OpFileWriteAt, "synced": errorfs.OpFileSyncData,
	} {
		t.Run(what, func(t *testing.T) {
			full := errorfs.Wrap(crashable(t), errorfs.InjectorFunc(func(op errorfs.Op) error {
				if op.Kind == kind && strings.HasSuffix(op.Path, ".car") {
					return syscall.ENOSPC
				}
				return nil
			}))
			s, err := blockstore.OpenDiskOn(t.Context(), full, home, blockstore.DiskOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			sess, err := s.Begin(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			defer sess.Close()
			if _, err = sess.Put(t.Context(), storetest.Blocks(t, 1, 3, 100)...); err == nil {
				err = sess.Sync(t.Context())
			}
			const want = "blockstore can't write: " + home + "/segments/00000001.car: no space left on device"
			if !errors.Is(err, syscall.ENOSPC) || err.Error() != want || errors.Is(err, blockstore.ErrUnavailable) {
				t.Errorf("got %q, want %q", err, want)
			}
		})
	}
}

// After a sync that failed the system may have forgotten what it could not
// write, and a second one that succeeds proves nothing.
func TestStorageFaultsFailedSyncFailsTheSessionAndTheBlocksAreWrittenAnew(t *testing.T) {
	fs := crashable(t)
	var broken atomic.Bool
	s, err := blockstore.OpenDiskOn(t.Context(), errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileSyncData && strings.HasSuffix(op.Path, ".car") && broken.Swap(false) {
			return syscall.EIO
		}
		return nil
	})), home, blockstore.DiskOptions{})
	if err != nil {
		t.Fatal(err)
	}
	blks := storetest.Blocks(t, 1, 20, 3000)
	first, bystander := begun(t, s, "", blks...), begun(t, s, "", blks[3])
	broken.Store(true)
	if err := first.Sync(t.Context()); !errors.Is(err, syscall.EIO) {
		t.Fatalf("Sync: %v", err)
	}
	for range 2 {
		if err := first.Sync(t.Context()); !errors.Is(err, syscall.EIO) {
			t.Errorf("Sync again: %v", err)
		}
	}
	if err := first.Keep(t.Context(), "owner", blks[0].Cid(), storetest.All(blks...)); !errors.Is(err, syscall.EIO) {
		t.Errorf("Keep: %v", err)
	}
	// It had only found the block present.
	if err := bystander.Sync(t.Context()); !errors.Is(err, syscall.EIO) {
		t.Errorf("the bystander's Sync: %v", err)
	}
	again, err := s.Begin(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if a, err := again.Put(t.Context(), blks...); err != nil || a.Blocks != int64(len(blks)) {
		t.Fatalf("Put: %+v, %v", a, err)
	}
	if err := again.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	cut := fs.CrashClone(vfs.CrashCloneCfg{})
	for _, sess := range []blockstore.Session{first, bystander, again} {
		if err := sess.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	(&work{synced: [][]blockstore.Block{blks}}).intact(t, "power cut", cut)
}
