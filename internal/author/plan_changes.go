package author

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/replicate"
)

// changes is what the plan does to what is there, holders first, then whose copy goes, then the standbys.
func (d draft) changes() []PlanChange {
	out := []PlanChange{}
	var fresh []string
	reasons := make(map[peer.ID]string)
	order, standby := d.rosters()
	for _, act := range d.plan.Actions {
		reasons[act.Host] = act.Reason
		if act.Kind == replicate.Hold && !d.observed[act.Host].Holds {
			c := d.change(OpHold, act.Host, act.Reason)
			c.Bytes = d.bytes()
			fresh = append(fresh, c.Host)
			out = append(out, c)
		}
	}
	for _, h := range d.byName() {
		if h.NamePin != "" && !slices.Contains(order, h.Host) {
			c := d.change(OpRelease, h.Host, cmp.Or(reasons[h.Host], d.whyNot(h.Host)))
			c.After = fresh
			out = append(out, c)
		}
	}
	for _, id := range standby {
		if d.holdings[id].StandbyPin == "" {
			out = append(out, d.change(OpStandby, id, reasons[id]))
		}
	}
	for _, h := range d.byName() {
		if h.StandbyPin != "" && !slices.Contains(standby, h.Host) && !slices.Contains(order, h.Host) {
			out = append(out, d.change(OpDischarge, h.Host, d.whyNot(h.Host)))
		}
	}
	return out
}

func (d draft) change(op string, id peer.ID, reason string) PlanChange {
	o := d.observed[id]
	labels := o.Labels
	if labels == nil {
		labels = map[string]string{}
	}
	return PlanChange{Op: op, ID: id.String(), Host: cmp.Or(o.Name, id.String()), Label: labels, Uptime: o.Uptime, Reason: reason}
}

// whyNot is why a host is in no roster, as far as one look at it tells.
func (d draft) whyNot(id peer.ID) string {
	o, known := d.observed[id]
	switch {
	case !known:
		return "not known any more"
	case o.Out:
		return "it was convicted of false proofs"
	case o.Draining:
		return "draining"
	case !o.Reachable:
		return "can't be reached"
	}
	return "not needed"
}

// byName lists what is held in an order that doesn't change.
func (d draft) byName() []state.Holding {
	return slices.SortedFunc(maps.Values(d.holdings), func(x, y state.Holding) int { return cmp.Compare(x.Host, y.Host) })
}

// targetDigest is over what is to be reached, not over the way there: a plan that was cut off half-way is still the same plan.
func (s SitePlan) targetDigest(d draft) string {
	order, standby := d.rosters()
	w := d.wants
	w.BytesPerDay = 0 // says how fast, not what
	b, err := json.Marshal([]any{s.Name, d.copies, w, order, standby, s.Error != ""})
	if err != nil {
		panic(err) // strings and numbers always work
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

func digestOf(sites []SitePlan) string {
	h := sha256.New()
	for _, s := range sites {
		fmt.Fprintln(h, s.Name, s.Digest)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// shown is what is kept of a plan that somebody has looked at: the plan, and what explains a later difference.
type shown struct {
	Plans Plans                `json:"plans"`
	Hosts map[string]hostFacts `json:"hosts"` // by peer id
	Wants map[string]Wants     `json:"wants"` // by the site's name
}

// hostFacts is of a host what changes a plan by itself.
type hostFacts struct {
	Name     string            `json:"name"`
	Up       bool              `json:"up"`
	Draining bool              `json:"draining"`
	Out      bool              `json:"out"`
	Labels   map[string]string `json:"labels"`
	Free     int64             `json:"free"`
}

func factsOf(hosts map[peer.ID]state.Host, drafts []draft) (map[string]hostFacts, map[string]Wants) {
	facts, wants := make(map[string]hostFacts), make(map[string]Wants)
	for id, h := range hosts {
		f := hostFacts{Name: h.Name, Draining: h.Draining || h.Leaving, Out: h.Trial.Convicted(), Labels: h.Labels, Free: h.FreeBytes, Up: true}
		for _, d := range drafts {
			f.Up = f.Up && d.observed[id].Reachable
		}
		facts[id.String()] = f
	}
	for _, d := range drafts {
		wants[d.site.Name.String()] = d.wants
	}
	return facts, wants
}

// remember keeps a plan for apply.
func (a *Author) remember(ctx context.Context, p Plans, hosts map[peer.ID]state.Host, drafts []draft) error {
	kept := shown{Plans: p}
	kept.Hosts, kept.Wants = factsOf(hosts, drafts)
	b, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	return a.State.PutPlan(ctx, state.ShownPlan{Digest: p.Digest, At: a.Now(), Plan: b})
}

// leastDigest is how many characters of a digest name a plan.
const leastDigest = 6

// recall finds a plan that was shown: the last one where digest is empty.
func (a *Author) recall(ctx context.Context, digest string) (shown, error) {
	plans, err := a.State.Plans(ctx)
	if err != nil {
		return shown{}, err
	}
	for _, p := range plans {
		if digest == "" || len(digest) >= leastDigest && strings.HasPrefix(p.Digest, digest) {
			var s shown
			err := json.Unmarshal(p.Plan, &s)
			return s, err
		}
	}
	if digest == "" {
		return shown{}, usagef("no plan was looked at that has anything to carry out: `holdfast plan` shows what there is, and `holdfast apply --yes` carries out whatever it would show")
	}
	return shown{}, usagef("no plan %s was shown here; look at it again with `holdfast plan`", digest)
}

// ErrPlanChanged says that the plan that was shown is not the one that would be made now.
var ErrPlanChanged = errors.New("hosts or wants have changed since")

// PlanChangedError says what has changed since a plan was shown.
type PlanChangedError struct {
	Digest string
	Since  []string // for people
}

func (e *PlanChangedError) Error() string {
	return fmt.Sprintf("%v: %s; look at it again with `holdfast plan`", ErrPlanChanged, strings.Join(e.Since, "; "))
}

// Unwrap is ErrPlanChanged.
func (e *PlanChangedError) Unwrap() error { return ErrPlanChanged }

// Details is what a program may act on.
func (e *PlanChangedError) Details() map[string]any {
	return map[string]any{"plan": e.Digest, "changed": e.Since}
}

// since says what is different from when a plan was shown.
func (s shown) since(hosts map[peer.ID]state.Host, drafts []draft) (out []string) {
	facts, wants := factsOf(hosts, drafts)
	for _, id := range slices.Sorted(maps.Keys(facts)) {
		now, was := facts[id], s.Hosts[id]
		say := func(differs bool, format string, args ...any) {
			if differs {
				out = append(out, now.Name+" "+fmt.Sprintf(format, args...))
			}
		}
		if _, known := s.Hosts[id]; !known {
			say(true, "is new")
			continue
		}
		say(now.Draining && !was.Draining, "is draining")
		say(!now.Draining && was.Draining, "is draining no longer")
		say(!now.Up && was.Up, "can't be reached")
		say(now.Up && !was.Up, "can be reached again")
		say(now.Out && !was.Out, "was convicted of false proofs")
		say(!maps.Equal(now.Labels, was.Labels), "has other labels")
	}
	for _, id := range slices.Sorted(maps.Keys(s.Hosts)) {
		if _, known := facts[id]; !known {
			out = append(out, s.Hosts[id].Name+" was removed")
		}
	}
	for _, d := range drafts {
		if was, known := s.Wants[d.site.Name.String()]; known && !sameWants(was, wants[d.site.Name.String()]) {
			out = append(out, "other copies are wanted of "+d.site.Alias)
		}
	}
	if len(out) == 0 {
		out = []string{"what hosts hold, how much room they have, or how often they are up"}
	}
	return out
}

func sameWants(a, b Wants) bool { return reflect.DeepEqual(a, b) }
