package replicate

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// sketch is the plan of one site in the making.
type sketch struct {
	desired Desired
	hosts   []Observation // that can be used, by id; the places of draft are places in it
	draft   draft
	present []int32
}

// newSketch takes hosts that can be used, sorted by id.
func newSketch(desired Desired, hosts []Observation) *sketch {
	s := &sketch{desired: desired, hosts: hosts, draft: draft{t: newTable(hosts)}}
	for i, o := range hosts {
		if o.Holds && tooSmall(desired, o) == "" {
			s.present = append(s.present, int32(i))
		}
	}
	t := s.draft.t
	t.largest, t.slack = desired.Bytes, slack(0)
	for _, i := range s.present {
		if !t.rows[i].told {
			t.rows[i].used += desired.Bytes
		}
	}
	t.total = uint64(max(0, desired.Copies-len(s.present))) * uint64(desired.Bytes)
	for _, r := range t.rows {
		t.total += uint64(r.used)
	}
	return s
}

func (s *sketch) wants() wants {
	w := wants{
		seed: SiteDraw(s.desired.Site), bytes: s.desired.Bytes, copies: s.desired.Copies,
		most: mostOf(s.desired.Copies, s.desired.Most), away: awayAt(s.desired.Availability), moves: -1,
	}
	if s.desired.MoveBytes > 0 && s.desired.Bytes > 0 {
		w.moves = int(min(s.desired.MoveBytes/s.desired.Bytes, MaxCopies))
	}
	return w
}

func mostOf(copies, most int) int {
	if most == 0 {
		most = DefaultMost
	}
	return max(most, copies)
}

func (s *sketch) proposal() Proposal {
	var p Proposal
	w, d := s.wants(), &s.draft
	p.Least = s.least(w)
	d.choose(w, slices.Clone(s.present))
	p.Missed = s.missed()
	var holders []Observation
	for k, i := range d.ordered() {
		if d.fresh[k] {
			p.Moves += d.bytes
		}
		holders = append(holders, s.hosts[i])
		p.Actions = append(p.Actions, Action{Kind: Hold, Host: s.hosts[i].Host, Reason: s.reason(k)})
	}
	p.Least = min(p.Least, p.Moves)
	p.After = EstimateOf(holders)
	p.Actions = append(p.Actions, s.others()...)
	return p
}

// least is how many bytes would have to be copied if the best hosts were taken each time.
func (s *sketch) least(w wants) (moves int64) {
	best := draft{t: s.draft.t, cursor: make([]int, crowded+1)}
	best.choose(w, slices.Clone(s.present))
	for _, fresh := range best.fresh {
		if fresh {
			moves += w.bytes
		}
	}
	return moves
}

// missed is why the target isn't reached.
func (s *sketch) missed() string {
	d := &s.draft
	switch {
	case d.met:
		return ""
	case len(d.picks) >= d.most:
		return fmt.Sprintf("%d copies, the most that are allowed, are not enough by what is known of the hosts' uptime", len(d.picks))
	case d.left == 0:
		return "it would take more bytes than may be moved"
	}
	return "no other host of another operator has room"
}

func (s *sketch) reason(k int) string {
	d := &s.draft
	reason := "holds it already"
	if d.fresh[k] {
		reason = "has room"
	}
	if op := d.what[k].labels[byOperator]; op != 0 && slices.ContainsFunc(d.what[:k], func(other standing) bool { return other.labels[byOperator] == op }) {
		reason += "; in the same domain as another, since no other has room"
	}
	return reason
}

// others is the standbys, and the present holders that are not needed.
func (s *sketch) others() []Action {
	d := &s.draft
	var surplus []int32
	for _, i := range s.present {
		if !slices.Contains(d.picks, i) {
			surplus = append(surplus, i)
		}
	}
	const tooMany = "more copies than wanted, or than wanted in one domain"
	n := cmp.Or(s.desired.Standbys, DefaultStandbys)
	var out []Action
	for _, i := range d.standbys(max(n, 0), surplus) {
		a := Action{Kind: Standby, Host: s.hosts[i].Host, Reason: "has room"}
		if slices.Contains(s.present, i) {
			a.Reason, a.AfterProof = tooMany, true
		}
		out = append(out, a)
	}
	for _, i := range surplus {
		if !slices.Contains(d.picks, i) {
			out = append(out, Action{Kind: Release, Host: s.hosts[i].Host, Reason: tooMany, AfterProof: true})
		}
	}
	return out
}

// slack is a share in thousandths as the draw counts it; 0: DefaultSlack.
func slack(thousandths int) uint64 {
	return uint64(min(cmp.Or(max(thousandths, 0), DefaultSlack), math.MaxInt16)) * 65536 / 1000
}
