package author

import (
	"errors"
	"hash/maphash"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-sites/holdfast/merkle"
)

// watchedLink is a symbolic link, and the rules where it stands.
type watchedLink struct {
	at, name string
	ignores  merkle.Ignores
}

// scan walks the tree, watches each of its folders before it reads it, and
// takes the tree's fingerprint. What can't be read is left to the build, which says why.
func (f *folderWatch) scan() {
	began := time.Now()
	f.dirs, f.links = make(map[string]watchedDir), nil
	f.seen.Reset()
	ignores, _ := merkle.TopIgnores(f.top)
	f.walk(f.top, ignores)
	f.followLinks()
	f.print, f.scanned, f.took = f.seen.Sum64(), time.Now(), time.Since(began)
}

// watch has the kernel tell of changes in one folder.
func (f *folderWatch) watch(at string) {
	if f.add == nil {
		return
	}
	err := f.add(at)
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return
	}
	f.giveUp(err)
}

// walk watches the folder at a real path, and those below.
func (f *folderWatch) walk(at string, ignores merkle.Ignores) {
	f.watch(at)
	f.dirs[at] = watchedDir{ignores: ignores}
	listing, err := os.ReadDir(at)
	if err != nil {
		return
	}
	for _, d := range listing {
		name, path := d.Name(), filepath.Join(at, d.Name())
		if name != merkle.IgnoreFile && ignores.Ignored(name, d.IsDir()) {
			continue
		}
		if info, err := d.Info(); err == nil {
			f.fingerprint(path, info)
		}
		switch {
		case d.IsDir():
			below, _ := ignores.Below(name, path)
			f.walk(path, below)
		case d.Type() == fs.ModeSymlink && f.symlinks != merkle.SymlinksKeep:
			f.links = append(f.links, watchedLink{at: at, name: name, ignores: ignores})
		}
	}
}

// followLinks goes on from the links that were met; following one may lead to others.
func (f *folderWatch) followLinks() {
	for len(f.links) > 0 {
		l := f.links[0]
		f.links = f.links[1:]
		f.followLink(l)
	}
}

// followLink watches what a link leads to, where that isn't watched as a part
// of the tree by itself. Links out of the folder are not followed: no build takes them.
func (f *folderWatch) followLink(l watchedLink) {
	target, err := filepath.EvalSymlinks(filepath.Join(l.at, l.name))
	if err != nil {
		return
	}
	rel, err := filepath.Rel(f.top, target)
	if err != nil || !filepath.IsLocal(rel) {
		return
	}
	info, err := os.Stat(target)
	if err != nil {
		return
	}
	if info.IsDir() {
		if d, ok := f.dirs[target]; (!ok || d.only != nil) && !l.ignores.Ignored(l.name, true) {
			below, _ := l.ignores.Below(l.name, target)
			f.walk(target, below)
		}
		return
	}
	f.fingerprint(target, info)
	parent, name := filepath.Split(target)
	parent = filepath.Clean(parent)
	d, ok := f.dirs[parent]
	switch {
	case !ok:
		f.watch(parent)
		f.dirs[parent] = watchedDir{only: map[string]bool{name: true}}
	case d.only != nil:
		d.only[name] = true
	}
}

// seenEntry is what a scan remembers of a file or folder, as a part of the tree's fingerprint.
type seenEntry struct {
	path          string
	size, changed int64
	mode          fs.FileMode
}

// fingerprint adds one entry to the scan's.
func (f *folderWatch) fingerprint(path string, info fs.FileInfo) {
	size, changed := info.Size(), info.ModTime().UnixNano()
	if info.IsDir() {
		size, changed = 0, 0 // they change with ignored files too
	}
	maphash.WriteComparable(&f.seen, seenEntry{path, size, changed, info.Mode()})
}
