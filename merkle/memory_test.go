package merkle

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"unsafe"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// slabCounter counts the places in memory that chunks of large files are in.
type slabCounter struct {
	*testStore
	mu    sync.Mutex
	slabs map[*byte]bool
}

func (s *slabCounter) Put(ctx context.Context, blks ...blockstore.Block) (blockstore.Added, error) {
	s.mu.Lock()
	for _, b := range blks {
		if data := b.RawData(); len(data) == slabSize {
			s.slabs[unsafe.SliceData(data)] = true
		}
	}
	s.mu.Unlock()
	return s.testStore.Put(ctx, blks...)
}

// Content is held in slabs of a MiB, four for each worker and eight besides.
// Workers wait for them, but never all of them for each other.
func TestBuildHoldsFourMiBForEachWorkerWhateverTheSize(t *testing.T) {
	top := t.TempDir()
	writeNumbered(t, filepath.Join(top, "one"), 300<<20)
	for i := range 40 {
		writeNumbered(t, filepath.Join(top, fmt.Sprintf("many%02d", i)), int64(2+i%5)<<20+int64(i))
	}
	for _, workers := range []int{1, 2, 7} {
		store := newTestStore()
		store.forget = true
		count := &slabCounter{testStore: store, slabs: make(map[*byte]bool)}
		built := build(t, count, top, BuildOptions{Workers: workers})
		if limit := 4*workers + 8; len(count.slabs) > limit || len(count.slabs) == 0 {
			t.Errorf("%d workers: %d slabs, want at most %d", workers, len(count.slabs), limit)
		}
		if built.Files != 41 {
			t.Errorf("%+v", built)
		}
	}
}

func TestEqualBlocksOfAFileAreListedAndPutOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "zeros")
	sparse(t, path, 100<<20)
	store := newTestStore()
	built := build(t, store, path, BuildOptions{})
	if len(built.CIDs) != 2 || len(store.order) != 2 || built.Bytes != 100<<20 {
		t.Errorf("%d CIDs, %d put, %d bytes", len(built.CIDs), len(store.order), built.Bytes)
	}
}
