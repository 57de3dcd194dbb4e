package replicate

import (
	"fmt"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
)

// bigWorld is hosts of very different quotas (1 GB to 1 TB or so, most of them
// small), uptimes and labels, and sites whose sizes are as uneven: 6.1 MB on average.
func bigWorld(hosts, sites int) ([]Observation, []FleetSite) {
	all := make([]Observation, hosts)
	for i := range all {
		n := func(what, of uint64) int { return int(mix(what, uint64(i)) % of) }
		all[i] = Observation{
			Host:   peer.ID(fmt.Sprintf("host %06d", i)),
			Quota:  int64(1+n(1, 4)) * 1e9 << n(2, 8),
			Uptime: 900_000 + n(3, 99_000), Reachable: true, FreeBytes: -1,
			Labels: map[string]string{
				LabelOperator: fmt.Sprint("operator ", n(4, uint64(hosts*4/5))), LabelNetwork: fmt.Sprint("AS", n(5, 400)),
				LabelRegion: fmt.Sprint("region ", n(6, 5)), LabelSoftware: fmt.Sprint("software ", n(7, 3)),
			},
		}
	}
	list := make([]FleetSite, sites)
	for i := range list {
		n := func(what, of uint64) int64 { return int64(mix(what, uint64(i)) % of) }
		list[i] = FleetSite{Draw: mix(100, uint64(i)), Bytes: (200_000 + n(8, 800_000)) << n(9, 6) * 968 / 1000, Availability: 999_900, Most: 8}
	}
	return all, list
}

func BenchmarkFleetMillion(b *testing.B) {
	hosts, sites := bigWorld(10_000, 1_000_000)
	for b.Loop() {
		f, err := NewFleet(hosts, FleetOptions{})
		if err != nil {
			b.Fatal(err)
		}
		_, r := f.Place(sites, nil)
		b.ReportMetric(float64(r.Copies)/float64(len(sites)), "copies/site")
		b.ReportMetric(float64(r.MaxUse)/float64(r.MeanUse), "max/mean")
	}
}

func BenchmarkFleetReplan(b *testing.B) {
	hosts, sites := bigWorld(10_000, 1_000_000)
	f, _ := NewFleet(hosts, FleetOptions{})
	first, _ := f.Place(sites, nil)
	for i := 0; i < len(hosts); i += 100 {
		hosts[i].Reachable = false
	}
	lost := int64(0)
	for i, s := range sites {
		for _, h := range first.Of(i) {
			if h%100 == 0 {
				lost += s.Bytes
			}
		}
	}
	for b.Loop() {
		f, err := NewFleet(hosts, FleetOptions{})
		if err != nil {
			b.Fatal(err)
		}
		_, r := f.Place(sites, first)
		b.ReportMetric(float64(r.Moved)/float64(lost), "moved/lost")
	}
}

func BenchmarkPlanOne(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		hosts, _ := bigWorld(n, 0)
		d := Desired{Site: siteNumber(1), Bytes: 6_100_000, Copies: 3, Availability: 999_900, Most: 8}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Plan(d, hosts, testTime); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
