package blockstore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
)

// page is how many entries are read before an iterator is given up: one that
// stays open keeps files that are otherwise obsolete.
const page = 1024

// Get implements [Getter].
func (d *disk) Get(ctx context.Context, c cid.Cid) (Block, error) {
	if err := CheckCID(c); err != nil {
		return Block{}, err
	}
	if b, ok := identity(c); ok {
		return b, nil
	}
	if err := d.enter(ctx); err != nil {
		return Block{}, err
	}
	defer d.running.leave()
	if bad, damaged := d.damage(hashString(c)); damaged {
		return Block{}, &BlockError{CID: c, Kind: bad.kind(), Err: errors.New(bad.Reason)}
	}
	data, p, err := d.read(hashString(c))
	var b Block
	if err == nil {
		b, err = CheckBlock(c, data)
	} else {
		err = readError(c, err)
	}
	if p.file > 0 && errors.Is(err, ErrCorrupt) {
		o, _ := d.originOf(p.file)
		err = &BlockError{CID: c, Kind: ErrNotFound, Err: fmt.Errorf("%w: %q", errMoved, o.Path)}
	}
	if errors.Is(err, ErrCorrupt) || errors.Is(err, errMoved) {
		d.quarantine(ctx, c, p, err)
	}
	return b, err
}

// errAbsent says that the index does not have the block.
var errAbsent = errors.New("absent")

// read is the stored bytes, unchecked, and where they were. A collection may
// move them while we look.
func (d *disk) read(h string) (data []byte, p place, err error) {
	for before := (place{}); ; before = p {
		if p, err = d.place(h); err != nil {
			return nil, place{}, err
		}
		if p.segment == 0 {
			data, err = d.readOrigin(p)
			return data, p, err
		}
		data, err = d.segments.read(p)
		switch {
		case err == nil:
			return data, p, nil
		case errors.Is(err, fs.ErrNotExist) && p != before:
			continue
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil, p, fmt.Errorf("%w: %d bytes of %s are gone: %w", ErrCorrupt, p.size, p, err)
		default:
			return nil, p, err
		}
	}
}

// place is where a block's bytes are.
func (d *disk) place(h string) (place, error) {
	if p, ok := d.waitingPlace(h); ok {
		return p, nil
	}
	v, closer, err := d.db.Get(blockKey(nil, h))
	if errors.Is(err, pebble.ErrNotFound) {
		return place{}, errAbsent
	}
	if err != nil {
		return place{}, err
	}
	defer closer.Close()
	return parsePlace(v)
}

func readError(c cid.Cid, err error) error {
	switch {
	case errors.Is(err, errAbsent):
		return notFound(c)
	case errors.Is(err, errMoved):
		return &BlockError{CID: c, Kind: ErrNotFound, Err: err}
	case errors.Is(err, ErrCorrupt) || pebble.IsCorruptionError(err):
		return &BlockError{CID: c, Kind: ErrCorrupt, Err: err}
	default:
		return &BlockError{CID: c, Kind: ErrUnavailable, Err: err}
	}
}

// GetMany implements [Store].
func (d *disk) GetMany(ctx context.Context, cids []cid.Cid) iter.Seq2[Block, error] {
	return getMany(ctx, d, cids)
}

func getMany(ctx context.Context, g Getter, cids []cid.Cid) iter.Seq2[Block, error] {
	return func(yield func(Block, error) bool) {
		for _, c := range cids {
			b, err := g.Get(ctx, c)
			if !yield(b, err) || err != nil {
				return
			}
		}
	}
}

// looker looks for many blocks without reading them.
type looker struct {
	d    *disk
	it   *pebble.Iterator
	told uint64 // settlings that the iterator sees
	key  []byte

	climb   bool // the hashes are asked about in ascending order, most of them are present
	climber climber

	untouched map[uint32]bool // files that were asked about
}

func (d *disk) newLooker() (*looker, error) {
	l := &looker{d: d, untouched: map[uint32]bool{}}
	return l, l.renew()
}

func (l *looker) renew() (err error) {
	if l.it != nil {
		l.it.Close()
	}
	l.climber = climber{}
	l.told = l.d.told.Load()
	l.it, err = l.d.db.NewIter(&pebble.IterOptions{
		LowerBound: []byte{kindBlock}, UpperBound: []byte{kindBlock + 1}, UseL6Filters: true,
	})
	return err
}

func (l *looker) close() {
	if l.it != nil {
		l.it.Close()
	}
}

// look tells where the block is. One that was found damaged is not there, nor is
// one that was left in a file that has been touched since. It is
// only ever asked about what is stored under its hash, not about identity CIDs.
func (l *looker) look(h string) (p place, present bool, err error) {
	if _, damaged := l.d.damage(h); damaged {
		return place{}, false, nil
	}
	p, present, err = l.find(h)
	if present && p.segment == 0 && !l.d.untouched(p.file, l.untouched) {
		return place{}, false, err
	}
	return p, present, err
}

func (l *looker) find(h string) (p place, present bool, err error) {
	if p, ok := l.d.waitingPlace(h); ok {
		return p, true, nil
	}
	l.key = blockKey(l.key, h)
	for !l.seek() {
		if err := l.it.Error(); err != nil || l.told == l.d.told.Load() {
			return place{}, false, err
		}
		// It may have ceased to wait after the iterator's view was taken.
		if err := l.renew(); err != nil {
			return place{}, false, err
		}
	}
	v, err := l.it.ValueAndErr()
	if err != nil {
		return place{}, false, err
	}
	p, err = parsePlace(v)
	return p, err == nil, err
}

func (l *looker) seek() bool {
	if !l.climb {
		return l.it.SeekPrefixGE(l.key)
	}
	l.climber.it = l.it
	return l.climber.to(l.key) && bytes.Equal(l.it.Key(), l.key)
}

func (l *looker) info(c cid.Cid) (Info, error) {
	if b, ok := identity(c); ok {
		return Info{CID: c, Present: true, Size: int64(b.Size())}, nil
	}
	p, present, err := l.look(hashString(c))
	if err != nil {
		return Info{}, readError(c, err)
	}
	return Info{CID: c, Present: present, Size: p.size}, nil
}

// Stat implements [Store].
func (d *disk) Stat(ctx context.Context, cids []cid.Cid) ([]Info, error) {
	if err := d.enter(ctx); err != nil {
		return nil, err
	}
	defer d.running.leave()
	for _, c := range cids {
		if err := CheckCID(c); err != nil {
			return nil, err
		}
	}
	return d.infos(ctx, cids)
}

func (d *disk) infos(ctx context.Context, cids []cid.Cid) ([]Info, error) {
	l, err := d.newLooker()
	if err != nil {
		return nil, err
	}
	defer l.close()
	// In the order of the index, many look-ups cost little more than reading it.
	order := make([]int, len(cids))
	for i := range order {
		order[i] = i
	}
	if len(cids) >= manyLookups {
		l.climb = true
		slices.SortFunc(order, func(a, b int) int { return cmp.Compare(hashString(cids[a]), hashString(cids[b])) })
	}
	infos := make([]Info, len(cids))
	for n, i := range order {
		if n%page == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if infos[i], err = l.info(cids[i]); err != nil {
			return nil, err
		}
	}
	return infos, nil
}

// manyLookups is from how many on it is worth the sorting.
const manyLookups = 64

// Enumerate implements [Store].
func (d *disk) Enumerate(ctx context.Context, cur Cursor) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		last, err := cur.multihash()
		if err == nil {
			if err = d.enter(ctx); err == nil {
				err = d.settleForReading(ctx)
				d.running.leave()
			}
		}
		for err == nil {
			var entries []placed
			if entries, err = d.enumeratePage(ctx, last); len(entries) == 0 {
				break
			}
			for _, e := range entries {
				if ctx.Err() != nil {
					yield(Entry{}, ctx.Err())
					return
				}
				if _, damaged := d.damage(hashString(e.CID)); damaged {
					continue
				}
				if !yield(e.Entry, nil) {
					return
				}
			}
			last = hashString(entries[len(entries)-1].CID)
		}
		if err != nil {
			yield(Entry{}, err)
		}
	}
}

// settleForReading makes the index tell of everything that was put until now.
func (d *disk) settleForReading(ctx context.Context) error {
	d.waitingMu.RLock()
	n := len(d.waiting.next) + len(d.waiting.now)
	d.waitingMu.RUnlock()
	if n == 0 {
		return nil
	}
	return d.settle(ctx)
}

// placed is an entry, and where its bytes are.
type placed struct {
	Entry
	place place
}

// enumeratePage is the index's entries behind last; none, without an error, at the end.
func (d *disk) enumeratePage(ctx context.Context, last string) (entries []placed, err error) {
	if err := d.enter(ctx); err != nil {
		return nil, err
	}
	defer d.running.leave()
	it, err := d.db.NewIter(&pebble.IterOptions{LowerBound: blockKey(nil, last), UpperBound: []byte{kindBlock + 1}})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok && len(entries) < page; ok = it.Next() {
		h := mh.Multihash(bytes.Clone(it.Key()[1:]))
		if last != "" && string(h) == last {
			continue
		}
		if _, err := mh.Decode(h); err != nil {
			return nil, fmt.Errorf("%w: the index has a block under %x: %w", ErrCorrupt, []byte(h), err)
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, indexError(err)
		}
		p, err := parsePlace(v)
		if err != nil {
			return nil, err
		}
		entries = append(entries, placed{Entry{CID: cid.NewCidV1(cid.Raw, h), Size: p.size, Next: cursorAt(string(h))}, p})
	}
	if err := it.Error(); err != nil {
		return nil, indexError(err)
	}
	return entries, nil
}

// indexError is a read error that concerns no single block.
func indexError(err error) error {
	if errors.Is(err, ErrCorrupt) || pebble.IsCorruptionError(err) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
