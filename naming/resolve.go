package naming

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
)

const (
	// defaultDeadline bounds how long sources are waited for.
	defaultDeadline = 10 * time.Second
	// graceAfterAnswer is how long a resolve that has a valid answer waits for a better one.
	graceAfterAnswer = 300 * time.Millisecond
	// retryUnreached is how soon sources are asked again when none of them answered and our own record was used
	// meanwhile.
	retryUnreached = 10 * time.Second
	// maxHops is how many records a chain of /ipns/ values may have, as in Kubo.
	maxHops = 32
	// maxCached bounds the cache, in names.
	maxCached = 4096
)

// Where a Resolution comes from when not from a Source.
const (
	SourceOwn   = "own"   // what Records keeps
	SourceCache = "cache" // resolved less than its TTL ago
)

// ResolverConfig is what a Resolver works with. Records is required.
type ResolverConfig struct {
	Records  Records
	Sources  func() []Source  // asked at each resolve that is not cached, so that it may change; may be nil
	Deadline time.Duration    // how long sources are waited for; 0: 10 s
	Now      func() time.Time // nil: time.Now
	Log      *slog.Logger     // nil: discard
}

// Resolver finds the best record of a name. It never returns a record that is unverified, expired, or below the floor
// that its Records keep, and puts each better one that it finds into them. It is safe for concurrent use.
type Resolver struct {
	cfg ResolverConfig

	mu      sync.Mutex
	cache   map[Name]cacheEntry
	flights map[Name]*flight
}

type cacheEntry struct {
	record Record
	until  time.Time
}

// NewResolver makes a resolver; it has no goroutines of its own.
func NewResolver(cfg ResolverConfig) *Resolver {
	if cfg.Sources == nil {
		cfg.Sources = func() []Source { return nil }
	}
	if cfg.Deadline <= 0 {
		cfg.Deadline = defaultDeadline
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Resolver{cfg: cfg, cache: map[Name]cacheEntry{}, flights: map[Name]*flight{}}
}

// Resolution is a record and where it came from.
type Resolution struct {
	Record  Record
	Source  string   // SourceOwn, SourceCache, or a Source's String
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
	Kind    error // ErrNotFound, ErrUnavailable, ErrExpired or ErrOlder
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

// Resolve gives the record from the cache within its TTL (never past its end of life). Else it asks all sources at
// once and takes the best valid record among their answers and our own; once one valid answer is there the others
// get 300 ms more. Calls for one name at the same time share the asking.
//
// When no source answers, our own record is used while it lives. Errors: a ResolveError; ErrInvalidName for the
// zero Name; ErrUnavailable together with the context's error where ctx ends first and we have no record; what
// Records returns, since a record that couldn't be kept can't be relied on.
func (r *Resolver) Resolve(ctx context.Context, n Name) (Resolution, error) {
	if n.IsZero() {
		return Resolution{}, fmt.Errorf("%w: empty", ErrInvalidName)
	}
	if rec, ok := r.cached(n); ok {
		return Resolution{Record: rec, Source: SourceCache}, nil
	}
	f := r.join(ctx, n)
	select {
	case <-f.done:
		return f.res, f.err
	case <-ctx.Done():
		r.leave(n, f)
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
	return r.ask(ctx, n, true)
}

// Follow resolves through /ipns/ values to an /ipfs/ root. chain is outermost first, at most 32 records: the
// policy is that of its first record, the release that of its last. Errors: those of Resolve, with the chain up to
// there; ErrLoop; ErrInvalidRecord where a value goes on below its CID or name, since a site is a whole DAG.
func (r *Resolver) Follow(ctx context.Context, n Name) (chain []Resolution, root cid.Cid, err error) {
	seen := map[Name]bool{}
	for at := n; ; {
		if seen[at] {
			return chain, cid.Undef, fmt.Errorf("following %s: %w: back at %s", n, ErrLoop, at)
		}
		if len(chain) == maxHops {
			return chain, cid.Undef, fmt.Errorf("following %s: %w: no root after %d records", n, ErrLoop, maxHops)
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
			return chain, cid.Undef, fmt.Errorf("following %s: %w: the value %.80q is below a root", n, ErrInvalidRecord, res.Record.Value())
		}
		at = next
	}
}

// Accepted makes the resolver see a record at once that the caller put into Records: an own publish, or one that was
// pushed to us.
func (r *Resolver) Accepted(rec Record) {
	if !rec.IsZero() {
		r.remember(rec, rec.TTL())
	}
}

func (r *Resolver) cached(n Name) (Record, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.cache[n]
	if !ok || !r.cfg.Now().Before(e.until) {
		return Record{}, false
	}
	return e.record, true
}

// remember caches rec for at most d, and gives the better of it and what was cached: a resolve may end after a newer
// record was pushed to us.
func (r *Resolver) remember(rec Record, d time.Duration) Record {
	now := r.cfg.Now()
	until := now.Add(d)
	if end := rec.ValidUntil(); until.After(end) {
		until = end
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e, ok := r.cache[rec.Name()]; ok && e.record.Compare(rec) > 0 && !e.record.Expired(now) {
		return e.record
	}
	if _, ok := r.cache[rec.Name()]; !ok && len(r.cache) >= maxCached {
		r.evict(now)
	}
	r.cache[rec.Name()] = cacheEntry{rec, until}
	return rec
}

// evict drops what is out of date, or failing that an arbitrary entry: Records has it still.
func (r *Resolver) evict(now time.Time) {
	for n, e := range r.cache {
		if !now.Before(e.until) {
			delete(r.cache, n)
		}
	}
	for n := range r.cache {
		if len(r.cache) < maxCached {
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
