package replicate

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// DefaultSlack is how far above its fair share, in thousandths, a plan loads a host.
const DefaultSlack = 100

// FleetOptions are what holds for all sites of a fleet.
type FleetOptions struct {
	Now     time.Time // hosts whose Until is not after it are not used
	Regions []string  // as in Desired
	Slack   int       // thousandths; 0: DefaultSlack
}

// Fleet places many sites on the same hosts by the rules of Plan. It doesn't change once it is
// made, and can be used by several goroutines.
type Fleet struct {
	t     table
	place []int32  // for each host as it was given, its place in the table; -1: it can't be used
	given []int32  // the reverse
	quota []uint64 // of each place, the mean where it isn't known
	// quotaOnly are the places of which the room isn't known but by the quota.
	quotaOnly []bool
}

// FleetSite is one site of many.
type FleetSite struct {
	Draw         uint64 // SiteDraw of its name
	Bytes        int64  // unique bytes that a holder needs room for
	Availability int32  // target, millionths; 0: none
	Copies       uint8  // at least; 0: 3
	Most         uint8  // at most; 0: DefaultMost, or Copies if that is more
}

// Assignment says which hosts hold each of many sites, by their places in the
// slice that NewFleet was given. Its zero value is no sites.
type Assignment struct {
	ends  []uint32 // of site i: where its holders end in hosts
	hosts []int32
}

// Len is the number of sites; 0 of nil.
func (a *Assignment) Len() int {
	if a == nil {
		return 0
	}
	return len(a.ends)
}

// Of is the holders of a site, in the order of takeover. It must not be changed.
func (a *Assignment) Of(site int) []int32 {
	if site >= a.Len() {
		return nil
	}
	start := uint32(0)
	if site > 0 {
		start = a.ends[site-1]
	}
	return a.hosts[start:a.ends[site]]
}

// Add appends a site with its holders, which are copied.
func (a *Assignment) Add(holders ...int32) {
	a.hosts = append(a.hosts, holders...)
	a.ends = append(a.ends, uint32(len(a.hosts)))
}

// FleetReport sums up what Place did.
type FleetReport struct {
	Copies  int   // of all sites
	Moved   int64 // bytes to copy
	Changed int   // sites whose holders are others than before
	Short   int   // sites with fewer copies than wanted
	Missed  int   // sites that don't reach their target
	Crowded int   // sites with two copies at one operator
	// MeanUse and MaxUse are the used share of all hosts' quotas and of the fullest one's, in millionths.
	MeanUse, MaxUse int64
}

// NewFleet takes the hosts. Holds is ignored: what is held is told to Place. Unknown Quotas count as the mean.
// ErrInvalid for a host without id, or that is there twice, or more than 2^31-1 of them.
func NewFleet(hosts []Observation, opts FleetOptions) (*Fleet, error) {
	if len(hosts) > math.MaxInt32 {
		return nil, fmt.Errorf("%w: a fleet of %d hosts", ErrInvalid, len(hosts))
	}
	f := &Fleet{place: make([]int32, len(hosts))}
	seen := make(map[peer.ID]bool, len(hosts))
	for i, o := range hosts {
		if o.Host == "" || seen[o.Host] {
			return nil, fmt.Errorf("%w: host %q is there twice or has no id", ErrInvalid, o.Host)
		}
		seen[o.Host] = true
		f.place[i] = -1
		if !o.Unproved && unusable(o, opts.Regions, opts.Now) == "" {
			f.given = append(f.given, int32(i))
		}
	}
	slices.SortFunc(f.given, func(a, b int32) int { return cmp.Compare(hosts[a].Host, hosts[b].Host) })
	usable := make([]Observation, len(f.given))
	for p, i := range f.given {
		usable[p], f.place[i] = hosts[i], int32(p)
	}
	f.t = *newTable(usable)
	f.t.slack = slack(opts.Slack)
	mean, _ := quotas(usable)
	f.quota, f.quotaOnly = make([]uint64, len(usable)), make([]bool, len(usable))
	for p, o := range usable {
		f.quota[p], f.quotaOnly[p] = cmp.Or(quotaOf(o), mean), o.FreeBytes < 0 && o.Quota > 0
	}
	return f, nil
}

// Standbys is up to n hosts behind the holders of a site, in the order in which they would take over.
func (f *Fleet) Standbys(site FleetSite, holders []int32, n int) []int32 {
	d := draft{t: &f.t}
	d.begin(site.wants(), f.places(nil, holders))
	out := slices.Clone(d.standbys(n, nil))
	for k, p := range out {
		out[k] = f.given[p]
	}
	return out
}

// Availability is what a set of holders is worth, in billionths, as in Estimate. Of more than MaxCopies the first count.
func (f *Fleet) Availability(holders []int32) int64 {
	var w weigher
	var what []standing
	for _, p := range f.places(nil, holders[:min(len(holders), MaxCopies)]) {
		what = append(what, f.t.rows[p].standing)
	}
	return w.away(what).not().billionths()
}

// places translates holders, those that can be used, into places in the table, behind what dst has.
func (f *Fleet) places(dst []int32, holders []int32) []int32 {
	for _, h := range holders {
		if p := f.place[h]; p >= 0 {
			dst = append(dst, p)
		}
	}
	return dst
}

func (s FleetSite) wants() wants {
	copies := min(cmp.Or(int(s.Copies), 3), MaxCopies)
	return wants{
		seed: s.Draw, bytes: s.Bytes, copies: copies, most: min(mostOf(copies, int(s.Most)), MaxCopies),
		away: awayAt(int(s.Availability)), moves: -1,
	}
}
