package storetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"testing"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
)

func getReturnsWhatWasPut(t *testing.T, s blockstore.Store) {
	blks := slices.Concat(
		Blocks(t, 1, 1, 0), Blocks(t, 1, 40, 100), Blocks(t, 1, 20, 1<<10), Blocks(t, 1, 5, 100<<10), Blocks(t, 1, 3, 1<<20))
	has(t, s, blks, never)
	sess := begin(t, s, "")
	put(t, sess, blks...)
	has(t, s, blks, always)
	if err := sess.Sync(t.Context()); err != nil {
		t.Fatalf("Sync: %v", err)
	}
	has(t, s, blks, always)
	if size, err := s.Size(t.Context()); err != nil || size < 3<<20 {
		t.Errorf("Size = %d, %v", size, err)
	}
}

func getTellsNotFoundFromRefused(t *testing.T, s blockstore.Store) {
	absent := Raw(t, []byte("absent"))
	_, err := s.Get(t.Context(), absent.Cid())
	isBlockError(t, err, blockstore.ErrNotFound, absent.Cid())

	sum := func(code uint64, length int) cid.Cid {
		h, err := mh.Sum([]byte("x"), code, length)
		if err != nil {
			t.Fatal(err)
		}
		return cid.NewCidV1(cid.Raw, h)
	}
	digest := sha256.Sum256(nil)
	unknown, err := mh.Encode(digest[:], 0x300001)
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]cid.Cid{
		"MD5":            sum(mh.MD5, -1),
		"truncated SHA2": sum(mh.SHA2_256, 19),
		"unknown hash":   cid.NewCidV1(cid.Raw, unknown),
	} {
		_, err := s.Get(t.Context(), c)
		if !errors.Is(err, blockstore.ErrRefused) {
			t.Errorf("Get of %s: %v", what, err)
		}
		if _, err := s.Stat(t.Context(), []cid.Cid{c}); !errors.Is(err, blockstore.ErrRefused) {
			t.Errorf("Stat of %s: %v", what, err)
		}
		if _, err := begin(t, s, "").Shield(t.Context(), []cid.Cid{c}); !errors.Is(err, blockstore.ErrRefused) {
			t.Errorf("Shield of %s: %v", what, err)
		}
	}
	if _, err := s.Get(t.Context(), cid.Undef); !errors.Is(err, blockstore.ErrRefused) {
		t.Errorf("Get of an undefined CID: %v", err)
	}
	// The shortest digest that is trusted.
	if _, err := s.Get(t.Context(), sum(mh.SHA2_256, 20)); !errors.Is(err, blockstore.ErrNotFound) {
		t.Errorf("Get by 20 bytes of SHA2-256: %v", err)
	}
}

func sizeLimits(t *testing.T, s blockstore.Store) {
	largest := Blocks(t, 1, 1, blockstore.MaxBlockSize)
	add(t, s, largest...)
	has(t, s, largest, always)
	p := largest[0].Cid().Prefix()
	if _, err := blockstore.NewBlock(p, make([]byte, blockstore.MaxBlockSize+1)); !errors.Is(err, blockstore.ErrRefused) {
		t.Errorf("NewBlock of a byte more: %v", err)
	}
	if _, err := blockstore.CheckBlock(largest[0].Cid(), make([]byte, blockstore.MaxBlockSize+1)); !errors.Is(err, blockstore.ErrRefused) {
		t.Errorf("CheckBlock of a byte more: %v", err)
	}
	if _, err := begin(t, s, "").Put(t.Context(), blockstore.Block{}); !errors.Is(err, blockstore.ErrRefused) {
		t.Errorf("Put of no block: %v", err)
	}
}

func identityCIDs(t *testing.T, s blockstore.Store) {
	p := cid.Prefix{Version: 1, Codec: cid.Raw, MhType: mh.IDENTITY, MhLength: -1}
	data := make([]byte, blockstore.MaxIdentitySize+1)
	for _, n := range []int{0, 1, blockstore.MaxIdentitySize} {
		c, err := p.Sum(data[:n])
		if err != nil {
			t.Fatal(err)
		}
		b, err := s.Get(t.Context(), c)
		if err != nil || b.Size() != n {
			t.Errorf("Get of %d bytes = %d, %v", n, b.Size(), err)
		}
		infos, err := s.Stat(t.Context(), []cid.Cid{c})
		if err != nil || infos[0] != (blockstore.Info{CID: c, Present: true, Size: int64(n)}) {
			t.Errorf("Stat of %d bytes = %+v, %v", n, infos, err)
		}
		sess := begin(t, s, "")
		if a := put(t, sess, b); a.Blocks != 0 {
			t.Errorf("Put stored an identity block: %+v", a)
		}
		if err := sess.Keep(t.Context(), "owner", c, slices.Values([]cid.Cid{c})); err != nil {
			t.Errorf("Keep of %d bytes: %v", n, err)
		}
	}
	tooLong, err := p.Sum(data)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Get(t.Context(), tooLong)
	isBlockError(t, err, blockstore.ErrRefused, tooLong)
	if _, err := blockstore.NewBlock(p, data); !errors.Is(err, blockstore.ErrRefused) {
		t.Errorf("NewBlock of %d bytes: %v", len(data), err)
	}
	if u, err := s.Usage(t.Context(), "owner"); err != nil || u != (blockstore.Usage{Roots: 3}) {
		t.Errorf("Usage = %+v, %v", u, err)
	}
}

func twoCodecs(t *testing.T, s blockstore.Store) {
	raw := Raw(t, []byte("\x0a\x00"))
	pb := cid.NewCidV1(cid.DagProtobuf, raw.Cid().Hash())
	v0 := cid.NewCidV0(raw.Cid().Hash())
	sess := begin(t, s, "")
	if a := put(t, sess, raw, raw.As(pb), raw.As(v0)); a != (blockstore.Added{Blocks: 1, Bytes: 2}) {
		t.Errorf("Added = %+v", a)
	}
	for _, c := range []cid.Cid{raw.Cid(), pb, v0} {
		b, err := s.Get(t.Context(), c)
		if err != nil || b.Cid() != c || string(b.RawData()) != string(raw.RawData()) {
			t.Errorf("Get(%s) = %v, %v", c, b, err)
		}
	}
	entries, err := listed(t.Context(), s, "")
	if err != nil || len(entries) != 1 || entries[0].CID != raw.Cid() {
		t.Errorf("Enumerate = %+v, %v", entries, err)
	}
}

func getMany(t *testing.T, s blockstore.Store) {
	blks := Blocks(t, 1, 50, 2000)
	add(t, s, blks...)
	order := CIDs(blks)
	slices.Reverse(order)
	order = append(order, order[0]) // the same twice is fine
	var got []cid.Cid
	for b, err := range s.GetMany(t.Context(), order) {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := blockstore.CheckBlock(b.Cid(), b.RawData()); err != nil {
			t.Fatal(err)
		}
		got = append(got, b.Cid())
	}
	if !slices.Equal(got, order) {
		t.Errorf("another order")
	}

	absent := Raw(t, []byte("absent")).Cid()
	got = nil
	var failed error
	for b, err := range s.GetMany(t.Context(), []cid.Cid{order[0], absent, order[1]}) {
		if failed != nil {
			t.Fatal("went on after an error")
		}
		if failed = err; err == nil {
			got = append(got, b.Cid())
		}
	}
	isBlockError(t, failed, blockstore.ErrNotFound, absent)
	if !slices.Equal(got, order[:1]) {
		t.Errorf("before the error came %v", got)
	}
	for range s.GetMany(t.Context(), order) {
		break // leaving early is fine
	}
}

func stat(t *testing.T, s blockstore.Store) {
	blks := Blocks(t, 1, 3000, 10)
	var odd []blockstore.Block
	for i := 1; i < len(blks); i += 2 {
		odd = append(odd, blks[i])
	}
	add(t, s, odd...)
	has(t, s, blks, func(i int) bool { return i%2 == 1 })
	infos, err := begin(t, s, "").Shield(t.Context(), CIDs(blks))
	if err != nil || len(infos) != len(blks) {
		t.Fatalf("Shield: %d, %v", len(infos), err)
	}
	for i, info := range infos {
		if info.CID != blks[i].Cid() || info.Present != (i%2 == 1) {
			t.Fatalf("Shield %d: %+v", i, info)
		}
	}
	if infos, err := s.Stat(t.Context(), nil); err != nil || len(infos) != 0 {
		t.Errorf("Stat of nothing: %v, %v", infos, err)
	}
}

func enumerate(t *testing.T, s blockstore.Store) {
	if entries, err := listed(t.Context(), s, ""); err != nil || len(entries) != 0 {
		t.Fatalf("empty store: %v, %v", entries, err)
	}
	blks := slices.Concat(Blocks(t, 1, 2500, 20), Blocks(t, 1, 10, 5000), Blocks(t, 1, 1, 0))
	add(t, s, blks...)
	want := map[cid.Cid]int64{}
	for _, b := range blks {
		want[b.Cid()] = int64(b.Size())
	}
	entries, err := listed(t.Context(), s, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		size, ok := want[e.CID]
		if !ok || size != e.Size {
			t.Fatalf("unexpected %+v", e)
		}
		delete(want, e.CID)
	}
	if len(want) != 0 {
		t.Errorf("%d blocks are missing", len(want))
	}
}

func enumerateResumes(t *testing.T, s blockstore.Store) {
	add(t, s, Blocks(t, 1, 1500, 8)...)
	whole, err := listed(t.Context(), s, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{0, 1, 700, 1023, 1024, 1498, 1499} {
		rest, err := listed(t.Context(), s, whole[i].Next)
		if err != nil || !slices.Equal(rest, whole[i+1:]) {
			t.Errorf("after %d: %d entries, %v", i, len(rest), err)
		}
	}
	// The block at the cursor may go.
	collect(t, s, blockstore.CollectOptions{})
	kept := Blocks(t, 1, 1500, 8)[3:6]
	add(t, s, kept...)
	before, after := 0, 0
	for _, e := range whole[:700] {
		if slices.Contains(CIDs(kept), e.CID) {
			before++
		}
	}
	rest, err := listed(t.Context(), s, whole[699].Next)
	if after = len(rest); err != nil || before+after != 3 {
		t.Errorf("%d before the cursor, %d after, %v", before, after, err)
	}
	if _, err := listed(t.Context(), s, "no cursor!"); err == nil {
		t.Error("a bad cursor was taken")
	}
}

func enumerateWhileWriting(t *testing.T, s blockstore.Store) {
	old, young := Blocks(t, 1, 3000, 8), Blocks(t, 2, 3000, 9)
	keep(t, s, "owner", old...)
	ctx, cancel := context.WithCancel(t.Context())
	sess := begin(t, s, "")
	wrote := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < len(young) && err == nil; i += 10 {
			_, err = sess.Put(ctx, young[i:i+10]...)
		}
		wrote <- err
	}()
	defer cancel()
	seen := map[cid.Cid]int{}
	for e, err := range s.Enumerate(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		seen[e.CID]++
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	for _, b := range old {
		if seen[b.Cid()] != 1 {
			t.Fatalf("%s was seen %d times", b.Cid(), seen[b.Cid()])
		}
	}
	for c, n := range seen {
		if n != 1 {
			t.Fatalf("%s was seen %d times", c, n)
		}
	}
}
