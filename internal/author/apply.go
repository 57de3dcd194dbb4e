package author

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// ApplyRequest asks for a plan to be carried out: the one with this digest, the last one that was shown where it is
// empty, or whatever the plan is now with Yes.
type ApplyRequest struct {
	Digest string `json:"digest,omitempty"` // or its beginning, at least 6 characters
	Yes    bool   `json:"yes,omitempty"`
	Alias  string `json:"site,omitempty"` // with Yes: this site only
}

// Applied is what was carried out.
type Applied struct {
	Nothing bool          `json:"nothing_to_do"`
	Sites   []AppliedSite `json:"sites"` // those with something to do
}

// AppliedSite is what was done about one site.
type AppliedSite struct {
	SitePlan
	Sequence uint64      `json:"sequence"` // of the record that names the policy
	Hosts    []HostState `json:"hosts"`
	Warnings []string    `json:"warnings,omitempty"`
	Notes    []string    `json:"notes,omitempty"`
}

// Apply carries out a plan: new copies are made and proved, then the policy is signed, then standbys reserve their
// room, and only when all of the plan's holders have proved themselves is anything taken away. Cut off anywhere, it can be run again.
//
// Errors: *PlanChangedError where the plan would be another one by now, and nothing was done; *ShortError where a
// new holder failed, and nothing was signed; those of Publish that have to do with names.
func (a *Author) Apply(ctx context.Context, req ApplyRequest, report func(Event)) (Applied, error) {
	if req.Yes && req.Digest != "" {
		return Applied{}, usagef("--yes carries out what the plan is now, a digest what it was: one of them")
	}
	if report == nil {
		report = func(Event) {}
	}
	hosts, began, err := a.lookAtHosts(ctx)
	if err != nil {
		return Applied{}, err
	}
	todo, err := a.agreed(ctx, req, hosts, began)
	if err != nil {
		return Applied{}, err
	}
	out := Applied{Nothing: len(todo) == 0, Sites: []AppliedSite{}}
	for _, sp := range todo {
		done, err := a.applySite(ctx, sp, hosts, began, report)
		if err != nil {
			return out, fmt.Errorf("%s: %w", sp.Alias, err)
		}
		out.Sites = append(out.Sites, done)
	}
	return out, nil
}

// agreed is what there is to do, if it is what was shown.
func (a *Author) agreed(ctx context.Context, req ApplyRequest, hosts map[peer.ID]state.Host, began time.Time) (todo []SitePlan, err error) {
	var was shown
	if !req.Yes {
		if was, err = a.recall(ctx, req.Digest); err != nil {
			return nil, err
		}
	}
	sites, err := a.sites(ctx, req.Alias)
	if err != nil {
		return nil, err
	}
	var drafts []draft
	var none error // why a site has no plan
	differs := false
	for _, s := range sites {
		before, looked := was.site(s.Name)
		if !req.Yes && !looked {
			continue // of another site's plan, or published since
		}
		d, err := a.draft(ctx, s, hosts, began)
		if err != nil && !errors.Is(err, replicate.ErrTooFewHosts) {
			return nil, err
		}
		drafts = append(drafts, d)
		sp := d.show(err)
		if sp.Nothing() {
			continue
		}
		if err != nil {
			none = fmt.Errorf("%s: %w", s.Alias, err)
			if req.Yes {
				return nil, none
			}
		}
		differs = differs || !req.Yes && !before.covers(sp)
		if sp.Error == "" {
			todo = append(todo, sp)
		}
	}
	if differs {
		return nil, &PlanChangedError{Digest: was.Plans.Digest, Since: was.since(hosts, drafts)}
	}
	if len(todo) == 0 {
		return nil, none
	}
	return todo, nil
}

// site finds what was shown of a site.
func (s shown) site(n naming.Name) (SitePlan, bool) {
	i := slices.IndexFunc(s.Plans.Sites, func(sp SitePlan) bool { return sp.Name == n.String() })
	if i < 0 {
		return SitePlan{}, false
	}
	return s.Plans.Sites[i], true
}

// covers tells whether what is to be done now is part of what was shown: all of it, or what a run that was cut off has left.
func (s SitePlan) covers(now SitePlan) bool {
	if s.Digest != now.Digest {
		return false
	}
	for _, c := range now.Changes {
		if !slices.ContainsFunc(s.Changes, func(was PlanChange) bool { return was.Op == c.Op && was.ID == c.ID }) {
			return false
		}
	}
	return true
}

// applySite carries out what was agreed about one site.
func (a *Author) applySite(ctx context.Context, agreed SitePlan, hosts map[peer.ID]state.Host, began time.Time, report func(Event)) (AppliedSite, error) {
	out := AppliedSite{SitePlan: agreed}
	p, done, err := a.openRestated(ctx, RestateRequest{Alias: agreed.Alias}, report)
	if err != nil {
		return out, err
	}
	defer done()
	if err := a.guard(ctx, p); err != nil {
		return out, err
	}
	site, err := a.State.SiteByName(ctx, p.name)
	if err != nil {
		return out, err
	}
	d, err := a.draft(ctx, site, hosts, began) // another flow may have been first
	if err != nil {
		return out, err
	}
	if !agreed.covers(d.show(nil)) {
		return out, &PlanChangedError{Digest: agreed.Digest, Since: []string{"another command has changed where its copies are"}}
	}
	if err := a.takeContent(ctx, p, d); err != nil {
		return out, err
	}
	if err := a.prepare(ctx, p, d); err != nil {
		return out, err
	}
	if err := a.signPlan(ctx, p, d); err != nil {
		return out, err
	}
	if err := a.follow(ctx, p); err != nil {
		return out, err
	}
	out.Sequence, out.Hosts, out.Warnings, out.Notes = p.record.Sequence(), p.placed.states(p.placed.order), p.warnings, p.notes
	return out, nil
}

// takeContent has what the site shows here: without the bytes nobody can check a proof, and new holders may have to pull from us.
func (a *Author) takeContent(ctx context.Context, p *publication, d draft) error {
	p.built.Root, p.copies = d.root, d.copies
	cids, err := a.whole(ctx, p.session, d.root)
	if err == nil && cids == nil {
		p.report(Event{Step: "fetch", Message: "what the site shows, which is not here"})
		cids, err = a.bringBack(ctx, p, d.root)
	}
	if err != nil {
		return err
	}
	p.built.CIDs, p.built.DAG.Blocks = cids, int64(len(cids))
	infos, err := a.Store.Stat(ctx, cids)
	for _, i := range infos {
		p.built.DAG.Bytes += i.Size
	}
	return err
}

// prepare makes the plan's new copies, and has every holder prove itself.
func (a *Author) prepare(ctx context.Context, p *publication, d draft) error {
	pl := &placement{hosts: d.hosts, holdings: make(map[peer.ID]*state.Holding)}
	for id := range d.hosts {
		h := d.holdings[id]
		pl.before = append(pl.before, h)
		h.Site, h.Host, h.State, h.Error = p.name, id, "", ""
		pl.holdings[id] = &h
	}
	p.placed = pl
	todo := pl.follow(d.plan)
	pl.order, pl.standby = d.rosters()
	var g errgroup.Group
	for _, id := range todo {
		g.Go(func() error { return a.prove(ctx, p, pl, id) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return a.afterProofs(ctx, p, d)
}

// afterProofs refuses to go on where a new holder has failed, or too few are left; and says which old ones did.
func (a *Author) afterProofs(ctx context.Context, p *publication, d draft) error {
	pl, failed := p.placed, false
	for _, id := range pl.order {
		fresh := !d.observed[id].Holds
		switch {
		case pl.stands(id) == Proved && fresh:
			if err := a.State.AddMove(ctx, p.name, a.Now(), p.built.DAG.Bytes); err != nil {
				return err
			}
		case pl.stands(id) != Proved && fresh:
			failed = true
		case pl.stands(id) != Proved:
			p.warn("%s has not proved its copy now, so nothing is taken away elsewhere: %s", pl.hosts[id].Name, pl.holding(id).Error)
		}
	}
	if failed || pl.proved() < d.copies {
		return &ShortError{Want: len(pl.order), Got: pl.proved(), Hosts: pl.states(nil)}
	}
	return nil
}

// signPlan puts the plan's roster into the policy, and signs the record that names it. Nothing is signed where the
// policy in force says so already.
func (a *Author) signPlan(ctx context.Context, p *publication, d draft) error {
	if d.samePolicy() {
		p.record, p.policy = p.best, p.best.Policy()
		return nil
	}
	s := naming.Statement{
		Value: p.best.Value(), TTL: p.best.TTL(), ValidUntil: a.Now().Add(p.lifetime()), Release: p.best.Release(), Recovery: p.signer.Recovery(),
	}
	s, err := naming.Next(p.best, s)
	if err != nil {
		return err
	}
	pol := d.newPolicy(p.placed)
	if s.Policy, err = a.putPolicy(ctx, p, lastingPolicy(pol, d.policy, a.Now(), s.ValidUntil)); err != nil {
		return err
	}
	p.policy = s.Policy
	if p.record, err = p.signer.Sign(s); err != nil {
		return err
	}
	site, err := a.restatedSite(ctx, p)
	if err != nil {
		return err
	}
	if err := a.State.PutSigned(ctx, site, p.record); err != nil {
		return err
	}
	a.Resolver.Accepted(p.record)
	a.Signed(p.record)
	p.report(Event{Step: "sign", Message: fmt.Sprintf("sequence %d: %s", p.record.Sequence(), strings.Join(p.placed.names(p.placed.order), ", "))})
	return a.announce(ctx, p)
}

// names are those of hosts.
func (pl *placement) names(ids []peer.ID) (out []string) {
	for _, id := range ids {
		out = append(out, pl.hosts[id].Name)
	}
	return out
}
