package blockstore

import (
	"context"
	"fmt"
	"sync"

	"github.com/ipfs/go-cid"
)

// running counts the calls in progress, so that Close can wait for them and
// later ones get ErrClosed. Unlike a read-write lock it may be entered again
// by a call that is in already (a loop over an enumeration that gets blocks)
// while Close waits.
type running struct {
	mu      sync.Mutex
	calls   int
	closing bool
	idle    chan struct{} // closed when closing and calls == 0
}

func (r *running) enter() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closing {
		return ErrClosed
	}
	r.calls++
	return nil
}

func (r *running) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls--
	if r.closing && r.calls == 0 {
		close(r.idle)
	}
}

// close waits for the calls in progress. It is false where it was called before.
func (r *running) close() bool {
	r.mu.Lock()
	if r.closing {
		r.mu.Unlock()
		return false
	}
	r.closing = true
	r.idle = make(chan struct{})
	if r.calls == 0 {
		close(r.idle)
	}
	r.mu.Unlock()
	<-r.idle
	return true
}

// turn is a mutex whose taking can be given up.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turn) give() { <-t }

// MaxName is the largest owner or session id, in bytes.
const MaxName = 256

func checkName(what, name string) error {
	if len(name) > MaxName {
		return fmt.Errorf("%w: %s of %d bytes is longer than %d", ErrRefused, what, len(name), MaxName)
	}
	return nil
}

func checkOwner(owner string) error {
	if owner == "" {
		return fmt.Errorf("%w: the empty owner can't keep anything", ErrRefused)
	}
	return checkName("owner", owner)
}

func notFound(c cid.Cid) error { return &BlockError{CID: c, Kind: ErrNotFound} }

// inDAG collects what Keep is told, checked, and insists that the root is part of it.
func inDAG(ctx context.Context, root cid.Cid, cids func(func(cid.Cid) bool)) ([]cid.Cid, error) {
	if err := CheckCID(root); err != nil {
		return nil, err
	}
	var (
		all     []cid.Cid
		hasRoot bool
		bad     error
	)
	for c := range cids {
		if len(all)%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if bad = CheckCID(c); bad != nil {
			return nil, bad
		}
		hasRoot = hasRoot || c == root
		all = append(all, c)
	}
	if err := ctx.Err(); err != nil {
		return nil, ctx.Err()
	}
	if !hasRoot {
		return nil, &BlockError{CID: root, Kind: ErrRefused, Err: fmt.Errorf("a root must be among the %d blocks of its DAG", len(all))}
	}
	return all, nil
}
