package author

import (
	"context"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// rootOf is the record's root; undefined for no record and for one that points
// at another name.
func rootOf(r naming.Record) cid.Cid {
	if r.IsZero() {
		return cid.Undef
	}
	c, _ := r.Root()
	return c
}

// releaseOf is the release that the record names; undefined for no record and
// for one by another tool.
func releaseOf(r naming.Record) cid.Cid {
	if r.IsZero() {
		return cid.Undef
	}
	return r.Release()
}

// sign is step 8: policy and record, written down here before anybody else
// sees them, then handed to the hosts and to routing.
func (a *Author) sign(ctx context.Context, p *publication) error {
	s := naming.Statement{
		Value: "/ipfs/" + p.built.Root.String(), Release: p.relCID, Recovery: p.signer.Recovery(),
		TTL: p.req.TTL, ValidUntil: a.Now().Add(p.lifetime()),
	}
	s, err := naming.Next(p.best, s)
	if err != nil {
		return err
	}
	if err := a.writePolicy(ctx, p, s.ValidUntil); err != nil {
		return err
	}
	s.Policy = p.policy
	if err := keepAll(ctx, p.session, owner(p.name), p.built.Root, p.built.CIDs); err != nil {
		return err
	}
	rec, err := p.signer.Sign(s)
	if err != nil {
		return err
	}
	if err := a.writeDown(ctx, p, rec); err != nil {
		return err
	}
	a.Resolver.Accepted(rec)
	a.Signed(rec)
	p.record = rec
	p.report(Event{Step: "sign", Message: fmt.Sprintf("sequence %d, valid until %s", rec.Sequence(), rec.ValidUntil().Format(time.DateOnly))})
	return nil
}

func (p *publication) lifetime() time.Duration {
	if p.req.Lifetime > 0 {
		return p.req.Lifetime
	}
	return naming.DefaultLifetime
}

func (p *publication) keep() int {
	switch {
	case p.req.NoGrace:
		return 1
	case p.req.Keep > 0:
		return p.req.Keep
	}
	return DefaultKeep
}

func (p *publication) grace() time.Duration {
	switch {
	case p.req.NoGrace:
		return 0
	case p.req.Grace != nil:
		return *p.req.Grace
	}
	return DefaultGrace
}

// writePolicy puts holders and standbys, in the plan's order, into the roster.
func (a *Author) writePolicy(ctx context.Context, p *publication, expires time.Time) error {
	pol := replicate.Policy{Copies: p.copies, Availability: DefaultAvailability, Keep: p.keep(), Grace: p.grace(), Expires: expires}
	if p.relCID.Equals(releaseOf(p.best)) && p.best.Policy().Defined() { // the same release once more: what it has taken back stays so
		if before, err := replicate.ReadPolicy(ctx, a.blocks(), p.best.Policy()); err == nil {
			pol.Grace = min(pol.Grace, before.Grace)
		}
	}
	for _, id := range append(append([]peer.ID{}, p.placed.order...), p.placed.standby...) {
		if len(pol.Roster) == replicate.MaxRoster {
			break
		}
		h := p.placed.hosts[id]
		pol.Roster = append(pol.Roster, replicate.Member{ID: id, Addrs: bareAddrs(h.Addrs), URL: h.URL, Labels: h.Labels})
	}
	var err error
	p.policy, err = a.putPolicy(ctx, p, pol)
	return err
}

// putPolicy keeps a policy here.
func (a *Author) putPolicy(ctx context.Context, p *publication, pol replicate.Policy) (cid.Cid, error) {
	block, err := replicate.EncodePolicy(pol)
	if err != nil {
		return cid.Undef, err
	}
	if _, err := p.session.Put(ctx, block); err != nil {
		return cid.Undef, err
	}
	return block.Cid(), a.keepBlock(ctx, p, block.Cid())
}

// bareAddrs are the addresses as a roster holds them: without /p2p/ID, at most 16.
func bareAddrs(addrs []string) []string {
	out := []string{}
	for _, s := range addrs {
		m, err := ma.NewMultiaddr(s)
		if err != nil {
			continue
		}
		if bare, _ := peer.SplitAddr(m); bare != nil && len(out) < 16 {
			out = append(out, bare.String())
		}
	}
	return out
}

// addrInfo is where a host is dialled.
func addrInfo(h state.Host) (peer.AddrInfo, error) {
	ai := peer.AddrInfo{ID: h.ID}
	for _, s := range bareAddrs(h.Addrs) {
		m, err := ma.NewMultiaddr(s)
		if err != nil {
			return ai, err
		}
		ai.Addrs = append(ai.Addrs, m)
	}
	return ai, nil
}

// writeDown keeps site, release and record in one step, so that the record
// that the resolver knows never looks like somebody else's.
func (a *Author) writeDown(ctx context.Context, p *publication, rec naming.Record) error {
	return a.State.PutPublished(ctx, state.Site{
		Name: p.name, Alias: p.req.Alias, Root: p.built.Root, Release: p.relCID, Policy: p.policy,
		Number: p.release.Number, Sequence: rec.Sequence(), Files: p.built.Files, Bytes: p.built.Bytes,
		Copies: p.copies, PublishedAt: a.Now(), ValidUntil: rec.ValidUntil(), Dir: p.req.Dir,
	}, state.ReleaseRow{
		Site: p.name, Number: p.release.Number, CID: p.relCID, Root: p.built.Root, Sequence: rec.Sequence(),
		Time: p.release.Time, Message: p.release.Message, Files: p.built.Files, Bytes: p.built.Bytes,
	}, rec)
}
