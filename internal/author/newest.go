package author

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
)

// guard is step 4: the best record known to self and network, and whether it
// may be followed by ours.
func (a *Author) guard(ctx context.Context, p *publication) error {
	source, err := a.askNewest(ctx, p)
	if err != nil {
		return err
	}
	// That nothing can follow is said now, not after the copies were made.
	if _, err := naming.Next(p.best, naming.Statement{Recovery: p.signer.Recovery()}); err != nil {
		return err
	}
	return a.mayFollow(ctx, p, source)
}

// askNewest finds the record that ours is to follow, and who had it.
func (a *Author) askNewest(ctx context.Context, p *publication) (source string, err error) {
	p.report(Event{Step: "ask", Message: "who has published " + p.req.Alias})
	p.best, source, err = a.newest(ctx, p.req.Alias, p.name, p.req.ForceOffline)
	return source, err
}

// newest is the best record of a name that anybody knows, expired or not, and who had it; the zero Record where there is
// none. ErrUnreachable where nobody could be asked, unless that is accepted.
func (a *Author) newest(ctx context.Context, alias string, n naming.Name, forceOffline bool) (best naming.Record, source string, err error) {
	res, reached, err := a.Resolver.ResolveFresh(ctx, n)
	best = res.Record
	switch {
	case err == nil:
	case errors.Is(err, naming.ErrNotFound) || errors.Is(err, naming.ErrUnavailable):
	case errors.Is(err, naming.ErrExpired) || errors.Is(err, naming.ErrOlder):
		// What we hold has expired and nobody has better: it still sets the sequence.
		own, err := a.State.Best(ctx, n)
		if err != nil && !errors.Is(err, naming.ErrNotFound) {
			return best, "", err
		}
		if own.Compare(best) > 0 {
			best = own
		}
	default:
		return best, "", err
	}
	if !reached && a.Asked() && !forceOffline {
		return best, "", fmt.Errorf("%w: nobody could say what the newest release of %s is; go on with --force-offline if no other machine publishes it", ErrUnreachable, alias)
	}
	return best, res.Source, nil
}

// mayFollow refuses to overwrite what this machine has not signed itself.
func (a *Author) mayFollow(ctx context.Context, p *publication, source string) error {
	site, err := a.State.SiteByName(ctx, p.name)
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return err
	}
	if to, ok := p.best.Delegate(); ok && !p.restates {
		return &DelegatedError{Alias: p.req.Alias, To: to}
	}
	root := rootOf(p.best)
	if p.req.IfRoot != "" {
		want, err := cid.Decode(p.req.IfRoot)
		if err != nil {
			return usagef("--if-root: %v", err)
		}
		if !root.Equals(want) {
			return a.conflict(ctx, p, site, source, want)
		}
		return nil
	}
	if p.best.IsZero() || p.best.Sequence() < site.Sequence {
		return nil
	}
	if p.best.Sequence() == site.Sequence && (root.Equals(site.Root) || p.restates) {
		return nil
	}
	conflict := a.conflict(ctx, p, site, source, cid.Undef)
	if !p.req.Rebase {
		return conflict
	}
	p.warn("published on top of %s", conflict.Newer)
	return nil
}

// conflict describes the newer release as far as it can be had in a few seconds.
func (a *Author) conflict(ctx context.Context, p *publication, site state.Site, source string, want cid.Cid) *ConflictError {
	e := &ConflictError{Alias: p.req.Alias, Name: p.name, Ours: site.Sequence, WantOld: want}
	if !p.best.IsZero() {
		e.Newer = a.newer(ctx, p.best, source)
	}
	return e
}

// newer tells what is known of somebody else's release.
func (a *Author) newer(ctx context.Context, r naming.Record, source string) Newer {
	n := Newer{Root: cidString(rootOf(r)), Release: cidString(r.Release()), Sequence: r.Sequence(), Source: source}
	if rel, err := a.readRelease(ctx, r.Release()); err == nil {
		n.Number, n.Time, n.Message = rel.Number, timePtr(rel.Time), rel.Message
	}
	return n
}
