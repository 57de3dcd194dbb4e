package dns

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/holdfast-sites/holdfast/naming"
)

const (
	// maxEntries bounds how many answers are kept. Readers choose the domains that a gateway asks for.
	maxEntries = 4096
	// maxQuestions bounds how many are under way at once; the others wait.
	maxQuestions = 64
	// minHold is how long an answer is kept at least, whatever its TTL, so that one page is one question.
	minHold = 5 * time.Second
	// failHold is how long a failure is, so that a resolver that is down isn't asked by every request (RFC 9520).
	failHold = 5 * time.Second
	// maxStale is how long after its end an answer still serves while DNS gives no other; patience how long a
	// question is waited for then; and retryAfter when it is put again after it failed (RFC 8767).
	maxStale   = time.Hour
	patience   = 1800 * time.Millisecond
	retryAfter = 30 * time.Second
	// sample is how many entries are looked at for one to make room.
	sample = 16
)

// Cache is a Resolver that remembers what another said. Equal questions at the same time are one. An answer that has
// ended is given on, with a TTL of 0, while DNS doesn't answer; one that DNS has replaced or taken back never is. A
// question that nobody waits for any more goes on, to its own end within seconds. Its owner closes it.
type Cache struct {
	from    Resolver
	now     func() time.Time
	flights singleflight.Group
	slots   chan struct{}
	ctx     context.Context // of all questions
	stop    context.CancelFunc
	behind  sync.WaitGroup // the questions

	mu      sync.Mutex
	entries map[question]entry
}

type question struct {
	name string
	t    Type
}

// entry is what is known of a question: an answer, or a failure where there never was one.
type entry struct {
	answer Answer
	err    error
	from   time.Time // when it was learnt
	hold   time.Time // until when nobody is asked
	asked  time.Time // until when nobody is asked again, after a failure
}

// NewCache remembers what from says. now may be nil: time.Now.
func NewCache(from Resolver, now func() time.Time) *Cache {
	if now == nil {
		now = time.Now
	}
	ctx, stop := context.WithCancel(context.Background())
	return &Cache{
		from: from, now: now, slots: make(chan struct{}, maxQuestions), ctx: ctx, stop: stop, entries: make(map[question]entry),
	}
}

// Close ends what is being asked and waits for it. Nobody is asked any more after it.
func (c *Cache) Close() {
	c.mu.Lock() // so that nothing begins behind our back
	c.stop()
	c.mu.Unlock()
	c.behind.Wait()
}

// String implements Resolver.
func (c *Cache) String() string { return c.from.String() }

// Ask implements Resolver.
func (c *Cache) Ask(ctx context.Context, name string, t Type) (Answer, error) {
	name, err := fqdn(name)
	if err != nil {
		return Answer{}, err
	}
	q := question{name, t}
	c.mu.Lock()
	e := c.entries[q]
	c.mu.Unlock()
	now := c.now()
	if now.Before(e.hold) {
		return e.at(now), e.err
	}
	stale := e.mayBeStale(now)
	if stale && now.Before(e.asked) {
		return e.at(now), nil
	}
	return c.wait(ctx, q, e, stale)
}

// wait puts the question, or waits for who has, not longer than a stale answer allows.
func (c *Cache) wait(ctx context.Context, q question, e entry, stale bool) (Answer, error) {
	flight := c.flights.DoChan(q.name+" "+q.t.String(), func() (any, error) { return c.ask(context.WithoutCancel(ctx), q) })
	var late <-chan time.Time
	if stale {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case r := <-flight:
		if r.Err == nil || !stale || !errors.Is(r.Err, naming.ErrUnavailable) {
			a, _ := r.Val.(Answer)
			return a, r.Err
		}
	case <-late:
	case <-ctx.Done():
		if !stale {
			return Answer{}, unavailable(c, ctx.Err())
		}
	}
	return e.at(c.now()), nil
}

// begin counts a question among those that Close waits for. An error where the cache is closed.
func (c *Cache) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.ctx.Err(); err != nil {
		return unavailable(c, err)
	}
	c.behind.Add(1)
	return nil
}

// ask puts the question and remembers what came of it.
func (c *Cache) ask(ctx context.Context, q question) (Answer, error) {
	if err := c.begin(); err != nil {
		return Answer{}, err
	}
	defer c.behind.Done()
	ctx, cancel := context.WithTimeout(ctx, 2*askTime)
	defer cancel()
	stop := context.AfterFunc(c.ctx, cancel)
	defer stop()
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return Answer{}, unavailable(c, ctx.Err())
	}
	a, err := c.from.Ask(ctx, q.name, q.t)
	c.keep(q, a, err)
	return a, err
}

func (c *Cache) keep(q question, a Answer, err error) {
	now := c.now()
	e := entry{answer: a, err: err, from: now, hold: now.Add(max(a.TTL, minHold))}
	c.mu.Lock()
	defer c.mu.Unlock()
	old, known := c.entries[q]
	switch {
	case errors.Is(err, naming.ErrUnavailable) && old.mayBeStale(now):
		old.asked = now.Add(retryAfter)
		e = old
	case err != nil:
		e.hold = now.Add(failHold)
	}
	if !known && len(c.entries) >= maxEntries {
		c.makeRoom(now)
	}
	c.entries[q] = e
}

// makeRoom drops, of a few entries taken at random, the one that is worth least: failures and absences, which
// strangers can make at will, before answers; among equals the one that ends first.
func (c *Cache) makeRoom(now time.Time) {
	var worst question
	var least time.Duration
	n := 0
	for q, e := range c.entries { // Go's order is random enough
		worth := e.hold.Sub(now)
		if len(e.answer.Data) > 0 {
			worth += 2 * maxStale
		}
		if n == 0 || worth < least {
			worst, least = q, worth
		}
		if n++; n == sample {
			break
		}
	}
	delete(c.entries, worst)
}

// mayBeStale tells whether the answer still serves while DNS doesn't. That there was nothing is no such answer: it
// would pass off an outage as a missing site. The zero entry is none.
func (e entry) mayBeStale(now time.Time) bool {
	return e.err == nil && len(e.answer.Data) > 0 && now.Before(e.hold.Add(maxStale))
}

// at is the answer with what is left of its TTL.
func (e entry) at(now time.Time) Answer {
	a := e.answer
	a.TTL = max(0, a.TTL-max(0, now.Sub(e.from)))
	return a
}
