package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"golang.org/x/sync/singleflight"

	"github.com/holdfast-sites/holdfast/naming"
)

const (
	// confirmDeadline is how long a host asks others for a better record of a name that it keeps, once after its start.
	confirmDeadline = 3 * time.Second
	// confirmWindow is for how long after its start a host asks again at once those holders that did not answer: they may
	// find it sooner than it finds them. confirmPause is between two askings.
	confirmWindow = 5 * time.Second
	confirmPause  = 100 * time.Millisecond
	// confirmAgain is how soon it does so again where nobody could be asked.
	confirmAgain = 30 * time.Second
)

// confirmedBest is the best record that is kept of a name, after others were asked for a better one.
func (n *Node) confirmedBest(ctx context.Context, name naming.Name) (naming.Record, error) {
	n.confirm(ctx, name)
	if err := ctx.Err(); err != nil { // before anybody could be asked, perhaps
		return naming.Record{}, err
	}
	return n.state.Best(ctx, name)
}

// confirm asks others for a better record of a name that this node keeps alive, once after its start: what it kept may
// come from an old copy of the disk, and a host never hands an older record on. Right after the start it waits a little
// for those that can't be reached yet, since one that answers may be as far behind. Where nobody answers, it is done
// again later, and what is kept is handed on meanwhile: this may be the last holder.
func (n *Node) confirm(ctx context.Context, name naming.Name) {
	if n.p2p == nil || n.confirmed.has(name, time.Now()) || !n.followed(name) {
		return
	}
	asked := n.confirmed.flight.DoChan(name.String(), func() (any, error) {
		n.confirmed.put(name, n.askToConfirm(context.WithoutCancel(ctx), name), time.Now())
		return nil, nil
	})
	select {
	case <-asked:
	case <-ctx.Done():
	}
}

// askToConfirm tells whether somebody has answered.
func (n *Node) askToConfirm(ctx context.Context, name naming.Name) (reached bool) {
	for {
		res, heard, err := n.confirmed.resolver.ResolveFresh(ctx, name)
		reached = reached || heard
		answers := res.Answers
		if failed, ok := errors.AsType[*naming.ResolveError](err); ok {
			answers = failed.Answers
		}
		if n.peersAnswered(answers) || time.Since(n.confirmed.began) > confirmWindow {
			return reached
		}
		select {
		case <-time.After(confirmPause):
		case <-n.confirmed.closed:
			return reached
		}
	}
}

// peersAnswered tells whether each peer that was asked has said what it keeps.
func (n *Node) peersAnswered(answers []naming.Answer) bool {
	for _, a := range answers {
		switch {
		case a.Source == n.p2p.NameRouting().String(), a.Err == nil, errors.Is(a.Err, naming.ErrNotFound), errors.Is(a.Err, naming.ErrOlder), errors.Is(a.Err, naming.ErrExpired):
		default:
			return false
		}
	}
	return true
}

// confirmChain confirms what was followed, and tells whether that was still to be done for any of it: then there may be
// something better now.
func (n *Node) confirmChain(ctx context.Context, chain []naming.Resolution) (anew bool) {
	if n.p2p == nil {
		return false
	}
	for _, r := range chain {
		if name := r.Record.Name(); !n.confirmed.has(name, time.Now()) && n.followed(name) {
			n.confirm(ctx, name)
			anew = true
		}
	}
	return anew
}

// confirmations is the names of which a better record was asked for since the start.
type confirmations struct {
	resolver *naming.Resolver // asks for what others keep
	began    time.Time        // the start
	closed   chan struct{}
	flight   singleflight.Group

	mu    sync.Mutex
	until map[naming.Name]time.Time // zero: for good
}

// close ends what is being asked.
func (c *confirmations) close() {
	close(c.closed)
	c.resolver.Close()
}

func (c *confirmations) has(name naming.Name, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	until, ok := c.until[name]
	return ok && (until.IsZero() || now.Before(until))
}

func (c *confirmations) put(name naming.Name, reached bool, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.until == nil {
		c.until = map[naming.Name]time.Time{}
	}
	if reached {
		c.until[name] = time.Time{}
	} else {
		c.until[name] = now.Add(confirmAgain)
	}
}

// followConfirmed is Follow of the resolver, with each record of the chain confirmed that this node keeps alive.
func (n *Node) followConfirmed(ctx context.Context, name naming.Name) ([]naming.Resolution, cid.Cid, error) {
	chain, root, err := n.resolver.Follow(ctx, name)
	for err == nil && n.confirmChain(ctx, chain) { // ends: each name of a chain is confirmed once
		if ctx.Err() != nil {
			return nil, cid.Undef, fmt.Errorf("%w: %w", naming.ErrUnavailable, ctx.Err())
		}
		chain, root, err = n.resolver.Follow(ctx, name)
	}
	return chain, root, err
}
