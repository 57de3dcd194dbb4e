package sim

import "time"

// copies is who holds one site, and the account of it. All contenders and
// oracles change copies by it alone.
type copies struct {
	*Result
	w      *World
	site   *Site
	wanted int
	on     []holder

	since        time.Duration // up to when the account is made
	live, intact int           // copies on hosts that are up, and on those that aren't gone for good
	dark         time.Duration // without a live copy
	held         time.Duration // sum over the copies on hosts that aren't gone for good
	placed       bool
}

// holder is a host that holds, with where we are in its life.
type holder struct {
	*Host
	rank int // in the order of the contender
	up   bool
	next time.Duration // when it next goes, comes or is lost; never: it doesn't
}

// start forgets the site before.
func (c *copies) start(site *Site, wanted int) {
	*c = copies{Result: c.Result, w: c.w, site: site, wanted: wanted, on: c.on[:0]}
	c.Sites++
	c.Bytes += site.Bytes
}

// pass brings the account up to now.
func (c *copies) pass(now time.Duration) {
	d := now - c.since
	if d <= 0 {
		return
	}
	c.held += time.Duration(c.intact) * d
	if c.live == 0 {
		c.dark += d
		for t := c.since; t < now; {
			end := min(now, (t/day+1)*day)
			c.Days[t/day].Dark += (end - t).Milliseconds()
			t = end
		}
	}
	c.since = now
}

// put makes a copy on a host that is up.
func (c *copies) put(h *Host, rank int, now time.Duration) {
	c.pass(now)
	o := holder{Host: h, rank: rank, up: true}
	o.next = h.turn(now, true)
	c.on = append(c.on, o)
	c.intact++
	if !h.liar {
		c.live++
	}
	if now == 0 {
		c.placed = true
		c.Placed += c.site.Bytes
		return
	}
	c.MostExtra = max(c.MostExtra, c.live-c.wanted)
	c.Takes++
	c.Moved += c.site.Bytes
	c.Days[now/day].Moved += c.site.Bytes
}

// drop lets go of a copy on a host that is up.
func (c *copies) drop(i int, now time.Duration) {
	c.pass(now)
	if c.intact--; !c.on[i].liar {
		c.live--
	}
	c.Gives++
	if c.intact < c.wanted {
		c.Below++
	}
	if c.live < c.wanted {
		c.Thin++
	}
	c.on = append(c.on[:i], c.on[i+1:]...)
}

// find is where the host of a rank is in on; -1: it does not hold.
func (c *copies) find(rank int) int {
	for i := range c.on {
		if c.on[i].rank == rank {
			return i
		}
	}
	return -1
}

// first is the holder that changes next, and when; never: none does.
func (c *copies) first() (i int, at time.Duration) {
	i, at = -1, never
	for j := range c.on {
		if c.on[j].next < at {
			i, at = j, c.on[j].next
		}
	}
	return i, at
}

// change lets a holder go, come, or vanish with its copy.
func (c *copies) change(i int, now time.Duration) (vanished bool) {
	c.pass(now)
	o := &c.on[i]
	if !o.liar && o.up {
		c.live--
	}
	if now >= o.gone {
		c.intact--
		c.on = append(c.on[:i], c.on[i+1:]...)
		if c.intact == 0 {
			c.Lost++
		}
		return true
	}
	if o.up = !o.up; o.up && !o.liar {
		c.live++
	}
	o.next = min(o.turn(now, o.up), o.gone)
	c.MostExtra = max(c.MostExtra, c.live-c.wanted)
	return false
}

// finish closes the account.
func (c *copies) finish() {
	c.pass(c.w.Length)
	c.Span += c.w.Length.Milliseconds()
	c.Served += (c.w.Length - c.dark).Milliseconds()
	c.Held += c.held.Milliseconds()
	c.Wanted += int64(c.wanted) * c.w.Length.Milliseconds()
	if c.dark <= c.w.Length/10_000 {
		c.FourNines++
	}
	if !c.placed {
		c.Unplaced++
	}
}

// turn is when a host that is up, or not, at t next comes or goes; never: it doesn't.
func (h *Host) turn(t time.Duration, up bool) time.Duration {
	i := last(h.up, t)
	switch {
	case up && i >= 0:
		return h.up[i].to
	case !up && i+1 < len(h.up):
		return h.up[i+1].from
	}
	return never
}
