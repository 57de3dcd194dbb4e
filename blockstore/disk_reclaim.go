package blockstore

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// Space comes back a segment at a time: one that nobody needs anything of is
// deleted, and what is left in one that is mostly garbage moves to the active segment
// first. Whatever deletes has the index on stable storage before, so that no crash
// brings back an entry for bytes that are gone.

// mostGarbage is the part of a segment above which it is rewritten.
const mostGarbage = 0.25

// quiet is the segments all of which the index has been told of, with their
// sizes. Only those that are the same after a sweep are known by it.
func (d *disk) quiet() map[uint32]int64 {
	d.waitingMu.RLock()
	defer d.waitingMu.RUnlock()
	quiet := map[uint32]int64{}
	for id, length := range d.durable {
		if size, ok := d.segments.size(id); ok && size == length {
			quiet[id] = size
		}
	}
	return quiet
}

// reclaim gives back what is worth it, given the segments that were quiet before
// the sweep, and the bytes in use in each that it found.
func (d *disk) reclaim(ctx context.Context, quiet, live map[uint32]int64) (any bool, err error) {
	ids := d.segments.ids()
	// Those that need no room first: the disk may be full.
	slices.SortStableFunc(ids, func(a, b uint32) int { return cmp.Compare(live[a], live[b]) })
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return any, err
		}
		if quiet[id] == 0 {
			continue
		}
		size, worth, err := d.worthIt(ctx, id, quiet[id], live[id])
		if err != nil {
			return any, err
		}
		if !worth {
			continue
		}
		any = true
		losses := d.losses.Load()
		if live[id] > 0 {
			whole, err := d.moveOut(ctx, id, size)
			if err != nil {
				return any, err
			}
			if !whole {
				continue
			}
		}
		if err := d.dropSegment(ctx, id, losses); err != nil {
			return any, err
		}
	}
	return any, nil
}

// worthIt tells whether enough of a segment is garbage, and sees to it that it
// is appended to no more.
func (d *disk) worthIt(ctx context.Context, id uint32, size, live int64) (int64, bool, error) {
	garbage := size - int64(len(segmentHeader)) - live
	if garbage <= 0 || float64(garbage) < float64(size)*mostGarbage {
		return size, false, nil
	}
	if err := d.writing.take(ctx); err != nil {
		return 0, false, err
	}
	defer d.writing.give()
	if now, _ := d.segments.size(id); now != size {
		return size, false, nil // written to meanwhile
	}
	if d.segments.active != nil && d.segments.active.id == id {
		d.segments.retire()
	}
	return size, true, nil
}

// moveOut appends what the index has in a segment once more. Damaged blocks
// stay where they are, and with them the segment: whole is false then.
func (d *disk) moveOut(ctx context.Context, id uint32, size int64) (whole bool, err error) {
	f, err := d.segments.use(id)
	if err != nil {
		return false, err
	}
	defer d.segments.done(f)
	r := readSections(f, id, int64(len(segmentHeader)), size)
	var batch []Block
	var from []place
	bytes := 0
	whole = true
	flush := func() error {
		err := d.move(ctx, batch, from)
		batch, from, bytes = batch[:0], from[:0], 0
		return err
	}
	for {
		s, err := r.next()
		if err == io.EOF {
			return whole, flush()
		}
		if errors.Is(err, errFraming) {
			d.log.Warn("blockstore: a damaged segment stays where it is", "segment", segmentName(id), "error", err.Error())
			return false, flush()
		}
		if err != nil {
			return false, err
		}
		if s.err != nil {
			whole = false // it may be another block that the index has there
		}
		if now, err := d.place(hashString(s.cid)); errors.Is(err, errAbsent) || err == nil && now != s.place {
			continue
		} else if err != nil {
			return false, err
		}
		if s.err != nil {
			d.quarantine(ctx, s.cid, s.place, s.err)
			continue
		}
		batch = append(batch, Block{cid: s.cid, data: append([]byte(nil), s.data...)})
		from = append(from, s.place)
		if bytes += len(s.data); bytes >= batchBytes || len(batch) >= page {
			if err := flush(); err != nil {
				return false, err
			}
		}
	}
}

// move appends blocks whose place is still where they were read.
func (d *disk) move(ctx context.Context, blks []Block, from []place) error {
	if err := d.relieve(ctx); err != nil {
		return err
	}
	if err := d.writing.take(ctx); err != nil {
		return err
	}
	defer d.writing.give()
	var still []Block
	var hashes []string
	for i, b := range blks {
		if now, err := d.place(hashString(b.cid)); err == nil && now == from[i] {
			still, hashes = append(still, b), append(hashes, hashString(b.cid))
		}
	}
	if len(still) == 0 {
		return nil
	}
	places, err := d.segments.append(still)
	if err != nil {
		return err
	}
	d.await(hashes, places)
	return nil
}

// dropSegment deletes a segment that the index names no more, unless blocks were lost
// since there were so many losses: among them may be what was moved out of it.
func (d *disk) dropSegment(ctx context.Context, id uint32, losses uint64) error {
	if err := d.barrier(ctx); err != nil {
		return err
	}
	if d.losses.Load() != losses {
		d.log.Warn("blockstore: a segment stays because blocks could not be written", "segment", segmentName(id))
		return nil
	}
	if err := d.segments.remove(id); err != nil {
		return err
	}
	d.waitingMu.Lock()
	delete(d.durable, id)
	d.waitingMu.Unlock()
	return d.commit(ctx, func(b *pebble.Batch) error { return b.Delete(segmentKey(id), nil) })
}
