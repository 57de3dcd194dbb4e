package author

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// Volunteer is somebody who keeps a site of his own accord: he says in the DHT that he has it, and is in nobody's plan.
type Volunteer struct {
	ID    string   `json:"id"`
	Addrs []string `json:"addrs,omitempty"`
	State string   `json:"state"`
	// Verdict and Detail are what random leaves showed; empty where he was not asked.
	Verdict string     `json:"verdict,omitempty"`
	Detail  string     `json:"detail,omitempty"`
	At      *time.Time `json:"at"`
}

// The states of a Volunteer.
const (
	Found   = "found"   // he says so, and was not asked
	Sampled = "sampled" // random leaves could be had from him
	Lacking = "lacking" // they could not
	// Unreachable, as of a host
)

// volunteersDeadline is how long the DHT may take.
const volunteersDeadline = 5 * time.Second

// Volunteers finds those who keep a root of the site without being asked to, and has each show so many random leaves;
// with 0 leaves nobody is asked. A volunteer promises nothing: he is shown, and counts for nothing. Offline there are none.
func (a *Author) Volunteers(ctx context.Context, site naming.Name, root cid.Cid, leaves int) ([]Volunteer, error) {
	if a.Network == nil || !root.Defined() {
		return nil, nil
	}
	known, err := a.enlisted(ctx, site)
	if err != nil {
		return nil, err
	}
	found := a.foundProviders(ctx, root)
	var out []Volunteer
	var who []peer.AddrInfo
	for _, ai := range found {
		if known[ai.ID] {
			continue
		}
		v := Volunteer{ID: ai.ID.String(), State: Found}
		for _, addr := range ai.Addrs {
			v.Addrs = append(v.Addrs, addr.String())
		}
		out, who = append(out, v), append(who, ai)
	}
	if leaves > 0 {
		var wg sync.WaitGroup
		for i := range out {
			wg.Go(func() { a.sampleVolunteer(ctx, site, root, leaves, who[i], &out[i]) })
		}
		wg.Wait()
	}
	return out, ctx.Err()
}

func (a *Author) foundProviders(ctx context.Context, root cid.Cid) []peer.AddrInfo {
	ctx, cancel := context.WithTimeout(ctx, volunteersDeadline)
	defer cancel()
	return a.Network.Providers(ctx, root)
}

// enlisted is those who are expected to have the site: our hosts, the members of its roster, ourselves.
func (a *Author) enlisted(ctx context.Context, site naming.Name) (map[peer.ID]bool, error) {
	known := map[peer.ID]bool{a.Network.ID(): true}
	hosts, err := a.State.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	for _, h := range hosts {
		known[h.ID] = true
	}
	rec, err := a.State.Best(ctx, site)
	if errors.Is(err, naming.ErrNotFound) || errors.Is(err, state.ErrNotFound) || err == nil && !rec.Policy().Defined() {
		return known, nil
	}
	if err != nil {
		return nil, err
	}
	pol, err := replicate.ReadPolicy(ctx, a.blocks(), rec.Policy())
	if err != nil { // the hosts are all that is known then
		a.Log.Info("read the policy", "site", site, "err", err)
		return known, ctx.Err()
	}
	for _, m := range pol.Roster {
		known[m.ID] = true
	}
	return known, nil
}

func (a *Author) sampleVolunteer(ctx context.Context, site naming.Name, root cid.Cid, leaves int, ai peer.AddrInfo, v *Volunteer) {
	s := replicate.Sampler{Verifier: a.Network.ID(), Leaves: leaves, Timeout: a.RequestTimeout, Now: a.Now}
	from := replicate.SampleSource{
		HTTP: a.Network.HTTPClient(ai), Base: "http://" + ai.ID.String(), Peer: ai.ID,
		Alive: func(ctx context.Context) error { return a.Network.Connect(ctx, []peer.AddrInfo{ai}) },
	}
	res, err := s.Sample(ctx, from, site, root)
	if err != nil {
		v.Detail = err.Error()
		return
	}
	v.Verdict, v.Detail, v.At = string(res.Verdict), res.Detail, timePtr(res.At)
	switch res.Verdict {
	case replicate.Proved:
		v.State = Sampled
	case replicate.Unreachable:
		v.State = Unreachable
	case replicate.NotHeld, replicate.Missed, replicate.Wrong:
		v.State = Lacking
	}
}
