package gateway

import (
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// kept holds what was made of immutable content, the least used of it leaving
// first, within a budget. Safe for concurrent use.
type kept[K comparable, V any] struct {
	mu    sync.Mutex
	lru   *simplelru.LRU[K, V]
	bytes int64 // held
	most  int64
	size  func(V) int64
}

// newKept makes one for at most so many bytes, as size counts them.
func newKept[K comparable, V any](most int64, size func(V) int64) *kept[K, V] {
	k := &kept[K, V]{most: most, size: size}
	var err error
	k.lru, err = simplelru.NewLRU(int(most/minKept), func(_ K, v V) { k.bytes -= k.size(v) })
	if err != nil {
		panic(err) // only a size below 1 is one
	}
	return k
}

// minKept is what an entry costs at least, in bytes, whatever it holds.
const minKept = 256

func (k *kept[K, V]) get(key K) (V, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lru.Get(key)
}

// held is how many bytes there are.
func (k *kept[K, V]) held() int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.bytes
}

// put keeps v, unless it would take more than an eighth of all there is.
func (k *kept[K, V]) put(key K, v V) {
	n := k.size(v)
	if n > k.most/8 {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lru.Remove(key)
	k.lru.Add(key, v)
	k.bytes += n
	for k.bytes > k.most {
		k.lru.RemoveOldest()
	}
}

// forget drops everything.
func (k *kept[K, V]) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lru.Purge()
}
