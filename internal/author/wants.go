package author

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// Wants is what an author asks for of a site's copies. A zero field leaves a want as it was: remembered from
// the last time, of the configuration, or the default. What undoes one: the region AnyRegion, NoBudget bytes a day,
// MaxCopies below 0, an availability of 0.
type Wants = state.Wants

// What undoes a want that was remembered.
const (
	AnyRegion = "any"
	NoBudget  = -1
)

// asked is a request's wants.
func (r PublishRequest) asked() Wants {
	return Wants{
		Copies: r.Copies, MaxCopies: r.MaxCopies, Availability: r.Availability, Regions: r.Regions, BytesPerDay: r.BytesPerDay,
		Keep: r.Keep, Lifetime: r.Lifetime,
	}
}

// over lays wants over others: what they say counts.
func over(w, under Wants) Wants {
	out := under
	if w.Copies != nil {
		out.Copies = w.Copies
	}
	if w.MaxCopies != 0 {
		out.MaxCopies = max(w.MaxCopies, 0)
	}
	if w.Availability != nil {
		out.Availability = w.Availability
	}
	if len(w.Regions) > 0 {
		out.Regions = slices.Compact(slices.Sorted(slices.Values(w.Regions)))
	}
	if slices.Equal(out.Regions, []string{AnyRegion}) {
		out.Regions = nil
	}
	if w.BytesPerDay != 0 {
		out.BytesPerDay = max(w.BytesPerDay, 0)
	}
	if w.Keep != 0 {
		out.Keep = w.Keep
	}
	if w.Lifetime != 0 {
		out.Lifetime = w.Lifetime
	}
	return out
}

// checkWants refuses what contradicts itself, or what no policy can say.
func checkWants(w Wants) error {
	switch {
	case w.Copies != nil && (*w.Copies < 0 || *w.Copies > replicate.MaxRoster):
		return usagef("--copies must be 0 to %d", replicate.MaxRoster)
	case w.MaxCopies > replicate.MaxRoster:
		return usagef("--max-copies must be at most %d", replicate.MaxRoster)
	case w.Copies != nil && w.MaxCopies > 0 && w.MaxCopies < *w.Copies:
		return usagef("--max-copies %d is less than --copies %d", w.MaxCopies, *w.Copies)
	case w.Availability != nil && (*w.Availability < 0 || *w.Availability >= replicate.MaxAvailability):
		return usagef("an availability is a percentage below 100, such as 99.99")
	case len(w.Regions) > 1 && slices.Contains(w.Regions, AnyRegion):
		return usagef("--region %s goes with no other region", AnyRegion)
	case w.Lifetime < 0:
		return usagef("a lifetime and a TTL must be more than nothing")
	case w.Keep < 0 || w.Keep > replicate.MaxKeep:
		return usagef("holders keep 1 to %d releases, not %d", replicate.MaxKeep, w.Keep)
	}
	return nil
}

// settleWants puts together what is asked now and what was asked before. What was asked is remembered; --copies 0,
// which is how one publishes without hosts, only for as long as there are none.
func (a *Author) settleWants(ctx context.Context, p *publication, hosts int) error {
	before, err := a.State.SiteByAlias(ctx, p.req.Alias)
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return err
	}
	was := before.Wants
	if was.Copies != nil && *was.Copies == 0 && hosts > 0 {
		was.Copies = nil
	}
	p.remembered = over(p.req.asked(), was)
	p.wants = over(p.remembered, p.req.Default)
	return checkWants(p.wants)
}

// defaultCopies is how many copies a site gets of which nothing was said.
func defaultCopies(hosts int) int { return min(DefaultCopies, hosts) }

// wantedOf is what is wanted of a site that is published already, and the fewest copies of it.
func wantedOf(s state.Site) (w Wants, copies int) {
	w = s.Wants
	switch {
	case w.Copies != nil:
		copies = *w.Copies
	default:
		copies = defaultCopies(s.Copies)
	}
	return w, copies
}

// target is the availability that is wanted, in millionths; 0: none.
func target(w Wants) int {
	if w.Availability != nil {
		return *w.Availability
	}
	return DefaultAvailability
}

func lifetimeOf(w Wants) time.Duration {
	if w.Lifetime > 0 {
		return w.Lifetime
	}
	return naming.DefaultLifetime
}

func keepOrDefault(w Wants) int {
	if w.Keep > 0 {
		return w.Keep
	}
	return DefaultKeep
}

// dayBudget is how many bytes a plan may still move today; 0: any.
func (a *Author) dayBudget(ctx context.Context, n naming.Name, w Wants) (int64, error) {
	if w.BytesPerDay == 0 {
		return 0, nil
	}
	moved, err := a.State.Moved(ctx, n, a.Now().Add(-24*time.Hour))
	return max(w.BytesPerDay-moved, 1), err // one byte moves nothing
}

// desired is what a plan is to bring about.
func (a *Author) desired(ctx context.Context, n naming.Name, w Wants, copies int, bytes int64) (replicate.Desired, error) {
	budget, err := a.dayBudget(ctx, n, w)
	return replicate.Desired{
		Site: n, Bytes: bytes, Copies: copies, Most: w.MaxCopies, Availability: target(w), Regions: w.Regions, MoveBytes: budget,
	}, err
}

// countCopies settles how many copies are wanted before anything is built, so
// that a publish that can't succeed fails at once.
func (a *Author) countCopies(ctx context.Context, p *publication) error {
	hosts, err := a.State.Hosts(ctx)
	if err != nil {
		return err
	}
	if err := a.settleWants(ctx, p, len(hosts)); err != nil {
		return err
	}
	switch {
	case p.wants.Copies != nil:
		p.copies = *p.wants.Copies
		if p.copies > len(hosts) {
			return &ShortError{Want: p.copies, Err: fmt.Errorf("%s; add more with `holdfast host add`", knownHosts(len(hosts)))}
		}
	case len(hosts) == 0 && !p.req.Alone:
		return &ShortError{Want: DefaultCopies, Err: errors.New("no host is known: add one with `holdfast host add URL --token T`, or publish with --copies 0 to keep the site on this machine only")}
	default:
		p.copies = defaultCopies(len(hosts))
		if p.copies < DefaultCopies && len(hosts) > 0 {
			p.warn("%d of %d copies: %s", p.copies, DefaultCopies, knownHosts(len(hosts)))
		}
	}
	if p.copies > 0 && a.Network == nil {
		return fmt.Errorf("%w: the network is offline; publish with --copies 0 to keep the site on this machine only", ErrUnreachable)
	}
	if p.copies == 0 {
		p.warn("nobody else holds this site: it is online only while this machine serves it")
		if p.req.InPlace {
			p.warn("its content is nowhere but in your files: changing one breaks the page until the next publish")
		}
	}
	return nil
}

func knownHosts(n int) string {
	if n == 1 {
		return "1 host is known"
	}
	return fmt.Sprintf("%d hosts are known", n)
}
