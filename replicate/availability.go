package replicate

import (
	"cmp"
	"math/bits"
	"slices"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
)

// LabelHost is the label of a Loss that is one host alone, which is a domain of its own.
const LabelHost = "host"

// planLabels are the labels that a plan looks at, in the order in which ties are settled.
var planLabels = [...]string{LabelOperator, LabelNetwork, LabelRegion, LabelSoftware}

// PlanLabels are the labels that plans look at; others are the author's alone.
func PlanLabels() []string { return slices.Clone(planLabels[:]) }

// As places in planLabels.
const (
	byOperator = iota
	byNetwork
	byRegion
	bySoftware
)

// domainDown is the share of time, in millionths, for which all hosts of one
// value of a label are away together, whatever each of them does by itself.
// Nobody can observe these; they are set high where people are known to fail:
//
//   - an operator: an unpaid bill, a closed account, a wrong command on all
//     machines at once. 0.5 % is 44 hours a year;
//   - a network: 0.1 %, nine hours a year, is what providers promise (99.9 %);
//   - software: a fault or a bad update that takes all who run it. 20 in a
//     million are ten minutes a year, or three days in 400 years. More would make
//     99.99 % unreachable for the many whose hosts all run the same;
//   - a region: its power, its cables or its law. Five minutes a year.
var domainDown = [len(planLabels)]chance{millionths(5000), millionths(1000), millionths(10), millionths(20)}

// steady is the chance that nothing takes a host away but itself, by the labels (as bits) that
// are looked at apart because others share them.
var steady = func() (all [1 << len(planLabels)]chance) {
	for apart := range all {
		all[apart] = certain
		for l, p := range domainDown {
			if apart>>l&1 == 0 {
				all[apart] = all[apart].and(p.not())
			}
		}
	}
	return all
}()

// maxApart is how many shared failures are looked at exactly: each doubles the work.
const maxApart = 10

// standing is what a host's copy is worth.
type standing struct {
	labels [len(planLabels)]int32 // numbers of the values, per label; 0: it has none, and shares it with nobody
	up     chance                 // low estimate, domains apart
	alone  chance                 // that it is away, itself or by any of its domains
}

func standingOf(uptime int, labels [len(planLabels)]int32) standing {
	if uptime <= 0 {
		uptime = NewUptime
	}
	s := standing{labels: labels, up: millionths(min(uptime, 1_000_000))}
	s.alone = s.up.and(steady[0]).not()
	return s
}

// weigher computes the chance that all of a set of holders are away at once. It is scratch
// space: not for two goroutines.
//
// A holder is away when it fails by itself, or one of its operator, network,
// region and software fails as a whole. Failures of what only one holder has are
// that holder's own, so that without shared values this is the product over the holders of
// p_d + (1-p_d)(1-a_h). Each value that several share is conditioned on: it
// fails, and those who share it are away, or it doesn't. Values shared by the very
// same holders are one condition. That is exact for up to maxApart conditions;
// of those who share one of the others only the best counts as a holder at all, which can
// only make the estimate lower.
type weigher struct {
	apart []condition
	down  [MaxCopies]chance
}

// condition is a failure that several holders share.
type condition struct {
	who uint64 // holders, as bits
	p   chance
}

// away is the chance that all are away; certain for none. At most MaxCopies holders.
func (w *weigher) away(holders []standing) chance {
	var shared [MaxCopies]uint8
	w.apart = w.apart[:0]
	for l := range planLabels {
		var seen uint64
		for i := range holders {
			value := holders[i].labels[l]
			if value == 0 || seen>>i&1 == 1 {
				continue
			}
			who := uint64(1) << i
			for j := i + 1; j < len(holders); j++ {
				if holders[j].labels[l] == value {
					who |= 1 << j
				}
			}
			if who&(who-1) == 0 {
				continue
			}
			seen |= who
			for m := who; m != 0; m &= m - 1 {
				shared[bits.TrailingZeros64(m)] |= 1 << l
			}
			w.condition(who, domainDown[l])
		}
	}
	for i := range holders {
		w.down[i] = holders[i].up.and(steady[shared[i]]).not()
	}
	everybody := ^uint64(0) >> (MaxCopies - len(holders))
	if len(holders) == 0 {
		everybody = 0
	}
	return w.split(w.bound(everybody), 0)
}

func (w *weigher) condition(who uint64, p chance) {
	for i := range w.apart {
		if c := &w.apart[i]; c.who == who {
			c.p = c.p.not().and(p.not()).not()
			return
		}
	}
	w.apart = append(w.apart, condition{who, p})
}

// bound leaves maxApart conditions, those with the most holders, and takes holders out for the rest.
func (w *weigher) bound(alive uint64) uint64 {
	if len(w.apart) <= maxApart {
		return alive
	}
	slices.SortFunc(w.apart, func(a, b condition) int {
		return cmp.Or(cmp.Compare(bits.OnesCount64(b.who), bits.OnesCount64(a.who)), cmp.Compare(b.p, a.p), cmp.Compare(a.who, b.who))
	})
	for _, c := range w.apart[maxApart:] {
		best := -1
		for m := c.who & alive; m != 0; m &= m - 1 {
			if i := bits.TrailingZeros64(m); best < 0 || w.down[i] < w.down[best] {
				best = i
			}
		}
		if best >= 0 {
			alive &^= c.who &^ (1 << best)
		}
	}
	w.apart = w.apart[:maxApart]
	return alive
}

// split goes through the conditions from k on, for the holders that none before took away.
func (w *weigher) split(alive uint64, k int) chance {
	for k < len(w.apart) && w.apart[k].who&alive == 0 {
		k++
	}
	if k == len(w.apart) {
		all := certain
		for ; alive != 0; alive &= alive - 1 {
			all = all.and(w.down[bits.TrailingZeros64(alive)])
		}
		return all
	}
	c := w.apart[k]
	return c.p.and(w.split(alive&^c.who, k+1)) + c.p.not().and(w.split(alive, k+1))
}

// EstimateOf says what a set of holders is worth, by the low estimates of their
// uptime. It doesn't look at whether they can be reached now. Of more than
// MaxCopies holders the best count.
func EstimateOf(holders []Observation) Estimate {
	s := newScene(holders)
	e := Estimate{Copies: len(holders), Availability: s.availability(nil)}
	if all := s.failures(); len(all) > 0 {
		e.Worst = all[0]
	}
	return e
}

// Failures lists what is left of a set of holders when any one domain fails as a
// whole: each value of their labels, and each host without an operator
// (LabelHost, by its name or else its id). The worst comes first.
func Failures(holders []Observation) []Loss { return newScene(holders).failures() }

// scene is holders in an order of their own, so that the order in which they were observed changes nothing.
type scene struct {
	w       weigher
	holders []Observation
	what    []standing
}

func newScene(holders []Observation) *scene {
	s := &scene{holders: slices.Clone(holders)}
	slices.SortFunc(s.holders, func(a, b Observation) int { return cmp.Compare(a.Host, b.Host) })
	values := newValues()
	for _, o := range s.holders {
		s.what = append(s.what, standingOf(o.Uptime, values.of(o.Labels)))
	}
	return s
}

// availability is that of the holders that are not gone, in billionths.
func (s *scene) availability(gone func(Observation) bool) int64 {
	var left []standing
	for i, o := range s.holders {
		if gone == nil || !gone(o) {
			left = append(left, s.what[i])
		}
	}
	if len(left) > MaxCopies {
		slices.SortStableFunc(left, func(a, b standing) int { return cmp.Compare(a.alone, b.alone) })
		left = left[:MaxCopies]
	}
	return s.w.away(left).not().billionths()
}

func (s *scene) failures() []Loss {
	var all []Loss
	seen := make(map[[2]string]bool)
	add := func(label, value string, gone func(Observation) bool) {
		if seen[[2]string{label, value}] {
			return
		}
		seen[[2]string{label, value}] = true
		l := Loss{Label: label, Value: value, Availability: s.availability(gone)}
		for _, o := range s.holders {
			if !gone(o) {
				l.Copies++
			}
		}
		all = append(all, l)
	}
	for _, label := range planLabels {
		for _, o := range s.holders {
			if v := o.Labels[label]; v != "" {
				add(label, v, func(o Observation) bool { return o.Labels[label] == v })
			}
		}
	}
	for _, h := range s.holders {
		if h.Labels[LabelOperator] == "" {
			add(LabelHost, plainName(h.Name, h.Host), func(o Observation) bool { return o.Host == h.Host })
		}
	}
	slices.SortStableFunc(all, func(a, b Loss) int {
		return cmp.Or(cmp.Compare(a.Availability, b.Availability), cmp.Compare(a.Copies, b.Copies),
			cmp.Compare(labelOrder(a.Label), labelOrder(b.Label)), strings.Compare(a.Value, b.Value))
	})
	return all
}

func labelOrder(label string) int {
	if i := slices.Index(planLabels[:], label); i >= 0 {
		return i
	}
	return len(planLabels)
}

// values numbers the values of each label, from 1.
type values [len(planLabels)]map[string]int32

func newValues() *values {
	var v values
	for l := range v {
		v[l] = make(map[string]int32)
	}
	return &v
}

func (v *values) of(labels map[string]string) (out [len(planLabels)]int32) {
	for l, label := range planLabels {
		value := labels[label]
		if value == "" {
			continue
		}
		n, ok := v[l][value]
		if !ok {
			n = int32(len(v[l]) + 1)
			v[l][value] = n
		}
		out[l] = n
	}
	return out
}

// plainName is a host's name, or else its id.
func plainName(name string, id peer.ID) string { return cmp.Or(name, id.String()) }
