package main

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// lie makes what is remembered of a file, which a build may have left in doubt, certain for
// the file as it is now, whatever it is now.
func lie(t *testing.T, cache, file string) {
	t.Helper()
	b, err := os.ReadFile(cache)
	if err != nil {
		t.Fatal(err)
	}
	var s syscall.Stat_t
	if err := syscall.Stat(file, &s); err != nil {
		t.Fatal(err)
	}
	name := filepath.Base(file)
	entry := append([]byte{byte(len(name))}, name...)
	before, rest, found := bytes.Cut(b[:len(b)-crc32.Size], entry)
	if !found || bytes.Contains(rest, entry) {
		t.Fatalf("the cache has not one entry of %s", name)
	}
	kind, rest := rest[0], rest[1:]
	if kind == 'f' { // it was certain of the file, which so busy a machine looked at late
		for range 5 {
			_, n := binary.Uvarint(rest)
			rest = rest[n:]
		}
	}
	certain := append(entry, 'f')
	for _, v := range []int64{s.Size, s.Mtim.Nano(), s.Ctim.Nano()} {
		certain = binary.AppendVarint(certain, v)
	}
	certain = binary.AppendUvarint(binary.AppendUvarint(certain, s.Ino), uint64(s.Dev))
	b = slices.Concat(before, certain, rest)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	if err := os.WriteFile(cache, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestACacheThatLiesIsFoundByVerify(t *testing.T) {
	u := newUser(t)
	publish := offline("publish", u.site("site"), "--site", "blog", "--copies", "0")
	u.must(publish...)
	caches, _ := filepath.Glob(filepath.Join(u.home, "cache", "build-*"))
	if len(caches) != 1 {
		t.Fatalf("caches %q", caches)
	}
	page := u.file("site/sub/page.html", "a lie!")
	lie(t, caches[0], page)
	u.must(publish...)
	if o := u.must(offline("cat", "blog/sub/page.html")...); o.out != "a page" {
		t.Fatalf("the lie is not believed: %q", o.out)
	}
	lie(t, caches[0], page) // so young a file may be in doubt again
	if o := u.must("verify"); !strings.Contains(o.out, "sub/page.html") {
		t.Errorf("%s", o.out)
	}
	if _, err := os.Stat(caches[0]); err == nil {
		t.Error("the cache is still there")
	}
	u.must(publish...)
	if o := u.must(offline("cat", "blog/sub/page.html")...); o.out != "a lie!" {
		t.Errorf("%q", o.out)
	}
	if v := u.json("verify"); len(v["caches"].([]any)) != 0 {
		t.Errorf("%v", v)
	}
}
