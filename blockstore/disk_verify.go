package blockstore

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
)

// VerifyOptions steers a verification. The zero value reads as fast as the disk.
type VerifyOptions struct {
	// BytesPerSecond bounds the reading. Zero means no bound.
	BytesPerSecond int64
	// Restart begins at the beginning, where else one that was interrupted is gone on with.
	Restart bool
	// Progress is called now and then. It may be nil.
	Progress func(Verified)
}

// Verified is what a verification has looked at.
type Verified struct {
	Blocks  int64 // read and hashed, in this run
	Bytes   int64 // of segments, in this run and the ones that it goes on with
	Total   int64 // bytes of all segments
	Garbage int64 // bytes of blocks that the index does not name: they wait for a collection
	Entries int64 // of the index, compared with the segments; 0 until all segments are read
	// Damaged is the blocks in quarantine, whenever they were found.
	Damaged []Damage
	// Missing is what kept roots need and the index does not have, with the root.
	Missing []MissingBlock
	// Unlisted is what was kept before the index was made anew (see
	// [RebuildIndex]) and has to be kept again.
	Unlisted []KeptRoot
}

// KeptRoot is an owner's interest in a root.
type KeptRoot struct {
	Owner string
	Root  cid.Cid
}

// MissingBlock is a block that a kept root needs.
type MissingBlock struct {
	CID, Root cid.Cid
}

// maxMissing bounds what a verification tells one by one.
const maxMissing = 1000

// Verifier is what a store can do that is able to look after itself.
type Verifier interface {
	// Verify reads and hashes all blocks, compares index and data both ways, and
	// looks whether everything that is kept is there. Blocks found bad
	// go to quarantine (see [Damage]). It runs beside reads and writes. Where its
	// context ends, the next one goes on from there.
	Verify(ctx context.Context, opts VerifyOptions) (Verified, error)

	// Damaged lists the blocks in quarantine.
	Damaged(ctx context.Context) ([]Damage, error)
}

var _ Verifier = (*disk)(nil)

// verification is one run.
type verification struct {
	d     *disk
	opts  VerifyOptions
	out   Verified
	began time.Time
	older int64            // bytes that an earlier run read
	named map[uint32]int64 // sections in each segment that the index names
}

// Verify implements [Verifier].
func (d *disk) Verify(ctx context.Context, opts VerifyOptions) (Verified, error) {
	if err := d.enter(ctx); err != nil {
		return Verified{}, err
	}
	defer d.running.leave()
	if err := d.collecting.take(ctx); err != nil { // which moves blocks
		return Verified{}, err
	}
	defer d.collecting.give()
	if !d.readOnly {
		if err := d.settle(ctx); err != nil {
			return Verified{}, err
		}
	}
	v := &verification{d: d, opts: opts, began: time.Now(), named: map[uint32]int64{}}
	v.out.Total = d.segments.total()
	err := v.allSegments(ctx)
	if err == nil {
		err = v.index(ctx)
	}
	if err == nil {
		err = v.kept(ctx)
	}
	if err == nil {
		err = v.remember(ctx, 0)
	}
	damaged, derr := d.Damaged(context.WithoutCancel(ctx))
	v.out.Damaged = damaged
	v.report()
	return v.out, errors.Join(err, derr)
}

// allSegments reads the segments, from the one at which the last run was interrupted.
func (v *verification) allSegments(ctx context.Context) error {
	from, err := v.recall()
	if err != nil {
		return err
	}
	for _, id := range v.d.segments.ids() {
		size, _ := v.d.segments.size(id)
		if uint64(id) < from {
			v.out.Bytes += size
			v.older += size
			continue
		}
		if err := v.segment(ctx, id); err != nil {
			return errors.Join(err, v.remember(context.WithoutCancel(ctx), id))
		}
	}
	return nil
}

// remember writes down where the next run goes on, and what was found until
// there; 0 when there is nothing to go on with.
func (v *verification) remember(ctx context.Context, id uint32) error {
	if v.d.readOnly {
		return nil
	}
	return v.d.commit(ctx, func(b *pebble.Batch) error {
		if id == 0 {
			return b.Delete(keyVerify, nil)
		}
		value := appendNumbers(nil, uint64(id))
		for id, n := range v.named {
			value = appendNumbers(value, uint64(id), uint64(n))
		}
		return b.Set(keyVerify, value, nil)
	})
}

// recall is the segment to go on with.
func (v *verification) recall() (from uint64, err error) {
	value, closer, err := v.d.db.Get(keyVerify)
	if errors.Is(err, pebble.ErrNotFound) || v.opts.Restart {
		return 0, nil
	}
	if err != nil {
		return 0, indexError(err)
	}
	defer closer.Close()
	from, w := binary.Uvarint(value)
	if w <= 0 {
		return 0, nil
	}
	for value = value[w:]; len(value) > 0; value = value[w:] {
		id, w1 := binary.Uvarint(value)
		n, w2 := binary.Uvarint(value[max(0, w1):])
		if w = w1 + w2; w1 <= 0 || w2 <= 0 {
			return 0, nil
		}
		if id < from {
			v.named[uint32(id)] = int64(n)
		}
	}
	return from, nil
}

func (v *verification) report() {
	if v.opts.Progress != nil {
		v.opts.Progress(v.out)
	}
}

// pace waits until what was read may have been read.
func (v *verification) pace(ctx context.Context) error {
	if v.opts.BytesPerSecond <= 0 {
		return ctx.Err()
	}
	read := v.out.Bytes - v.older
	due := time.Duration(float64(read) / float64(v.opts.BytesPerSecond) * float64(time.Second))
	wait := due - time.Since(v.began)
	if wait <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// segment reads one segment and asks the index about each section.
func (v *verification) segment(ctx context.Context, id uint32) error {
	f, err := v.d.segments.use(id)
	if err != nil {
		return err
	}
	defer v.d.segments.done(f)
	v.d.waitingMu.RLock()
	end := v.d.durable[id]
	v.d.waitingMu.RUnlock()
	size, _ := v.d.segments.size(id)
	end = min(end, size)
	head := int64(len(segmentHeader))
	r := readSections(f, id, head, end)
	last := head
	for {
		s, err := r.next()
		if err == nil {
			v.out.Blocks++
			err = v.section(ctx, s)
			v.out.Bytes += s.next - last
			last = s.next
		} else if errors.Is(err, errFraming) {
			v.d.log.Error("blockstore: damaged segment", "segment", segmentName(id), "error", err.Error())
			var at int64
			if at, err = resync(f, id, r.at+1, end); err == nil {
				r = readSections(f, id, at, end)
			}
		}
		if err == io.EOF {
			v.report()
			return nil
		}
		if err == nil && v.out.Blocks%64 == 0 {
			err = v.pace(ctx)
			v.report()
		}
		if err != nil {
			return err
		}
	}
}

func (v *verification) section(ctx context.Context, s section) error {
	now, err := v.d.place(hashString(s.cid))
	if err != nil && !errors.Is(err, errAbsent) {
		return err
	}
	if now != s.place {
		v.out.Garbage += s.place.size
		return nil
	}
	v.named[s.place.segment]++
	if s.err != nil {
		v.d.quarantine(ctx, s.cid, s.place, s.err)
	}
	return nil
}

// index compares the other way: each entry of the index must be a section. Where
// the numbers agree there is nothing to look for; where they don't, the
// entries of that segment are read one by one.
func (v *verification) index(ctx context.Context) error {
	entries := map[uint32]int64{}
	err := v.d.eachEntry(ctx, func(e placed) error {
		entries[e.place.segment]++
		v.out.Entries++
		return nil
	})
	if err != nil {
		return err
	}
	var doubtful []uint32
	for id, n := range entries {
		if n != v.named[id] {
			doubtful = append(doubtful, id)
		}
	}
	if len(doubtful) == 0 {
		return nil
	}
	return v.d.eachEntry(ctx, func(e placed) error {
		if !slices.Contains(doubtful, e.place.segment) {
			return nil
		}
		if _, err := v.d.Get(ctx, e.CID); err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNotFound) {
			return err
		}
		return v.pace(ctx)
	})
}

// eachEntry calls f with everything in the index.
func (d *disk) eachEntry(ctx context.Context, f func(placed) error) error {
	for last := ""; ; {
		entries, err := d.enumeratePage(ctx, last)
		if err != nil || len(entries) == 0 {
			return err
		}
		last = hashString(entries[len(entries)-1].CID)
		for _, e := range entries {
			if err := f(e); err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// kept looks whether what is kept is there, and whether the counts are whole.
func (v *verification) kept(ctx context.Context) error {
	view := v.d.db.NewSnapshot() // owners come and go
	defer view.Close()
	roots, err := keptBy(view, "")
	if err != nil {
		return err
	}
	for _, root := range roots {
		owners, lists, err := holders(view, root)
		if err != nil {
			return err
		}
		for _, owner := range owners {
			if told, _, err := listsOf(view, owner, root); err != nil {
				return err
			} else if len(told) == 0 {
				v.out.Unlisted = append(v.out.Unlisted, KeptRoot{owner, root})
			}
		}
		if len(lists) == 0 {
			continue
		}
		if err := v.present(ctx, view, root); err != nil {
			return err
		}
	}
	return checkCounts(ctx, view)
}

// present looks for everything under a root.
func (v *verification) present(ctx context.Context, view pebble.Reader, root cid.Cid) error {
	l, err := v.d.newLooker()
	if err != nil {
		return err
	}
	defer l.close()
	for k, err := range readManifests(view, root) {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		if hashString(k.cid)[0] == mh.IDENTITY {
			continue
		}
		_, present, err := l.look(hashString(k.cid))
		if err != nil {
			return indexError(err)
		}
		if !present && len(v.out.Missing) < maxMissing {
			v.out.Missing = append(v.out.Missing, MissingBlock{CID: k.cid, Root: root})
		}
	}
	return nil
}
