package blockstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/blockstore/storetest"
)

// BenchmarkPut writes 64 MiB in blocks of one size, in batches as a builder makes them, and
// makes them durable. Hashing is not part of it.
func BenchmarkPut(b *testing.B) {
	const total = 64 << 20
	for _, size := range []int{1 << 10, 100 << 10, 1 << 20} {
		blks := storetest.Blocks(b, 1, total/size, size)
		for what, open := range map[string]func() blockstore.Store{
			"disk":   func() blockstore.Store { return openDisk(b, b.TempDir(), blockstore.DiskOptions{}) },
			"memory": blockstore.NewMemory,
		} {
			b.Run(fmt.Sprintf("%s/%dKiB", what, size>>10), func(b *testing.B) {
				b.SetBytes(total)
				b.ReportAllocs()
				for b.Loop() {
					b.StopTimer()
					s := open()
					b.StartTimer()
					putAll(b, s, blks, max(1, (256<<10)/size))
					b.StopTimer()
					if err := s.Close(); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
			})
		}
	}
}

func putAll(b *testing.B, s blockstore.Store, blks []blockstore.Block, batch int) {
	b.Helper()
	ctx := context.Background()
	sess, err := s.Begin(ctx, "")
	if err != nil {
		b.Fatal(err)
	}
	defer sess.Close()
	for i := 0; i < len(blks); i += batch {
		if _, err := sess.Put(ctx, blks[i:min(i+batch, len(blks))]...); err != nil {
			b.Fatal(err)
		}
	}
	if err := sess.Sync(ctx); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkSync is what a small change costs: one block of 10 KiB, durable.
func BenchmarkSync(b *testing.B) {
	s := openDisk(b, b.TempDir(), blockstore.DiskOptions{})
	defer s.Close()
	i := 0
	for b.Loop() {
		i++
		putAll(b, s, storetest.Blocks(b, i, 1, 10<<10), 1)
	}
}

// BenchmarkGet reads random blocks of 100 KiB that the page cache has, each
// hashed; and the same by Stat.
func BenchmarkGet(b *testing.B) {
	blks := storetest.Blocks(b, 1, 1000, 100<<10)
	ctx := context.Background()
	dir := b.TempDir()
	s := openDisk(b, dir, blockstore.DiskOptions{})
	putAll(b, s, blks, 10)
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	s = openDisk(b, dir, blockstore.DiskOptions{})
	defer s.Close()
	r := rand.New(rand.NewPCG(1, 2))
	b.Run("Get100KiB", func(b *testing.B) {
		b.SetBytes(100 << 10)
		for b.Loop() {
			if _, err := s.Get(ctx, blks[r.IntN(len(blks))].Cid()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("StatOf100", func(b *testing.B) {
		cids := storetest.CIDs(blks[:100])
		for b.Loop() {
			if _, err := s.Stat(ctx, cids); err != nil {
				b.Fatal(err)
			}
		}
	})
}
