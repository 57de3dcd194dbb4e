package blockstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
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

func (m *marked) add(h string) { m.set[maphash.String(m.seed, h)] = struct{}{} }

func (m *marked) has(h string) bool {
	_, ok := m.set[maphash.String(m.seed, h)]
	return ok
}

// shielding must be called before a writer looks whether these blocks are present,
// and what it returns when the writer has told why they are needed: in its
// session, or by what it committed.
func (d *disk) shielding(hashes []string) (done func()) {
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

// After a collection that freed something the index is compacted, so that its
// space comes back soon, but not for longer than this.
const compactFor = time.Minute

// Collect implements [Store].
//
// Whether a kept root needs a block is in the counts, which are in the same order as the
// blocks, so memory does not grow with the store: it takes some 20 bytes
// for each block that open or left sessions shield, and for each that is
// written meanwhile.
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
	d.watchOrigins(true)
	defer d.watchOrigins(false)
	settled := true
	if !d.readOnly {
		// A full disk is no reason not to make room: what waits stays.
		if err := d.settle(ctx); err != nil {
			settled = false
			d.log.Warn("blockstore: collecting though not everything can be written", "error", err.Error())
		}
	}
	if err := d.checkKept(ctx); err != nil {
		return Collected{}, err
	}
	expired, err := d.expire(ctx, opts)
	if err != nil {
		return Collected{}, err
	}
	d.setFresh(newMarked())
	defer d.setFresh(nil)
	shielded, err := d.shielded(ctx, expired)
	if err != nil {
		return Collected{}, err
	}
	before, quiet := d.segments.total(), d.quiet()
	freed, live, err := d.sweepAll(ctx, shielded, opts)
	if err != nil || opts.DryRun {
		return freed, err
	}
	if settled { // else blocks that wait may need files that the sweep has not seen them in
		if err := d.forgetOrigins(ctx, live.files); err != nil {
			return freed, err
		}
	}
	moved, err := d.reclaim(ctx, quiet, live.bytes)
	freed.Disk = max(0, before-d.segments.total())
	if err != nil || !moved && freed.Blocks == 0 {
		return freed, err
	}
	return freed, d.compact(ctx)
}

// checkKept makes sure that the counts are whole: that nothing is freed that
// somebody keeps, whatever has happened to the index.
func (d *disk) checkKept(ctx context.Context) error {
	view := d.db.NewSnapshot()
	defer view.Close()
	if err := checkCounts(ctx, view); err != nil {
		return err
	}
	return checkLists(ctx, view)
}

func checkCounts(ctx context.Context, view pebble.Reader) error {
	l, err := readLedger(view)
	if err != nil {
		return err
	}
	sum, n := uint64(0), 0
	err = scan(view, []byte{kindCount}, func(_, v []byte) error {
		var c uint64
		if n++; n%page == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if err := cutNumbers(v, &c); err != nil {
			return err
		}
		sum += c
		return nil
	})
	if err == nil && sum != l.counts {
		err = fmt.Errorf("%w: the counts of what is kept add up to %d instead of %d", ErrCorrupt, sum, l.counts)
	}
	return err
}

// checkLists makes sure that the list of every kept root can be read.
func checkLists(ctx context.Context, view pebble.Reader) error {
	roots, err := keptBy(view, "")
	if err != nil {
		return err
	}
	for _, root := range roots {
		n := 0
		for _, err := range readManifests(view, root) {
			if n++; n%page == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// expire drops the shields of sessions that nobody resumed in time. In a dry
// run it only says which they are.
func (d *disk) expire(ctx context.Context, opts CollectOptions) (expired map[string]bool, err error) {
	grace := opts.SessionGrace
	if grace == 0 {
		grace = DefaultSessionGrace
	}
	limit := time.Now().Add(-max(grace, 0))
	if err := d.resuming.take(ctx); err != nil {
		return nil, err
	}
	defer d.resuming.give()
	d.sessionsMu.Lock()
	open := maps.Clone(d.sessions)
	d.sessionsMu.Unlock() // a settling asks the sessions while it has the writing turn, which we need
	expired = map[string]bool{}
	err = scan(d.db, []byte{kindTime}, func(id, wrote []byte) error {
		if len(wrote) != 8 {
			return fmt.Errorf("%w: the time of session %q is %d bytes long", ErrCorrupt, id, len(wrote))
		}
		if t := time.Unix(0, int64(binary.BigEndian.Uint64(wrote))); open[string(id)] == nil && !t.After(limit) {
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

// shielded is what sessions need. Any doubt is an error.
func (d *disk) shielded(ctx context.Context, expired map[string]bool) (*marked, error) {
	// While it is our turn no shields are on their way from a session to the index.
	if err := d.settling.take(ctx); err != nil {
		return nil, err
	}
	defer d.settling.give()
	needed := newMarked()
	d.sessionsMu.Lock()
	for _, sess := range d.sessions {
		sess.state.Lock()
		err := needed.addAll(sess.shields)
		sess.state.Unlock()
		if err != nil {
			d.sessionsMu.Unlock()
			return nil, err
		}
	}
	d.sessionsMu.Unlock()
	err := scan(d.db, []byte{kindShield}, func(rest, hashes []byte) error {
		session, _, ok := cutSized(rest)
		if !ok {
			return fmt.Errorf("%w: the index has a shield under %x", ErrCorrupt, rest)
		}
		if expired[session] {
			return nil
		}
		return errors.Join(ctx.Err(), needed.addAll(hashes))
	})
	return needed, err
}

// addAll adds a list of shields.
func (m *marked) addAll(hashes []byte) error {
	for len(hashes) > 0 {
		h, rest, ok := cutSized(hashes)
		if !ok {
			return fmt.Errorf("%w: a list of shields is malformed", ErrCorrupt)
		}
		m.add(h)
		hashes = rest
	}
	return nil
}

// inUse is what a sweep found somebody to need.
type inUse struct {
	bytes map[uint32]int64 // of each segment
	files map[uint32]bool  // that blocks were left in
}

// sweepAll deletes from the index what nobody needs, and says what somebody does.
func (d *disk) sweepAll(ctx context.Context, shielded *marked, opts CollectOptions) (freed Collected, live inUse, err error) {
	live = inUse{map[uint32]int64{}, map[uint32]bool{}}
	var last string
	for looked := int64(0); ; {
		if opts.Progress != nil {
			opts.Progress(looked)
		}
		if ctx.Err() != nil {
			return freed, live, ctx.Err()
		}
		entries, err := d.enumeratePage(ctx, last)
		if err != nil || len(entries) == 0 {
			return freed, live, err
		}
		last = hashString(entries[len(entries)-1].CID)
		looked += int64(len(entries))
		c, err := d.sweepPage(ctx, entries, shielded, live, opts.DryRun)
		if err != nil {
			return freed, live, err
		}
		freed.Blocks += c.Blocks
		freed.Bytes += c.Bytes
	}
}

// sweepPage deletes what is not needed among the entries, and adds what stays
// to what is in use.
func (d *disk) sweepPage(ctx context.Context, entries []placed, shielded *marked, live inUse, dryRun bool) (c Collected, err error) {
	d.sweep.Lock()
	defer d.sweep.Unlock()
	counts, err := newClimber(d.db, kindCount)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, counts.close()) }()
	var dead []string
	var key []byte
	for _, e := range entries {
		h := hashString(e.CID)
		key = append(append(key[:0], kindCount), h...)
		kept := counts.to(key) && bytes.HasPrefix(counts.it.Key(), key)
		if err := counts.it.Error(); err != nil {
			return c, indexError(err)
		}
		if kept || shielded.has(h) || d.fresh.has(h) {
			if e.place.segment == 0 {
				live.files[e.place.file] = true
			} else {
				live.bytes[e.place.segment] += sectionSize(e)
			}
			continue
		}
		dead = append(dead, h)
		c.Blocks++
		c.Bytes += e.Size
	}
	if dryRun || len(dead) == 0 {
		return c, nil
	}
	err = d.commit(ctx, func(b *pebble.Batch) error {
		for _, h := range dead {
			key = blockKey(key, h)
			if err := b.Delete(key, nil); err != nil {
				return err
			}
			if _, damaged := d.damage(h); !damaged {
				continue
			}
			if err := b.Delete(damageKey(h), nil); err != nil {
				return err
			}
			d.damaged.Delete(h)
		}
		return nil
	})
	if err != nil {
		return Collected{}, err
	}
	return c, nil
}

// sectionSize is about what an entry takes in its segment.
func sectionSize(e placed) int64 { return e.Size + int64(e.CID.ByteLen()) + 3 }

// compact makes the engine drop what was deleted, durably. Where the time doesn't
// suffice, it goes on with that by itself.
func (d *disk) compact(ctx context.Context) error {
	if err := d.indexBarrier(ctx); err != nil {
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
	err := d.db.Compact(short, []byte{'a'}, []byte{'z'}, false)
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
