package merkle

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/boxo/ipld/unixfs/hamt"
	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// fuzzNode adds a node of this UnixFS data whose links have the names, one a
// line, and lead where the picks say.
func fuzzNode(t testing.TB, s *testStore, data []byte, names string, picks []byte, targets ...cid.Cid) cid.Cid {
	var links []link
	for i, name := range strings.Split(names, "\n") {
		if i < len(picks) {
			links = append(links, link{name, targets[int(picks[i])%len(targets)], 1})
		}
	}
	return s.pb(t, data, links...)
}

func FuzzFolder(f *testing.F) {
	s := newTestStore()
	fanout, murmur := uint64(256), uint64(hamt.HashMurmur3)
	shard := shardOf(f, s, manyNames(300)...)
	for _, c := range []cid.Cid{shard, shardOf(f, s, "one", "two")} {
		n, err := getNode(context.Background(), s, c)
		if err != nil {
			f.Fatal(err)
		}
		b, _ := s.Get(context.Background(), c)
		pb, _ := decodePB(b)
		names, picks := "", []byte{}
		for _, l := range n.links {
			names, picks = names+l.Name+"\n", append(picks, byte(len(l.Name)))
		}
		f.Add(pb.Data(), names, picks)
	}
	f.Add(shardData(f, append(make([]byte, 31), 1), &fanout, &murmur), "00", []byte{2})
	f.Add(unixfs.FolderPBData(), "a\nb\na", []byte{0, 1, 2})
	f.Add(unixfs.FolderPBData(), "..\n\x00\n/", []byte{0, 3, 4})
	f.Fuzz(func(t *testing.T, data []byte, names string, picks []byte) {
		ctx, s := context.Background(), newTestStore()
		leaf := s.raw(t, "leaf")
		targets := []cid.Cid{leaf, s.folder(t, link{"x", leaf, 1}), shardOf(t, s, "one", "two"), s.pb(t, shardData(t, nil, &fanout, &murmur)), s.symlink(t, "x"), mustCID(t, rawV1, "gone")}
		if len(data)+len(names) > blockstore.MaxBlockSize/2 || len(picks) > 512 {
			return
		}
		// The second stands above the first, so that shards come below shards.
		targets = append(targets, fuzzNode(t, s, data, names, picks, targets...))
		root := fuzzNode(t, s, data, names, picks, targets...)
		listed := fuzzListing(t, s, root)
		if _, err := Measure(ctx, s, root); err == nil && !listed {
			t.Error("measured, but can't be listed")
		}
		if _, err := Verify(ctx, s, root, WalkOptions{}); err != nil && listed && !errors.Is(err, ErrMalformed) {
			t.Errorf("verify: %v", err)
		}
		fuzzDiff(s, root, targets[2])
		fuzzDiff(s, targets[2], root)
		if changes, err := collect(Diff(ctx, s, root, root)); err != nil || len(changes) > 0 {
			t.Errorf("differs from itself: %v, %v", changes, err)
		}
	})
}

// fuzzDiff leaves early: few nodes can stand for very many paths.
func fuzzDiff(s *testStore, a, b cid.Cid) {
	n := 0
	for range Diff(context.Background(), s, a, b) {
		if n++; n == 1000 {
			return
		}
	}
}

// fuzzListing checks that what is listed is found, and under its own name only.
func fuzzListing(t *testing.T, s *testStore, root cid.Cid) bool {
	ctx := context.Background()
	n, err := getNode(ctx, s, root)
	if err != nil || !n.isFolder() {
		return err == nil
	}
	entries, err := n.entries(ctx, s)
	for _, e := range entries {
		if got, err := n.lookup(ctx, nodesOf(s), e.name); err != nil || got.cid != e.cid {
			t.Errorf("%q is listed as %s and found as %s, %v", e.name, e.cid, got.cid, err)
		}
	}
	n.lookup(ctx, nodesOf(s), "one")
	return err == nil
}

func FuzzFile(f *testing.F) {
	s := newTestStore()
	file := func(total uint64, sizes ...uint64) []byte {
		b, _ := s.Get(context.Background(), s.file(f, total, sizes))
		pb, _ := decodePB(b)
		return pb.Data()
	}
	f.Add(file(8, 4, 4), []byte{0, 0}, uint16(3))
	f.Add(file(12, 4, 0, 8), []byte{0, 1, 2}, uint16(5))
	f.Add(file(9, 4, 5), []byte{0, 0}, uint16(8))
	f.Add(file(8, 4, 4), []byte{0, 5}, uint16(0))
	f.Add(file(6, 1<<64-1, 7), []byte{0, 0}, uint16(6))
	f.Fuzz(func(t *testing.T, data []byte, picks []byte, at uint16) {
		s := newTestStore()
		leaf, empty := s.raw(t, "leaf"), s.raw(t, "")
		targets := []cid.Cid{leaf, empty, s.file(t, 8, []uint64{4, 0, 4}, leaf, empty, leaf), s.folder(t), s.symlink(t, "x"), mustCID(t, rawV1, "gone")}
		if len(data) > blockstore.MaxBlockSize/2 || len(picks) > 64 {
			return
		}
		names := strings.Repeat("\n", len(picks))
		targets = append(targets, fuzzNode(t, s, data, names, picks, targets...))
		r, err := OpenFile(context.Background(), s, fuzzNode(t, s, data, names, picks, targets...))
		if err != nil {
			return
		}
		defer r.Close()
		size, err := r.Seek(0, io.SeekEnd)
		if err != nil || size < 0 {
			t.Fatalf("size %d, %v", size, err)
		}
		r.Seek(0, io.SeekStart)
		var all bytes.Buffer
		n, err := io.Copy(&all, r)
		if n > size || err == nil && n != size {
			t.Fatalf("%d bytes of %d, %v", n, size, err)
		}
		if err != nil || int64(at) > n {
			return
		}
		r.Seek(int64(at), io.SeekStart)
		if rest, err := io.ReadAll(io.LimitReader(r, size)); err != nil || !bytes.Equal(rest, all.Bytes()[at:]) {
			t.Errorf("from %d: %q, %v; of %q", at, rest, err, all.Bytes())
		}
	})
}
