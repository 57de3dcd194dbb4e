package blockstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
)

// memory is a store that ends with its process.
type memory struct {
	running running

	mu       sync.RWMutex // guards the rest
	blocks   map[string][]byte
	roots    map[cid.Cid]*memoryRoot
	sessions map[string]map[string]struct{} // what the open ones shield
}

type memoryRoot struct {
	owners map[string]struct{}
	cids   map[cid.Cid]struct{}
}

// NewMemory makes an empty store in memory, for tests and for work that needs
// no disk. Nothing in it survives Close; Sync has nothing to do. What is read is hashed even so.
func NewMemory() Store {
	return &memory{
		blocks:   map[string][]byte{},
		roots:    map[cid.Cid]*memoryRoot{},
		sessions: map[string]map[string]struct{}{},
	}
}

func (m *memory) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return m.running.enter()
}

// Get implements [Getter].
func (m *memory) Get(ctx context.Context, c cid.Cid) (Block, error) {
	if err := CheckCID(c); err != nil {
		return Block{}, err
	}
	if b, ok := identity(c); ok {
		return b, nil
	}
	if err := m.enter(ctx); err != nil {
		return Block{}, err
	}
	defer m.running.leave()
	m.mu.RLock()
	data, ok := m.blocks[string(c.Hash())]
	m.mu.RUnlock()
	if !ok {
		return Block{}, notFound(c)
	}
	return CheckBlock(c, data)
}

// GetMany implements [Store].
func (m *memory) GetMany(ctx context.Context, cids []cid.Cid) iter.Seq2[Block, error] {
	return getMany(ctx, m, cids)
}

// Stat implements [Store].
func (m *memory) Stat(ctx context.Context, cids []cid.Cid) ([]Info, error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.running.leave()
	m.mu.RLock()
	defer m.mu.RUnlock()
	infos := make([]Info, 0, len(cids))
	for _, c := range cids {
		if err := CheckCID(c); err != nil {
			return nil, err
		}
		infos = append(infos, m.info(c))
	}
	return infos, nil
}

func (m *memory) info(c cid.Cid) Info {
	if b, ok := identity(c); ok {
		return Info{CID: c, Present: true, Size: int64(b.Size())}
	}
	data, ok := m.blocks[string(c.Hash())]
	return Info{CID: c, Present: ok, Size: int64(len(data))}
}

// Enumerate implements [Store], in the order of the multihashes.
func (m *memory) Enumerate(ctx context.Context, cur Cursor) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		last, err := cur.multihash()
		if err == nil {
			err = m.enter(ctx)
		}
		if err != nil {
			yield(Entry{}, err)
			return
		}
		defer m.running.leave()
		m.mu.RLock()
		hashes := slices.Sorted(maps.Keys(m.blocks))
		m.mu.RUnlock()
		from, _ := slices.BinarySearch(hashes, string(last)+"\x00")
		for _, h := range hashes[from:] {
			if err := ctx.Err(); err != nil {
				yield(Entry{}, err)
				return
			}
			m.mu.RLock()
			data, ok := m.blocks[h]
			m.mu.RUnlock()
			e := Entry{CID: cid.NewCidV1(cid.Raw, mh.Multihash(h)), Size: int64(len(data)), Next: cursorAt(h)}
			if ok && !yield(e, nil) {
				return
			}
		}
	}
}

// Release implements [Store].
func (m *memory) Release(ctx context.Context, owner string, root cid.Cid) error {
	if err := checkOwner(owner); err != nil {
		return err
	}
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.running.leave()
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.roots[root]; r != nil {
		delete(r.owners, owner)
		if len(r.owners) == 0 {
			delete(m.roots, root)
		}
	}
	return nil
}

// keptBy is what the owner keeps, "" being everybody. The caller holds mu.
func (m *memory) keptBy(owner string) iter.Seq2[cid.Cid, *memoryRoot] {
	return func(yield func(cid.Cid, *memoryRoot) bool) {
		for root, r := range m.roots {
			if _, ok := r.owners[owner]; (ok || owner == "") && !yield(root, r) {
				return
			}
		}
	}
}

// Kept implements [Store].
func (m *memory) Kept(ctx context.Context, owner string) ([]cid.Cid, error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.running.leave()
	m.mu.RLock()
	defer m.mu.RUnlock()
	var roots []cid.Cid
	for root := range m.keptBy(owner) {
		roots = append(roots, root)
	}
	return roots, nil
}

// KeptCIDs implements [Store].
func (m *memory) KeptCIDs(ctx context.Context, root cid.Cid) iter.Seq2[cid.Cid, error] {
	return func(yield func(cid.Cid, error) bool) {
		if err := m.enter(ctx); err != nil {
			yield(cid.Undef, err)
			return
		}
		defer m.running.leave()
		m.mu.RLock()
		r := m.roots[root]
		var cids []cid.Cid
		if r != nil {
			cids = slices.Collect(maps.Keys(r.cids))
		}
		m.mu.RUnlock()
		if r == nil {
			yield(cid.Undef, notFound(root))
			return
		}
		for _, c := range cids {
			if err := ctx.Err(); err != nil {
				yield(cid.Undef, err)
				return
			}
			if !yield(c, nil) {
				return
			}
		}
	}
}

// Usage implements [Store].
func (m *memory) Usage(ctx context.Context, owner string) (Usage, error) {
	if err := m.enter(ctx); err != nil {
		return Usage{}, err
	}
	defer m.running.leave()
	return m.usage(func(_ cid.Cid, r *memoryRoot) (mine, others bool) {
		if owner == "" {
			return true, false
		}
		_, mine = r.owners[owner]
		return mine, !mine || len(r.owners) > 1
	}), nil
}

// GroupUsage implements [Store].
func (m *memory) GroupUsage(ctx context.Context, groups map[string][]string) (map[string]Usage, error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.running.leave()
	all := make(map[string]Usage, len(groups))
	for name, owners := range groups {
		all[name] = m.usage(func(_ cid.Cid, r *memoryRoot) (mine, others bool) {
			for owner := range r.owners {
				if slices.Contains(owners, owner) {
					mine = true
				} else {
					others = true
				}
			}
			return mine, others
		})
	}
	return all, nil
}

// RootUsage implements [Store].
func (m *memory) RootUsage(ctx context.Context, root cid.Cid) (Usage, error) {
	if err := m.enter(ctx); err != nil {
		return Usage{}, err
	}
	defer m.running.leave()
	u := m.usage(func(c cid.Cid, _ *memoryRoot) (mine, others bool) { return c == root, c != root })
	if u.Roots == 0 {
		return Usage{}, notFound(root)
	}
	return u, nil
}

// usage counts the blocks under the roots that which says are mine, and which of
// them are not in a root that somebody else keeps.
func (m *memory) usage(which func(cid.Cid, *memoryRoot) (mine, others bool)) (u Usage) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	mine, others := map[string]struct{}{}, map[string]struct{}{}
	for root, r := range m.roots {
		isMine, isOthers := which(root, r)
		if isMine {
			u.Roots++
		}
		for c := range r.cids {
			if isMine {
				mine[hashString(c)] = struct{}{}
			}
			if isOthers {
				others[hashString(c)] = struct{}{}
			}
		}
	}
	for h := range mine {
		data, ok := m.blocks[h]
		if !ok {
			continue // it lies in its CID
		}
		u.Blocks++
		u.Bytes += int64(len(data))
		if _, shared := others[h]; !shared {
			u.UniqueBytes += int64(len(data))
		}
	}
	return u
}

// Collect implements [Store]. Writers wait for it.
func (m *memory) Collect(ctx context.Context, opts CollectOptions) (Collected, error) {
	if err := m.enter(ctx); err != nil {
		return Collected{}, err
	}
	defer m.running.leave()
	m.mu.Lock()
	defer m.mu.Unlock()
	needed := map[string]struct{}{}
	for _, r := range m.roots {
		for c := range r.cids {
			needed[string(c.Hash())] = struct{}{}
		}
	}
	for _, shielded := range m.sessions {
		maps.Copy(needed, shielded)
	}
	var freed Collected
	for h, data := range m.blocks {
		if _, ok := needed[h]; ok {
			continue
		}
		freed.Blocks++
		freed.Bytes += int64(len(data))
		if !opts.DryRun {
			freed.Disk += int64(len(data))
			delete(m.blocks, h)
		}
	}
	return freed, nil
}

// Size implements [Store].
func (m *memory) Size(ctx context.Context) (int64, error) {
	if err := m.enter(ctx); err != nil {
		return 0, err
	}
	defer m.running.leave()
	m.mu.RLock()
	defer m.mu.RUnlock()
	var n int64
	for _, data := range m.blocks {
		n += int64(len(data))
	}
	return n, nil
}

// Close implements [Store].
func (m *memory) Close() error {
	m.running.close()
	return nil
}

// Begin implements [Store].
func (m *memory) Begin(ctx context.Context, id string) (Session, error) {
	if err := checkName("session id", id); err != nil {
		return nil, err
	}
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.running.leave()
	if id == "" {
		id = rand.Text()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sessions[id] != nil {
		return nil, fmt.Errorf("%w: %q", ErrSessionOpen, id)
	}
	m.sessions[id] = map[string]struct{}{}
	return &memorySession{m: m, id: id}, nil
}

type memorySession struct {
	m      *memory
	id     string
	closed bool // guarded by m.mu
}

// ID implements [Session].
func (s *memorySession) ID() string { return s.id }

// with runs f alone, with what the session shields.
func (s *memorySession) with(ctx context.Context, f func(shielded map[string]struct{}) error) error {
	if err := s.m.enter(ctx); err != nil {
		return err
	}
	defer s.m.running.leave()
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	return f(s.m.sessions[s.id])
}

// Put implements [Session].
func (s *memorySession) Put(ctx context.Context, blks ...Block) (Added, error) {
	if err := checkAll(blks); err != nil {
		return Added{}, err
	}
	var added Added
	err := s.with(ctx, func(shielded map[string]struct{}) error {
		for _, b := range blks {
			h := string(b.cid.Hash())
			shielded[h] = struct{}{}
			if s.m.info(b.cid).Present {
				continue
			}
			s.m.blocks[h] = bytes.Clone(b.data)
			added.Blocks++
			added.Bytes += int64(b.Size())
		}
		return nil
	})
	return added, err
}

// Shield implements [Session].
func (s *memorySession) Shield(ctx context.Context, cids []cid.Cid) ([]Info, error) {
	infos := make([]Info, 0, len(cids))
	for _, c := range cids {
		if err := CheckCID(c); err != nil {
			return nil, err
		}
	}
	err := s.with(ctx, func(shielded map[string]struct{}) error {
		for _, c := range cids {
			shielded[string(c.Hash())] = struct{}{}
			infos = append(infos, s.m.info(c))
		}
		return nil
	})
	return infos, err
}

// Sync implements [Session].
func (s *memorySession) Sync(ctx context.Context) error {
	return s.with(ctx, func(map[string]struct{}) error { return nil })
}

// Keep implements [Session].
func (s *memorySession) Keep(ctx context.Context, owner string, root cid.Cid, cids iter.Seq[cid.Cid]) error {
	if err := checkOwner(owner); err != nil {
		return err
	}
	all, err := inDAG(ctx, root, cids)
	if err != nil {
		return err
	}
	return s.with(ctx, func(map[string]struct{}) error {
		for _, c := range all {
			if !s.m.info(c).Present {
				return notFound(c)
			}
		}
		r := s.m.roots[root]
		if r == nil {
			r = &memoryRoot{owners: map[string]struct{}{}, cids: map[cid.Cid]struct{}{}}
			s.m.roots[root] = r
		}
		r.owners[owner] = struct{}{}
		for _, c := range all {
			r.cids[c] = struct{}{}
		}
		return nil
	})
}

// Close implements [Session].
func (s *memorySession) Close() error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if !s.closed {
		s.closed = true
		delete(s.m.sessions, s.id)
	}
	return nil
}
