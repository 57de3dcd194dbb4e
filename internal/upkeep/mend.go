package upkeep

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// flight is a block on its way. b and err are set when done is closed.
type flight struct {
	done chan struct{}
	b    blockstore.Block
	err  error
}

// vainTry remembers that nobody had a block.
type vainTry struct {
	err   error
	again time.Time // when it may be worth another try
	wait  time.Duration
}

// How long a block that nobody has is left alone: longer each time.
const (
	firstWait = time.Minute
	lastWait  = time.Hour
	maxVain   = 4096 // blocks remembered so
)

// Mend brings a block from a replica and puts it, durably, in the place of the
// damaged one. Whoever asks for the same block meanwhile gets it too. A block that nobody
// had is not asked for again for a while: the error is the same then.
func (c *Caretaker) Mend(ctx context.Context, id cid.Cid) (blockstore.Block, error) {
	key := string(id.Hash())
	for {
		c.mu.Lock()
		if v, ok := c.vain[key]; ok && time.Now().Before(v.again) {
			c.mu.Unlock()
			return blockstore.Block{}, v.err
		}
		f, ok := c.flights[key]
		if !ok {
			f = &flight{done: make(chan struct{})}
			c.flights[key] = f
			c.mu.Unlock()
			f.b, f.err = c.bring(ctx, id)
			c.mu.Lock()
			delete(c.flights, key)
			c.mu.Unlock()
			close(f.done)
			return f.b, f.err
		}
		c.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return blockstore.Block{}, ctx.Err()
		}
		// The reader who fetched it may have gone away: then it is our turn.
		if f.err == nil || !errors.Is(f.err, context.Canceled) {
			return f.b.As(id), f.err
		}
	}
}

// bring fetches a block and puts it back.
func (c *Caretaker) bring(ctx context.Context, id cid.Cid) (blockstore.Block, error) {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return blockstore.Block{}, ctx.Err()
	}
	b, err := c.fetch(ctx, id)
	if err == nil {
		err = c.putBack(ctx, b)
	}
	if errors.Is(err, errOffline) {
		return b, err // which may change at once, and needs no log
	}
	switch {
	case err == nil:
		c.forgive(id)
		c.log.Info("mended a block from a replica", "cid", id)
	case ctx.Err() == nil:
		c.remember(id, err)
		c.log.Warn("a damaged block could not be mended", "cid", id, "err", err)
	}
	return b, err
}

// meetDelay is how long a block may take before those are looked up and
// connected to who are likely to have it: the usual case is that somebody connected has it.
const meetDelay = 300 * time.Millisecond

// fetch gets a block from the network.
func (c *Caretaker) fetch(ctx context.Context, id cid.Cid) (blockstore.Block, error) {
	n := c.cfg.Network()
	if n == nil {
		return blockstore.Block{}, errOffline
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.Patience, fmt.Errorf("nobody sent it within %v", c.cfg.Patience))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		select {
		case <-time.After(meetDelay):
			c.meetSources(ctx, n, id)
		case <-ctx.Done():
		}
	})
	return n.Remote().Get(ctx, id)
}

// meetSources connects to those who are likely to have a block.
func (c *Caretaker) meetSources(ctx context.Context, n Network, id cid.Cid) {
	found := newFindings()
	found.of(id)
	if err := c.tellNeeds(ctx, found); err != nil {
		if ctx.Err() == nil {
			c.log.Warn("who keeps a damaged block", "cid", id, "err", err)
		}
		return
	}
	c.connect(ctx, n, found.owners())
}

func (c *Caretaker) putBack(ctx context.Context, b blockstore.Block) (err error) {
	s, err := c.cfg.Store.Begin(ctx, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if _, err := s.Put(ctx, b); err != nil {
		return err
	}
	return s.Sync(ctx)
}

func (c *Caretaker) remember(id cid.Cid, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.vain) >= maxVain {
		clear(c.vain)
	}
	v := c.vain[string(id.Hash())]
	v.err, v.wait = err, min(max(2*v.wait, firstWait), lastWait)
	v.again = time.Now().Add(v.wait)
	c.vain[string(id.Hash())] = v
}

func (c *Caretaker) forgive(id cid.Cid) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.vain, string(id.Hash()))
}

// inVain tells whether nobody had the block a moment ago.
func (c *Caretaker) inVain(id cid.Cid) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.vain[string(id.Hash())]
	return ok && time.Now().Before(v.again)
}

// Noticing is the store for whoever has other ways to a block that is damaged
// here: a read that meets one fails at once, and Serve mends it.
func (c *Caretaker) Noticing() blockstore.Store {
	return watched{c.cfg.Store, func(_ context.Context, _ cid.Cid, err error) (blockstore.Block, error) {
		select {
		case c.notice <- struct{}{}:
		default: // Serve is about to look anyway
		}
		return blockstore.Block{}, err
	}}
}

// Mending is the store for whoever has no other way: a read that meets a damaged
// block waits until it is mended, and gets the good bytes. Where that can't be
// done the error is the store's.
func (c *Caretaker) Mending() blockstore.Store {
	return watched{c.cfg.Store, func(ctx context.Context, id cid.Cid, err error) (blockstore.Block, error) {
		b, merr := c.Mend(ctx, id)
		switch {
		case merr == nil:
			return b, nil
		case ctx.Err() != nil:
			return b, ctx.Err()
		}
		return b, err // why it could not be mended is in the log
	}}
}

// watched is a store whose damaged blocks are somebody's business.
type watched struct {
	blockstore.Store
	damaged func(ctx context.Context, id cid.Cid, err error) (blockstore.Block, error)
}

// Get implements blockstore.Getter.
func (w watched) Get(ctx context.Context, id cid.Cid) (blockstore.Block, error) {
	b, err := w.Store.Get(ctx, id)
	if errors.Is(err, blockstore.ErrCorrupt) {
		return w.damaged(ctx, id, err)
	}
	return b, err
}

// GetMany implements blockstore.Store.
func (w watched) GetMany(ctx context.Context, cids []cid.Cid) iter.Seq2[blockstore.Block, error] {
	return func(yield func(blockstore.Block, error) bool) {
		for _, id := range cids {
			b, err := w.Get(ctx, id)
			if !yield(b, err) || err != nil {
				return
			}
		}
	}
}
