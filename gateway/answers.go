package gateway

import (
	"hash/maphash"
	"sync/atomic"

	"github.com/maypok86/otter/v2"
)

// answers keeps finished answers within a budget of bytes: all of them while there is room, and then those that are asked for again.
// To keep what is asked for once takes longer than it is good for. Safe for concurrent use.
type answers struct {
	*otter.Cache[answerKey, *answer]
	full atomic.Bool // something had to go
	door doorkeeper
}

func newAnswers(most int64) *answers {
	a := &answers{door: doorkeeper{seed: maphash.MakeSeed()}}
	o := keptOptions(most, func(k answerKey, a *answer) int64 {
		return a.weight + int64(len(k.root)+len(k.base)+len(k.prefix)+len(k.path)+len(k.encoding))
	})
	o.OnDeletion = func(e otter.DeletionEvent[answerKey, *answer]) {
		if e.WasEvicted() {
			a.full.Store(true)
		}
	}
	a.Cache = otter.Must(o)
	return a
}

// add keeps an answer, or doesn't.
func (a *answers) add(k answerKey, v *answer) {
	if !a.full.Load() || a.door.again(k) {
		a.Set(k, v)
	}
}

// forget drops all answers.
func (a *answers) forget() {
	a.InvalidateAll()
	a.full.Store(false)
}

// doorkeeper tells what was asked for not long ago from what is asked for the first time (Einziger, Friedman, Manes: TinyLFU). It may err
// both ways: a key is remembered until another one takes its place, and two may look alike.
type doorkeeper struct {
	seed maphash.Seed
	seen [1 << 15]atomic.Uint32 // a part of a key's hash, at the place that another part says
}

// again takes note of k.
func (d *doorkeeper) again(k answerKey) bool {
	h := maphash.Comparable(d.seed, k)
	mark := uint32(h >> 32)
	return d.seen[h%uint64(len(d.seen))].Swap(mark) == mark
}
