package blockstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/blockstore/storetest"
)

// sample writes a store whose blocks lie in every kind of file, in several of
// each, and closes it.
func sample(t *testing.T, dir string) []blockstore.Block {
	t.Helper()
	s := openDisk(t, dir, blockstore.DiskOptions{})
	blks := slices.Concat(storetest.Blocks(t, 1, 1, 500), storetest.Blocks(t, 2, 60, 300), storetest.Blocks(t, 3, 20, 5000), storetest.Blocks(t, 4, 2, 300<<10))
	sess, err := s.Begin(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for part := range slices.Chunk(blks, 40) {
		if _, err := sess.Put(t.Context(), part...); err != nil {
			t.Fatal(err)
		}
		if err := sess.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := sess.Keep(t.Context(), "owner", blks[0].Cid(), storetest.All(blks...)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(sess.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	return blks
}

// bearsDamage opens a damaged store and insists that it tells the truth or an error.
func bearsDamage(t *testing.T, what, dir string, blks []blockstore.Block) {
	t.Helper()
	s, err := blockstore.OpenDisk(t.Context(), dir, blockstore.DiskOptions{})
	if err != nil {
		if !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: the error does not say which store: %v", what, err)
		}
		return
	}
	defer s.Close()
	read := func() (good int) {
		for i, b := range blks {
			got, err := s.Get(t.Context(), b.Cid())
			switch {
			case err == nil && string(got.RawData()) != string(b.RawData()):
				t.Fatalf("%s: block %d came with wrong bytes", what, i)
			case err == nil:
				good++
			}
		}
		return good
	}
	before := read()
	roots, err := s.Kept(t.Context(), "")
	if err == nil && (len(roots) != 1 || roots[0] != blks[0].Cid()) {
		t.Fatalf("%s: Kept says %v without an error", what, roots)
	}
	c, _ := s.Collect(t.Context(), blockstore.CollectOptions{SessionGrace: -1})
	if c.Blocks != 0 {
		t.Fatalf("%s: Collect freed %+v, all of which is kept", what, c)
	}
	if after := read(); after < before {
		t.Fatalf("%s: of %d good blocks %d are left", what, before, after)
	}
}

func TestStorageFaultsDamagedFilesNeverGiveWrongBytesNorAnEmptyPinSet(t *testing.T) {
	dir := t.TempDir()
	blks := sample(t, dir)
	for _, file := range files(t, dir) {
		t.Run(kindOf(file), func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				t.Fatal(err)
			}
			damage := map[string][]byte{
				"truncated to nothing": {},
				"truncated to half":    data[:len(data)/2],
				"without its end":      data[:max(0, len(data)-1)],
				"zeroed":               make([]byte, len(data)),
			}
			n := 15
			if testing.Short() {
				n = 4
			}
			for i := range n {
				// Spread over the file, and close to its ends, where heads and indexes are.
				at := []int{i * len(data) / n, i, len(data) - 1 - i}[i%3]
				if at >= 0 && at < len(data) {
					flipped := slices.Clone(data)
					flipped[at] ^= 1 << (i % 8)
					damage[fmt.Sprintf("bit %d of byte %d of %d flipped", i%8, at, len(data))] = flipped
				}
			}
			for what, bad := range damage {
				copied := t.TempDir()
				if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(copied, file), bad, 0o600); err != nil {
					t.Fatal(err)
				}
				bearsDamage(t, file+" "+what, copied, blks)
			}
			copied := t.TempDir()
			if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(filepath.Join(copied, file)); err != nil {
				t.Fatal(err)
			}
			bearsDamage(t, file+" removed", copied, blks)
		})
	}
}

func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.Walk(dir, func(p string, i os.FileInfo, err error) error {
		if err == nil && i.Mode().IsRegular() {
			rel, _ := filepath.Rel(dir, p)
			names = append(names, rel)
		}
		return err
	})
	if err != nil || len(names) < 6 {
		t.Fatalf("%v, %v", names, err)
	}
	return names
}

func kindOf(file string) string { return strings.ReplaceAll(file, string(filepath.Separator), " ") }

// A database that is put back to an earlier state by hand is whole, but it is
// not what was acknowledged.
func TestOpenRefusesAnIndexThatForgotWhatIsKept(t *testing.T) {
	dir, old := t.TempDir(), t.TempDir()
	blks := sample(t, dir)
	if err := os.CopyFS(old, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	s := openDisk(t, dir, blockstore.DiskOptions{})
	sess, err := s.Begin(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := sess.Keep(t.Context(), "second", blks[1].Cid(), storetest.All(blks[1])); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(sess.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "index")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(old, "index"), filepath.Join(dir, "index")); err != nil {
		t.Fatal(err)
	}
	before := files(t, dir)
	_, err = blockstore.OpenDisk(t.Context(), dir, blockstore.DiskOptions{})
	if !errors.Is(err, blockstore.ErrCorrupt) {
		t.Fatalf("OpenDisk: %v", err)
	}
	if after := files(t, dir); !slices.Equal(before, after) {
		t.Errorf("opening changed the files from %v to %v", before, after)
	}
}

// flip changes one bit of a block where it lies.
func flip(t *testing.T, dir string, b blockstore.Block) {
	t.Helper()
	for _, segment := range segments(t, dir) {
		data, err := os.ReadFile(segment)
		if err != nil {
			t.Fatal(err)
		}
		if i := strings.Index(string(data), string(b.RawData())); i >= 0 {
			data[i+b.Size()/2] ^= 1
			if err := os.WriteFile(segment, data, 0o600); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("%s is in no segment", b.Cid())
}

// Collecting moves what is left in files that are mostly garbage, and meets
// damage while it does.
func TestCollectMovesGoodBlocksAndLeavesDamagedOnes(t *testing.T) {
	dir := t.TempDir()
	s := openDisk(t, dir, blockstore.DiskOptions{})
	blks := storetest.Blocks(t, 1, 100, 20<<10)
	sess, err := s.Begin(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sess.Put(t.Context(), blks...); err != nil {
		t.Fatal(err)
	}
	stay := blks[:10]
	if err := sess.Keep(t.Context(), "owner", stay[0].Cid(), storetest.All(stay...)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(sess.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	flip(t, dir, stay[3])
	s = openDisk(t, dir, blockstore.DiskOptions{})
	defer s.Close()
	if c, err := s.Collect(t.Context(), blockstore.CollectOptions{}); err != nil || c.Blocks != 90 {
		t.Fatalf("Collect: %+v, %v", c, err)
	}
	bad := 0
	for _, b := range stay {
		_, err := s.Get(t.Context(), b.Cid())
		if errors.Is(err, blockstore.ErrCorrupt) {
			bad++
		} else if err != nil {
			t.Errorf("%v", err)
		}
	}
	if bad != 1 {
		t.Errorf("%d blocks are damaged", bad)
	}
	// It stays known when the store is opened again, and is not taken for present.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openDisk(t, dir, blockstore.DiskOptions{})
	defer s.Close()
	if i, err := s.Stat(t.Context(), storetest.CIDs(stay[3:4])); err != nil || i[0].Present {
		t.Errorf("Stat of the damaged block: %+v, %v", i, err)
	}
	// A good copy replaces a block that was found damaged.
	if sess, err = s.Begin(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if a, err := sess.Put(t.Context(), stay...); err != nil || a.Blocks != int64(bad) {
		t.Errorf("Put replaced %+v, %v", a, err)
	}
	if err := sess.Close(); err != nil {
		t.Fatal(err)
	}
	for b, err := range s.GetMany(t.Context(), storetest.CIDs(stay)) {
		if err != nil {
			t.Errorf("after the repair: %v: %v", b, err)
		}
	}
	if err := s.Release(t.Context(), "owner", stay[0].Cid()); err != nil {
		t.Fatal(err)
	}
	if c, err := s.Collect(t.Context(), blockstore.CollectOptions{}); err != nil || c.Blocks != 10 {
		t.Errorf("Collect: %+v, %v", c, err)
	}
}

// spoilIn changes a byte of the only segment, so far behind where pattern begins.
func spoilIn(t *testing.T, dir string, pattern []byte, offset int) {
	t.Helper()
	name := segments(t, dir)[0]
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(data, pattern)
	if i < 0 {
		t.Fatal("not there")
	}
	data[i+offset] ^= 0x40
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCollectKeepsABlockWhoseNameInTheSegmentIsDamaged(t *testing.T) {
	dir := t.TempDir()
	s := openDisk(t, dir, blockstore.DiskOptions{})
	blks := storetest.Blocks(t, 1, 40, 1000)
	sess := begun(t, s, "", blks...)
	if err := sess.Keep(t.Context(), "owner", blks[0].Cid(), storetest.All(blks[:20]...)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(sess.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	spoilIn(t, dir, blks[7].Cid().Bytes(), 20)
	s = openDisk(t, dir, blockstore.DiskOptions{})
	defer s.Close()
	if _, err := s.Collect(t.Context(), blockstore.CollectOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, b := range blks[:20] {
		if _, err := s.Get(t.Context(), b.Cid()); err != nil {
			t.Error(err)
		}
	}
}
