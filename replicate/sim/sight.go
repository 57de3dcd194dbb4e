package sim

import (
	"slices"
	"time"

	"github.com/holdfast-sites/holdfast/replicate"
)

// What a member of a roster knows of another follows from when the two could
// see each other, so it is worked out when it is asked for, and not call by call: a
// year of calls each few minutes would be all that the simulator does. A test holds it
// to what replicate.Sight makes of every single call.

// looker is a member as one who looks: at moments of its own, Times.Call apart, while it is up.
type looker struct {
	*Host
	phase time.Duration
	at    int // index in up: no later than where the host stands now, since time only goes on
}

// stands is last for the host's times of being up.
func (l *looker) stands(t time.Duration) int {
	if len(l.up) == 0 || l.up[l.at].from > t {
		return last(l.up[:min(len(l.up), l.at+1)], t)
	}
	for l.at+1 < len(l.up) && l.up[l.at+1].from <= t {
		l.at++
	}
	return l.at
}

// look is its first look at or after t; never: it is up no more.
func (l *looker) look(t, every time.Duration) time.Duration {
	for i := max(0, last(l.up[l.at:], t)+l.at); i < len(l.up); i++ {
		if at := ceil(max(t, l.up[i].from, 0), l.phase, every); at < l.up[i].to {
			return at
		}
	}
	return never
}

// ceil and floor are the moments of a rhythm next to t.
func ceil(t, phase, every time.Duration) time.Duration {
	return floor(t+every-1, phase, every)
}

func floor(t, phase, every time.Duration) time.Duration {
	n := (t - phase) / every
	if (t-phase)%every < 0 {
		n--
	}
	return phase + n*every
}

// eyes is how one member sees another.
type eyes struct {
	w     *World
	times replicate.Times // with its defaults
	me    *looker
	other *looker
}

// meetings gives the times in which me saw the other answer, from t back, each as its first and last look.
// A jump of my clock ends one.
func (e eyes) meetings(t time.Duration, yield func(first, last time.Duration) bool) {
	x, y := e.me.stands(t), e.other.stands(t)
	for x >= 0 && y >= 0 {
		a, b := e.me.up[x], e.other.up[y]
		if !e.pieces(span{max(a.from, b.from, 0), min(a.to, b.to, t+1)}, yield) {
			return
		}
		if a.from >= b.from {
			x--
		} else {
			y--
		}
	}
}

// pieces is what splits and jumps leave of a time together, the last piece first.
func (e eyes) pieces(s span, yield func(first, last time.Duration) bool) bool {
	for s.from < s.to {
		from, to := s.from, s.to
		cut := from
		for i, p := range e.w.splits {
			if e.me.sides[i] == e.other.sides[i] {
				continue
			}
			if p.to < to && p.to > from {
				from = p.to
				cut = max(p.from, s.from)
			} else if p.from < to && to <= p.to {
				to = max(p.from, s.from)
				from = min(from, to)
			}
		}
		for _, j := range e.me.jumps {
			if from < j.at && j.at < to {
				from, cut = j.at, j.at
			}
		}
		if from < to {
			first, end := ceil(from, e.me.phase, e.times.Call), floor(to-1, e.me.phase, e.times.Call)
			if first <= end && !yield(first, end) {
				return false
			}
		}
		if cut <= s.from {
			return true
		}
		s.to = cut
	}
	return true
}

// calls sets what me knows by calls at t, one of its looks.
func (e eyes) calls(s *replicate.Sight, t time.Duration) {
	at := e.me.clock
	s.Seen, s.Up, s.Back, s.Down = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	s.Tried, s.Awake = at(t), at(e.awake(t))
	var seen, up, back time.Duration = -1, -1, -1
	broken := false
	e.meetings(t, func(first, last time.Duration) bool {
		if seen < 0 {
			seen, up = last, first
		} else if broken = broken || up-last > e.times.Break || e.jumped(last, up); !broken {
			up = first
		}
		if p := e.before(first); back < 0 && p >= 0 && !e.sees(p) {
			back = first
		}
		return !broken || back < 0
	})
	if seen >= 0 {
		s.Seen, s.Up = at(seen), at(up)
	}
	if back >= 0 {
		s.Back = at(back)
	}
	if seen != t {
		s.Down = s.Tried.Add(-e.silence(max(seen+1, 0), t))
	}
}

// before is my look before one; negative: there is none.
func (e eyes) before(look time.Duration) time.Duration {
	for x := e.me.stands(look); x >= 0; x-- {
		s := e.me.up[x]
		if at := floor(min(s.to, look)-1, e.me.phase, e.times.Call); at >= max(s.from, 0) {
			return at
		}
	}
	return -1
}

// sees tells whether the other answers at t.
func (e eyes) sees(t time.Duration) bool {
	return e.other.isUp(t) && !e.w.apart(e.me.Host, e.other.Host, t)
}

// jumped tells whether my clock was set between two moments.
func (e eyes) jumped(from, to time.Duration) bool {
	for _, j := range e.me.jumps {
		if from < j.at && j.at <= to {
			return true
		}
	}
	return false
}

// awake is since when me has looked without a pause.
func (e eyes) awake(t time.Duration) time.Duration {
	since := t
	for x := e.me.stands(t); x >= 0; x-- {
		s := e.me.up[x]
		first, end := ceil(max(s.from, 0), e.me.phase, e.times.Call), floor(min(s.to-1, t), e.me.phase, e.times.Call)
		if first > end {
			continue
		}
		if since-end > e.times.Pause() {
			break
		}
		for _, j := range e.me.jumps {
			if first < j.at && j.at <= since {
				return max(ceil(j.at, e.me.phase, e.times.Call), first)
			}
		}
		since = first
	}
	return since
}

// silence is for how long me has called in vain from one moment to a look, pauses of its own taken out.
func (e eyes) silence(from, t time.Duration) time.Duration {
	var sum, after time.Duration = 0, -1
	for x := e.me.stands(t); x >= 0 && e.me.up[x].to > from; x-- {
		s := e.me.up[x]
		first, end := ceil(max(s.from, from), e.me.phase, e.times.Call), floor(min(s.to-1, t), e.me.phase, e.times.Call)
		if first > end {
			continue
		}
		sum += end - first
		if after >= 0 && after-end <= e.times.Pause() {
			sum += after - end
		}
		after = first
	}
	return sum
}

// audits adds what me knows by audits at t: one at the first look of each time
// together, and then one each auditEvery, or four times as often of one that didn't hold when it was asked
// last. Held says when the other began and ended to hold.
func (e eyes) audits(s *replicate.Sight, t time.Duration, held []flip) {
	var first, end time.Duration = -1, -1
	e.meetings(t, func(from, to time.Duration) bool {
		first, end = from, to
		return false
	})
	if end < 0 {
		return
	}
	every := auditEvery
	if f := held[len(held)-1]; !f.holds || f.at > end-auditEvery {
		every /= 4
	}
	at := floor(end, first, every)
	// What is true at the audit, and since which audit, as far as this time together tells.
	now := held[0]
	for _, f := range held {
		if f.at <= at {
			now = f
		}
	}
	since := max(now.at, 0)
	if since > first {
		since = ceil(since, first, auditEvery/4)
	}
	clock := e.me.clock
	s.Asked = clock(at)
	switch {
	case now.holds && e.other.liar && at >= liarsBegin:
		// Each audit since then was a miss, which says nothing but to the trial.
		if since < liarsBegin {
			s.Held, s.Since = clock(liarsBegin-1), clock(since)
		}
	case now.holds:
		s.Held, s.Since = clock(at), clock(since)
	default:
		s.Absent = clock(since)
	}
}

// convicts is when me has enough of the other's failed audits of one site; never: it won't in this world.
func (e eyes) convicts() time.Duration {
	var met []span // back to front
	e.meetings(e.w.Length, func(first, last time.Duration) bool {
		met = append(met, span{first, last})
		return true
	})
	var trial replicate.Trial
	e.me.at, e.other.at = 0, 0
	for _, s := range slices.Backward(met) {
		every := auditEvery
		for at := s.from; at <= s.to; at += every {
			verdict := replicate.Proved
			if at >= liarsBegin {
				verdict, every = replicate.Missed, auditEvery/4
			}
			if trial.Add(verdict, epoch.Add(at)); trial.Convicted() {
				return at
			}
		}
	}
	return never
}

// Honest is how many of honest hosts, each audited a hundred times 12 hours apart and missing missPerMille of
// the audits, are convicted.
func Honest(audits, missPerMille int) (convicted int) {
	for host := range audits / 100 {
		var trial replicate.Trial
		for i := range 100 {
			verdict := replicate.Proved
			if chance(1000, 1, uint64(host), uint64(i)) < uint64(missPerMille) {
				verdict = replicate.Missed
			}
			trial.Add(verdict, epoch.Add(time.Duration(i)*auditEvery))
		}
		if trial.Convicted() {
			convicted++
		}
	}
	return convicted
}

// flip is a member's beginning or ceasing to hold.
type flip struct {
	at    time.Duration
	holds bool
}
