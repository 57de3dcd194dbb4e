package replicate

import (
	"math"
	"math/bits"
	"runtime"
	"slices"
	"sync"
)

// Place says who should hold each site. Sites that are well where they are, by
// present, stay as they are; the others are placed one after the other in the order given, each
// as Plan would with the loads of those before it. Present is not changed; nil: no site is held
// by anybody. The same arguments give the same result on every machine.
//
// Where hosts are too few or too full a site gets fewer copies than it wants, which the report counts.
// Room that copies leave is not given to others: they go only when the new ones are proved.
func (f *Fleet) Place(sites []FleetSite, present *Assignment) (*Assignment, FleetReport) {
	p := placing{Fleet: f, t: f.t, sites: sites, present: present}
	p.t.rows = slices.Clone(f.t.rows)
	p.look()
	p.load()
	p.place()
	p.use()
	return &p.out, p.report
}

// placing is one Place on its way.
type placing struct {
	*Fleet
	t       table // with rows of its own
	sites   []FleetSite
	present *Assignment
	stands  []stand // of each site

	out    Assignment
	report FleetReport
}

// stand is how a site stands where it is.
type stand uint8

const (
	unsettled stand = iota // something is to change
	well                   // nothing is
	poorly                 // nothing could be done, but it misses its target
)

// look finds the sites that are well where they are: the one part that needs no order, so all cores do it.
func (p *placing) look() {
	p.stands = make([]stand, len(p.sites))
	for _, s := range p.sites {
		p.t.largest = max(p.t.largest, s.Bytes)
	}
	if p.present.Len() == 0 {
		return
	}
	cores := runtime.GOMAXPROCS(0)
	var all sync.WaitGroup
	for c := range cores {
		all.Go(func() {
			d := draft{t: &p.t}
			var here []int32
			for i := len(p.sites) * c / cores; i < len(p.sites)*(c+1)/cores; i++ {
				held := p.present.Of(i)
				here = p.places(here[:0], held)
				if len(here) == len(held) {
					p.stands[i] = d.stands(p.sites[i].wants(), here)
				}
			}
		})
	}
	all.Wait()
}

// stands tells whether a choice would change nothing.
func (d *draft) stands(w wants, present []int32) stand {
	if len(present) < w.copies {
		return unsettled
	}
	d.begin(w, present)
	reached := d.reached()
	if len(d.spare) > 0 || !reached && len(d.picks) < d.most {
		return unsettled
	}
	if d.trim(); len(d.picks) < len(present) {
		return unsettled
	}
	if !reached {
		return poorly
	}
	return well
}

// load is what hosts hold already, and the sum that their fair shares are of.
func (p *placing) load() {
	t := &p.t
	held := make([]int64, len(t.rows))
	for i := range p.sites {
		here := 0
		for _, h := range p.present.Of(i) {
			if at := p.Fleet.place[h]; at >= 0 {
				held[at] += p.sites[i].Bytes
				here++
			}
		}
		if w := p.sites[i].wants(); here < w.copies {
			t.total += uint64(w.copies-here) * uint64(w.bytes)
		}
	}
	for i := range t.rows {
		r := &t.rows[i]
		if !r.told {
			r.used = held[i]
		}
		if p.quotaOnly[i] {
			r.free = max(r.free-held[i], 0)
		}
		t.total += uint64(r.used)
	}
}

func (p *placing) place() {
	p.out.ends = make([]uint32, 0, len(p.sites))
	p.out.hosts = make([]int32, 0, p.expected())
	d := draft{t: &p.t}
	var here []int32
	for i, s := range p.sites {
		held := p.present.Of(i)
		if p.stands[i] != unsettled {
			p.out.Add(held...)
			p.report.Copies += len(held)
			if p.stands[i] == poorly {
				p.report.Missed++
			}
			continue
		}
		here = p.places(here[:0], held)
		present := len(here)
		d.choose(s.wants(), here)
		p.commit(&d, present)
		p.tell(&d, held)
	}
}

// expected is about how many copies there will be.
func (p *placing) expected() int {
	if p.present.Len() == 0 {
		return 5 * len(p.sites)
	}
	return len(p.present.hosts) + len(p.present.hosts)/16
}

// commit gives the hosts their new copies.
func (p *placing) commit(d *draft, present int) {
	made := 0
	for k, fresh := range d.fresh {
		if !fresh {
			continue
		}
		r := &p.t.rows[d.picks[k]]
		r.used += d.bytes
		if r.free != math.MaxInt64 {
			r.free -= d.bytes
		}
		made++
		p.report.Moved += d.bytes
	}
	if expected := max(0, d.copies-present); made > expected {
		p.t.total += uint64(made-expected) * uint64(d.bytes)
	}
}

// tell writes the choice down.
func (p *placing) tell(d *draft, held []int32) {
	r := &p.report
	r.Copies += len(d.picks)
	if len(d.picks) < d.copies {
		r.Short++
	}
	if !d.met {
		r.Missed++
	}
	for k := 0; d.twice && k < len(d.picks); k++ {
		if d.crowds(k) {
			r.Crowded++
			break
		}
	}
	changed := len(d.picks) != len(held)
	for _, at := range d.ordered() {
		p.out.hosts = append(p.out.hosts, p.given[at])
		changed = changed || !slices.Contains(held, p.given[at])
	}
	p.out.ends = append(p.out.ends, uint32(len(p.out.hosts)))
	if changed {
		r.Changed++
	}
}

// use is how full the hosts are.
func (p *placing) use() {
	var used, all uint64
	for i, r := range p.t.rows {
		quota := max(p.quota[i], 1)
		p.report.MaxUse = max(p.report.MaxUse, share(uint64(r.used), quota))
		used, all = used+uint64(r.used), all+quota
	}
	p.report.MeanUse = share(used, max(all, 1))
}

// share is a part of a whole in millionths; more than 2^53 of them count as so many.
func share(part, whole uint64) int64 {
	hi, lo := bits.Mul64(part, 1_000_000)
	if hi >= whole {
		return 1 << 53
	}
	q, _ := bits.Div64(hi, lo, whole)
	return int64(min(q, 1<<53))
}
