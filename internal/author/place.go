package author

import (
	"context"
	"errors"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// Deadlines of a placement. A fetch has none of its own: the host ends it when
// nothing moves any more, and says so.
const (
	dialDeadline  = 15 * time.Second
	auditDeadline = 10 * time.Minute
	pinPoll       = 200 * time.Millisecond
)

// placement is where the copies of one site stand, and where they are to be.
type placement struct {
	hosts map[peer.ID]state.Host

	mu       sync.Mutex
	holdings map[peer.ID]*state.Holding
	plan     replicate.Proposal
	order    []peer.ID // the holders, in the plan's order
	standby  []peer.ID // those who take over, in the plan's order

	before []state.Holding // where the copies stood when it began
}

func (pl *placement) holding(id peer.ID) *state.Holding {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	return pl.holdings[id]
}

// tempPin is the temporary pin that is left at a host; "" for none.
func (pl *placement) tempPin(id peer.ID) string {
	if h := pl.holding(id); h != nil {
		return h.TempPin
	}
	return ""
}

// holds tells whether a host is among the holders.
func (pl *placement) holds(id peer.ID) bool { return slices.Contains(pl.order, id) }

// stands tells how a host stands with what is being placed.
func (pl *placement) stands(id peer.ID) string {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	return pl.holdings[id].State
}

// proved is how many of the holders have proved themselves.
func (pl *placement) proved() (n int) {
	for _, id := range pl.order {
		if pl.stands(id) == Proved {
			n++
		}
	}
	return n
}

// whole tells whether all of them have: only then copies may be taken away elsewhere.
func (pl *placement) whole() bool { return pl.proved() == len(pl.order) }

// place is steps 6 and 7: hosts are chosen, pull the root over the connection
// that we open, and prove every byte. A host that fails is replaced by the
// next in the plan, until enough have proved or nobody is left. The holders beyond the fewest that are wanted make
// nobody wait: they get as long again as those took.
func (a *Author) place(ctx context.Context, p *publication) error {
	pl, err := a.openPlacement(ctx, p)
	if err != nil {
		return err
	}
	p.placed = pl
	if p.copies == 0 {
		return nil
	}
	want, err := a.desired(ctx, p.name, p.wants, p.copies, p.built.DAG.Bytes)
	if err != nil {
		return err
	}
	var asked []peer.ID // some of them more than once
	for began := time.Now(); ; {
		observed, err := a.observe(ctx, p.name, p.built.Root, pl)
		if err != nil {
			return err
		}
		plan, err := replicate.Plan(want, observed, a.Now())
		if err != nil {
			return pl.short(p, err)
		}
		todo := pl.follow(plan)
		asked = append(asked, todo...)
		if len(todo) == 0 {
			a.sayFailed(p, pl, asked)
			return nil
		}
		late, err := a.proveAll(ctx, p, pl, todo, began)
		if err != nil {
			return err
		}
		if late {
			a.leaveBehind(p, pl)
			a.sayFailed(p, pl, asked)
			return nil
		}
	}
}

// extraPatience is added to the time that the fewest copies took: so long the others are waited for.
const extraPatience = 5 * time.Second

// proveAll has hosts fetch and prove, side by side. late tells that the fewest copies stand, and that the others
// were not waited for any longer.
func (a *Author) proveAll(ctx context.Context, p *publication, pl *placement, todo []peer.ID, began time.Time) (late bool, err error) {
	pctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var once sync.Once
	enough := func() {
		if pl.proved() >= p.copies {
			once.Do(func() { time.AfterFunc(time.Since(began)+extraPatience, cancel) })
		}
	}
	enough()
	g := errgroup.Group{}
	for _, id := range todo {
		g.Go(func() error {
			err := a.prove(pctx, p, pl, id)
			if err != nil && pctx.Err() == nil {
				cancel()
			}
			enough()
			return err
		})
	}
	err = g.Wait()
	if late = pctx.Err() != nil && ctx.Err() == nil && errors.Is(err, context.Canceled); late {
		return true, nil
	}
	return false, err
}

// leaveBehind lets the publish go on without those who are still at it: who fetches stays a holder, and follows the
// name as soon as it can; who could not be asked yet is none.
func (a *Author) leaveBehind(p *publication, pl *placement) {
	pl.order = slices.DeleteFunc(pl.order, func(id peer.ID) bool {
		switch pl.stands(id) {
		case Proved:
			return false
		case Fetching:
			p.warn("%s is still fetching: it counts once it has proved its copy, which `holdfast status --check` asks for", pl.hosts[id].Name)
			return false
		}
		p.warn("%s got no copy: it could not be reached in time", pl.hosts[id].Name)
		return true
	})
}

// sayFailed warns of hosts that were to hold the site, and don't: enough others do.
func (a *Author) sayFailed(p *publication, pl *placement, asked []peer.ID) {
	for _, id := range slices.Compact(slices.Sorted(slices.Values(asked))) {
		if h := pl.holding(id); h.State == Failed || h.State == Unreachable {
			p.warn("%s got no copy: %s", pl.hosts[id].Name, h.Error)
		}
	}
}

// openPlacement reads which hosts there are and what is known of them.
func (a *Author) openPlacement(ctx context.Context, p *publication) (*placement, error) {
	hosts, err := a.State.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	if p.copies > 0 {
		if hosts, err = a.refresh(ctx, hosts); err != nil {
			return nil, err
		}
	}
	known, err := a.State.Holdings(ctx, p.name)
	if err != nil {
		return nil, err
	}
	pl := &placement{hosts: make(map[peer.ID]state.Host), holdings: make(map[peer.ID]*state.Holding), before: known}
	for _, h := range hosts {
		pl.hosts[h.ID] = h
		pl.holdings[h.ID] = &state.Holding{Site: p.name, Host: h.ID}
	}
	for _, h := range known {
		if _, ok := pl.hosts[h.Host]; !ok {
			continue
		}
		kept := h
		kept.State, kept.Error, kept.VerifiedAt = "", "", time.Time{}
		if h.Root.Equals(p.built.Root) { // what was proved of another root says nothing about this one
			kept.VerifiedAt = h.VerifiedAt
		}
		pl.holdings[h.Host] = &kept
	}
	return pl, nil
}

// observe is what the plan may know of each host, by what has been found out up to now. A host is taken to be
// there until it fails.
func (a *Author) observe(ctx context.Context, site naming.Name, root cid.Cid, pl *placement) ([]replicate.Observation, error) {
	pl.mu.Lock()
	out := make([]replicate.Observation, 0, len(pl.hosts))
	for id, h := range pl.hosts {
		hold, o := pl.holdings[id], a.observation(h)
		o.Reachable = hold.State != Failed && hold.State != Unreachable
		o.Holds = hold.State == Proved || hold.NamePin != "" || !hold.StandbyHolds.IsZero()
		out = append(out, o)
	}
	pl.mu.Unlock()
	groupNetworks(out, pl.hosts)
	others, err := a.thirdPartyObservations(ctx, site, root)
	return append(out, others...), err
}

// follow takes up a plan; todo are the holders that have not proved yet.
func (pl *placement) follow(plan replicate.Proposal) (todo []peer.ID) {
	pl.plan, pl.order, pl.standby = plan, nil, nil
	for _, act := range plan.Actions {
		switch act.Kind {
		case replicate.Hold:
			pl.order = append(pl.order, act.Host)
			if pl.stands(act.Host) != Proved {
				todo = append(todo, act.Host)
			}
		case replicate.Standby:
			pl.standby = append(pl.standby, act.Host)
		}
	}
	return todo
}

// short is the error of a placement that can't be completed.
func (pl *placement) short(p *publication, why error) error {
	states := pl.states(nil)
	got := 0
	for _, h := range states {
		if h.State == Proved {
			got++
		}
	}
	var few *replicate.TooFewHostsError
	if errors.As(why, &few) {
		why = nil // the hosts' own reasons follow in Hosts, where they can be read
		if len(states) == 0 {
			why = few
		}
	}
	return &ShortError{Want: p.copies, Got: got, Hosts: states, Err: why}
}

// states lists the hosts with something to say, holders first, by name.
func (pl *placement) states(only []peer.ID) []HostState {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	wanted := make(map[peer.ID]bool)
	for _, id := range only {
		wanted[id] = true
	}
	out := []HostState{}
	for id, h := range pl.holdings {
		if h.State == "" || (only != nil && !wanted[id] && h.State == Proved) {
			continue
		}
		out = append(out, hostState(pl.hosts[id], *h))
	}
	sort.Slice(out, func(i, j int) bool {
		if (out[i].State == Proved) != (out[j].State == Proved) {
			return out[i].State == Proved
		}
		return out[i].Name < out[j].Name
	})
	return out
}

func hostState(h state.Host, hold state.Holding) HostState {
	out := HostState{
		ID: h.ID.String(), Name: h.Name, State: hold.State, VerifiedAt: timePtr(hold.VerifiedAt), Label: h.Labels,
		Uptime: h.Presence.Uptime(), Until: timePtr(h.Until), Draining: h.Draining || h.Leaving, Error: hold.Error,
	}
	if out.Label == nil {
		out.Label = map[string]string{}
	}
	return out
}
