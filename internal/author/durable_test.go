package author

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
)

// watchedFile is a real file whose syncs a test can hold up or make fail.
type watchedFile struct {
	*os.File
	onSync func() error // instead of the sync
	closed bool
}

func (w *watchedFile) Sync() error { return w.onSync() }

func (w *watchedFile) Close() error {
	w.closed = true
	return w.File.Close()
}

func watched(t *testing.T, onSync func() error) *watchedFile {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "site.car"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() }) // closed twice where all is well
	return &watchedFile{File: f, onSync: onSync}
}

// batch is just enough to begin a sync.
var batch = make([]byte, syncEvery)

func TestADurableFileHasAllBytesInTheirOrder(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "site.car"))
	if err != nil {
		t.Fatal(err)
	}
	d := &durableFile{f: f}
	want := make([]byte, 2*syncEvery+12_345)
	rand.NewChaCha8([32]byte{1}).Read(want)
	for at := 0; at < len(want); at += 777_777 {
		p := want[at:min(at+777_777, len(want))]
		if n, err := d.Write(p); n != len(p) || err != nil {
			t.Fatalf("Write: %d of %d, %v", n, len(p), err)
		}
	}
	if err := errors.Join(d.finish(), d.close()); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v; want the %d that were written", len(got), err, len(want))
	}
}

// The system tells of what it could not write once: the sync that finish makes
// would succeed.
func TestASyncThatFailedOnTheWayIsNotForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		syncs := 0
		d := &durableFile{f: watched(t, func() error {
			if syncs++; syncs == 1 {
				return syscall.EIO
			}
			return nil
		})}
		defer d.close()
		if _, err := d.Write(batch); err != nil {
			t.Fatalf("the write that begins a sync: %v", err)
		}
		synctest.Wait() // for the sync
		if _, err := d.Write(batch[:1]); err != nil {
			t.Fatalf("a write before the next sync is due: %v", err)
		}
		if n, err := d.Write(batch); n != len(batch) || !errors.Is(err, syscall.EIO) {
			t.Errorf("Write after a sync that failed: %d, %v", n, err)
		}
		for range 2 {
			if err := d.finish(); !errors.Is(err, syscall.EIO) {
				t.Errorf("finish: %v", err)
			}
		}
		if syncs != 1 {
			t.Errorf("%d syncs: one that failed was tried again", syncs)
		}
	})
}

func TestFinishTellsOfItsOwnSync(t *testing.T) {
	d := &durableFile{f: watched(t, func() error { return syscall.ENOSPC })}
	defer d.close()
	if _, err := d.Write([]byte("less than a sync is worth")); err != nil {
		t.Fatal(err)
	}
	if err := d.finish(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("finish: %v", err)
	}
}

func TestOneSyncRunsAtATimeAndWritesGoOnMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		syncs, release := 0, make(chan struct{})
		d := &durableFile{f: watched(t, func() error {
			syncs++
			<-release
			return nil
		})}
		defer d.close()
		for range 3 {
			if _, err := d.Write(batch); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if syncs != 1 {
			t.Errorf("%d syncs run at a time", syncs)
		}
		close(release)
		if err := d.finish(); err != nil || syncs != 2 {
			t.Errorf("finish: %v, after %d syncs, want the one on the way and its own", err, syncs)
		}
	})
}

func TestClosingAnUnfinishedFileWaitsForItsSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		f := watched(t, func() error { <-release; return nil })
		d := &durableFile{f: f}
		if _, err := d.Write(batch); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- d.close() }()
		synctest.Wait()
		if f.closed {
			t.Error("the file is closed while its sync runs")
		}
		close(release)
		if err := <-done; err != nil || !f.closed {
			t.Errorf("close: %v", err)
		}
	})
}
