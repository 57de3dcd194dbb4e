package storetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/holdfast-sites/holdfast/blockstore"
	boxo "github.com/ipfs/boxo/blockstore"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
)

func collectExactly(t *testing.T, s blockstore.Store) {
	blks := slices.Concat(Blocks(t, 1, 3000, 20), Blocks(t, 1, 30, 40<<10))
	var dead, alive []blockstore.Block
	for i, b := range blks {
		if i%3 == 0 {
			dead = append(dead, b)
		} else {
			alive = append(alive, b)
		}
	}
	keep(t, s, "owner", append(slices.Clone(alive[:100]), dead...)...)
	keep(t, s, "owner", alive[50:]...)
	keep(t, s, "other", alive[0], alive[1])
	root := alive[0].Cid()
	if c := collect(t, s, blockstore.CollectOptions{}); c.Blocks != 0 {
		t.Fatalf("freed %+v of what is kept", c)
	}
	if err := s.Release(t.Context(), "owner", root); err != nil {
		t.Fatal(err)
	}
	// The other owner told of the root and one block; the list it shares says more.
	if c := collect(t, s, blockstore.CollectOptions{}); c.Blocks != 0 {
		t.Fatalf("freed %+v of what is kept", c)
	}
	if err := s.Release(t.Context(), "other", root); err != nil {
		t.Fatal(err)
	}
	var bytes int64
	for _, b := range append(slices.Clone(dead), alive[:50]...) {
		bytes += int64(b.Size())
	}
	c := collect(t, s, blockstore.CollectOptions{})
	if c.Blocks != int64(len(dead)+50) || c.Bytes != bytes || c.Disk < bytes/2 {
		t.Errorf("freed %+v, want %d blocks, %d bytes", c, len(dead)+50, bytes)
	}
	has(t, s, dead, never)
	has(t, s, alive[:50], never)
	has(t, s, alive[50:], always)
	if c := collect(t, s, blockstore.CollectOptions{}); c.Blocks != 0 {
		t.Errorf("freed again: %+v", c)
	}
	// What was freed can come back.
	add(t, s, dead...)
	has(t, s, dead, always)
}

func collectDryRun(t *testing.T, s blockstore.Store) {
	blks := Blocks(t, 1, 30, 100)
	keep(t, s, "owner", blks[:10]...)
	add(t, s, blks[10:]...)
	for range 2 {
		if c := collect(t, s, blockstore.CollectOptions{DryRun: true}); c != (blockstore.Collected{Blocks: 20, Bytes: 2000}) {
			t.Errorf("would free %+v", c)
		}
	}
	has(t, s, blks, always)
}

func collectSparesShields(t *testing.T, s blockstore.Store) {
	blks := Blocks(t, 1, 30, 100)
	add(t, s, blks[:10]...)
	sess := begin(t, s, "writer")
	if _, err := sess.Shield(t.Context(), CIDs(blks[:5])); err != nil {
		t.Fatal(err)
	}
	put(t, sess, blks[5:8]...)   // present already
	put(t, sess, blks[10:20]...) // new
	never := blockstore.CollectOptions{SessionGrace: -1}
	if c := collect(t, s, never); c.Blocks != 2 {
		t.Errorf("freed %+v, want blocks 8 and 9", c)
	}
	has(t, s, blks, func(i int) bool { return i < 8 || i >= 10 && i < 20 })
	if err := sess.Close(); err != nil {
		t.Fatal(err)
	}
	if c := collect(t, s, never); c.Blocks != 18 {
		t.Errorf("after the session freed %+v", c)
	}
}

// collectWhileWriting lets writers put, find present, and keep blocks that are
// garbage until then, while a collector runs without a pause.
func collectWhileWriting(t *testing.T, s blockstore.Store) {
	shared := Blocks(t, 1, 60, 200)
	ctx, cancel := context.WithCancel(t.Context())
	collected := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			if _, err := s.Collect(ctx, blockstore.CollectOptions{SessionGrace: -1}); err != nil && !errors.Is(err, context.Canceled) {
				collected <- err
				return
			}
		}
		collected <- nil
	}()
	rounds := 30
	if testing.Short() {
		rounds = 8
	}
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			for i := range rounds {
				if err := putAndKeep(ctx, s, name(w), rotate(shared, w*20+i)); err != nil {
					t.Errorf("writer %d, round %d: %v", w, i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	cancel()
	if err := <-collected; err != nil {
		t.Errorf("Collect: %v", err)
	}
}

func rotate(blks []blockstore.Block, n int) []blockstore.Block {
	n %= len(blks)
	return slices.Concat(blks[n:], blks[:n])[:30]
}

func putAndKeep(ctx context.Context, s blockstore.Store, owner string, blks []blockstore.Block) error {
	sess, err := s.Begin(ctx, owner)
	if err != nil {
		return err
	}
	defer sess.Close()
	infos, err := sess.Shield(ctx, CIDs(blks[:10]))
	if err != nil {
		return err
	}
	for i, info := range infos {
		if !info.Present {
			if _, err := sess.Put(ctx, blks[i]); err != nil {
				return err
			}
		}
	}
	for i := 10; i < len(blks); i += 5 {
		if _, err := sess.Put(ctx, blks[i:i+5]...); err != nil {
			return err
		}
	}
	check := func() error {
		for _, err := range s.GetMany(ctx, CIDs(blks)) {
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := check(); err != nil { // the shield holds
		return err
	}
	if err := sess.Keep(ctx, owner, blks[0].Cid(), All(blks...)); err != nil {
		return err
	}
	if err := sess.Close(); err != nil {
		return err
	}
	if err := check(); err != nil { // and so does the keep
		return err
	}
	return s.Release(ctx, owner, blks[0].Cid())
}

func reopened(t *testing.T, open func() blockstore.Store) {
	s := open()
	blks := slices.Concat(Blocks(t, 1, 1, 0), Blocks(t, 1, 500, 700), Blocks(t, 1, 5, 1<<20))
	garbage := Blocks(t, 2, 5, 100)
	keep(t, s, "owner", blks...)
	keep(t, s, "gone", garbage...)
	if err := s.Release(t.Context(), "gone", garbage[0].Cid()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open()
		has(t, s, blks, always)
	}
	defer s.Close()
	if roots, err := s.Kept(t.Context(), ""); err != nil || !slices.Equal(roots, []cid.Cid{blks[0].Cid()}) {
		t.Errorf("Kept = %v, %v", roots, err)
	}
	if got := keptCIDs(t, s, blks[0].Cid()); !slices.Equal(got, sorted(CIDs(blks))) {
		t.Errorf("KeptCIDs has %d of %d", len(got), len(blks))
	}
	if c := collect(t, s, blockstore.CollectOptions{}); c.Blocks != 5 {
		t.Errorf("freed %+v", c)
	}
	has(t, s, blks, always)
	has(t, s, garbage, never)
}

// resumed leaves a session open when the store closes, as a killed process does.
func resumed(t *testing.T, open func() blockstore.Store) {
	blks := Blocks(t, 1, 20, 100)
	s := open()
	sess, err := s.Begin(t.Context(), "import 1")
	if err != nil {
		t.Fatal(err)
	}
	put(t, sess, blks[:10]...)
	if err := sess.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = open()
	if c := collect(t, s, blockstore.CollectOptions{}); c.Blocks != 0 {
		t.Errorf("freed %+v of a session that may come back", c)
	}
	sess = begin(t, s, "import 1")
	// It is open again, so even no grace at all spares it.
	if c := collect(t, s, blockstore.CollectOptions{SessionGrace: -1}); c.Blocks != 0 {
		t.Errorf("freed %+v of an open session", c)
	}
	if a := put(t, sess, blks...); a.Blocks != 10 {
		t.Errorf("put %+v again", a)
	}
	if err := sess.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = open()
	defer s.Close()
	if c := collect(t, s, blockstore.CollectOptions{SessionGrace: -1, DryRun: true}); c.Blocks != 20 {
		t.Errorf("would free %+v of a session that did not come back", c)
	}
	has(t, s, blks, always)
	if c := collect(t, s, blockstore.CollectOptions{SessionGrace: -1}); c.Blocks != 20 {
		t.Errorf("freed %+v of a session that did not come back", c)
	}
	has(t, s, blks, never)
}

func boxoAdapter(t *testing.T, s blockstore.Store) {
	ctx := t.Context()
	sess := begin(t, s, "")
	readOnly, bs := blockstore.ForBoxo(s, nil), blockstore.ForBoxo(s, sess)
	b := blocks.NewBlock([]byte("from outside"))
	if err := readOnly.Put(ctx, b); !errors.Is(err, blockstore.ErrReadOnly) {
		t.Errorf("Put without a session: %v", err)
	}
	if _, err := bs.Get(ctx, b.Cid()); !ipld.IsNotFound(err) {
		t.Errorf("Get: %v", err)
	}
	if _, err := bs.GetSize(ctx, b.Cid()); !ipld.IsNotFound(err) {
		t.Errorf("GetSize: %v", err)
	}
	if ok, err := bs.Has(ctx, b.Cid()); ok || err != nil {
		t.Errorf("Has: %v, %v", ok, err)
	}
	forged, err := blocks.NewBlockWithCid([]byte("something else"), b.Cid())
	if err != nil {
		t.Fatal(err)
	}
	if err := bs.PutMany(ctx, []blocks.Block{b, forged}); !errors.Is(err, blockstore.ErrCorrupt) {
		t.Errorf("Put of a forged block: %v", err)
	}
	if err := bs.Put(ctx, b); err != nil {
		t.Fatal(err)
	}
	for _, bs := range []boxo.Blockstore{bs, readOnly} {
		got, err := bs.Get(ctx, b.Cid())
		if err != nil || got.Cid() != b.Cid() || string(got.RawData()) != "from outside" {
			t.Errorf("Get: %v, %v", got, err)
		}
		if n, err := bs.GetSize(ctx, b.Cid()); n != 12 || err != nil {
			t.Errorf("GetSize: %d, %v", n, err)
		}
		if ok, err := bs.Has(ctx, b.Cid()); !ok || err != nil {
			t.Errorf("Has: %v, %v", ok, err)
		}
		if err := bs.DeleteBlock(ctx, b.Cid()); !errors.Is(err, blockstore.ErrRefused) {
			t.Errorf("DeleteBlock: %v", err)
		}
		keys, fault, err := bs.(boxo.AllKeysChanWithErrer).AllKeysChanWithErr(ctx)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for c := range keys {
			if n++; string(c.Hash()) != string(b.Cid().Hash()) {
				t.Errorf("AllKeys has %s", c)
			}
		}
		if err := fault(); err != nil || n != 1 {
			t.Errorf("AllKeys: %d, %v", n, err)
		}
	}
}
