package replicate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/naming"
)

// Desired is what an author wants for one site.
type Desired struct {
	Site  naming.Name
	Root  cid.Cid // for people; the plan does not depend on it
	Bytes int64   // unique bytes that a holder needs room for
	// Copies is the fewest holders, 0..MaxCopies; 0: the site is to be on no host.
	Copies int
	// Most is the most holders that Availability may ask for; 0: DefaultMost, or Copies if that is more.
	Most int
	// Availability is the target, in millionths, to be met with the best holder taken away; 0: none.
	Availability int
	Regions      []string // the values of LabelRegion that may hold it; none: any
	MoveBytes    int64    // the most that the plan may move beyond what Copies needs; 0: any
	Standbys     int      // in the roster behind the holders; 0: DefaultStandbys, negative: none
}

// Observation is what we know of one host, as far as we saw it ourselves.
type Observation struct {
	Host   peer.ID
	Name   string            // for people
	Labels map[string]string // the author's: operator, network, region, software. Not what the host says of itself
	Uptime int               // low estimate, millionths (Presence.Uptime); 0: NewUptime
	// Quota is how much room it has for us in all, by which it is drawn more often; 0: not known, counts as the mean.
	Quota int64
	// FreeBytes is how much room it has for us; negative: not known, which
	// counts as its Quota, and as enough where that isn't known either.
	FreeBytes int64
	// MaxPinBytes is the largest pin it takes; 0: no limit known.
	MaxPinBytes int64
	// Until is when the token or the terms end by which we use it; zero: never.
	Until     time.Time
	Reachable bool
	Draining  bool // its operator wants it empty, or the author wants to leave it
	// Holds says that it has proved, to us, that it holds the site: this root
	// or the one before. Such a host stays if it can, whatever FreeBytes says:
	// most of the site is there already.
	Holds bool
	// Unproved says that it can't prove what it holds (a pinning service of somebody else): it never
	// counts as one of Copies, and is no member of the roster.
	Unproved bool
	Out      bool // convicted: never used again
}

// Defaults of a Desired. More copies than DefaultMost cost more room than they are worth: in the simulator they keep no
// site more at four nines, since repair comes first.
const (
	DefaultMost     = 5
	DefaultStandbys = 8
)

// Proposal is a plan: who should hold a site, what that moves, and what it is worth.
type Proposal struct {
	Actions       []Action
	Before, After Estimate
	Moves         int64 // bytes that have to be copied
	Least         int64 // the fewest with which the wants could be met
	// Missed says why After is not what Availability asks for; "": it is.
	Missed string
}

// Estimate is what a set of holders is worth. Availability is an estimate, not a promise.
type Estimate struct {
	Copies       int   // proved holders
	Availability int64 // billionths, with what is known of uptime and of shared failures
	Worst        Loss  // the single failure that costs most
}

// Loss is one failure domain gone, and what is left then.
type Loss struct {
	Label, Value string // of the domain, "operator" and "alice"; empty: none
	Copies       int    // holders left
	Availability int64  // billionths
}

// ActionKind is what an action does.
type ActionKind string

// The kinds of action.
const (
	Hold    ActionKind = "hold"    // pin the site, prove it, follow the name
	Standby ActionKind = "standby" // pin the policy, reserve room, take over in turn
	Release ActionKind = "release" // let the site go
	// Extra is to pin the site where nothing can be proved. It is in no roster and never counts.
	Extra ActionKind = "extra"
)

// Action is one step of a plan. The holds, then the standbys, in their order,
// are the policy's roster.
type Action struct {
	Kind   ActionKind
	Host   peer.ID
	Reason string // for people
	// AfterProof says that the action takes a copy away: it is to be carried out only
	// when all of the plan's holders have proved themselves.
	AfterProof bool
}

// Roster is the hosts of a plan in the order of takeover.
func (p Proposal) Roster() []peer.ID {
	var roster []peer.ID
	for _, a := range p.Actions {
		if a.Kind == Hold || a.Kind == Standby {
			roster = append(roster, a.Host)
		}
	}
	return roster
}

// TooFewHostsError says how far the hosts go, and why the others can't be used.
type TooFewHostsError struct {
	Wanted  int
	Usable  int // a plan for so many copies is possible
	LeftOut []LeftOut
}

// LeftOut is a host that a plan could not use.
type LeftOut struct {
	Host   peer.ID
	Name   string
	Reason string
}

func (e *TooFewHostsError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v: %d can be used, %d are wanted", ErrTooFewHosts, e.Usable, e.Wanted)
	for i, l := range e.LeftOut {
		sep := ", "
		if i == 0 {
			sep = "; left out: "
		}
		fmt.Fprintf(&b, "%s%s (%s)", sep, nameOf(l.Name, l.Host), l.Reason)
	}
	return b.String()
}

// Unwrap is ErrTooFewHosts.
func (e *TooFewHostsError) Unwrap() error { return ErrTooFewHosts }

// Plan says who should hold a site, who stands by, and who may let it go. It is a pure
// function: the same observations in any order give the same plan on every
// machine.
//
// Present holders stay unless they drain, can't be reached, crowd an operator
// while another has room, or are not needed. Others are drawn by slots that hosts have in
// proportion to their quotas, so that what is wanted of them is, too, and little
// changes when hosts come and go: for choice those that share neither operator nor network with
// a holder, and are not above their fair share. Holders are added until Availability is met with the best one taken
// away, or there are Most. A copy too many goes only when the others are proved.
//
// ErrInvalid for arguments that contradict themselves; a TooFewHostsError, and
// no plan, where fewer than Copies hosts can be used.
func Plan(desired Desired, observed []Observation, now time.Time) (Proposal, error) {
	if err := checkPlan(desired, observed); err != nil {
		return Proposal{}, err
	}
	observed = slices.Clone(observed)
	slices.SortFunc(observed, func(a, b Observation) int { return cmp.Compare(a.Host, b.Host) })
	before := EstimateOf(kept(observed))
	if desired.Copies == 0 {
		return Proposal{Actions: releaseAll(observed), Before: before}, nil
	}
	usable, left := sift(desired, observed, now)
	can := 0
	for _, o := range usable {
		if why := tooSmall(desired, o); why != "" {
			left = append(left, LeftOut{Host: o.Host, Name: o.Name, Reason: why})
		} else {
			can++
		}
	}
	if can < desired.Copies {
		slices.SortFunc(left, func(a, b LeftOut) int { return cmp.Compare(a.Host, b.Host) })
		return Proposal{}, &TooFewHostsError{Wanted: desired.Copies, Usable: can, LeftOut: left}
	}
	s := newSketch(desired, usable)
	p := s.proposal()
	p.Actions = append(p.Actions, extras(desired, observed, now)...)
	p.Actions = append(p.Actions, unwanted(desired, observed)...)
	for _, a := range p.Actions {
		if a.Kind == Extra && !holds(observed, a.Host) {
			p.Moves, p.Least = p.Moves+desired.Bytes, p.Least+desired.Bytes
		}
	}
	p.Before = before
	return p, nil
}

func checkPlan(desired Desired, observed []Observation) error {
	if desired.Site.IsZero() || desired.Copies < 0 || desired.Copies > MaxCopies || desired.Bytes < 0 {
		return fmt.Errorf("%w: a plan for %d copies of %d bytes of site %q", ErrInvalid, desired.Copies, desired.Bytes, desired.Site)
	}
	if desired.Most != 0 && desired.Most < desired.Copies || desired.Most > MaxCopies {
		return fmt.Errorf("%w: a plan for at least %d and at most %d copies", ErrInvalid, desired.Copies, desired.Most)
	}
	if desired.Availability < 0 || desired.Availability > MaxAvailability || desired.MoveBytes < 0 {
		return fmt.Errorf("%w: a plan for an availability of %d millionths that may move %d bytes", ErrInvalid, desired.Availability, desired.MoveBytes)
	}
	seen := make(map[peer.ID]bool, len(observed))
	for _, o := range observed {
		if o.Host == "" || seen[o.Host] {
			return fmt.Errorf("%w: host %q is observed twice or has no id", ErrInvalid, o.Host)
		}
		seen[o.Host] = true
	}
	return nil
}

// sift splits the hosts into those that can be used for sites like this, and
// those that can't, each with the reason.
func sift(desired Desired, observed []Observation, now time.Time) ([]Observation, []LeftOut) {
	var can []Observation
	var left []LeftOut
	for _, o := range observed {
		why := unusable(o, desired.Regions, now)
		if why == "" && o.Unproved {
			why = "can't prove what it holds"
		}
		if why != "" {
			left = append(left, LeftOut{Host: o.Host, Name: o.Name, Reason: why})
			continue
		}
		can = append(can, o)
	}
	return can, left
}

// unusable is why no site can be put on a host; "": it can.
func unusable(o Observation, regions []string, now time.Time) string {
	switch {
	case o.Out:
		return "convicted of false proofs or of missing data"
	case !o.Reachable:
		return "can't be reached"
	case o.Draining:
		return "draining"
	case !o.Until.IsZero() && !now.Before(o.Until):
		return "its token or terms have ended"
	case !allowed(o, regions):
		return "not in an allowed region"
	}
	return ""
}

// tooSmall is why this site can't be put on a host; "": it can.
func tooSmall(desired Desired, o Observation) string {
	switch {
	case o.MaxPinBytes > 0 && desired.Bytes > o.MaxPinBytes:
		return fmt.Sprintf("takes pins of at most %d bytes", o.MaxPinBytes)
	case !o.Holds && desired.Bytes > roomOf(o):
		return fmt.Sprintf("has room for %d bytes only", roomOf(o))
	}
	return ""
}

func allowed(o Observation, regions []string) bool {
	return len(regions) == 0 || slices.Contains(regions, o.Labels[LabelRegion])
}

// kept is the copies that count now.
func kept(observed []Observation) []Observation {
	return slices.DeleteFunc(slices.Clone(observed), func(o Observation) bool {
		return !o.Holds || !o.Reachable || o.Out || o.Unproved
	})
}

func holds(observed []Observation, host peer.ID) bool {
	return slices.ContainsFunc(observed, func(o Observation) bool { return o.Host == host && o.Holds })
}

// extras pins the site at every service that can't prove what it holds and has room.
func extras(desired Desired, observed []Observation, now time.Time) []Action {
	var out []Action
	for _, o := range observed {
		if o.Unproved && unusable(o, desired.Regions, now) == "" && tooSmall(desired, o) == "" {
			out = append(out, Action{Kind: Extra, Host: o.Host, Reason: "can't prove what it holds: doesn't count"})
		}
	}
	return out
}

// unwanted lets go of the copies on hosts that want to be empty, or are not to hold the site any more.
func unwanted(desired Desired, observed []Observation) []Action {
	why := func(o Observation) string {
		switch {
		case !o.Reachable:
			return ""
		case o.Out:
			return "convicted"
		case o.Draining:
			return "draining"
		case !allowed(o, desired.Regions):
			return "not in an allowed region"
		}
		return ""
	}
	return releases(observed, why, true)
}

func releaseAll(observed []Observation) []Action {
	return releases(observed, func(Observation) string { return "no copies are wanted" }, false)
}

// releases lets go of each copy for which there is a reason, in the order of observed.
func releases(observed []Observation, why func(Observation) string, after bool) []Action {
	var out []Action
	for _, o := range observed {
		if reason := why(o); o.Holds && reason != "" {
			out = append(out, Action{Kind: Release, Host: o.Host, Reason: reason, AfterProof: after})
		}
	}
	return out
}

// nameOf is a host as people know it.
func nameOf(name string, id peer.ID) string {
	if name != "" {
		return fmt.Sprintf("%q", name)
	}
	return id.String()
}
