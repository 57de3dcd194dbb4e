package blockstore

import (
	"context"
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
