package sim

import (
	"crypto/sha256"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// known is for how long the author has watched the hosts before publishing, a look an hour.
const known = 30 * day

// World is what happens to hosts in one run, whoever places the sites and
// however they are repaired. It is not changed by a run, so that all contenders meet the same.
type World struct {
	Scenario string
	Seed     uint64
	Length   time.Duration // from the author's leaving to the end
	Hosts    []*Host
	Sites    []Site

	splits []split
	joined time.Duration // when many hosts joined; 0: none did
	// Whether all hosts decide at each change that they can see. Otherwise those are left out whose
	// decision can't be but to rest (see roster.quiet), which is where the time goes.
	every bool
}

// Host is a machine that offers room, with its whole life.
type Host struct {
	ID     peer.ID
	Name   string // unique in the world
	Labels map[string]string
	Quota  int64 // bytes

	up       []span        // in order
	gone     time.Duration // lost, with everything on it; never: not in this world
	liar     bool          // answers calls and dropped everything the moment that the author left
	jumps    []jump        // of its clock, in order
	patience []stamp       // what Presence says from when on, in order; the first is at the very beginning
	uptime   int           // what Presence says when the author publishes, in millionths
	sides    []uint8       // its side, for each split
	domain   int           // number of its operator
	index    int           // in World.Hosts
	seed     uint64
}

// Site is something to keep.
type Site struct {
	Name  naming.Name
	Bytes int64
	seed  uint64
}

// split cuts the hosts into sides that can't see each other.
type split struct {
	span
	sides int
}

// jump sets a clock: from at on it is fast by as much as ahead.
type jump struct{ at, ahead time.Duration }

type stamp struct {
	at time.Duration
	is time.Duration
}

func (h *Host) isUp(t time.Duration) bool { return within(h.up, t) }

// patient is how long a silence of the host is taken for a downtime, as it is known at t.
func (h *Host) patient(t time.Duration) time.Duration {
	p := h.patience[0].is
	for _, s := range h.patience {
		if s.at > t {
			break
		}
		p = s.is
	}
	return p
}

// clock is what the host's clock says at t.
func (h *Host) clock(t time.Duration) time.Time {
	var ahead time.Duration
	for _, j := range h.jumps {
		if j.at <= t {
			ahead = j.ahead
		}
	}
	return epoch.Add(t + ahead)
}

// epoch is when the author leaves; any date does.
var epoch = time.Date(2026, 11, 3, 0, 0, 0, 0, time.UTC)

// mix is a kind of machine and its share.
type mix struct {
	habits
	share float64
	quota int64 // the least; the most is eight times as much
}

// plot is how a world is made.
type plot struct {
	scenario string
	seed     uint64
	length   time.Duration
	hosts    int
	sites    int
	domains  int // operators at most; some have many hosts
	mixes    []mix
	zones    []time.Duration // of the regions, each as likely as the others
	outages  float64         // a year and domain; a network has half as many
	after    func(*World, *rand.Rand)
}

// build makes the world. Each host draws from a stream of its own, so that its fate
// does not hang on how many there are.
func (p plot) build() *World {
	w := &World{Scenario: p.scenario, Seed: p.seed, Length: p.length}
	cuts := make(map[string][]span)
	for i := range p.hosts {
		w.Hosts = append(w.Hosts, p.host(i, cuts))
	}
	rng := stream(p.seed, "sites", "")
	for i := range p.sites {
		size := min(200e6, 3e6*math.Exp(1.2*rng.NormFloat64()))
		name := naming.NameOf(idOf("site", fmt.Sprint(p.seed, " ", i)))
		w.Sites = append(w.Sites, Site{Name: name, Bytes: max(1, int64(size)), seed: rng.Uint64()})
	}
	if p.after != nil {
		p.after(w, stream(p.seed, "scenario", p.scenario))
	}
	for _, h := range w.Hosts {
		h.up = clip(h.up, -known, min(h.gone, p.length))
	}
	w.observe()
	return w
}

func (p plot) host(i int, cuts map[string][]span) *Host {
	rng := stream(p.seed, "host", fmt.Sprint(i))
	h := &Host{Name: fmt.Sprintf("host%04d", i), index: i, gone: never, seed: rng.Uint64()}
	h.ID = idOf("host", fmt.Sprint(p.seed, " ", i))
	// The square makes some domains several times as large as others.
	f := rng.Float64()
	domain := int(f * f * float64(p.domains))
	region := domain % len(p.zones)
	h.domain = domain
	h.Labels = map[string]string{
		replicate.LabelOperator: fmt.Sprint("operator", domain),
		replicate.LabelNetwork:  fmt.Sprint("AS", 64500+region+len(p.zones)*(domain%max(5, p.domains/8))),
		replicate.LabelRegion:   fmt.Sprint("region", region),
		replicate.LabelSoftware: "holdfast",
	}
	if rng.Float64() < 0.3 {
		h.Labels[replicate.LabelSoftware] = "other"
	}
	kind := p.mixes[len(p.mixes)-1]
	for x, j := rng.Float64(), 0; j < len(p.mixes); j++ {
		if x -= p.mixes[j].share; x < 0 {
			kind = p.mixes[j]
			break
		}
	}
	h.Quota = kind.quota << rng.IntN(4)
	h.up = kind.live(-known, p.length, p.zones[region], rng)
	for _, l := range []string{replicate.LabelOperator, replicate.LabelNetwork} {
		value, rate := h.Labels[l], p.outages
		if l == replicate.LabelNetwork {
			rate /= 2
		}
		if _, drawn := cuts[value]; !drawn {
			cuts[value] = outages(rate, p.length, stream(p.seed, "outages", value))
		}
		h.up = without(h.up, cuts[value])
	}
	if kind.loss > 0 {
		if at := exponential(time.Duration(float64(year)*100/kind.loss), rng); at < p.length {
			h.gone = at
		}
	}
	return h
}

// outages takes a whole domain off: half of the times for less than two hours.
func outages(perYear float64, length time.Duration, rng *rand.Rand) []span {
	var cut []span
	if perYear <= 0 {
		return nil
	}
	for t := -known; ; {
		t += exponential(time.Duration(float64(year)/perYear), rng)
		if t >= length {
			return cut
		}
		d := spread{2 * time.Hour, 1.2}.draw(rng)
		cut = append(cut, span{t, t + d})
		t += d
	}
}

// observe has one observer, who is always up, look at each host once an hour: what it learns of
// uptime and downtimes is what everybody in the world knows. Each look is one of Presence.
func (w *World) observe() {
	for _, h := range w.Hosts {
		var p replicate.Presence
		h.uptime = p.Uptime()
		h.patience = []stamp{{-known, p.Patience()}}
		at, was := 0, false
		for t := -known; t < w.Length; t += time.Hour {
			if t == 0 {
				h.uptime = p.Uptime()
			}
			for at < len(h.up) && h.up[at].to <= t {
				at++
			}
			if at == len(h.up) {
				if t >= 0 {
					break // it never comes back
				}
			}
			up := at < len(h.up) && h.up[at].from <= t
			p.Observe(epoch.Add(t), up)
			if up && !was {
				if d := p.Patience(); d != h.patience[len(h.patience)-1].is {
					h.patience = append(h.patience, stamp{t, d})
				}
			}
			was = up
		}
	}
}

// apart tells whether two hosts can't see each other for a split that lasts at t.
func (w *World) apart(a, b *Host, t time.Duration) bool {
	for i, s := range w.splits {
		if s.from <= t && t < s.to && a.sides[i] != b.sides[i] {
			return true
		}
	}
	return false
}

// alert tells whether a host may see what no site's holders show: a split or a jump of its clock,
// until all has settled.
func (w *World) alert(h *Host, t time.Duration) bool {
	for _, s := range w.splits {
		if s.from <= t && t < s.to+2*settled {
			return true
		}
	}
	for _, j := range h.jumps {
		if j.at <= t && t < j.at+settled {
			return true
		}
	}
	return w.every
}

// stream is the random numbers of one thing.
func stream(seed uint64, what, name string) *rand.Rand {
	return rand.New(rand.NewChaCha8(sha256.Sum256(fmt.Appendf(nil, "%d %s %s", seed, what, name))))
}

// chance is a number that hangs on nothing but what it is of, below n.
func chance(n uint64, seed uint64, of ...uint64) uint64 {
	x := seed ^ 0x9e3779b97f4a7c15
	for _, o := range of {
		x += o + 0x9e3779b97f4a7c15
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		x ^= x >> 31
	}
	return x % n
}

// idOf has the shape of an Ed25519 key's ID, for which the plan's draw is made.
func idOf(what, name string) peer.ID {
	sum := sha256.Sum256([]byte(what + " " + name))
	return peer.ID("\x00\x24\x08\x01\x12\x20" + string(sum[:]))
}
