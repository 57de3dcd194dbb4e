package replicate

import (
	"math/rand/v2"
	"testing"
	"time"
)

// The promises of repair, each in many worlds; docs/decisions.md has the proofs.

// eachWorld runs a promise over many seeds, with rosters of 2 to 9 hosts.
func eachWorld(t *testing.T, seeds int, promise func(w *world)) {
	t.Parallel()
	if testing.Short() {
		seeds /= 40 // nothing in them runs at once, so the race detector only makes them slow
	}
	for seed := range uint64(seeds) {
		rng := rand.New(rand.NewPCG(seed, 1))
		copies := 1 + rng.IntN(4)
		promise(newWorld(t, seed, copies+1+rng.IntN(9-copies), copies))
		if t.Failed() {
			return
		}
	}
}

const day = 24 * time.Hour

func TestWrongSuspicionCostsAtMostOneCopyForEachSuspect(t *testing.T) {
	eachWorld(t, 200, func(w *world) {
		w.loss = 0.05
		most := 0
		for _, h := range w.hosts {
			for range w.rng.IntN(3) {
				if other := w.rng.IntN(len(w.hosts)); other != h.rank {
					h.suspect[other] = true
				}
			}
			most = max(most, len(h.suspect))
		}
		w.run(6 * day)
		if w.now-w.moved < day {
			w.t.Errorf("%v: not quiet after 6 days, last move at %v (%d takes, %d gives)", w, w.moved, w.takes, w.gives)
		}
		if n := w.holders(); n > w.copies+most {
			w.t.Errorf("%v: %d holders, with at most %d wrong suspicions each", w, n, most)
		}
	})
}

func TestCopiesComeBackWhereAnyoneIsLeftToHold(t *testing.T) {
	eachWorld(t, 200, func(w *world) {
		w.loss = 0.05
		// All but one holder and some others go for good, at any time.
		stays := w.rng.IntN(w.copies)
		for _, h := range w.hosts {
			if h.rank != stays && w.rng.IntN(2) == 0 {
				w.after(w.upTo(3*day), func() { w.set(h, false) })
			}
		}
		w.run(6 * day)
		able := w.count(func(h *worldHost) bool { return h.up && (h.holding || h.may) })
		if n := w.live(); n < min(w.copies, able) {
			w.t.Errorf("%v: %d live of %d, %d could hold", w, n, w.copies, able)
		}
	})
}

func TestEachSideOfASplitHoldsAtMostTheCopiesAndTheyComeBackToThatInTwoDays(t *testing.T) {
	eachWorld(t, 200, func(w *world) {
		w.fetch = 0 // what two fetch at the same time comes on top, until it is let go again
		sides := 2 + w.rng.IntN(2)
		w.after(day, func() {
			for _, h := range w.hosts {
				h.side = w.rng.IntN(sides)
			}
			w.failed = append(w.failed, w.now)
		})
		healed := 2*day + w.upTo(2*day)
		w.run(healed)
		if w.most > sides*w.copies {
			w.t.Errorf("%v: %d holders in %d sides", w, w.most, sides)
		}
		for _, h := range w.hosts {
			h.side = 0
		}
		w.run(healed + 2*day)
		if n := w.holders(); n != w.copies {
			w.t.Errorf("%v: %d holders 48 h after %d sides met again", w, n, sides)
		}
	})
}

func TestHostsThatComeAndGoEndWithTheWantedCopies(t *testing.T) {
	eachWorld(t, 200, func(w *world) {
		w.loss = 0.02
		for _, h := range w.hosts {
			for at := w.upTo(3 * day); at < 5*day; at += w.upTo(3 * day) {
				w.after(at, func() { w.set(h, false) })
				at += w.upTo(2 * day)
				w.after(at, func() { w.set(h, true) })
			}
			w.after(5*day, func() { w.set(h, true) })
		}
		w.run(8 * day)
		if n := w.holders(); n != w.copies {
			w.t.Errorf("%v: %d holders when all are back, %d wanted", w, n, w.copies)
		}
	})
}

func TestAWipedCopyIsReplacedAndNeverLetGoBelowTheMinimum(t *testing.T) {
	eachWorld(t, 200, func(w *world) {
		w.loss = 0.05
		stays := w.rng.IntN(w.copies)
		for _, h := range w.hosts {
			if h.rank != stays && w.rng.IntN(2) == 0 {
				w.after(w.upTo(3*day), func() {
					if h.holding {
						w.failed = append(w.failed, w.now)
						w.hold(h, false)
					}
				})
			}
		}
		w.run(6 * day)
		able := w.count(func(h *worldHost) bool { return h.holding || h.may })
		if n := w.live(); n != min(w.copies, able) {
			w.t.Errorf("%v: %d live of %d, %d could hold", w, n, w.copies, able)
		}
	})
}

func TestFlappingHostsCauseNoStorm(t *testing.T) {
	eachWorld(t, 40, func(w *world) {
		w.times = Times{}.WithDefaults()
		for _, h := range w.hosts {
			h.flaps = w.rng.IntN(3) == 0
		}
		w.run(10 * day)
		if w.taken > len(w.hosts) || w.takes > 2*len(w.hosts) {
			w.t.Errorf("%v: %d fetches, %d of them done, and %d gives in 10 days", w, w.takes, w.taken, w.gives)
		}
	})
}

// A clock that jumps and a laptop that wakes are alike: what was seen before says little now.
func TestAClockThatJumpsOrAHostThatSleptTakesNothing(t *testing.T) {
	eachWorld(t, 200, func(w *world) {
		if len(w.hosts) <= w.copies || w.copies < 3 {
			return // with fewer, the fast clock is right to act on one that is down
		}
		w.loss = 0.01
		// One holder is down for a while that nobody would call gone: part of it before, part after.
		w.after(2*day, func() { w.set(w.hosts[0], false) })
		w.after(2*day+10*time.Hour, func() { w.set(w.hosts[0], true) })
		h := w.hosts[w.copies+w.rng.IntN(len(w.hosts)-w.copies)]
		at := 2*day + w.upTo(8*time.Hour)
		switch w.rng.IntN(4) {
		case 0:
			w.after(at, func() { w.jump(h, 365*day) })
		case 1:
			w.after(at, func() { w.jump(h, -365*day) })
		case 2:
			w.after(at, func() { w.jump(h, w.upTo(2*day)-day) })
		case 3:
			w.after(at-30*time.Hour, func() { h.asleep = true })
			w.after(at, func() { w.tell("%d wakes", h.rank); h.asleep = false })
		}
		w.run(4 * day)
		if w.takes > 0 {
			w.t.Errorf("%v: %d takes", w, w.takes)
		}
	})
}
