package node

import (
	"context"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
)

// followEvery is how often the names that are followed for their own sake are looked up. News of them comes sooner, by push.
const followEvery = time.Minute

// Follow is a name that this node keeps alive, though it is no site's of its own and no pin's.
type Follow struct {
	Name string `json:"name"`
	Root string `json:"root,omitempty"` // where it leads, as far as is known here
}

// Follows is the list, as an object.
type Follows struct {
	Follows []Follow `json:"follows"`
}

// followName adds a name.
func (n *Node) followName(ctx context.Context, p Address) (Follow, error) {
	name, err := n.author.NameOf(ctx, p.Address)
	if err != nil {
		return Follow{}, err
	}
	if err := n.state.Follow(ctx, name); err != nil {
		return Follow{}, err
	}
	return n.lookUpFollowed(ctx, name), nil
}

// unfollowName takes a name away; one that isn't followed is no error.
func (n *Node) unfollowName(ctx context.Context, p Address) (Follow, error) {
	name, err := n.author.NameOf(ctx, p.Address)
	if err != nil {
		return Follow{}, err
	}
	return Follow{Name: name.String()}, n.state.Unfollow(ctx, name)
}

// listFollows lists the names, with where they lead as far as is known here.
func (n *Node) listFollows(ctx context.Context, _ struct{}) (Follows, error) {
	names, err := n.state.Follows(ctx)
	out := Follows{Follows: []Follow{}}
	for _, name := range names {
		f := Follow{Name: name.String()}
		if rec, err := n.state.Best(ctx, name); err == nil {
			if root, ok := rec.Root(); ok {
				f.Root = root.String()
			}
		}
		out.Follows = append(out.Follows, f)
	}
	return out, err
}

// lookUpFollowed finds a name's record, which is kept and put back from then on, and has this node told of the next.
func (n *Node) lookUpFollowed(ctx context.Context, name naming.Name) Follow {
	out := Follow{Name: name.String()}
	_, root, err := follower{n}.Follow(ctx, name)
	if err != nil {
		n.log.Info("a followed name is not found", "name", name, "err", err)
		return out
	}
	out.Root = root.String()
	return out
}

// serveFollows looks up what is followed, again and again, until ctx ends.
func (n *Node) serveFollows(ctx context.Context) error {
	t := time.NewTicker(followEvery)
	defer t.Stop()
	for {
		names, err := n.state.Follows(ctx)
		if err != nil && ctx.Err() == nil {
			n.log.Warn("list followed names", "err", err)
		}
		for _, name := range names {
			if ctx.Err() == nil {
				n.lookUpFollowed(ctx, name)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}
