package blockstore_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/blockstore/storetest"
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
)

func verify(t *testing.T, s blockstore.Store, o blockstore.VerifyOptions) blockstore.Verified {
	t.Helper()
	v, err := s.(blockstore.Verifier).Verify(t.Context(), o)
	if err != nil {
		t.Fatalf("Verify: %v", err)
	}
	return v
}

// put makes the blocks durable and lets go of them.
func put(t *testing.T, s blockstore.Store, blks ...blockstore.Block) {
	t.Helper()
	sess := begun(t, s, "", blks...)
	if err := errors.Join(sess.Sync(t.Context()), sess.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyNamesDamagedAndMissingBlocks(t *testing.T) {
	dir := t.TempDir()
	blks := sample(t, dir)
	s := openDisk(t, dir, blockstore.DiskOptions{})
	if v := verify(t, s, blockstore.VerifyOptions{}); len(v.Damaged)+len(v.Missing)+len(v.Unlisted) != 0 || v.Blocks != int64(len(blks)) || v.Entries != v.Blocks {
		t.Fatalf("of a good store: %+v", v)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	flip(t, dir, blks[70])
	s = openDisk(t, dir, blockstore.DiskOptions{})
	defer s.Close()
	v := verify(t, s, blockstore.VerifyOptions{})
	if len(v.Damaged) != 1 || v.Damaged[0].CID != blks[70].Cid() {
		t.Errorf("damaged: %+v, want %s", v.Damaged, blks[70].Cid())
	}
	if len(v.Missing) != 1 || v.Missing[0] != (blockstore.MissingBlock{CID: blks[70].Cid(), Root: blks[0].Cid()}) {
		t.Errorf("missing: %+v", v.Missing)
	}
	put(t, s, blks[70])
	if v := verify(t, s, blockstore.VerifyOptions{}); len(v.Damaged)+len(v.Missing) != 0 || v.Garbage == 0 {
		t.Errorf("repaired: %+v", v)
	}
}

func TestVerifyFindsIndexEntriesWithoutData(t *testing.T) {
	dir := t.TempDir()
	blks := sample(t, dir)
	for _, segment := range segments(t, dir) {
		info, err := os.Stat(segment)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(segment, info.Size()/2); err != nil {
			t.Fatal(err)
		}
	}
	s := openDisk(t, dir, blockstore.DiskOptions{})
	defer s.Close()
	v := verify(t, s, blockstore.VerifyOptions{})
	if len(v.Missing) == 0 || len(v.Missing) != len(v.Damaged) || int64(len(v.Missing))+v.Blocks != int64(len(blks)) {
		t.Errorf("%d missing, %d damaged, %d read of %d", len(v.Missing), len(v.Damaged), v.Blocks, len(blks))
	}
	put(t, s, blks...)
	if v := verify(t, s, blockstore.VerifyOptions{}); len(v.Missing)+len(v.Damaged) != 0 {
		t.Errorf("repaired: %+v", v)
	}
}

func TestVerifyGoesOnWhereItWasInterrupted(t *testing.T) {
	dir := t.TempDir()
	s := smallSegments(t, dir)
	defer s.Close()
	blks := storetest.Blocks(t, 1, 200, 10<<10)
	put(t, s, blks...)
	ctx, cancel := context.WithCancel(t.Context())
	first, err := s.(blockstore.Verifier).Verify(ctx, blockstore.VerifyOptions{Progress: func(v blockstore.Verified) {
		if v.Bytes > v.Total/2 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("%+v, %v", first, err)
	}
	second := verify(t, s, blockstore.VerifyOptions{})
	if second.Blocks >= int64(len(blks)) || first.Blocks+second.Blocks < int64(len(blks)) {
		t.Errorf("%d blocks were read first, then %d, of %d", first.Blocks, second.Blocks, len(blks))
	}
	if again := verify(t, s, blockstore.VerifyOptions{}); again.Blocks != int64(len(blks)) {
		t.Errorf("%d blocks were read by a new one", again.Blocks)
	}
}

func TestRebuiltIndexHasEveryGoodBlockAndForgetsNoOwner(t *testing.T) {
	dir := t.TempDir()
	blks := sample(t, dir)
	flip(t, dir, blks[70])
	if err := os.RemoveAll(filepath.Join(dir, "index")); err != nil {
		t.Fatal(err)
	}
	if _, err := blockstore.OpenDisk(t.Context(), dir, blockstore.DiskOptions{}); err == nil {
		t.Fatal("a store without its index was opened as if nothing were kept")
	}
	r, err := blockstore.RebuildIndex(t.Context(), dir, blockstore.DiskOptions{})
	if err != nil || r.Blocks != int64(len(blks)-1) || r.Roots != 1 {
		t.Fatalf("RebuildIndex: %+v, %v", r, err)
	}
	s := openDisk(t, dir, blockstore.DiskOptions{})
	defer s.Close()
	if c, err := s.Collect(t.Context(), blockstore.CollectOptions{SessionGrace: -1}); !errors.Is(err, blockstore.ErrCorrupt) || c.Blocks != 0 {
		t.Errorf("Collect before anybody said what is kept: %+v, %v", c, err)
	}
	v := verify(t, s, blockstore.VerifyOptions{})
	if !slices.Equal(v.Unlisted, []blockstore.KeptRoot{{Owner: "owner", Root: blks[0].Cid()}}) {
		t.Errorf("unlisted: %+v", v.Unlisted)
	}
	put(t, s, blks[70])
	sess, err := s.Begin(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer sess.Close()
	if err := sess.Keep(t.Context(), "owner", blks[0].Cid(), storetest.All(blks...)); err != nil {
		t.Fatal(err)
	}
	if c, err := s.Collect(t.Context(), blockstore.CollectOptions{}); err != nil || c.Blocks != 0 {
		t.Errorf("Collect: %+v, %v", c, err)
	}
	if u, err := s.Usage(t.Context(), "owner"); err != nil || u.Roots != 1 || u.Blocks != int64(len(blks)) {
		t.Errorf("Usage: %+v, %v", u, err)
	}
}

func TestRebuildRefusesAStoreInUseAndOneThatIsNotThere(t *testing.T) {
	dir := t.TempDir()
	s := openDisk(t, dir, blockstore.DiskOptions{})
	if _, err := blockstore.RebuildIndex(t.Context(), dir, blockstore.DiskOptions{}); !errors.Is(err, blockstore.ErrLocked) {
		t.Errorf("in use: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	absent := filepath.Join(t.TempDir(), "absent")
	if _, err := blockstore.RebuildIndex(t.Context(), absent, blockstore.DiskOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	if _, err := os.Stat(absent); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it was made: %v", err)
	}
}

func TestRebuildFindsBlocksOfEveryKindOfCIDBehindDamage(t *testing.T) {
	for what, p := range map[string]cid.Prefix{
		"version 0":    {Version: 0, Codec: cid.DagProtobuf, MhType: mh.SHA2_256, MhLength: -1},
		"long digests": {Version: 1, Codec: cid.Raw, MhType: mh.BLAKE3, MhLength: 128},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			s := openDisk(t, dir, blockstore.DiskOptions{})
			var blks []blockstore.Block
			for _, b := range storetest.Blocks(t, 1, 20, 300) {
				b, err := blockstore.NewBlock(p, b.RawData())
				if err != nil {
					t.Fatal(err)
				}
				blks = append(blks, b)
			}
			put(t, s, blks...)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			lost := 0
			if p.Version == 0 {
				spoilIn(t, dir, blks[5].Cid().Bytes(), -1) // its length
				lost = 1
			}
			r, err := blockstore.RebuildIndex(t.Context(), dir, blockstore.DiskOptions{})
			if err != nil || r.Blocks != int64(len(blks)-lost) {
				t.Errorf("RebuildIndex: %+v, %v", r, err)
			}
		})
	}
}

func TestVerifyThatGoesOnDoesNotPayForWhatWasReadBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := blockstore.OpenDiskOn(t.Context(), crashable(t), home, blockstore.WithSegments(blockstore.DiskOptions{}, 64<<10))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for part := range slices.Chunk(storetest.Blocks(t, 1, 1000, 1<<10), 50) {
			put(t, s, part...)
		}
		ctx, cancel := context.WithCancel(t.Context())
		_, err = s.(blockstore.Verifier).Verify(ctx, blockstore.VerifyOptions{Progress: func(v blockstore.Verified) {
			if v.Bytes > v.Total*4/5 {
				cancel()
			}
		}})
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		began := time.Now()
		verify(t, s, blockstore.VerifyOptions{BytesPerSecond: 1 << 10})
		if took := time.Since(began); took > 300*time.Second {
			t.Errorf("less than 300 KiB at 1 KiB a second took %s", took)
		}
	})
}
