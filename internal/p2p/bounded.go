package p2p

import (
	"container/list"
	"context"
	"sync"

	ds "github.com/ipfs/go-datastore"
	dsq "github.com/ipfs/go-datastore/query"
)

// boundedStore is a datastore in memory that forgets its oldest entries when
// it is full. A DHT server has to remember what strangers tell it, and they
// can tell it without end.
type boundedStore struct {
	max int64 // bytes

	mu    sync.Mutex
	bytes int64
	byKey map[ds.Key]*list.Element
	order *list.List // of *boundedEntry, oldest first
}

type boundedEntry struct {
	key   ds.Key
	value []byte
}

// boundedOverhead is about what an entry costs beside its key and value, in bytes.
const boundedOverhead = 200

func (e *boundedEntry) cost() int64 {
	return int64(len(e.key.String()) + len(e.value) + boundedOverhead)
}

var _ ds.Batching = (*boundedStore)(nil)

func newBoundedStore(max int64) *boundedStore {
	return &boundedStore{max: max, byKey: map[ds.Key]*list.Element{}, order: list.New()}
}

func (b *boundedStore) Put(_ context.Context, k ds.Key, v []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.remove(k)
	e := &boundedEntry{k, v}
	b.byKey[k] = b.order.PushBack(e)
	b.bytes += e.cost()
	for b.bytes > b.max {
		b.remove(b.order.Front().Value.(*boundedEntry).key)
	}
	return nil
}

// remove is called with mu held.
func (b *boundedStore) remove(k ds.Key) {
	if el, ok := b.byKey[k]; ok {
		b.bytes -= el.Value.(*boundedEntry).cost()
		b.order.Remove(el)
		delete(b.byKey, k)
	}
}

func (b *boundedStore) Get(_ context.Context, k ds.Key) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if el, ok := b.byKey[k]; ok {
		return el.Value.(*boundedEntry).value, nil
	}
	return nil, ds.ErrNotFound
}

func (b *boundedStore) Has(_ context.Context, k ds.Key) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.byKey[k] != nil, nil
}

func (b *boundedStore) GetSize(ctx context.Context, k ds.Key) (int, error) {
	v, err := b.Get(ctx, k)
	if err != nil {
		return -1, err
	}
	return len(v), nil
}

func (b *boundedStore) Delete(_ context.Context, k ds.Key) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.remove(k)
	return nil
}

func (b *boundedStore) Query(_ context.Context, q dsq.Query) (dsq.Results, error) {
	b.mu.Lock()
	entries := make([]dsq.Entry, 0, len(b.byKey))
	for el := b.order.Front(); el != nil; el = el.Next() {
		e := el.Value.(*boundedEntry)
		entries = append(entries, dsq.Entry{Key: e.key.String(), Value: e.value, Size: len(e.value)})
	}
	b.mu.Unlock()
	return dsq.NaiveQueryApply(q, dsq.ResultsWithEntries(q, entries)), nil
}

func (b *boundedStore) Batch(context.Context) (ds.Batch, error) { return ds.NewBasicBatch(b), nil }
func (b *boundedStore) Sync(context.Context, ds.Key) error      { return nil }
func (b *boundedStore) Close() error                            { return nil }
