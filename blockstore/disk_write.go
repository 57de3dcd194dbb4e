package blockstore

import (
	"context"

	"github.com/cockroachdb/pebble/v2"
)

// add appends the blocks that are not there yet, for a session, which shields all
// of them. The caller has told of the hashes, which are the blocks', by shielding.
func (d *disk) add(ctx context.Context, s *diskSession, hashes []string, blks []Block) (added Added, err error) {
	if err := d.writing.take(ctx); err != nil {
		return Added{}, err
	}
	defer d.writing.give()
	if _, err := d.health.now(); err != nil {
		return Added{}, err
	}
	absent, err := d.absent(blks, hashes, true)
	if err != nil {
		return Added{}, err
	}
	if len(absent) > 0 {
		missing, bytes := make([]string, len(absent)), make([]Block, len(absent))
		for i, n := range absent {
			missing[i], bytes[i] = hashes[n], blks[n]
			added.Blocks++
			added.Bytes += int64(blks[n].Size())
		}
		places, err := d.segments.append(bytes)
		if err != nil {
			return Added{}, err
		}
		d.await(missing, places)
		d.heal(missing)
	}
	s.shield(hashes, func(i int) int64 { return int64(blks[i].Size()) })
	return added, nil
}

// absent is which of the blocks are not there, each once. One that was left in
// somebody's file is not there for who wants a copy. The caller has the writing turn.
func (d *disk) absent(blks []Block, hashes []string, copies bool) (absent []int, err error) {
	l, err := d.newLooker()
	if err != nil {
		return nil, err
	}
	defer l.close()
	here := make(map[string]struct{}, len(blks))
	for i, b := range blks {
		if _, twice := here[hashes[i]]; twice {
			continue
		}
		here[hashes[i]] = struct{}{}
		p, present, err := l.look(hashes[i])
		if err != nil {
			return nil, readError(b.cid, err)
		}
		if !present || copies && p.segment == 0 {
			absent = append(absent, i)
		}
	}
	return absent, nil
}

// heal notes that there is a good copy of blocks that may have been found
// damaged. The caller has the writing turn.
func (d *disk) heal(hashes []string) {
	for _, h := range hashes {
		if bad, damaged := d.damaged.LoadAndDelete(h); damaged {
			d.healed = append(d.healed, bad.(Damage))
		}
	}
}

// commit applies what fill puts into a batch. fill runs while nobody else can
// commit, and may look at the index.
func (d *disk) commit(ctx context.Context, fill func(*pebble.Batch) error) error {
	if err := d.writing.take(ctx); err != nil {
		return err
	}
	defer d.writing.give()
	if err := d.makeRoom(ctx); err != nil {
		return err
	}
	b := d.db.NewBatch()
	defer b.Close()
	if err := fill(b); err != nil {
		return err
	}
	if b.Empty() {
		return nil
	}
	size := int64(b.Len())
	if err := d.db.Apply(b, pebble.NoSync); err != nil {
		return err
	}
	// Where pebble's logger can't end the process, Apply hides its failure.
	if _, err := d.health.now(); err != nil && d.health.isFatal() {
		return err
	}
	d.dirty = true
	if d.gathered += size; d.gathered >= memTableSize*7/8 {
		return d.rotate()
	}
	return nil
}

// makeRoom waits until few enough tables wait to be written.
func (d *disk) makeRoom(ctx context.Context) error {
	for {
		trouble, err := d.health.now()
		if err != nil {
			return err
		}
		d.forgetFlushed()
		if len(d.flushing) < maxFlushing {
			return nil
		}
		select {
		case <-d.flushing[0]:
		case <-trouble:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (d *disk) forgetFlushed() {
	for len(d.flushing) > 0 {
		select {
		case <-d.flushing[0]:
			d.flushing = d.flushing[1:]
		default:
			return
		}
	}
}

// rotate begins to write out everything that was applied so far.
func (d *disk) rotate() error {
	flushed, err := d.db.AsyncFlush()
	if err != nil {
		return err
	}
	d.flushing = append(d.flushing, flushed)
	d.dirty, d.gathered = false, 0
	return nil
}

// barrier returns when everything that was put or committed before is on
// stable storage: the blocks, the index, its directory and the manifest that names
// its files. Barriers that come together share their work.
func (d *disk) barrier(ctx context.Context) error {
	if err := d.settle(ctx); err != nil {
		return err
	}
	return d.indexBarrier(ctx)
}

func (d *disk) indexBarrier(ctx context.Context) error {
	last, err := d.rotated(ctx)
	if err != nil || last == nil {
		return err
	}
	trouble, err := d.health.now()
	if err != nil {
		return err
	}
	select {
	case <-last:
		if d.health.isFatal() {
			_, err = d.health.now()
		}
		return err
	case <-trouble:
		_, err = d.health.now()
		if err == nil { // it is over already
			return d.indexBarrier(ctx)
		}
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// rotated makes sure that all is on its way; last is closed when it has
// arrived, nil when it already had.
func (d *disk) rotated(ctx context.Context) (last <-chan struct{}, err error) {
	if err := d.writing.take(ctx); err != nil {
		return nil, err
	}
	defer d.writing.give()
	if d.dirty {
		if err := d.rotate(); err != nil {
			return nil, err
		}
	}
	d.forgetFlushed()
	if len(d.flushing) == 0 {
		_, err := d.health.now()
		return nil, err
	}
	return d.flushing[len(d.flushing)-1], nil
}
