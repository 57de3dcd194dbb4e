package blockstore_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/blockstore/storetest"
)

// page is an author's file of three blocks, and where they are.
func page(t *testing.T, seed int) (path string, blks []blockstore.Block, from []blockstore.Origin) {
	t.Helper()
	blks = storetest.Blocks(t, seed, 3, 5000)
	var data []byte
	path = filepath.Join(t.TempDir(), "page.html")
	for i, b := range blks {
		from = append(from, blockstore.Origin{Path: path, Offset: int64(i * 5000)})
		data = append(data, b.RawData()...)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range from {
		from[i].Size, from[i].ModTime = info.Size(), info.ModTime().UnixNano()
	}
	return path, blks, from
}

func putFrom(t *testing.T, s blockstore.Store, owner string, blks []blockstore.Block, from []blockstore.Origin) {
	t.Helper()
	sess, err := s.Begin(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer sess.Close()
	if _, err := sess.(blockstore.Referrer).PutFrom(t.Context(), blks, from); err != nil {
		t.Fatal(err)
	}
	if err := sess.Keep(t.Context(), owner, blks[0].Cid(), storetest.All(blks...)); err != nil {
		t.Fatal(err)
	}
}

func getAll(t *testing.T, s blockstore.Store, blks []blockstore.Block) (missing int) {
	t.Helper()
	infos, err := s.Stat(t.Context(), storetest.CIDs(blks))
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range blks {
		got, err := s.Get(t.Context(), b.Cid())
		switch {
		case errors.Is(err, blockstore.ErrNotFound):
			missing++
		case err != nil:
			t.Fatal(err)
		case !bytes.Equal(got.RawData(), b.RawData()):
			t.Fatalf("block %d has wrong bytes", i)
		}
		if infos[i].Present && err != nil {
			t.Errorf("block %d: %+v, yet %v", i, infos[i], err)
		}
	}
	return missing
}

func TestBlocksLeftInPlaceTakeNoSpaceAndAreThereAfterReopening(t *testing.T) {
	dir := t.TempDir()
	s := openDisk(t, dir, blockstore.DiskOptions{})
	_, blks, from := page(t, 1)
	putFrom(t, s, "author", blks, from)
	if n, err := s.Size(t.Context()); err != nil || n > 10_000 {
		t.Errorf("the store takes %d bytes, %v", n, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openDisk(t, dir, blockstore.DiskOptions{})
	defer s.Close()
	if n := getAll(t, s, blks); n != 0 {
		t.Errorf("%d blocks are missing", n)
	}
	if c, err := s.Collect(t.Context(), blockstore.CollectOptions{}); err != nil || c.Blocks != 0 {
		t.Errorf("Collect: %+v, %v", c, err)
	}
	if v := verify(t, s, blockstore.VerifyOptions{}); len(v.Damaged)+len(v.Missing) != 0 {
		t.Errorf("Verify: %+v", v)
	}
	if err := s.Release(t.Context(), "author", blks[0].Cid()); err != nil {
		t.Fatal(err)
	}
	if c, err := s.Collect(t.Context(), blockstore.CollectOptions{}); err != nil || c.Blocks != 3 {
		t.Errorf("Collect: %+v, %v", c, err)
	}
}

func TestChangedFileIsNoticedNamedAndCountsAsMissing(t *testing.T) {
	for what, change := range map[string]struct {
		do      func(t *testing.T, path string)
		missing int
	}{
		"changed, and the time put back": {func(t *testing.T, path string) {
			info, _ := os.Stat(path)
			data, _ := os.ReadFile(path)
			data[6000] ^= 1
			write(t, path, data)
			if err := os.Chtimes(path, time.Time{}, info.ModTime()); err != nil {
				t.Fatal(err)
			}
		}, 1},
		"cut off":  {func(t *testing.T, path string) { write(t, path, make([]byte, 20)) }, 3},
		"removed":  {func(t *testing.T, path string) { os.Remove(path) }, 3},
		"appended": {func(t *testing.T, path string) { data, _ := os.ReadFile(path); write(t, path, append(data, 'x')) }, 0},
		"touched": {func(t *testing.T, path string) {
			if err := os.Chtimes(path, time.Time{}, time.Now().Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
		}, 0},
	} {
		t.Run(what, func(t *testing.T) {
			s := openDisk(t, t.TempDir(), blockstore.DiskOptions{})
			defer s.Close()
			path, blks, from := page(t, 1)
			putFrom(t, s, "author", blks, from)
			change.do(t, path)
			if n := getMissing(t, s, blks, path); n != change.missing {
				t.Errorf("%d blocks are missing, want %d", n, change.missing)
			}
			v := verify(t, s, blockstore.VerifyOptions{})
			if len(v.Damaged) != change.missing {
				t.Errorf("Verify: %+v", v)
			}
			for _, bad := range v.Damaged {
				if bad.Path != path {
					t.Errorf("the report names %q", bad.Path)
				}
			}
			// A replica supplies what is missing, as copies.
			put(t, s, blks...)
			os.Remove(path)
			if n := getAll(t, s, blks); n != 0 {
				t.Errorf("%d blocks are missing after the repair", n)
			}
		})
	}
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// getMissing counts what Get does not find, and insists that the file is named.
func getMissing(t *testing.T, s blockstore.Store, blks []blockstore.Block, path string) (missing int) {
	t.Helper()
	for _, b := range blks {
		_, err := s.Get(t.Context(), b.Cid())
		if err == nil {
			continue
		}
		if missing++; !errors.Is(err, blockstore.ErrNotFound) || !strings.Contains(err.Error(), filepath.Base(path)) {
			t.Errorf("Get: %v", err)
		}
	}
	return missing
}

func TestCopiedBlocksAreNotGivenUpForAFile(t *testing.T) {
	s := openDisk(t, t.TempDir(), blockstore.DiskOptions{})
	defer s.Close()
	path, blks, from := page(t, 1)
	put(t, s, blks...)
	putFrom(t, s, "author", blks, from)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if n := getAll(t, s, blks); n != 0 {
		t.Errorf("%d blocks are missing", n)
	}
}
