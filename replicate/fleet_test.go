package replicate

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
)

// randomFleet is hosts of every sort with sites on some of them.
func randomFleet(r *rand.Rand) ([]Observation, []FleetSite, *Assignment) {
	hosts := make([]Observation, 4+r.IntN(40))
	for i := range hosts {
		hosts[i] = Observation{
			Host: peer.ID(fmt.Sprintf("host %04d", i)), Uptime: 500_000 + r.IntN(499_999), Reachable: r.IntN(10) != 0,
			Quota: int64(r.IntN(4)) * 50 * siteBytes, FreeBytes: -1, Draining: r.IntN(20) == 0,
			Labels: map[string]string{
				LabelOperator: fmt.Sprint(r.IntN(20)), LabelNetwork: fmt.Sprint(r.IntN(10)),
				LabelRegion: fmt.Sprint(r.IntN(3)), LabelSoftware: fmt.Sprint(r.IntN(2)),
			},
		}
	}
	sites := make([]FleetSite, 1+r.IntN(60))
	var present Assignment
	for i := range sites {
		sites[i] = FleetSite{Draw: r.Uint64(), Bytes: int64(1 + r.IntN(2*siteBytes)), Copies: uint8(1 + r.IntN(4))}
		if r.IntN(2) == 0 {
			sites[i].Availability = 999_000
		}
		var at []int32
		for range r.IntN(5) {
			if h := int32(r.IntN(len(hosts))); !slices.Contains(at, h) {
				at = append(at, h)
			}
		}
		present.Add(at...)
	}
	return hosts, sites, &present
}

func mustFleet(t testing.TB, hosts []Observation) *Fleet {
	t.Helper()
	f, err := NewFleet(hosts, FleetOptions{Now: testTime})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestOneSiteIsPlannedAlikeByPlanAndByAFleet(t *testing.T) {
	planned := 0
	for seed := range uint64(1500) {
		r := rand.New(rand.NewPCG(seed, 2))
		hosts, sites, present := randomFleet(r)
		d := Desired{
			Site: siteNumber(byte(seed)), Bytes: sites[0].Bytes, Copies: int(sites[0].Copies), Availability: int(sites[0].Availability), Standbys: 5,
		}
		sites[0].Draw = SiteDraw(d.Site)
		for _, h := range present.Of(0) {
			hosts[h].Holds = true
		}
		plan, err := Plan(d, hosts, testTime)
		if err != nil {
			continue
		}
		planned++
		f := mustFleet(t, hosts)
		var here Assignment
		here.Add(present.Of(0)...)
		got, report := f.Place(sites[:1], &here)
		var want []peer.ID
		for _, h := range got.Of(0) {
			want = append(want, hosts[h].Host)
		}
		holders := ofKind(plan.Actions, Hold)
		sameSet := slices.Equal(sorted(holders), sorted(want))
		if !sameSet || report.Moved != plan.Moves || (report.Missed > 0) != (plan.Missed != "") {
			t.Fatalf("seed %d: Plan has %q and moves %d (%q), a fleet %q and %+v", seed, holders, plan.Moves, plan.Missed, want, report)
		}
	}
	if planned < 1000 {
		t.Fatalf("only %d cases could be planned", planned)
	}
}

func sorted(ids []peer.ID) []peer.ID { return slices.Sorted(slices.Values(ids)) }

func TestAFleetDependsOnNeitherTheOrderOfHostsNorOnItself(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 3))
		hosts, sites, present := randomFleet(r)
		first, report := mustFleet(t, hosts).Place(sites, present)

		to := r.Perm(len(hosts))
		shuffled := make([]Observation, len(hosts))
		for i, at := range to {
			shuffled[at] = hosts[i]
		}
		var moved Assignment
		for i := range sites {
			var at []int32
			for _, h := range present.Of(i) {
				at = append(at, int32(to[h]))
			}
			moved.Add(at...)
		}
		again, report2 := mustFleet(t, shuffled).Place(sites, &moved)
		if report != report2 {
			t.Fatalf("seed %d: %+v, shuffled %+v", seed, report, report2)
		}
		for i := range sites {
			var a, b []peer.ID
			for _, h := range first.Of(i) {
				a = append(a, hosts[h].Host)
			}
			for _, h := range again.Of(i) {
				b = append(b, shuffled[h].Host)
			}
			if !slices.Equal(sorted(a), sorted(b)) {
				t.Fatalf("seed %d, site %d: %q, shuffled %q", seed, i, a, b)
			}
		}
	}
}

// What must be true of every placement, tried on many.
func TestFleetsKeepTheirPromises(t *testing.T) {
	for seed := range uint64(1000) {
		r := rand.New(rand.NewPCG(seed, 4))
		hosts, sites, present := randomFleet(r)
		f := mustFleet(t, hosts)
		got, report := f.Place(sites, present)
		if got.Len() != len(sites) {
			t.Fatalf("seed %d: %d sites, %d placed", seed, len(sites), got.Len())
		}
		used := make([]int64, len(hosts))
		var moved int64
		short := 0
		for i, s := range sites {
			for k, h := range got.Of(i) {
				if unusable(hosts[h], nil, testTime) != "" || slices.Contains(got.Of(i)[:k], h) {
					t.Fatalf("seed %d: %+v holds site %d", seed, hosts[h], i)
				}
				if !slices.Contains(present.Of(i), h) {
					used[h] += s.Bytes
					moved += s.Bytes
				}
			}
			if len(got.Of(i)) < int(s.Copies) {
				short++
			}
		}
		for i, s := range sites { // what is there stays until the new is proved, so it counts as well
			for _, h := range present.Of(i) {
				used[h] += s.Bytes
			}
		}
		for h, o := range hosts {
			over := int64(0)
			for i, s := range sites {
				if slices.Contains(present.Of(i), int32(h)) {
					over += s.Bytes
				}
			}
			if o.Quota > 0 && used[h] > max(o.Quota, over) {
				t.Fatalf("seed %d: %d bytes on a host of %d", seed, used[h], o.Quota)
			}
		}
		if moved != report.Moved || short != report.Short {
			t.Fatalf("seed %d: moved %d, short %d; the report says %+v", seed, moved, short, report)
		}
		checkStandsStill(t, seed, f, sites, got)
	}
}

// checkStandsStill carries plans out until nothing is to be done. It may take a few: the room that copies leave can be used only when
// they are gone.
func checkStandsStill(t *testing.T, seed uint64, f *Fleet, sites []FleetSite, at *Assignment) {
	t.Helper()
	var report FleetReport
	for range 4 {
		next, r := f.Place(sites, at)
		if r.Changed == 0 && reflect.DeepEqual(next, at) {
			return
		}
		at, report = next, r
	}
	t.Fatalf("seed %d: plans that are carried out do not stand still: %+v", seed, report)
}

func TestNoHostIsLoadedFarAboveItsFairShare(t *testing.T) {
	for seed := range uint64(20) {
		hosts, sites := bigWorld(200+int(seed)*20, 20_000)
		for i := range sites {
			sites[i].Draw = mix(seed, uint64(i))
		}
		got, report := mustFleet(t, hosts).Place(sites, nil)
		if report.Short > 0 || report.Crowded > 0 || report.Missed > 0 {
			t.Fatalf("seed %d: %+v", seed, report)
		}
		used, largest := make([]int64, len(hosts)), int64(0)
		var all, quota float64
		for i, s := range sites {
			for _, h := range got.Of(i) {
				used[h] += s.Bytes
				all += float64(s.Bytes)
			}
			largest = max(largest, s.Bytes)
		}
		for _, o := range hosts {
			quota += float64(o.Quota)
		}
		for h, o := range hosts {
			fair := all / quota * float64(o.Quota)
			if limit := max(1.1*fair, fair+float64(largest)); float64(used[h]) > limit {
				t.Fatalf("seed %d: %d bytes on a host whose share is %.0f", seed, used[h], fair)
			}
		}
	}
}

func TestASiteReachesItsTargetOrIsCountedAsMissing(t *testing.T) {
	hosts, sites := bigWorld(300, 2000)
	for i := range hosts {
		hosts[i].Uptime = 300_000 + i*2_000
	}
	got, report := mustFleet(t, hosts).Place(sites, nil)
	missed := 0
	for i, s := range sites {
		var holders []Observation
		for _, h := range got.Of(i) {
			holders = append(holders, hosts[h])
		}
		if len(holders) > int(s.Most) {
			t.Fatalf("%d copies", len(holders))
		}
		slices.SortFunc(holders, func(a, b Observation) int { return b.Uptime - a.Uptime })
		if EstimateOf(holders[1:]).Availability/1000 < int64(s.Availability) {
			missed++
		}
	}
	if missed != report.Missed || missed == 0 || missed == len(sites) {
		t.Fatalf("%d miss their target, the report says %d of %d", missed, report.Missed, len(sites))
	}
}

func TestOnlySitesOfLostHostsMove(t *testing.T) {
	hosts, sites := bigWorld(500, 20_000)
	first, _ := mustFleet(t, hosts).Place(sites, nil)
	for i := 0; i < len(hosts); i += 100 {
		hosts[i].Reachable = false
	}
	second, report := mustFleet(t, hosts).Place(sites, first)
	var lost int64
	for i, s := range sites {
		hit := false
		for _, h := range first.Of(i) {
			if h%100 == 0 {
				hit = true
				lost += s.Bytes
			}
		}
		if !hit && !slices.Equal(first.Of(i), second.Of(i)) {
			t.Fatalf("site %d lost no holder and went from %v to %v", i, first.Of(i), second.Of(i))
		}
	}
	if ratio := float64(report.Moved) / float64(lost); ratio > 1.15 {
		t.Fatalf("%.2f times the lost bytes moved", ratio)
	}
}

func TestAFleetRefusesHostsThatItCantTell(t *testing.T) {
	for _, hosts := range [][]Observation{{{}}, {{Host: "a"}, {Host: "a"}}} {
		if _, err := NewFleet(hosts, FleetOptions{}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", hosts, err)
		}
	}
	got, report := mustFleet(t, nil).Place([]FleetSite{{Draw: 1, Bytes: 5}}, nil)
	if len(got.Of(0)) != 0 || report.Short != 1 {
		t.Fatalf("%v, %+v on no hosts", got.Of(0), report)
	}
}

func TestStandbysGoOnWithTheDraw(t *testing.T) {
	hosts, sites := bigWorld(100, 10)
	f := mustFleet(t, hosts)
	got, _ := f.Place(sites, nil)
	for i, s := range sites {
		standbys := f.Standbys(s, got.Of(i), 8)
		if len(standbys) != 8 {
			t.Fatalf("%d standbys", len(standbys))
		}
		seen := make(map[string]bool)
		for _, h := range append(slices.Clone(got.Of(i)), standbys...) {
			if op := hosts[h].Labels[LabelOperator]; seen[op] {
				t.Fatalf("%s is in the roster of site %d twice", op, i)
			} else {
				seen[op] = true
			}
		}
	}
}

// The same numbers on every processor: the golden file was made on one, and this runs on all.
func TestPlacementsAreTheGoldenOnes(t *testing.T) {
	hosts, sites := bigWorld(60, 40)
	for i := range hosts {
		hosts[i].Reachable = i%13 != 0
	}
	first, report := mustFleet(t, hosts).Place(sites, nil)
	var out strings.Builder
	fmt.Fprintf(&out, "%+v\n", report)
	for i, s := range sites {
		var holders []Observation
		for _, h := range first.Of(i) {
			holders = append(holders, hosts[h])
		}
		fmt.Fprintln(&out, first.Of(i), mustFleet(t, hosts).Standbys(s, first.Of(i), 4), EstimateOf(holders))
	}
	for i := range hosts {
		hosts[i].Reachable = i%11 != 0
	}
	second, report := mustFleet(t, hosts).Place(sites, first)
	fmt.Fprintf(&out, "%+v\n", report)
	for i := range sites {
		fmt.Fprintln(&out, second.Of(i))
	}
	for _, a := range []uint64{priorUp, 500, 70_000} {
		fmt.Fprintln(&out, lowQuantile(a, 1), lowQuantile(a, 2), lowQuantile(a, 40))
	}
	golden(t, "fleet.golden", out.String())
}
