package sim

import "time"

// fixedRule is how the others keep a number of copies: one who never sleeps, and knows of each host when it
// goes and comes, counts those that aren't silent for too long.
type fixedRule struct {
	low, high int           // below low it copies up to high
	wait      time.Duration // the silence after which a host counts no more
	// keep says that copies that come back count and none is ever let go of. Otherwise there
	// are never more than high, the first in the site's order.
	keep bool
	// home says that hosts that join get what their place in the order says, as CRUSH computes it.
	home bool
	// oracle knows who is gone for good at once, and that nobody else is.
	oracle bool
}

// fixed plays one site by such a rule. Room is no object to it.
type fixed struct {
	copies
	rule  fixedRule
	order []*Host
	due   []time.Duration // by rank: when it counts no more; never: it is up, or that was told
	out   []bool          // by rank: it counts no more
}

// play is a site's whole time, its first copies on the first of the order that are
// up. It returns the bytes that were copied for repair.
func (f *fixed) play(site *Site, order []*Host) int64 {
	f.start(site, f.rule.high)
	f.order = order
	f.due, f.out = f.due[:0], f.out[:0]
	for range order {
		f.due, f.out = append(f.due, never), append(f.out, false)
	}
	before := f.Moved
	f.fill(0)
	joined := f.w.joined
	for {
		i, now := f.first()
		rank, due := f.nextDue()
		if f.rule.home && joined > 0 && joined <= min(now, due) {
			f.goHome(joined)
			joined = 0
			continue
		}
		if min(now, due) >= f.w.Length {
			break
		}
		if due < now {
			now = due
			f.due[rank], f.out[rank] = never, true
		} else {
			f.changed(i, now)
		}
		f.mend(now)
	}
	f.finish()
	return f.Moved - before
}

func (f *fixed) nextDue() (rank int, at time.Duration) {
	at = never
	for i, d := range f.due {
		if d < at {
			rank, at = i, d
		}
	}
	return rank, at
}

func (f *fixed) changed(i int, now time.Duration) {
	rank := f.on[i].rank
	vanished := f.change(i, now)
	switch {
	case f.rule.oracle:
	case vanished:
		if f.due[rank] == never {
			f.due[rank] = now + f.rule.wait
		}
	case f.on[i].up:
		f.due[rank], f.out[rank] = never, false
	default:
		f.due[rank] = now + f.rule.wait
	}
}

// counted is how many copies the rule thinks there are: of hosts that vanished too, for a while.
func (f *fixed) counted() int {
	if f.rule.oracle {
		return f.intact
	}
	n := 0
	for i := range f.on {
		if !f.out[f.on[i].rank] {
			n++
		}
	}
	for rank, d := range f.due {
		if d != never && f.find(rank) < 0 {
			n++
		}
	}
	return n
}

// mend brings the copies to what they should be.
func (f *fixed) mend(now time.Duration) {
	if f.counted() < f.rule.low {
		f.fill(now)
	}
	if f.rule.keep || f.rule.oracle {
		return
	}
	for f.live > f.rule.high {
		worst := -1
		for i := range f.on {
			if f.on[i].up && (worst < 0 || f.on[i].rank > f.on[worst].rank) {
				worst = i
			}
		}
		f.drop(worst, now)
	}
}

// goHome copies to those first in the order that are up, and lets go of the others.
func (f *fixed) goHome(now time.Duration) {
	n := 0
	for rank, h := range f.order {
		if n == f.rule.high || f.live == 0 {
			break
		}
		if h.gone <= now || !h.isUp(now) {
			continue
		}
		if n++; f.find(rank) < 0 {
			f.put(h, rank, now)
		}
	}
	f.mend(now)
}

// fill copies to the first of the order that are up, from whoever is.
func (f *fixed) fill(now time.Duration) {
	for rank, h := range f.order {
		if f.counted() >= f.rule.high || now > 0 && f.live == 0 && !f.rule.oracle {
			return
		}
		if f.find(rank) < 0 && h.gone > now && h.isUp(now) {
			f.put(h, rank, now)
		}
	}
}
