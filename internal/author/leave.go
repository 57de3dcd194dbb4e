package author

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/replicate"
)

// LeaveRequest asks to leave a host: its copies move elsewhere first.
type LeaveRequest struct {
	Host string `json:"host"`           // name, id or URL
	Stay bool   `json:"stay,omitempty"` // take back a leave that was begun
}

// Left is what leaving a host did.
type Left struct {
	Host     HostInfo      `json:"host"`
	Gone     bool          `json:"gone"` // it is forgotten
	Sites    []AppliedSite `json:"sites"`
	Warnings []string      `json:"warnings,omitempty"`
}

// LeaveHost moves what a host holds elsewhere, has it proved there, takes its pins away, and forgets it. Cut off
// anywhere, it can be run again: until then no plan gives the host anything new.
//
// Errors: replicate.ErrTooFewHosts where a site would be short of copies, and nothing has changed then; those of Apply.
func (a *Author) LeaveHost(ctx context.Context, req LeaveRequest, report func(Event)) (Left, error) {
	if report == nil {
		report = func(Event) {}
	}
	h, err := a.hostNamed(ctx, req.Host)
	if errors.Is(err, state.ErrNotFound) {
		return a.leaveService(ctx, req)
	}
	if err != nil {
		return Left{}, err
	}
	out := Left{Sites: []AppliedSite{}}
	begun := h.Leaving
	if h.Leaving = !req.Stay; h.Leaving != begun {
		if err := a.State.LeaveHost(ctx, h.ID, h.Leaving); err != nil {
			return out, err
		}
	}
	if !req.Stay {
		var short *ShortError
		err = a.moveAway(ctx, h, &out, report)
		if (errors.Is(err, replicate.ErrTooFewHosts) || errors.As(err, &short)) && !begun && len(out.Sites) == 0 { // nothing was moved
			err = errors.Join(err, a.State.LeaveHost(context.WithoutCancel(ctx), h.ID, false))
		}
		if err != nil {
			return out, err
		}
	}
	if out.Host, err = a.oneHost(ctx, h); err != nil || req.Stay {
		return out, err
	}
	return out, a.forgetLeft(ctx, h, &out)
}

// moveAway carries out the plans of all sites that the host has to do with. All of them are made before the first
// is carried out.
func (a *Author) moveAway(ctx context.Context, h state.Host, out *Left, report func(Event)) error {
	held, err := a.State.HeldBy(ctx, h.ID)
	if err != nil || len(held) == 0 {
		return err
	}
	report(Event{Step: "plan", Host: h.Name, Message: fmt.Sprintf("%d sites move elsewhere", len(held))})
	hosts, began, err := a.lookAtHosts(ctx)
	if err != nil {
		return err
	}
	plans, err := a.plansFor(ctx, held, hosts, began)
	if err != nil {
		return fmt.Errorf("%s can't be left: %w", h.Name, err)
	}
	for _, sp := range plans {
		done, err := a.applySite(ctx, sp, hosts, began, report)
		if err != nil {
			return fmt.Errorf("%s: %w", sp.Alias, err)
		}
		out.Sites = append(out.Sites, done)
	}
	return nil
}

// plansFor is the plan of each of the sites, where there is something to do.
func (a *Author) plansFor(ctx context.Context, held []state.Holding, hosts map[peer.ID]state.Host, began time.Time) (out []SitePlan, err error) {
	for _, hold := range held {
		s, err := a.State.SiteByName(ctx, hold.Site)
		if errors.Is(err, state.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		d, err := a.draft(ctx, s, hosts, began)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Alias, err)
		}
		if sp := d.show(nil); !sp.Nothing() {
			out = append(out, sp)
		}
	}
	return out, nil
}

// forgetLeft forgets a host that was left. Where a pin of ours may still be there, because it could not be asked, that is said.
func (a *Author) forgetLeft(ctx context.Context, h state.Host, out *Left) error {
	still, err := a.State.HeldBy(ctx, h.ID)
	if err != nil {
		return err
	}
	var sites []string
	for _, hold := range still {
		if !hold.Follows() && hold.TempPin == "" {
			continue
		}
		if err := a.dial(ctx, h); err == nil {
			return fmt.Errorf("%w: %s still has pins of ours; run it again once all holders have proved themselves (`holdfast status --check`)", replicate.ErrUnavailable, h.Name)
		}
		name := hold.Site.String()
		if s, err := a.State.SiteByName(ctx, hold.Site); err == nil {
			name = s.Alias
		}
		sites = append(sites, name)
	}
	if len(sites) > 0 {
		out.Warnings = append(out.Warnings, fmt.Sprintf("%s could not be asked to let go of %s, and may keep it for as long as it likes", h.Name, strings.Join(sites, ", ")))
	}
	if err := a.State.RemoveHost(ctx, h.ID); err != nil {
		return err
	}
	out.Gone = true
	return nil
}
