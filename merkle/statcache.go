package merkle

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ipfs/go-cid"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// statCache is what an earlier build remembered of a folder.
type statCache struct {
	binding [sha256.Size]byte // what it is the cache of
	top     known
}

// known is what the cache has of one entry of the tree.
type known struct {
	name     string // empty: the top
	kind     knownKind
	stamp    stamp // of knownFile
	node     node
	children []known // of knownFolder, sorted by name: all that it had
}

// knownKind is how far a known entry can be believed.
type knownKind byte

const (
	// knownFile is built from a file with this stamp.
	knownFile knownKind = 'f'
	// knownFolder is built of these children.
	knownFolder knownKind = 'd'
	// knownNode tells only what node the folder above had here: a symbolic link's,
	// or that of a file which may have changed after it was read without a sign of it.
	knownNode knownKind = 'n'
)

// binding is a digest of all that decides, beside the files, what is built.
func (b *builder) binding() [sha256.Size]byte {
	profile, symlinks := b.opts.Profile, b.opts.Symlinks
	if profile == "" {
		profile = V1_2025
	}
	if symlinks == "" {
		symlinks = SymlinksFollow
	}
	return sha256.Sum256(fmt.Appendf(nil, "%q %q %q", profile, symlinks, b.scan.top))
}

// recall finds the files and folders of which the cache knows what would be
// built, and the session has the blocks.
func (b *builder) recall(ctx context.Context, into blockstore.Session) error {
	if b.cache == nil || b.cache.binding != b.binding() {
		return nil
	}
	match(b.scan.root, &b.cache.top)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(b.workers)
	r := recollection{}
	r.each(b.scan.root, func(part recollection) {
		group.Go(func() error { return b.shield(ctx, into, part) })
	})
	return group.Wait()
}

// match gives the entries below e what is known of them.
func match(e *entry, k *known) {
	if e.folder != (k.kind == knownFolder) {
		return
	}
	e.known = k
	rest := k.children
	for i := range e.children {
		c := &e.children[i]
		for len(rest) > 0 && rest[0].name < c.name {
			rest = rest[1:]
		}
		if len(rest) > 0 && rest[0].name == c.name {
			match(c, &rest[0])
			rest = rest[1:]
		}
	}
}

// sameStamp says that the file is the one that was built.
func (e *entry) sameStamp() bool {
	return e.known != nil && e.known.kind == knownFile && !e.isLink() && e.known.stamp == e.stamp
}

// sameNames says that the folder has the entries that it had, each a folder or not as it was.
func (e *entry) sameNames() bool {
	if !e.folder || e.known == nil || len(e.known.children) != len(e.children) {
		return false
	}
	for i := range e.children {
		if e.children[i].known != &e.known.children[i] {
			return false
		}
	}
	return true
}

// sameEntries says of a folder with sameNames that they also are built as they were.
func (e *entry) sameEntries() bool {
	for i := range e.children {
		now, then := &e.children[i].built, &e.known.children[i].node
		if !now.cid.Equals(then.cid) || now.tsize != then.tsize {
			return false
		}
	}
	return true
}

// recollection is some entries that may be recalled, and all of their blocks.
type recollection struct {
	entries []*entry
	cids    []cid.Cid
}

// shieldBatch is how many blocks are shielded at once, roughly.
const shieldBatch = 64 << 10

// each hands on all that may be recalled under e, in parts.
func (r *recollection) each(e *entry, f func(recollection)) {
	r.gather(e, f)
	if len(r.entries) > 0 {
		f(*r)
	}
}

func (r *recollection) gather(e *entry, f func(recollection)) {
	for i := range e.children {
		r.gather(&e.children[i], f)
	}
	if !e.sameStamp() && !e.sameNames() {
		return
	}
	r.entries = append(r.entries, e)
	for blk := range e.known.node.all {
		r.cids = append(r.cids, blk.cid)
	}
	if len(r.cids) >= shieldBatch {
		f(*r)
		*r = recollection{}
	}
}

// shield recalls those entries of which the session has all blocks. A block of
// another size than the one remembered is none of them.
func (b *builder) shield(ctx context.Context, into blockstore.Session, part recollection) error {
	infos := make([]blockstore.Info, 0, len(part.cids))
	for cids := part.cids; len(cids) > 0; {
		n := min(len(cids), 2*shieldBatch)
		some, err := into.Shield(ctx, cids[:n])
		if err != nil {
			return err
		}
		infos, cids = append(infos, some...), cids[n:]
	}
	for _, e := range part.entries {
		e.recalled = true
		for blk := range e.known.node.all {
			if !infos[0].Present || infos[0].Size != blk.size {
				e.recalled = false
			}
			infos = infos[1:]
		}
		if e.recalled && !e.folder {
			e.built = e.known.node
			b.files.Add(1)
			b.bytes.Add(e.stamp.size)
		}
	}
	b.report()
	return nil
}

// readCache is nil where there is no cache that could be believed.
func (b *builder) readCache() *statCache {
	if b.opts.Cache == "" || b.opts.Reread {
		return nil
	}
	data, err := readRegular(b.opts.Cache, maxCacheBytes)
	if err != nil {
		return nil
	}
	c, err := parseCache(data)
	if err != nil {
		return nil
	}
	return c
}

// writeCache replaces the cache, where it would say anything new. It is not
// synced: a torn one is noticed, and costs the reading of the files.
func (b *builder) writeCache() error {
	top := b.scan.root
	if b.opts.Cache == "" || b.read.Load() == 0 && top.recalled && top.built.cid.Equals(top.known.node.cid) {
		return nil
	}
	f, err := os.CreateTemp(filepath.Dir(b.opts.Cache), filepath.Base(b.opts.Cache)+".*")
	if err != nil {
		return err
	}
	err = b.encodeCache(f)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), b.opts.Cache)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
