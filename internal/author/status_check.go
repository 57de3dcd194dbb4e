package author

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/merkle"
)

// mirror has what a deploy key has published here for as long as it is audited: nobody can check a proof without the bytes.
func (a *Author) mirror(ctx context.Context, p *publication, root cid.Cid) (done func(), err error) {
	p.built.Root = root
	if p.session, err = a.Store.Begin(ctx, "check:"+p.name.String()); err != nil {
		return nil, err
	}
	cids, err := a.whole(ctx, p.session, root)
	if err == nil && cids == nil {
		_, err = a.bringBack(ctx, p, root)
	}
	if err != nil {
		p.session.Close()
		return nil, fmt.Errorf("what the deploy key has published can't be had, so its copies can't be checked: %w", err)
	}
	return func() { p.session.Close() }, nil
}

// recheck audits each holder of a site again.
func (a *Author) recheck(ctx context.Context, s state.Site, report func(Event)) error {
	if a.Network == nil {
		return fmt.Errorf("%w: the network is offline", ErrUnreachable)
	}
	p := &publication{
		req: PublishRequest{Alias: s.Alias}, name: s.Name, report: report,
		built: merkle.Built{Root: s.Root},
	}
	if p.report == nil {
		p.report = func(Event) {}
	}
	done, err := a.turns.take(ctx, s.Alias) // a publish writes the same rows
	if err != nil {
		return err
	}
	defer done()
	if chain, root, err := a.Resolver.Follow(ctx, s.Name); err == nil && len(chain) > 1 {
		done, err := a.mirror(ctx, p, root)
		if err != nil {
			return err
		}
		defer done()
	}
	if err := a.lookAtNames(ctx, s.Name); err != nil {
		return err
	}
	a.observeHosts(ctx)
	pl, err := a.openPlacement(ctx, p)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	for id, host := range pl.hosts {
		if h := pl.holding(id); h.NamePin == "" && h.TempPin == "" && h.StandbyHolds.IsZero() {
			continue
		}
		g.Go(func() error {
			err := a.dial(gctx, host)
			if err == nil {
				err = a.audit(gctx, p, pl, host)
			}
			if gctx.Err() != nil {
				return gctx.Err()
			}
			if err != nil {
				return a.failHolding(gctx, p, pl, id, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// volunteerLeaves is how many blocks a volunteer is asked for, and volunteerTime how long all of them have.
const (
	volunteerLeaves = 8
	volunteerTime   = 10 * time.Second
)

// addOthers adds those who hold the site without being able to prove it, or without having been asked.
func (a *Author) addOthers(ctx context.Context, s state.Site, check bool, out *SiteStatus) (err error) {
	if check {
		if err := a.TendThirdParties(ctx, s, true); err != nil {
			return err
		}
	}
	if out.ThirdParties, err = a.ThirdParties(ctx, s.Name); err != nil || !check {
		return err
	}
	root, err := cid.Decode(out.Root)
	if err != nil {
		return nil // nothing that anybody could hold
	}
	vctx, cancel := context.WithTimeout(ctx, volunteerTime)
	defer cancel()
	if out.Volunteers, err = a.Volunteers(vctx, s.Name, root, volunteerLeaves); err != nil && ctx.Err() == nil {
		a.Log.Info("look for volunteers", "site", s.Alias, "err", err)
		err = nil
	}
	return err
}

// addHearsay adds what others say of a site, and says what is being repaired.
func (a *Author) addHearsay(ctx context.Context, s state.Site, check bool, out *SiteStatus) error {
	reports, err := a.reports(ctx, s.Name)
	if err != nil {
		return err
	}
	out.Repairing = append(out.Repairing, troubles(out.Hosts, reports)...)
	for i, r := range reports {
		reports[i].Events = nil
		if r.At != nil {
			out.AskedAt = later(out.AskedAt, *r.At)
		}
	}
	out.Reports = reports
	if err := a.addOthers(ctx, s, check, out); err != nil {
		return err
	}
	for _, h := range out.Standbys {
		if h.TookOver != nil && h.State != Proved {
			out.Repairing = append(out.Repairing, fmt.Sprintf("%s says that it has taken over; `holdfast status --check` has it prove that", h.Name))
		}
	}
	for _, h := range out.Hosts {
		if h.State == Queued || h.State == Fetching {
			out.Repairing = append(out.Repairing, fmt.Sprintf("%s is %s", h.Name, h.State))
		}
	}
	if n := out.MinCopies - out.Proved; n > 0 && len(out.Standbys) > 0 {
		out.Repairing = append(out.Repairing, fmt.Sprintf("missing: %d of the %d wanted copies; standbys take over once a holder is away for longer than usual; `holdfast plan %s` shows what you can do now", n, out.MinCopies, s.Alias))
	}
	return nil
}

// troubles is what hosts say of holders that has happened since those proved themselves to us.
func troubles(holders []HostState, reports []HostReport) (out []string) {
	words := map[string]string{"gone": "is gone", "absent": "holds nothing any more", "convicted": "was convicted of false proofs"}
	for _, h := range holders {
		sayers := make(map[string][]string)
		for _, r := range reports {
			i := slices.IndexFunc(r.Events, func(e SiteEvent) bool { return e.HostID == h.ID }) // the newest
			if i < 0 || h.VerifiedAt != nil && r.Events[i].At.Before(*h.VerifiedAt) {
				continue
			}
			if what, bad := words[r.Events[i].Kind]; bad {
				sayers[what] = append(sayers[what], r.Name)
			}
		}
		for _, what := range slices.Sorted(maps.Keys(sayers)) {
			out = append(out, fmt.Sprintf("%s %s, by what is said at %s; `holdfast status --check` looks", h.Name, what, strings.Join(sayers[what], ", ")))
		}
	}
	return out
}
