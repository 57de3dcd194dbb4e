package merkle

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// smallTree is a built tree of each kind of entry, with invented stamps.
func smallTree(t testing.TB) *builder {
	t.Helper()
	leaf := func(text string, more ...sizedID) node {
		b, err := blockstore.NewBlock(rawV1, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return node{sizedID: sizedID{b.Cid(), int64(b.Size())}, tsize: 300, height: len(more), below: more}
	}
	top := &entry{name: "site", folder: true, built: leaf("top")}
	top.children = []entry{
		{name: "doubt", parent: top, stamp: stamp{mtime: 1 << 62}, built: leaf("doubt")},
		{name: "empty", parent: top, folder: true, built: leaf("empty")},
		{name: "large", parent: top, stamp: stamp{3, 1e18, 1e18 + 1, 77, 2049}, built: leaf("root", leaf("one").sizedID, leaf("two").sizedID)},
		{name: "link", parent: top, target: "large", built: leaf("link")},
	}
	return &builder{scan: &scanner{top: "/srv/site", root: top}, started: time.Unix(1_800_000_000, 0)}
}

func encoded(t testing.TB) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := smallTree(t).encodeCache(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// sealed gives a body its checksum.
func sealed(body []byte) []byte {
	return binary.BigEndian.AppendUint32(bytes.Clone(body), crc32.Checksum(body, castagnoli))
}

func TestTheCacheFormatIsTheOneDescribed(t *testing.T) {
	const golden = "testdata/statcache.hex"
	got := hex.Dump(encoded(t))
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s", got)
	}
}

func TestACacheIsReadAsItWasWritten(t *testing.T) {
	c, err := parseCache(encoded(t))
	if err != nil {
		t.Fatal(err)
	}
	b := smallTree(t)
	if c.binding != b.binding() {
		t.Error("another binding")
	}
	kinds := map[string]knownKind{"doubt": knownNode, "empty": knownFolder, "large": knownFile, "link": knownNode}
	if len(c.top.children) != len(kinds) || c.top.kind != knownFolder {
		t.Fatalf("%+v", c.top)
	}
	for i, k := range c.top.children {
		e := &b.scan.root.children[i]
		if k.name != e.name || k.kind != kinds[k.name] || !k.node.cid.Equals(e.built.cid) || k.node.tsize != 300 || len(k.node.below) != len(e.built.below) {
			t.Errorf("%+v", k)
		}
		if k.kind == knownFile && k.stamp != e.stamp {
			t.Errorf("stamp %+v", k.stamp)
		}
	}
}

func TestADamagedCacheIsRefused(t *testing.T) {
	whole := encoded(t)
	for i := range whole {
		if _, err := parseCache(whole[:i]); !errors.Is(err, ErrMalformed) {
			t.Fatalf("cut at %d: %v", i, err)
		}
		for _, bit := range []byte{1, 0x80} {
			torn := bytes.Clone(whole)
			torn[i] ^= bit
			if _, err := parseCache(torn); !errors.Is(err, ErrMalformed) {
				t.Fatalf("bit %d of byte %d: %v", bit, i, err)
			}
		}
		zeroed := bytes.Clone(whole) // as after a power cut
		clear(zeroed[i:])
		if _, err := parseCache(zeroed); !errors.Is(err, ErrMalformed) {
			t.Fatalf("zeros from %d: %v", i, err)
		}
	}
	if _, err := parseCache(append(whole, 0)); !errors.Is(err, ErrMalformed) {
		t.Errorf("a byte too much: %v", err)
	}
}

func TestAWrongCacheWithARightChecksumIsRefused(t *testing.T) {
	head := encoded(t)[:len(cacheMagic)+32]
	uv := func(v uint64) string { return string(binary.AppendUvarint(nil, v)) }
	c := cid.NewCidV1(cid.Raw, mustHash(t, "x"))
	blk := uv(uint64(c.ByteLen())) + c.KeyString() + uv(1)
	n := uv(1) + uv(0) + uv(1) + blk
	file := func(name string) string { return uv(uint64(len(name))) + name + "n" + n }
	for name, body := range map[string]string{
		"nothing":              "",
		"an unknown kind":      uv(0) + "z" + n,
		"a name on top":        uv(1) + "a" + "n" + n,
		"more after the end":   uv(0) + "n" + n + "n",
		"no block":             uv(0) + "n" + uv(1) + uv(0) + uv(0),
		"too many blocks":      uv(0) + "n" + uv(1) + uv(0) + uv(1<<60) + blk,
		"too high":             uv(0) + "n" + uv(1) + uv(1<<20) + uv(1) + blk,
		"a block too large":    uv(0) + "n" + uv(1) + uv(0) + uv(1) + blk[:len(blk)-1] + uv(blockstore.MaxBlockSize+1),
		"a bad CID":            uv(0) + "n" + uv(1) + uv(0) + uv(1) + strings.Repeat("\x01", 40),
		"too many children":    uv(0) + "d" + n + uv(1<<60),
		"a child short":        uv(0) + "d" + n + uv(2) + file("a"),
		"children not sorted":  uv(0) + "d" + n + uv(2) + file("b") + file("a"),
		"a child twice":        uv(0) + "d" + n + uv(2) + file("a") + file("a"),
		"a child without name": uv(0) + "d" + n + uv(1) + file(""),
		"a name past the end":  uv(0) + "d" + n + uv(1) + uv(1<<62) + strings.Repeat("x", 100),
		"too deep":             uv(0) + "d" + n + strings.Repeat(uv(1)+uv(1)+"a"+"d"+n, 300) + uv(0),
		"a varint of 11 bytes": strings.Repeat("\xff", 11) + "n" + n,
	} {
		if got, err := parseCache(sealed(append(bytes.Clone(head), body...))); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func mustHash(t *testing.T, text string) []byte {
	b, err := blockstore.NewBlock(rawV1, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return b.Cid().Hash()
}

func TestABuildIgnoresACacheThatIsNone(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"torn":     func(p string) error { return os.Truncate(p, 60) },
		"empty":    func(p string) error { return os.Truncate(p, 0) },
		"foreign":  func(p string) error { return os.WriteFile(p, []byte("#!/bin/sh\n"), 0o600) },
		"huge":     func(p string) error { return os.Truncate(p, 1<<40) },
		"a FIFO":   func(p string) error { return errors.Join(os.Remove(p), syscall.Mkfifo(p, 0o600)) },
		"a folder": func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) },
	} {
		t.Run(name, func(t *testing.T) {
			store, top := newTestStore(), tree(t, map[string]string{"a": "a", "b/c": "c"})
			opts := BuildOptions{Cache: filepath.Join(t.TempDir(), "cache")}
			buildLater(t, store, top, opts)
			if err := spoil(opts.Cache); err != nil {
				t.Fatal(err)
			}
			b := build(t, store, top, opts)
			sameAs(t, b, top, opts)
			if b.Read != 2 || (b.CacheErr != nil) != (name == "a folder") {
				t.Errorf("read %d files; %v", b.Read, b.CacheErr)
			}
		})
	}
}

func FuzzParseCache(f *testing.F) {
	whole := encoded(f)
	f.Add(whole[:len(whole)-crc32.Size])
	f.Add([]byte(cacheMagic))
	f.Add(append(bytes.Clone(whole[:len(cacheMagic)+32]), 0, 'd', 1, 0, 1))
	f.Fuzz(func(t *testing.T, body []byte) {
		parseCache(body)
		c, err := parseCache(sealed(body))
		if err != nil {
			if c != nil || !errors.Is(err, ErrMalformed) {
				t.Fatalf("%+v, %v", c, err)
			}
			return
		}
		if n := countKnown(&c.top); n > 1+len(body)/minKnown {
			t.Fatalf("%d entries in %d bytes", n, len(body))
		}
	})
}

func countKnown(k *known) int {
	n := 1
	for i := range k.children {
		n += countKnown(&k.children[i])
	}
	return n
}
