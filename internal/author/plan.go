package author

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/replicate"
)

// PlanRequest asks who should hold one site, or all where Alias is empty.
type PlanRequest struct {
	Alias string `json:"site,omitempty"`
	Wants Wants  `json:"wants,omitzero"` // remembered for the site, which has to be named; see Wants
	// Forget lets the defaults count again before Wants do.
	Forget bool `json:"forget,omitempty"`
}

// Plans is what would be done.
type Plans struct {
	// Digest names this plan for apply; empty where there is nothing to carry out.
	Digest  string     `json:"digest"`
	Nothing bool       `json:"nothing_to_do"`
	Sites   []SitePlan `json:"sites"`
}

// SitePlan is what would be done about one site. Availabilities are estimates in billionths, Target is in millionths.
type SitePlan struct {
	Alias             string       `json:"alias"`
	Name              string       `json:"name"`
	Digest            string       `json:"digest"` // of who is to hold it and who stands by
	Copies            int          `json:"copies"`
	CopiesAfter       int          `json:"copies_after"`
	Availability      int64        `json:"availability"`
	AvailabilityAfter int64        `json:"availability_after"`
	Target            int          `json:"target"`
	Changes           []PlanChange `json:"changes"`
	Moves             int64        `json:"moves_bytes"`
	Least             int64        `json:"least_bytes"`
	Worst             *Failure     `json:"worst_failure"`    // once it is carried out; null where nothing is shared or known
	Missed            string       `json:"missed,omitempty"` // why the target isn't reached
	Silent            []string     `json:"silent,omitempty"` // holders that don't answer and count all the same, each with for how long
	Policy            bool         `json:"policy_changes"`   // the signed policy is written anew
	Error             string       `json:"error,omitempty"`  // why there is no plan
}

// Nothing tells whether the site is as it should be.
func (s SitePlan) Nothing() bool { return len(s.Changes) == 0 && !s.Policy && s.Error == "" }

// PlanChange is one line of a plan.
type PlanChange struct {
	Op     string            `json:"op"` // one of the Op constants
	ID     string            `json:"id"`
	Host   string            `json:"host"`
	Label  map[string]string `json:"label"`
	Bytes  int64             `json:"bytes"`  // that are copied to it
	Uptime int               `json:"uptime"` // low estimate, millionths
	Reason string            `json:"reason"`
	After  []string          `json:"after,omitempty"` // of a release: the hosts that have to prove themselves first
}

// The values of PlanChange.Op.
const (
	OpHold      = "hold"      // it gets a copy
	OpRelease   = "release"   // its copy is taken away
	OpStandby   = "standby"   // it reserves room, and takes over in turn
	OpDischarge = "discharge" // it stands by no longer
)

// Failure is what is left of a site when all that share one value of a label are gone.
type Failure struct {
	Label        string `json:"label"`
	Value        string `json:"value"`
	Copies       int    `json:"copies"`
	Availability int64  `json:"availability"`
}

func failure(l replicate.Loss) *Failure {
	if l.Label == "" {
		return nil
	}
	return &Failure{Label: l.Label, Value: l.Value, Copies: l.Copies, Availability: l.Availability}
}

// draft is the plan of one site, with what it was made from.
type draft struct {
	site     state.Site
	wants    Wants
	copies   int
	root     cid.Cid
	hosts    map[peer.ID]state.Host
	holdings map[peer.ID]state.Holding
	observed map[peer.ID]replicate.Observation
	kept     map[peer.ID]bool // pinning services that say that they hold it
	silent   []string         // SitePlan.Silent
	policy   replicate.Policy // in force; zero where there is none
	plan     replicate.Proposal
}

// Plan says who should hold the sites, asking every host how it is first. Nothing is changed, but what is
// wanted is remembered, and what was shown, so that it can be carried out by its digest.
func (a *Author) Plan(ctx context.Context, req PlanRequest, report func(Event)) (Plans, error) {
	if err := a.want(ctx, req); err != nil {
		return Plans{}, err
	}
	sites, err := a.sites(ctx, req.Alias)
	if err != nil {
		return Plans{}, err
	}
	if report != nil {
		report(Event{Step: "ask", Message: "every host how it is"})
	}
	hosts, began, err := a.lookAtHosts(ctx)
	if err != nil {
		return Plans{}, err
	}
	out := Plans{Sites: []SitePlan{}, Nothing: true}
	var drafts []draft
	possible := false
	for _, s := range sites {
		d, err := a.draft(ctx, s, hosts, began)
		if err != nil && !errors.Is(err, replicate.ErrTooFewHosts) {
			return Plans{}, err
		}
		sp := d.show(err)
		out.Sites, out.Nothing = append(out.Sites, sp), out.Nothing && sp.Nothing()
		possible = possible || sp.Error == "" && !sp.Nothing()
		drafts = append(drafts, d)
	}
	if possible {
		out.Digest = digestOf(out.Sites)
		err = a.remember(ctx, out, hosts, drafts)
	}
	return out, err
}

// want remembers what is asked for of a site. Who only looks doesn't wait for the site's turn.
func (a *Author) want(ctx context.Context, req PlanRequest) error {
	if sameWants(req.Wants, Wants{}) && !req.Forget {
		return nil
	}
	if req.Alias == "" {
		return usagef("what is wanted is wanted of one site: name it")
	}
	done, err := a.turns.take(ctx, req.Alias) // a publish writes down what it found wanted
	if err != nil {
		return err
	}
	defer done()
	sites, err := a.sites(ctx, req.Alias)
	if err != nil {
		return err
	}
	s := sites[0]
	was := s.Wants
	if req.Forget {
		s.Wants = Wants{}
	}
	s.Wants = over(req.Wants, s.Wants)
	if err := checkWants(s.Wants); err != nil {
		return err
	}
	if sameWants(was, s.Wants) {
		return nil
	}
	return a.State.PutWants(ctx, s.Name, s.Wants)
}

// lookAtHosts asks every host how it is. began is when: who has answered was seen since then.
func (a *Author) lookAtHosts(ctx context.Context) (hosts map[peer.ID]state.Host, began time.Time, err error) {
	if a.Network == nil {
		return nil, began, fmt.Errorf("%w: the network is offline, so that no host can say how it is", ErrUnreachable)
	}
	list, err := a.State.Hosts(ctx)
	if err != nil {
		return nil, began, err
	}
	began = a.Now()
	if list, err = a.refresh(ctx, list); err != nil {
		return nil, began, err
	}
	hosts = make(map[peer.ID]state.Host, len(list))
	answered := 0
	for _, h := range list {
		hosts[h.ID] = h
		if !h.SeenAt.Before(began) {
			answered++
		}
	}
	if answered == 0 && len(list) > 0 { // it would be made from nothing but what was
		return nil, began, fmt.Errorf("%w: none of your %d hosts answers; is this machine online?", ErrUnreachable, len(list))
	}
	return hosts, began, nil
}

// draft plans one site. With a replicate.TooFewHostsError the rest of the draft is there.
func (a *Author) draft(ctx context.Context, s state.Site, hosts map[peer.ID]state.Host, began time.Time) (draft, error) {
	d := draft{site: s, root: s.Root, hosts: hosts, holdings: make(map[peer.ID]state.Holding), observed: make(map[peer.ID]replicate.Observation), kept: make(map[peer.ID]bool)}
	d.wants, d.copies = wantedOf(s)
	chain, err := a.keptChain(ctx, s.Name)
	if err != nil {
		return d, err
	}
	if n := len(chain); n > 1 && rootOf(chain[n-1]).Defined() { // what a deploy key has published
		d.root = rootOf(chain[n-1])
	}
	if len(chain) > 0 {
		if d.policy, err = a.policyOf(ctx, chain[0]); err != nil && ctx.Err() == nil {
			a.Log.Info("the policy can't be read", "site", s.Alias, "err", err)
		}
	}
	holdings, err := a.State.Holdings(ctx, s.Name)
	if err != nil {
		return d, err
	}
	for _, h := range holdings {
		d.holdings[h.Host] = h
	}
	observed := d.observe(a, began)
	others, err := a.thirdPartyObservations(ctx, s.Name, d.root)
	if err != nil {
		return d, err
	}
	for _, o := range others {
		d.kept[o.Host] = o.Holds
	}
	want, err := a.desired(ctx, s.Name, d.wants, d.copies, d.bytes())
	if err != nil {
		return d, err
	}
	d.plan, err = replicate.Plan(want, append(observed, others...), a.Now())
	return d, err
}

// bytes is the room that a holder needs.
func (d draft) bytes() int64 {
	if d.site.DAGBytes > 0 {
		return d.site.DAGBytes
	}
	return d.site.Bytes
}

// planPatience is for how long a holder counts that doesn't answer: most come back. Hosts that repair by themselves
// wait for longer, since nobody is there to look at what they are about to do.
const planPatience = 24 * time.Hour

// observe is what the plan may know of each host.
func (d *draft) observe(a *Author, began time.Time) (out []replicate.Observation) {
	for id, h := range d.hosts {
		o, hold := a.observation(h), d.holdings[id]
		answered := !h.SeenAt.IsZero() && !h.SeenAt.Before(began)
		o.Holds = hold.NamePin != "" && d.mayHold(hold, answered) || !hold.StandbyHolds.IsZero()
		if left := h.SeenAt.Add(planPatience).Sub(a.Now()); answered || o.Holds && left > 0 {
			o.Reachable = true
			if !answered {
				d.silent = append(d.silent, fmt.Sprintf("%s doesn't answer, and counts as a holder for another %s, since most come back; `holdfast host remove %s` if it is gone for good", h.Name, roughly(left), h.Name))
			}
		} else {
			o.Reachable = false
		}
		out = append(out, o)
	}
	slices.Sort(d.silent)
	groupNetworks(out, d.hosts)
	for _, o := range out {
		d.observed[o.Host] = o
	}
	return out
}

// mayHold tells whether a host that follows the name can be taken to hold what the site shows: not where it has failed,
// nor where it was away when that came and has not answered since.
func (d *draft) mayHold(h state.Holding, answered bool) bool {
	return h.State != Failed && (answered || h.State != Unreachable || h.Root.Equals(d.root))
}

// roughly is a duration as people think of how long to wait.
func roughly(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return days(d)
}

// show is the draft as people and programs read it; why is the reason that there is no plan.
func (d draft) show(why error) SitePlan {
	out := SitePlan{
		Alias: d.site.Alias, Name: d.site.Name.String(), Target: target(d.wants), Changes: []PlanChange{},
		Copies: d.plan.Before.Copies, CopiesAfter: d.plan.After.Copies, Moves: d.plan.Moves, Least: d.plan.Least, Missed: d.plan.Missed,
		Availability: d.plan.Before.Availability, AvailabilityAfter: d.plan.After.Availability, Worst: failure(d.plan.After.Worst),
	}
	if why != nil {
		out.Error = why.Error()
		held := slices.Collect(func(yield func(replicate.Observation) bool) {
			for _, o := range d.observed {
				if o.Holds && o.Reachable && !yield(o) {
					return
				}
			}
		})
		now := replicate.EstimateOf(held)
		out.Copies, out.CopiesAfter, out.Availability, out.AvailabilityAfter = now.Copies, now.Copies, now.Availability, now.Availability
		out.Digest = out.targetDigest(d)
		return out
	}
	for _, act := range d.plan.Actions { // pinning services are asked by publish and by the clock, not by apply
		if act.Kind == replicate.Extra && !d.kept[act.Host] {
			out.Moves, out.Least = out.Moves-d.bytes(), out.Least-d.bytes()
		}
	}
	out.Changes, out.Silent = d.changes(), d.silent
	out.Policy = !d.samePolicy()
	out.Digest = out.targetDigest(d)
	return out
}

// samePolicy tells whether the policy in force says what the plan does.
func (d draft) samePolicy() bool {
	pl := placement{hosts: d.hosts}
	pl.order, pl.standby = d.rosters()
	if d.policy.Expires.IsZero() {
		return len(pl.order) == 0 && d.copies == 0 // a site that nobody else holds needs none
	}
	return samePolicy(d.newPolicy(&pl), d.policy)
}

// newPolicy is the policy in force with what the plan changes of it.
func (d draft) newPolicy(pl *placement) replicate.Policy {
	pol := d.policy
	pol.Copies, pol.Availability, pol.Roster = len(pl.order), target(d.wants), pl.roster()
	switch {
	case d.policy.Expires.IsZero():
		pol.Keep, pol.Grace = keepOrDefault(d.wants), DefaultGrace
	case d.policy.Keep == 1 && d.policy.Grace == 0: // published with --no-grace, which no plan undoes
	default:
		pol.Keep = keepOrDefault(d.wants)
	}
	return pol
}

// rosters is the plan's holders and standbys, in their order.
func (d draft) rosters() (order, standby []peer.ID) {
	for _, act := range d.plan.Actions {
		switch act.Kind {
		case replicate.Hold:
			order = append(order, act.Host)
		case replicate.Standby:
			standby = append(standby, act.Host)
		}
	}
	return asBefore(order, standby, d.policy)
}

// asBefore keeps the order of the policy in force where it has the same hosts in the same part: an order that is
// as good is no reason for a new policy.
func asBefore(order, standby []peer.ID, before replicate.Policy) (o, s []peer.ID) {
	var was []peer.ID
	for _, m := range before.Roster {
		was = append(was, m.ID)
	}
	same := func(now, was []peer.ID) []peer.ID {
		if slices.Equal(slices.Sorted(slices.Values(now)), slices.Sorted(slices.Values(was))) {
			return was
		}
		return now
	}
	n := min(before.Copies, len(was))
	return same(order, was[:n]), same(standby, was[n:])
}
