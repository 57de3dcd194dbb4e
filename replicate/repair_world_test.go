package replicate

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// world is a roster of hosts that keep one site, each by Decide and by nothing
// but what it sees with its own clock. It knows the truth, which they don't.
// Times are since its beginning; every chance is drawn from one seed.
type world struct {
	t      testing.TB
	rng    *rand.Rand
	seed   uint64
	times  Times
	copies int
	hosts  []*worldHost
	loss   float64       // share of calls that get no answer
	fetch  time.Duration // the longest that a fetch takes

	now    time.Duration
	events worldEvents
	made   int // events so far
	takes  int // fetches begun
	taken  int // fetches done
	gives  int
	moved  time.Duration // when somebody last took or gave
	failed []time.Duration
	most   int      // holders at once
	story  []string // what was done, for a test that fails
}

// worldHost is one host, and what it believes.
type worldHost struct {
	rank    int
	up      bool
	asleep  bool // up for nobody, and its own clock is all that runs on
	flaps   bool // answers, and is answered, half of the time
	side    int  // of a split
	skew    time.Duration
	holding bool
	since   time.Time // its own clock
	fetches bool
	job     int // number of its fetch
	suspect map[int]bool
	sights  []Sight
	audited []time.Duration // when it next has each other prove itself by routine
	short   time.Time
	jitter  time.Duration
	may     bool
}

// epoch is when the world begins by a clock that is right.
var epoch = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// newWorld is a world of n hosts at rest: all are up, and the first copies hold.
func newWorld(t testing.TB, seed uint64, n, copies int) *world {
	rng := rand.New(rand.NewPCG(seed, 5))
	w := &world{t: t, rng: rng, seed: seed, copies: copies, fetch: 20 * time.Minute}
	call := time.Duration(10+rng.IntN(21)) * time.Minute
	w.times = Times{Call: call, Fast: 2 * call, Break: 4 * call}.WithDefaults()
	for rank := range n {
		h := &worldHost{
			rank: rank, up: true, may: rank >= copies,
			skew:    w.upTo(100*time.Hour) - 50*time.Hour,
			jitter:  w.upTo(w.times.Jitter),
			suspect: map[int]bool{},
			sights:  make([]Sight, n), audited: make([]time.Duration, n),
		}
		for i := range h.sights {
			h.sights[i].Patience = 12*time.Hour + w.upTo(12*time.Hour)
			h.audited[i] = w.upTo(12 * time.Hour)
		}
		w.hosts = append(w.hosts, h)
		w.hold(h, rank < copies)
		w.after(w.upTo(w.times.Call), func() { w.tick(h) })
	}
	return w
}

// world events, in the order of time and then of their making.
type (
	worldEvent struct {
		at time.Duration
		n  int
		do func()
	}
	worldEvents []worldEvent
)

func (e worldEvents) Len() int { return len(e) }
func (e worldEvents) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].n < e[j].n
}
func (e worldEvents) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *worldEvents) Push(x any)   { *e = append(*e, x.(worldEvent)) }
func (e *worldEvents) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func (w *world) after(d time.Duration, do func()) {
	w.made++
	heap.Push(&w.events, worldEvent{w.now + d, w.made, do})
}

// run lets time pass until end.
func (w *world) run(end time.Duration) {
	w.t.Helper()
	for len(w.events) > 0 && w.events[0].at <= end && !w.t.Failed() {
		e := heap.Pop(&w.events).(worldEvent)
		w.now = e.at
		e.do()
	}
	w.now = end
}

func (w *world) upTo(d time.Duration) time.Duration {
	return time.Duration(w.rng.Int64N(int64(max(1, d))))
}

func (w *world) jump(h *worldHost, by time.Duration) {
	w.tell("%d's clock jumps by %v", h.rank, by)
	h.skew += by
}

func (w *world) clock(h *worldHost) time.Time { return epoch.Add(w.now + h.skew) }

func (w *world) hold(h *worldHost, holding bool) {
	h.holding, h.since = holding, time.Time{}
	if holding {
		h.since = w.clock(h)
	}
	w.most = max(w.most, w.holders())
}

// holders is how many hosts have the site, up or not.
func (w *world) holders() int { return w.count(func(h *worldHost) bool { return h.holding }) }

// live is how many have it and are up.
func (w *world) live() int { return w.count(func(h *worldHost) bool { return h.holding && h.up }) }

func (w *world) count(which func(*worldHost) bool) int {
	n := 0
	for _, h := range w.hosts {
		if which(h) {
			n++
		}
	}
	return n
}

// set takes a host up or down.
func (w *world) set(h *worldHost, up bool) {
	if h.up && !up {
		w.failed = append(w.failed, w.now)
	}
	h.up = up
}

// answers is what h finds when it calls other once.
func (w *world) answers(h, other *worldHost) bool {
	switch {
	case !h.up || !other.up || h.asleep || other.asleep || h.side != other.side || h.suspect[other.rank]:
		return false
	case (h.flaps || other.flaps) && w.rng.IntN(2) == 0:
		return false
	}
	return w.rng.Float64() >= w.loss
}

// tick is one round of a host: it calls everybody, audits by routine, and decides.
func (w *world) tick(h *worldHost) {
	w.after(w.times.Call, func() { w.tick(h) })
	if !h.up || h.asleep {
		return
	}
	for i, other := range w.hosts {
		switch {
		case i == h.rank:
		case w.now >= h.audited[i]:
			h.audited[i] = w.now + 12*time.Hour
			w.audit(h, i)
		default:
			h.sights[i].Call(w.clock(h), w.answers(h, other), w.times)
		}
	}
	w.decide(h)
}

func (w *world) audit(h *worldHost, rank int) {
	other, verdict := w.hosts[rank], Unreachable
	switch {
	case !w.answers(h, other):
	case other.holding:
		verdict = Proved
	default:
		verdict = NotHeld
	}
	h.sights[rank].Audit(verdict, w.clock(h), w.times)
}

// decide does what the rule says. A host that asks again at once for what it has asked for spins.
func (w *world) decide(h *worldHost) {
	for range len(w.hosts) {
		now := w.clock(h)
		d := Decide(Seat{
			Copies: w.copies, Rank: h.rank, Holding: h.holding, Since: h.since, May: h.may, Taking: h.fetches,
			Others: h.sights, Short: h.short, Jitter: h.jitter,
		}, w.times, now)
		if !d.At.After(now) {
			w.t.Fatalf("seed %d: at %v host %d is to decide again at %v, %v ago", w.seed, w.now, h.rank, d.At, now.Sub(d.At))
		}
		h.short = d.Short
		if d.Step != Take && h.fetches {
			h.fetches = false // called off
		}
		switch d.Step {
		case Rest:
			return
		case Take:
			w.take(h, d.Why)
			return
		case Give:
			w.tell("%d gives: %s", h.rank, d.Why)
			w.give(h)
			return
		}
		for _, rank := range d.Whom {
			w.audit(h, rank)
		}
	}
	w.t.Fatalf("seed %d: at %v host %d asks and asks", w.seed, w.now, h.rank)
}

// take fetches from anybody who holds and answers.
func (w *world) take(h *worldHost, why string) {
	if h.holding {
		w.t.Fatalf("seed %d: at %v host %d takes what it has", w.seed, w.now, h.rank)
	}
	source := func() bool {
		return w.count(func(o *worldHost) bool { return o != h && o.holding && o.up && !o.asleep && o.side == h.side }) > 0
	}
	if h.fetches || !source() {
		return
	}
	w.tell("%d takes: %s", h.rank, why)
	h.fetches = true
	h.job++
	w.takes++
	w.moved = w.now
	job := h.job
	w.after(w.upTo(w.fetch), func() {
		if h.fetches && h.job == job && h.up && !h.asleep && source() {
			w.hold(h, true)
			w.taken++
			w.moved = w.now
		}
		if h.job == job {
			h.fetches = false
		}
	})
}

// give lets go, and holds the rule to its word: what is missing of copies then
// has failed since those that remain proved themselves, or they relied on who did.
func (w *world) give(h *worldHost) {
	w.hold(h, false)
	w.gives++
	w.moved = w.now
	lately := 0
	for _, at := range w.failed {
		if w.now-at <= 2*w.times.ProofAge {
			lately++
		}
	}
	if live := w.live(); live+lately < w.copies {
		w.t.Fatalf("seed %d: at %v host %d let go and left %d live of %d", w.seed, w.now, h.rank, live, w.copies)
	}
}

func (w *world) tell(format string, args ...any) {
	w.story = append(w.story, fmt.Sprintf("\n%v: ", w.now)+fmt.Sprintf(format, args...))
}

func (w *world) String() string {
	s := fmt.Sprintf("seed %d, %v, %d copies:", w.seed, w.now, w.copies)
	for _, h := range w.hosts {
		what := ""
		if h.holding {
			what += "holds "
		}
		if !h.up {
			what += "down "
		}
		s += fmt.Sprintf(" %d[%s]", h.rank, what)
	}
	return s + strings.Join(w.story, "")
}
