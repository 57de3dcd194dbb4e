package blockstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/go-cid"
)

// keep records that owner wants root. Everything that was put is settled. The blocks must be
// present, and what looks present here must not be swept before the record is
// committed.
func (d *disk) keep(ctx context.Context, s *diskSession, owner string, root cid.Cid, all []cid.Cid) error {
	if err := d.keeping.take(ctx); err != nil {
		return err
	}
	defer d.keeping.give()
	changed, err := d.commitKeep(ctx, s, owner, root, all)
	if err != nil {
		return err
	}
	return d.acknowledge(ctx, changed, "+", keptRoot{owner, root})
}

func (d *disk) commitKeep(ctx context.Context, s *diskSession, owner string, root cid.Cid, all []cid.Cid) (changed bool, err error) {
	hashes := make([]string, len(all))
	for i, c := range all {
		hashes[i] = hashString(c)
	}
	defer d.shielding(hashes)()
	losses := d.losses.Load()
	m, list, err := d.present(ctx, s, all)
	if err != nil {
		return false, err
	}
	if err := d.settleAny(ctx, hashes); err != nil {
		return false, err
	}
	err = d.commit(ctx, func(b *pebble.Batch) error {
		if err := s.failure(); err != nil {
			return err
		}
		if d.losses.Load() != losses {
			return &BlockError{CID: root, Kind: ErrUnavailable, Err: errors.New("blocks could not be written while their presence was checked")}
		}
		told, had, err := listsOf(d.db, owner, root)
		if err != nil || slices.Contains(told, m.digest) {
			return err
		}
		changed = true
		if err := m.write(d, b, root); err != nil {
			return err
		}
		if err := b.Set(ownerKey(owner, root), encodeLists(append(told, m.digest)), nil); err != nil {
			return err
		}
		if err := b.Set(rootKey(root, owner), nil, nil); err != nil {
			return err
		}
		return d.count(b, owner, func(r *recount, number uint32) error {
			r.ledger.changes++
			if !had {
				if err := r.roots(number, true); err != nil {
					return err
				}
			}
			return r.add(number, [][]kept{list})
		})
	})
	return changed, err
}

// count changes what is counted for an owner.
func (d *disk) count(b *pebble.Batch, owner string, change func(*recount, uint32) error) error {
	r, err := d.newRecount(b)
	if err != nil {
		return err
	}
	defer r.close()
	number, err := r.number(owner)
	if err != nil {
		return err
	}
	if err := change(r, number); err != nil {
		return err
	}
	return r.write()
}

// present makes the list of all, or says which one is missing. What the session
// knows to be there is not looked up again.
func (d *disk) present(ctx context.Context, s *diskSession, all []cid.Cid) (*manifest, []kept, error) {
	list := make([]kept, len(all))
	var unknown []cid.Cid
	var at []int
	for i, c := range all {
		size, ok := s.knows(hashString(c))
		if list[i] = (kept{c, size}); !ok {
			unknown, at = append(unknown, c), append(at, i)
		}
	}
	infos, err := d.infos(ctx, unknown)
	if err != nil {
		return nil, nil, err
	}
	for n, info := range infos {
		if !info.Present {
			return nil, nil, notFound(info.CID)
		}
		list[at[n]].size = info.Size
	}
	m := &manifest{}
	for _, k := range list {
		m.add(k.cid, k.size)
	}
	m.finish()
	return m, list, nil
}

// acknowledge ends a change to what is kept: it is durable, and in the journal.
// What has not changed may still be on its way to the disk.
func (d *disk) acknowledge(ctx context.Context, changed bool, sign string, k keptRoot) error {
	if err := d.indexBarrier(ctx); err != nil {
		return err
	}
	l, err := readLedger(d.db)
	if err != nil {
		return err
	}
	if changed && l.changes == d.journal.changes+1 {
		return d.journal.record(d.fs.FS, d.dir, sign, k)
	}
	return d.checkJournal() // an earlier change may have failed on its way to the journal
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
	// Where it is not kept, it may have been released by a call whose barrier failed.
	if err := d.handOver(ctx, owner, root); err != nil {
		return err
	}
	changed := false
	err := d.commit(ctx, func(b *pebble.Batch) (err error) {
		changed, err = d.release(ctx, b, owner, root)
		return err
	})
	if err != nil {
		return err
	}
	return d.acknowledge(ctx, changed, "-", keptRoot{owner, root})
}

func (d *disk) release(ctx context.Context, b *pebble.Batch, owner string, root cid.Cid) (changed bool, err error) {
	told, had, err := listsOf(d.db, owner, root)
	if err != nil || !had {
		return false, err
	}
	_, others, err := d.listsOfOthers(owner, root)
	if err != nil {
		return false, err
	}
	if err := errors.Join(b.Delete(ownerKey(owner, root), nil), b.Delete(rootKey(root, owner), nil)); err != nil {
		return false, err
	}
	for _, l := range told {
		if p := append(manifestPrefix(root), l[:]...); !others[l] {
			if err := b.DeleteRange(p, after(p), nil); err != nil {
				return false, err
			}
		}
	}
	err = d.count(b, owner, func(r *recount, number uint32) error {
		r.ledger.changes++
		entries, err := d.readAll(ctx, root, told)
		if err != nil {
			return err
		}
		if err := r.remove(number, entries); err != nil {
			return err
		}
		return r.roots(number, false)
	})
	return true, err
}

// handOver gives the lists that only this owner told about root to another who
// keeps it, if there is one: whoever keeps a root keeps all that anybody said is under it.
func (d *disk) handOver(ctx context.Context, owner string, root cid.Cid) error {
	return d.commit(ctx, func(b *pebble.Batch) error {
		told, _, err := listsOf(d.db, owner, root)
		if err != nil {
			return err
		}
		heir, others, err := d.listsOfOthers(owner, root)
		if err != nil || heir == "" {
			return err
		}
		theirs, _, err := listsOf(d.db, heir, root)
		if err != nil {
			return err
		}
		only := slices.DeleteFunc(told, func(l list) bool { return others[l] })
		if len(only) == 0 {
			return nil
		}
		if err := b.Set(ownerKey(heir, root), encodeLists(append(theirs, only...)), nil); err != nil {
			return err
		}
		return d.count(b, heir, func(r *recount, number uint32) error {
			entries, err := d.readAll(ctx, root, only)
			if err != nil {
				return err
			}
			return r.add(number, entries)
		})
	})
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
