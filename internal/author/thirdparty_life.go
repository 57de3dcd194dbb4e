package author

import (
	"context"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// dhtMemory is how long the DHT remembers a record that nobody puts again.
const dhtMemory = 48 * time.Hour

// manyFailures is after how many in a row a pinning service counts as one that can't be reached.
const manyFailures = 3

// sample asks for random leaves of a pin at the service's gateways, one after the other, until one of them has shown
// them, and writes down what the last said. It never makes the pin a proved copy: a gateway may have the leaves from anybody.
func (t thirdParty) sample(ctx context.Context, row state.ServicePin) error {
	hc := *t.a.HTTP
	s := replicate.Sampler{Timeout: t.a.RequestTimeout, Now: t.a.Now}
	if t.a.Network != nil {
		s.Verifier = t.a.Network.ID()
	}
	for _, g := range t.s.Gateways {
		res, err := s.Sample(ctx, replicate.SampleSource{HTTP: &hc, Base: g}, row.Site, row.Root)
		if ctx.Err() != nil {
			return nil // nothing was seen, then
		}
		row.SampledAt = t.a.Now()
		if err != nil {
			row.Sampled, row.Detail = replicate.Missed, g+": "+err.Error()
		} else {
			row.Sampled, row.Detail = res.Verdict, g+": "+res.Detail
		}
		if row.Sampled == replicate.Proved {
			break
		}
	}
	return t.a.State.PutServicePin(ctx, row)
}

// thirdPartyObservations is the pinning services as a plan sees them: they may be given a copy, and prove none.
func (a *Author) thirdPartyObservations(ctx context.Context, site naming.Name, root cid.Cid) ([]replicate.Observation, error) {
	services, err := a.State.Services(ctx)
	if err != nil || len(services) == 0 {
		return nil, err
	}
	pins, err := a.State.ServicePins(ctx, site)
	if err != nil {
		return nil, err
	}
	var out []replicate.Observation
	for _, s := range services {
		o := replicate.Observation{
			Host: s.PlanID(), Name: s.Name, Labels: s.Labels, FreeBytes: -1, Reachable: true, Draining: s.Leaving, Unproved: true,
		}
		if p, ok := bestPin(pins, s.URL, root); ok {
			o.Holds = p.Status == replicate.Pinned && p.Sampled != replicate.NotHeld && p.Sampled != replicate.Missed
			o.Reachable = p.Attempts < manyFailures
		}
		out = append(out, o)
	}
	return out, nil
}

// nameFoundUntil is until when a site can be found by its name where too few of those who keep it put its record again:
// 48 h after the last put that is known of. Zero where relaying, the proved holders that follow the name, are as many as are wanted.
func (a *Author) nameFoundUntil(ctx context.Context, site state.Site, wanted, relaying int) (time.Time, error) {
	if relaying >= wanted && relaying > 0 {
		return time.Time{}, nil
	}
	last := site.LiveAt // it was found by strangers then
	puts, err := a.State.Puts(ctx, site.Name)
	if err != nil {
		return time.Time{}, err
	}
	for _, p := range puts {
		if p.DoneAt.After(last) {
			last = p.DoneAt
		}
	}
	holdings, err := a.State.Holdings(ctx, site.Name)
	if err != nil {
		return time.Time{}, err
	}
	for _, h := range holdings {
		if h.PutAt.After(last) {
			last = h.PutAt
		}
	}
	if last.IsZero() {
		last = site.PublishedAt
	}
	return last.Add(dhtMemory), nil
}
