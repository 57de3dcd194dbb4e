package node

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/control"
	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// followEvery is how often the names that are followed for their own sake are looked up. News of them comes sooner, by push.
const followEvery = time.Minute

// FollowRequest asks that a name be kept alive here, and perhaps the site's content too.
type FollowRequest struct {
	Address string `json:"address"` // a name, an alias or a domain
	// Keep is of how many of its roots, newest first, the content is kept too; 0: none. Nil: as many as before, for a
	// name that is new here none, or replicate.DefaultKeep where Quota is given.
	Keep *int `json:"keep,omitempty"`
	// Quota is how many unique bytes that may take; 0: the node's limit for a pin. Nil: as before.
	Quota *int64 `json:"quota,omitempty"`
	// NoWait comes back without waiting for the content.
	NoWait bool `json:"no_wait,omitempty"`
}

// Follow is a name that this node keeps alive, though it is no site's of its own and no tenant's pin.
type Follow struct {
	Name string `json:"name"`
	Root string `json:"root,omitempty"` // where it leads, as far as is known here
	// Of a copy:
	Keep      int        `json:"keep"`                 // roots whose content is wanted here; 0: only the record
	Quota     int64      `json:"quota_bytes"`          // 0: the node's limit for a pin
	State     string     `json:"state"`                // record, waiting, behind, whole
	Held      string     `json:"held,omitempty"`       // the newest root that is here, every block verified
	Bytes     int64      `json:"bytes"`                // unique, of all that is kept of it here
	Done      int64      `json:"bytes_done,omitempty"` // of a fetch that goes on
	LastError string     `json:"last_error,omitempty"`
	NextTry   *time.Time `json:"next_try"`
}

// The states of a Follow.
const (
	FollowRecord  = "record"  // only the record is kept, as was asked
	FollowWaiting = "waiting" // nothing of the content is here yet
	FollowBehind  = "behind"  // a release before the newest is here
	FollowWhole   = "whole"   // the newest release is here
)

// Follows is the list, as an object.
type Follows struct {
	Follows []Follow `json:"follows"`
}

// followName adds a name, or changes how much of it is kept, and waits until what is wanted is here or has failed once.
func (n *Node) followName(ctx context.Context, req FollowRequest, report func(author.Event)) (Follow, error) {
	name, err := n.author.NameOf(ctx, req.Address)
	if err != nil {
		return Follow{}, err
	}
	want, err := n.wantCopy(ctx, name, req)
	if err != nil {
		return Follow{}, err
	}
	n.lookUpFollowed(ctx, name)
	if n.tendsCopies() {
		if err := n.tendCopies(ctx); err != nil {
			return Follow{}, err
		}
		if want.Keep > 0 && !req.NoWait {
			return n.untilWhole(ctx, want, report)
		}
	}
	return n.followState(ctx, want)
}

// wantCopy writes down what a request asks for; another at the same moment goes on from there.
func (n *Node) wantCopy(ctx context.Context, name naming.Name, req FollowRequest) (state.Follow, error) {
	n.tending.Lock()
	defer n.tending.Unlock()
	want, err := n.wantedCopy(ctx, name, req)
	if err != nil {
		return want, err
	}
	return want, n.state.FollowCopy(ctx, name, want.Keep, want.Quota)
}

// wantedCopy is what a request asks for, on top of what was asked for before.
func (n *Node) wantedCopy(ctx context.Context, name naming.Name, req FollowRequest) (state.Follow, error) {
	f, err := n.state.FollowOf(ctx, name)
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return f, err
	}
	f.Name = name
	switch {
	case req.Keep != nil:
		f.Keep = *req.Keep
	case req.Quota != nil && f.Keep == 0:
		f.Keep = replicate.DefaultKeep
	}
	if req.Quota != nil {
		f.Quota = *req.Quota
	}
	switch most := n.maxPinBytes(); {
	case f.Keep < 0 || f.Keep > replicate.MaxKeep:
		return f, control.Errorf(control.Usage, "a copy is of 1 to %d releases, or 0 for the record alone, not %d", replicate.MaxKeep, f.Keep)
	case f.Quota < 0 || f.Quota > most:
		return f, control.Errorf(control.Usage, "a quota is at most %d bytes here, not %d; pins.max_pin_bytes in config.toml raises that", most, f.Quota)
	}
	return f, nil
}

// unfollowName takes a name away, and gives back the space of its copy; one that isn't followed is no error.
func (n *Node) unfollowName(ctx context.Context, p Address) (Follow, error) {
	name, err := n.author.NameOf(ctx, p.Address)
	if err != nil {
		return Follow{}, err
	}
	if err := n.state.Unfollow(ctx, name); err != nil {
		return Follow{}, err
	}
	return Follow{Name: name.String()}, n.dropCopies(ctx)
}

// listFollows lists the names, with where they lead as far as is known here, and what is held of them.
func (n *Node) listFollows(ctx context.Context, _ struct{}) (Follows, error) {
	all, err := n.state.Follows(ctx)
	out := Follows{Follows: []Follow{}}
	for _, f := range all {
		one, err := n.followState(ctx, f)
		if err != nil {
			return out, err
		}
		out.Follows = append(out.Follows, one)
	}
	return out, err
}

// lookUpFollowed finds a name's record, which is kept and put back from then on, and has this node told of the next.
func (n *Node) lookUpFollowed(ctx context.Context, name naming.Name) {
	if _, _, err := (follower{n}).Follow(ctx, name); err != nil {
		n.log.Info("a followed name is not found", "name", name, "err", err)
	}
}

// serveFollows looks up what is followed, and sees to the copies, again and again, until ctx ends.
func (n *Node) serveFollows(ctx context.Context) error {
	t := time.NewTicker(followEvery)
	defer t.Stop()
	for {
		if err := n.tendCopies(ctx); err != nil && ctx.Err() == nil {
			n.log.Warn("copies of followed names", "err", err)
		}
		all, err := n.state.Follows(ctx)
		if err != nil && ctx.Err() == nil {
			n.log.Warn("list followed names", "err", err)
		}
		for _, f := range all {
			if ctx.Err() == nil {
				n.lookUpFollowed(ctx, f.Name)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}
