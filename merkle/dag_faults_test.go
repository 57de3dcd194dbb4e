package merkle

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/boxo/ipld/unixfs/hamt"
	"github.com/ipfs/go-cid"
)

// everyPath is what can be done to a DAG that somebody else made.
func everyPath(t *testing.T, s *testStore, root cid.Cid) map[string]error {
	ctx := context.Background()
	_, walk := collect(Walk(ctx, s, []cid.Cid{root}, WalkOptions{}))
	_, verify := Verify(ctx, s, root, WalkOptions{})
	_, export := WriteCAR(ctx, s, io.Discard, root, WalkOptions{})
	_, measure := Measure(ctx, s, root)
	_, extract := ExtractWithin(ctx, s, root, filepath.Join(t.TempDir(), "out"), Limits{MaxBytes: 1 << 30}, nil)
	_, diff := collect(Diff(ctx, s, root, s.folder(t)))
	return map[string]error{"walk": walk, "verify": verify, "export": export, "measure": measure, "extract": extract, "diff": diff}
}

func TestDAGFaultsOfThousandsOfNestedFoldersAreRefusedEverywhere(t *testing.T) {
	s := newTestStore()
	deep := s.raw(t, "leaf")
	for range 5000 {
		deep = s.folder(t, link{"d", deep, 1})
	}
	for what, err := range everyPath(t, s, deep) {
		if !errors.Is(err, ErrLimit) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := Resolve(context.Background(), s, deep, strings.Repeat("d/", 5000)); err != nil {
		t.Errorf("a path asks for each of its folders, and gets them: %v", err)
	}
}

func TestDAGFaultsOfFewBlocksThatStandForMuchCostOnlyTheirNumber(t *testing.T) {
	s := newTestStore()
	for name, c := range map[string]struct {
		root   cid.Cid
		blocks int64
		want   Extracted
	}{
		"a file of 1 TiB": {tebibyte(t, s), 41, Extracted{Files: 1, Bytes: 1 << 40}},
		"2^30 files":      {doubling(t, s, 30, s.file(t, 1, []uint64{1}, s.raw(t, "x"))), 32, Extracted{Files: 1 << 30, Bytes: 1 << 30}},
	} {
		before := s.gets
		r, err := Verify(context.Background(), s, c.root, WalkOptions{})
		if err != nil || r.Blocks != c.blocks || r.Bytes > 10_000 {
			t.Errorf("%s: %+v, %v", name, r.Count, err)
		}
		if m, err := Measure(context.Background(), s, c.root); err != nil || m != c.want {
			t.Errorf("%s: measured %+v, %v", name, m, err)
		}
		if _, err := WriteCAR(context.Background(), s, io.Discard, c.root, WalkOptions{}); err != nil {
			t.Errorf("%s: export: %v", name, err)
		}
		dst := filepath.Join(t.TempDir(), "out")
		if _, err := ExtractWithin(context.Background(), s, c.root, dst, Limits{MaxBytes: 1<<30 - 1}, nil); !errors.Is(err, ErrLimit) {
			t.Errorf("%s: extract: %v", name, err)
		}
		if gets := s.gets - before; gets > 5*int(c.blocks) {
			t.Errorf("%s: %d blocks read", name, gets)
		}
	}
}

func TestDAGFaultsTheEndOfATebibyteIsReadWithoutWhatIsBeforeIt(t *testing.T) {
	s := newTestStore()
	f, err := OpenFile(t.Context(), s, tebibyte(t, s))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	before := s.gets
	if _, err := f.Seek(-3, io.SeekEnd); err != nil {
		t.Fatal(err)
	}
	if data, err := io.ReadAll(f); err != nil || string(data) != "xxx" {
		t.Errorf("read %q, %v", data, err)
	}
	if gets := s.gets - before; gets > 60 {
		t.Errorf("%d blocks read", gets)
	}
}

func TestDAGFaultsOfNamesInAFolder(t *testing.T) {
	ctx, s := context.Background(), newTestStore()
	one, two := s.raw(t, "1"), s.raw(t, "2")
	twice := s.pb(t, unixfs.FolderPBData(), link{"a", one, 1}, link{"a", two, 1}, link{"b", two, 1})
	errs := everyPath(t, s, twice)
	for _, what := range []string{"measure", "extract", "diff"} {
		if !errors.Is(errs[what], ErrMalformed) {
			t.Errorf("a name twice: %s: %v", what, errs[what])
		}
	}
	if _, err := Resolve(ctx, s, twice, "a"); !errors.Is(err, ErrMalformed) {
		t.Errorf("a name twice: resolve: %v", err)
	}

	unsorted := s.add(t, pbV1, bytes.Join([][]byte{pbLink("b", two), pbLink("a", one), pbField(1, unixfs.FolderPBData())}, nil))
	dst := filepath.Join(t.TempDir(), "out")
	if got, err := Extract(ctx, s, unsorted, dst, nil); err != nil || got != (Extracted{2, 2}) {
		t.Errorf("unsorted: %+v, %v", got, err)
	}
	if got := listing(t, dst); got["a"] != "1" || got["b"] != "2" {
		t.Errorf("unsorted: %v", got)
	}
	for name, want := range map[string]cid.Cid{"a": one, "b": two} {
		if c, err := Resolve(ctx, s, unsorted, name); err != nil || c != want {
			t.Errorf("unsorted: %s leads to %s, %v", name, c, err)
		}
	}
	if changes := diff(t, s, unsorted, s.folder(t, link{"a", one, 1}, link{"b", two, 1})); len(changes) > 0 {
		t.Errorf("unsorted differs from sorted: %q", changes)
	}
}

// pbField and pbLink write dag-pb as no encoder would.
func pbField(number byte, data []byte) []byte {
	return append([]byte{number<<3 | 2, byte(len(data))}, data...)
}

func pbLink(name string, to cid.Cid) []byte {
	return pbField(2, bytes.Join([][]byte{pbField(1, to.Bytes()), pbField(2, []byte(name)), {3 << 3, 1}}, nil))
}

func TestHAMTFaultsOfThousandsOfNestedShardsAreErrorsOnEveryPath(t *testing.T) {
	s := newTestStore()
	fanout, murmur := uint64(256), uint64(hamt.HashMurmur3)
	bit := append(make([]byte, 31), 1)
	at := s.pb(t, shardData(t, nil, &fanout, &murmur))
	for range 5000 {
		at = s.pb(t, shardData(t, bit, &fanout, &murmur), link{"00", at, 1})
	}
	for what, err := range everyPath(t, s, at) {
		if !errors.Is(err, ErrLimit) && !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
