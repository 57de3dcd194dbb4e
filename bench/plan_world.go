//go:build unix

package main

import (
	"cmp"
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/bench/meter"
	"github.com/holdfast-sites/holdfast/replicate"
)

// planWorld is uneven hosts and uneven sites, the same in every run.
type planWorld struct {
	rng   *rand.Rand
	hosts []replicate.Observation
	sites []replicate.FleetSite
}

// newPlanWorld makes hosts of 1 to 512 GB, most of them small, with fewer operators than hosts, a quarter of them at home (there
// for 60 to 90 % of the time by the low estimate) and the others better kept (95 to 99.9 %); and sites of 6.1 MB on average.
func newPlanWorld(hosts, sites int) *planWorld {
	w := &planWorld{rng: rand.New(rand.NewPCG(1, 1))}
	w.hosts = w.newcomers(hosts)
	w.sites = make([]replicate.FleetSite, sites)
	for i := range w.sites {
		w.sites[i] = replicate.FleetSite{Draw: w.rng.Uint64(), Bytes: (200_000 + w.rng.Int64N(800_000)) << w.rng.IntN(6) * 968 / 1000, Availability: 999_900}
	}
	return w
}

func (w *planWorld) newcomers(n int) []replicate.Observation {
	all, before := make([]replicate.Observation, n), len(w.hosts)
	for i := range all {
		uptime := 950_000 + w.rng.IntN(49_000)
		if w.rng.IntN(4) == 0 {
			uptime = 600_000 + w.rng.IntN(300_000)
		}
		all[i] = replicate.Observation{
			Host: peer.ID(fmt.Sprintf("host %06d", before+i)), Reachable: true,
			Quota: (1 + w.rng.Int64N(4)) * 1e9 << w.rng.IntN(8), FreeBytes: -1, Uptime: uptime,
			Labels: map[string]string{
				replicate.LabelOperator: fmt.Sprint("operator ", w.rng.IntN((before+n)*4/5+1)), replicate.LabelNetwork: fmt.Sprint("AS", w.rng.IntN(400)),
				replicate.LabelRegion: fmt.Sprint("region ", w.rng.IntN(5)), replicate.LabelSoftware: fmt.Sprint("software ", w.rng.IntN(3)),
			},
		}
	}
	return all
}

// planBaseline places one site after the other: each is asked for the hosts of one, and told nothing else.
type planBaseline struct {
	title string
	place func(w *planWorld) func(bytes int64, copies int) []int32
}

var planBaselines = map[string]planBaseline{
	"rendezvous": {"weighted rendezvous", rendezvous},
	"most free":  {"most free, by group (Cluster-like)", mostFree},
	"random":     {"random", uniform},
}

func (w *planWorld) baseline(start func(*planWorld) func(int64, int) []int32, copies int) (done planDone, err error) {
	m := meter.Start()
	place := start(w)
	var at replicate.Assignment
	for _, s := range w.sites {
		holders := place(s.Bytes, copies)
		at.Add(holders...)
		if len(holders) < copies {
			done.Short++
		}
	}
	done.First = m.Stop()
	done.Peak = done.First.Peak
	return done, w.measure(&done, at.Of)
}

// rendezvous draws hosts one after the other with chances in proportion to their
// quotas, which is how the highest of -quota/log(hash) are distributed, without the ten thousand logarithms
// of each site. It knows neither room nor operators.
func rendezvous(w *planWorld) func(int64, int) []int32 {
	upTo := make([]int64, len(w.hosts))
	var all int64
	for i, o := range w.hosts {
		all += o.Quota
		upTo[i] = all
	}
	return func(_ int64, copies int) []int32 {
		var out []int32
		for len(out) < copies {
			x := w.rng.Int64N(all)
			if h := int32(sort.Search(len(upTo), func(i int) bool { return upTo[i] > x })); !slices.Contains(out, h) {
				out = append(out, h)
			}
		}
		return out
	}
}

// uniform draws any host that has room.
func uniform(w *planWorld) func(int64, int) []int32 {
	used := make([]int64, len(w.hosts))
	return func(bytes int64, copies int) []int32 {
		var out []int32
		for tries := 0; len(out) < copies && tries < 1000; tries++ {
			h := int32(w.rng.IntN(len(w.hosts)))
			if !slices.Contains(out, h) && used[h]+bytes <= w.hosts[h].Quota {
				used[h] += bytes
				out = append(out, h)
			}
		}
		return out
	}
}

// mostFree takes the hosts with the most room, one for each operator, as IPFS Cluster's allocator does with `tag:group, freespace`.
func mostFree(w *planWorld) func(int64, int) []int32 {
	q := &roomiest{hosts: w.hosts, free: make([]int64, len(w.hosts))}
	for i, o := range w.hosts {
		q.free[i] = o.Quota
		q.order = append(q.order, int32(i))
	}
	heap.Init(q)
	return func(bytes int64, copies int) []int32 {
		var out, back []int32
		for len(out) < copies && q.Len() > 0 {
			h := heap.Pop(q).(int32)
			back = append(back, h)
			operator := func(i int32) string { return w.hosts[i].Labels[replicate.LabelOperator] }
			if q.free[h] >= bytes && !slices.ContainsFunc(out, func(o int32) bool { return operator(o) == operator(h) }) {
				out = append(out, h)
				q.free[h] -= bytes
			}
		}
		for _, h := range back {
			heap.Push(q, h)
		}
		return out
	}
}

// roomiest is a heap of hosts, the one with the most room on top.
type roomiest struct {
	hosts []replicate.Observation
	free  []int64
	order []int32
}

func (q *roomiest) Len() int { return len(q.order) }
func (q *roomiest) Less(i, j int) bool {
	a, b := q.order[i], q.order[j]
	return cmp.Or(cmp.Compare(q.free[b], q.free[a]), cmp.Compare(a, b)) < 0
}
func (q *roomiest) Swap(i, j int) { q.order[i], q.order[j] = q.order[j], q.order[i] }
func (q *roomiest) Push(x any)    { q.order = append(q.order, x.(int32)) }
func (q *roomiest) Pop() any {
	last := q.order[len(q.order)-1]
	q.order = q.order[:len(q.order)-1]
	return last
}
