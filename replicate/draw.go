package replicate

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"math/bits"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/naming"
)

// slotsEach is how many slots a host of mean quota has; the largest has
// maxSlots at most. More slots follow the quotas more closely and take more memory.
const (
	slotsEach = 16
	maxSlots  = 1024
	maxQuota  = 1 << 48 // bytes; who has more is drawn as often as one with so many
)

// SiteDraw is where a site begins its draw: a number that looks random and follows from its name.
func SiteDraw(site naming.Name) uint64 {
	return firstBytes("holdfast plan 2 site\n", string(site.Peer()))
}

func hostKey(id peer.ID) uint64 { return firstBytes("holdfast plan 2 host\n", string(id)) }

func firstBytes(what, s string) uint64 {
	sum := sha256.Sum256([]byte(what + s))
	return binary.BigEndian.Uint64(sum[:8])
}

// mix is the n-th number that follows from a seed: SplitMix64 (Steele, Lea,
// Flood, "Fast splittable pseudorandom number generators", 2014).
func mix(seed, n uint64) uint64 {
	z := seed + (n+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// table is the hosts of a plan: those that can be used at all, by their ids, and
// the slots by which they are drawn. What of it changes while sites are placed is in rows.
type table struct {
	rows  []row
	slots []int32 // a host's place in rows + 1, or 0: empty. Its length is a power of two
	best  []int32 // the hosts by how seldom they are away
	worth []int32 // of each host, its place in best

	several [len(planLabels)]bool // whether hosts differ in a label at all
	total   uint64                // bytes that all hosts hold for us, with what is wanted and not yet placed
	slack   uint64                // how far above its fair share a host may be, in 65536ths
	largest int64                 // bytes of the largest site
}

// row is one host.
type row struct {
	standing
	key  uint64
	free int64  // room for new copies, bytes
	pin  int64  // the largest pin that it takes, bytes
	used int64  // bytes that it holds for us
	told bool   // used follows from its Quota and FreeBytes, present copies included
	part uint64 // its part of all quotas, in 2^-32
}

// newTable takes hosts that can be used, sorted by id.
func newTable(hosts []Observation) *table {
	t := &table{rows: make([]row, len(hosts))}
	mean, all := quotas(hosts)
	v := newValues()
	var unlabelled [len(planLabels)]bool
	for i, o := range hosts {
		quota := cmp.Or(quotaOf(o), mean)
		r := row{
			standing: standingOf(o.Uptime, v.of(o.Labels)), key: hostKey(o.Host),
			free: roomOf(o), pin: cmp.Or(max(o.MaxPinBytes, 0), math.MaxInt64),
		}
		if r.told = o.Quota > 0 && o.FreeBytes >= 0; r.told {
			r.used = max(o.Quota-o.FreeBytes, 0)
		}
		r.part, _ = bits.Div64(quota>>32, quota<<32, max(all, quota+1))
		t.rows[i] = r
		for l, value := range r.labels {
			unlabelled[l] = unlabelled[l] || value == 0
		}
	}
	for l := range t.several {
		t.several[l] = len(v[l]) > 1 || len(v[l]) == 1 && unlabelled[l]
	}
	t.deal(hosts, mean)
	t.rank()
	return t
}

// quotaOf is a host's known quota, bounded so that sums of quotas stay within 64 bits; 0: not known.
func quotaOf(o Observation) uint64 { return uint64(min(max(o.Quota, 0), maxQuota)) }

// quotas is the mean of the known quotas, which stands for the unknown ones, and the sum of all.
func quotas(hosts []Observation) (mean, all uint64) {
	var known uint64
	for _, o := range hosts {
		if q := quotaOf(o); q > 0 {
			known++
			all += q
		}
	}
	if known == 0 {
		return 1, uint64(len(hosts))
	}
	mean = max(all/known, 1)
	return mean, all + mean*(uint64(len(hosts))-known)
}

// roomOf is how many bytes a host takes for us. A quota that it is not known to have used counts as free.
func roomOf(o Observation) int64 {
	switch {
	case o.FreeBytes >= 0:
		return o.FreeBytes
	case o.Quota > 0:
		return o.Quota
	}
	return math.MaxInt64
}

// deal gives each host slots in proportion to its quota. Where they lie follows
// from the host's key, so that a host that comes or goes, or whose quota
// changes, leaves almost all others where they are.
func (t *table) deal(hosts []Observation, mean uint64) {
	counts, total := make([]uint64, len(hosts)), uint64(0)
	for i, o := range hosts {
		n := uint64(slotsEach)
		if q := quotaOf(o); q > 0 {
			n = q * slotsEach / mean
		}
		counts[i] = min(max(n, 1), maxSlots)
		total += counts[i]
	}
	size := uint64(1) << bits.Len64(total*5/4)
	t.slots = make([]int32, size)
	for i, n := range counts {
		for s := range n {
			at := mix(t.rows[i].key, s) & (size - 1)
			for t.slots[at] != 0 {
				at = (at + 1) & (size - 1)
			}
			t.slots[at] = int32(i + 1)
		}
	}
}

func (t *table) rank() {
	t.best, t.worth = make([]int32, len(t.rows)), make([]int32, len(t.rows))
	for i := range t.best {
		t.best[i] = int32(i)
	}
	slices.SortStableFunc(t.best, func(a, b int32) int { return cmp.Compare(t.rows[a].alone, t.rows[b].alone) })
	for place, i := range t.best {
		t.worth[i] = int32(place)
	}
}

// fair tells whether a host may take so many bytes more and stay within
// (1+slack) of its part of the whole or, unless that is strict, within one site above it.
func (t *table) fair(r *row, bytes int64, strict bool) bool {
	hi, lo := bits.Mul64(t.total, r.part)
	share := hi<<32 | lo>>32
	hi, lo = bits.Mul64(share, t.slack)
	over := hi<<48 | lo>>16
	if !strict {
		over = max(over, uint64(t.largest))
	}
	return uint64(r.used+bytes) <= share+over
}
