package author

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
)

// DelegateRequest hands the releases of a site to a deploy key.
type DelegateRequest struct {
	RestateRequest
	To string `json:"to"` // the deploy key's alias, or its name
}

// Delegate points a site at the name of a deploy key, whose records say from
// then on what is shown. A key of this machine under which nothing was published
// begins with what the site shows now. Errors: those of Renew, and ErrUsage.
func (a *Author) Delegate(ctx context.Context, req DelegateRequest, report func(Event)) (Restated, error) {
	to, err := a.nameOf(ctx, trimIPNS(req.To))
	if err != nil {
		return Restated{}, err
	}
	var inner naming.Record
	var site naming.Name
	out, err := a.restate(ctx, req.RestateRequest, report, func(ctx context.Context, p *publication, s *naming.Statement) error {
		if site = p.name; to == site {
			return usagef("%s can't be its own deploy key", req.Alias)
		}
		if inner, err = a.deployRecord(ctx, p, req.To, to, *s); err != nil {
			return err
		}
		// Hosts take it as a guest until they know that the site leads there.
		a.tellAll(ctx, p, inner)
		s.Value, s.Release = naming.Namespace+to.String(), cid.Undef
		return nil
	})
	if err != nil {
		return out, err
	}
	a.tellAll(ctx, &publication{name: site}, inner)
	return out, nil
}

// deployRecord is the newest record of a deploy key, or its first, where the
// key is here and nothing was published under it.
func (a *Author) deployRecord(ctx context.Context, p *publication, alias string, to naming.Name, site naming.Statement) (naming.Record, error) {
	best, _, err := a.newest(ctx, alias, to, p.req.ForceOffline)
	if err != nil {
		return best, err
	}
	if !best.IsZero() {
		if best.Expired(a.Now()) {
			return best, fmt.Errorf("%w: the record of the deploy key %s has expired; publish with it first", naming.ErrExpired, alias)
		}
		return best, a.leadsElsewhere(ctx, p, best, alias)
	}
	signer, err := a.Keys.Signer(alias)
	if errors.Is(err, naming.ErrNoKey) || errors.Is(err, naming.ErrInvalidAlias) {
		return best, usagef("nothing was published under %s yet: publish with the deploy key first, so that %s leads somewhere", to, p.req.Alias)
	}
	if err != nil {
		return best, err
	}
	if !rootOf(p.best).Defined() {
		return best, usagef("%s leads to another name already, so %s has nothing to begin with: publish with it first, or `holdfast name revoke %s`", p.req.Alias, alias, p.req.Alias)
	}
	best, err = signer.Sign(naming.Statement{
		Value: site.Value, Sequence: 1, TTL: site.TTL, ValidUntil: site.ValidUntil, Release: site.Release, Recovery: signer.Recovery(),
	})
	if err != nil {
		return best, err
	}
	if err := a.State.Accept(ctx, best); err != nil {
		return best, err
	}
	a.Resolver.Accepted(best)
	a.Signed(best)
	return best, nil
}

// leadsElsewhere refuses a deploy key whose name leads on to the site's own, or to nothing that is shown.
func (a *Author) leadsElsewhere(ctx context.Context, p *publication, deploy naming.Record, alias string) error {
	if rootOf(deploy).Defined() {
		return nil
	}
	chain, _, err := a.Resolver.Follow(ctx, deploy.Name())
	if slices.ContainsFunc(chain, func(r naming.Resolution) bool { return r.Record.Name() == p.name }) {
		return usagef("the name of %s leads to %s already: names would point in a circle", alias, p.req.Alias)
	}
	return err
}

// tellAll hands another name's record to the hosts of a site and to routing,
// as far as they can be reached: they ask for what they miss.
func (a *Author) tellAll(ctx context.Context, p *publication, rec naming.Record) {
	q := &publication{req: p.req, name: p.name, record: rec}
	if err := a.announce(ctx, q); err != nil {
		a.Log.Warn("a deploy key's record", "name", rec.Name(), "err", err)
	}
	ctx, cancel := context.WithTimeout(ctx, a.requestTime(routingGrace))
	defer cancel()
	a.putInRouting(ctx, q, func(string, ...any) {}).Wait()
}

// RevokeRequest takes a site back from its deploy key.
type RevokeRequest struct {
	RestateRequest
	// Release is what the site shows then: a release's number; 0: what the deploy key shows now.
	Release uint64 `json:"release,omitempty"`
}

// Revoke ends a delegation: the site's record names a release itself again.
// ErrUsage where there is no delegation.
func (a *Author) Revoke(ctx context.Context, req RevokeRequest, report func(Event)) (Restated, error) {
	return a.restate(ctx, req.RestateRequest, report, func(ctx context.Context, p *publication, s *naming.Statement) error {
		to, ok := p.best.Delegate()
		if !ok {
			return usagef("%s is not delegated: its own key publishes it", req.Alias)
		}
		release, root, err := a.takenBack(ctx, p, to, req.Release)
		if err != nil {
			return err
		}
		s.Value, s.Release = "/ipfs/"+root.String(), release
		return nil
	})
}

// takenBack is the release that a site shows once its deploy key is out: what that key shows now, or the one of
// a number. Of those, what this machine has published comes first, and needs nobody: whoever has the deploy key
// can make up a history, or leave none.
func (a *Author) takenBack(ctx context.Context, p *publication, to naming.Name, number uint64) (release, root cid.Cid, err error) {
	rows, err := a.State.Releases(ctx, p.name)
	if err != nil {
		return cid.Undef, cid.Undef, err
	}
	chain, root, err := a.Resolver.Follow(ctx, to)
	if err == nil {
		release = chain[len(chain)-1].Record.Release()
	}
	switch {
	case number > 0:
		return a.releaseOfSite(ctx, p, release, number)
	case err == nil:
		p.warn("%s shows what the deploy key published last, root %s; if you don't trust that, `holdfast rollback %s N`", p.req.Alias, root, p.req.Alias)
		return release, root, nil
	case len(rows) > 0:
		return release, root, fmt.Errorf("what the deploy key shows can't be had; `holdfast name revoke %s --release %d` shows what this machine published last: %w", p.req.Alias, rows[0].Number, err)
	}
	return release, root, fmt.Errorf("what the deploy key shows can't be had, and this machine has published nothing to go back to: %w", err)
}

// releaseOfSite finds a release by its number among those that were written down here, or else in the history that the
// newest one names, which somebody else may have made.
func (a *Author) releaseOfSite(ctx context.Context, p *publication, newest cid.Cid, number uint64) (release, root cid.Cid, err error) {
	rows, err := a.State.Releases(ctx, p.name)
	if err != nil {
		return cid.Undef, cid.Undef, err
	}
	theirs, root, err := a.findRelease(ctx, newest, number)
	i := slices.IndexFunc(rows, func(r state.ReleaseRow) bool { return r.Number == number && r.CID.Defined() && r.Root.Defined() })
	if i < 0 {
		return theirs, root, err
	}
	own := rows[i]
	if err == nil && !theirs.Equals(own.CID) {
		p.warn("the newest history has another release %d, root %s; %s shows the one that this machine published", number, root, p.req.Alias)
	}
	return own.CID, own.Root, nil
}

// findRelease walks from a release back to the one of that number.
func (a *Author) findRelease(ctx context.Context, from cid.Cid, number uint64) (release, root cid.Cid, err error) {
	for c := from; c.Defined(); {
		rel, err := a.readRelease(ctx, c)
		if err != nil {
			return cid.Undef, cid.Undef, fmt.Errorf("release %s: %w", c, err)
		}
		if rel.Number == number {
			return c, rel.Root, nil
		}
		if rel.Number < number {
			break
		}
		c = rel.Previous
	}
	return cid.Undef, cid.Undef, fmt.Errorf("%w: no release %d in the site's history", merkle.ErrNoPath, number)
}
