package author

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/holdfast-sites/holdfast/blockstore"
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

func (p *publication) lifetime() time.Duration { return lifetimeOf(p.wants) }

func (p *publication) keep() int {
	if p.req.NoGrace {
		return 1
	}
	return keepOrDefault(p.wants)
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
	pol := replicate.Policy{Copies: len(p.placed.order), Availability: target(p.wants), Keep: p.keep(), Grace: p.grace()}
	before, err := a.policyOf(ctx, p.best)
	if err == nil && p.relCID.Equals(releaseOf(p.best)) { // the same release once more: what it has taken back stays so
		pol.Grace = min(pol.Grace, before.Grace)
	}
	p.placed.order, p.placed.standby = asBefore(p.placed.order, p.placed.standby, before)
	pol.Roster = p.placed.roster()
	p.policy, err = a.putPolicy(ctx, p, lastingPolicy(pol, before, a.Now(), expires))
	return err
}

// roster is the holders and standbys as a policy has them.
func (pl *placement) roster() (out []replicate.Member) {
	for _, id := range append(slices.Clone(pl.order), pl.standby...) {
		if len(out) == replicate.MaxRoster {
			break
		}
		h := pl.hosts[id]
		out = append(out, replicate.Member{ID: id, Addrs: bareAddrs(h.Addrs), URL: h.URL, Labels: h.Labels})
	}
	return out
}

// policyOf reads the policy that a record names: as it was kept here, or else from wherever its block is within 5 s.
func (a *Author) policyOf(ctx context.Context, r naming.Record) (replicate.Policy, error) {
	if r.IsZero() || !r.Policy().Defined() {
		return replicate.Policy{}, naming.ErrNotFound
	}
	if kept, err := a.State.Policy(ctx, r.Policy()); err == nil {
		if b, err := blockstore.CheckBlock(r.Policy(), kept); err == nil {
			return replicate.DecodePolicy(b)
		}
	}
	if a.Store == nil && a.Network == nil {
		return replicate.Policy{}, naming.ErrNotFound
	}
	qctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	b, err := a.blocks().Get(qctx, r.Policy())
	if err != nil {
		return replicate.Policy{}, err
	}
	pol, err := replicate.DecodePolicy(b)
	if err == nil {
		err = a.State.PutPolicy(ctx, b.Cid(), a.Now(), b.RawData())
	}
	return pol, err
}

// policySlack is the part of its life by which a policy outlives the record that it came with. So the records of
// about a month name the same policy, where nothing else of it changes: one block less for every host to fetch.
const policySlack = 12

// lastSecond is of the year 9999, which is as far as a policy can tell.
const lastSecond = 253402300799

// lastingPolicy sets when a policy expires: not before the record that names it. Where only that would change, the
// policy before stays as it is while it lasts long enough.
func lastingPolicy(pol, before replicate.Policy, now, expires time.Time) replicate.Policy {
	expires = expires.Truncate(time.Second).Add(time.Second) // a policy has whole seconds
	same := pol
	same.Expires = before.Expires
	if !before.Expires.Before(expires) && samePolicy(same, before) {
		return before
	}
	pol.Expires = expires
	if life := expires.Sub(now); life > 0 {
		pol.Expires = expires.Add((life / policySlack).Truncate(time.Second))
	}
	if last := time.Unix(lastSecond, 0).UTC(); pol.Expires.After(last) {
		pol.Expires = last
	}
	return pol
}

// samePolicy tells whether two policies say the same, in whatever order a host tells its addresses.
func samePolicy(a, b replicate.Policy) bool {
	x, err := replicate.EncodePolicy(sortedAddrs(a))
	if err != nil {
		return false
	}
	y, err := replicate.EncodePolicy(sortedAddrs(b))
	return err == nil && x.Cid().Equals(y.Cid())
}

func sortedAddrs(p replicate.Policy) replicate.Policy {
	p.Roster = slices.Clone(p.Roster)
	for i, m := range p.Roster {
		p.Roster[i].Addrs = slices.Sorted(slices.Values(m.Addrs))
	}
	return p
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
	if err := a.State.PutPolicy(ctx, block.Cid(), a.Now(), block.RawData()); err != nil {
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
		Copies: len(p.placed.order), PublishedAt: a.Now(), ValidUntil: rec.ValidUntil(), Dir: p.req.Dir,
		DAGBytes: p.built.DAG.Bytes, Wants: p.remembered,
	}, state.ReleaseRow{
		Site: p.name, Number: p.release.Number, CID: p.relCID, Root: p.built.Root, Sequence: rec.Sequence(),
		Time: p.release.Time, Message: p.release.Message, Files: p.built.Files, Bytes: p.built.Bytes,
	}, rec)
}
