package node

import (
	"context"
	"sync"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
)

// rosters is who holds the site of a name, by the policies that are known here: that of its own record, or of the name
// that it has moved to, and those of the records that lead to it.
func (n *Node) rosters(name naming.Name) []peer.AddrInfo {
	if n.p2p == nil || name.IsZero() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	leading, err := n.state.PointingAt(ctx, name)
	if err != nil {
		n.log.Warn("look a name up", "err", err)
	}
	var out []peer.AddrInfo
	seen := map[peer.ID]bool{}
	for _, at := range append([]naming.Name{name}, leading...) {
		rec := n.governing(ctx, at)
		if rec.IsZero() {
			continue
		}
		for _, ai := range n.holders.of(ctx, rec.Policy()) {
			if !seen[ai.ID] {
				seen[ai.ID] = true
				out = append(out, ai)
			}
		}
	}
	return out
}

// governing is the kept record of a name, or of the one that it has moved to; the zero record where none is kept.
func (n *Node) governing(ctx context.Context, name naming.Name) naming.Record {
	for range naming.MaxHops {
		rec, err := n.state.Best(ctx, name)
		if err != nil {
			return naming.Record{}
		}
		if !rec.IsLast() {
			return rec
		}
		name, _ = rec.Target()
	}
	return naming.Record{}
}

// rosterCache remembers the rosters of policies, which never change. Its zero value needs a reader.
type rosterCache struct {
	read func(context.Context, cid.Cid) (replicate.Policy, error) // from what is here, asking nobody

	mu    sync.Mutex
	known map[cid.Cid][]peer.AddrInfo
}

// maxRosters bounds the rosters that are remembered.
const maxRosters = 4096

// of is a policy's roster; nil where the policy is not known here.
func (c *rosterCache) of(ctx context.Context, policy cid.Cid) []peer.AddrInfo {
	if !policy.Defined() {
		return nil
	}
	c.mu.Lock()
	infos, ok := c.known[policy]
	c.mu.Unlock()
	if ok {
		return infos
	}
	pol, err := c.read(ctx, policy)
	if err != nil {
		return nil
	}
	return c.learn(policy, pol)
}

// learn remembers a policy's roster. Members whose addresses can't be read are left out.
func (c *rosterCache) learn(policy cid.Cid, pol replicate.Policy) (infos []peer.AddrInfo) {
	for _, m := range pol.Roster {
		if ai, err := m.AddrInfo(); err == nil {
			infos = append(infos, ai)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= maxRosters {
		c.known = map[cid.Cid][]peer.AddrInfo{}
	}
	c.known[policy] = infos
	return infos
}
