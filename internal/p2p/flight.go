package p2p

import (
	"context"

	"github.com/ipfs/go-cid"

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
