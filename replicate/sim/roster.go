package sim

import (
	"slices"
	"time"

	"github.com/holdfast-sites/holdfast/replicate"
)

// auditEvery is how often a member has one that holds prove itself, as the Keeper does by default.
const auditEvery = 12 * time.Hour

// roster plays one site that its roster keeps: every member decides for itself, by
// replicate.Decide, from what it saw.
type roster struct {
	copies
	times    replicate.Times // with its defaults
	patience span            // what patience is held within; zero: nothing
	members  []member
	asks     []ask             // by who asked, then whom
	others   []replicate.Sight // scratch
	marks    []time.Duration   // when something happens to the world that members may see, in order
}

// member is a host in the roster.
type member struct {
	looker
	held     []flip
	since    time.Duration // since when it holds, if it does
	short    time.Time     // Decision.Short
	jitter   time.Duration
	wake     time.Duration   // its next look at which it decides; never: when something happens
	fetched  time.Duration   // when the fetch in hand ends; never: there is none
	expires  time.Duration   // when others may begin to presume it gone; never: it is up, or that was told
	convicts []time.Duration // by member: from when on it is a liar to us; nil: nobody ever
}

// ask is an audit beyond those of the rhythm.
type ask struct {
	at      time.Duration // 0: none
	verdict replicate.Verdict
}

// begin sets the scene: the first k of the roster hold.
func (r *roster) begin(site *Site, hosts []*Host, k int) {
	r.start(site, k)
	r.members = r.members[:0]
	r.asks = append(r.asks[:0], make([]ask, len(hosts)*len(hosts))...)
	for rank, h := range hosts {
		m := member{
			looker:  looker{Host: h, phase: time.Duration(chance(uint64(r.times.Call), h.seed))},
			jitter:  time.Duration(chance(uint64(r.times.Jitter), h.seed, site.seed)),
			held:    []flip{{0, rank < k}},
			wake:    never,
			fetched: never,
			expires: never,
		}
		r.members = append(r.members, m)
		if rank < k {
			r.put(h, rank, 0)
		}
	}
	r.marks = r.mark(r.marks[:0])
	r.rouse(0)
}

// mark lists the splits, jumps of clocks and convictions that members of the roster will see.
func (r *roster) mark(at []time.Duration) []time.Duration {
	for _, s := range r.w.splits {
		at = append(at, s.from, s.to, s.to+settled)
	}
	for i := range r.members {
		m := &r.members[i]
		for _, j := range m.jumps {
			at = append(at, j.at)
		}
		for j := range r.members {
			if !r.members[j].liar || i == j {
				continue
			}
			if m.convicts == nil {
				m.convicts = slices.Repeat([]time.Duration{never}, len(r.members))
			}
			m.convicts[j] = r.eyes(i, j).convicts()
			at = append(at, m.convicts[j])
		}
	}
	slices.Sort(at)
	for j := range r.members {
		if !r.members[j].liar {
			continue
		}
		sure := 0
		for i := range r.members {
			if i != j && r.members[i].convicts[j] <= liarsBegin+7*day {
				sure++
			}
		}
		g := seated
		if sure >= 2 {
			g = convicted
		}
		h := r.members[j].index
		r.guilt[h] = max(r.guilt[h], g)
	}
	return at
}

// play is a site's whole time.
func (r *roster) play() {
	for {
		now, what, who := r.next()
		if now >= r.w.Length {
			break
		}
		switch what {
		case changes:
			r.changed(who, now)
		case fetches:
			r.members[who].fetched = never
			r.took(who, now)
		case expires:
			r.members[who].expires = never
			r.rouse(now)
		case marks:
			r.marks = r.marks[1:]
			r.watch(now)
			r.rouse(now)
		case wakes:
			r.decide(who, now)
		}
	}
	r.finish()
}

// What happens next to a site. At one moment in this order.
const (
	changes = iota
	fetches
	expires
	marks
	wakes
)

func (r *roster) next() (at time.Duration, what, who int) {
	who, at = r.first()
	if len(r.marks) > 0 && r.marks[0] < at {
		at, what = r.marks[0], marks
	}
	for i := range r.members {
		m := &r.members[i]
		if m.fetched < at {
			at, what, who = m.fetched, fetches, i
		}
		if m.expires < at {
			at, what, who = m.expires, expires, i
		}
		if m.wake < at {
			at, what, who = m.wake, wakes, i
		}
	}
	return at, what, who
}

// changed is a holder's going or coming.
func (r *roster) changed(i int, now time.Duration) {
	m, falls := &r.members[r.on[i].rank], r.on[i].up
	vanished := r.change(i, now)
	switch {
	case falls:
		// A proof may end to count before that.
		m.expires = max(now, now-r.times.Call+min(r.patient(m.Host, now), r.times.Stale-auditEvery))
	case !vanished:
		m.expires = never
	}
	if vanished {
		m.held = append(m.held, flip{now, false})
		m.wake, m.fetched = never, never
	}
	r.stir(now, falls)
}

// rouse has everybody decide who may have to, each at its next look.
func (r *roster) rouse(now time.Duration) { r.stir(now, false) }

// stir is rouse; where a holder only went, those who hold and have been told when to
// decide again wait for that: it can't make them let go any sooner.
func (r *roster) stir(now time.Duration, went bool) {
	for i := r.wanted; i < len(r.members); i++ {
		m := &r.members[i]
		waits := went && m.wake != never && r.find(i) >= 0 && !r.w.every
		if !m.liar && !waits && !r.quiet(i, now) {
			m.wake = min(m.wake, m.look(now, r.times.Call))
		}
	}
}

// quiet tells whether a member can't but rest until something happens that rouses it. It
// is a shortcut only: a test has every member decide at everything, and the same must come out.
func (r *roster) quiet(rank int, now time.Duration) bool {
	m := &r.members[rank]
	if r.w.alert(m.Host, now) {
		return false
	}
	better, present := 0, 0
	for i := range r.on {
		if o := &r.on[i]; !o.liar {
			if o.rank < rank {
				better++
			}
			if o.up {
				present++
			}
		}
	}
	if r.find(rank) >= 0 {
		return better < r.wanted
	}
	for i := range r.members {
		if o := &r.members[i]; o.expires != never && o.expires > now && !o.liar {
			present++ // or so it seems
		}
	}
	return m.short.IsZero() && present >= r.wanted && r.live >= 2
}

// decide is one member's turn. Those who hold by the author's word never act.
func (r *roster) decide(rank int, now time.Duration) {
	m := &r.members[rank]
	m.wake = never
	var d replicate.Decision
	for range 2 * len(r.members) {
		d = replicate.Decide(r.seat(rank, now), r.times, m.clock(now))
		r.Decisions++
		if d.Step != replicate.Ask {
			break
		}
		for _, j := range d.Whom {
			r.asks[rank*len(r.members)+j] = ask{now, r.audit(rank, j, now)}
		}
	}
	m.short = d.Short
	again := now + max(d.At.Sub(m.clock(now)), 1)
	switch d.Step {
	case replicate.Take:
		if m.fetched == never && r.source(rank, now) {
			m.fetched = r.fetch(m.Host, now)
		}
		if m.fetched != never {
			return // what comes of it rouses everybody
		}
		if r.live == 0 {
			return // so does a holder's coming back
		}
	case replicate.Give:
		r.gave(rank, now)
		return
	default:
		m.fetched = never // called off
	}
	if !r.quiet(rank, now) {
		m.wake = m.look(again, r.times.Call)
	}
}

// fetch is when all of the site would be there; never: the host goes before that, and begins
// anew when it is back. Lines are even, and nobody competes for them.
func (r *roster) fetch(h *Host, now time.Duration) time.Duration {
	const start, perSecond = 30 * time.Second, 2e6
	end := now + start + time.Duration(float64(r.site.Bytes)/perSecond*float64(time.Second))
	if end >= h.turn(now, true) {
		return never
	}
	return end
}

// source tells whether a member sees a copy.
func (r *roster) source(rank int, now time.Duration) bool {
	for i := range r.on {
		if o := &r.on[i]; o.up && !o.liar && !r.w.apart(r.members[rank].Host, o.Host, now) {
			return true
		}
	}
	return false
}

func (r *roster) took(rank int, now time.Duration) {
	m := &r.members[rank]
	if !r.source(rank, now) { // it went in the meantime
		m.wake = m.look(now, r.times.Call)
		return
	}
	r.put(m.Host, rank, now)
	m.since = now
	m.held = append(m.held, flip{now, true})
	r.watch(now)
	r.rouse(now)
}

func (r *roster) gave(rank int, now time.Duration) {
	m := &r.members[rank]
	r.drop(r.find(rank), now)
	m.held = append(m.held, flip{now, false})
	r.rouse(now)
}

// audit is what comes of one.
func (r *roster) audit(rank, other int, now time.Duration) replicate.Verdict {
	h := r.members[other].Host
	switch {
	case !h.isUp(now) || r.w.apart(r.members[rank].Host, h, now):
		return replicate.Unreachable
	case r.find(other) < 0:
		return replicate.NotHeld
	case h.liar && now >= liarsBegin:
		return replicate.Missed
	}
	return replicate.Proved
}

// seat is what a member sees at one of its looks.
func (r *roster) seat(rank int, now time.Duration) replicate.Seat {
	m := &r.members[rank]
	s := replicate.Seat{Copies: r.wanted, Rank: rank, May: rank >= r.wanted, Short: m.short, Jitter: m.jitter, Heard: m.clock(now), Taking: m.fetched != never}
	if r.find(rank) >= 0 {
		s.Holding, s.Since = true, m.clock(m.since)
	}
	for len(r.others) < len(r.members) {
		r.others = append(r.others, replicate.Sight{})
	}
	s.Others = r.others[:len(r.members)]
	for j := range r.members {
		if j != rank {
			s.Others[j] = r.sight(rank, j, now)
		}
	}
	return s
}

// patient is how long a silence of the host is taken for a downtime.
func (r *roster) patient(h *Host, now time.Duration) time.Duration {
	p := max(h.patient(now), r.patience.from)
	if r.patience.to > 0 {
		p = min(p, r.patience.to)
	}
	return p
}

func (r *roster) eyes(rank, other int) eyes {
	return eyes{r.w, r.times, &r.members[rank].looker, &r.members[other].looker}
}

func (r *roster) sight(rank, other int, now time.Duration) replicate.Sight {
	m, o := &r.members[rank], &r.members[other]
	e := r.eyes(rank, other)
	var s replicate.Sight
	e.audits(&s, now, o.held)
	if a := r.asks[rank*len(r.members)+other]; a.at > 0 && m.clock(a.at).After(s.Asked) {
		s.Audit(a.verdict, m.clock(a.at), r.times) // what it says of calls is overwritten
	}
	e.calls(&s, now)
	s.Patience = r.patient(o.Host, now)
	s.Out = m.convicts != nil && now >= m.convicts[other]
	return s
}

// settled is how long after a split the copies are counted again.
const settled = 48 * time.Hour

// watch notes how many copies there are while a world is split, and after it.
func (r *roster) watch(now time.Duration) {
	for _, s := range r.w.splits {
		switch {
		case now >= s.from && now < s.to+settled:
			r.Most = max(r.Most, 100*r.intact/r.wanted)
		case now == s.to+settled && r.live > r.wanted:
			r.After++
		}
		if now == s.from && r.live > r.wanted {
			r.Before++
		}
	}
}
