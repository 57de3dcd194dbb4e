package blockstore_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/blockstore/storetest"
)

func openOn(t *testing.T, fs vfs.FS) blockstore.Store {
	t.Helper()
	s, err := blockstore.OpenDiskOn(t.Context(), fs, home, blockstore.DiskOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// begun is a fresh session that has put the blocks.
func begun(t *testing.T, s blockstore.Store, id string, blks ...blockstore.Block) blockstore.Session {
	t.Helper()
	sess, err := s.Begin(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sess.Put(t.Context(), blks...); err != nil {
		t.Fatal(err)
	}
	return sess
}

func TestDroppingOldShieldsLocksNoWriterOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := crashable(t)
		s := openOn(t, fs)
		if err := begun(t, s, "left", storetest.Blocks(t, 1, 3, 100)...).Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openOn(t, fs)
		give := blockstore.HoldWriting(s) // as a settling does that is about to ask the sessions
		done := make(chan error, 1)
		go func() { done <- blockstore.Expire(t.Context(), s) }()
		synctest.Wait()
		if !blockstore.CanTakeShields(s) {
			t.Error("who drops shields waits for who settles, who waits for who drops shields")
		}
		give()
		if err := errors.Join(<-done, s.Close()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestKeepWaitsForWhatAnotherSessionPutMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := crashable(t)
		s := openOn(t, fs)
		blks := storetest.Blocks(t, 1, 10, 1000)
		mine, other := begun(t, s, "mine", blks[:5]...), begun(t, s, "other")
		give := blockstore.HoldKeeping(s)
		done := make(chan error, 1)
		go func() { done <- mine.Keep(t.Context(), "owner", blks[0].Cid(), storetest.All(blks...)) }()
		synctest.Wait()
		if _, err := other.Put(t.Context(), blks[5:]...); err != nil {
			t.Fatal(err)
		}
		give()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		again := openOn(t, fs.CrashClone(vfs.CrashCloneCfg{}))
		for _, b := range blks {
			if _, err := again.Get(t.Context(), b.Cid()); err != nil {
				t.Errorf("kept, and after a power cut: %v", err)
			}
		}
		if err := errors.Join(again.Close(), mine.Close(), other.Close(), s.Close()); err != nil {
			t.Fatal(err)
		}
	})
}

// What a collection moves is put by no session that could be told of a loss.
func TestCollectDeletesNoSegmentWhoseMovedBlocksWereLost(t *testing.T) {
	var moving, settled, refuse atomic.Bool
	var other blockstore.Session
	fs := errorfs.Wrap(crashable(t), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if !strings.HasSuffix(op.Path, ".car") {
			return nil
		}
		switch op.Kind {
		case errorfs.OpFileSyncData:
			if refuse.Load() {
				return syscall.EIO
			}
		case errorfs.OpFileReadAt:
			// Something was moved, and more is about to be: another writer settles now.
			if strings.HasSuffix(op.Path, "00000001.car") && moving.Load() && !settled.Swap(true) {
				refuse.Store(true)
				if err := other.Sync(t.Context()); !errors.Is(err, syscall.EIO) {
					t.Errorf("Sync: %v", err)
				}
				refuse.Store(false)
			}
		case errorfs.OpFileWriteAt:
			if other != nil {
				moving.Store(true)
			}
		}
		return nil
	}))
	s := openOn(t, fs)
	defer s.Close()
	blks := storetest.Blocks(t, 1, 60, 100<<10)
	sess := begun(t, s, "", blks...)
	if err := sess.Keep(t.Context(), "owner", blks[0].Cid(), storetest.All(blks[:30]...)); err != nil {
		t.Fatal(err)
	}
	if err := sess.Close(); err != nil {
		t.Fatal(err)
	}
	var err error
	if other, err = s.Begin(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := s.Collect(t.Context(), blockstore.CollectOptions{}); err != nil && !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	for i, b := range blks[:30] {
		if _, err := s.Get(t.Context(), b.Cid()); err != nil {
			t.Fatalf("kept block %d: %v", i, err)
		}
	}
}

// A process that is killed leaves names in directories that are not on stable storage.
func TestSyncOfWhatAKilledProcessPutSurvivesAPowerCut(t *testing.T) {
	disk := crashable(t)
	var killed atomic.Bool
	s := openOn(t, errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if killed.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && op.Kind != errorfs.OpFileClose {
			return syscall.EIO
		}
		return nil
	})))
	blks := storetest.Blocks(t, 1, 20, 1000)
	begun(t, s, "work", blks...)
	killed.Store(true)
	s.Close()
	s = openOn(t, disk)
	sess := begun(t, s, "work", blks...)
	if err := sess.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := openOn(t, disk.CrashClone(vfs.CrashCloneCfg{}))
	for _, b := range blks {
		if _, err := again.Get(t.Context(), b.Cid()); err != nil {
			t.Fatalf("synced: %v", err)
		}
	}
	if err := errors.Join(again.Close(), sess.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestJournalHasWhatWasKeptOnTheSecondAttempt(t *testing.T) {
	disk := crashable(t)
	ctx, cancel := context.WithCancel(t.Context())
	var armed atomic.Bool
	returned := make(chan struct{})
	s := openOn(t, errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".sst") && armed.CompareAndSwap(true, false) {
			cancel()
			<-returned
		}
		return nil
	})))
	blks := storetest.Blocks(t, 1, 20, 1000)
	sess := begun(t, s, "", blks...)
	if err := sess.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	armed.Store(true)
	if err := sess.Keep(ctx, "owner", blks[0].Cid(), storetest.All(blks...)); !errors.Is(err, context.Canceled) {
		t.Fatalf("Keep: %v", err)
	}
	close(returned)
	if err := sess.Keep(t.Context(), "owner", blks[0].Cid(), storetest.All(blks...)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(sess.Close(), s.Close(), disk.RemoveAll(home+"/index")); err != nil {
		t.Fatal(err)
	}
	if r, err := blockstore.RebuildIndexOn(t.Context(), disk, home); err != nil || r.Roots != 1 {
		t.Fatalf("RebuildIndex: %+v, %v", r, err)
	}
}

// atWork is a store with a session that has put twenty blocks of a hundred bytes.
func atWork(t *testing.T) (blockstore.Store, blockstore.Session, []blockstore.Block) {
	t.Helper()
	s := openDisk(t, t.TempDir(), blockstore.DiskOptions{})
	t.Cleanup(func() { s.Close() })
	blks := storetest.Blocks(t, 1, 20, 100)
	sess := begun(t, s, "", blks...)
	t.Cleanup(func() { sess.Close() })
	return s, sess, blks
}

// beside runs f while its caller goes on; done is closed when f has returned.
func beside(f func()) (done <-chan struct{}) {
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		f()
	}()
	return returned
}

func TestSizeCanBeAskedWhileSomethingIsKept(t *testing.T) {
	s, sess, blks := atWork(t)
	done := beside(func() {
		for range 100 {
			if _, err := s.Size(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	for _, b := range blks {
		if err := sess.Keep(t.Context(), "owner", b.Cid(), storetest.All(b)); err != nil {
			t.Fatal(err)
		}
	}
	<-done
}

func TestRootUsageIsRightWhileOwnersComeAndGo(t *testing.T) {
	s, sess, blks := atWork(t)
	done := beside(func() {
		for range 60 {
			if err := sess.Keep(t.Context(), "owner", blks[0].Cid(), storetest.All(blks...)); err != nil {
				t.Error(err)
			}
			if err := s.Release(t.Context(), "owner", blks[0].Cid()); err != nil {
				t.Error(err)
			}
		}
	})
	for {
		if u, err := s.RootUsage(t.Context(), blks[0].Cid()); err == nil && u.UniqueBytes != 2000 || err != nil && !errors.Is(err, blockstore.ErrNotFound) {
			t.Errorf("RootUsage: %+v, %v", u, err)
		}
		if v, err := s.(blockstore.Verifier).Verify(t.Context(), blockstore.VerifyOptions{}); err != nil || len(v.Unlisted) != 0 {
			t.Errorf("Verify: %+v, %v", v.Unlisted, err)
		}
		select {
		case <-done:
			return
		default:
		}
	}
}
