package blockstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
)

// keep records that owner wants root. The blocks must be present, and what
// looks present here must not be swept before the record is committed.
func (d *disk) keep(ctx context.Context, owner string, root cid.Cid, all []cid.Cid) error {
	if err := d.keeping.take(ctx); err != nil {
		return err
	}
	defer d.keeping.give()
	if err := d.commitKeep(ctx, owner, root, all); err != nil {
		return err
	}
	return d.acknowledge(ctx)
}

func (d *disk) commitKeep(ctx context.Context, owner string, root cid.Cid, all []cid.Cid) error {
	hashes := make([]mh.Multihash, len(all))
	for i, c := range all {
		hashes[i] = c.Hash()
	}
	defer d.shielding(hashes)()
	m, err := d.present(ctx, all)
	if err != nil {
		return err
	}
	return d.commit(ctx, func(b *pebble.Batch) error {
		if err := m.write(d, b, root); err != nil {
			return err
		}
		if err := b.Set(ownerKey(owner, root), nil, nil); err != nil {
			return err
		}
		if err := b.Set(rootKey(root, owner), nil, nil); err != nil {
			return err
		}
		return d.countChange(b)
	})
}

// present makes the list of all, or says which one is missing.
func (d *disk) present(ctx context.Context, all []cid.Cid) (*manifest, error) {
	l, err := d.newLooker(d.db)
	if err != nil {
		return nil, err
	}
	defer l.it.Close()
	m := &manifest{}
	for i, c := range all {
		if i%page == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		info, err := l.info(c)
		if err != nil {
			return nil, err
		}
		if !info.Present {
			return nil, notFound(c)
		}
		m.add(c, info.Size)
	}
	return m, nil
}

// countChange belongs into every batch that changes what is kept; acknowledge
// follows once it is committed. The caller has the keeping turn.
func (d *disk) countChange(b *pebble.Batch) error {
	return b.Set(keyChanges, binary.BigEndian.AppendUint64(nil, d.changes+1), nil)
}

func (d *disk) acknowledge(ctx context.Context) error {
	d.changes++
	if err := d.barrier(ctx); err != nil {
		return err
	}
	return writeLedger(d.fs.FS, d.dir, d.changes)
}

// Release implements [Store].
func (d *disk) Release(ctx context.Context, owner string, root cid.Cid) error {
	if err := checkOwner(owner); err != nil {
		return err
	}
	if err := d.enterWrite(ctx); err != nil {
		return err
	}
	defer d.running.leave()
	if err := d.keeping.take(ctx); err != nil {
		return err
	}
	defer d.keeping.give()
	owners, err := d.owners(root)
	if err != nil {
		return err
	}
	if !owners[owner] {
		// It may have been released by a call whose barrier failed.
		return d.barrier(ctx)
	}
	err = d.commit(ctx, func(b *pebble.Batch) error {
		if err := b.Delete(ownerKey(owner, root), nil); err != nil {
			return err
		}
		if err := b.Delete(rootKey(root, owner), nil); err != nil {
			return err
		}
		if len(owners) == 1 {
			p := manifestPrefix(root)
			if err := b.DeleteRange(p, after(p), nil); err != nil {
				return err
			}
		}
		return d.countChange(b)
	})
	if err != nil {
		return err
	}
	return d.acknowledge(ctx)
}

// owners is who keeps root.
func (d *disk) owners(root cid.Cid) (map[string]bool, error) {
	owners := map[string]bool{}
	err := scan(d.db, rootPrefix(root), func(rest, _ []byte) error {
		owners[string(rest)] = true
		return nil
	})
	return owners, err
}

// scan calls f with what follows prefix in each key that begins with it, and the value.
func scan(r pebble.Reader, prefix []byte, f func(rest, value []byte) error) (err error) {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		v, err := value(it)
		if err != nil {
			return indexError(err)
		}
		if err := f(it.Key()[len(prefix):], v); err != nil {
			return err
		}
	}
	if err := it.Error(); err != nil {
		return indexError(err)
	}
	return nil
}

// Kept implements [Store].
func (d *disk) Kept(ctx context.Context, owner string) ([]cid.Cid, error) {
	if err := d.enter(ctx); err != nil {
		return nil, err
	}
	defer d.running.leave()
	return keptBy(d.db, owner)
}

func keptBy(r pebble.Reader, owner string) ([]cid.Cid, error) {
	var roots []cid.Cid
	add := func(b, _ []byte) error {
		c, err := cid.Cast(b)
		if err != nil {
			return fmt.Errorf("%w: the index keeps a root %x: %w", ErrCorrupt, b, err)
		}
		if n := len(roots); n == 0 || roots[n-1] != c {
			roots = append(roots, c)
		}
		return nil
	}
	if owner != "" {
		err := scan(r, ownerPrefix(owner), add)
		return roots, err
	}
	err := scan(r, []byte{kindRoot}, func(rest, _ []byte) error {
		s, _, ok := cutSized(rest)
		if !ok {
			return fmt.Errorf("%w: the index keeps a root under %x", ErrCorrupt, rest)
		}
		return add([]byte(s), nil)
	})
	return roots, err
}

// KeptCIDs implements [Store].
func (d *disk) KeptCIDs(ctx context.Context, root cid.Cid) iter.Seq2[cid.Cid, error] {
	return func(yield func(cid.Cid, error) bool) {
		if err := d.enter(ctx); err != nil {
			yield(cid.Undef, err)
			return
		}
		defer d.running.leave()
		// One view, so that a release meanwhile does not look like a damaged list.
		view := d.db.NewSnapshot()
		defer view.Close()
		owned := false
		if err := scan(view, rootPrefix(root), func(_, _ []byte) error { owned = true; return nil }); err != nil {
			yield(cid.Undef, err)
			return
		}
		if !owned {
			yield(cid.Undef, notFound(root))
			return
		}
		for k, err := range readManifests(view, root) {
			if err == nil && ctx.Err() != nil {
				err = ctx.Err()
			}
			if !yield(k.cid, err) || err != nil {
				return
			}
		}
	}
}

// Usage implements [Store].
func (d *disk) Usage(ctx context.Context, owner string) (Usage, error) {
	if err := d.enter(ctx); err != nil {
		return Usage{}, err
	}
	defer d.running.leave()
	view := d.db.NewSnapshot()
	defer view.Close()
	roots, err := keptBy(view, owner)
	if err != nil {
		return Usage{}, err
	}
	u := Usage{Roots: len(roots)}
	seen := newMarked()
	for _, root := range roots {
		for k, err := range readManifests(view, root) {
			if err == nil && ctx.Err() != nil {
				err = ctx.Err()
			}
			if err != nil {
				return Usage{}, err
			}
			if _, ok := identity(k.cid); !ok && seen.add(k.cid.Hash()) {
				u.Blocks++
				u.Bytes += k.size
			}
		}
	}
	return u, nil
}
