//go:build unix

package engines

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/ipld/go-car/v2"
	mh "github.com/multiformats/go-multihash"
)

// some makes blocks of sizes on both sides of every engine's limits.
func some(t *testing.T, from, to int) (made []blocks.Block) {
	t.Helper()
	for i := from; i < to; i++ {
		data := bytes.Repeat([]byte(fmt.Sprintf("%08d", i)), []int{1, 16, 300, bigFrom / 8, 1 << 17}[i%5])
		h, err := mh.Sum(data, mh.SHA2_256, -1)
		if err != nil {
			t.Fatal(err)
		}
		b, err := blocks.NewBlockWithCid(data, cid.NewCidV1(cid.Raw, h))
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, b)
	}
	return made
}

func hashes(blks []blocks.Block) (hs []mh.Multihash) {
	for _, b := range blks {
		hs = append(hs, b.Cid().Hash())
	}
	return hs
}

// eachEngine runs a test with a new engine and a way to open it again.
func eachEngine(t *testing.T, test func(t *testing.T, e Engine, again func() Engine)) {
	for _, k := range Kinds {
		t.Run(k.Name, func(t *testing.T) {
			dir := t.TempDir()
			open := func() Engine {
				e, err := k.open(dir)
				if err != nil {
					t.Fatal(err)
				}
				return e
			}
			test(t, open(), open)
		})
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func wantAll(t *testing.T, e Engine, blks []blocks.Block) {
	t.Helper()
	for _, b := range blks {
		if got, err := e.Get(b.Cid().Hash()); err != nil || !bytes.Equal(got, b.RawData()) {
			t.Fatalf("%s: got %d bytes, %v; want %d", b.Cid(), len(got), err, len(b.RawData()))
		}
	}
}

func wantNone(t *testing.T, e Engine, blks []blocks.Block) {
	t.Helper()
	for _, b := range blks {
		if _, err := e.Get(b.Cid().Hash()); !errors.Is(err, errNotFound) {
			t.Fatalf("%s: got %v, want not found", b.Cid(), err)
		}
	}
}

func TestBlocksAreReadBeforeAndAfterTheBarrierAndWhenOpenedAgain(t *testing.T) {
	eachEngine(t, func(t *testing.T, e Engine, again func() Engine) {
		all := some(t, 0, 40)
		must(t, e.Put(all[:30]))
		wantAll(t, e, all[:30])
		must(t, e.Sync(), e.Put(all)) // most of them once more
		wantAll(t, e, all)
		must(t, e.Sync(), e.Close())
		e = again()
		wantAll(t, e, all)
		wantNone(t, e, some(t, 40, 50))
		must(t, e.Close())
	})
}

func TestReclaimFreesWhatWasDeletedAndKeepsTheRest(t *testing.T) {
	eachEngine(t, func(t *testing.T, e Engine, again func() Engine) {
		all := some(t, 0, 100)
		dead, live := all[:60], all[60:]
		must(t, e.Put(all), e.Sync(), e.Delete(hashes(dead)), e.Reclaim())
		wantNone(t, e, dead)
		wantAll(t, e, live)
		must(t, e.Put(dead[:10]), e.Sync(), e.Close())
		e = again()
		wantAll(t, e, dead[:10])
		wantNone(t, e, dead[10:])
		wantAll(t, e, live)
		must(t, e.Close())
	})
}

func TestReclaimShrinksTheFolder(t *testing.T) {
	for _, k := range Kinds {
		t.Run(k.Name, func(t *testing.T) {
			dir := t.TempDir()
			e, err := k.open(dir)
			must(t, err)
			all := some(t, 0, 100)
			must(t, e.Put(all), e.Sync())
			full, err := DiskUse(dir)
			must(t, err, e.Delete(hashes(all[:80])), e.Reclaim(), e.Close())
			rest, err := DiskUse(dir)
			if err != nil || rest > full/2 {
				t.Errorf("%d bytes are left of %d, %v", rest, full, err)
			}
		})
	}
}

func TestSegmentsAreCARFiles(t *testing.T) {
	dir := t.TempDir()
	e, err := openSegments(dir)
	must(t, err)
	all := some(t, 0, 40)
	must(t, e.Put(all), e.Close())
	f, err := os.Open(filepath.Join(dir, "00000001.car"))
	must(t, err)
	defer f.Close()
	r, err := car.NewBlockReader(bufio.NewReader(f)) // checks each block
	must(t, err)
	if len(r.Roots) != 1 || r.Roots[0].String() != "bafkqaaa" {
		t.Errorf("roots %v", r.Roots)
	}
	for _, want := range all {
		if got, err := r.Next(); err != nil || !got.Cid().Equals(want.Cid()) {
			t.Fatalf("got %v, %v; want %s", got, err, want.Cid())
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last block: %v", err)
	}
}

func TestWhatCanBeSalvagedIsWhatTheTableSays(t *testing.T) {
	all := some(t, 0, 40)
	big := 0
	for _, b := range all {
		if len(b.RawData()) >= bigFrom {
			big++
		}
	}
	want := map[string]int{"pebble": 0, "pebble+files": big, "segments": len(all), "flatfs": len(all)}
	for _, k := range Kinds {
		dir := t.TempDir()
		e, err := k.open(dir)
		must(t, err)
		must(t, e.Put(all), e.Close())
		var got Done
		must(t, salvage(Job{Engine: k.Name, Dir: dir}, &got, nil))
		if got.Blocks != want[k.Name] {
			t.Errorf("%s: %d blocks, want %d", k.Name, got.Blocks, want[k.Name])
		}
	}
}

func TestASegmentEndsWhereTheLastBarrierWas(t *testing.T) {
	dir := t.TempDir()
	e, err := openSegments(dir)
	must(t, err)
	all := some(t, 0, 10)
	must(t, e.Put(all), e.Sync(), e.Close())
	name := filepath.Join(dir, "00000001.car")
	before, err := os.Stat(name)
	must(t, err)
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString("half a section")
	must(t, err, f.Close(), os.WriteFile(filepath.Join(dir, "00000002.car"), carHeader, 0o600))
	e, err = openSegments(dir)
	must(t, err)
	wantAll(t, e, all)
	must(t, e.Close())
	if after, err := os.Stat(name); err != nil || after.Size() != before.Size() {
		t.Errorf("%d bytes, %v; want %d", after.Size(), err, before.Size())
	}
	if _, err := os.Stat(filepath.Join(dir, "00000002.car")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a segment that no barrier knows: %v", err)
	}
}
