package node

import (
	"context"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/gateway"
	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// maxSites bounds the sites of others that the landing page is told of.
const maxSites = 1000

// policyTime is how long a page waits for a site's policy, which may be with its holders only.
const policyTime = time.Second

// siteInfo is what the gateway may know of sites.
type siteInfo struct{ n *Node }

var _ gateway.SiteInfo = siteInfo{}

func (s siteInfo) ByAlias(ctx context.Context, alias string) (naming.Name, bool) {
	site, err := s.n.state.SiteByAlias(ctx, alias)
	if err == nil {
		return site.Name, true
	}
	key, err := s.n.keys.Info(alias)
	return key.Name, err == nil
}

func (s siteInfo) Holders(ctx context.Context, name naming.Name) []string {
	pol, ok := s.policy(ctx, name)
	if !ok {
		return nil
	}
	var out []string
	for _, m := range pol.Roster {
		out = append(out, m.ID.String())
	}
	return out
}

// policy is the one that is in force for a name, as far as its records are known here.
func (s siteInfo) policy(ctx context.Context, name naming.Name) (replicate.Policy, bool) {
	rec := s.n.governing(ctx, name)
	if rec.IsZero() || !rec.Policy().Defined() {
		return replicate.Policy{}, false
	}
	from := blockstore.Getter(s.n.store)
	if s.n.p2p != nil {
		from = s.n.p2p.Blocks() // where what was read a moment ago still is
	}
	ctx, cancel := context.WithTimeout(ctx, policyTime)
	defer cancel()
	pol, err := replicate.ReadPolicy(ctx, from, rec.Policy())
	return pol, err == nil
}

// Sites is those published here, then those that are kept for others.
func (s siteInfo) Sites(ctx context.Context) []gateway.Site {
	sites, err := s.n.state.Sites(ctx)
	if err != nil {
		s.n.log.Warn("list sites", "err", err)
		return nil
	}
	seen := make(map[naming.Name]bool)
	out := make([]gateway.Site, 0, len(sites))
	for _, st := range sites {
		seen[st.Name] = true
		line := gateway.Site{Alias: st.Alias, Name: st.Name, Root: st.Root, Published: st.PublishedAt, Bytes: st.Bytes}
		if line.Proved, line.Wanted, err = s.n.author.CopiesOf(ctx, st); err != nil {
			s.n.log.Warn("count copies", "site", st.Alias, "err", err)
		}
		out = append(out, line)
	}
	names, err := s.n.state.FollowedNames(ctx)
	if err != nil {
		s.n.log.Warn("list pins", "err", err)
	}
	for _, name := range names[:min(len(names), maxSites)] {
		if !seen[name] {
			out = append(out, s.keptSite(ctx, name))
		}
	}
	return out
}

// keptSite is what the record of a site that is kept for others says, and the release that it names.
func (s siteInfo) keptSite(ctx context.Context, name naming.Name) gateway.Site {
	out := gateway.Site{Name: name}
	rec := s.n.governing(ctx, name)
	if rec.IsZero() {
		return out
	}
	out.Root, _ = rec.Root()
	if rel, err := merkle.ReadRelease(ctx, s.n.store, rec.Release()); err == nil {
		out.Published, out.Bytes = rel.Time, rel.Bytes
	}
	return out
}

// Copies is the author's evidence where the site was published here, else what
// this node's own audits and store say of those in the site's policy.
func (s siteInfo) Copies(ctx context.Context, name naming.Name, root cid.Cid) gateway.Copies {
	pol, known := s.policy(ctx, name)
	if st, err := s.n.author.Known(ctx, name); err == nil {
		return s.published(st, pol)
	}
	if !known {
		return gateway.Copies{}
	}
	seen, err := s.n.state.Sightings(ctx, name)
	if err != nil {
		s.n.log.Warn("look proofs up", "err", err)
	}
	here, err := s.n.holds(ctx, root)
	if err != nil {
		s.n.log.Warn("look a root up", "err", err)
	}
	out := gateway.Copies{Wanted: pol.Copies}
	for i, m := range pol.Roster {
		h := holder(m)
		h.Standby = i >= pol.Copies
		sight := seen[m.ID]
		h.Gone = !sight.Gone.IsZero() || sight.Trial.Convicted()
		if !h.Gone && sight.Proofs.Absent.IsZero() {
			h.Proved = sight.Proofs.Held
		}
		if s.n.p2p != nil && m.ID == s.n.p2p.ID() {
			h.Here, h.Keeps, h.Gone = true, here, false
		}
		if h.Keeps || !h.Proved.IsZero() {
			out.Proved++
		}
		out.Checked = out.Checked || h.Keeps || !sight.Proofs.Asked.IsZero()
		out.Holders = append(out.Holders, h)
	}
	return out
}

// published is what the author's flows know of a site's copies.
func (s siteInfo) published(st author.SiteStatus, pol replicate.Policy) gateway.Copies {
	members := make(map[string]gateway.Holder)
	for _, m := range pol.Roster {
		members[m.ID.String()] = holder(m)
	}
	out := gateway.Copies{Checked: true, Wanted: st.MinCopies, Proved: st.Proved}
	if st.SafeUntil != nil {
		out.SafeUntil = *st.SafeUntil
	}
	add := func(hosts []author.HostState, standby bool) {
		for _, hs := range hosts {
			h := members[hs.ID]
			h.ID, h.Label, h.Standby = hs.ID, hs.Name, standby
			h.Gone = hs.State == author.Unreachable || hs.State == author.Failed
			if hs.State == author.Proved && hs.VerifiedAt != nil {
				h.Proved = *hs.VerifiedAt
			}
			out.Holders = append(out.Holders, h)
		}
	}
	add(st.Hosts, false)
	add(st.Standbys, true)
	return out
}

// holder is a member of a roster, for readers.
func holder(m replicate.Member) gateway.Holder {
	h := gateway.Holder{ID: m.ID.String(), Label: m.Labels[replicate.LabelOperator]}
	if ai, err := m.AddrInfo(); err == nil && len(ai.Addrs) > 0 {
		if full, err := peer.AddrInfoToP2pAddrs(&ai); err == nil {
			h.Addr = full[0].String()
		}
	}
	return h
}
