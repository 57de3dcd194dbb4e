package blockstore

import (
	"context"
	"crypto/rand"
	"fmt"
	"iter"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
)

// Blocks are committed in batches of about this many bytes.
const batchBytes = 1 << 20

// diskSession is an add session. Its shields are in the database, committed
// together with the blocks, so that a crash loses both or none.
type diskSession struct {
	d  *disk
	id string

	mu     sync.RWMutex // calls hold it for reading
	closed bool
}

// Begin implements [Store].
func (d *disk) Begin(ctx context.Context, id string) (Session, error) {
	if err := d.enterWrite(ctx); err != nil {
		return nil, err
	}
	defer d.running.leave()
	if id == "" {
		id = rand.Text()
	}
	if err := checkName("session id", id); err != nil {
		return nil, err
	}
	d.sessionsMu.Lock()
	defer d.sessionsMu.Unlock()
	if d.sessions[id] {
		return nil, fmt.Errorf("%w: %q", ErrSessionOpen, id)
	}
	d.sessions[id] = true
	return &diskSession{d: d, id: id}, nil
}

// ID implements [Session].
func (s *diskSession) ID() string { return s.id }

// enter begins a call; leave ends it.
func (s *diskSession) enter(ctx context.Context) error {
	s.mu.RLock()
	err := ErrClosed
	if !s.closed {
		err = s.d.enter(ctx)
	}
	if err != nil {
		s.mu.RUnlock()
	}
	return err
}

func (s *diskSession) leave() {
	s.d.running.leave()
	s.mu.RUnlock()
}

// Put implements [Session].
func (s *diskSession) Put(ctx context.Context, blks ...Block) (Added, error) {
	if err := checkAll(blks); err != nil {
		return Added{}, err
	}
	if err := s.enter(ctx); err != nil {
		return Added{}, err
	}
	defer s.leave()
	var added Added
	for len(blks) > 0 {
		n, bytes := 0, 0
		for n < len(blks) && n < page && bytes < batchBytes {
			bytes += blks[n].Size()
			n++
		}
		a, err := s.put(ctx, blks[:n])
		if err != nil {
			return added, err
		}
		added.Blocks += a.Blocks
		added.Bytes += a.Bytes
		blks = blks[n:]
	}
	return added, nil
}

// checkAll refuses blocks that reading would refuse.
func checkAll(blks []Block) error {
	for _, b := range blks {
		if err := CheckCID(b.cid); err != nil {
			return err
		}
		if b.Size() > MaxBlockSize {
			return tooLarge(b.cid, b.Size())
		}
	}
	return nil
}

func (s *diskSession) put(ctx context.Context, blks []Block) (added Added, err error) {
	hashes := make([]mh.Multihash, len(blks))
	for i, b := range blks {
		hashes[i] = b.cid.Hash()
	}
	defer s.d.shielding(hashes)()
	err = s.d.commit(ctx, func(batch *pebble.Batch) error {
		l, err := s.d.newLooker(s.d.db)
		if err != nil {
			return err
		}
		defer l.it.Close()
		putHere := make(map[string]struct{}, len(blks))
		for i, b := range blks {
			if _, ok := identity(b.cid); ok {
				continue
			}
			if err := s.shield(batch, hashes[i]); err != nil {
				return err
			}
			_, twice := putHere[string(hashes[i])]
			_, present, err := l.look(hashes[i])
			if err != nil {
				return readError(b.cid, err)
			}
			if present {
				_, damaged := s.d.damaged.LoadAndDelete(string(hashes[i]))
				present = !damaged
			}
			if twice || present {
				continue
			}
			putHere[string(hashes[i])] = struct{}{}
			if err := batch.Set(l.key, b.data, nil); err != nil {
				return err
			}
			added.Blocks++
			added.Bytes += int64(b.Size())
		}
		return stamp(batch, s.id)
	})
	if err != nil {
		return Added{}, err
	}
	return added, nil
}

func (s *diskSession) shield(b *pebble.Batch, h mh.Multihash) error {
	return b.Set(append(shieldPrefix(s.id), h...), nil, nil)
}

// Shield implements [Session].
func (s *diskSession) Shield(ctx context.Context, cids []cid.Cid) ([]Info, error) {
	for _, c := range cids {
		if err := CheckCID(c); err != nil {
			return nil, err
		}
	}
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	infos := make([]Info, 0, len(cids))
	for len(cids) > 0 {
		n := min(len(cids), page)
		more, err := s.shieldPage(ctx, cids[:n])
		if err != nil {
			return nil, err
		}
		infos, cids = append(infos, more...), cids[n:]
	}
	return infos, nil
}

func (s *diskSession) shieldPage(ctx context.Context, cids []cid.Cid) (infos []Info, err error) {
	hashes := make([]mh.Multihash, len(cids))
	for i, c := range cids {
		hashes[i] = c.Hash()
	}
	defer s.d.shielding(hashes)()
	err = s.d.commit(ctx, func(batch *pebble.Batch) error {
		l, err := s.d.newLooker(s.d.db)
		if err != nil {
			return err
		}
		defer l.it.Close()
		for i, c := range cids {
			info, err := l.info(c)
			if err != nil {
				return err
			}
			infos = append(infos, info)
			if _, ok := identity(c); ok {
				continue
			}
			if err := s.shield(batch, hashes[i]); err != nil {
				return err
			}
		}
		return stamp(batch, s.id)
	})
	return infos, err
}

// Sync implements [Session].
func (s *diskSession) Sync(ctx context.Context) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	return s.d.barrier(ctx)
}

// Keep implements [Session].
func (s *diskSession) Keep(ctx context.Context, owner string, root cid.Cid, cids iter.Seq[cid.Cid]) error {
	if err := checkOwner(owner); err != nil {
		return err
	}
	// Before anything is locked: cids may be slow, and may use the store.
	all, err := inDAG(ctx, root, cids)
	if err != nil {
		return err
	}
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	return s.d.keep(ctx, owner, root, all)
}

// Close implements [Session].
func (s *diskSession) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	ctx := context.Background()
	if err := s.d.enter(ctx); err != nil {
		return err
	}
	defer s.d.running.leave()
	defer func() {
		s.d.sessionsMu.Lock()
		delete(s.d.sessions, s.id)
		s.d.sessionsMu.Unlock()
	}()
	return s.d.commit(ctx, func(b *pebble.Batch) error { return dropShields(b, s.id) })
}

func dropShields(b *pebble.Batch, session string) error {
	p := shieldPrefix(session)
	if err := b.DeleteRange(p, after(p), nil); err != nil {
		return err
	}
	return b.Delete(timeKey(session), nil)
}
