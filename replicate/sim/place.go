package sim

import (
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-sites/holdfast/replicate"
)

// Settings are what the author and the hosts choose; the zero value is what ships.
type Settings struct {
	Copies       int // the fewest; 0: 3
	Most         int // 0: replicate.DefaultMost
	Availability int // millionths; 0: 999 900
	Standbys     int // 0: replicate.DefaultStandbys
	Times        replicate.Times
	// PatienceMin and PatienceMax hold what Presence says of downtimes within other bounds; 0: its own.
	PatienceMin, PatienceMax time.Duration
}

// Ours is the shipped planner and rule of repair.
func Ours(name string, s Settings) Contender {
	if s.Copies == 0 {
		s.Copies = 3
	}
	if s.Standbys == 0 {
		s.Standbys = replicate.DefaultStandbys
	}
	if s.Availability == 0 {
		s.Availability = 999_900
	}
	return Contender{Name: name, play: func(w *World) Result { return w.playOurs(s) }}
}

func (w *World) playOurs(s Settings) Result {
	var load Result
	plans := w.plan(s, &load)
	r := w.each(func(r *Result) func(*Site, int) {
		r.guilt = make([]guilt, len(w.Hosts))
		ours := roster{copies: copies{Result: r, w: w}, times: s.Times.WithDefaults(), patience: span{s.PatienceMin, s.PatienceMax}}
		oracle := fixed{copies: copies{Result: r.shadow(), w: w}, rule: fixedRule{oracle: true}}
		return func(site *Site, i int) {
			ours.begin(site, plans[i].roster, plans[i].copies)
			ours.play()
			oracle.rule.low, oracle.rule.high = plans[i].copies, plans[i].copies
			r.Oracle += oracle.play(site, plans[i].roster)
		}
	})
	r.judge()
	r.Load, r.Overruns = load.Load, load.Overruns
	return r
}

// each plays all sites, on all processors, and adds up what came of them. Player makes one player for each.
func (w *World) each(player func(*Result) func(*Site, int)) Result {
	workers := runtime.GOMAXPROCS(0)
	results := make([]Result, workers)
	var wg sync.WaitGroup
	for n := range workers {
		results[n].Days = make([]Day, (w.Length+day-1)/day)
		play := player(&results[n])
		wg.Go(func() {
			for i := n; i < len(w.Sites); i += workers {
				play(&w.Sites[i], i)
			}
		})
	}
	wg.Wait()
	var all Result
	for _, r := range results {
		all.Add(r)
	}
	return all
}

// placed is where one site goes.
type placed struct {
	roster []*Host
	copies int // the first of them hold
}

// plan has the author place all sites by what ships, with what is known of the hosts at the beginning.
func (w *World) plan(s Settings, r *Result) []placed {
	observed := make([]replicate.Observation, len(w.Hosts))
	for i, h := range w.Hosts {
		observed[i] = replicate.Observation{Host: h.ID, Name: h.Name, Labels: h.Labels, Uptime: h.uptime,
			Quota: h.Quota, FreeBytes: h.Quota, Reachable: h.isUp(0)}
	}
	plans := make([]placed, len(w.Sites))
	fleet, err := replicate.NewFleet(observed, replicate.FleetOptions{Now: epoch})
	if err != nil {
		panic(err) // hosts without names, or two of one: the world is wrong
	}
	sites := make([]replicate.FleetSite, len(w.Sites))
	for i, site := range w.Sites {
		sites[i] = replicate.FleetSite{Draw: replicate.SiteDraw(site.Name), Bytes: site.Bytes,
			Availability: int32(s.Availability), Copies: uint8(s.Copies), Most: uint8(s.Most)}
	}
	assigned, _ := fleet.Place(sites, &replicate.Assignment{})
	room := w.load(sites, assigned, r)
	for i := range sites {
		holders := assigned.Of(i)
		plans[i].copies = len(holders)
		for _, h := range holders {
			plans[i].roster = append(plans[i].roster, w.Hosts[h])
		}
		// A standby reserves room; one that has none declines, and the next is asked.
		for _, h := range fleet.Standbys(sites[i], holders, 2*s.Standbys) {
			if len(plans[i].roster) < len(holders)+s.Standbys && room[h] >= sites[i].Bytes {
				room[h] -= sites[i].Bytes
				plans[i].roster = append(plans[i].roster, w.Hosts[h])
			}
		}
	}
	return plans
}

// load notes how evenly the hosts are used, and returns the room that is left on each.
func (w *World) load(sites []replicate.FleetSite, assigned *replicate.Assignment, r *Result) []int64 {
	room := make([]int64, len(w.Hosts))
	var used, quota, largest int64
	for i, h := range w.Hosts {
		if room[i] = h.Quota; h.isUp(0) {
			quota += h.Quota
		}
	}
	for i, site := range sites {
		largest = max(largest, site.Bytes)
		for _, h := range assigned.Of(i) {
			room[h] -= site.Bytes
			used += site.Bytes
		}
	}
	for i, h := range w.Hosts {
		fair := float64(used) * float64(h.Quota) / float64(max(1, quota))
		r.Load = max(r.Load, int(1000*float64(h.Quota-room[i])/max(1, 1.1*fair, fair+float64(largest))))
		if room[i] < 0 {
			r.Overruns++
		}
	}
	return room
}

// shadow is a result for one that runs along and whose account doesn't count.
func (r *Result) shadow() *Result { return &Result{Days: slices.Clone(r.Days)} }
