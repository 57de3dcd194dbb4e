package sim

import (
	"fmt"
	"math"
	"time"
)

// orderLength is how far the others' orders go for each site.
const orderLength = 24

// An order says for each site on which hosts it is put, and on which next.
type order func(*World, int) [][]*Host

// randomly is by a draw, whatever the domain.
func randomly(w *World, _ int) [][]*Host {
	return w.byScore(false, func(_ *Host, u float64) float64 { return u })
}

// grouped is by a draw, two of one operator only when all operators have one.
func grouped(w *World, _ int) [][]*Host {
	return w.byScore(true, func(_ *Host, u float64) float64 { return u })
}

// rendezvous is by weighted rendezvous hashing: the least of an exponential draw by quota (Wang and Ravishankar's
// highest random weight with logarithms, as in straw2).
func rendezvous(w *World, _ int) [][]*Host {
	return w.byScore(false, straw)
}

// straw2 is what CRUSH does where the failure domain is the operator: weighted rendezvous, one of each domain.
func straw2(w *World, _ int) [][]*Host { return w.byScore(true, straw) }

func straw(h *Host, u float64) float64 { return -math.Log(u) / float64(h.Quota) }

type scored struct {
	*Host
	score float64
}

func (w *World) byScore(groups bool, score func(*Host, float64) float64) [][]*Host {
	all := make([][]*Host, len(w.Sites))
	by := make([]scored, len(w.Hosts))
	for i, site := range w.Sites {
		for j, h := range w.Hosts {
			u := (float64(chance(1<<52, site.seed, h.seed)) + 0.5) / (1 << 52)
			by[j] = scored{h, score(h, u)}
		}
		all[i] = firstOf(by, groups)
	}
	return all
}

// firstOf is the hosts of the least scores; with groups the first of each operator, then others. by is reordered.
func firstOf(by []scored, groups bool) []*Host {
	if groups {
		// The best of each operator comes to the front.
		n, of := 0, make(map[int]int)
		for i, h := range by {
			j, known := of[h.domain]
			if !known {
				j, n, of[h.domain] = n, n+1, n
				by[i], by[j] = by[j], by[i]
			} else if h.less(by[j]) {
				by[i], by[j] = by[j], by[i]
			}
		}
		first := least(by[:n])
		return append(first, least(by[n:])...)[:min(len(by), orderLength)]
	}
	return least(by)
}

// least is up to orderLength hosts of the least scores, in order.
func least(by []scored) []*Host {
	var best [orderLength + 1]scored
	n := 0
	for _, h := range by {
		if n == orderLength && !h.less(best[n-1]) {
			continue
		}
		i := n
		for ; i > 0 && h.less(best[i-1]); i-- {
			best[i] = best[i-1]
		}
		best[i] = h
		n = min(n+1, orderLength)
	}
	hosts := make([]*Host, n, orderLength)
	for i := range hosts {
		hosts[i] = best[i].Host
	}
	return hosts
}

func (s scored) less(t scored) bool {
	return s.score < t.score || s.score == t.score && s.ID < t.ID
}

// mostFree is IPFS Cluster's allocator with a group tag: the hosts with the most room, one of each group first. What the
// first high take is gone for the next site.
func mostFree(w *World, high int) [][]*Host {
	free := make([]float64, len(w.Hosts))
	index := make(map[*Host]int, len(w.Hosts))
	for i, h := range w.Hosts {
		free[i], index[h] = float64(h.Quota), i
	}
	all := make([][]*Host, len(w.Sites))
	by := make([]scored, len(w.Hosts))
	for i, site := range w.Sites {
		for j, h := range w.Hosts {
			by[j] = scored{h, -free[j]}
			if !h.isUp(0) {
				by[j].score = 1 // only those that answer are asked
			}
		}
		all[i] = firstOf(by, true)
		took := 0
		for _, h := range all[i] {
			if took < high && h.isUp(0) {
				free[index[h]] -= float64(site.Bytes)
				took++
			}
		}
	}
	return all
}

// Baselines are what others do, in the same worlds.
func Baselines() []Contender {
	return []Contender{
		Fixed("random, k=4, 24 h", randomly, 4, 4, 24*time.Hour, false, false),
		Fixed("rendezvous, k=4, 24 h", rendezvous, 4, 4, 24*time.Hour, false, false),
		Fixed("Cluster-like, 2..3, 30 s", mostFree, 2, 3, 30*time.Second, false, false),
		Fixed("CRUSH-like, k=4, 10 min", straw2, 4, 4, 10*time.Minute, false, true),
		Carbonite(4),
	}
}

// Carbonite waits a day, and keeps what comes back.
func Carbonite(k int) Contender {
	return Fixed(fmt.Sprintf("Carbonite-like, k=%d, 24 h", k), grouped, k, k, 24*time.Hour, true, false)
}

// Fixed is a contender that keeps a number of copies; see fixedRule.
func Fixed(name string, by order, low, high int, wait time.Duration, keep, home bool) Contender {
	rule := fixedRule{low: low, high: high, wait: wait, keep: keep, home: home}
	return Contender{Name: name, play: func(w *World) Result {
		orders := by(w, high)
		return w.each(func(r *Result) func(*Site, int) {
			real := fixed{copies: copies{Result: r, w: w}, rule: rule}
			oracle := fixed{copies: copies{Result: r.shadow(), w: w}, rule: fixedRule{low: high, high: high, oracle: true}}
			return func(site *Site, i int) {
				real.play(site, orders[i])
				r.Oracle += oracle.play(site, orders[i])
			}
		})
	}}
}
