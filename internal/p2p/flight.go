package p2p

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// flight is a block that is under way. What it came to may be read once it is over.
type flight struct {
	over  chan struct{}
	block blockstore.Block
	ok    bool // it came
	left  bool // whoever asked for it has gone meanwhile, which says nothing about the block
}

// get is race, for any number of readers who want a block at the same time: a film that becomes
// known is not to cost its holders their uplink once for each who watches.
func (l *lanes) get(ctx context.Context, root, c cid.Cid, said *answers) (_ blockstore.Block, ok bool) {
	for {
		l.mu.Lock()
		f := l.flights[c]
		if f == nil {
			f = &flight{over: make(chan struct{})}
			l.flights[c] = f
			l.mu.Unlock()
			return l.fly(ctx, f, root, c, said)
		}
		l.mu.Unlock()
		select {
		case <-f.over:
			if !f.left {
				return f.block, f.ok
			}
		case <-ctx.Done():
			return blockstore.Block{}, false
		}
	}
}

func (l *lanes) fly(ctx context.Context, f *flight, root, c cid.Cid, said *answers) (blockstore.Block, bool) {
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.flights, c)
		close(f.over)
	}()
	f.block, f.ok = l.race(ctx, root, c, said)
	f.left = !f.ok && ctx.Err() != nil
	return f.block, f.ok
}

// try is one peer being asked for a block.
type try struct {
	id    peer.ID
	moved atomic.Bool // bytes have come since it was last looked at
	block blockstore.Block
	err   error
}

// race fetches a block from whoever has something under root. Not ok where bitswap is to do it.
func (l *lanes) race(ctx context.Context, root, c cid.Cid, said *answers) (_ blockstore.Block, ok bool) {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithTimeout(ctx, laneWhole)
	defer cancel()
	looks, look := 0, time.NewTicker(laneQuiet)
	defer look.Stop()
	tried, done := map[peer.ID]bool{}, make(chan *try, laneTries)
	var newest *try
	next := func() bool {
		if len(tried) == laneTries {
			return false
		}
		id := l.take(root, tried)
		if id == "" {
			return false
		}
		t := &try{id: id}
		tried[id], newest, looks = true, t, 0
		look.Reset(laneQuiet)
		wg.Go(func() {
			t.block, t.err = l.ask(ctx, id, c, func(bytes int) {
				t.moved.Store(true)
				l.moved(id, bytes)
				said.gave(id, int64(bytes))
			})
			if t.err != nil && ctx.Err() != nil {
				t.err = context.Canceled
			}
			l.ended(root, id, t.err)
			done <- t
		})
		return true
	}
	if !next() {
		return blockstore.Block{}, false
	}
	running := 1
	for {
		select {
		case t := <-done:
			if t.err == nil {
				return t.block, true
			}
			said.note(t.id, "%v", t.err)
			if running--; next() {
				running++
			} else if running == 0 {
				return blockstore.Block{}, false
			}
		case <-look.C:
			if looks++; newest.moved.Swap(false) && looks < lanePatience {
				continue
			}
			l.stalls(newest.id)
			if !next() {
				return blockstore.Block{}, false
			}
			running++
		case <-ctx.Done():
			return blockstore.Block{}, false
		}
	}
}
