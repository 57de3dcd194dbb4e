package blockstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"

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
	data, err := d.read(c)
	var b Block
	if err == nil {
		b, err = CheckBlock(c, data)
	} else {
		err = readError(c, err)
	}
	if errors.Is(err, ErrCorrupt) {
		d.damaged.Store(string(c.Hash()), nil)
	}
	return b, err
}

// read is the stored bytes, unchecked.
func (d *disk) read(c cid.Cid) (data []byte, err error) {
	l, err := d.newLooker(d.db)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.it.Close()) }()
	_, present, err := l.look(c.Hash())
	if err != nil {
		return nil, err
	}
	if !present {
		return nil, pebble.ErrNotFound
	}
	v, err := value(l.it)
	return bytes.Clone(v), err
}

// value is the value at the iterator. Pebble 2.1 panics where it finds the end
// of a file of values damaged (cockroachdb/pebble issue 5127), but has let go of
// everything by then, so that the iterator can be closed. For the same reason
// nothing but this may read such files: see reclaim, and for other damage checkedFile.
func value(it *pebble.Iterator) (v []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			v, err = nil, fmt.Errorf("%w: a damaged file: %v", ErrCorrupt, r)
		}
	}()
	return it.ValueAndErr()
}

func readError(c cid.Cid, err error) error {
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		return notFound(c)
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

// looker looks for blocks without reading them.
type looker struct {
	it  *pebble.Iterator
	key []byte
}

func (d *disk) newLooker(r pebble.Reader) (*looker, error) {
	it, err := r.NewIter(&pebble.IterOptions{
		LowerBound: []byte{kindBlock}, UpperBound: []byte{kindBlock + 1}, UseL6Filters: true,
	})
	if err != nil {
		return nil, err
	}
	return &looker{it: it}, nil
}

// look tells whether the block is there. It is only ever asked about what is stored
// under its hash, not about identity CIDs.
func (l *looker) look(h mh.Multihash) (size int64, present bool, err error) {
	l.key = blockKey(l.key, h)
	if !l.it.SeekPrefixGE(l.key) {
		return 0, false, l.it.Error()
	}
	v := l.it.LazyValue()
	return int64(v.Len()), true, nil
}

func (l *looker) info(c cid.Cid) (Info, error) {
	if b, ok := identity(c); ok {
		return Info{CID: c, Present: true, Size: int64(b.Size())}, nil
	}
	size, present, err := l.look(c.Hash())
	if err != nil {
		return Info{}, readError(c, err)
	}
	return Info{CID: c, Present: present, Size: size}, nil
}

// Stat implements [Store].
func (d *disk) Stat(ctx context.Context, cids []cid.Cid) ([]Info, error) {
	if err := d.enter(ctx); err != nil {
		return nil, err
	}
	defer d.running.leave()
	l, err := d.newLooker(d.db)
	if err != nil {
		return nil, err
	}
	defer l.it.Close()
	infos := make([]Info, 0, len(cids))
	for i, c := range cids {
		if i%page == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err := CheckCID(c); err != nil {
			return nil, err
		}
		info, err := l.info(c)
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	return infos, nil
}

// Enumerate implements [Store].
func (d *disk) Enumerate(ctx context.Context, cur Cursor) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		last, err := cur.multihash()
		for err == nil {
			var entries []placed
			if entries, err = d.enumeratePage(ctx, last); len(entries) == 0 {
				break
			}
			for _, e := range entries {
				if err := ctx.Err(); err != nil {
					yield(Entry{}, ctx.Err())
					return
				}
				if !yield(e.Entry, nil) {
					return
				}
			}
			last = entries[len(entries)-1].CID.Hash()
		}
		if err != nil {
			yield(Entry{}, err)
		}
	}
}

// placed is an entry, and which file the value has to itself and others.
type placed struct {
	Entry
	file uint64 // 0 where the value lies in the index
}

// enumeratePage is the entries behind last; none, without an error, at the end.
func (d *disk) enumeratePage(ctx context.Context, last []byte) (entries []placed, err error) {
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
		if len(last) > 0 && bytes.Equal(h, last) {
			continue
		}
		if _, err := mh.Decode(h); err != nil {
			return nil, fmt.Errorf("%w: the index has a block under %x: %w", ErrCorrupt, []byte(h), err)
		}
		v := it.LazyValue()
		e := placed{Entry: Entry{CID: cid.NewCidV1(cid.Raw, h), Size: int64(v.Len()), Next: cursorAt(h)}}
		if v.Fetcher != nil {
			e.file = uint64(v.Fetcher.BlobFileID)
		}
		entries = append(entries, e)
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
