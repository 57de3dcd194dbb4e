package merkle_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
)

// inPlace builds a folder without copying it, and returns the store.
func inPlace(t *testing.T, dir string, o merkle.BuildOptions) (blockstore.Store, blockstore.Session, merkle.Built, error) {
	t.Helper()
	s, err := blockstore.OpenDisk(t.Context(), t.TempDir(), blockstore.DiskOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	sess, err := s.Begin(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sess.Close() })
	o.InPlace = true
	b, err := merkle.Build(t.Context(), sess, dir, o)
	return s, sess, b, err
}

func TestBuildInPlaceMakesTheSameRootAndCopiesNoContent(t *testing.T) {
	dir := t.TempDir()
	large := bytes.Repeat([]byte("0123456789abcdef"), 200_000) // 3.2 MB: several leaves
	for i := range large[:1<<20] {
		large[i] += byte(i >> 16)
	}
	for name, data := range map[string][]byte{"index.html": []byte("<p>hello"), "empty": {}, "sub/large.bin": large} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, data, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	s, sess, b, err := inPlace(t, dir, merkle.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := sess.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	memory, err := blockstore.NewMemory().Begin(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	copied, err := merkle.Build(t.Context(), memory, dir, merkle.BuildOptions{})
	if err != nil || copied.Root != b.Root {
		t.Errorf("root %s in place, %s copied, %v", b.Root, copied.Root, err)
	}
	if n, err := s.Size(t.Context()); err != nil || n > 20_000 {
		t.Errorf("the store takes %d bytes, %v", n, err)
	}
	if r, err := merkle.Verify(t.Context(), s, b.Root, merkle.WalkOptions{}); err != nil || len(r.Missing) != 0 {
		t.Errorf("Verify: %+v, %v", r, err)
	}
	c, err := merkle.Resolve(t.Context(), s, b.Root, "sub/large.bin")
	if err != nil {
		t.Fatal(err)
	}
	f, err := merkle.OpenFile(t.Context(), s, c)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, large) {
		t.Errorf("%d bytes read back, %v", len(got), err)
	}
	// Overwritten, the page is missing, not wrong; the others stay.
	if err := os.WriteFile(filepath.Join(dir, "index.html"), []byte("<p>hullo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err = merkle.Resolve(t.Context(), s, b.Root, "index.html"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), c); !errors.Is(err, blockstore.ErrNotFound) {
		t.Errorf("after a change: %v", err)
	}
}

func TestBuildInPlaceIsRefusedWhereItCantBe(t *testing.T) {
	if _, _, _, err := inPlace(t, t.TempDir(), merkle.BuildOptions{Profile: merkle.V0_2015}); !errors.Is(err, merkle.ErrUnsupported) {
		t.Errorf("profile of 2015: %v", err)
	}
	memory, err := blockstore.NewMemory().Begin(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := merkle.Build(t.Context(), memory, t.TempDir(), merkle.BuildOptions{InPlace: true}); !errors.Is(err, merkle.ErrUnsupported) {
		t.Errorf("memory: %v", err)
	}
}
