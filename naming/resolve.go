package naming

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipfs/go-cid"
)

const (
	// defaultDeadline bounds how long sources are waited for.
	defaultDeadline = 10 * time.Second
	// ownPatience is how long a resolve waits for sources before it uses a record of our own that nobody has confirmed
	// since this process began: it may come from an old copy of the disk.
	ownPatience = 3 * time.Second
	// staleTime is how long past its TTL a record is used while it is being asked for again.
	staleTime = 5 * time.Minute
	// retryUnreached is how soon sources are asked again when none of them answered and our own record was used
	// meanwhile.
	retryUnreached = 10 * time.Second
	// negativeTime is for how long "nobody has it" is remembered, unreachedTime for how long "nobody answered".
	negativeTime  = 5 * time.Second
	unreachedTime = time.Second
	// maxCached bounds the cache, in names.
	maxCached = 4096
	// maxBehind bounds the askings that go on behind answers which were given already.
	maxBehind = 256
)

// Where a Resolution comes from when not from a Source.
const (
	SourceOwn   = "own"   // what Records keeps
	SourceCache = "cache" // resolved a moment ago, or handed to Accepted
)

// ResolverConfig is what a Resolver works with. Records is required.
type ResolverConfig struct {
	Records  Records
	Sources  func(Name) []Source // whom to ask for a name, at each resolve that is not cached; may be nil
	Deadline time.Duration       // how long sources are waited for; 0: 10 s
	// Committed is what the records of a name of our own commit to; zero for others. Where no record is kept yet, one with
	// another commitment is refused like one that breaks with what is kept. May be nil.
	Committed func(Name) Commitment
	// Found is told of each record that a resolve found at a source and that beat what was kept. It must return soon.
	// May be nil.
	Found func(Record)
	Now   func() time.Time // nil: time.Now
	Log   *slog.Logger     // nil: discard
}

// Resolver finds the best record of a name. It never returns a record that is unverified, expired, or below the floor
// that its Records keep, and puts each better one that it finds into them. It is safe for concurrent use. Its
// owner closes it.
type Resolver struct {
	cfg    ResolverConfig
	ctx    context.Context // of all askings
	stop   context.CancelFunc
	behind sync.WaitGroup // the askings

	changes atomic.Uint64 // of the cache

	mu      sync.RWMutex
	cache   map[Name]cacheEntry
	flights map[Name]*flight
}

// cacheEntry is a record, or why there is none.
type cacheEntry struct {
	record Record
	err    error
	fresh  time.Time // until then it is used unasked
	stale  time.Time // until then it is used while it is being asked for
}

// NewResolver makes a resolver.
func NewResolver(cfg ResolverConfig) *Resolver {
	if cfg.Sources == nil {
		cfg.Sources = func(Name) []Source { return nil }
	}
	if cfg.Deadline <= 0 {
		cfg.Deadline = defaultDeadline
	}
	if cfg.Committed == nil {
		cfg.Committed = func(Name) Commitment { return Commitment{} }
	}
	if cfg.Found == nil {
		cfg.Found = func(Record) {}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancel(context.Background())
	return &Resolver{cfg: cfg, ctx: ctx, stop: stop, cache: map[Name]cacheEntry{}, flights: map[Name]*flight{}}
}

// Close ends what is being asked and waits for it. A Resolve or ResolveFresh that runs, or begins later, asks nobody any
// more.
func (r *Resolver) Close() {
	r.mu.Lock() // so that nothing begins behind our back
	r.stop()
	r.mu.Unlock()
	r.behind.Wait()
}

// within is ctx, but ended by Close, which waits for done. ErrUnavailable where it is closed already.
func (r *Resolver) within(ctx context.Context) (_ context.Context, done func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx.Err() != nil {
		return nil, nil, errClosed
	}
	r.behind.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(r.ctx, cancel)
	return ctx, func() { stop(); cancel(); r.behind.Done() }, nil
}

var errClosed = fmt.Errorf("%w: this program is ending", ErrUnavailable)

// Resolution is a record and where it came from.
type Resolution struct {
	Record Record
	Source string // SourceOwn, SourceCache, or a Source's String
	// Fresh is for how much longer the record may be used without asking again: its TTL, less what has passed of it in the
	// cache, and never past its end; 0 for one that is being asked for again.
	Fresh   time.Duration
	Answers []Answer // who was asked and what each said, in the order of the sources; empty for cache hits
}

// Answer is what one source said.
type Answer struct {
	Source   string
	Sequence uint64 // 0 where Err is set
	Err      error  // why there is no record, or why it was refused
}

// ResolveError is a failed resolve, with the answers of everybody that was asked.
type ResolveError struct {
	Name    Name
	Kind    error  // ErrNotFound, ErrUnavailable, ErrOlder, or ErrExpired with the record's end and the clock
	Expired Record // the best that was seen of those; may be zero
	Answers []Answer
}

func (e *ResolveError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "resolving %s: %v", e.Name, e.Kind)
	if len(e.Answers) == 0 {
		b.WriteString(": nobody is known who could be asked; name a peer or add a host")
	}
	for _, a := range e.Answers {
		fmt.Fprintf(&b, "; %s: %v", a.Source, a.Err)
	}
	return b.String()
}

// Unwrap is the kind.
func (e *ResolveError) Unwrap() error { return e.Kind }

// Resolve gives the record from the cache within its TTL (never past its end of life), and for five minutes more while
// it is being asked for again. Else it asks all sources at once, and returns the first valid answer; the others are
// heard all the same, and the next call has the best. That nobody has a record is remembered for a few seconds. Calls
// for one name at the same time share the asking.
//
// A record of our own that no source has confirmed since the resolver was made is used once all sources have
// answered, or after 3 s. Errors: a ResolveError; ErrInvalidName for the zero Name; ErrUnavailable together with the
// context's error where ctx ends first and we have no record; what Records returns, since a record that couldn't be
// kept can't be relied on.
func (r *Resolver) Resolve(ctx context.Context, n Name) (Resolution, error) {
	if n.IsZero() {
		return Resolution{}, fmt.Errorf("%w: empty", ErrInvalidName)
	}
	e, state := r.cached(n)
	switch state {
	case cacheFresh:
		return Resolution{Record: e.record, Source: SourceCache, Fresh: e.fresh.Sub(r.cfg.Now())}, e.err
	case cacheStale:
		r.refresh(n)
		return Resolution{Record: e.record, Source: SourceCache}, nil
	}
	f := r.join(n)
	select {
	case <-f.answered:
		r.leave(f)
		return f.res, f.err
	case <-ctx.Done():
		r.leave(f)
		return r.tooLate(ctx, n)
	}
}

// ResolveFresh skips the cache and waits for all sources (until the deadline): what publish reads before it signs.
// reached tells whether at least one source answered, with a record of the name or with ErrNotFound. With
// ErrExpired the Resolution holds the best expired record that was seen, since the sequence rule goes on from it.
func (r *Resolver) ResolveFresh(ctx context.Context, n Name) (res Resolution, reached bool, err error) {
	if n.IsZero() {
		return Resolution{}, false, fmt.Errorf("%w: empty", ErrInvalidName)
	}
	return r.askAll(ctx, n)
}

// Follow resolves through /ipns/ values to an /ipfs/ root. chain is outermost first, at most 32 records: the
// policy is that of Governing, the release that of its last. Errors: those of Resolve, with the chain up to
// there; ErrLoop; ErrBelowRoot where a value goes on below its CID or name, since a site is a whole DAG: the chain ends with
// that record, for readers who can do without a site.
func (r *Resolver) Follow(ctx context.Context, n Name) (chain []Resolution, root cid.Cid, err error) {
	seen := map[Name]bool{}
	for at := n; ; {
		if seen[at] {
			return chain, cid.Undef, fmt.Errorf("following %s: %w: back at %s", n, ErrLoop, at)
		}
		if len(chain) == MaxHops {
			return chain, cid.Undef, fmt.Errorf("following %s: %w: no root after %d records", n, ErrLoop, MaxHops)
		}
		seen[at] = true
		res, err := r.Resolve(ctx, at)
		if err != nil {
			return chain, cid.Undef, err
		}
		chain = append(chain, res)
		if root, ok := res.Record.Root(); ok {
			return chain, root, nil
		}
		next, ok := res.Record.Target()
		if !ok {
			return chain, cid.Undef, fmt.Errorf("following %s: %w: %.80q", n, ErrBelowRoot, res.Record.Value())
		}
		at = next
	}
}

// Governing is the record of a chain that says how the site is kept, by its policy and its life: the outermost one
// that is no last record, since a site that has moved is kept as its new name asks. The zero Record for an empty chain.
func Governing(chain []Resolution) Record {
	for i, r := range chain {
		if !r.Record.IsLast() || i == len(chain)-1 {
			return r.Record
		}
	}
	return Record{}
}

// Accepted makes the resolver see a record at once that the caller put into Records: an own publish, or one that was
// pushed to us.
func (r *Resolver) Accepted(rec Record) {
	if !rec.IsZero() {
		r.remember(rec, rec.TTL())
	}
}

type cacheState int

const (
	cacheMiss cacheState = iota
	cacheStale
	cacheFresh
)

func (r *Resolver) cached(n Name) (cacheEntry, cacheState) {
	r.mu.RLock()
	e, ok := r.cache[n]
	r.mu.RUnlock()
	if !ok {
		return e, cacheMiss
	}
	switch now := r.cfg.Now(); {
	case now.Before(e.fresh):
		return e, cacheFresh
	case now.Before(e.stale):
		return e, cacheStale
	}
	return e, cacheMiss
}

// remember caches rec for at most d, and gives the better of it and what was cached: a resolve may end after a newer
// record was pushed to us.
func (r *Resolver) remember(rec Record, d time.Duration) Record {
	now := r.cfg.Now()
	until := func(d time.Duration) time.Time {
		if t, end := now.Add(d), rec.ValidUntil(); t.Before(end) {
			return t
		}
		return rec.ValidUntil()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e, ok := r.cache[rec.Name()]; ok && e.record.Compare(rec) > 0 && !e.record.Expired(now) {
		return e.record
	}
	r.insert(rec.Name(), cacheEntry{record: rec, fresh: until(d), stale: until(d + staleTime)})
	return rec
}

// rememberNone caches that there is no record, unless one came meanwhile.
func (r *Resolver) rememberNone(n Name, err error) {
	d := negativeTime
	if errors.Is(err, ErrUnavailable) {
		d = unreachedTime
	}
	now := r.cfg.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if e, ok := r.cache[n]; ok && e.err == nil && now.Before(e.stale) {
		return
	}
	r.insert(n, cacheEntry{err: err, fresh: now.Add(d)})
}

// insert is called with mu held.
func (r *Resolver) insert(n Name, e cacheEntry) {
	if _, ok := r.cache[n]; !ok && len(r.cache) >= maxCached {
		r.evict(r.cfg.Now())
	}
	r.cache[n] = e
	r.changes.Add(1)
}

// Changes counts what has been put into the cache: as long as it stays the same, and no TTL has run out, Resolve and
// Follow give what they gave.
func (r *Resolver) Changes() uint64 { return r.changes.Load() }

// evict drops what is out of date, or failing that arbitrary entries, a sixteenth of all, so that it is not called
// each time: Records has them still.
func (r *Resolver) evict(now time.Time) {
	for n, e := range r.cache {
		if !now.Before(e.fresh) && !now.Before(e.stale) {
			delete(r.cache, n)
		}
	}
	for n := range r.cache {
		if len(r.cache) <= maxCached-maxCached/16 {
			return
		}
		delete(r.cache, n)
	}
}

// tooLate is the answer of a caller whose context ended before its sources answered.
func (r *Resolver) tooLate(ctx context.Context, n Name) (Resolution, error) {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		rec, err := r.cfg.Records.Best(context.WithoutCancel(ctx), n)
		if err == nil && !rec.Expired(r.cfg.Now()) {
			return Resolution{Record: rec, Source: SourceOwn}, nil
		}
	}
	return Resolution{}, fmt.Errorf("resolving %s: %w: %w", n, ErrUnavailable, ctx.Err())
}
