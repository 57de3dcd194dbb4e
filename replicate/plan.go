package replicate

import (
	"bytes"
	"crypto/sha256"
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
	Regions      []string // the values of LabelRegion that may hold it; nil: any
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
	// counts as enough.
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

// Defaults of a Desired.
const (
	DefaultMost     = 8
	DefaultStandbys = 8
)

// Proposal is a plan: who should hold a site, what that moves, and what it is worth.
type Proposal struct {
	Actions       []Action
	Before, After Estimate
	Moves         int64 // bytes that have to be copied
	Least         int64 // the fewest with which the wants could be met
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

// candidate is a host that can hold, with its place in the draw.
type candidate struct {
	Observation
	domain string
	rank   [32]byte
	reason string // why it was chosen
}

// Plan says who should hold a site, who stands by, and who may let it go. It is a pure
// function: the same observations in any order give the same plan on every
// machine. Present holders stay unless they drain, can't be reached or
// crowd one failure domain while another has room; the rest of the order is drawn by a hash
// of site and host, so that it changes least when hosts come and go.
//
// ErrInvalid for arguments that contradict themselves; a TooFewHostsError, and
// no plan, where fewer than Copies hosts can be used.
func Plan(desired Desired, observed []Observation, now time.Time) (Proposal, error) {
	if err := checkPlan(desired, observed); err != nil {
		return Proposal{}, err
	}
	if desired.Copies == 0 {
		return Proposal{Actions: releaseAll(observed)}, nil
	}
	candidates, left := sift(desired, observed, now)
	if len(candidates) < desired.Copies {
		return Proposal{}, &TooFewHostsError{Wanted: desired.Copies, Usable: len(candidates), LeftOut: left}
	}
	holders, rest := choose(candidates, desired.Copies)
	var plan []Action
	for _, c := range holders {
		plan = append(plan, Action{Kind: Hold, Host: c.Host, Reason: c.reason})
	}
	for _, c := range rest[:min(len(rest), MaxRoster-len(holders))] {
		a := Action{Kind: Standby, Host: c.Host, Reason: "has room", AfterProof: c.Holds}
		if c.Holds {
			a.Reason = "more copies than wanted, or than wanted in one domain"
		}
		plan = append(plan, a)
	}
	return Proposal{Actions: append(plan, drained(observed)...)}, nil
}

func checkPlan(desired Desired, observed []Observation) error {
	if desired.Site.IsZero() || desired.Copies < 0 || desired.Copies > MaxCopies || desired.Bytes < 0 {
		return fmt.Errorf("%w: a plan for %d copies of %d bytes of site %q", ErrInvalid, desired.Copies, desired.Bytes, desired.Site)
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

// sift splits the hosts into those that can hold the site, in the order of the
// draw, and those that can't, each with the reason.
func sift(desired Desired, observed []Observation, now time.Time) ([]candidate, []LeftOut) {
	var can []candidate
	var left []LeftOut
	for _, o := range observed {
		if why := unusable(desired, o, now); why != "" {
			left = append(left, LeftOut{Host: o.Host, Name: o.Name, Reason: why})
			continue
		}
		c := candidate{Observation: o, domain: o.Labels[LabelOperator], rank: draw(desired.Site, o.Host)}
		if c.domain == "" {
			c.domain = string(o.Host)
		}
		can = append(can, c)
	}
	slices.SortFunc(can, byRank)
	slices.SortFunc(left, func(a, b LeftOut) int { return strings.Compare(string(a.Host), string(b.Host)) })
	return can, left
}

func byRank(a, b candidate) int { return bytes.Compare(a.rank[:], b.rank[:]) }

func unusable(desired Desired, o Observation, now time.Time) string {
	switch {
	case !o.Reachable:
		return "can't be reached"
	case o.Draining:
		return "draining"
	case !o.Until.IsZero() && !now.Before(o.Until):
		return "its token or terms have ended"
	case o.MaxPinBytes > 0 && desired.Bytes > o.MaxPinBytes:
		return fmt.Sprintf("takes pins of at most %d bytes", o.MaxPinBytes)
	case !o.Holds && o.FreeBytes >= 0 && desired.Bytes > o.FreeBytes:
		return fmt.Sprintf("has room for %d bytes only", o.FreeBytes)
	}
	return ""
}

// draw is a host's place for one site: independent from site to site, so that
// load spreads, and from the other hosts, so that little moves when they change.
func draw(site naming.Name, host peer.ID) [32]byte {
	// Both are multihashes, which say how long they are.
	return sha256.Sum256([]byte("holdfast plan 1\n" + string(site.Peer()) + string(host)))
}

// choose takes the holders: those of today first, one for each domain, then
// others from domains that are still free, and only then, when the domains
// are used up, a second from the same one.
func choose(candidates []candidate, copies int) (holders, rest []candidate) {
	taken := make(map[peer.ID]bool)
	used := make(map[string]bool)
	take := func(want func(candidate) bool, reason string) {
		for _, c := range candidates {
			if len(holders) < copies && !taken[c.Host] && want(c) {
				taken[c.Host], used[c.domain] = true, true
				c.reason = reason
				holders = append(holders, c)
			}
		}
	}
	crowded := func(what string) string {
		return fmt.Sprintf("%s; in the same domain as another, since only %d have room", what, len(used))
	}
	take(func(c candidate) bool { return c.Holds && !used[c.domain] }, "holds it already")
	take(func(c candidate) bool { return !used[c.domain] }, "has room")
	take(func(c candidate) bool { return c.Holds }, crowded("holds it already"))
	take(func(candidate) bool { return true }, crowded("has room"))
	for _, c := range candidates {
		if !taken[c.Host] {
			rest = append(rest, c)
		}
	}
	// Who came when is forgotten, so that the same holders give the same roster.
	slices.SortFunc(holders, byRank)
	return holders, rest
}

// drained lets go of the copies on hosts that want to be empty.
func drained(observed []Observation) []Action {
	return releases(observed, func(o Observation) bool { return o.Draining && o.Reachable }, "draining", true)
}

func releaseAll(observed []Observation) []Action {
	return releases(observed, func(Observation) bool { return true }, "no copies are wanted", false)
}

func releases(observed []Observation, which func(Observation) bool, reason string, after bool) []Action {
	var out []Action
	for _, o := range observed {
		if o.Holds && which(o) {
			out = append(out, Action{Kind: Release, Host: o.Host, Reason: reason, AfterProof: after})
		}
	}
	slices.SortFunc(out, func(a, b Action) int { return strings.Compare(string(a.Host), string(b.Host)) })
	return out
}

// nameOf is a host as people know it.
func nameOf(name string, id peer.ID) string {
	if name != "" {
		return fmt.Sprintf("%q", name)
	}
	return id.String()
}
