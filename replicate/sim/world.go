package sim

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	day  = 24 * time.Hour
	year = 365 * day
)

// Friends is 30 machines of people who know each other, in at most 12 homes,
// with 200 sites for 90 days.
func Friends(seed uint64) Scenario {
	return uneven(Scenario{Seed: seed, Length: 90 * day}, 30, 12, 200)
}

// Medium is 300 hosts in at most 60 domains with 2000 sites for 30 days.
func Medium(seed uint64) Scenario {
	return uneven(Scenario{Seed: seed, Length: 30 * day}, 300, 60, 2000)
}

// uneven fills a scenario: a fifth of the hosts run as servers, half stay on at
// home, the rest are laptops; quotas from 256 MB to 4 GB, domains of uneven
// size, sites around 10 MB of which few are large.
func uneven(sc Scenario, hosts, domains, sites int) Scenario {
	rng := stream(sc.Seed, "world", "")
	for i := range hosts {
		h := Host{Name: fmt.Sprint("host", i), Quota: 256e6 << rng.IntN(5)}
		// The square makes some domains several times as large as others.
		f := rng.Float64()
		h.Domain = fmt.Sprint("domain", int(f*f*float64(domains)))
		switch class := rng.IntN(10); {
		case class < 2:
			h.Up, h.Down, h.VanishPerYear = 30*day, time.Hour, 0.1
		case class < 7:
			h.Up, h.Down, h.VanishPerYear = 3*day, 5*time.Hour, 0.2
		default:
			h.Up, h.Down, h.VanishPerYear = 20*time.Hour, 10*time.Hour, 0.5
		}
		sc.Hosts = append(sc.Hosts, h)
	}
	for i := range sites {
		size := min(200e6, 10e6*math.Exp(1.2*rng.NormFloat64()))
		sc.Sites = append(sc.Sites, Site{Name: fmt.Sprint("site", i), Bytes: int64(size)})
	}
	return sc
}

type kind int

const (
	comesUp kind = iota
	goesDown
	vanishes
)

// event is something that happens to a host.
type event struct {
	at   time.Duration
	host int // in the scenario
	kind kind
}

// history is all that happens in a scenario, whoever places its sites. Each
// host draws from a stream of its own, so that its fate does not hang on the others.
func history(sc Scenario) []event {
	var all []event
	for i, h := range sc.Hosts {
		rng := stream(sc.Seed, "host", h.Name)
		end, gone := sc.Length, false
		if h.VanishPerYear > 0 {
			// Compared as floats: a rare loss may be centuries away.
			if at := rng.ExpFloat64() * float64(year) / h.VanishPerYear; at < float64(end) {
				end, gone = time.Duration(at), true
			}
		}
		if h.Down > 0 {
			all = append(all, downtimes(i, h, end, rng)...)
		}
		if gone {
			all = append(all, event{end, i, vanishes})
		}
	}
	slices.SortStableFunc(all, func(a, b event) int {
		return cmp.Or(cmp.Compare(a.at, b.at), strings.Compare(sc.Hosts[a.host].Name, sc.Hosts[b.host].Name))
	})
	return all
}

// downtimes begin as if the host had been running for ever.
func downtimes(i int, h Host, end time.Duration, rng *rand.Rand) []event {
	var all []event
	up := rng.Float64() >= float64(h.Down)/float64(h.Up+h.Down)
	if !up {
		all = append(all, event{0, i, goesDown})
	}
	for t := 0.0; ; up = !up {
		mean, next := h.Down, comesUp
		if up {
			mean, next = h.Up, goesDown
		}
		t += rng.ExpFloat64() * float64(mean)
		if t >= float64(end) {
			return all
		}
		all = append(all, event{time.Duration(t), i, next})
	}
}

// stream is the random numbers of one thing.
func stream(seed uint64, what, name string) *rand.Rand {
	return rand.New(rand.NewChaCha8(sha256.Sum256(fmt.Appendf(nil, "%d %s %s", seed, what, name))))
}

// idOf has the shape of an Ed25519 key's ID, for which the plan's draw is made.
func idOf(what, name string) peer.ID {
	sum := sha256.Sum256([]byte(what + " " + name))
	return peer.ID("\x00\x24\x08\x01\x12\x20" + string(sum[:]))
}
