package merkle

import (
	"context"
	"sync"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// readAhead gets blocks before their turn, so that fetching and hashing run on
// several processors while one goroutine goes through the blocks in order. That
// goroutine alone calls its methods, and bounds the memory: what is asked for
// and not taken yet is held, at most blockstore.MaxBlockSize each.
type readAhead struct {
	ctx    context.Context // of every Get; ends with close
	cancel context.CancelFunc
	get    blockstore.Getter
	most   int // Gets at once
	wg     sync.WaitGroup

	mu      sync.Mutex // guards the rest, and the fetches
	queue   []*fetch   // asked for and not begun, oldest first; taken ones are passed over
	workers int
	waiting *fetch        // what take waits for
	came    chan struct{} // tells take; holds one
}

// fetch is one block asked for.
type fetch struct {
	cid         cid.Cid
	begun, done bool
	block       blockstore.Block
	err         error
}

func newReadAhead(ctx context.Context, g blockstore.Getter, most int) *readAhead {
	ctx, cancel := context.WithCancel(ctx)
	return &readAhead{ctx: ctx, cancel: cancel, get: g, most: most, came: make(chan struct{}, 1)}
}

// ask has c fetched as soon as a worker is free, after all that was asked before.
func (a *readAhead) ask(c cid.Cid) *fetch {
	f := &fetch{cid: c}
	a.mu.Lock()
	a.queue = append(a.queue, f)
	start := a.workers < a.most
	if start {
		a.workers++
	}
	a.mu.Unlock()
	if start {
		a.wg.Go(a.work)
	}
	return f
}

// take is the block of f. Where no worker has got to it yet, it is fetched by
// the caller: waiting for another goroutine would only cost time.
func (a *readAhead) take(f *fetch) (blockstore.Block, error) {
	a.mu.Lock()
	if !f.begun {
		f.begun = true
		a.mu.Unlock()
		return a.get.Get(a.ctx, f.cid)
	}
	for !f.done {
		a.waiting = f
		a.mu.Unlock()
		select {
		case <-a.came:
		case <-a.ctx.Done():
			return blockstore.Block{}, a.ctx.Err()
		}
		a.mu.Lock()
	}
	a.mu.Unlock()
	return f.block, f.err
}

// drop says that f is not wanted any more.
func (a *readAhead) drop(f *fetch) {
	a.mu.Lock()
	f.begun = true
	a.mu.Unlock()
}

// close ends what is being fetched and waits for it.
func (a *readAhead) close() {
	a.cancel()
	a.wg.Wait()
}

func (a *readAhead) work() {
	for f := a.next(nil); f != nil; f = a.next(f) {
		f.block, f.err = a.get.Get(a.ctx, f.cid)
	}
}

// next ends a worker's fetch and begins another; nil where there is none.
func (a *readAhead) next(ended *fetch) *fetch {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ended != nil {
		ended.done = true
		if a.waiting == ended {
			a.waiting = nil
			select {
			case a.came <- struct{}{}:
			default: // a take that the context ended has left one
			}
		}
	}
	for len(a.queue) > 0 && a.ctx.Err() == nil {
		f := a.queue[0]
		a.queue[0] = nil
		a.queue = a.queue[1:]
		if !f.begun {
			f.begun = true
			return f
		}
	}
	a.workers--
	return nil
}
