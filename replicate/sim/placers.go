package sim

import (
	"cmp"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/replicate"
)

// Shipped places by replicate.Plan.
type Shipped struct{}

// Place is the plan's holders; none where it finds too few hosts.
func (Shipped) Place(desired replicate.Desired, observed []replicate.Observation, now time.Time) []peer.ID {
	plan, err := replicate.Plan(desired, observed, now)
	if err != nil {
		return nil
	}
	plan.Actions = slices.DeleteFunc(plan.Actions, func(a replicate.Action) bool { return a.Kind != replicate.Hold })
	return plan.Roster()
}

// Random keeps present holders and draws the others among the hosts with room,
// whatever their domain.
type Random struct{ Seed uint64 }

// Place draws anew at each call; none where it finds too few hosts.
func (p Random) Place(desired replicate.Desired, observed []replicate.Observation, now time.Time) []peer.ID {
	can := usable(desired, observed)
	rng := stream(p.Seed, desired.Site.String(), now.String())
	rng.Shuffle(len(can), func(i, j int) { can[i], can[j] = can[j], can[i] })
	return take(can, desired.Copies, func(replicate.Observation) bool { return false })
}

// MostFree places as IPFS Cluster's allocator does: present holders stay, then
// the hosts with the most room, one of each domain before a second one.
type MostFree struct{}

// Place spreads over domains as far as they go; none where it finds too few hosts.
func (MostFree) Place(desired replicate.Desired, observed []replicate.Observation, _ time.Time) []peer.ID {
	can := usable(desired, observed)
	slices.SortStableFunc(can, func(a, b replicate.Observation) int {
		// As unsigned numbers, so that unknown room, which is negative, is the most.
		return cmp.Compare(uint64(b.FreeBytes), uint64(a.FreeBytes))
	})
	used := make(map[string]bool)
	for _, o := range can {
		used[domain(o)] = used[domain(o)] || o.Holds
	}
	return take(can, desired.Copies, func(o replicate.Observation) bool {
		again := domain(o) != "" && used[domain(o)]
		used[domain(o)] = true
		return again
	})
}

// usable is the hosts that can hold the site, by their ID.
func usable(desired replicate.Desired, observed []replicate.Observation) []replicate.Observation {
	can := slices.DeleteFunc(slices.Clone(observed), func(o replicate.Observation) bool {
		return !o.Reachable || !o.Holds && o.FreeBytes >= 0 && o.FreeBytes < desired.Bytes
	})
	slices.SortFunc(can, func(a, b replicate.Observation) int { return cmp.Compare(a.Host, b.Host) })
	return can
}

// take is holders first, then those that aren't to come late, then the rest.
func take(can []replicate.Observation, copies int, late func(replicate.Observation) bool) []peer.ID {
	var order [3][]peer.ID
	for _, o := range can {
		class := 1
		if o.Holds {
			class = 0
		} else if late(o) {
			class = 2
		}
		order[class] = append(order[class], o.Host)
	}
	if len(can) < copies {
		return nil
	}
	return slices.Concat(order[:]...)[:copies]
}

func domain(o replicate.Observation) string { return o.Labels[replicate.LabelOperator] }
