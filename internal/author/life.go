package author

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
)

// warnBefore is how long before a name's end its author is told.
const warnBefore = 30 * 24 * time.Hour

// NameLife is what keeps a site's name alive, as far as we know ourselves.
type NameLife struct {
	// ValidUntil is the earliest end of life of the records that the name leads through.
	ValidUntil *time.Time `json:"valid_until"`
	// Hosts is how many hosts follow the name; Alive of them showed us its newest record, the last one at SeenAt.
	Hosts  int        `json:"hosts"`
	Alive  int        `json:"alive"`
	SeenAt *time.Time `json:"seen_at"`
	// PutAt is when the last of them says that it put the record into routing.
	PutAt *time.Time `json:"put_at"`
	// Delegate is the deploy key's name, where that one publishes.
	Delegate string `json:"delegate,omitempty"`
	// Overtaken says that the name's newest record is another machine's.
	Overtaken bool `json:"overtaken,omitempty"`
	// MovedTo is the name that the site has been moved to for good.
	MovedTo string `json:"moved_to,omitempty"`
}

// nameLife puts together what is known of the name: the records kept here, and what hosts showed.
func (a *Author) nameLife(ctx context.Context, s state.Site, holdings []state.Holding) (NameLife, naming.Record, error) {
	out := NameLife{ValidUntil: timePtr(s.ValidUntil)}
	chain, err := a.keptChain(ctx, s.Name)
	if err != nil {
		return out, naming.Record{}, err
	}
	var last naming.Record
	if len(chain) > 0 {
		best := chain[0]
		root, ok := best.Root()
		out.Overtaken = best.Sequence() > s.Sequence || ok && best.Sequence() == s.Sequence && !root.Equals(s.Root)
	}
	for _, r := range chain {
		if end := r.ValidUntil(); out.ValidUntil == nil || end.Before(*out.ValidUntil) {
			out.ValidUntil = timePtr(end)
		}
		if to, ok := r.Delegate(); ok {
			out.Delegate = to.String()
		} else if to, ok := r.Target(); ok {
			out.MovedTo = to.String()
		}
		last = r
	}
	for _, h := range holdings {
		if !h.Follows() {
			continue
		}
		out.Hosts++
		if h.RecordAt.IsZero() || h.RecordSequence < s.Sequence {
			continue
		}
		out.Alive++
		out.SeenAt, out.PutAt = later(out.SeenAt, h.RecordAt), later(out.PutAt, h.PutAt)
	}
	return out, last, nil
}

// later is the later of two times, of which either may be missing.
func later(a *time.Time, b time.Time) *time.Time {
	if a != nil && !b.After(*a) {
		return a
	}
	return timePtr(b)
}

// keptChain is the records that a name leads through, outermost first, as far as they are kept here. Nobody is asked.
func (a *Author) keptChain(ctx context.Context, n naming.Name) (chain []naming.Record, err error) {
	for at := n; len(chain) < naming.MaxHops; {
		r, err := a.State.Best(ctx, at)
		if errors.Is(err, naming.ErrNotFound) {
			break
		}
		if err != nil {
			return nil, err
		}
		chain = append(chain, r)
		next, ok := r.Target()
		if !ok || next == n { // back at the start is nowhere, and status says so
			break
		}
		at = next
	}
	return chain, nil
}

// warnings is what the author of a site should do something about.
func (a *Author) warnings(ctx context.Context, s state.Site, life NameLife) (out []string, err error) {
	if life.ValidUntil != nil {
		switch left := life.ValidUntil.Sub(a.Now()); {
		case left <= 0:
			out = append(out, fmt.Sprintf("the name ended on %s: nobody can find the site by it; `holdfast name renew %s` brings it back", life.ValidUntil.Format(time.DateOnly), s.Alias))
		case left <= warnBefore:
			out = append(out, fmt.Sprintf("the name ends in %s; `holdfast name renew %s` lets it live on", days(left), s.Alias))
		}
	}
	if life.Delegate == s.Name.String() {
		out = append(out, fmt.Sprintf("the deploy key leads back to %s itself: nobody sees the site; `holdfast name revoke %s --release N` takes it back", s.Alias, s.Alias))
	}
	if life.Overtaken {
		out = append(out, fmt.Sprintf("another machine has published %s since: what readers see is not what this one published last; `holdfast publish --rebase` goes on from there", s.Alias))
	}
	rivals, err := a.State.Rivals(ctx, s.Name)
	if err != nil {
		return out, err
	}
	for _, r := range rivals {
		if r.Won.Sequence() < s.Sequence {
			continue // what came after it has settled it
		}
		out = append(out, fmt.Sprintf("two machines signed sequence %d, found out %s: everybody sees %s, and not %s; if you didn't do that, somebody else has the key",
			r.Won.Sequence(), r.At.UTC().Format(time.RFC3339), r.Won.Value(), r.Lost.Value()))
	}
	return out, nil
}

// days is a duration as people think of the end of something.
func days(d time.Duration) string {
	switch n := int(d / (24 * time.Hour)); n {
	case 0:
		return "less than a day"
	case 1:
		return "a day"
	default:
		return fmt.Sprintf("%d days", n)
	}
}

// ObserveNames looks at the hosts, and what they do for each site, every hour, so that plans know who is up how
// much, and status can tell what keeps a name alive. It returns nil when ctx ends.
func (a *Author) ObserveNames(ctx context.Context) error {
	t := time.NewTicker(time.Hour)
	defer t.Stop()
	for {
		a.observeHosts(ctx)
		sites, err := a.State.Sites(ctx)
		if err != nil && ctx.Err() == nil {
			a.Log.Warn("list sites", "err", err)
		}
		for _, s := range sites {
			if err := a.lookAtNames(ctx, s.Name); err != nil && ctx.Err() == nil {
				a.Log.Warn("look at a name", "site", s.Alias, "err", err)
			}
			if err := a.TendThirdParties(ctx, s, true); err != nil && ctx.Err() == nil {
				a.Log.Warn("look at pinning services", "site", s.Alias, "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}
