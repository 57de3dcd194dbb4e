package p2p

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// Blocks gets blocks from the store or else from the network. Fetched blocks
// are not kept; the last CacheBytes of them stay in memory.
//
// What can't be had by the context's deadline, or until it is cancelled with a
// cause, or within IdleTimeout if that is earlier, fails with a
// blockstore.BlockError of kind ErrUnavailable whose cause is an *AskedError. When the context carries boxo's retrieval.State with
// a root, the root's providers are looked for too, and leaves come from all connected peers that have something under that root.
func (n *Node) Blocks() blockstore.Getter { return n.blocks }

// Here gets blocks from the store, or from those that were fetched a moment ago.
func (n *Node) Here() blockstore.Getter { return here{n} }

type here struct{ *Node }

// Get implements blockstore.Getter.
func (h here) Get(ctx context.Context, c cid.Cid) (blockstore.Block, error) {
	b, err := h.cfg.Store.Get(ctx, c)
	if err != nil {
		if b, ok := h.blocks.cache.get(c); ok {
			return b, nil
		}
	}
	return b, err
}

// Remote gets blocks from the network only, as Blocks does, whatever the store
// and the cache have: for a block that is damaged here. Each is asked for anew, of
// everybody who is connected or connects meanwhile.
func (n *Node) Remote() blockstore.Getter { return remote{n} }

// sessionLife is how long one bitswap session serves all gets.
const sessionLife = time.Minute

// rootSearchDelay is how long a block may take before the providers of the
// root above it are looked for: the usual case is that a connected peer has it.
const rootSearchDelay = 300 * time.Millisecond

type blocks struct {
	node     *Node
	cache    *blockCache
	sessions *sessions // nil when Offline
	lanes    *lanes    // likewise
}

// Get implements blockstore.Getter.
func (b *blocks) Get(ctx context.Context, c cid.Cid) (blockstore.Block, error) {
	blk, err := b.node.cfg.Store.Get(ctx, c)
	// A block that is damaged here, or that can't be read, may be whole elsewhere.
	if err == nil || !errors.Is(err, blockstore.ErrNotFound) && !errors.Is(err, blockstore.ErrCorrupt) && !errors.Is(err, blockstore.ErrUnavailable) {
		return blk, err
	}
	if blk, ok := b.cache.get(c); ok {
		return blk, nil
	}
	blk, err = b.fetch(ctx, c, b.sessions)
	if err == nil {
		b.cache.add(blk)
	}
	return blk, err
}

type remote struct{ *Node }

// Get implements blockstore.Getter.
func (r remote) Get(ctx context.Context, c cid.Cid) (blockstore.Block, error) {
	if r.swap == nil {
		return r.blocks.fetch(ctx, c, nil)
	}
	s := r.swap.sessions(r.cfg.IdleTimeout)
	defer s.close()
	return r.blocks.fetch(ctx, c, s)
}

// fetch gets a block through sessions, which are nil when Offline.
func (b *blocks) fetch(ctx context.Context, c cid.Cid, from *sessions) (blockstore.Block, error) {
	if from == nil {
		return blockstore.Block{}, unavailable(c, &answers{}, ErrOffline)
	}
	var said answers
	blk, err := b.fromNetwork(ctx, c, from, &said)
	switch {
	case err == nil:
		return blk, nil
	case ctx.Err() == nil:
		return blk, unavailable(c, &said, err)
	case errors.Is(context.Cause(ctx), context.Canceled):
		return blk, ctx.Err()
	}
	// A deadline, or a limit that the caller gives as the cause: whoever waited wants to know whom for.
	return blk, unavailable(c, &said, context.Cause(ctx))
}

func (b *blocks) fromNetwork(ctx context.Context, c cid.Cid, from *sessions, said *answers) (blockstore.Block, error) {
	ctx, cancel := context.WithTimeout(ctx, b.node.cfg.IdleTimeout)
	defer cancel()
	root := rootAbove(ctx)
	if !root.Defined() {
		return b.node.swap.get(ctx, from, c, said)
	}
	if from == b.sessions && c.Type() == cid.Raw {
		if blk, ok := b.lanes.get(ctx, root, c, said); ok || ctx.Err() != nil {
			return blk, ctx.Err()
		}
	}
	b.lanes.watch(root, c)
	if root != c {
		var wg sync.WaitGroup
		wg.Go(func() { b.searchRoot(ctx, root, said) })
		defer wg.Wait()
		defer cancel()
	}
	return b.node.swap.get(ctx, from, c, said)
}

// searchRoot connects to providers of the root: hosts provide roots only, so
// that a search for a block further down would find nobody.
func (b *blocks) searchRoot(ctx context.Context, root cid.Cid, said *answers) {
	select {
	case <-ctx.Done():
		return
	case <-time.After(rootSearchDelay):
	}
	b.node.tryProviders(ctx, root, said)
}

// unavailable is the error for a block that nobody sent.
func unavailable(c cid.Cid, said *answers, cause error) error {
	return &blockstore.BlockError{CID: c, Kind: blockstore.ErrUnavailable, Err: &AskedError{Answers: said.list(), Cause: cause}}
}

// blockCache is the last blocks that were fetched, at most max bytes of them.
type blockCache struct {
	max int64

	mu    sync.Mutex
	bytes int64
	byKey map[string]*list.Element // by multihash
	order *list.List               // of blockstore.Block, least recently used first
}

func newBlockCache(max int64) *blockCache {
	return &blockCache{max: max, byKey: map[string]*list.Element{}, order: list.New()}
}

func (b *blockCache) get(c cid.Cid) (blockstore.Block, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	el, ok := b.byKey[string(c.Hash())]
	if !ok {
		return blockstore.Block{}, false
	}
	b.order.MoveToBack(el)
	return el.Value.(blockstore.Block).As(c), true
}

func (b *blockCache) add(blk blockstore.Block) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := string(blk.Cid().Hash())
	if int64(blk.Size()) > b.max || b.byKey[key] != nil {
		return
	}
	b.byKey[key] = b.order.PushBack(blk)
	b.bytes += int64(blk.Size())
	for b.bytes > b.max {
		el := b.order.Front()
		old := el.Value.(blockstore.Block)
		b.bytes -= int64(old.Size())
		delete(b.byKey, string(old.Cid().Hash()))
		b.order.Remove(el)
	}
}
