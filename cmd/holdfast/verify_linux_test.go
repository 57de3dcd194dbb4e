package main

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// lie makes what is remembered of a file, which a build left in doubt, certain for
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
	doubt := append(append([]byte{byte(len(name))}, name...), 'n')
	certain := append(append([]byte{byte(len(name))}, name...), 'f')
	for _, v := range []int64{s.Size, s.Mtim.Nano(), s.Ctim.Nano()} {
		certain = binary.AppendVarint(certain, v)
	}
	certain = binary.AppendUvarint(binary.AppendUvarint(certain, s.Ino), uint64(s.Dev))
	if bytes.Count(b, doubt) != 1 {
		t.Fatalf("the cache has %d entries of %s in doubt", bytes.Count(b, doubt), name)
	}
	b = bytes.Replace(b[:len(b)-crc32.Size], doubt, certain, 1)
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
	lie(t, caches[0], page) // so young a file was in doubt again
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
