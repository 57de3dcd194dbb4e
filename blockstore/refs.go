package blockstore

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	mh "github.com/multiformats/go-multihash"
)

// Counts say, for each block and owner, in how many of the owner's lists the
// block is: one entry under c for each pair, in the order of the multihashes. They are changed
// together with the lists, so that
//
//   - a block is needed by somebody if there is a count for it: a collection compares
//     two sorted sequences, in memory that does not grow with the store;
//   - what an owner keeps, and how much of it nobody else keeps, is known without
//     reading any list.
//
// The sum of all counts stands in the ledger. A collection adds them up before it
// frees anything, and frees nothing where the sum is another.

// ledger is the numbers under g.
type ledger struct {
	changes uint64 // to what is kept; the journal has them too
	counts  uint64 // sum of everything under c
	owners  uint64 // numbered so far
}

func readLedger(r pebble.Reader) (l ledger, err error) {
	err = readNumbers(r, keyLedger, &l.changes, &l.counts, &l.owners)
	return l, err
}

func (l ledger) write(b *pebble.Batch) error {
	return b.Set(keyLedger, appendNumbers(nil, l.changes, l.counts, l.owners), nil)
}

// readNumbers leaves the numbers as they are where there is no such key.
func readNumbers(r pebble.Reader, key []byte, ns ...*uint64) error {
	v, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		return indexError(err)
	}
	defer closer.Close()
	return cutNumbers(v, ns...)
}

// tally is the value under u.
type tally struct{ roots, blocks, bytes, uniqueBytes uint64 }

func readTally(r pebble.Reader, number uint32) (t tally, err error) {
	err = readNumbers(r, usageKey(number), &t.roots, &t.blocks, &t.bytes, &t.uniqueBytes)
	return t, err
}

// everybody is the number that stands for all owners together.
const everybody = 0

// count is how often an owner's lists have a block.
type count struct {
	owner uint32
	n     uint64
}

// recount is a change to the counts, gathered so that it can go into one batch.
type recount struct {
	d       *disk
	b       *pebble.Batch
	ledger  ledger
	tallies map[uint32]*tally
	it      *climber
	key     []byte
	found   []count
}

// newRecount reads what a change begins with. The caller has the keeping and
// the writing turn, and closes it.
func (d *disk) newRecount(b *pebble.Batch) (*recount, error) {
	l, err := readLedger(d.db)
	if err != nil {
		return nil, err
	}
	it, err := newClimber(d.db, kindCount)
	if err != nil {
		return nil, err
	}
	return &recount{d: d, b: b, ledger: l, tallies: map[uint32]*tally{}, it: it}, nil
}

func (r *recount) close() { r.it.close() }

// number is what stands for the owner.
func (r *recount) number(owner string) (uint32, error) {
	var n uint64
	if err := readNumbers(r.d.db, numberKey(owner), &n); err != nil || n > 0 {
		return uint32(n), err
	}
	r.ledger.owners++
	n = r.ledger.owners
	if n > 1<<32-1 {
		return 0, fmt.Errorf("%w: too many owners", ErrRefused)
	}
	return uint32(n), r.b.Set(numberKey(owner), appendNumbers(nil, n), nil)
}

func (r *recount) tally(number uint32) (*tally, error) {
	if t := r.tallies[number]; t != nil {
		return t, nil
	}
	t, err := readTally(r.d.db, number)
	r.tallies[number] = &t
	return &t, err
}

// counts is who has the block in their lists. It is asked in the order of the
// multihashes.
func (r *recount) counts(h string) ([]count, error) {
	var err error
	r.found, r.key, err = countsOf(r.it, h, r.found[:0], r.key)
	return r.found, err
}

func countsOf(c *climber, h string, found []count, key []byte) ([]count, []byte, error) {
	key = append(append(key[:0], kindCount), h...)
	it := c.it
	for ok := c.to(key); ok && bytes.HasPrefix(it.Key(), key); ok = it.Next() {
		rest := it.Key()[len(key):]
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, key, indexError(err)
		}
		n := count{}
		if len(rest) != 4 || cutNumbers(v, &n.n) != nil || n.n == 0 {
			return nil, key, fmt.Errorf("%w: the index has a count under %x", ErrCorrupt, it.Key())
		}
		n.owner = binary.BigEndian.Uint32(rest)
		found = append(found, n)
	}
	if err := it.Error(); err != nil {
		return nil, key, indexError(err)
	}
	return found, key, nil
}

// add counts more lists of the owner; remove fewer. A batch can have one of them, once.
func (r *recount) add(owner uint32, lists [][]kept) error { return r.change(owner, lists, true) }

func (r *recount) remove(owner uint32, lists [][]kept) error { return r.change(owner, lists, false) }

func (r *recount) change(owner uint32, lists [][]kept, more bool) error {
	var all []kept
	for _, l := range lists {
		all = append(all, distinct(l)...)
	}
	if len(lists) > 1 {
		slices.SortFunc(all, byHash)
	}
	for len(all) > 0 {
		k, n := all[0], uint64(1)
		for int(n) < len(all) && byHash(k, all[n]) == 0 {
			n++
		}
		all = all[n:]
		if err := r.changeBlock(owner, k, n, more); err != nil {
			return err
		}
	}
	return nil
}

func (r *recount) changeBlock(owner uint32, k kept, n uint64, more bool) error {
	h := hashString(k.cid)
	found, err := r.counts(h)
	if err != nil {
		return err
	}
	mine, others := split(found, owner)
	now := mine + n
	if more {
		r.ledger.counts += n
	} else {
		if mine < n || r.ledger.counts < n {
			return fmt.Errorf("%w: the counts of what is kept lack %s", ErrCorrupt, k.cid)
		}
		now = mine - n
		r.ledger.counts -= n
	}
	r.key = countKey(r.key, h, owner)
	if now == 0 {
		err = r.b.Delete(r.key, nil)
	} else {
		err = r.b.Set(r.key, appendNumbers(nil, now), nil)
	}
	if err == nil && (mine == 0 || now == 0) {
		err = r.ownership(owner, others, uint64(k.size), more)
	}
	return err
}

func split(found []count, owner uint32) (mine uint64, others []count) {
	for _, c := range found {
		if c.owner == owner {
			mine = c.n
		}
	}
	return mine, slices.DeleteFunc(found, func(c count) bool { return c.owner == owner })
}

// ownership books that the owner has a block that it did not have, or no
// longer. Who else has it decides for whom it is unique.
func (r *recount) ownership(owner uint32, others []count, size uint64, more bool) error {
	book := func(number uint32, has, unique bool, more bool) error {
		t, err := r.tally(number)
		if err != nil {
			return err
		}
		sign := uint64(1)
		if !more {
			sign = ^uint64(0)
		}
		if has {
			t.blocks += sign
			t.bytes += sign * size
		}
		if unique {
			t.uniqueBytes += sign * size
		}
		return nil
	}
	err := book(owner, true, len(others) == 0, more)
	if err == nil && len(others) == 0 {
		err = book(everybody, true, true, more)
	}
	if err == nil && len(others) == 1 {
		err = book(others[0].owner, false, true, !more)
	}
	return err
}

// roots books that the owner keeps a root more, or less.
func (r *recount) roots(owner uint32, more bool) error {
	t, err := r.tally(owner)
	if err != nil {
		return err
	}
	if more {
		t.roots++
	} else {
		t.roots--
	}
	return nil
}

// write puts the sums into the batch.
func (r *recount) write() error {
	for number, t := range r.tallies {
		if err := r.b.Set(usageKey(number), appendNumbers(nil, t.roots, t.blocks, t.bytes, t.uniqueBytes), nil); err != nil {
			return err
		}
	}
	return r.ledger.write(r.b)
}

// distinct is the blocks of a list in the order of their multihashes, each once, without
// those that lie in their CID. It reorders the list.
func distinct(list []kept) []kept {
	list = slices.DeleteFunc(list, func(k kept) bool { return hashString(k.cid)[0] == mh.IDENTITY })
	slices.SortFunc(list, byHash)
	return slices.CompactFunc(list, func(a, b kept) bool { return byHash(a, b) == 0 })
}

func byHash(a, b kept) int { return cmp.Compare(hashString(a.cid), hashString(b.cid)) }
