package preflight

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
)

// tree is a site's names, read from its folders as they are asked for, or all
// at once. Once all are loaded it is for any number of goroutines, before for one.
type tree struct {
	ctx     context.Context // of one check: a look-up may have to read a folder
	get     blockstore.Getter
	folders map[string]*folder // by path; nil: there is no such folder
	whole   bool
	err     error // the first folder that could not be read
}

type folder struct {
	entries map[string]*entry
	once    sync.Once
	folded  map[string]string // names by how they read without case
}

// entry is one name in a folder.
type entry struct {
	cid    cid.Cid
	size   int64       // bytes, a hint
	linked atomic.Bool // a link needs it
}

func newTree(ctx context.Context, g blockstore.Getter, root cid.Cid) (*tree, error) {
	t := &tree{ctx: ctx, get: g, folders: make(map[string]*folder)}
	top, err := t.read(root)
	if top != nil {
		t.folders[""] = top
	}
	return t, err
}

// read reads one folder; nil where it is none.
func (t *tree) read(c cid.Cid) (*folder, error) {
	if c.Prefix().Codec == cid.Raw {
		return nil, nil
	}
	entries, err := merkle.ReadFolder(t.ctx, t.get, c)
	if errors.Is(err, merkle.ErrNoPath) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	f := &folder{entries: make(map[string]*entry, len(entries))}
	for _, e := range entries {
		f.entries[e.Name] = &entry{cid: e.CID, size: e.Size}
	}
	return f, nil
}

// folder is the folder at a path; nil where there is none.
func (t *tree) folder(path string) *folder {
	f, known := t.folders[path]
	if known || t.whole || path == "" {
		return f
	}
	dir, name := split(path)
	if in := t.folder(dir); in != nil {
		if e := in.entries[name]; e != nil {
			var err error
			if f, err = t.read(e.cid); err != nil && t.err == nil {
				t.err = &merkle.PathError{Path: path, CID: e.cid, Err: err}
			}
		}
	}
	t.folders[path] = f
	return f
}

// entry is what stands at a path, which is not the root's; nil for nothing.
func (t *tree) entry(path string) *entry {
	dir, name := split(path)
	if f := t.folder(dir); f != nil {
		return f.entries[name]
	}
	return nil
}

// entryAt is entry, for paths that are mostly found, without a copy of each.
func (t *tree) entryAt(path []byte) *entry {
	i := bytes.LastIndexByte(path, '/')
	dir, name := path[:max(i, 0)], path[i+1:]
	f, known := t.folders[string(dir)]
	if !known {
		f = t.folder(string(dir))
	}
	if f == nil {
		return nil
	}
	return f.entries[string(name)]
}

func split(path string) (dir, name string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// file is one file of the tree.
type file struct {
	path string
	*entry
}

// load reads every folder and lists the files, sorted by path.
func (t *tree) load() ([]file, error) {
	var files []file
	open := []string{""}
	for len(open) > 0 {
		at := open[len(open)-1]
		open = open[:len(open)-1]
		f := t.folder(at)
		if f == nil {
			continue
		}
		if strings.Count(at, "/") > merkle.DefaultMaxDepth {
			return nil, &merkle.PathError{Path: at, Err: merkle.ErrLimit}
		}
		for name, e := range f.entries {
			path := join(at, name)
			if e.cid.Prefix().Codec != cid.Raw && t.folder(path) != nil {
				open = append(open, path)
				continue
			}
			files = append(files, file{path, e})
		}
	}
	t.whole = t.err == nil
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.path, b.path) })
	return files, t.err
}

// unfold finds the path that differs from a missing one in case only; empty
// where there is none.
func (t *tree) unfold(path string) string {
	at := ""
	for name := range strings.SplitSeq(path, "/") {
		f := t.folder(at)
		if f == nil {
			return ""
		}
		if f.entries[name] == nil {
			f.once.Do(func() {
				f.folded = make(map[string]string, len(f.entries))
				for n := range f.entries {
					if have, twice := f.folded[strings.ToLower(n)]; !twice || n < have {
						f.folded[strings.ToLower(n)] = n
					}
				}
			})
			if name = f.folded[strings.ToLower(name)]; name == "" {
				return ""
			}
		}
		at = join(at, name)
	}
	return at
}

// text reads a file's beginning, at most limit bytes. Symlinks have none. The
// bytes may be the store's own: they are not to be changed. Else they are in
// space, which grows as it must and is good for one file at a time.
func (t *tree) text(c cid.Cid, limit int64, space *[]byte) ([]byte, error) {
	if c.Prefix().Codec == cid.Raw {
		b, err := t.get.Get(t.ctx, c)
		if err != nil {
			return nil, err
		}
		text := b.RawData()
		return text[:min(int64(len(text)), limit)], nil
	}
	f, err := merkle.OpenFile(t.ctx, t.get, c)
	if errors.Is(err, merkle.ErrNoPath) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	n, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	n = min(n, limit)
	*space = slices.Grow((*space)[:0], int(n))[:n]
	_, err = io.ReadFull(f, *space)
	return *space, err
}

// bytes is how large a file is. Symlinks are nothing.
func (t *tree) bytes(e *entry) (int64, error) {
	if e.cid.Prefix().Codec == cid.Raw || e.size <= MaxFile {
		return e.size, nil
	}
	f, err := merkle.OpenFile(t.ctx, t.get, e.cid)
	if errors.Is(err, merkle.ErrNoPath) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.Seek(0, io.SeekEnd)
}
