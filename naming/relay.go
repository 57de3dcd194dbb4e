package naming

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	defaultRelayInterval = 4 * time.Hour
	putDeadline          = 30 * time.Second
	putsPerSink          = 4 // at the same time, in a round
	confirmDeadline      = 10 * time.Second
	confirmsAtOnce       = 16
	kickWorkers          = 4 // so that a kick doesn't wait for a sink that hangs on the one before
	// firstRetry divides the interval: after a round in which a put failed the next comes that much sooner, and
	// twice as late each further time.
	firstRetry = 16
)

// RelayConfig is what a Relay works with. Names, Records and Sinks are required.
type RelayConfig struct {
	Names   func(ctx context.Context) ([]Name, error) // whom to keep alive; asked at each round
	Records Records
	// Confirm asks others for a better record of a name and puts it into Records; it comes before the name's record is
	// put, so that a record from an old copy of the disk never is. It has 10 s, and returns soon after ctx ends: the
	// other names wait for it. May be nil.
	Confirm  func(ctx context.Context, n Name)
	Sinks    func(Name) []Sink // where to, for each name; asked at each round. Sinks of the same String are the same place
	Interval time.Duration     // between rounds, jittered by ±10 %; 0: 4 h, well within the 48 h after which the DHT forgets
	Now      func() time.Time  // nil: time.Now
	Log      *slog.Logger      // nil: discard
	// OnPut is told of each put that ended. It may be called from several goroutines at once. May be nil.
	OnPut func(Put)
	// Jitter gives numbers in [0, 1); nil: random ones.
	Jitter func() float64
}

// Put is a record that was handed to a sink, or that should have been.
type Put struct {
	Name     Name
	Sink     string
	Sequence uint64
	At       time.Time
	Err      error // nil where the sink has taken it
}

// Relay keeps names alive: it puts the records that others signed, byte for byte, to where readers look, again and
// again until their end of life. It needs no keys. It looks at what should be kept alive at each round, so that
// nothing depends on its having seen a change.
type Relay struct {
	cfg  RelayConfig
	wake chan struct{}

	mu     sync.Mutex
	kicked map[Name]bool
}

// NewRelay makes a relay, which does nothing until Serve.
func NewRelay(cfg RelayConfig) *Relay {
	if cfg.Interval <= 0 {
		cfg.Interval = defaultRelayInterval
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.OnPut == nil {
		cfg.OnPut = func(Put) {}
	}
	if cfg.Jitter == nil {
		cfg.Jitter = rand.Float64
	}
	return &Relay{cfg: cfg, wake: make(chan struct{}, 1), kicked: map[Name]bool{}}
}

// Serve puts all names at once, then each interval, and each kicked name when it is kicked, until ctx ends. Its
// error is the context's. A put gets 30 s; a round has at most 4 at a time at each sink. After a round with failed
// puts the next one comes sooner (a sixteenth of the interval, doubling while puts fail).
func (r *Relay) Serve(ctx context.Context) error {
	var kicks sync.WaitGroup
	for range kickWorkers {
		kicks.Go(func() { r.serveKicks(ctx) })
	}
	defer kicks.Wait()
	failedRounds := 0
	for {
		if r.round(ctx) {
			failedRounds = 0
		} else {
			failedRounds++
		}
		timer := time.NewTimer(r.pause(failedRounds))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// Kick puts one name as soon as Serve runs, for a record that has just come. It may be called at any time.
func (r *Relay) Kick(n Name) {
	r.mu.Lock()
	r.kicked[n] = true
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// pause is the time until the next round.
func (r *Relay) pause(failedRounds int) time.Duration {
	d := r.cfg.Interval
	if failedRounds > 0 {
		d = min(d, r.cfg.Interval/firstRetry<<min(failedRounds-1, 10))
	}
	return d + time.Duration((r.cfg.Jitter()*2-1)*0.1*float64(d))
}

func (r *Relay) serveKicks(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		}
		r.mu.Lock()
		names := make([]Name, 0, len(r.kicked))
		for n := range r.kicked {
			names = append(names, n)
		}
		clear(r.kicked)
		r.mu.Unlock()
		r.putAll(ctx, names)
	}
}

// round puts every name everywhere, and tells whether all puts succeeded.
func (r *Relay) round(ctx context.Context) bool {
	names, err := r.cfg.Names(ctx)
	if err != nil {
		if ctx.Err() == nil {
			r.cfg.Log.Error("the relay can't read which names to keep alive", "err", err)
		}
		return false
	}
	return r.putAll(ctx, names)
}

// putAll puts names to all their sinks, side by side, so that a sink that hangs delays only itself. It tells whether nothing
// is left to be tried again soon.
func (r *Relay) putAll(ctx context.Context, names []Name) bool {
	var failed atomic.Bool
	living := r.living(ctx, names, &failed)
	if ctx.Err() != nil {
		return false
	}
	var workers sync.WaitGroup
	for _, l := range r.lanes(living) {
		work := make(chan Name)
		workers.Go(func() {
			defer close(work)
			for _, n := range l.names {
				work <- n
			}
		})
		for range min(putsPerSink, len(l.names)) {
			workers.Go(func() {
				for n := range work {
					if ctx.Err() == nil && !r.put(ctx, l.sinks[n], n) {
						failed.Store(true)
					}
				}
			})
		}
	}
	workers.Wait()
	return !failed.Load()
}

// living is those of the names that have something to put.
func (r *Relay) living(ctx context.Context, names []Name, failed *atomic.Bool) []Name {
	lives := make([]bool, len(names))
	var g errgroup.Group
	g.SetLimit(confirmsAtOnce)
	for i, n := range names {
		g.Go(func() error {
			r.confirm(ctx, n)
			_, err := r.alive(ctx, n)
			lives[i] = err == nil
			if err == nil || ctx.Err() != nil {
				return nil
			}
			if !errors.Is(err, ErrNotFound) { // else nothing was published under it yet
				r.cfg.Log.Warn("a name can't be kept alive", "name", n, "err", err)
			}
			if !errors.Is(err, ErrExpired) && !errors.Is(err, ErrNotFound) {
				failed.Store(true)
			}
			return nil
		})
	}
	_ = g.Wait() // none of them fails
	out := make([]Name, 0, len(names))
	for i, n := range names {
		if lives[i] {
			out = append(out, n)
		}
	}
	return out
}

func (r *Relay) confirm(ctx context.Context, n Name) {
	if r.cfg.Confirm == nil || ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, confirmDeadline)
	defer cancel()
	r.cfg.Confirm(ctx, n)
}

// lane is what has to go to one place.
type lane struct {
	names []Name
	sinks map[Name]Sink
}

// lanes sorts names by where they go, each to a place once.
func (r *Relay) lanes(names []Name) map[string]*lane {
	lanes := map[string]*lane{}
	for _, n := range names {
		for _, s := range r.cfg.Sinks(n) {
			l := lanes[s.String()]
			if l == nil {
				l = &lane{sinks: map[Name]Sink{}}
				lanes[s.String()] = l
			}
			if l.sinks[n] == nil {
				l.names = append(l.names, n)
				l.sinks[n] = s
			}
		}
	}
	return lanes
}

// alive is the best record of a name. ErrExpired where its end of life has passed: only its author can go on from
// there.
func (r *Relay) alive(ctx context.Context, n Name) (Record, error) {
	rec, err := r.cfg.Records.Best(ctx, n)
	if err != nil {
		return Record{}, err
	}
	if now := r.cfg.Now(); rec.Expired(now) {
		return Record{}, expiredError(rec, now)
	}
	return rec, nil
}

// put hands the best record, read only now, to one sink. It tells whether the sink has it, or a better one.
func (r *Relay) put(ctx context.Context, s Sink, n Name) bool {
	rec, err := r.alive(ctx, n)
	if err != nil {
		return errors.Is(err, ErrExpired)
	}
	putCtx, cancel := context.WithTimeoutCause(ctx, putDeadline, fmt.Errorf("not taken within %s: %w", putDeadline, context.DeadlineExceeded))
	defer cancel()
	err = s.Put(putCtx, rec)
	if ctx.Err() != nil {
		return false // the relay is ending; that says nothing of the sink
	}
	if err != nil && putCtx.Err() != nil {
		err = context.Cause(putCtx)
	}
	r.cfg.OnPut(Put{Name: n, Sink: s.String(), Sequence: rec.Sequence(), At: r.cfg.Now(), Err: err})
	if err != nil {
		r.cfg.Log.Warn("putting a record failed", "name", n, "sequence", rec.Sequence(), "sink", s.String(), "err", err)
		return errors.Is(err, ErrOlder)
	}
	r.cfg.Log.Debug("put a record", "name", n, "sequence", rec.Sequence(), "sink", s.String())
	return true
}
