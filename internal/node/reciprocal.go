package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/control"
	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/replicate"
)

// ReciprocalRequest answers a host's invite with one of ours: give and take.
type ReciprocalRequest struct {
	TokenRequest        // what their token is to be good for; its peer is theirs in any case
	Invite       string `json:"invite"`               // theirs
	SameQuota    bool   `json:"same_quota,omitempty"` // as many bytes as they give us, whatever the token's request says
}

// Format keeps the invite, which carries a token, out of whatever prints the request.
func (r ReciprocalRequest) Format(s fmt.State, _ rune) {
	io.WriteString(s, "reciprocal invite for "+r.Label)
}

// Reciprocal is an invite that answers another, and the host that it is for.
type Reciprocal struct {
	InviteResult
	Quota int64           `json:"quota_bytes"` // what they may have here; 0: no limit
	Host  author.HostInfo `json:"host"`        // one of ours now
}

// inviteReciprocal adds the host whose invite it is to ours, and invites it in turn, with as much room as it gives.
func (n *Node) inviteReciprocal(ctx context.Context, req ReciprocalRequest) (Reciprocal, error) {
	if err := n.mayInvite(); err != nil {
		return Reciprocal{}, err
	}
	theirs, err := replicate.ParseInvite(req.Invite)
	switch {
	case err != nil:
		return Reciprocal{}, control.Errorf(control.Usage, "%v", err)
	case theirs.Peer == n.p2p.ID():
		return Reciprocal{}, control.Errorf(control.Usage, "that is an invite to this host itself")
	case theirs.Answers == n.p2p.ID():
		return Reciprocal{}, control.Errorf(control.Usage, "that invite answers one of this host's: `holdfast host add` takes it up")
	}
	scope, err := n.scope(ctx, req.TokenRequest)
	if err != nil {
		return Reciprocal{}, err
	}
	if req.SameQuota {
		scope.Quota = theirs.Quota
	}
	scope.Peer = theirs.Peer
	out := Reciprocal{Quota: scope.Quota}
	if out.Host, err = n.addHost(ctx, author.HostRequest{Where: req.Invite}); err != nil {
		return out, err
	}
	out.InviteResult, err = n.inviteTo(ctx, req.Label, scope, func(inv *replicate.Invite) { inv.Answer(theirs) })
	return out, err
}

// linkAnswer takes note, where a host that was added answers an invite of ours, of whose token that one carried.
func (n *Node) linkAnswer(ctx context.Context, req author.HostRequest, info *author.HostInfo) error {
	inv, err := replicate.ParseInvite(req.Where)
	if err != nil || inv.Answers == "" {
		return nil // no invite, or nobody's answer
	}
	warn := func(text string) {
		if info.Warning != "" {
			text = info.Warning + "; " + text
		}
		info.Warning = text
	}
	if n.p2p == nil || inv.Answers != n.p2p.ID() {
		warn("it answers an invite of another host, " + inv.Answers.String() + ": nothing is balanced here")
		return nil
	}
	err = n.state.SetTokenPeer(ctx, inv.Answered, inv.Peer)
	if errors.Is(err, replicate.ErrNoToken) {
		warn("it answers an invite whose token is gone: nothing is balanced here")
		return nil
	}
	return err
}

// PeerBalance is what this host and another keep for each other.
type PeerBalance struct {
	Peer       string   `json:"peer"`
	Name       string   `json:"name"`             // as we call it; empty where it is none of our hosts
	Labels     []string `json:"labels"`           // of its tokens here
	ForThem    int64    `json:"for_them_bytes"`   // kept here for it, as for its tenants
	ForUs      int64    `json:"for_us_bytes"`     // of our sites' newest releases, proved by it
	Difference int64    `json:"difference_bytes"` // ForThem - ForUs: above 0 we give more
}

// balances is the balance with each host that gives room in return for a token, by name. used is what each tenant's pins take.
func (n *Node) balances(ctx context.Context, tokens []replicate.Token, used map[string]blockstore.Usage) ([]PeerBalance, error) {
	out := []PeerBalance{}
	at := map[peer.ID]int{}
	for _, t := range tokens {
		if t.Peer == "" {
			continue
		}
		i, ok := at[t.Peer]
		if !ok {
			i = len(out)
			at[t.Peer] = i
			out = append(out, PeerBalance{Peer: t.Peer.String()})
		}
		out[i].Labels = append(out[i].Labels, t.Label)
		out[i].ForThem += used[t.ID].Bytes
	}
	for id, i := range at {
		b := &out[i]
		h, err := n.state.Host(ctx, id)
		if err != nil && !errors.Is(err, state.ErrNotFound) {
			return nil, err
		}
		b.Name = h.Name
		if b.ForUs, err = n.keptAt(ctx, id); err != nil {
			return nil, err
		}
		b.Difference = b.ForThem - b.ForUs
	}
	slices.SortFunc(out, func(a, b PeerBalance) int { return strings.Compare(a.Name+a.Peer, b.Name+b.Peer) })
	return out, nil
}

// keptAt is how many bytes of our sites a host has proved to hold.
func (n *Node) keptAt(ctx context.Context, host peer.ID) (total int64, err error) {
	sites, err := n.state.Sites(ctx)
	if err != nil {
		return 0, err
	}
	for _, s := range sites {
		holdings, err := n.state.Holdings(ctx, s.Name)
		if err != nil {
			return 0, err
		}
		for _, h := range holdings {
			if h.Host == host && h.State == author.Proved {
				total += max(s.DAGBytes, s.Bytes)
			}
		}
	}
	return total, nil
}
