package merkle

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

// opened tells the names of the files under top that f opens, as the kernel saw it.
func opened(t *testing.T, top string, f func()) (names []string) {
	t.Helper()
	fd, err := syscall.InotifyInit1(syscall.IN_NONBLOCK | syscall.IN_CLOEXEC)
	if err != nil {
		t.Skip(err)
	}
	defer syscall.Close(fd)
	err = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_, err = syscall.InotifyAddWatch(fd, path, syscall.IN_OPEN)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	f()
	buf := make([]byte, 1<<20)
	n, err := syscall.Read(fd, buf)
	if err == syscall.EAGAIN {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < n; {
		event := (*syscall.InotifyEvent)(unsafe.Pointer(&buf[at]))
		at += syscall.SizeofInotifyEvent
		name := strings.TrimRight(string(buf[at:at+int(event.Len)]), "\x00")
		at += int(event.Len)
		if event.Mask&syscall.IN_ISDIR == 0 {
			names = append(names, name)
		}
	}
	return sorted(names)
}

func TestOnlyWhatChangedIsRead(t *testing.T) {
	store, top := newTestStore(), tree(t, map[string]string{
		"a": "a", "b": "b", "sub/c": "c", "sub/d": "d", "sub/gone": "g", "other/e": "e", "touched": "t", "moved": "m",
	})
	opts := BuildOptions{Cache: filepath.Join(t.TempDir(), "cache")}
	all := opened(t, top, func() { buildLater(t, store, top, opts) })
	if want := []string{"a", "b", "c", "d", "e", "gone", "moved", "touched"}; !slices.Equal(all, want) {
		t.Fatalf("at first %q was read", all)
	}

	// The same size, and the time put back: only ctime tells.
	c := filepath.Join(top, "sub/c")
	before, err := os.Stat(c)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, c, "C")
	for info := before; stampOf(info).ctime == stampOf(before).ctime; { // a coarse clock
		if err := os.Chtimes(c, before.ModTime(), before.ModTime()); err != nil {
			t.Fatal(err)
		}
		if info, err = os.Stat(c); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(top, "sub/new"), "n")
	for _, step := range []error{
		os.Remove(filepath.Join(top, "sub/gone")),
		os.Chtimes(filepath.Join(top, "touched"), later, later.AddDate(-1, 0, 0)),
		os.Rename(filepath.Join(top, "moved"), filepath.Join(top, "moved-away")),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	var b Built
	some := opened(t, top, func() { b = buildLater(t, store, top, opts) })
	sameAs(t, b, top, opts)
	if want := []string{"c", "moved-away", "new", "touched"}; !slices.Equal(some, want) || b.Read != int64(len(want)) {
		t.Errorf("%q was read, %d files by the builder's count; want %q", some, b.Read, want)
	}
	if none := opened(t, top, func() { buildLater(t, store, top, opts) }); len(none) > 0 {
		t.Errorf("%q was read with nothing changed", none)
	}
}
