package gateway

import (
	"math"

	"github.com/maypok86/otter/v2"
)

// newKept keeps values within a budget of bytes, as weigh counts them beside what any entry
// takes. What is asked for often stays, whoever asks for a thousand things once. Safe for concurrent use.
func newKept[K comparable, V any](most int64, weigh func(K, V) int64) *otter.Cache[K, V] {
	return otter.Must(keptOptions(most, weigh))
}

func keptOptions[K comparable, V any](most int64, weigh func(K, V) int64) *otter.Options[K, V] {
	return &otter.Options[K, V]{
		MaximumWeight: uint64(max(most, 1)),
		Weigher: func(k K, v V) uint32 {
			return uint32(min(entryWeight+weigh(k, v), math.MaxUint32))
		},
		Executor: inPlace,
	}
}

// newRemembered keeps so many values, each of which is small.
func newRemembered[K comparable, V any](most int) *otter.Cache[K, V] {
	return otter.Must(&otter.Options[K, V]{MaximumSize: most, Executor: inPlace})
}

// entryWeight is what an entry takes beside its content, in bytes.
const entryWeight = 512

// inPlace runs a cache's upkeep where it falls due: no goroutine that nobody owns.
func inPlace(work func()) { work() }
