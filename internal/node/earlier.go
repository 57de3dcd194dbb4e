package node

import (
	"context"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/gateway"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

const (
	maxEarlier   = 4096             // names
	earlierAgain = 10 * time.Second // before blocks are asked for again that could not be had
)

// earlier tells the gateway what a name led to before: by the release that the
// record names, for as long as the policy allows. It knows the names that readers have asked for.
type earlier struct {
	blocks blockstore.Getter
	now    func() time.Time

	mu    sync.Mutex
	names map[naming.Name]*earlierName
}

var _ gateway.Earlier = (*earlier)(nil)

// earlierName is what is known of one name.
type earlierName struct {
	release, policy cid.Cid
	// since is when the name was seen to move to the release; zero where it led there from the first.
	since time.Time

	known  bool      // what follows was worked out from release and policy
	before cid.Cid   // undefined where there is none
	until  time.Time // zero: over
	retry  time.Time // where it could not be worked out
}

// saw takes note of where a name leads.
func (e *earlier) saw(name naming.Name, chain []naming.Resolution) {
	release, policy := chain[len(chain)-1].Record.Release(), naming.Governing(chain).Policy()
	e.mu.Lock()
	defer e.mu.Unlock()
	at := e.names[name]
	switch {
	case at == nil:
		if e.names == nil || len(e.names) >= maxEarlier {
			e.names = make(map[naming.Name]*earlierName)
		}
		e.names[name] = &earlierName{release: release, policy: policy}
	case at.release != release:
		*at = earlierName{release: release, policy: policy, since: e.now()}
	case at.policy != policy:
		*at = earlierName{release: release, policy: policy, since: at.since}
	}
}

// Before implements gateway.Earlier.
func (e *earlier) Before(ctx context.Context, name naming.Name, root cid.Cid) (before cid.Cid, until time.Time, ok bool) {
	e.mu.Lock()
	at := e.names[name]
	if at == nil || !at.release.Defined() || !at.policy.Defined() || !at.known && e.now().Before(at.retry) {
		e.mu.Unlock()
		return cid.Undef, time.Time{}, false
	}
	was := *at
	e.mu.Unlock()
	if !was.known {
		was = e.workOut(ctx, was, root)
		e.mu.Lock()
		if at.release == was.release && at.policy == was.policy && !at.known {
			*at = was
		}
		e.mu.Unlock()
	}
	return was.before, was.until, was.known && was.before.Defined() && e.now().Before(was.until)
}

// workOut reads the release, the one before it, and the policy.
func (e *earlier) workOut(ctx context.Context, at earlierName, root cid.Cid) earlierName {
	blocks, now := e.blocks, e.now()
	at.retry = now.Add(earlierAgain)
	policy, err := replicate.ReadPolicy(ctx, blocks, at.policy)
	if err != nil {
		return at
	}
	newest, err := merkle.ReadRelease(ctx, blocks, at.release)
	if err != nil || !newest.Root.Equals(root) {
		return at
	}
	if policy.Grace == 0 || !newest.Previous.Defined() {
		at.known = true
		return at
	}
	previous, err := merkle.ReadRelease(ctx, blocks, newest.Previous)
	if err != nil {
		return at
	}
	at.known = true
	if previous.Root.Equals(newest.Root) { // what was before that, an earlier policy may have taken back
		return at
	}
	start := at.since
	if start.IsZero() { // it says itself when it was made, and an author's clock may be ahead
		if start = newest.Time; start.After(now) {
			start = now
		}
	}
	at.before, at.until = previous.Root, start.Add(policy.Grace)
	return at
}
