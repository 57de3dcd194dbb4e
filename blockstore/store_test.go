package blockstore_test

import (
	"testing"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/blockstore/storetest"
)

func TestMemory(t *testing.T) {
	storetest.Run(t, storetest.Options{
		Fresh: func(*testing.T) func() blockstore.Store { return blockstore.NewMemory },
	})
}

func TestDisk(t *testing.T) {
	storetest.Run(t, storetest.Options{
		Persistent: true,
		Fresh: func(t *testing.T) func() blockstore.Store {
			dir := t.TempDir()
			return func() blockstore.Store { return openDisk(t, dir, blockstore.DiskOptions{}) }
		},
	})
}

// TestDiskInSmallSegments has many of what is else one.
func TestDiskInSmallSegments(t *testing.T) {
	storetest.Run(t, storetest.Options{
		Persistent: true,
		Fresh: func(t *testing.T) func() blockstore.Store {
			dir := t.TempDir()
			return func() blockstore.Store { return smallSegments(t, dir) }
		},
	})
}

func smallSegments(tb testing.TB, dir string) blockstore.Store {
	tb.Helper()
	return openDisk(tb, dir, blockstore.WithSegments(blockstore.DiskOptions{}, 64<<10))
}

func openDisk(tb testing.TB, dir string, o blockstore.DiskOptions) blockstore.Store {
	tb.Helper()
	s, err := blockstore.OpenDisk(tb.Context(), dir, o)
	if err != nil {
		tb.Fatalf("OpenDisk: %v", err)
	}
	return s
}
