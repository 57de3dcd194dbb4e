package sim

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/replicate"
)

var placers = []struct {
	name   string
	placer Placer
}{{"shipped plan", Shipped{}}, {"random", Random{}}, {"most free, groups", MostFree{}}}

func TestARunDependsOnItsSeedAndNotOnTheOrderOfHosts(t *testing.T) {
	for _, p := range placers {
		sc := Friends(1)
		sc.Length = 20 * day
		want := Run(sc, p.placer)
		rng := rand.New(rand.NewPCG(1, 1))
		rng.Shuffle(len(sc.Hosts), func(i, j int) { sc.Hosts[i], sc.Hosts[j] = sc.Hosts[j], sc.Hosts[i] })
		if got := Run(sc, p.placer); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v with shuffled hosts, %+v before", p.name, got, want)
		}
		sc.Seed++
		if got := Run(sc, p.placer); reflect.DeepEqual(got, want) {
			t.Errorf("%s: another seed gives the same", p.name)
		}
	}
}

func TestTheShippedPlanKeepsItsPromisesAmongFriends(t *testing.T) {
	for seed := range uint64(4) {
		sc := Friends(seed)
		r := Run(sc, Shipped{})
		if r.Overruns != 0 || r.Unplaced != 0 {
			t.Errorf("seed %d: %d overruns, %d sites unplaced", seed, r.Overruns, r.Unplaced)
		}
		for _, l := range r.Lost {
			if l.Span > day+time.Hour {
				t.Errorf("seed %d: %s was lost although its holders vanished over %v", seed, l.Site, l.Span)
			}
		}
		if r.Oracle > r.Moved {
			t.Errorf("seed %d: the oracle moves %d bytes, the plan %d", seed, r.Oracle, r.Moved)
		}
		if r.Crowded != 0 {
			t.Errorf("seed %d: %d sites have two copies in one domain", seed, r.Crowded)
		}
		if random := Run(sc, Random{}); random.Crowded == 0 {
			t.Errorf("seed %d: random placement spreads as well", seed)
		}
	}
}

// Hosts that are up until they vanish, so often that sites are lost.
func TestASiteIsLostOnlyWhenItsHoldersVanishWithinTheWait(t *testing.T) {
	sc := Scenario{Length: 10 * day}
	for i := range 80 {
		sc.Hosts = append(sc.Hosts, Host{Name: fmt.Sprint(i), VanishPerYear: 50})
	}
	for i := range 100 {
		sc.Sites = append(sc.Sites, Site{Name: fmt.Sprint(i), Bytes: 1})
	}
	r := Run(sc, Shipped{})
	if len(r.Lost) == 0 || len(r.Lost) == len(sc.Sites) {
		t.Fatalf("%d sites were lost, which shows nothing", len(r.Lost))
	}
	for _, l := range r.Lost {
		if l.Span > day+time.Hour {
			t.Errorf("%s was lost although its holders vanished over %v", l.Site, l.Span)
		}
	}
}

// By hand: of three hosts for two copies one goes.
func TestOneVanishedHostCostsEachOfItsSitesOneCopy(t *testing.T) {
	sc := Scenario{Copies: 2, Sites: []Site{{"s", 7}}, Hosts: []Host{{Name: "a"}, {Name: "b"}, {Name: "c"}}}
	sc.Length, sc.Wait, sc.Check = 10*time.Hour, 2*time.Hour, time.Hour
	play := func(oracle bool) *run {
		r := newRun(sc, first{}, oracle)
		r.play([]event{{3*time.Hour + 1, 0, vanishes}, {4 * time.Hour, 1, goesDown}, {5 * time.Hour, 1, comesUp}})
		return r
	}
	r := play(false)
	// From 3 h until 6 h, the first check after the wait, one copy; from 4 to 5 it is down.
	if r.Moved != 7 || r.Available != 0.9 || fmt.Sprintf("%.6f", r.MeanCopies) != "1.700000" || len(r.Lost) != 0 {
		t.Errorf("%+v, want 7 bytes moved, 0.9 available, 1.7 copies", r.Result)
	}
	if r := play(true); r.Moved != 7 || r.Available != 1 || r.MeanCopies != 2 {
		t.Errorf("the oracle: %+v, want 7 bytes moved at once", r.Result)
	}
}

func TestAReturningCopyIsTakenBackAndTheSurplusGivenUp(t *testing.T) {
	sc := Scenario{Copies: 1, Sites: []Site{{"s", 7}}, Hosts: []Host{{Name: "a"}, {Name: "b"}}}
	sc.Length, sc.Wait, sc.Check = 10*time.Hour, time.Hour, time.Hour
	r := newRun(sc, first{}, false)
	// The only holder is away, so that nobody could copy from it, and returns.
	r.play([]event{{2 * time.Hour, 0, goesDown}, {4 * time.Hour, 0, comesUp}})
	if r.Moved != 0 || r.Available != 0.8 || r.hosts[0].used != 7 {
		t.Errorf("%+v: without a source nothing can be moved", r.Result)
	}
	sc.Copies, sc.Hosts = 2, append(sc.Hosts, Host{Name: "c"})
	r = newRun(sc, first{}, false)
	r.play([]event{{2 * time.Hour, 0, goesDown}, {4 * time.Hour, 0, comesUp}})
	if r.Moved != 7 || r.hosts[0].used+r.hosts[1].used != 14 || r.hosts[2].used != 0 {
		t.Errorf("%+v: want the third host's copy given up when the first is back", r.Result)
	}
}

// first takes the first reachable hosts as they are listed.
type first struct{}

func (first) Place(d replicate.Desired, observed []replicate.Observation, _ time.Time) []peer.ID {
	var ids []peer.ID
	for _, o := range observed {
		if o.Reachable && len(ids) < d.Copies {
			ids = append(ids, o.Host)
		}
	}
	return ids
}

func TestAHostDeclinesWhatItHasNoRoomFor(t *testing.T) {
	sc := Friends(1)
	sc.Length = day
	r := newRun(sc, first{}, false)
	r.play(history(r.sc))
	if r.Overruns == 0 {
		t.Error("a placer that ignores quotas overruns none")
	}
	for _, h := range r.hosts {
		if h.used > h.Quota {
			t.Errorf("%s uses %d of %d bytes", h.Name, h.used, h.Quota)
		}
	}
}

func TestTheEmptyScenarioHasAResult(t *testing.T) {
	if r := Run(Scenario{}, Shipped{}); !reflect.DeepEqual(r, Result{}) {
		t.Errorf("%+v", r)
	}
	if r := Run(Scenario{Sites: []Site{{"s", 1}}}, Shipped{}); r.Unplaced != 1 || r.Available != 0 {
		t.Errorf("%+v: a site was placed on no host", r)
	}
}

// With -v: the placers side by side, pooled over ten seeds.
func TestPrintTable(t *testing.T) {
	if !testing.Verbose() {
		t.Skip("prints only")
	}
	t.Log("friends, ten seeds\n" + table(Friends, 10))
}

func BenchmarkMedium(b *testing.B) {
	for b.Loop() {
		b.Log("medium, one seed\n" + table(Medium, 1))
	}
}

func table(preset func(uint64) Scenario, seeds int) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "placer\tavailable\tfour nines\tlost\tmoved GB\toracle GB\tratio\tcopies\tmax/mean use\toverruns\tcrowded\t")
	for _, p := range placers {
		var all Result
		for seed := range seeds {
			r := Run(preset(uint64(seed)), p.placer)
			all.Available += r.Available / float64(seeds)
			all.FourNines += r.FourNines / float64(seeds)
			all.MeanCopies += r.MeanCopies / float64(seeds)
			all.UseSkew = max(all.UseSkew, r.UseSkew)
			all.Lost = append(all.Lost, r.Lost...)
			all.Moved, all.Oracle = all.Moved+r.Moved, all.Oracle+r.Oracle
			all.Overruns, all.Crowded = all.Overruns+r.Overruns, all.Crowded+r.Crowded
		}
		fmt.Fprintf(w, "%s\t%.4f %%\t%.1f %%\t%d\t%.1f\t%.2f\t%.1f\t%.2f\t%.2f\t%d\t%d\t\n", p.name, 100*all.Available, 100*all.FourNines, len(all.Lost),
			float64(all.Moved)/1e9, float64(all.Oracle)/1e9, all.Ratio(), all.MeanCopies, all.UseSkew, all.Overruns, all.Crowded)
	}
	w.Flush()
	return b.String()
}
