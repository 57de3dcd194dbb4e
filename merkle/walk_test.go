package merkle

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// preorder is Walk's promise in its plainest form.
func preorder(t *testing.T, s *testStore, roots ...cid.Cid) (out []cid.Cid) {
	t.Helper()
	seen := cid.NewSet()
	var visit func(c cid.Cid)
	visit = func(c cid.Cid) {
		if !seen.Visit(c) {
			return
		}
		out = append(out, c)
		b, err := s.Get(context.Background(), c)
		if err != nil {
			t.Fatal(err)
		}
		links, err := Links(b)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range links {
			visit(l)
		}
	}
	for _, c := range roots {
		visit(c)
	}
	return out
}

// randomDAG has shared parts at many levels.
func randomDAG(t *testing.T, s *testStore, seed uint64) cid.Cid {
	r := rand.New(rand.NewPCG(seed, 0))
	var all []cid.Cid
	for i := range 200 {
		if len(all) < 20 || r.IntN(3) == 0 {
			all = append(all, s.raw(t, fmt.Sprint("leaf", i)))
			continue
		}
		var links []link
		for range r.IntN(12) {
			links = append(links, link{to: all[r.IntN(len(all))]})
		}
		links = append(links, link{to: all[len(all)-1]})
		all = append(all, s.folder(t, links...))
	}
	var links []link
	for i := range all {
		links = append(links, link{to: all[len(all)-1-i]})
	}
	return s.folder(t, links...)
}

func TestWalkIsPreorderOfFirstOccurrenceWhateverTheWindow(t *testing.T) {
	for seed := range uint64(5) {
		s := newTestStore()
		a, b := randomDAG(t, s, seed), randomDAG(t, s, seed+100)
		want := preorder(t, s, a, b)
		for _, window := range []int{1, 2, 3, 32, 1000} {
			var got []cid.Cid
			for b, err := range Walk(context.Background(), s, []cid.Cid{a, b}, WalkOptions{Prefetch: window}) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, b.Cid())
			}
			if !slices.Equal(got, want) {
				t.Fatalf("seed %d, window %d: the order differs", seed, window)
			}
		}
	}
}

// gate answers only when as many are waiting as it wants to see.
type gate struct {
	blockstore.Getter
	mu        sync.Mutex
	now, most int
	wait      chan struct{}
	wanted    int
}

func (g *gate) Get(ctx context.Context, c cid.Cid) (blockstore.Block, error) {
	if c.Prefix().Codec != cid.Raw {
		return g.Getter.Get(ctx, c)
	}
	g.mu.Lock()
	g.now++
	if g.most = max(g.most, g.now); g.most == g.wanted && g.wait != nil {
		close(g.wait)
		g.wait = nil
	}
	wait := g.wait
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		g.now--
		g.mu.Unlock()
	}()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return blockstore.Block{}, ctx.Err()
		}
	}
	return g.Getter.Get(ctx, c)
}

func TestWalkFetchesAheadButNeverMoreThanItsWindow(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s := newTestStore()
	var links []link
	for i := range 500 {
		links = append(links, link{name: fmt.Sprintf("%04d", i), to: s.raw(t, fmt.Sprint(i))})
	}
	inner := s.folder(t, links...)
	// The folder stands below others with siblings of their own, which must not
	// take the whole window.
	root := s.folder(t, link{name: "a", to: s.folder(t, link{name: "b", to: inner})}, link{name: "c", to: s.raw(t, "sibling")})
	const window = 8
	g := &gate{Getter: s, wait: make(chan struct{}), wanted: 4}
	if _, err := collect(Walk(ctx, g, []cid.Cid{root}, WalkOptions{Prefetch: window})); err != nil {
		t.Fatal(err) // the deadline: 4 fetches never ran at once
	}
	if g.most > window {
		t.Errorf("%d fetches at once", g.most)
	}
}

func TestAWalkThatIsLeftEarlyEndsItsFetches(t *testing.T) {
	s := newTestStore()
	root := randomDAG(t, s, 1)
	g := &gate{Getter: s, wait: make(chan struct{}), wanted: -1} // answers nothing but folders
	for _, err := range Walk(context.Background(), g, []cid.Cid{root}, WalkOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		break // returns only when every fetch has ended
	}
	if g.now != 0 {
		t.Errorf("%d fetches still run", g.now)
	}
}

// doubling is n folders in which each holds the one below twice: 2^n paths.
func doubling(t testing.TB, s *testStore, n int, leaf cid.Cid) cid.Cid {
	at := leaf
	for range n {
		at = s.folder(t, link{name: "x", to: at}, link{name: "y", to: at})
	}
	return at
}

// tebibyte is a file of 2^40 bytes in 41 blocks: a mebibyte, doubled 20 times... and so
// the leaf is 1 byte.
func tebibyte(t testing.TB, s *testStore) cid.Cid {
	at, size := s.raw(t, "x"), uint64(1)
	for range 40 {
		at = s.file(t, 2*size, []uint64{size, size}, at, at)
		size *= 2
	}
	return at
}

func TestFewBlocksThatStandForManyPathsCostOnlyTheirNumber(t *testing.T) {
	s := newTestStore()
	for _, c := range []struct {
		root cid.Cid
		want int64
	}{{doubling(t, s, 31, s.raw(t, "leaf")), 32}, {tebibyte(t, s), 41}} {
		r, err := Verify(context.Background(), s, c.root, WalkOptions{})
		if err != nil || r.Blocks != c.want {
			t.Errorf("%d blocks, %v; want %d", r.Blocks, err, c.want)
		}
	}
}

func TestWalkStopsAtItsLimits(t *testing.T) {
	s := newTestStore()
	chain := s.raw(t, "leaf")
	for range 10 {
		chain = s.folder(t, link{name: "d", to: chain})
	}
	n, err := Verify(context.Background(), s, chain, WalkOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		at, below Limits
	}{
		"blocks": {Limits{MaxBlocks: 11}, Limits{MaxBlocks: 10}},
		"bytes":  {Limits{MaxBytes: n.Bytes}, Limits{MaxBytes: n.Bytes - 1}},
		"depth":  {Limits{MaxDepth: 10}, Limits{MaxDepth: 9}},
	} {
		if _, err := collect(Walk(context.Background(), s, []cid.Cid{chain}, WalkOptions{Limits: c.at})); err != nil {
			t.Errorf("%s, at the limit: %v", name, err)
		}
		if _, err := collect(Walk(context.Background(), s, []cid.Cid{chain}, WalkOptions{Limits: c.below})); !errors.Is(err, ErrLimit) {
			t.Errorf("%s, one below: %v", name, err)
		}
	}
	for range DefaultMaxDepth {
		chain = s.folder(t, link{name: "d", to: chain})
	}
	if _, err := Verify(context.Background(), s, chain, WalkOptions{}); !errors.Is(err, ErrLimit) {
		t.Errorf("nested too deep: %v", err)
	}
	if _, err := Verify(context.Background(), s, chain, WalkOptions{Limits: Limits{MaxDepth: -1}}); err != nil {
		t.Errorf("without a limit: %v", err)
	}
}

func TestVerifyNamesAllThatIsMissingOrCorrupt(t *testing.T) {
	s := newTestStore()
	var links []link
	for i := range 20 {
		links = append(links, link{name: fmt.Sprintf("%02d", i), to: s.folder(t, link{name: "leaf", to: s.raw(t, fmt.Sprint(i))})})
	}
	root := s.folder(t, links...)
	for i, l := range links {
		switch {
		case i%5 == 1:
			s.errs[l.to] = blockstore.ErrNotFound
		case i%5 == 2:
			s.errs[s.raw(t, fmt.Sprint(i))] = blockstore.ErrCorrupt
		}
	}
	r, err := Verify(context.Background(), s, root, WalkOptions{})
	if err != nil || r.Whole() || len(r.Missing) != 4 || len(r.Corrupt) != 4 {
		t.Fatalf("%d missing, %d corrupt, %v", len(r.Missing), len(r.Corrupt), err)
	}
	if want := int64(1 + 16 + 12); r.Blocks != want || int64(len(r.CIDs)) != want {
		t.Errorf("%d blocks, %d listed, want %d", r.Blocks, len(r.CIDs), want)
	}
	s.errs[links[0].to] = blockstore.ErrUnavailable
	if _, err := Verify(context.Background(), s, root, WalkOptions{}); !errors.Is(err, blockstore.ErrUnavailable) {
		t.Errorf("a block that can't be read now: %v", err)
	}
}

func TestVerifyOfNothingAtAllReportsTheRoot(t *testing.T) {
	s := newTestStore()
	r, err := Verify(context.Background(), s, mustCID(t, rawV1, "absent"), WalkOptions{})
	if err != nil || len(r.Missing) != 1 || r.Whole() {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestAnInventorySaysWhatVerifySaysAndReadsNoLeaves(t *testing.T) {
	ctx, store := t.Context(), blockstore.NewMemory()
	defer store.Close()
	session, err := store.Begin(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	s := newTestStore()
	page := s.raw(t, "page")
	gone := link{"gone", mustCID(t, rawV1, "gone"), 4}
	whole := s.folder(t, link{"a", s.folder(t, link{"page", page, 4}), 1}, link{"b", s.shards(t, []link{{"page", page, 4}, {"more", s.raw(t, "more"), 4}}), 1})
	holed := s.folder(t, gone, link{"whole", whole, 1}, link{"gone too", mustCID(t, pbV1, "gone"), 1})
	for _, b := range s.blocks {
		if _, err := session.Put(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	for _, root := range []cid.Cid{whole, holed, page, gone.to} {
		want, err := Verify(ctx, store, root, WalkOptions{})
		if err != nil {
			t.Fatal(err)
		}
		noLeaves := &countingStore{Store: store}
		got, err := Inventory(ctx, noLeaves, root, WalkOptions{})
		for _, list := range [][]cid.Cid{want.CIDs, got.CIDs, want.Missing, got.Missing} {
			slices.SortFunc(list, func(a, b cid.Cid) int { return strings.Compare(a.KeyString(), b.KeyString()) })
		}
		if err != nil || got.Count != want.Count || !slices.Equal(got.CIDs, want.CIDs) || !slices.Equal(got.Missing, want.Missing) {
			t.Errorf("%s: %+v, %v; want %+v", root, got, err, want)
		}
		if noLeaves.leaves.Load() > 0 {
			t.Errorf("%d leaves read", noLeaves.leaves.Load())
		}
		if want.Blocks > 1 {
			for _, limits := range []Limits{{MaxBytes: want.Bytes - 1}, {MaxBlocks: want.Blocks - 1}} {
				if _, err := Inventory(ctx, store, root, WalkOptions{Limits: limits}); !errors.Is(err, ErrLimit) {
					t.Errorf("over its limit: %v", err)
				}
			}
		}
	}
}

// countingStore counts the raw blocks that are read.
type countingStore struct {
	blockstore.Store
	leaves atomic.Int64
}

func (s *countingStore) Get(ctx context.Context, c cid.Cid) (blockstore.Block, error) {
	if c.Prefix().Codec == cid.Raw {
		s.leaves.Add(1)
	}
	return s.Store.Get(ctx, c)
}

func mustCID(t testing.TB, p cid.Prefix, text string) cid.Cid {
	t.Helper()
	c, err := p.Sum([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func withCodec(p cid.Prefix, codec uint64) cid.Prefix {
	p.Codec = codec
	return p
}

func cborLink(c cid.Cid) string {
	b := append([]byte{0}, c.Bytes()...)
	return "\xd8\x2a\x58" + string(rune(len(b))) + string(b)
}

func TestLinksOfEveryCodec(t *testing.T) {
	s := newTestStore()
	a, b := s.raw(t, "a"), s.raw(t, "b")
	identity := cid.Prefix{Version: 1, Codec: cid.Raw, MhType: mh.IDENTITY, MhLength: -1}
	inline := mustCID(t, identity, "inline")
	for name, c := range map[string]struct {
		block cid.Cid
		want  []cid.Cid
	}{
		"raw":      {a, nil},
		"dag-pb":   {s.folder(t, link{"1", b, 0}, link{"2", a, 0}, link{"3", b, 0}), []cid.Cid{b, a, b}},
		"dag-cbor": {s.add(t, withCodec(rawV1, cid.DagCBOR), []byte("\xa2\x61a\x82"+cborLink(b)+"\x01\x61b\xa1\x61c"+cborLink(a))), []cid.Cid{b, a}},
		"dag-json": {s.add(t, withCodec(rawV1, cid.DagJSON), []byte(`{"a":[{"/":"`+b.String()+`"}],"b":{"/":{"bytes":"AAAA"}},"c":{"/":"`+a.String()+`"}}`)), []cid.Cid{b, a}},
		"identity": {s.folder(t, link{"1", inline, 0}), []cid.Cid{inline}},
	} {
		blk, err := s.Get(context.Background(), c.block)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Links(blk); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if _, err := collect(Walk(context.Background(), s, []cid.Cid{c.block}, WalkOptions{})); err != nil {
			t.Errorf("%s: walk: %v", name, err)
		}
	}
}

func TestNodeFaultsAreMalformed(t *testing.T) {
	s := newTestStore()
	nested := func(open string) string { return strings.Repeat(open, 1_000_000) }
	for name, c := range map[string]struct {
		codec uint64
		data  string
		want  error
	}{
		"unknown codec":                {0x55aa, "x", ErrUnsupported},
		"dag-pb: text":                 {cid.DagProtobuf, "hello", ErrMalformed},
		"dag-pb: field 3":              {cid.DagProtobuf, "\x1a\x00", ErrMalformed},
		"dag-pb: wrong wire type":      {cid.DagProtobuf, "\x08\x01", ErrMalformed},
		"dag-pb: data twice":           {cid.DagProtobuf, "\x0a\x00\x0a\x00", ErrMalformed},
		"dag-pb: link without hash":    {cid.DagProtobuf, "\x12\x02\x12\x00", ErrMalformed},
		"dag-pb: empty hash":           {cid.DagProtobuf, "\x12\x02\x0a\x00", ErrMalformed},
		"dag-pb: claims 2^40 bytes":    {cid.DagProtobuf, "\x0a\x80\x80\x80\x80\x80\x20x", ErrMalformed},
		"dag-cbor: nothing":            {cid.DagCBOR, "", ErrMalformed},
		"dag-cbor: a million deep":     {cid.DagCBOR, nested("\x81"), ErrMalformed},
		"dag-cbor: maps a million":     {cid.DagCBOR, nested("\xa1\x61a"), ErrMalformed},
		"dag-cbor: list of 2^40":       {cid.DagCBOR, "\x9b\x00\x00\x01\x00\x00\x00\x00\x00", ErrMalformed},
		"dag-cbor: text of 2^30":       {cid.DagCBOR, "\x7a\x40\x00\x00\x00abc", ErrMalformed},
		"dag-cbor: duplicate keys":     {cid.DagCBOR, "\xa2\x61a\x01\x61a\x02", ErrMalformed},
		"dag-cbor: tag 42 on text":     {cid.DagCBOR, "\xd8\x2a\x61a", ErrMalformed},
		"dag-cbor: tag 42 without 00":  {cid.DagCBOR, "\xd8\x2a\x41\x01", ErrMalformed},
		"dag-cbor: tag 42 on no CID":   {cid.DagCBOR, "\xd8\x2a\x42\x00\x01", ErrMalformed},
		"dag-cbor: another tag":        {cid.DagCBOR, "\xd8\x2b\x41\x00", ErrMalformed},
		"dag-cbor: bytes after":        {cid.DagCBOR, "\x01\x01", ErrMalformed},
		"dag-json: a million deep":     {cid.DagJSON, nested("["), ErrMalformed},
		"dag-json: objects a million":  {cid.DagJSON, nested(`{"a":`), ErrMalformed},
		"dag-json: link to nothing":    {cid.DagJSON, `{"/":"x"}`, ErrMalformed},
		"dag-json: cut":                {cid.DagJSON, `{"a":1`, ErrMalformed},
		"dag-json: something after it": {cid.DagJSON, `{} {}`, ErrMalformed},
	} {
		data := c.data
		if len(data) > blockstore.MaxBlockSize {
			data = data[:blockstore.MaxBlockSize]
		}
		blk, err := blockstore.NewBlock(withCodec(rawV1, c.codec), []byte(data))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Links(blk); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		s.Put(context.Background(), blk)
		if _, err := collect(Walk(context.Background(), s, []cid.Cid{blk.Cid()}, WalkOptions{})); !errors.Is(err, c.want) {
			t.Errorf("%s: walk: %v", name, err)
		}
	}
}

func FuzzLinks(f *testing.F) {
	s := newTestStore()
	for _, c := range []cid.Cid{s.folder(f, link{"a", s.raw(f, "a"), 1}), tebibyte(f, s), s.symlink(f, "x"), shardOf(f, s, "one", "two", "three")} {
		b, _ := s.Get(context.Background(), c)
		f.Add(uint64(cid.DagProtobuf), b.RawData())
	}
	f.Add(uint64(cid.DagCBOR), []byte("\xa1\x61a"+cborLink(s.raw(f, "a"))))
	f.Add(uint64(cid.DagJSON), []byte(`{"a":[{"/":"bafkqaaa"}],"b":{"/":{"bytes":"AAAA"}}}`))
	f.Add(uint64(cid.DagProtobuf), unixfs.FolderPBData())
	f.Fuzz(func(t *testing.T, codec uint64, data []byte) {
		b, err := blockstore.NewBlock(withCodec(rawV1, codec%0x400), data)
		if err != nil {
			return
		}
		if links, err := Links(b); err == nil {
			for _, c := range links {
				if !c.Defined() {
					t.Error("an undefined link")
				}
			}
		}
		n, err := decodeNode(b)
		if err != nil {
			return
		}
		n.entries(context.Background(), s)
		n.lookup(context.Background(), nodesOf(s), "one")
		if n.kind == kindFile {
			(&fileReader{ctx: context.Background(), get: s, root: n}).Read(make([]byte, 10))
		}
	})
}
