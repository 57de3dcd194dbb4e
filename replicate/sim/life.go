package sim

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	day   = 24 * time.Hour
	year  = 365 * day
	never = time.Duration(math.MaxInt64)
)

// span is a time in which something lasts: from until before to. Times of a world count from the moment
// in which the author has published and leaves; what was before is negative.
type span struct{ from, to time.Duration }

// spread is a log-normal distribution of durations; the zero value is always 0.
type spread struct {
	median time.Duration
	sigma  float64
}

func (s spread) draw(rng *rand.Rand) time.Duration {
	return time.Duration(float64(s.median) * math.Exp(s.sigma*rng.NormFloat64()))
}

func exponential(mean time.Duration, rng *rand.Rand) time.Duration {
	return time.Duration(min(rng.ExpFloat64()*float64(mean), float64(100*year)))
}

// habits is how machines of a kind come and go.
type habits struct {
	name string
	up   spread // from one return to the next going; median 0: always up
	down spread // ordinary downtimes
	// Of the downtimes, away are long ones: holidays, moves, a broken part on order.
	away     float64
	awayTime spread
	// loss is how many of a hundred are lost for good in a year, with all that is on them.
	loss float64
	// nights says that it is switched off at night, in the zone of its region, and on
	// one day in ten is not switched on at all.
	nights bool
}

// live draws the times in which a host is up between begin and end, as if it had run for ever before.
func (h habits) live(begin, end time.Duration, zone time.Duration, rng *rand.Rand) []span {
	var up []span
	t := begin
	if h.nights {
		up = days(begin, end, zone, rng)
	} else if h.up.median > 0 {
		// The first time up or down is cut at a random point, which starts no host in step with another.
		for t < end {
			u := max(h.up.draw(rng), time.Minute)
			d := max(h.pause(rng), time.Minute)
			if t == begin {
				cut := time.Duration(rng.Float64() * float64(u+d))
				up = append(up, span{t, t + max(0, u-cut)})
				t += u + d - cut
				continue
			}
			up = append(up, span{t, t + u})
			t += u + d
		}
	} else {
		up = []span{{begin, end}}
	}
	if h.nights && h.away > 0 { // as many long absences as of a machine that goes once a day
		var gone []span
		for t := begin; t < end; {
			t += exponential(time.Duration(float64(day)/h.away), rng)
			d := h.awayTime.draw(rng)
			gone = append(gone, span{t, t + d})
			t += d
		}
		up = without(up, gone)
	}
	return clip(up, begin, end)
}

func (h habits) pause(rng *rand.Rand) time.Duration {
	if rng.Float64() < h.away {
		return h.awayTime.draw(rng)
	}
	return h.down.draw(rng)
}

// days is up from about eight in the morning until about eleven at night.
func days(begin, end, zone time.Duration, rng *rand.Rand) []span {
	var up []span
	shift := time.Duration(rng.NormFloat64() * float64(time.Hour)) // of this household
	for d := begin - day; d < end; d += day {
		about := func(h float64) time.Duration {
			return d + zone + shift + time.Duration((h+0.7*rng.NormFloat64())*float64(time.Hour))
		}
		from, to := about(8), about(23)
		if rng.IntN(10) > 0 {
			up = append(up, span{from, max(to, from+time.Hour)})
		}
	}
	return up
}

// clip keeps what lies between begin and end, in order, without overlaps.
func clip(spans []span, begin, end time.Duration) []span {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to)) })
	var out []span
	for _, s := range spans {
		s = span{max(s.from, begin), min(s.to, end)}
		if n := len(out); n > 0 && s.from <= out[n-1].to {
			out[n-1].to = max(out[n-1].to, s.to)
		} else if s.from < s.to {
			out = append(out, s)
		}
	}
	return out
}

// without is up, less the times in gone.
func without(up, gone []span) []span {
	if len(gone) == 0 {
		return up
	}
	gone = clip(slices.Clone(gone), math.MinInt64, never)
	var out []span
	for _, s := range up {
		for _, g := range gone {
			if g.to <= s.from || g.from >= s.to {
				continue
			}
			if g.from > s.from {
				out = append(out, span{s.from, g.from})
			}
			s.from = g.to
			if s.from >= s.to {
				break
			}
		}
		if s.from < s.to {
			out = append(out, s)
		}
	}
	return out
}

// last is the index of the last span that begins at or before t; -1: none.
func last(spans []span, t time.Duration) int {
	lo, hi := 0, len(spans)
	for lo < hi {
		if mid := int(uint(lo+hi) / 2); spans[mid].from <= t {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo - 1
}

// within tells whether t lies in one of the spans.
func within(spans []span, t time.Duration) bool {
	i := last(spans, t)
	return i >= 0 && t < spans[i].to
}
