package replicate

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

const siteBytes = 1000

func desired(copies int) Desired {
	return Desired{Site: siteNumber(100), Bytes: siteBytes, Copies: copies}
}

// observations are n hosts with room, each a domain of its own.
func observations(n int) []Observation {
	var all []Observation
	for i := range n {
		all = append(all, Observation{
			Host: idNumber(byte(i)), Name: fmt.Sprint("host", i), FreeBytes: 10 * siteBytes, Reachable: true,
		})
	}
	return all
}

func mustPlan(t *testing.T, d Desired, observed []Observation) []Action {
	t.Helper()
	plan, err := Plan(d, observed, testTime)
	if err != nil {
		t.Fatal(err)
	}
	return plan.Actions
}

func ofKind(plan []Action, kind ActionKind) []peer.ID {
	var hosts []peer.ID
	for _, a := range plan {
		if a.Kind == kind {
			hosts = append(hosts, a.Host)
		}
	}
	return hosts
}

// carryOut makes the holders of a plan the present ones.
func carryOut(plan []Action, observed []Observation) []Observation {
	out := append([]Observation{}, observed...)
	for i := range out {
		for _, a := range plan {
			if a.Host == out[i].Host {
				out[i].Holds = a.Kind == Hold
			}
		}
	}
	return out
}

// randomObservations are hosts of every sort.
func randomObservations(r *rand.Rand) []Observation {
	all := observations(1 + r.IntN(20))
	for i := range all {
		o := &all[i]
		if r.IntN(2) == 0 {
			o.Labels = operator(fmt.Sprint("operator", r.IntN(4)))
		}
		o.FreeBytes = int64(r.IntN(4)-1) * siteBytes
		o.MaxPinBytes = int64(r.IntN(3)) * siteBytes
		o.Reachable = r.IntN(5) != 0
		o.Draining = r.IntN(6) == 0
		o.Holds = r.IntN(3) == 0
		o.Unproved = r.IntN(8) == 0
		o.Out = r.IntN(12) == 0
		o.Uptime = r.IntN(4) * 300_000
		o.Quota = int64(r.IntN(3)) * 4 * siteBytes
		if r.IntN(5) == 0 {
			o.Until = testTime.Add(time.Duration(r.IntN(3)-1) * time.Hour)
		}
	}
	return all
}

// canHold tells whether a plan may put the site on a host, or leave it there.
func canHold(d Desired, o Observation) bool {
	return !o.Unproved && unusable(o, d.Regions, testTime) == "" && tooSmall(d, o) == ""
}

func domainOf(observed []Observation, host peer.ID) string {
	for _, o := range observed {
		if o.Host == host {
			if o.Labels[LabelOperator] == "" {
				return string(host)
			}
			return o.Labels[LabelOperator]
		}
	}
	return ""
}

// What must be true of every plan, tried on many.
func TestPlansKeepTheirPromises(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 1))
		observed := randomObservations(r)
		d := desired(r.IntN(6))
		plan, err := Plan(d, observed, testTime)

		shuffled := append([]Observation{}, observed...)
		r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		again, err2 := Plan(d, shuffled, testTime)
		if !reflect.DeepEqual(plan, again) || !reflect.DeepEqual(err, err2) {
			t.Fatalf("seed %d: another order gives another plan:\n%v, %v\n%v, %v", seed, plan, err, again, err2)
		}

		var few *TooFewHostsError
		if errors.As(err, &few) {
			checkTooFew(t, seed, d, observed, few)
			continue
		}
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		checkPromises(t, seed, d, observed, plan.Actions)
	}
}

func checkTooFew(t *testing.T, seed uint64, d Desired, observed []Observation, few *TooFewHostsError) {
	t.Helper()
	if few.Usable >= d.Copies || few.Usable+len(few.LeftOut) != len(observed) {
		t.Fatalf("seed %d: %v, of %d hosts", seed, few, len(observed))
	}
	d.Copies = few.Usable
	if _, err := Plan(d, observed, testTime); err != nil {
		t.Fatalf("seed %d: not even the %d that it says can be used: %v", seed, few.Usable, err)
	}
}

func checkPromises(t *testing.T, seed uint64, d Desired, observed []Observation, plan []Action) {
	t.Helper()
	seen := make(map[peer.ID]bool)
	domains := make(map[string]bool)
	possible := make(map[string]bool)
	state := make(map[peer.ID]Observation)
	for _, o := range observed {
		state[o.Host] = o
		if canHold(d, o) {
			possible[domainOf(observed, o.Host)] = true
		}
	}
	for _, a := range plan {
		o := state[a.Host]
		if seen[a.Host] {
			t.Fatalf("seed %d: two actions for one host: %v", seed, plan)
		}
		seen[a.Host] = true
		if a.Reason == "" {
			t.Fatalf("seed %d: an action without a reason", seed)
		}
		if (a.Kind == Hold || a.Kind == Standby) && !canHold(d, o) {
			t.Fatalf("seed %d: %s on a host that can't: %+v", seed, a.Kind, o)
		}
		if (a.Kind == Extra) != (o.Unproved && a.Kind != Release) {
			t.Fatalf("seed %d: %+v of %+v", seed, a, o)
		}
		if a.Kind != Hold && a.Kind != Extra && o.Holds && d.Copies > 0 && !a.AfterProof {
			t.Fatalf("seed %d: a copy would go before the others are proved: %+v", seed, a)
		}
		if a.Kind == Hold {
			domains[domainOf(observed, a.Host)] = true
		}
	}
	holders := ofKind(plan, Hold)
	if len(holders) != d.Copies {
		t.Fatalf("seed %d: %d holders, %d are wanted", seed, len(holders), d.Copies)
	}
	if want := min(d.Copies, len(possible)); len(domains) != want {
		t.Fatalf("seed %d: %d domains, %d were possible", seed, len(domains), want)
	}
	if len(Proposal{Actions: plan}.Roster()) > MaxRoster {
		t.Fatalf("seed %d: a roster of %d", seed, len(Proposal{Actions: plan}.Roster()))
	}
	after := mustPlan(t, d, carryOut(plan, observed))
	if !reflect.DeepEqual(ofKind(after, Hold), holders) {
		t.Fatalf("seed %d: the plan does not stand still once it is carried out", seed)
	}
}

func TestPresentHoldersStayWhenBetterHostsCome(t *testing.T) {
	few := observations(4)
	first := mustPlan(t, desired(3), few)
	holders := ofKind(first, Hold)
	grown := append(carryOut(first, few), observations(40)[4:]...)
	if after := ofKind(mustPlan(t, desired(3), grown), Hold); !reflect.DeepEqual(after, holders) {
		t.Fatalf("the holders were %v and became %v", holders, after)
	}
}

func TestALostHostIsReplacedAloneAndADrainingOneLeavesLast(t *testing.T) {
	observed := observations(10)
	first := mustPlan(t, desired(4), observed)
	observed = carryOut(first, observed)
	for _, lost := range []func(*Observation){
		func(o *Observation) { o.Reachable = false },
		func(o *Observation) { o.Draining = true },
	} {
		now := append([]Observation{}, observed...)
		gone := ofKind(first, Hold)[1]
		for i := range now {
			if now[i].Host == gone {
				lost(&now[i])
			}
		}
		plan := mustPlan(t, desired(4), now)
		kept := 0
		for _, h := range ofKind(plan, Hold) {
			if h == gone {
				t.Fatal("the lost host still holds")
			}
			for _, old := range ofKind(first, Hold) {
				if h == old {
					kept++
				}
			}
		}
		if kept != 3 {
			t.Fatalf("%d of 3 holders stayed", kept)
		}
		for _, a := range plan {
			if a.Kind == Release && (a.Host != gone || !a.AfterProof) {
				t.Fatalf("released too early, or the wrong one: %+v", a)
			}
		}
	}
}

func TestAFullHolderStays(t *testing.T) {
	observed := observations(5)
	plan := mustPlan(t, desired(2), observed)
	observed = carryOut(plan, observed)
	for i := range observed {
		if observed[i].Holds {
			observed[i].FreeBytes = 0
		}
	}
	if after := ofKind(mustPlan(t, desired(2), observed), Hold); !reflect.DeepEqual(after, ofKind(plan, Hold)) {
		t.Fatalf("%v became %v", ofKind(plan, Hold), after)
	}
}

func TestOneDomainHoldsTwiceOnlyWhenDomainsRunOutAndSaysSo(t *testing.T) {
	observed := observations(6)
	for i := range observed {
		observed[i].Labels = operator(fmt.Sprint("operator", i%2))
	}
	said := 0
	for _, a := range mustPlan(t, desired(3), observed) {
		if a.Kind == Hold && strings.Contains(a.Reason, "same domain") {
			said++
		}
	}
	if said != 1 {
		t.Fatalf("%d holders are said to crowd a domain, want 1", said)
	}
}

func TestTooFewHostsSaysHowManyThereAreAndWhyOthersAreNot(t *testing.T) {
	observed := observations(6)
	observed[0].Reachable = false
	observed[1].Draining = true
	observed[2].FreeBytes = siteBytes - 1
	observed[3].MaxPinBytes = siteBytes - 1
	observed[4].Until = testTime
	_, err := Plan(desired(3), observed, testTime)
	var few *TooFewHostsError
	if !errors.As(err, &few) || !errors.Is(err, ErrTooFewHosts) {
		t.Fatal(err)
	}
	if few.Usable != 1 || few.Wanted != 3 || len(few.LeftOut) != 5 {
		t.Fatalf("%+v", few)
	}
	for _, want := range []string{"1 can be used, 3", "can't be reached", "draining", "room for 999", "at most 999", "have ended", `"host0"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	if _, err := Plan(desired(1), nil, testTime); !errors.Is(err, ErrTooFewHosts) {
		t.Fatal(err)
	}
}

func TestNoCopiesWantedReleasesAllAndNeedsNoHost(t *testing.T) {
	if plan := mustPlan(t, desired(0), nil); len(plan) != 0 {
		t.Fatal(plan)
	}
	observed := observations(3)
	observed[1].Holds = true
	plan := mustPlan(t, desired(0), observed)
	if len(plan) != 1 || plan[0].Kind != Release || plan[0].Host != observed[1].Host {
		t.Fatal(plan)
	}
}

func TestARosterEndsAtItsLimit(t *testing.T) {
	d := desired(5)
	d.Standbys = 1000
	plan := mustPlan(t, d, observations(200))
	if roster := (Proposal{Actions: plan}).Roster(); len(roster) != MaxRoster || len(ofKind(plan, Hold)) != 5 {
		t.Fatalf("%d in the roster, %d hold", len(roster), len(ofKind(plan, Hold)))
	}
}

func TestPlanRefusesWhatContradictsItself(t *testing.T) {
	one := observations(1)
	for name, c := range map[string]struct {
		d Desired
		o []Observation
	}{
		"twice":         {desired(1), append(one, one...)},
		"no id":         {desired(1), []Observation{{}}},
		"no site":       {Desired{Copies: 1}, one},
		"65 copies":     {desired(65), one},
		"-1 copies":     {desired(-1), one},
		"-1 bytes":      {Desired{Site: siteNumber(1), Bytes: -1}, one},
		"most < copies": {Desired{Site: siteNumber(1), Copies: 3, Most: 2}, one},
		"most > 64":     {Desired{Site: siteNumber(1), Copies: 3, Most: 65}, one},
		"over 100 %":    {Desired{Site: siteNumber(1), Copies: 1, Availability: 1_000_001}, one},
		"-1 to move":    {Desired{Site: siteNumber(1), Copies: 1, MoveBytes: -1}, one},
	} {
		if _, err := Plan(c.d, c.o, testTime); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The draw is the same on every machine, and spreads sites over hosts.
func TestTheDrawIsTheGoldenOneAndSpreads(t *testing.T) {
	var out strings.Builder
	for _, h := range (Proposal{Actions: mustPlan(t, desired(3), observations(8))}).Roster() {
		fmt.Fprintln(&out, h)
	}
	golden(t, "plan.golden", out.String())

	load := make(map[peer.ID]int)
	for i := range 200 {
		d := desired(2)
		d.Site = siteNumber(byte(i))
		for _, h := range ofKind(mustPlan(t, d, observations(10)), Hold) {
			load[h]++
		}
	}
	for h, n := range load {
		if n < 20 || n > 65 {
			t.Errorf("%s holds %d of 200 sites, where 40 is fair", h, n)
		}
	}
	if len(load) != 10 {
		t.Errorf("only %d of 10 hosts hold anything", len(load))
	}
}

func operator(name string) map[string]string { return map[string]string{LabelOperator: name} }
