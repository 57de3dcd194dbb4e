package author

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// RestateRequest is what the flows have in common that sign a site's name anew
// without a new release.
type RestateRequest struct {
	Alias        string        `json:"site"`
	Lifetime     time.Duration `json:"lifetime,omitempty"` // of the new record; 0: naming.DefaultLifetime, and never less than before
	Rebase       bool          `json:"rebase,omitempty"`   // also where another machine has published since
	ForceOffline bool          `json:"force_offline,omitempty"`
}

// Restated is the outcome.
type Restated struct {
	Alias      string     `json:"alias"`
	Name       string     `json:"name"`
	Value      string     `json:"value"`
	Sequence   uint64     `json:"sequence"`
	ValidUntil *time.Time `json:"valid_until"`
	Hosts      int        `json:"hosts"` // that keep the site
	Told       int        `json:"told"`  // of them, those that have taken the record
	Warnings   []string   `json:"warnings,omitempty"`
}

// Renew lets a site's name live longer: the same record with a later end of
// life. Errors: those of Publish that have to do with names.
func (a *Author) Renew(ctx context.Context, req RestateRequest, report func(Event)) (Restated, error) {
	return a.restate(ctx, req, report, func(context.Context, *publication, *naming.Statement) error { return nil })
}

// restate signs what the newest record says, as changed by change, and hands
// it to the hosts and to routing.
func (a *Author) restate(ctx context.Context, req RestateRequest, report func(Event),
	change func(context.Context, *publication, *naming.Statement) error,
) (Restated, error) {
	p, done, err := a.openRestated(ctx, req, report)
	if err != nil {
		return Restated{}, err
	}
	defer done()
	if err := a.guard(ctx, p); err != nil {
		return Restated{}, err
	}
	if p.best.IsZero() {
		return Restated{}, fmt.Errorf("%w: nothing was published under %s yet", ErrNoSite, req.Alias)
	}
	s := naming.Statement{
		Value: p.best.Value(), TTL: p.best.TTL(), ValidUntil: a.Now().Add(p.lifetime()),
		Release: p.best.Release(), Policy: p.best.Policy(), Recovery: p.signer.Recovery(),
	}
	if err := change(ctx, p, &s); err != nil {
		return Restated{}, err
	}
	if s, err = naming.Next(p.best, s); err != nil {
		return Restated{}, err
	}
	if s.Policy, err = a.renewPolicy(ctx, p, s.Policy, s.ValidUntil); err != nil {
		return Restated{}, err
	}
	if p.record, err = p.signer.Sign(s); err != nil {
		return Restated{}, err
	}
	return a.handOut(ctx, p)
}

// openRestated opens what a flow without a folder works with, in the site's turn, until done is called.
func (a *Author) openRestated(ctx context.Context, req RestateRequest, report func(Event)) (p *publication, done func(), err error) {
	if report == nil {
		report = func(Event) {}
	}
	if req.Lifetime < 0 {
		return nil, nil, usagef("a lifetime must be more than nothing")
	}
	turn, err := a.turns.take(ctx, req.Alias)
	if err != nil {
		return nil, nil, err
	}
	if p, err = a.restated(ctx, req, report); err != nil {
		turn()
		return nil, nil, err
	}
	return p, func() { p.session.Close(); turn() }, nil
}

func (a *Author) restated(ctx context.Context, req RestateRequest, report func(Event)) (*publication, error) {
	signer, err := a.Keys.Signer(req.Alias)
	if err != nil {
		return nil, err
	}
	p := &publication{
		req:    PublishRequest{Alias: req.Alias, Lifetime: req.Lifetime, Rebase: req.Rebase, ForceOffline: req.ForceOffline},
		signer: signer, name: signer.Name(), report: report, restates: true,
	}
	if err := a.checkClock(ctx); err != nil {
		return nil, err
	}
	if err := a.wantsOf(ctx, p); err != nil {
		return nil, err
	}
	p.session, err = a.Store.Begin(ctx, "publish:"+p.name.String())
	return p, err
}

// wantsOf lets what is wanted of a published site count, for the new record's life too unless another is asked for.
func (a *Author) wantsOf(ctx context.Context, p *publication) error {
	site, err := a.State.SiteByName(ctx, p.name)
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return err
	}
	p.remembered = site.Wants
	p.wants = over(Wants{Lifetime: p.req.Lifetime}, site.Wants)
	return nil
}

// renewPolicy lets a policy expire with the record that names it.
func (a *Author) renewPolicy(ctx context.Context, p *publication, c cid.Cid, expires time.Time) (cid.Cid, error) {
	if !c.Defined() {
		return c, nil
	}
	pol, err := replicate.ReadPolicy(ctx, a.blocks(), c)
	if err != nil {
		return c, fmt.Errorf("the policy of %s can't be read; a publish writes a new one: %w", p.req.Alias, err)
	}
	return a.putPolicy(ctx, p, lastingPolicy(pol, pol, a.Now(), expires))
}

// handOut writes a signed record down, and hands it to the hosts and to routing.
func (a *Author) handOut(ctx context.Context, p *publication) (Restated, error) {
	site, err := a.restatedSite(ctx, p)
	if err != nil {
		return Restated{}, err
	}
	if err := a.State.PutSigned(ctx, site, p.record); err != nil {
		return Restated{}, err
	}
	a.Resolver.Accepted(p.record)
	a.Signed(p.record)
	p.report(Event{Step: "sign", Message: fmt.Sprintf("sequence %d, valid until %s", p.record.Sequence(), p.record.ValidUntil().Format(time.DateOnly))})
	if err := a.announce(ctx, p); err != nil {
		return Restated{}, err
	}
	rctx, cancel := context.WithTimeout(ctx, a.requestTime(putDeadline))
	defer cancel()
	routing := a.putInRouting(rctx, p, p.warn)
	if len(p.told) > 0 { // who put it into routing themselves
		defer time.AfterFunc(routingGrace, cancel).Stop()
	}
	routing.Wait()
	hosts, err := a.keepers(ctx, p)
	if err != nil {
		return Restated{}, err
	}
	switch {
	case len(hosts) > 0 && len(p.told) == 0:
		p.warn("no host has taken the record: readers go by the one before until a node that serves here reaches one, or you run this again")
	case len(hosts) > len(p.told):
		p.warn("%d of %d hosts have taken the record; the others learn of it from them", len(p.told), len(hosts))
	}
	return Restated{
		Alias: p.req.Alias, Name: p.name.String(), Value: p.record.Value(), Sequence: p.record.Sequence(),
		ValidUntil: timePtr(p.record.ValidUntil()), Hosts: len(hosts), Told: len(p.told), Warnings: p.warnings,
	}, ctx.Err()
}

// restatedSite is the site's row as it is once the record is signed: made from
// the record where the site was published by another machine only.
func (a *Author) restatedSite(ctx context.Context, p *publication) (state.Site, error) {
	site, err := a.State.SiteByName(ctx, p.name)
	if errors.Is(err, state.ErrNotFound) {
		site, err = state.Site{Name: p.name, Alias: p.req.Alias, PublishedAt: a.Now()}, nil
	}
	if err != nil {
		return site, err
	}
	if root := rootOf(p.record); root.Defined() && !root.Equals(site.Root) {
		site.Root, site.Release, site.Live = root, p.record.Release(), false
		if rel, err := a.readRelease(ctx, site.Release); err == nil {
			site.Number, site.Files, site.Bytes = rel.Number, rel.Files, rel.Bytes
		}
	}
	if p.record.Policy().Defined() {
		if pol, err := replicate.ReadPolicy(ctx, a.blocks(), p.record.Policy()); err == nil {
			site.Copies = pol.Copies
		}
	}
	site.Policy, site.Sequence, site.ValidUntil = p.record.Policy(), p.record.Sequence(), p.record.ValidUntil()
	return site, nil
}
