package merkle

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// nullSession knows which blocks it was given and keeps none, so that a build
// into it costs what the build itself costs.
type nullSession struct {
	blockstore.Session
	mu    sync.Mutex
	sizes map[cid.Cid]int
}

func newNullSession() *nullSession { return &nullSession{sizes: make(map[cid.Cid]int)} }

func (s *nullSession) Put(ctx context.Context, blks ...blockstore.Block) (blockstore.Added, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range blks {
		s.sizes[b.Cid()] = b.Size()
	}
	return blockstore.Added{}, ctx.Err()
}

func (s *nullSession) Shield(ctx context.Context, cids []cid.Cid) ([]blockstore.Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	infos := make([]blockstore.Info, len(cids))
	for i, c := range cids {
		size, ok := s.sizes[c]
		infos[i] = blockstore.Info{CID: c, Present: ok, Size: int64(size)}
	}
	return infos, ctx.Err()
}

// site is the folder that SITE names: a real one, which the tests can't bring.
func site(b *testing.B) string {
	dir := os.Getenv("SITE")
	if dir == "" {
		b.Skip("SITE names no folder")
	}
	return dir
}

func BenchmarkBuildSite(b *testing.B) {
	dir := site(b)
	b.ReportAllocs()
	for b.Loop() {
		built := build(b, newNullSession(), dir, BuildOptions{})
		b.SetBytes(built.Bytes)
	}
}

func BenchmarkBuildSiteAgain(b *testing.B) {
	dir, session := site(b), newNullSession()
	opts := BuildOptions{Cache: filepath.Join(b.TempDir(), "cache")}
	first := build(b, session, dir, opts)
	b.ReportAllocs()
	for b.Loop() {
		again := build(b, session, dir, opts)
		if again.Read > 0 || !again.Root.Equals(first.Root) {
			b.Fatalf("read %d files", again.Read)
		}
	}
}
