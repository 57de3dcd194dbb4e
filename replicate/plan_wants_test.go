package replicate

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
)

// at gives all hosts one uptime, in millionths.
func at(uptime int, observed []Observation) []Observation {
	for i := range observed {
		observed[i].Uptime = uptime
	}
	return observed
}

func propose(t *testing.T, d Desired, observed []Observation) Proposal {
	t.Helper()
	p, err := Plan(d, observed, testTime)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// withoutBest is the holders of a plan without the best of them.
func withoutBest(p Proposal, observed []Observation) (rest []Observation) {
	best := -1
	for _, o := range observed {
		if slices.Contains(ofKind(p.Actions, Hold), o.Host) {
			rest = append(rest, o)
			if best < 0 || o.Uptime > rest[best].Uptime {
				best = len(rest) - 1
			}
		}
	}
	return slices.Delete(rest, best, best+1)
}

func TestHoldersAreAddedUntilTheTargetHoldsWithoutTheBest(t *testing.T) {
	for _, uptime := range []int{700_000, 900_000, 980_000, 999_000} {
		observed := at(uptime, observations(30))
		d := desired(2)
		d.Availability, d.Most = 999_900, 20
		p := propose(t, d, observed)
		if got := EstimateOf(withoutBest(p, observed)).Availability; got < 999_900_000 || p.Missed != "" {
			t.Errorf("uptime %d: %d copies, %d without the best, %q", uptime, p.After.Copies, got, p.Missed)
		}
		if p.After.Copies > 2 {
			d.Most = p.After.Copies - 1
			if fewer := propose(t, d, observed); fewer.Missed == "" || fewer.After.Copies != d.Most {
				t.Errorf("uptime %d: one copy less would do: %+v", uptime, fewer)
			}
		}
	}
}

func TestATargetThatCantBeMetIsSaidAndTheBestHostsAreTaken(t *testing.T) {
	observed := at(300_000, observations(40))
	for _, i := range []int{3, 14, 15, 26, 35} {
		observed[i].Uptime = 600_000
	}
	d := desired(3)
	d.Availability = 999_999
	p := propose(t, d, observed)
	if p.After.Copies != DefaultMost || !strings.Contains(p.Missed, "5 copies") {
		t.Fatalf("%+v", p)
	}
	for _, i := range []int{3, 14, 15, 26, 35} {
		if !slices.Contains(ofKind(p.Actions, Hold), observed[i].Host) {
			t.Errorf("host %d, one of the best, was not taken", i)
		}
	}
	if few := propose(t, d, observed[:4]); few.After.Copies != 4 || !strings.Contains(few.Missed, "no other host") {
		t.Errorf("%+v", few)
	}
}

func TestCopiesThatTheTargetNoLongerNeedsGoAfterProof(t *testing.T) {
	d := desired(3)
	d.Availability, d.Most, d.Standbys = 999_900, 8, -1
	observed := at(800_000, observations(12))
	first := propose(t, d, observed)
	if first.After.Copies < 6 {
		t.Fatalf("only %d copies at hosts that are there for 80 %%", first.After.Copies)
	}
	observed = at(999_000, carryOut(first.Actions, observed)) // they turned out to be better
	second := propose(t, d, observed)
	if second.After.Copies != 3 || second.Moves != 0 {
		t.Fatalf("%d copies, %d bytes moved", second.After.Copies, second.Moves)
	}
	for _, a := range second.Actions {
		if a.Kind == Release && !a.AfterProof {
			t.Errorf("%+v", a)
		}
	}
	if got := len(ofKind(second.Actions, Release)); got != first.After.Copies-3 {
		t.Errorf("%d are released", got)
	}
}

func TestASiteAtItsTargetIsNotChangedToAndFro(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 6))
		base := observations(25)
		for i := range base {
			base[i].Uptime = 600_000 + r.IntN(399_000)
		}
		d := desired(3)
		d.Availability, d.Most = 999_900, 8
		now := carryOut(propose(t, d, base).Actions, base)
		changes := 0
		for range 30 {
			for i := range now { // estimates sway: hosts are away by a tenth more or less
				now[i].Uptime = 1_000_000 - (1_000_000-base[i].Uptime)*(90+r.IntN(21))/100
			}
			p := propose(t, d, now)
			after := carryOut(p.Actions, now)
			for i := range now {
				if after[i].Holds != now[i].Holds {
					changes++
				}
			}
			now = after
		}
		if changes > 3 {
			t.Fatalf("seed %d: %d copies came or went in 30 looks", seed, changes)
		}
	}
}

func TestAPlanMovesNoMoreThanItMay(t *testing.T) {
	d := desired(2)
	d.Availability, d.Most, d.MoveBytes = 999_900, 20, 2*siteBytes+siteBytes/2
	p := propose(t, d, at(700_000, observations(30)))
	if p.After.Copies != 4 || p.Moves != 4*siteBytes || !strings.Contains(p.Missed, "bytes") {
		t.Fatalf("%d copies, %d bytes moved, %q: two are needed, and two more may be made", p.After.Copies, p.Moves, p.Missed)
	}
}

func TestOnlyAllowedRegionsHold(t *testing.T) {
	observed := observations(9)
	for i := range observed {
		observed[i].Labels = map[string]string{LabelRegion: []string{"EU", "US", ""}[i%3]}
	}
	observed[1].Holds = true
	d := desired(3)
	d.Regions = []string{"EU"}
	p := propose(t, d, observed)
	for _, id := range p.Roster() {
		for _, o := range observed {
			if o.Host == id && o.Labels[LabelRegion] != "EU" {
				t.Errorf("%s of region %q is in the roster", o.Name, o.Labels[LabelRegion])
			}
		}
	}
	if released := ofKind(p.Actions, Release); len(released) != 1 || released[0] != observed[1].Host {
		t.Errorf("%v is released", released)
	}
}

func TestWhatCantBeProvedNeverCounts(t *testing.T) {
	observed := observations(5)
	observed[0].Unproved, observed[1].Unproved, observed[1].Holds = true, true, true
	d := desired(3)
	p := propose(t, d, observed)
	if extra := ofKind(p.Actions, Extra); len(extra) != 2 || slices.Contains(p.Roster(), observed[0].Host) || p.Before.Copies != 0 || p.After.Copies != 3 {
		t.Fatalf("%+v", p)
	}
	if p.Moves != 4*siteBytes {
		t.Fatalf("%d bytes for three copies and one more beside them", p.Moves)
	}
	if _, err := Plan(desired(4), observed, testTime); err == nil {
		t.Fatal("four copies with three hosts that can prove them")
	}
}

func TestAConvictedHolderIsReplacedAndReleased(t *testing.T) {
	observed := observations(6)
	observed = carryOut(mustPlan(t, desired(3), observed), observed)
	gone := slices.IndexFunc(observed, func(o Observation) bool { return o.Holds })
	observed[gone].Out = true
	p := propose(t, desired(3), observed)
	if p.Before.Copies != 2 || p.After.Copies != 3 || p.Moves != siteBytes || slices.Contains(p.Roster(), observed[gone].Host) {
		t.Fatalf("%+v", p)
	}
	if released := ofKind(p.Actions, Release); len(released) != 1 || released[0] != observed[gone].Host {
		t.Fatalf("%v is released", released)
	}
}

func TestCopiesAvoidOneNetworkAndOneSoftwareWhereTheyCan(t *testing.T) {
	for seed := range 50 {
		observed := observations(12)
		for i := range observed {
			observed[i].Labels = map[string]string{LabelNetwork: fmt.Sprint(i % 4), LabelSoftware: []string{"a", "a", "a", "b"}[i/3]}
		}
		d := desired(3)
		d.Site = siteNumber(byte(seed))
		networks, software := make(map[string]bool), make(map[string]bool)
		for _, o := range observed {
			if slices.Contains(mustHolders(t, d, observed), o.Host) {
				networks[o.Labels[LabelNetwork]], software[o.Labels[LabelSoftware]] = true, true
			}
		}
		if len(networks) != 3 || len(software) != 2 {
			t.Fatalf("site %d: networks %v, software %v", seed, networks, software)
		}
	}
}

func mustHolders(t *testing.T, d Desired, observed []Observation) []peer.ID {
	t.Helper()
	return ofKind(mustPlan(t, d, observed), Hold)
}

func TestADigestNamesWhatAPlanDoes(t *testing.T) {
	d, observed := desired(3), at(900_000, observations(10))
	p := propose(t, d, observed)
	same := p.Digest(d)
	r := rand.New(rand.NewPCG(1, 1))
	r.Shuffle(len(observed), func(i, j int) { observed[i], observed[j] = observed[j], observed[i] })
	if again := propose(t, d, at(900_001, observed)); again.Digest(d) != same {
		t.Error("another look at the hosts, which changes nothing, gives another digest")
	}
	more := d
	more.Bytes++
	if p.Digest(more) == same {
		t.Error("other wants, the same digest")
	}
	for i := range p.Actions {
		other := p
		other.Actions = slices.Clone(p.Actions)
		other.Actions[i].AfterProof = !other.Actions[i].AfterProof
		if other.Digest(d) == same {
			t.Errorf("action %d does something else, the same digest", i)
		}
	}
}

// Against the fewest copies with which the target could be met, by taking the most reliable hosts each time.
func TestRepairsOfOneSiteMoveLittleMoreThanTheLeast(t *testing.T) {
	var moves, least int64
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 8))
		observed := observations(30)
		for i := range observed {
			observed[i].Uptime = 850_000 + r.IntN(149_000)
			observed[i].Labels = operator(fmt.Sprint(r.IntN(20)))
		}
		d := desired(3)
		d.Availability = 999_900
		observed = carryOut(propose(t, d, observed).Actions, observed)
		for range 1 + r.IntN(2) {
			observed[r.IntN(len(observed))].Reachable = false
		}
		p := propose(t, d, observed)
		if p.Least > p.Moves {
			t.Fatalf("seed %d: %d moved, %d are the least", seed, p.Moves, p.Least)
		}
		moves, least = moves+p.Moves, least+p.Least
	}
	t.Logf("moved / least possible: %.3f", float64(moves)/float64(least))
	if float64(moves) > 1.15*float64(least) {
		t.Errorf("%d bytes moved, %d are the least", moves, least)
	}
}

func TestAPlanSaysWhatItIsWorth(t *testing.T) {
	observed := at(900_000, observations(6))
	observed[0].Holds = true
	p := propose(t, desired(3), observed)
	if p.Before.Copies != 1 || p.After.Copies != 3 || p.Before.Availability >= p.After.Availability || p.Moves != 2*siteBytes || p.Least != p.Moves {
		t.Fatalf("%+v", p)
	}
	if p.After.Worst.Copies != 2 || p.After.Worst.Label != LabelHost {
		t.Fatalf("%+v", p.After)
	}
	if !reflect.DeepEqual(p.Before, EstimateOf(observed[:1])) {
		t.Fatalf("%+v", p.Before)
	}
}
