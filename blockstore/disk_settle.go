package blockstore

import (
	"context"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// What was appended to segments is told to the index only when it is on stable
// storage. So the index never names bytes that a power cut can take, and a
// block that the index has may be taken for stored by whoever puts it again.
// Until then it waits here.
//
// settle is the step from there to the index; barrier is settle and the index on
// stable storage too.

const (
	// So many bytes appended are settled in the background, so that there is
	// not all to do at the barrier.
	settleAt = 32 << 20
	// Put waits while more than this is unsettled. It bounds the entries that wait,
	// each of which counts entryCost bytes beside its block.
	settleMax = 4 * settleAt
	entryCost = 128
)

// waiting is the blocks that the index does not have yet. The maps are changed by
// whoever has the writing turn, and read under mu.
type waiting struct {
	next map[string]place // put since the last settling began
	now  map[string]place // being settled
	cost int64            // of next
}

// waitingPlace is where a block waits; false where it does not.
func (d *disk) waitingPlace(h string) (place, bool) {
	d.waitingMu.RLock()
	defer d.waitingMu.RUnlock()
	if p, ok := d.waiting.next[h]; ok {
		return p, true
	}
	p, ok := d.waiting.now[h]
	return p, ok
}

// await adds blocks to those that wait. The caller has the writing turn.
func (d *disk) await(hashes []string, places []place) {
	d.waitingMu.Lock()
	defer d.waitingMu.Unlock()
	for i, h := range hashes {
		d.waiting.next[h] = places[i]
		d.waiting.cost += places[i].size + entryCost
	}
}

// relieve keeps what is unsettled in bounds. It is called without the writing
// turn. A background settling that fails leaves the reason to the next call that waits.
func (d *disk) relieve(ctx context.Context) error {
	d.waitingMu.RLock()
	cost := d.waiting.cost
	d.waitingMu.RUnlock()
	if cost >= settleMax {
		return d.settle(ctx)
	}
	if cost >= settleAt && d.background.TryLock() {
		if d.running.enter() != nil {
			d.background.Unlock()
			return nil
		}
		go func() {
			defer d.running.leave()
			defer d.background.Unlock()
			if err := d.settle(context.Background()); err != nil {
				d.log.Warn("blockstore: can't write blocks out", "error", err.Error())
			}
		}()
	}
	return nil
}

// settlement is one settling: what was taken from those that wait, and has to be
// given back to them or is lost, if it fails.
type settlement struct {
	unsynced unsynced
	lengths  map[uint32]int64 // of segments, to be told to the index
	sessions []*diskSession   // that count on it
	shields  map[*diskSession][]byte
	files    map[uint32]Origin // that the index does not have
	healed   []Damage          // damaged blocks that have a good copy among those that wait
}

// settle brings everything that was put until now into the index, synced. It
// can't be given up once the disk is at work.
func (d *disk) settle(ctx context.Context) error {
	if err := d.settling.take(ctx); err != nil {
		return err
	}
	defer d.settling.give()
	if err := d.writing.take(ctx); err != nil {
		return err
	}
	s := d.takeWaiting()
	d.writing.give()

	ctx = context.WithoutCancel(ctx)
	if err := d.segments.sync(s.unsynced); err != nil {
		d.lose(ctx, s, err)
		return err
	}
	if len(s.lengths)+len(s.shields)+len(d.waiting.now) == 0 {
		return nil
	}
	if err := d.commit(ctx, func(b *pebble.Batch) error { return d.tellIndex(b, s) }); err != nil {
		d.giveBack(ctx, s)
		return err
	}
	d.told.Add(1)
	d.originsMu.Lock()
	for number := range s.files {
		delete(d.origins.untold, number)
	}
	d.originsMu.Unlock()
	d.waitingMu.Lock()
	clear(d.waiting.now)
	maps.Copy(d.durable, s.lengths)
	d.waitingMu.Unlock()
	return nil
}

// settleAny settles where any of the blocks waits.
func (d *disk) settleAny(ctx context.Context, hashes []string) error {
	for _, h := range hashes {
		if _, waits := d.waitingPlace(h); waits {
			return d.settle(ctx)
		}
	}
	return nil
}

// takeWaiting begins a settling. The caller has both turns.
func (d *disk) takeWaiting() *settlement {
	s := &settlement{unsynced: d.segments.takeUnsynced(), lengths: d.untold, shields: map[*diskSession][]byte{}, healed: d.healed}
	maps.Copy(s.lengths, s.unsynced.lengths)
	d.untold, d.healed = map[uint32]int64{}, nil
	d.originsMu.RLock()
	s.files = maps.Clone(d.origins.untold)
	d.originsMu.RUnlock()
	d.waitingMu.Lock()
	d.waiting.now, d.waiting.next = d.waiting.next, d.waiting.now
	d.waiting.cost = 0
	d.waitingMu.Unlock()
	d.sessionsMu.Lock()
	defer d.sessionsMu.Unlock()
	for _, sess := range d.sessions {
		shields, unsettled := sess.take()
		if unsettled {
			s.sessions = append(s.sessions, sess)
		}
		if len(shields) > 0 {
			s.shields[sess] = shields
		}
	}
	return s
}

// tellIndex fills the batch: it holds all of a settling or nothing.
func (d *disk) tellIndex(b *pebble.Batch, s *settlement) error {
	var k, v []byte
	for h, p := range d.waiting.now {
		k, v = blockKey(k, h), p.encode(v)
		if err := b.Set(k, v, nil); err != nil {
			return err
		}
	}
	for _, h := range s.healed {
		if err := b.Delete(damageKey(hashString(h.CID)), nil); err != nil {
			return err
		}
	}
	for number, o := range s.files {
		if err := b.Set(originKey(number), o.encode(), nil); err != nil {
			return err
		}
	}
	for id, length := range s.lengths {
		if err := b.Set(segmentKey(id), appendNumbers(nil, uint64(length)), nil); err != nil {
			return err
		}
	}
	for sess, shields := range s.shields {
		if err := b.Set(sess.nextShieldKey(), shields, nil); err != nil {
			return err
		}
		if err := b.Set(timeKey(sess.id), timeValue(), nil); err != nil {
			return err
		}
	}
	return nil
}

// giveBack undoes takeWaiting where the index could not be told: the blocks
// are on disk, and the next settling tells it of them.
func (d *disk) giveBack(ctx context.Context, s *settlement) {
	if d.writing.take(ctx) != nil {
		return // never: ctx does not end
	}
	defer d.writing.give()
	d.waitAgain()
	for h, length := range s.lengths {
		d.untold[h] = max(d.untold[h], length)
	}
	d.healed = append(d.healed, s.healed...)
	for _, sess := range s.sessions {
		sess.giveBack(s.shields[sess])
	}
}

// waitAgain moves what was being settled back to what waits.
func (d *disk) waitAgain() {
	d.waitingMu.Lock()
	defer d.waitingMu.Unlock()
	d.waiting.cost += int64(len(d.waiting.now)) * entryCost
	maps.Copy(d.waiting.now, d.waiting.next) // where a block has two places, the newer one is good
	d.waiting.now, d.waiting.next = d.waiting.next, d.waiting.now
	clear(d.waiting.now)
}

// lose forgets the blocks that may not have reached the disk, and makes the
// sessions fail that count on them. Their segments are appended to no more.
func (d *disk) lose(ctx context.Context, s *settlement, reason error) {
	if d.writing.take(ctx) != nil {
		return // never: ctx does not end
	}
	defer d.writing.give()
	d.losses.Add(1)
	d.waitAgain()
	d.waitingMu.Lock()
	maps.DeleteFunc(d.waiting.next, func(_ string, p place) bool {
		_, lost := s.unsynced.lengths[p.segment]
		return lost
	})
	d.waitingMu.Unlock()
	d.segments.abandon(s.unsynced)
	for id, length := range s.lengths {
		if _, lost := s.unsynced.lengths[id]; !lost {
			d.untold[id] = length
		}
	}
	d.healed = slices.DeleteFunc(append(s.healed, d.healed...), func(bad Damage) bool {
		_, waits := d.waiting.next[hashString(bad.CID)]
		if !waits {
			d.damaged.Store(hashString(bad.CID), bad)
		}
		return !waits
	})
	for _, sess := range s.sessions {
		sess.giveBack(s.shields[sess])
	}
	d.sessionsMu.Lock()
	defer d.sessionsMu.Unlock()
	for _, sess := range d.sessions {
		sess.failUnsettled(reason)
	}
}
