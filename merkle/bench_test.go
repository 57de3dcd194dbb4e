package merkle

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// benchSite is the folder that SITE names, or else one of 2000
// files of 1 to 64 KiB in 40 folders, about 65 MB.
func benchSite(b *testing.B) (dir string, bytes int64) {
	b.Helper()
	if dir := os.Getenv("SITE"); dir != "" {
		scan, err := ScanFolder(context.Background(), dir, BuildOptions{})
		if err != nil {
			b.Fatal(err)
		}
		return dir, scan.Bytes
	}
	dir = b.TempDir()
	stream := keystream("bench")
	buf := make([]byte, 64<<10)
	for i := range 2000 {
		io.ReadFull(stream, buf)
		path := filepath.Join(dir, fmt.Sprintf("section%02d/page%04d.html", i%40, i))
		size := 1 + i*64<<10/2000
		mkdir(b, filepath.Dir(path))
		if err := os.WriteFile(path, buf[:size], 0o644); err != nil {
			b.Fatal(err)
		}
		bytes += int64(size)
	}
	return dir, bytes
}

func BenchmarkBuild(b *testing.B) {
	dir, bytes := benchSite(b)
	b.SetBytes(bytes)
	b.ReportAllocs()
	for b.Loop() {
		store := blockstore.NewMemory()
		session, err := store.Begin(context.Background(), "")
		if err != nil {
			b.Fatal(err)
		}
		build(b, session, dir, BuildOptions{})
		session.Close()
		store.Close()
	}
}

func BenchmarkVerify(b *testing.B) {
	dir, bytes := benchSite(b)
	store := blockstore.NewMemory()
	defer store.Close()
	session, err := store.Begin(context.Background(), "")
	if err != nil {
		b.Fatal(err)
	}
	defer session.Close()
	built := build(b, session, dir, BuildOptions{})
	b.SetBytes(bytes)
	b.ReportAllocs()
	for b.Loop() {
		r, err := Verify(context.Background(), store, built.Root, WalkOptions{})
		if err != nil || !r.Whole() {
			b.Fatal(r, err)
		}
	}
}

// One large file's leaves are hashed on several processors.
func BenchmarkBuildOneLargeFile(b *testing.B) {
	path := filepath.Join(b.TempDir(), "large")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	const size = 256 << 20
	if _, err := io.CopyN(f, keystream("large"), size); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size)
	for b.Loop() {
		store := newTestStore()
		store.forget = true
		build(b, store, path, BuildOptions{})
	}
}
