package merkle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/ipfs/boxo/ipld/unixfs/hamt"
	pb "github.com/ipfs/boxo/ipld/unixfs/pb"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// shardOf is a sharded folder of files that hold their names.
func shardOf(t testing.TB, s *testStore, names ...string) cid.Cid {
	t.Helper()
	var links []link
	for _, name := range names {
		links = append(links, link{name, s.raw(t, name), 1})
	}
	return s.shards(t, links)
}

// shards is a sharded folder made by boxo.
func (s *testStore) shards(t testing.TB, links []link) cid.Cid {
	t.Helper()
	root, err := hamt.NewShard(nodeWriter{add: func(n ipld.Node) error {
		b, err := blockstore.BlockOf(n)
		if err == nil {
			_, err = s.Put(context.Background(), b)
		}
		return err
	}}, 256)
	if err != nil {
		t.Fatal(err)
	}
	root.SetCidBuilder(pbV1)
	for _, l := range links {
		if err := root.SetLink(context.Background(), l.name, &ipld.Link{Cid: l.to, Size: l.size}); err != nil {
			t.Fatal(err)
		}
	}
	n, err := root.Node()
	if err != nil {
		t.Fatal(err)
	}
	return n.Cid()
}

func manyNames(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("name %d", i))
	}
	return names
}

func TestEveryNameOfAShardedFolderIsListedAndFound(t *testing.T) {
	ctx, s := context.Background(), newTestStore()
	names := manyNames(3000)
	root := shardOf(t, s, names...)
	n, err := getNode(ctx, s, root)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := n.entries(ctx, s)
	if err != nil || len(entries) != len(names) {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	for _, e := range entries {
		if e.cid != s.raw(t, e.name) {
			t.Fatalf("%q leads to %s", e.name, e.cid)
		}
		if c, err := Resolve(ctx, s, root, e.name); err != nil || c != e.cid {
			t.Fatalf("%q resolves to %s, %v", e.name, c, err)
		}
	}
	if _, err := Resolve(ctx, s, root, "absent"); !errors.Is(err, ErrNoPath) {
		t.Errorf("an absent name: %v", err)
	}
}

func TestSomeOfAShardedFolderIsReadWithoutTheRest(t *testing.T) {
	ctx, s := context.Background(), newTestStore()
	root := shardOf(t, s, manyNames(3000)...)
	for _, tc := range []struct {
		most, want int
		more       bool
	}{{100, 100, true}, {2999, 2999, true}, {3000, 3000, false}, {5000, 3000, false}} {
		entries, more, err := ReadSomeOfFolder(ctx, s, root, tc.most)
		if err != nil || len(entries) != tc.want || more != tc.more {
			t.Errorf("most %d: %d entries, more: %v, %v", tc.most, len(entries), more, err)
		}
	}
	lossy := &counting{Getter: s}
	if _, _, err := ReadSomeOfFolder(ctx, lossy, root, 100); err != nil || lossy.blocks > 20 {
		t.Errorf("%d blocks were read for 100 of 3000 names, %v", lossy.blocks, err)
	}
}

// counting counts the blocks that are read.
type counting struct {
	blockstore.Getter
	blocks int
}

func (g *counting) Get(ctx context.Context, c cid.Cid) (blockstore.Block, error) {
	g.blocks++
	return g.Getter.Get(ctx, c)
}

func TestOddFanoutsAreRead(t *testing.T) {
	for _, f := range []struct {
		fanout fanout
		width  int
	}{{8, 1}, {16, 1}, {32, 2}, {256, 2}, {512, 3}, {1024, 3}} {
		if got := f.fanout.width(); got != f.width || got != len(fmt.Sprintf("%X", int(f.fanout)-1)) {
			t.Errorf("fanout %d: width %d", f.fanout, got)
		}
	}
}

// shardData is the UnixFS data of a shard; a nil field is left out.
func shardData(t testing.TB, bits []byte, fanout, hash *uint64) []byte {
	return marshal(t, &pb.Data{Type: pb.Data_HAMTShard.Enum(), Data: bits, Fanout: fanout, HashType: hash})
}

func TestHAMTFaultsAreErrorsOnEveryPath(t *testing.T) {
	ctx, s := context.Background(), newTestStore()
	murmur, u := new(uint64(hamt.HashMurmur3)), func(n uint64) *uint64 { return &n }
	leaf := s.raw(t, "leaf")
	slot := fanout(256).slot("leaf", 0)
	good := fmt.Sprintf("%02Xleaf", slot)
	bit := func(slots ...int) []byte { // as boxo writes it, from the end
		b := make([]byte, 32)
		for _, i := range slots {
			b[31-i/8] |= 1 << (i % 8)
		}
		return b
	}
	below := func(c cid.Cid) cid.Cid {
		return s.pb(t, shardData(t, bit(slot), u(256), murmur), link{good[:2], c, 1})
	}
	self := s.pb(t, shardData(t, nil, u(256), murmur)) // empty
	chain := s.pb(t, shardData(t, bit(slot), u(256), murmur), link{good, leaf, 1})
	for range 20 {
		chain = below(chain)
	}
	wide := self
	for range 8 { // 256^8 empty shards in nine blocks
		all, links := make([]int, 256), make([]link, 256)
		for i := range all {
			all[i], links[i] = i, link{fmt.Sprintf("%02X", i), wide, 1}
		}
		wide = s.pb(t, shardData(t, bit(all...), u(256), murmur), links...)
	}
	for name, root := range map[string]cid.Cid{
		"fanout absent":           s.pb(t, shardData(t, bit(slot), nil, murmur), link{good, leaf, 1}),
		"fanout 0":                s.pb(t, shardData(t, bit(slot), u(0), murmur), link{good, leaf, 1}),
		"fanout 1":                s.pb(t, shardData(t, nil, u(1), murmur), link{good, leaf, 1}),
		"fanout 3":                s.pb(t, shardData(t, bit(slot), u(3), murmur), link{good, leaf, 1}),
		"fanout 24":               s.pb(t, shardData(t, bit(slot), u(24), murmur), link{good, leaf, 1}),
		"fanout 2048":             s.pb(t, shardData(t, bit(slot), u(2048), murmur), link{"0" + good, leaf, 1}),
		"fanout 2^31":             s.pb(t, shardData(t, bit(slot), u(1<<31), murmur), link{good, leaf, 1}),
		"fanout 2^63":             s.pb(t, shardData(t, bit(slot), u(1<<63), murmur), link{good, leaf, 1}),
		"fanout 2^32+256":         s.pb(t, shardData(t, bit(slot), u(1<<32+256), murmur), link{good, leaf, 1}),
		"another hash":            s.pb(t, shardData(t, bit(slot), u(256), u(0x12)), link{good, leaf, 1}),
		"no hash":                 s.pb(t, shardData(t, bit(slot), u(256), nil), link{good, leaf, 1}),
		"bitfield absent":         s.pb(t, shardData(t, nil, u(256), murmur), link{good, leaf, 1}),
		"bitfield too long":       s.pb(t, shardData(t, make([]byte, 33), u(256), murmur), link{good, leaf, 1}),
		"more bits than links":    s.pb(t, shardData(t, bit(1, slot), u(256), murmur), link{good, leaf, 1}),
		"all bits":                s.pb(t, shardData(t, []byte(strings.Repeat("\xff", 32)), u(256), murmur), link{good, leaf, 1}),
		"name empty":              s.pb(t, shardData(t, bit(slot), u(256), murmur), link{"", leaf, 1}),
		"name short":              s.pb(t, shardData(t, bit(slot), u(256), murmur), link{"A", leaf, 1}),
		"name of another slot":    s.pb(t, shardData(t, bit(slot), u(256), murmur), link{fmt.Sprintf("%02Xleaf", slot^1), leaf, 1}),
		"entry in another slot":   s.pb(t, shardData(t, bit(slot^1), u(256), murmur), link{fmt.Sprintf("%02Xleaf", slot^1), leaf, 1}),
		"fanout 4":                s.pb(t, shardData(t, nil, u(4), murmur)),
		"fanout 1025":             s.pb(t, shardData(t, bit(slot), u(1025), murmur), link{"0" + good, leaf, 1}),
		"bitfield over-full":      s.pb(t, shardData(t, bit(slot, slot^1), u(256), murmur), link{good, leaf, 1}),
		"links over-full":         s.pb(t, shardData(t, bit(slot), u(256), murmur), link{good, leaf, 1}, link{good, leaf, 1}),
		"shard below is a leaf":   below(leaf),
		"shard below is a folder": below(s.folder(t)),
		"shard below is a file":   below(s.file(t, 4, []uint64{4}, leaf)),
		"shard below is empty":    below(self),
		"nested for ever":         chain,
		"empty shards, 256^8":     wide,
	} {
		t.Run(name, func(t *testing.T) {
			for what, err := range map[string]error{
				"resolve": func() error { _, err := Resolve(ctx, s, root, "leaf"); return err }(),
				"list": func() error {
					n, err := getNode(ctx, s, root)
					if err == nil {
						_, err = n.entries(ctx, s)
					}
					return err
				}(),
				"measure": func() error { _, err := Measure(ctx, s, root); return err }(),
				"extract": func() error { _, err := Extract(ctx, s, root, t.TempDir()+"/out", nil); return err }(),
				"diff":    func() error { _, err := collect(Diff(ctx, s, s.folder(t), root)); return err }(),
				"diff from one": func() error {
					_, err := collect(Diff(ctx, s, shardOf(t, s, "leaf", "other"), root))
					return err
				}(),
			} {
				// A lookup sees only what is on its way.
				if what == "resolve" && errors.Is(err, ErrNoPath) {
					continue
				}
				if !errors.Is(err, ErrMalformed) {
					t.Errorf("%s: %v", what, err)
				}
			}
			// What follows links only sees one block at a time, but no more blocks
			// than there are.
			r, err := Verify(ctx, s, root, WalkOptions{})
			_, alone := getNode(ctx, s, root)
			if !errors.Is(err, ErrMalformed) && (alone != nil || err != nil || r.Blocks > 30) {
				t.Errorf("verify: %d blocks, %v", r.Blocks, err)
			}
			if _, writeErr := WriteCAR(ctx, s, io.Discard, root, WalkOptions{}); (writeErr == nil) != (err == nil) {
				t.Errorf("export: %v", writeErr)
			}
		})
	}
}

func TestResolveTellsAMissingNameFromAMissingBlock(t *testing.T) {
	ctx, s := context.Background(), newTestStore()
	leaf := s.raw(t, "leaf")
	root := s.folder(t, link{"a", s.folder(t, link{"b", leaf, 1}, link{"..", leaf, 1}, link{"50%", leaf, 1}), 1}, link{"file", leaf, 1}, link{"link", s.symlink(t, "a"), 1})
	for path, want := range map[string]error{
		"": nil, "/": nil, "a": nil, "a/b": nil, "//a//b//": nil, "a/..": nil, "a/50%": nil, "link": nil,
		"A": ErrNoPath, "a/c": ErrNoPath, "a/b/c": ErrNoPath, "file/x": ErrNoPath, ".": ErrNoPath, "a/./b": ErrNoPath, "link/b": ErrNoPath, "a/50%25": ErrNoPath,
	} {
		if _, err := Resolve(ctx, s, root, path); !errors.Is(err, want) {
			t.Errorf("%q: %v", path, err)
		}
	}
	a, err := Resolve(ctx, s, root, "a")
	if err != nil {
		t.Fatal(err)
	}
	s.errs[a] = blockstore.ErrNotFound
	_, err = Resolve(ctx, s, root, "a/b")
	pathErr, ok := errors.AsType[*PathError](err)
	if !ok || errors.Is(err, ErrNoPath) || !errors.Is(err, blockstore.ErrNotFound) || pathErr.CID != a {
		t.Errorf("a missing block: %v", err)
	}
	if _, err := Resolve(ctx, s, s.add(t, withCodec(rawV1, cid.DagCBOR), []byte{0xa0}), "a"); !errors.Is(err, ErrUnsupported) {
		t.Errorf("into CBOR: %v", err)
	}
}
