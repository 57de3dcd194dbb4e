package blockstore

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2"
)

// recover brings index and segments together when the store is opened. What a
// crash has left behind the end that the index knows of is looked through: good
// blocks are taken into the index (nobody was told that they are stored, but a build
// that was killed then has less to do), and the segment ends after the last of
// them. Where the index is made anew, nothing is known of the segments, and damage
// in the middle is passed over instead of cut off.
func (d *disk) recover(ctx context.Context) error {
	err := scan(d.db, []byte{kindSegment}, func(rest, v []byte) error {
		var length uint64
		if len(rest) != 4 || cutNumbers(v, &length) != nil {
			return fmt.Errorf("%w: the index has a segment under %x", ErrCorrupt, rest)
		}
		d.durable[segmentID(rest)] = int64(length)
		return nil
	})
	if err != nil {
		return err
	}
	for id, length := range d.durable {
		if size, ok := d.segments.size(id); !ok || size < length {
			d.log.Error("blockstore: a part of a segment is gone", "segment", segmentName(id), "bytes", size, "expected", length)
		}
		d.segments.nextID = max(d.segments.nextID, id+1)
	}
	if d.readOnly {
		return nil
	}
	for _, id := range d.segments.ids() {
		if size, _ := d.segments.size(id); size <= d.durable[id] {
			continue
		}
		if err := d.salvage(ctx, id); err != nil {
			return err
		}
	}
	return d.resume()
}

// resume goes on with the last segment, if all of it is known and it has room.
func (d *disk) resume() error {
	ids := d.segments.ids()
	if len(ids) == 0 {
		return nil
	}
	last := ids[len(ids)-1]
	if size, _ := d.segments.size(last); size != d.durable[last] || size >= d.segments.limit {
		return nil
	}
	return d.segments.resume(last)
}

// salvage takes what is good behind the known end of a segment.
func (d *disk) salvage(ctx context.Context, id uint32) error {
	size, _ := d.segments.size(id)
	from := max(d.durable[id], int64(len(segmentHeader)))
	f, err := d.segments.open(id)
	if err != nil {
		return err
	}
	end, found, err := d.salvageSections(ctx, f, id, from, size, d.rebuilding)
	// Not every system replaces or deletes files that are open.
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	switch {
	case end <= int64(len(segmentHeader)):
		return d.segments.remove(id) // begun, and nothing in it
	case end < size:
		d.log.Info("blockstore: the end of a segment was cut off", "segment", segmentName(id), "bytes", size-end)
		err = d.segments.cut(id, end)
	default:
		err = d.segments.secure(id)
	}
	if err != nil {
		return err
	}
	d.durable[id] = end
	return d.commit(ctx, func(b *pebble.Batch) error {
		for h, p := range found {
			if err := b.Set(blockKey(nil, h), p.encode(nil), nil); err != nil {
				return err
			}
		}
		return b.Set(segmentKey(id), appendNumbers(nil, uint64(end)), nil)
	})
}

// salvageSections is the good blocks that the index does not have, and where the last section ends.
func (d *disk) salvageSections(ctx context.Context, f io.ReaderAt, id uint32, from, size int64, all bool) (end int64, found map[string]place, err error) {
	found = map[string]place{}
	end = from
	r := readSections(f, id, from, size)
	for {
		if ctx.Err() != nil {
			return 0, nil, ctx.Err()
		}
		s, err := r.next()
		switch {
		case err == io.EOF:
			return end, found, nil
		case err == nil && s.err == nil:
			end = s.next
			h := hashString(s.cid)
			if _, err := d.place(h); errors.Is(err, errAbsent) {
				found[h] = s.place
			} else if err != nil {
				return 0, nil, err
			}
		case err == nil && all:
			d.log.Warn("blockstore: damaged block", "cid", s.cid.String(), "segment", segmentName(id), "offset", s.place.offset)
			end = s.next
		case !all && (err == nil || errors.Is(err, errFraming)):
			return end, found, nil
		case errors.Is(err, errFraming):
			d.log.Warn("blockstore: damaged segment", "segment", segmentName(id), "error", err.Error())
			at, err := resync(f, id, r.at+1, size)
			if err != nil {
				return 0, nil, err
			}
			if at >= size {
				return size, found, nil
			}
			r = readSections(f, id, at, size)
		default:
			return 0, nil, err
		}
	}
}
