package sim

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/holdfast-sites/holdfast/replicate"
)

// The kinds of machine, as guesses with an eye to what was measured. Short downtimes have the spread of PlanetLab's as told
// in Carbonite (Chun et al., NSDI 2006): most are over in minutes, few last for weeks and are most of the time that hosts are away. Homes and
// laptops come and go by the day, as hosts did in Overnet (Bhagwan, Savage, Voelker, IPTPS 2003: half of them were there for
// less than a third of the time). How many are lost in a year is a guess too: a disk in ten on servers, and more where people tidy up.
var (
	server = habits{name: "server", loss: 10,
		up: spread{21 * day, 0.8}, down: spread{20 * time.Minute, 1.93}, away: 0.005, awayTime: spread{4 * day, 0.8}}
	homeServer = habits{name: "home server", loss: 20,
		up: spread{48 * time.Hour, 0.9}, down: spread{time.Hour, 1.6}, away: 0.01, awayTime: spread{7 * day, 0.7}}
	laptop = habits{name: "laptop", loss: 50,
		up: spread{10 * time.Hour, 1}, down: spread{6 * time.Hour, 0.8}, away: 0.01, awayTime: spread{7 * day, 0.7}}
	desktop = habits{name: "desktop", loss: 30, nights: true, away: 0.01, awayTime: spread{7 * day, 0.7}}
	// Sessions of the public IPFS network (ProbeLab's RFM 2: half of the peers leave within 2 h, 80 % within
	// 8 h, 10 % stay all week). How long they are away is not measured there: ours is a guess.
	passerBy = habits{name: "passer-by", loss: 200,
		up: spread{100 * time.Minute, 1.284}, down: spread{8 * time.Hour, 1.2}, away: 0.005, awayTime: spread{10 * day, 0.7}}
	resident = habits{name: "resident", loss: 20,
		up: spread{14 * day, 0.5}, down: spread{20 * time.Minute, 1.93}, away: 0.005, awayTime: spread{4 * day, 0.8}}
)

var (
	oneZone    = []time.Duration{0}
	threeZones = []time.Duration{0, 7 * time.Hour, 15 * time.Hour}
)

// fleet is a fifth of servers, half of home servers, the rest laptops.
func fleet(quota int64) []mix {
	return []mix{{server, 0.2, 2 * quota}, {homeServer, 0.5, quota}, {laptop, 0.3, quota}}
}

// Scenario is a kind of world. What all leave out is said at the package; what each models is said
// beside it.
type Scenario struct {
	Name  string
	About string
	// Build makes the world of a seed. Small is the same with fewer hosts and sites and
	// a shorter time, for tests and -quick.
	Build func(seed uint64, small bool) *World
}

// Scenarios are those of the goals, in the order in which they are shown.
var Scenarios = []Scenario{
	{"friends", "30 hosts of at most 12 people, 200 sites, a year", friends},
	{"medium", "1000 hosts of at most 250 operators, 20 000 sites, a year", medium},
	{"home-only", "300 hosts, none up for more than 95 % of the time, most off at night, 3000 sites, a year", homeOnly},
	{"ipfs", "300 hosts that come and go like the peers of the IPFS network, 3000 sites, 90 days", ipfs},
	{"domains", "the three largest operators are off for 72 h on day 60 of 120", domains},
	{"software", "all hosts of one software, 30 %, lose everything at once on day 60 of 120", software},
	{"join", "as many hosts again join on day 30 of 120, while the author is off", join},
	{"drain", "a fifth of the hosts leaves for good within the week of day 30 of 120", drain},
	{"skew", "one host in ten has a clock that jumps, four times in 120 days, by up to a month or by a year", skew},
	{"split-2", "two halves don't see each other for 24 h on day 30 of 60", splitInto(2)},
	{"split-3", "three parts don't see each other for 24 h on day 30 of 60", splitInto(3)},
	{"liars", "one host in ten answers calls and drops everything on day 10 of 60", liars},
}

// friends is people who know each other, in one zone: a fifth have a server, half a machine
// that is on at home, the others a desktop that is off at night.
func friends(seed uint64, small bool) *World {
	p := plot{scenario: "friends", seed: seed, length: year, hosts: 30, sites: 200, domains: 12, zones: oneZone, outages: 1,
		mixes: []mix{{server, 0.2, 2e9}, {homeServer, 0.5, 1e9}, {desktop, 0.3, 1e9}}}
	if small {
		p.length = 120 * day
	}
	return p.build()
}

func medium(seed uint64, small bool) *World {
	p := plot{scenario: "medium", seed: seed, length: year, hosts: 1000, sites: 20_000, domains: 250, zones: threeZones, outages: 1, mixes: fleet(1e9)}
	if small {
		p.hosts, p.sites, p.domains = 300, 1500, 100
	}
	return p.build()
}

// homeOnly has nights at the same time for all of a region, and three regions.
func homeOnly(seed uint64, small bool) *World {
	p := plot{scenario: "home-only", seed: seed, length: year, hosts: 300, sites: 3000, domains: 200, zones: threeZones, outages: 1,
		mixes: []mix{{homeServer, 0.4, 1e9}, {desktop, 0.6, 1e9}}}
	if small {
		p.sites, p.length = 300, 120*day
	}
	return p.build()
}

func ipfs(seed uint64, small bool) *World {
	p := plot{scenario: "ipfs", seed: seed, length: 90 * day, hosts: 300, sites: 3000, domains: 250, zones: threeZones, outages: 1,
		mixes: []mix{{resident, 0.1, 4e9}, {passerBy, 0.9, 1e9}}}
	if small {
		p.sites, p.length = 300, 30*day
	}
	return p.build()
}

// stress is a world of the medium kind to which one thing happens.
func stress(name string, seed uint64, small bool, length time.Duration, after func(*World, *rand.Rand)) *World {
	p := plot{scenario: name, seed: seed, length: length, hosts: 300, sites: 3000, domains: 75, zones: threeZones, outages: 1, mixes: fleet(1e9), after: after}
	if small {
		p.sites = 300
	}
	return p.build()
}

func domains(seed uint64, small bool) *World {
	return stress("domains", seed, small, 120*day, func(w *World, _ *rand.Rand) {
		size := make(map[string]int)
		for _, h := range w.Hosts {
			size[h.Labels[replicate.LabelOperator]]++
		}
		var names []string
		for n := range size {
			names = append(names, n)
		}
		slices.SortFunc(names, func(a, b string) int { return cmp.Or(size[b]-size[a], cmp.Compare(a, b)) })
		for _, h := range w.Hosts {
			if slices.Contains(names[:3], h.Labels[replicate.LabelOperator]) {
				h.up = without(h.up, []span{{60 * day, 63 * day}})
			}
		}
	})
}

func software(seed uint64, small bool) *World {
	return stress("software", seed, small, 120*day, func(w *World, _ *rand.Rand) {
		for _, h := range w.Hosts {
			if h.Labels[replicate.LabelSoftware] == "other" {
				h.gone = min(h.gone, 60*day)
			}
		}
	})
}

// join leaves the rosters as they are, since only the author changes them: it shows that nothing
// moves, and what others move.
func join(seed uint64, small bool) *World {
	return stress("join", seed, small, 120*day, func(w *World, _ *rand.Rand) {
		w.joined = 30 * day
		for i, h := range w.Hosts {
			if i%2 == 1 {
				h.up = clip(h.up, 30*day, never)
			}
		}
	})
}

func drain(seed uint64, small bool) *World {
	return stress("drain", seed, small, 120*day, func(w *World, rng *rand.Rand) {
		for _, h := range w.Hosts {
			if at := 30*day + time.Duration(rng.Float64()*float64(7*day)); rng.IntN(5) == 0 {
				h.gone = min(h.gone, at)
			}
		}
	})
}

// skew moves what a host's clock says, once forwards and once back at least; what it noted before
// keeps its times.
func skew(seed uint64, small bool) *World {
	return stress("skew", seed, small, 120*day, func(w *World, rng *rand.Rand) {
		for _, h := range w.Hosts {
			if rng.IntN(10) > 0 {
				continue
			}
			for i, ahead := range []time.Duration{spread{2 * day, 1.5}.draw(rng), 0, -spread{2 * day, 1.5}.draw(rng), year} {
				at := time.Duration(20+25*i)*day + time.Duration(rng.Float64()*float64(5*day))
				h.jumps = append(h.jumps, jump{at, min(ahead, year)})
			}
		}
	})
}

func splitInto(sides int) func(uint64, bool) *World {
	name := map[int]string{2: "split-2", 3: "split-3"}[sides]
	return func(seed uint64, small bool) *World {
		return stress(name, seed, small, 60*day, func(w *World, rng *rand.Rand) {
			w.splits = []split{{span{30 * day, 31 * day}, sides}}
			for _, h := range w.Hosts {
				h.sides = []uint8{uint8(rng.IntN(sides))}
			}
		})
	}
}

// liarsBegin is when liars drop what they hold: late enough for all to have proved themselves to each other.
const liarsBegin = 10 * day

// liars drop everything at once. From then on they fail each audit by silence, which is the
// cleverest that they can do: a wrong answer would convict them at once, and NOT_HELD is as good as being gone.
func liars(seed uint64, small bool) *World {
	return stress("liars", seed, small, 60*day, func(w *World, rng *rand.Rand) {
		for _, h := range w.Hosts {
			h.liar = rng.IntN(10) == 0
		}
	})
}
