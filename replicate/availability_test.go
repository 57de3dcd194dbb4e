package replicate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
)

// holdersAt are reachable holders with these uptimes, in millionths, and labels.
func holdersAt(uptime int, labels ...map[string]string) []Observation {
	all := observations(len(labels))
	for i := range all {
		all[i].Uptime, all[i].Labels, all[i].Holds = uptime, labels[i], true
	}
	return all
}

// byBruteForce goes through all combinations of failing values and hosts, in floating point.
func byBruteForce(holders []Observation) float64 {
	type event struct {
		p   float64
		who uint64
	}
	var events []event
	seen := make(map[string]int)
	for i, o := range holders {
		up := float64(o.Uptime) / 1e6
		events = append(events, event{1 - up, 1 << i})
		for l, label := range planLabels {
			v := o.Labels[label]
			if v == "" {
				v = fmt.Sprint("own ", i)
			}
			at, ok := seen[label+v]
			if !ok {
				at = len(events)
				seen[label+v] = at
				events = append(events, event{float64(domainDown[l]) / float64(certain), 0})
			}
			events[at].who |= 1 << i
		}
	}
	var try func(k int, p float64, gone uint64) float64
	try = func(k int, p float64, gone uint64) float64 {
		if gone == 1<<len(holders)-1 {
			return p
		}
		if k == len(events) {
			return 0
		}
		e := events[k]
		return try(k+1, p*e.p, gone|e.who) + try(k+1, p*(1-e.p), gone)
	}
	return try(0, 1, 0)
}

func TestAvailabilityIsThatOfAllCombinationsOfFailures(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 7))
		holders := observations(1 + r.IntN(4))
		for i := range holders {
			holders[i].Uptime = 1 + r.IntN(999_999)
			holders[i].Labels = make(map[string]string)
			for _, label := range planLabels {
				if n := r.IntN(4); n > 0 {
					holders[i].Labels[label] = fmt.Sprint(n)
				}
			}
		}
		want := 1 - byBruteForce(holders)
		if got := float64(EstimateOf(holders).Availability) / 1e9; math.Abs(got-want) > 2e-9 {
			t.Fatalf("seed %d: %.10f, all combinations give %.10f: %+v", seed, got, want, holders)
		}
	}
}

func TestMoreSharedFailuresThanCanBeTriedMakeTheEstimateLowerNotHigher(t *testing.T) {
	// 16 holders in pairs of an operator, of a network, and of a region, none alike: 24 conditions.
	var labels []map[string]string
	for i := range 16 {
		labels = append(labels, map[string]string{
			LabelOperator: fmt.Sprint(i / 2), LabelNetwork: fmt.Sprint((i + 1) / 2 % 8), LabelRegion: fmt.Sprint(i % 8),
		})
	}
	crowd := EstimateOf(holdersAt(600_000, labels...))
	free := EstimateOf(holdersAt(600_000, make([]map[string]string, 16)...))
	few := EstimateOf(holdersAt(600_000, make([]map[string]string, 4)...))
	if crowd.Availability >= free.Availability || crowd.Availability <= few.Availability {
		t.Fatalf("%d with pairs, %d without, %d for four alone", crowd.Availability, free.Availability, few.Availability)
	}
}

func TestSharingCostsAndMoreHoldersHelp(t *testing.T) {
	last := int64(0)
	for n := 1; n <= 5; n++ {
		e := EstimateOf(holdersAt(900_000, make([]map[string]string, n)...))
		if e.Availability <= last || e.Copies != n {
			t.Fatalf("%d holders: %+v after %d", n, e, last)
		}
		last = e.Availability
	}
	for _, label := range planLabels {
		shared := map[string]string{label: "x"}
		if got := EstimateOf(holdersAt(900_000, shared, shared, shared)); got.Availability >= EstimateOf(holdersAt(900_000, nil, nil, nil)).Availability {
			t.Errorf("three with one %s: %+v", label, got)
		}
	}
	if EstimateOf(nil) != (Estimate{}) {
		t.Fatal("nobody holds it, and that is something")
	}
}

func TestFailuresSayWhatIsLeftOfEachDomain(t *testing.T) {
	holders := holdersAt(900_000,
		map[string]string{LabelOperator: "alice", LabelNetwork: "AS1"},
		map[string]string{LabelOperator: "bob", LabelNetwork: "AS1"},
		map[string]string{LabelNetwork: "AS2"})
	all := Failures(holders)
	var got []string
	for _, l := range all {
		got = append(got, fmt.Sprintf("%s %s %d", l.Label, l.Value, l.Copies))
	}
	want := []string{"network AS1 1", "operator alice 2", "operator bob 2", "network AS2 2", "host host2 2"}
	if fmt.Sprint(len(got)) != fmt.Sprint(len(want)) || got[0] != want[0] {
		t.Fatalf("%q, want %q", got, want)
	}
	one := EstimateOf(holders[2:])
	if all[0].Availability != one.Availability {
		t.Fatalf("%d is left of AS1's failure, the one that stays is worth %d", all[0].Availability, one.Availability)
	}
	if EstimateOf(holders).Worst != all[0] {
		t.Fatal("the worst is not the first")
	}
	r := rand.New(rand.NewPCG(1, 1))
	r.Shuffle(len(holders), func(i, j int) { holders[i], holders[j] = holders[j], holders[i] })
	if !reflect.DeepEqual(Failures(holders), all) {
		t.Fatal("another order of holders, another list")
	}
}
