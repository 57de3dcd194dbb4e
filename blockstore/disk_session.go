package blockstore

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"iter"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
)

const (
	// Blocks are written in batches of about this many bytes.
	batchBytes = 1 << 20
	// Many look-ups together cost little more than reading the index once; but
	// a collection waits meanwhile.
	shieldAtOnce = 64 << 10
	// A session remembers of so many blocks that they are present, at some 60
	// bytes each, so that Keep need not look again.
	maxKnown = 256 << 10
)

// diskSession is an add session. Its shields get into the index together with
// the blocks, so that a crash loses both or none.
type diskSession struct {
	d  *disk
	id string

	mu     sync.RWMutex // calls hold it for reading
	closed bool

	state     sync.Mutex       // guards what follows
	shields   []byte           // (uvarint length, multihash)… that the index does not have yet
	next      uint32           // number of the next list of shields
	known     map[string]int64 // sizes of blocks that were present, and still are, because they are shielded
	unsettled bool             // it put something, or found something present, that is not settled
	failed    error            // why what it put is lost
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
	if err := d.resuming.take(ctx); err != nil {
		return nil, err
	}
	defer d.resuming.give()
	d.sessionsMu.Lock()
	defer d.sessionsMu.Unlock()
	if d.sessions[id] != nil {
		return nil, fmt.Errorf("%w: %q", ErrSessionOpen, id)
	}
	s := &diskSession{d: d, id: id, known: map[string]int64{}}
	err := scan(d.db, shieldPrefix(id), func(n, _ []byte) error {
		if len(n) != 4 {
			return fmt.Errorf("%w: the index has shields under %x", ErrCorrupt, n)
		}
		s.next = binary.BigEndian.Uint32(n) + 1
		return nil
	})
	if err != nil {
		return nil, err
	}
	d.sessions[id] = s
	return s, nil
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

// shield notes hashes that are needed from now on. size tells how large the
// i-th block is, or less than 0 where it is not present.
func (s *diskSession) shield(hashes []string, size func(i int) int64) {
	s.state.Lock()
	defer s.state.Unlock()
	for i, h := range hashes {
		s.shields = appendSized(s.shields, h)
		if n := size(i); n >= 0 && len(s.known) < maxKnown {
			s.known[h] = n
		}
	}
	s.unsettled = s.unsettled || len(hashes) > 0
}

// knows is the size of a block that the session put or found present.
func (s *diskSession) knows(h string) (size int64, ok bool) {
	if _, damaged := s.d.damage(h); damaged {
		return 0, false
	}
	s.state.Lock()
	defer s.state.Unlock()
	size, ok = s.known[h]
	return size, ok
}

// take hands over the shields to be settled, and says whether the session counts on the settling.
func (s *diskSession) take() (shields []byte, unsettled bool) {
	s.state.Lock()
	defer s.state.Unlock()
	shields, unsettled = s.shields, s.unsettled
	s.shields, s.unsettled = nil, false
	return shields, unsettled
}

// giveBack undoes take.
func (s *diskSession) giveBack(shields []byte) {
	s.state.Lock()
	defer s.state.Unlock()
	s.shields = append(shields, s.shields...)
	s.unsettled = true
}

func (s *diskSession) failUnsettled(reason error) {
	s.state.Lock()
	defer s.state.Unlock()
	if s.unsettled && s.failed == nil {
		s.failed = reason
	}
}

func (s *diskSession) failure() error {
	s.state.Lock()
	defer s.state.Unlock()
	return s.failed
}

// outcome is what a call has to tell that came to err, or to nil. Where blocks of the
// session are lost that goes first: it is the reason for whatever else went wrong.
func (s *diskSession) outcome(err error) error { return cmp.Or(s.failure(), err) }

func (s *diskSession) nextShieldKey() []byte {
	s.state.Lock()
	defer s.state.Unlock()
	k := shieldKey(s.id, s.next)
	s.next++
	return k
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

func (s *diskSession) put(ctx context.Context, blks []Block) (Added, error) {
	if err := s.d.relieve(ctx); err != nil {
		return Added{}, err
	}
	hashes := make([]string, 0, len(blks))
	own := make([]Block, 0, len(blks)) // those that don't answer themselves
	for _, b := range blks {
		if _, ok := identity(b.cid); !ok {
			hashes, own = append(hashes, hashString(b.cid)), append(own, b)
		}
	}
	defer s.d.shielding(hashes)()
	return s.d.add(ctx, s, hashes, own)
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
		n := min(len(cids), shieldAtOnce)
		more, err := s.shieldPage(ctx, cids[:n])
		if err != nil {
			return nil, err
		}
		infos, cids = append(infos, more...), cids[n:]
	}
	return infos, nil
}

func (s *diskSession) shieldPage(ctx context.Context, cids []cid.Cid) ([]Info, error) {
	hashes := make([]string, 0, len(cids))
	for _, c := range cids {
		if _, ok := identity(c); !ok {
			hashes = append(hashes, hashString(c))
		}
	}
	defer s.d.shielding(hashes)()
	for {
		losses := s.d.losses.Load()
		infos, err := s.d.infos(ctx, cids)
		if err != nil {
			return nil, err
		}
		if err := s.d.writing.take(ctx); err != nil {
			return nil, err
		}
		// What was found waiting may have been lost before the session counted on it.
		same := s.d.losses.Load() == losses
		if same {
			s.shieldFound(hashes, infos)
		}
		s.d.writing.give()
		if same {
			return infos, nil
		}
	}
}

// shieldFound shields hashes, which are those of infos without those that lie in their CIDs.
func (s *diskSession) shieldFound(hashes []string, infos []Info) {
	sizes := make([]int64, 0, len(hashes))
	for _, i := range infos {
		switch {
		case hashString(i.CID)[0] == mh.IDENTITY:
		case i.Present:
			sizes = append(sizes, i.Size)
		default:
			sizes = append(sizes, -1)
		}
	}
	s.shield(hashes, func(i int) int64 { return sizes[i] })
}

// Sync implements [Session].
func (s *diskSession) Sync(ctx context.Context) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	if err := s.failure(); err != nil {
		return err
	}
	return s.outcome(s.d.barrier(ctx))
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
	if err := s.failure(); err != nil {
		return err
	}
	if err := s.d.settle(ctx); err != nil {
		return err
	}
	return s.outcome(s.d.keep(ctx, s, owner, root, all))
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
	// A settling that runs may be about to write shields of this session.
	if err := s.d.settling.take(ctx); err != nil {
		return err
	}
	defer s.d.settling.give()
	s.take()
	if s.next == 0 {
		return nil
	}
	return s.d.commit(ctx, func(b *pebble.Batch) error { return dropShields(b, s.id) })
}

func dropShields(b *pebble.Batch, session string) error {
	p := shieldPrefix(session)
	if err := b.DeleteRange(p, after(p), nil); err != nil {
		return err
	}
	return b.Delete(timeKey(session), nil)
}
