package blockstore_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// Whoever gets ErrCorrupt from OpenDisk knows that RebuildIndex is what helps.
func TestAnIndexWithoutOneOfItsTablesIsCorruptAndCanBeMadeAnew(t *testing.T) {
	for what, spoil := range map[string]func(table string) error{
		"gone":     os.Remove,
		"cut off":  func(table string) error { return os.Truncate(table, 100) },
		"emptied":  func(table string) error { return os.Truncate(table, 0) },
		"no index": func(table string) error { return os.RemoveAll(filepath.Dir(table)) },
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			blks := sample(t, dir)
			tables, err := filepath.Glob(filepath.Join(dir, "index", "*.sst"))
			if err != nil || len(tables) == 0 {
				t.Fatalf("tables %q, %v", tables, err)
			}
			if err := spoil(tables[0]); err != nil {
				t.Fatal(err)
			}
			if _, err := blockstore.OpenDisk(t.Context(), dir, blockstore.DiskOptions{}); !errors.Is(err, blockstore.ErrCorrupt) {
				t.Fatalf("it opens with %v, want ErrCorrupt", err)
			}
			if _, err := blockstore.RebuildIndex(t.Context(), dir, blockstore.DiskOptions{}); err != nil {
				t.Fatal(err)
			}
			s := openDisk(t, dir, blockstore.DiskOptions{})
			defer s.Close()
			for _, b := range blks {
				if _, err := s.Get(t.Context(), b.Cid()); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
