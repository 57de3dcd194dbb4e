package replicate

import (
	"cmp"
	"slices"
	"time"
)

// LookSpacing is how far apart looks have to be to count: a host that is there
// now will be there in a minute, which tells nothing. What is seen an hour apart is
// related too, by as much as downtimes last; Uptime takes that into account.
const LookSpacing = 55 * time.Minute

// NewUptime is what a host counts that nobody has observed yet, in millionths.
const NewUptime = 500_000

const (
	// priorUp, in sixteenths, makes the estimate begin at NewUptime: the 5 % quantile of Beta(4.32, 1) is 0.5. So a
	// new host counts as one that was found there four times, and never away.
	priorUp = 69
	// unseenDowntime is how many looks long a host's next downtime is taken to be where none was seen: a host that was never
	// away for a month may be one that is away for days each quarter. With 4 about one estimate in twenty is too high where downtimes
	// last hours, one in ten where they last a day, and more where they last longer; more would make all hosts look unreliable for months.
	unseenDowntime = 4
	// memory is how many looks are remembered before all are halved, so that what a host did half a year ago
	// counts less than what it does now: 170 days of looks an hour apart.
	memory = 4096
	// maxFailures bounds the work of an estimate; evidence beyond it is thinned.
	maxFailures = 128

	// mostLooks bounds what a Presence from elsewhere may claim.
	mostLooks = 1 << 20
	// longest is for how long one observer counts in a merger, at most: clocks have claimed centuries.
	longest = 10 * 365 * 24 * time.Hour

	// leastPatience is long, since a wrong alarm costs a whole copy: a host that goes a hundred times a year would raise one or
	// two by its 99th percentile alone, against a third of a true loss. What is urgent, one live copy left, waits for nobody's habits.
	leastPatience = 21 * 24 * time.Hour
	mostPatience  = 30 * 24 * time.Hour
)

// silenceSteps are the upper ends of the classes in which downtimes are counted, each about
// a third longer than the one before; there is one class more, for those that are longer than all.
var silenceSteps = [...]time.Duration{
	12 * time.Hour, 16 * time.Hour, 24 * time.Hour, 32 * time.Hour, 48 * time.Hour, 64 * time.Hour,
	4 * 24 * time.Hour, 5 * 24 * time.Hour, 7 * 24 * time.Hour, 10 * 24 * time.Hour, 14 * 24 * time.Hour, 20 * 24 * time.Hour, 25 * 24 * time.Hour, mostPatience,
}

// Presence is what one observer has seen of a host's comings and goings, in
// constant space. Its zero value has seen nothing. It is a plain value: copying it is
// safe, and its JSON is how it is stored.
type Presence struct {
	First time.Time `json:"first"` // the first look
	Last  time.Time `json:"last"`  // the last look
	Seen  time.Time `json:"seen"`  // when it last answered
	Up    int       `json:"up"`    // looks that count (they are spaced, since looks a minute apart say the same), and it answered
	Down  int       `json:"down"`  // likewise, and it didn't
	Falls int       `json:"falls"` // looks that count at which it was away, and at the one before it wasn't

	Counted time.Time `json:"counted"` // the last look that counted
	Away    bool      `json:"away"`    // it was away at that look
	Fell    time.Time `json:"fell"`    // the first look of the downtime that lasts; zero: it answered at the last look
	// Silences counts the downtimes that have ended, by silenceSteps.
	Silences [len(silenceSteps) + 1]int `json:"silences"`
}

// Observe takes in one look. A clock that went back begins anew from
// where it is; what was counted stays. A leap forward is a time without looks,
// about which nothing is said.
func (p *Presence) Observe(at time.Time, up bool) {
	at = at.UTC().Round(0) // without the monotonic reading, which JSON doesn't keep
	if p.First.IsZero() || at.Before(p.First) {
		p.First = at
	}
	if at.Before(p.Last) {
		p.Counted, p.Seen, p.Fell = at, earlier(p.Seen, at), earlier(p.Fell, at)
	}
	if p.Counted.IsZero() || at.Sub(p.Counted) >= LookSpacing {
		p.count(up)
		p.Counted = at
	}
	switch {
	case up && !p.Fell.IsZero():
		p.Silences[silenceClass(p.silence(at))]++
		p.Fell, p.Seen = time.Time{}, at
	case up:
		p.Seen = at
	case p.Fell.IsZero():
		p.Fell = at
	}
	p.Last = at
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// silence is how long the downtime was that ends at a look: between looks that found it away it was, and around them for as
// long as looks are usually apart. How long nobody looked says nothing about the host.
func (p *Presence) silence(at time.Time) time.Duration {
	edge := func(d time.Duration) time.Duration { return min(max(d, 0), 2*time.Hour) }
	before := edge(p.Fell.Sub(p.Seen))
	if p.Seen.IsZero() {
		before = 0
	}
	return before + p.Last.Sub(p.Fell) + edge(at.Sub(p.Last))
}

func silenceClass(d time.Duration) int {
	i, _ := slices.BinarySearch(silenceSteps[:], d)
	return i
}

func (p *Presence) count(up bool) {
	if up {
		p.Up++
	} else {
		p.Down++
		if !p.Away {
			p.Falls++
		}
	}
	p.Away = !up
	if p.Up+p.Down >= memory {
		p.scale(1, 2)
	}
}

// scale makes the evidence num/den of what it is. What happened at all is not forgotten by rounding.
func (p *Presence) scale(num, den int64) {
	part := func(n int) int { return int((int64(looks(n))*num + den - 1) / den) }
	p.Up, p.Down, p.Falls = part(p.Up), part(p.Down), part(p.Falls)
	for i := range p.Silences {
		p.Silences[i] = part(p.Silences[i])
	}
}

// Uptime is a low estimate, in millionths from 1 to 999 999: the 5 % quantile
// of what the looks leave possible; NewUptime where there are none.
//
// The posterior is a Beta distribution. Looks an hour apart are not independent: who is away now
// will mostly be away in an hour. By how much they count less follows from how long up and down times
// last, for a host that comes and goes at random by 2ud/(u+d) looks, with the means u and d of both. With looks
// counted as they are, a host that was away once, for a day, would get an estimate
// that is too high by far: it is one failure that was seen, not twenty-four.
func (p Presence) Uptime() int {
	if p.Up+p.Down <= 0 {
		return NewUptime
	}
	// In 64ths: 2ud/(u+d) with u = (up+1)/(falls+1) and d = (down+unseen)/(falls+1), at least 1.
	up, down, falls := looks(p.Up), looks(p.Down), looks(p.Falls)
	weight := max(64*2*(up+1)*(down+unseenDowntime)/((falls+1)*(up+1+down+unseenDowntime)), 64)
	a, failures := up*64*16/weight, (down*64+weight-1)/weight
	if failures > maxFailures {
		a, failures = a*maxFailures/failures, maxFailures
	}
	return min(max(lowQuantile(priorUp+a, int(failures)+1), 1), 999_999)
}

func looks(n int) uint64 { return uint64(min(max(n, 0), mostLooks)) }

// Patience is after how long a silence the host is presumed gone: the 99th
// percentile of its own downtimes, from 21 to 30 days.
func (p Presence) Patience() time.Duration {
	return min(max(p.habit(), leastPatience), mostPatience)
}

// habit is the 99th percentile of the downtimes that were seen, as the upper end of a class; 0: none was.
func (p Presence) habit() time.Duration {
	all := 0
	for _, n := range p.Silences {
		all += n
	}
	beyond := all / 100 // so many may be longer
	for i := len(p.Silences) - 1; i >= 0; i-- {
		if beyond -= p.Silences[i]; beyond < 0 {
			return silenceSteps[min(i, len(silenceSteps)-1)]
		}
	}
	return 0
}

// Merge is what several observers have seen together. They may have looked at the same time, and a downtime that two saw is
// one: looks count by the time that was covered, not by the number of observers. The order of the others changes nothing.
func (p Presence) Merge(others ...Presence) Presence {
	var all []Presence
	for _, o := range append([]Presence{p}, others...) {
		if !o.First.IsZero() {
			all = append(all, o)
		}
	}
	if len(all) == 0 {
		return Presence{}
	}
	slices.SortFunc(all, func(a, b Presence) int {
		return cmp.Or(a.First.Compare(b.First), a.Last.Compare(b.Last), cmp.Compare(a.Up, b.Up), cmp.Compare(a.Down, b.Down))
	})
	sum, union, end := time.Duration(0), time.Duration(0), time.Time{}
	var m Presence
	for _, o := range all {
		from, to := o.First, o.First.Add(min(max(o.Last.Sub(o.First), 0), longest)+time.Hour)
		sum += to.Sub(from)
		if from.Before(end) {
			from = end
		}
		union += max(to.Sub(from), 0)
		if to.After(end) {
			end = to
		}
		m.add(o)
	}
	// Seconds, halved until they can be multiplied.
	num, den := int64(union/time.Second), int64(sum/time.Second)
	for den > 1<<31 {
		num, den = num/2, den/2
	}
	m.scale(max(num, 1), max(den, 1))
	return m
}

// add sums the evidence up; of the last look it takes the later one's.
func (p *Presence) add(o Presence) {
	p.Up, p.Down, p.Falls = p.Up+o.Up, p.Down+o.Down, p.Falls+o.Falls
	for i, n := range o.Silences {
		p.Silences[i] += n
	}
	if p.First.IsZero() || o.First.Before(p.First) {
		p.First = o.First
	}
	if o.Seen.After(p.Seen) {
		p.Seen = o.Seen
	}
	if o.Last.After(p.Last) {
		p.Last, p.Fell, p.Away = o.Last, o.Fell, o.Away
	}
	if o.Counted.After(p.Counted) {
		p.Counted = o.Counted
	}
}
