package replicate

import "slices"

// How much of what is good for a site a draw insists on: all of it, then less and
// less until somebody is found.
const (
	even    = iota // apart, and within the slack above its fair share
	apart          // shares neither operator nor network with a holder, nor with all of them what others don't
	related        // may share a network, or what all share
	loaded         // may be above its fair share by more than one site
	crowded        // may share an operator
)

// maxTries is how many slots are drawn before all hosts are looked through.
const maxTries = 64

// smallTable is up to how many hosts even a mere preference is worth looking through all of them.
const smallTable = 256

// draw is the next host that fits; -1: there is none. The draw goes on where it
// stood: who did not fit a smaller choice doesn't fit a larger one.
func (d *draft) draw(most int) int32 {
	for ; d.level <= most; d.level, d.try = d.level+1, 0 {
		if d.cursor != nil {
			if i := d.drawBest(); i >= 0 {
				return i
			}
			continue
		}
		for d.try < maxTries {
			slot := d.t.slots[mix(d.seed, uint64(d.try))&uint64(len(d.t.slots)-1)]
			d.try++
			if slot != 0 && d.fits(slot-1, d.level) {
				return slot - 1
			}
		}
		if i := d.drawRest(); i >= 0 {
			return i
		}
	}
	d.level = min(d.level, crowded)
	return -1
}

// drawRest looks through all hosts: the draw may have missed some.
func (d *draft) drawRest() int32 {
	if d.level <= apart && len(d.t.rows) > smallTable {
		return -1
	}
	found := int32(-1)
	for i := range d.t.rows {
		if d.fits(int32(i), d.level) && (found < 0 || d.before(int32(i), found)) {
			found = int32(i)
		}
	}
	return found
}

// before is the order of hosts for this site where nothing else decides.
func (d *draft) before(a, b int32) bool {
	pa, pb := d.place(a), d.place(b)
	return pa < pb || pa == pb && a < b
}

func (d *draft) place(i int32) uint64 { return mix(d.seed, d.t.rows[i].key) }

// drawBest is the most reliable host that fits, for what the least possible is compared with.
func (d *draft) drawBest() int32 {
	for d.cursor[d.level] < len(d.t.best) {
		i := d.t.best[d.cursor[d.level]]
		d.cursor[d.level]++
		if d.fits(i, d.level) {
			return i
		}
	}
	return -1
}

// fits tells whether a host that doesn't hold the site can take it.
func (d *draft) fits(i int32, level int) bool {
	r := &d.t.rows[i]
	switch {
	case r.free < d.bytes || r.pin < d.bytes:
		return false
	case slices.Contains(d.picks, i) || slices.Contains(d.spare, i):
		return false
	case level < crowded && d.shares(r, byOperator):
		return false
	case level < loaded && !d.t.fair(r, d.bytes, level == even):
		return false
	}
	return level > apart || !d.shares(r, byNetwork) && !d.sameAsAll(r, byRegion) && !d.sameAsAll(r, bySoftware)
}

func (d *draft) shares(r *row, label int) bool {
	value := r.labels[label]
	if value == 0 {
		return false
	}
	for i := range d.what {
		if d.what[i].labels[label] == value {
			return true
		}
	}
	return false
}

// sameAsAll tells whether the last of the wanted copies would have what all others have too, where that can be avoided.
func (d *draft) sameAsAll(r *row, label int) bool {
	value := r.labels[label]
	if value == 0 || !d.t.several[label] || len(d.picks) == 0 || len(d.picks) < d.copies-1 {
		return false
	}
	for i := range d.what {
		if d.what[i].labels[label] != value {
			return false
		}
	}
	return true
}
