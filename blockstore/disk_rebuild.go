package blockstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Rebuilt is what RebuildIndex found.
type Rebuilt struct {
	Blocks int64
	Bytes  int64
	Roots  int    // kept, by any number of owners
	Old    string // the directory where the replaced index is; empty where there was none
}

// RebuildIndex makes a new index for the store in dir from its segments and its
// journal, for when OpenDisk says that the index is damaged. The old one is
// kept beside it. Nobody may have the store open: ErrLocked.
//
// Which blocks the kept roots consist of is in the index only. Until each root
// has been kept again, by the same owner (see [Session.Keep]), [Store.KeptCIDs]
// fails for it, and collections free nothing.
func RebuildIndex(ctx context.Context, dir string, opts DiskOptions) (Rebuilt, error) {
	return rebuildIndex(ctx, vfs.Default, dir, opts)
}

func rebuildIndex(ctx context.Context, base vfs.FS, dir string, opts DiskOptions) (r Rebuilt, err error) {
	if opts.ReadOnly {
		return r, ErrReadOnly
	}
	if _, err := base.Stat(base.PathJoin(dir, "segments")); err != nil {
		return r, fmt.Errorf("no blockstore: %w", err)
	}
	d := newDisk(base, opts)
	if err := d.lockDir(base, dir, opts); err != nil {
		return r, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("rebuild the index of %s: %w", d.dir, err)
		}
	}()
	j, err := readJournal(base, d.dir)
	if err == nil {
		r.Old, err = setAside(base, d.dir, d.indexDir())
	}
	if err != nil {
		return r, errors.Join(err, d.lock.Close())
	}
	d.rebuilding = true
	if err := d.open(ctx, opts); err != nil {
		return r, errors.Join(err, d.lock.Close())
	}
	err = d.restoreKept(ctx, j)
	for e, lerr := range d.Enumerate(ctx, "") {
		if err = errors.Join(err, lerr); err != nil {
			break
		}
		r.Blocks++
		r.Bytes += e.Size
	}
	roots, kerr := d.Kept(ctx, "")
	r.Roots = len(roots)
	return r, errors.Join(err, kerr, d.Close())
}

// setAside moves the index away and makes an empty one.
func setAside(base vfs.FS, dir, index string) (old string, err error) {
	for n := 1; ; n++ {
		old = base.PathJoin(dir, fmt.Sprintf("index.damaged-%d", n))
		if _, err := base.Stat(old); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return "", err
		}
	}
	if err := base.Rename(index, old); errors.Is(err, fs.ErrNotExist) {
		old = ""
	} else if err != nil {
		return "", err
	}
	if err := base.MkdirAll(index, 0o700); err != nil {
		return "", err
	}
	return old, syncDir(base, dir)
}

// restoreKept notes who keeps what, without a list of what that is.
func (d *disk) restoreKept(ctx context.Context, j journal) error {
	if len(j.kept) == 0 && j.changes == 0 {
		return nil
	}
	if err := d.keeping.take(ctx); err != nil {
		return err
	}
	defer d.keeping.give()
	err := d.commit(ctx, func(b *pebble.Batch) error {
		for k := range j.kept {
			err := errors.Join(b.Set(ownerKey(k.owner, k.root), nil, nil), b.Set(rootKey(k.root, k.owner), nil, nil))
			if err != nil {
				return err
			}
		}
		perOwner := map[string][]keptRoot{}
		for k := range j.kept {
			perOwner[k.owner] = append(perOwner[k.owner], k)
		}
		l := ledger{changes: j.changes, owners: uint64(len(perOwner))}
		n := uint64(0)
		for owner, roots := range perOwner {
			n++
			err := errors.Join(b.Set(numberKey(owner), appendNumbers(nil, n), nil),
				b.Set(usageKey(uint32(n)), appendNumbers(nil, uint64(len(roots)), 0, 0, 0), nil))
			if err != nil {
				return err
			}
		}
		return l.write(b)
	})
	if err != nil {
		return err
	}
	if err := d.indexBarrier(ctx); err != nil {
		return err
	}
	d.journal = j
	return d.journal.write(d.fs.FS, d.dir)
}
