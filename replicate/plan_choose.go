package replicate

import "slices"

// wants is a Desired as the draw needs it.
type wants struct {
	seed   uint64 // SiteDraw
	bytes  int64
	copies int
	most   int
	away   chance // the most that all holders but the best may be away together; certain: any
	moves  int    // copies that may be made beyond those that copies needs; negative: any
}

// awayAt is the most that holders may be away for an availability, in millionths; 0: any.
func awayAt(availability int) chance {
	if availability <= 0 {
		return certain
	}
	return millionths(1_000_000 - min(availability, 1_000_000))
}

// exchanges is how many hosts are looked at for one that does where the drawn one doesn't.
const exchanges = 8

// draft is the choice of one site's holders in the making. It is scratch space that
// is used again for the next site, and changes nothing in the table.
type draft struct {
	t *table
	wants
	weigher weigher

	picks []int32    // places in the table
	what  []standing // of the picks
	fresh []bool     // of the picks: it is not there yet
	spare []int32    // present, but of an operator that has a better copy
	left  int        // fresh picks that are still allowed; negative: any
	twice bool       // two picks may share an operator
	met   bool       // the target is reached; of a choice that is made

	level, try int   // where the draw stands
	cursor     []int // for each level, how far best was looked through; nil: draw by slots
}

// choose makes the choice, sticky: from the present holders, what must change changes.
// present are places in the table, each once; it is reordered.
func (d *draft) choose(w wants, present []int32) {
	d.begin(w, present)
	d.fill()
	d.reach()
	d.improve()
	d.trim()
}

// begin keeps the present holders, the best one of each operator.
func (d *draft) begin(w wants, present []int32) {
	d.wants, d.level, d.try, d.twice = w, even, 0, false
	d.picks, d.what, d.fresh, d.spare = d.picks[:0], d.what[:0], d.fresh[:0], d.spare[:0]
	clear(d.cursor)
	for i := 1; i < len(present); i++ { // they are few: faster than the library's sort
		for j := i; j > 0 && d.better(present[j], present[j-1]); j-- {
			present[j], present[j-1] = present[j-1], present[j]
		}
	}
	for _, i := range present {
		if d.shares(&d.t.rows[i], byOperator) || len(d.picks) == MaxCopies {
			d.spare = append(d.spare, i)
		} else {
			d.take(i, false)
		}
	}
	d.left = -1
	if d.moves >= 0 {
		d.left = max(0, d.copies-len(present)) + d.moves
	}
}

// better tells which host is away less.
func (d *draft) better(a, b int32) bool { return d.t.worth[a] < d.t.worth[b] }

func (d *draft) take(i int32, fresh bool) {
	d.picks, d.what, d.fresh = append(d.picks, i), append(d.what, d.t.rows[i].standing), append(d.fresh, fresh)
}

func (d *draft) drop(k int) {
	d.picks, d.what, d.fresh = slices.Delete(d.picks, k, k+1), slices.Delete(d.what, k, k+1), slices.Delete(d.fresh, k, k+1)
}

// fill brings the holders up to copies: one for each operator while there are any, then others.
func (d *draft) fill() {
	for len(d.picks) < d.copies {
		if d.add(loaded) || d.takeSpare() || d.add(crowded) {
			continue
		}
		return
	}
}

// reach adds holders until the target holds, of operators that have no copy yet: a second one of the same helps little.
func (d *draft) reach() {
	for {
		if d.met = d.reached(); d.met || len(d.picks) >= d.most {
			return
		}
		if d.met = d.exchange(); d.met {
			return
		}
		if !d.add(loaded) && !d.takeSpare() {
			return
		}
	}
}

// exchange looks, in a repair, whether the target holds with the next few of the draw in place of the host that was drawn last: one
// good copy is cheaper than two. A site's first copies are taken as they come, so that good hosts are left for repairs.
func (d *draft) exchange() bool {
	last := len(d.picks) - 1
	if last < 1 || !d.fresh[last] || d.fresh[0] {
		return false
	}
	old := d.picks[last]
	for range exchanges {
		i := d.draw(loaded)
		if i < 0 {
			break
		}
		if !d.better(i, old) {
			continue
		}
		d.picks[last], d.what[last] = i, d.t.rows[i].standing
		if d.reached() {
			return true
		}
	}
	d.picks[last], d.what[last] = old, d.t.rows[old].standing
	return false
}

// reached tells whether the target holds with the best holder taken away.
func (d *draft) reached() bool { return d.within(d.what, d.away) }

// within looks at the holders without the best of them, the one that is away least.
func (d *draft) within(holders []standing, away chance) bool {
	if away == certain {
		return true
	}
	if len(holders) < 2 {
		return false
	}
	best, all := 0, certain
	for i := range holders {
		if holders[i].alone < holders[best].alone {
			best = i
		}
	}
	// Without shared failures they would be away less: most sets that are too small are known here.
	for i := range holders {
		if i != best {
			all = all.and(holders[i].up.not())
		}
	}
	if all > away {
		return false
	}
	// In place, and back: this is where plans of a million sites spend their time.
	last := len(holders) - 1
	holders[best], holders[last] = holders[last], holders[best]
	ok := d.weigher.away(holders[:last]) <= away
	holders[best], holders[last] = holders[last], holders[best]
	return ok
}

// improve is for where the most holders are not enough: fresh ones give way to better ones. Of few hosts the best are
// taken; of many some more are drawn, since the best are soon full and a site needs better hosts only, not the best.
func (d *draft) improve() {
	if d.met || !slices.Contains(d.fresh, true) {
		return
	}
	if len(d.t.rows) <= smallTable {
		for _, i := range d.t.best {
			if d.replace(i, related) {
				return
			}
		}
		return
	}
	for try := range uint64(2 * maxTries) {
		slot := d.t.slots[mix(d.seed, 1<<32+try)&uint64(len(d.t.slots)-1)]
		if slot != 0 && d.replace(slot-1, even) {
			return
		}
	}
}

// replace puts a host in the place of the worst fresh one, if it is better and fits, and tells whether the target is reached by it.
func (d *draft) replace(i int32, level int) bool {
	worst := d.worst(func(k int) bool { return d.fresh[k] })
	if !d.better(i, d.picks[worst]) || slices.Contains(d.picks, i) {
		return false
	}
	old := d.picks[worst]
	d.drop(worst)
	if !d.fits(i, level) {
		d.take(old, true)
		return false
	}
	d.take(i, true)
	d.met = d.reached()
	return d.met
}

// worst is the pick, among those asked for, that is worth least: one that crowds an operator, else the one that is away most.
func (d *draft) worst(among func(k int) bool) int {
	worst := -1
	for k := range d.picks {
		if !among(k) {
			continue
		}
		if worst < 0 || d.less(k, worst) {
			worst = k
		}
	}
	return worst
}

func (d *draft) less(a, b int) bool {
	if d.twice {
		if ca, cb := d.crowds(a), d.crowds(b); ca != cb {
			return ca
		}
	}
	return d.better(d.picks[b], d.picks[a])
}

func (d *draft) crowds(k int) bool {
	op := d.what[k].labels[byOperator]
	for j := range d.what {
		if op != 0 && j != k && d.what[j].labels[byOperator] == op {
			return true
		}
	}
	return false
}

// trim takes away what is not needed, the worst first. What the target asks for
// goes only where half of what the others may be away would do, so that a site at its
// target is not changed to and fro.
func (d *draft) trim() {
	for len(d.picks) > d.copies {
		k := d.worst(func(int) bool { return true })
		last := len(d.picks) - 1
		d.swap(k, last)
		if len(d.picks) <= d.most && d.away != certain && !d.within(d.what[:last], d.away/2) {
			d.swap(k, last)
			return
		}
		d.drop(last)
	}
}

func (d *draft) swap(a, b int) {
	d.picks[a], d.picks[b] = d.picks[b], d.picks[a]
	d.what[a], d.what[b] = d.what[b], d.what[a]
	d.fresh[a], d.fresh[b] = d.fresh[b], d.fresh[a]
}

// takeSpare keeps a present holder that shares an operator with another.
func (d *draft) takeSpare() bool {
	if len(d.spare) == 0 || len(d.picks) == MaxCopies {
		return false
	}
	d.take(d.spare[0], false)
	d.spare, d.twice = slices.Delete(d.spare, 0, 1), true
	return true
}

// add takes a new holder, giving up no more than level says.
func (d *draft) add(level int) bool {
	if d.left == 0 || len(d.picks) == MaxCopies {
		return false
	}
	i := d.draw(level)
	if i < 0 {
		return false
	}
	d.take(i, true)
	d.twice = d.twice || level == crowded
	if d.left > 0 {
		d.left--
	}
	return true
}

// ordered puts the holders into the order of takeover, which follows from site and hosts alone: who came when is forgotten.
func (d *draft) ordered() []int32 {
	for i := 1; i < len(d.picks); i++ {
		for j := i; j > 0 && d.before(d.picks[j], d.picks[j-1]); j-- {
			d.swap(j, j-1)
		}
	}
	return d.picks
}

// standbys goes on with the draw for those who take over, up to n of them: first, those that hold the site and are not needed.
func (d *draft) standbys(n int, held []int32) []int32 {
	holders := len(d.picks)
	n = min(n, MaxRoster-holders)
	for _, i := range held {
		if len(d.picks)-holders < n {
			d.take(i, false)
		}
	}
	d.spare, d.level, d.try = d.spare[:0], even, 0
	for len(d.picks)-holders < n {
		i := d.draw(crowded)
		if i < 0 {
			break
		}
		d.take(i, true)
	}
	return d.picks[holders:]
}
