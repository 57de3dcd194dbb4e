package merkle

import (
	"path"
	"path/filepath"
)

// entry is one file, folder or kept symbolic link of a scanned tree.
type entry struct {
	name     string
	parent   *entry // nil: the top
	real     string // of folders, where they are read; of files, where one is that is read elsewhere than in its parent
	target   string // of kept symbolic links
	folder   bool
	stamp    stamp   // of files
	children []entry // of folders, sorted by name

	known    *known // what the cache has of it; nil: nothing
	recalled bool   // known is what would be built, and the session holds its blocks
	built    node   // filled by the builder
}

// rel is the slash path relative to the top; empty for the top.
func (e *entry) rel() string {
	if e.parent == nil {
		return ""
	}
	return path.Join(e.parent.rel(), e.name)
}

// where names the entry in errors.
func (e *entry) where() string {
	if e.parent == nil {
		return e.name
	}
	return e.rel()
}

// path is where a file is read.
func (e *entry) path() string {
	if e.real != "" {
		return e.real
	}
	return filepath.Join(e.parent.real, e.name)
}

func (e *entry) isLink() bool { return e.target != "" }

// each calls f for the files and kept links under e, in the order of the tree.
func (e *entry) each(f func(*entry)) {
	if !e.folder {
		f(e)
	}
	for i := range e.children {
		e.children[i].each(f)
	}
}
