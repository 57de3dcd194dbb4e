package merkle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// listing of a folder on disk: paths with contents, links with targets.
func listing(t *testing.T, top string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(top, path)
		switch {
		case d.IsDir():
			out[rel+"/"] = ""
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(path)
			out[rel] = "->" + target
			return err
		default:
			data, err := os.ReadFile(path)
			out[rel] = string(data)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestExtractGivesBackTheSameTree(t *testing.T) {
	s, top := newTestStore(), variedSite(t)
	for name, text := range map[string]string{"a b%c#d\ne": "odd", "日本": "odd", "...": "dots"} {
		writeFile(t, filepath.Join(top, name), text)
	}
	for _, profile := range []Profile{V1_2025, V0_2015} {
		built := build(t, s, top, BuildOptions{Profile: profile})
		dst := filepath.Join(t.TempDir(), "out")
		got, err := Extract(context.Background(), s, built.Root, dst, func(Extracted) {})
		if err != nil {
			t.Fatal(err)
		}
		if got.Files != built.Files || got.Bytes != built.Bytes {
			t.Errorf("%s: extracted %+v, built %d files, %d bytes", profile, got, built.Files, built.Bytes)
		}
		a, b := listing(t, top), listing(t, dst)
		if len(a) != len(b) {
			t.Errorf("%s: %d paths, want %d", profile, len(b), len(a))
		}
		for path, text := range a {
			if b[path] != text {
				t.Errorf("%s: %q differs", profile, path)
			}
		}
	}
}

func TestExtractOfASingleFileAndIntoAnEmptyFolder(t *testing.T) {
	ctx, s := context.Background(), newTestStore()
	dst := filepath.Join(t.TempDir(), "page")
	if _, err := Extract(ctx, s, s.raw(t, "hello"), dst, nil); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(dst); string(data) != "hello" {
		t.Errorf("got %q", data)
	}
	if _, err := Extract(ctx, s, s.raw(t, "other"), dst, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("onto an existing file: %v", err)
	}
	if data, _ := os.ReadFile(dst); string(data) != "hello" {
		t.Errorf("the existing file is now %q", data)
	}
	root := s.folder(t, link{"a", s.raw(t, "a"), 1})
	empty := t.TempDir()
	if _, err := Extract(ctx, s, root, empty, nil); err != nil {
		t.Errorf("into an empty folder: %v", err)
	}
	if _, err := Extract(ctx, s, root, empty, nil); err == nil {
		t.Error("into a folder with something in it")
	}
	if got := listing(t, empty); got["a"] != "a" {
		t.Errorf("what was there: %v", got)
	}
}

// outside checks that a failed extraction wrote nothing, anywhere.
func outside(t *testing.T, s *testStore, root cid.Cid, want error) {
	t.Helper()
	parent := t.TempDir()
	writeFile(t, filepath.Join(parent, "precious"), "precious")
	_, err := Extract(context.Background(), s, root, filepath.Join(parent, "out"), nil)
	if !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
	if got := listing(t, parent); len(got) != 2 || got["precious"] != "precious" {
		t.Errorf("now there is %q", got)
	}
}

func TestExportFaultsWriteNothingOutside(t *testing.T) {
	for _, name := range []string{"..", ".", "", "/", "/etc", "a/b", "../x", "nul\x00", strings.Repeat("x", 256), strings.Repeat("x", 5000)} {
		t.Run(fmt.Sprintf("%.10q", name), func(t *testing.T) {
			s := newTestStore()
			leaf := s.raw(t, "leaf")
			outside(t, s, s.folder(t, link{"0 fine", leaf, 4}, link{name, leaf, 4}), ErrMalformed)
			outside(t, s, s.folder(t, link{name, s.folder(t, link{"precious", leaf, 4}), 4}), ErrMalformed)
		})
	}
	for _, target := range []string{"/etc/passwd", "..", "../precious", "a/../../precious", "sub/..", "", "//", "a\x00b", "./../precious"} {
		t.Run("->"+target, func(t *testing.T) {
			s := newTestStore()
			outside(t, s, s.folder(t, link{"0 fine", s.raw(t, "leaf"), 4}, link{"l", s.symlink(t, target), 4}), ErrMalformed)
		})
	}
	t.Run("a name of 255 bytes", func(t *testing.T) {
		s, dst := newTestStore(), t.TempDir()
		if _, err := Extract(context.Background(), s, s.folder(t, link{strings.Repeat("x", 255), s.raw(t, "x"), 1}), dst, nil); err != nil {
			t.Error(err)
		}
	})
}

func TestExportFaultsNeverWriteThroughASymbolicLink(t *testing.T) {
	s := newTestStore()
	// "a" would have to be link and folder at once.
	root := s.pb(t, unixfs.FolderPBData(), link{"a", s.symlink(t, "b"), 1}, link{"a", s.folder(t, link{"x", s.raw(t, "x"), 1}), 1})
	outside(t, s, root, ErrMalformed)
}

func TestExportFaultsLeaveLinksThatStayInside(t *testing.T) {
	s, dst := newTestStore(), filepath.Join(t.TempDir(), "out")
	root := s.folder(t,
		link{"d", s.folder(t, link{"up", s.symlink(t, "../page"), 1}, link{"top", s.symlink(t, ".."), 1}), 1},
		link{"loop", s.symlink(t, "loop"), 1}, link{"page", s.raw(t, "page"), 1}, link{"to", s.symlink(t, "d/up"), 1})
	got, err := Extract(context.Background(), s, root, dst, nil)
	if err != nil || got.Files != 5 {
		t.Fatalf("%+v, %v", got, err)
	}
	if data, _ := os.ReadFile(filepath.Join(dst, "to")); string(data) != "page" {
		t.Errorf("through two links: %q", data)
	}
	// What was extracted builds to the same root.
	if again := build(t, s, dst, BuildOptions{Symlinks: SymlinksKeep}); again.Files != 5 {
		t.Errorf("built again: %+v", again)
	}
}

func TestDAGFaultsOfSizeAreRefusedBeforeAnythingIsWritten(t *testing.T) {
	s := newTestStore()
	outside(t, s, doubling(t, s, 31, s.raw(t, "leaf")), ErrLimit)
	outside(t, s, doubling(t, s, 100, s.raw(t, "leaf")), ErrLimit) // more files than an int64 counts
	deep := s.raw(t, "leaf")
	for range 5000 {
		deep = s.folder(t, link{"d", deep, 1})
	}
	outside(t, s, deep, ErrLimit)

	file := s.folder(t, link{"huge", tebibyte(t, s), 1})
	limits := Limits{MaxBytes: 1 << 30}
	if _, err := ExtractWithin(context.Background(), s, file, filepath.Join(t.TempDir(), "out"), limits, nil); !errors.Is(err, ErrLimit) {
		t.Errorf("a TiB in a GiB: %v", err)
	}
	if _, err := ExtractWithin(context.Background(), s, tebibyte(t, s), filepath.Join(t.TempDir(), "out"), limits, nil); !errors.Is(err, ErrLimit) {
		t.Errorf("a single file of a TiB in a GiB: %v", err)
	}
}

func TestExtractHoldsItsLimitsExactly(t *testing.T) {
	s := newTestStore()
	root := s.folder(t, link{"a", s.raw(t, "123"), 3}, link{"b", s.raw(t, "4567"), 4})
	lying := s.folder(t, link{"a", s.raw(t, "123"), 3}, link{"b", s.raw(t, "4567"), 0})
	for name, c := range map[string]struct {
		root   cid.Cid
		limits Limits
		want   error
	}{
		"bytes":          {root, Limits{MaxBytes: 7}, nil},
		"bytes below":    {root, Limits{MaxBytes: 6}, ErrLimit},
		"sizes that lie": {lying, Limits{MaxBytes: 6}, ErrLimit},
		"entries":        {root, Limits{MaxBlocks: 3}, nil},
		"entries below":  {root, Limits{MaxBlocks: 2}, ErrLimit},
	} {
		dst := filepath.Join(t.TempDir(), "out")
		if _, err := ExtractWithin(context.Background(), s, c.root, dst, c.limits, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(dst); c.want != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: something was left", name)
		}
	}
}

func TestDAGFaultsInAFileAreNeverReadToACleanEnd(t *testing.T) {
	s := newTestStore()
	a, b := s.raw(t, "aaaa"), s.raw(t, "bbbb")
	missing := mustCID(t, rawV1, "gone")
	for name, c := range map[string]struct {
		file cid.Cid
		want error
	}{
		"total above its parts":   {s.file(t, 9, []uint64{4, 4}, a, b), ErrMalformed},
		"total below its parts":   {s.file(t, 7, []uint64{4, 4}, a, b), ErrMalformed},
		"part shorter":            {s.file(t, 9, []uint64{4, 5}, a, b), ErrMalformed},
		"part longer":             {s.file(t, 7, []uint64{4, 3}, a, b), ErrMalformed},
		"more sizes than links":   {s.file(t, 12, []uint64{4, 4, 4}, a, b), ErrMalformed},
		"fewer sizes than links":  {s.file(t, 4, []uint64{4}, a, b), ErrMalformed},
		"sizes that overflow":     {s.file(t, 6, []uint64{1<<64 - 1, 7}, a, b), ErrMalformed},
		"sizes of 2^63":           {s.file(t, 1<<63, []uint64{1 << 63}, a), ErrMalformed},
		"no sizes":                {s.file(t, 8, nil, a, b), ErrMalformed},
		"last leaf missing":       {s.file(t, 8, []uint64{4, 4}, a, missing), blockstore.ErrNotFound},
		"a folder as a part":      {s.file(t, 8, []uint64{4, 4}, a, s.folder(t)), ErrMalformed},
		"a symlink as a part":     {s.file(t, 8, []uint64{4, 4}, a, s.symlink(t, "bbbb")), ErrMalformed},
		"CBOR as a part":          {s.file(t, 8, []uint64{4, 4}, a, s.add(t, withCodec(rawV1, cid.DagCBOR), []byte{0x80})), ErrUnsupported},
		"no UnixFS data":          {s.pb(t, nil, link{"", a, 4}), ErrMalformed},
		"garbage for UnixFS data": {s.pb(t, []byte{0xff, 0xff}, link{"", a, 4}), ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := readAll(s, c.file)
			if !errors.Is(err, c.want) {
				t.Errorf("read %q, %v", data, err)
			}
			if len(data) > 8 {
				t.Errorf("invented bytes: %q", data)
			}
			outside(t, s, s.folder(t, link{"0 fine", a, 4}, link{"file", c.file, 8}), c.want)
		})
	}
}

func readAll(s *testStore, c cid.Cid) ([]byte, error) {
	f, err := OpenFile(context.Background(), s, c)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

func TestPartsWithoutContentCostNothing(t *testing.T) {
	s := newTestStore()
	empty := s.raw(t, "")
	for range 40 { // 2^40 empty leaves
		empty = s.file(t, 0, []uint64{0, 0}, empty, empty)
	}
	file := s.file(t, 2, []uint64{0, 1, 0, 1, 0}, empty, s.raw(t, "a"), empty, s.raw(t, "b"), empty)
	if data, err := readAll(s, file); err != nil || string(data) != "ab" {
		t.Errorf("read %q, %v", data, err)
	}
}

func TestReadingAnywhereInAFile(t *testing.T) {
	s := newTestStore()
	want := make([]byte, 5<<20+123)
	io.ReadFull(keystream("seek"), want)
	path := filepath.Join(t.TempDir(), "file")
	writeFile(t, path, string(want))
	for _, profile := range []Profile{V1_2025, V0_2015} {
		f, err := OpenFile(context.Background(), s, build(t, s, path, BuildOptions{Profile: profile}).Root)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := f.Seek(0, io.SeekEnd); err != nil || n != int64(len(want)) {
			t.Errorf("size %d, %v", n, err)
		}
		for _, off := range []int{0, 1, 1<<20 - 1, 1 << 20, 3<<20 + 7, 17, len(want) - 1, len(want), len(want) + 5} {
			if _, err := f.Seek(int64(off), io.SeekStart); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(io.LimitReader(f, 1<<20+10))
			from := min(off, len(want))
			if err != nil || !bytes.Equal(got, want[from:min(from+1<<20+10, len(want))]) {
				t.Errorf("%s: at %d: %d bytes, %v", profile, off, len(got), err)
			}
		}
		if _, err := f.Seek(-1, io.SeekStart); err == nil {
			t.Error("sought before the beginning")
		}
		f.Close()
		if _, err := f.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("read after close: %v", err)
		}
	}
}

func TestOpenFileOfAFolderIsNoFile(t *testing.T) {
	s := newTestStore()
	for _, c := range []cid.Cid{s.folder(t), s.symlink(t, "x"), shardOf(t, s, "a")} {
		if _, err := OpenFile(context.Background(), s, c); !errors.Is(err, ErrNoPath) {
			t.Errorf("got %v", err)
		}
	}
}

func TestAFailedExtractionNamesThePathAndLeavesNothing(t *testing.T) {
	s := newTestStore()
	gone := mustCID(t, rawV1, "gone")
	root := s.folder(t, link{"a", s.raw(t, "a"), 1}, link{"d", s.folder(t, link{"gone", gone, 4}), 1})
	for _, made := range []bool{false, true} {
		dst := filepath.Join(t.TempDir(), "out")
		if made {
			mkdir(t, dst)
		}
		_, err := Extract(context.Background(), s, root, dst, nil)
		pathErr, ok := errors.AsType[*PathError](err)
		if !ok || pathErr.Path != "d/gone" || pathErr.CID != gone || !errors.Is(err, blockstore.ErrNotFound) {
			t.Errorf("got %v", err)
		}
		if left, err := os.ReadDir(dst); made && (err != nil || len(left) > 0) || !made && err == nil {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}

func TestACancelledExtractionStops(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	s := newTestStore()
	built := build(t, s, variedSite(t), BuildOptions{})
	_, err := Extract(ctx, s, built.Root, filepath.Join(t.TempDir(), "out"), func(Extracted) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestChecksOfTargets(t *testing.T) {
	for _, c := range []struct {
		path, target string
		ok           bool
	}{
		{"l", "a", true}, {"l", "a/b/c", true}, {"l", "./a", true}, {"a/l", "../b", true}, {"a/b/l", "../../c/d", true}, {"a/l", "..", true},
		{"l", "..", false}, {"a/l", "../..", false}, {"a/l", "../../x", false}, {"l", "a/..", false}, {"a/l", "b/../../x", false}, {"l", "/", false},
	} {
		if err := checkTarget(symlink{c.path, c.target}); (err == nil) != c.ok {
			t.Errorf("%s -> %s: %v", c.path, c.target, err)
		}
	}
}

func TestMeasureCountsWhatExtractWrites(t *testing.T) {
	store := blockstore.NewMemory()
	dir := t.TempDir()
	for name, size := range map[string]int{"a": 0, "b/c": 10, "b/d/e": 3 << 20, "b/d/f": 1} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s, err := store.Begin(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	built, err := Build(t.Context(), s, dir, BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := Measure(t.Context(), store, built.Root)
	if want := (Extracted{Files: 4, Bytes: 3<<20 + 11}); err != nil || got != want {
		t.Errorf("measured %+v, %v; want %+v", got, err, want)
	}
}
