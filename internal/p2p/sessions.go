package p2p

import (
	"context"
	"sync"
	"time"

	"github.com/ipfs/boxo/exchange"
	blockformat "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// sessions gets blocks through one bitswap session after another. A session
// remembers who had blocks, which saves asking everybody about each one. An
// endless one would remember for ever, and one that has lost a want (boxo takes a busy
// peer for one that does not have the block, and may not ask it again) waits for
// ever: such a session is replaced, and what it still owed is asked for anew.
type sessions struct {
	start func(context.Context) exchange.Fetcher
	// life is how long a session is used; 0: as long as it works.
	life time.Duration
	// quiet is how long a session may bring nothing at all, patience how long one get
	// may take while others succeed (0: for ever), before it is replaced.
	quiet, patience time.Duration

	mu      sync.Mutex
	closed  bool
	current *openSession
}

// openSession is guarded by the mutex of its sessions.
type openSession struct {
	from     exchange.Fetcher
	cancel   context.CancelFunc
	born     time.Time
	received time.Time // the last block, or the first want after nobody wanted any
	users    int
	old      bool
}

// get waits for one block until ctx ends.
func (s *sessions) get(ctx context.Context, c cid.Cid) (blockformat.Block, error) {
	for {
		o, err := s.acquire()
		if err != nil {
			return nil, err
		}
		blk, again, err := s.attempt(ctx, o, c)
		s.release(o, err == nil, again)
		if !again {
			return blk, err
		}
	}
}

// attempt waits for the block as long as the session is worth waiting for.
func (s *sessions) attempt(ctx context.Context, o *openSession, c cid.Cid) (blk blockformat.Block, again bool, err error) {
	actx, cancel := context.WithCancel(ctx)
	defer cancel()
	begun := time.Now()
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		for {
			left := s.worth(o, begun)
			if left <= 0 {
				cancel()
				return
			}
			select {
			case <-actx.Done():
				return
			case <-time.After(left):
			}
		}
	}()
	blk, err = o.from.GetBlock(actx, c)
	given := actx.Err() != nil
	cancel()
	<-watching
	if err != nil && ctx.Err() != nil {
		// The caller's own end counts, also where ours came at the same moment.
		return nil, false, ctx.Err()
	}
	return blk, err != nil && given && !s.isClosed(), err
}

// worth is how much longer a get that has begun then should wait for the session.
func (s *sessions) worth(o *openSession, begun time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := s.quiet - time.Since(o.received)
	if s.patience > 0 {
		left = min(left, s.patience-time.Since(begun))
	}
	return left
}

func (s *sessions) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// acquire returns the session that is in use, or starts the next.
func (s *sessions) acquire() (*openSession, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, blockstore.ErrClosed
	}
	now := time.Now()
	if o := s.current; o != nil && s.life > 0 && now.Sub(o.born) > s.life {
		s.retire(o)
	}
	if s.current == nil {
		ctx, cancel := context.WithCancel(context.Background())
		s.current = &openSession{from: s.start(ctx), cancel: cancel, born: now}
	}
	if s.current.users == 0 {
		s.current.received = now
	}
	s.current.users++
	return s.current, nil
}

func (s *sessions) release(o *openSession, received, failed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if received {
		o.received = time.Now()
	}
	o.users--
	if failed && s.current == o {
		s.retire(o)
	}
	if o.old && o.users == 0 {
		o.cancel()
	}
}

// retire is called with mu held. Gets that wait for the session may still
// be answered by it.
func (s *sessions) retire(o *openSession) {
	s.current, o.old = nil, true
	if o.users == 0 {
		o.cancel()
	}
}

// close ends the session. Gets that wait fail.
func (s *sessions) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if o := s.current; o != nil {
		s.retire(o)
		o.cancel()
	}
}
