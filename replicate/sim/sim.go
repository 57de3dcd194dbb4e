// Package sim plays a world of hosts that come, go and vanish against a way of
// placing sites, in virtual time: the room in which a plan has to win before
// it ships.
//
// It promises that a run depends on nothing but its scenario and placer (not
// on the clock, the machine or the order of the hosts), that all placers of a
// scenario and seed meet the same downtimes and losses, and that a placer sees
// only what an observer could: that a host has been silent for so long, never
// that it is gone for good.
//
// It leaves out: the time that transfers take and their competition for lines,
// failures that hosts of one domain share, hosts that lie, join or drain, new
// releases, day and night, observers that disagree, and the hosts' own clocks
// and takeover order: one observer plans for all, once every Check. Its figures
// compare placers with each other; they are no forecast.
package sim

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// Scenario is the world and the rules of a run.
type Scenario struct {
	Seed   uint64
	Hosts  []Host        // in any order
	Sites  []Site        // published in this order, at the beginning
	Length time.Duration // 0: 30 days
	Copies int           // wanted of each site; 0: 3
	// Wait is the silence after which a host is presumed gone; 0: 24 hours.
	Wait time.Duration
	// Check is how often the observer looks at every site; 0: 1 hour.
	Check time.Duration
}

// Host is a machine that offers room.
type Host struct {
	Name   string // unique in the scenario
	Domain string // its operator
	Quota  int64  // bytes; 0: without bound
	// Up and Down are the means of the exponentially distributed times that it
	// can and can't be reached; Down 0: always up.
	Up, Down time.Duration
	// VanishPerYear is the rate of its permanent loss, with everything on it; 0: never.
	VanishPerYear float64
}

// Site is something to keep.
type Site struct {
	Name  string // unique in the scenario
	Bytes int64
}

// Placer decides who holds a site: the one thing that runs compare.
type Placer interface {
	// Place names all hosts that should hold the site, those that hold it already
	// included; none: nothing can be done now. Reachable says of a holder that it isn't
	// presumed gone, of any other host that it is up. It is called when the number of holders
	// that aren't presumed gone isn't the wanted one, and must not keep observed.
	// Copies on other hosts are given up once all that it named hold and are up.
	Place(desired replicate.Desired, observed []replicate.Observation, now time.Time) []peer.ID
}

// Result is what a run came to.
type Result struct {
	Available float64 // share of all sites' time with at least one holder up
	FourNines float64 // share of the sites that were available for 99.99 % of the time
	Lost      []Loss  // sites of which no copy is left, by name
	Unplaced  int     // sites that never had a copy

	Moved int64 // bytes copied for repair; the first placement isn't among them
	// Oracle is the bytes that the same placer would have moved in the same
	// world, had it known permanent losses at once and nothing else. A repair
	// that still waits at the end is in Oracle and not in Moved.
	Oracle int64

	MeanCopies float64 // of a site over time, on hosts that are not gone for good
	// UseSkew is the largest share of its quota that a host uses after the first
	// placement, by the share of all quotas that is used. 0: no quotas.
	UseSkew  float64
	Overruns int // copies put on a host that had no room for them, and declined
	Crowded  int // sites that were ever placed on two hosts of one domain
}

// Loss is a site of which the last copy vanished.
type Loss struct {
	Site string
	At   time.Duration // since the beginning
	// Span is the time in which its last holders, as many as copies are wanted, vanished.
	Span time.Duration
}

// Ratio is Moved by Oracle; 0 where the oracle moves nothing.
func (r Result) Ratio() float64 { return ratio(float64(r.Moved), float64(r.Oracle)) }

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// Run plays the scenario to its end.
func Run(sc Scenario, p Placer) Result {
	real, oracle := newRun(sc, p, false), newRun(sc, p, true)
	events := history(real.sc)
	real.play(events)
	oracle.play(events)
	real.Oracle = oracle.Moved
	return real.Result
}

// run is a scenario on its way.
type run struct {
	Result
	sc       Scenario
	placer   Placer
	oracle   bool          // knows who is gone for good
	now      time.Duration // since the beginning
	hosts    []*host
	byID     map[peer.ID]*host
	sites    []*site
	observed []replicate.Observation
}

type host struct {
	Host
	id        peer.ID
	up, gone  bool
	downSince time.Duration
	used      int64
	sites     []*site
}

type site struct {
	Site
	name    naming.Name
	copies  []*host // as the observer knows them: of hosts that vanished too
	placed  bool
	crowded bool
	live    int // copies on hosts that are up
	intact  int // copies on hosts that aren't gone for good
	since   time.Duration
	served  time.Duration // with a live copy, until since
	held    time.Duration // sum over the intact copies, until since
	vanish  []time.Duration
}

func newRun(sc Scenario, p Placer, oracle bool) *run {
	sc.Length = cmp.Or(max(sc.Length, 0), 30*day)
	sc.Copies = cmp.Or(max(sc.Copies, 0), 3)
	sc.Wait = cmp.Or(max(sc.Wait, 0), day)
	sc.Check = cmp.Or(max(sc.Check, 0), time.Hour)
	r := &run{sc: sc, placer: p, oracle: oracle, byID: make(map[peer.ID]*host)}
	for _, h := range sc.Hosts {
		added := &host{Host: h, id: idOf("host", h.Name), up: true}
		r.hosts = append(r.hosts, added)
		r.byID[added.id] = added
	}
	for _, s := range sc.Sites {
		r.sites = append(r.sites, &site{Site: s, name: naming.NameOf(idOf("site", s.Name))})
	}
	return r
}

func (r *run) play(events []event) {
	for tick := time.Duration(0); tick < r.sc.Length; tick += r.sc.Check {
		for len(events) > 0 && events[0].at <= tick {
			r.apply(events[0])
			events = events[1:]
		}
		r.now = tick
		r.mend(r.sites)
		if tick == 0 {
			r.UseSkew = r.skew()
		}
	}
	for _, e := range events {
		r.apply(e)
	}
	r.now = r.sc.Length
	r.sum()
}

func (r *run) apply(e event) {
	r.now = e.at
	h := r.hosts[e.host]
	for _, s := range h.sites {
		s.pass(r.now)
		if h.up {
			s.live--
		}
		if e.kind == comesUp {
			s.live++
		}
	}
	if h.up && e.kind != comesUp {
		h.downSince = r.now
	}
	h.up = e.kind == comesUp
	if e.kind == vanishes {
		r.vanish(h)
	}
}

func (r *run) vanish(h *host) {
	h.gone = true
	for _, s := range h.sites {
		s.intact--
		s.vanish = append(s.vanish, r.now)
		if s.intact == 0 {
			first := s.vanish[max(0, len(s.vanish)-r.sc.Copies)]
			r.Lost = append(r.Lost, Loss{Site: s.Name, At: r.now, Span: r.now - first})
		}
	}
	if r.oracle {
		r.mend(slices.Clone(h.sites))
	}
}

// pass accounts for the time since the site last changed.
func (s *site) pass(now time.Duration) {
	if s.live > 0 {
		s.served += now - s.since
	}
	s.held += time.Duration(s.intact) * (now - s.since)
	s.since = now
}

func (r *run) presumedGone(h *host) bool {
	if r.oracle {
		return h.gone
	}
	return !h.up && r.now-h.downSince >= r.sc.Wait
}

// mend asks the placer about each site that has not the copies that it should
// have, and does what it says.
func (r *run) mend(sites []*site) {
	for _, s := range sites {
		present := 0
		for _, h := range s.copies {
			if !r.presumedGone(h) {
				present++
			}
		}
		source := s.live > 0 || r.oracle && s.intact > 0
		if present != r.sc.Copies && (source || !s.placed) {
			r.carryOut(s, r.place(s))
		}
	}
}

// place is the placer's answer, each host once.
func (r *run) place(s *site) []*host {
	r.observed = r.observed[:0]
	for _, h := range r.hosts {
		o := replicate.Observation{Host: h.id, Name: h.Name, Labels: map[string]string{replicate.LabelOperator: h.Domain}, FreeBytes: -1, Reachable: h.up}
		if h.Quota > 0 {
			o.FreeBytes = h.Quota - h.used
		}
		if slices.Contains(s.copies, h) {
			o.Holds, o.Reachable = true, !r.presumedGone(h)
		}
		r.observed = append(r.observed, o)
	}
	desired := replicate.Desired{Site: s.name, Bytes: s.Bytes, Copies: r.sc.Copies}
	var want []*host
	domains := make(map[string]bool)
	for _, id := range r.placer.Place(desired, r.observed, time.Unix(0, 0).UTC().Add(r.now)) {
		h := r.byID[id]
		if h == nil || slices.Contains(want, h) {
			continue
		}
		want = append(want, h)
		s.crowded = s.crowded || h.Domain != "" && domains[h.Domain]
		domains[h.Domain] = true
	}
	return want
}

func (r *run) carryOut(s *site, want []*host) {
	s.pass(r.now)
	first, proved := !s.placed, len(want) >= r.sc.Copies
	for _, h := range want {
		switch {
		case slices.Contains(s.copies, h):
			proved = proved && h.up
		case !h.up:
			proved = false
		case h.Quota > 0 && h.used+s.Bytes > h.Quota:
			r.Overruns++
			proved = false
		default:
			s.copyTo(h)
			if !first {
				r.Moved += s.Bytes
			}
		}
	}
	for _, h := range slices.Clone(s.copies) {
		if proved && h.up && !slices.Contains(want, h) {
			s.release(h)
		}
	}
}

func (s *site) copyTo(h *host) {
	s.copies, h.sites = append(s.copies, h), append(h.sites, s)
	s.placed = true
	s.live++
	s.intact++
	h.used += s.Bytes
}

func (s *site) release(h *host) {
	s.live--
	s.intact--
	h.used -= s.Bytes
	h.sites = slices.DeleteFunc(h.sites, func(x *site) bool { return x == s })
	s.copies = slices.DeleteFunc(s.copies, func(x *host) bool { return x == h })
}

func (r *run) skew() float64 {
	var most float64
	var used, quota int64
	for _, h := range r.hosts {
		if h.Quota > 0 {
			most = max(most, float64(h.used)/float64(h.Quota))
			used, quota = used+h.used, quota+h.Quota
		}
	}
	return ratio(most, ratio(float64(used), float64(quota)))
}

func (r *run) sum() {
	var served, held, nines float64
	for _, s := range r.sites {
		s.pass(r.now)
		served += s.served.Seconds()
		held += s.held.Seconds()
		if s.served.Seconds() >= 0.9999*r.now.Seconds() {
			nines++
		}
		if s.crowded {
			r.Crowded++
		}
		if !s.placed {
			r.Unplaced++
		}
	}
	all := float64(len(r.sites)) * r.now.Seconds()
	r.Available, r.MeanCopies = ratio(served, all), ratio(held, all)
	r.FourNines = ratio(nines, float64(len(r.sites)))
	slices.SortFunc(r.Lost, func(a, b Loss) int { return strings.Compare(a.Site, b.Site) })
}
