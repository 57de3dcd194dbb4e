package blockstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	mh "github.com/multiformats/go-multihash"
)

// marked is a set of multihashes, as 64-bit fingerprints under a random seed:
// some 20 bytes a block. Two that fall together keep a block that nobody
// needs until the next collection; the other way round can't happen.
type marked struct {
	seed maphash.Seed
	set  map[uint64]struct{}
}

func newMarked() *marked {
	return &marked{seed: maphash.MakeSeed(), set: map[uint64]struct{}{}}
}

// add is false where h was there.
func (m *marked) add(h mh.Multihash) bool {
	f := maphash.Bytes(m.seed, h)
	if _, ok := m.set[f]; ok {
		return false
	}
	m.set[f] = struct{}{}
	return true
}

func (m *marked) has(h mh.Multihash) bool {
	_, ok := m.set[maphash.Bytes(m.seed, h)]
	return ok
}

// shielding must be called before a writer looks whether these blocks are present,
// and what it returns when the writer has committed why they are needed.
func (d *disk) shielding(hashes []mh.Multihash) (done func()) {
	d.sweep.RLock()
	d.freshMu.Lock()
	if d.fresh != nil {
		for _, h := range hashes {
			d.fresh.add(h)
		}
	}
	d.freshMu.Unlock()
	return d.sweep.RUnlock
}

func (d *disk) setFresh(m *marked) {
	d.sweep.Lock()
	defer d.sweep.Unlock()
	d.fresh = m
}

// After a collection that freed something the index is compacted, so that the
// space comes back soon, but not for longer than this.
const compactFor = time.Minute

// Collect implements [Store].
func (d *disk) Collect(ctx context.Context, opts CollectOptions) (Collected, error) {
	enter := d.enterWrite
	if opts.DryRun {
		enter = d.enter
	}
	if err := enter(ctx); err != nil {
		return Collected{}, err
	}
	defer d.running.leave()
	if err := d.collecting.take(ctx); err != nil {
		return Collected{}, err
	}
	defer d.collecting.give()

	expired, err := d.expire(ctx, opts)
	if err != nil {
		return Collected{}, err
	}
	d.setFresh(newMarked())
	defer d.setFresh(nil)
	needed, err := d.mark(ctx, expired)
	if err != nil {
		return Collected{}, err
	}
	var freed Collected
	var last []byte
	live := map[uint64]int64{}
	for done := false; !done && err == nil; {
		var c Collected
		c, last, done, err = d.sweepPage(ctx, last, needed, live, opts.DryRun)
		freed.Blocks += c.Blocks
		freed.Bytes += c.Bytes
	}
	if err != nil || opts.DryRun {
		return freed, err
	}
	moved, err := d.reclaim(ctx, live)
	if err != nil || freed.Blocks+moved == 0 {
		return freed, err
	}
	return freed, d.compact(ctx)
}

// expire drops the shields of sessions that nobody resumed in time. In a dry
// run it only says which they are.
func (d *disk) expire(ctx context.Context, opts CollectOptions) (expired map[string]bool, err error) {
	grace := opts.SessionGrace
	if grace == 0 {
		grace = DefaultSessionGrace
	}
	limit := time.Now().Add(-max(grace, 0))
	d.sessionsMu.Lock() // so that nobody resumes what is dropped here
	defer d.sessionsMu.Unlock()
	expired = map[string]bool{}
	err = scan(d.db, []byte{kindTime}, func(id, wrote []byte) error {
		if len(wrote) != 8 {
			return fmt.Errorf("%w: the time of session %q is %d bytes long", ErrCorrupt, id, len(wrote))
		}
		if t := time.Unix(0, int64(binary.BigEndian.Uint64(wrote))); !d.sessions[string(id)] && !t.After(limit) {
			expired[string(id)] = true
		}
		return nil
	})
	if err != nil || opts.DryRun || len(expired) == 0 {
		return expired, err
	}
	return expired, d.commit(ctx, func(b *pebble.Batch) error {
		for id := range expired {
			if err := dropShields(b, id); err != nil {
				return err
			}
		}
		return nil
	})
}

// mark is what kept roots and sessions need. Any doubt is an error.
func (d *disk) mark(ctx context.Context, expired map[string]bool) (*marked, error) {
	view := d.db.NewSnapshot()
	defer view.Close()
	needed := newMarked()
	roots, err := keptBy(view, "")
	if err != nil {
		return nil, err
	}
	for _, root := range roots {
		for k, err := range readManifests(view, root) {
			if err == nil && ctx.Err() != nil {
				err = ctx.Err()
			}
			if err != nil {
				return nil, err
			}
			needed.add(k.cid.Hash())
		}
	}
	err = scan(view, []byte{kindShield}, func(rest, _ []byte) error {
		session, h, ok := cutSized(rest)
		if !ok {
			return fmt.Errorf("%w: the index has a shield under %x", ErrCorrupt, rest)
		}
		if !expired[session] {
			needed.add(h)
		}
		return ctx.Err()
	})
	return needed, err
}

// sweepPage deletes what is not needed among the next blocks behind last, and
// adds what stays to the bytes that are live in each file.
func (d *disk) sweepPage(ctx context.Context, last []byte, needed *marked, live map[uint64]int64, dryRun bool) (c Collected, next []byte, done bool, err error) {
	if ctx.Err() != nil {
		return c, nil, false, ctx.Err()
	}
	entries, err := d.enumeratePage(ctx, last)
	if err != nil || len(entries) == 0 {
		return c, nil, true, err
	}
	next = entries[len(entries)-1].CID.Hash()
	d.sweep.Lock()
	defer d.sweep.Unlock()
	var key []byte
	sweep := func(b *pebble.Batch) error {
		for _, e := range entries {
			h := e.CID.Hash()
			if needed.has(h) || d.fresh.has(h) {
				live[e.file] += e.Size
				continue
			}
			c.Blocks++
			c.Bytes += e.Size
			if dryRun {
				continue
			}
			key = blockKey(key, h)
			if err := b.DeleteSized(key, uint32(e.Size), nil); err != nil {
				return err
			}
		}
		return nil
	}
	if dryRun {
		return c, next, false, sweep(nil)
	}
	if err := d.commit(ctx, sweep); err != nil {
		return Collected{}, nil, false, err
	}
	return c, next, false, nil
}

// compact makes the engine drop what was deleted. Where the time doesn't
// suffice, it goes on with that by itself.
func (d *disk) compact(ctx context.Context) error {
	if err := d.barrier(ctx); err != nil {
		return err
	}
	trouble, unwell := d.health.now()
	if unwell != nil {
		return unwell
	}
	select {
	case <-d.health.stumbled: // long ago
	default:
	}
	short, cancel := context.WithTimeout(ctx, compactFor)
	defer cancel()
	var (
		watch    sync.WaitGroup
		stumbled error
	)
	watch.Go(func() {
		defer cancel()
		select {
		case <-trouble:
		case stumbled = <-d.health.stumbled:
		case <-short.Done():
		}
	})
	err := d.db.Compact(short, []byte{kindBlock}, []byte{kindBlock + 1}, false)
	late := errors.Is(short.Err(), context.DeadlineExceeded) && ctx.Err() == nil
	cancel()
	watch.Wait()
	_, unwell = d.health.now()
	switch {
	case unwell != nil:
		return unwell
	case stumbled != nil:
		return fmt.Errorf("blockstore can't compact: %w", stumbled)
	case late:
		return nil
	default:
		return err
	}
}
