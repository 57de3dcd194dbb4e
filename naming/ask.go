package naming

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// errNotYet is the Answer of a source that has not answered yet.
var errNotYet = errors.New("has not answered yet")

// flight is one asking that all callers of Resolve for a name share. It goes on after its first answer.
type flight struct {
	name     Name
	answered chan struct{} // closed when res and err are set for the first time
	cancel   context.CancelFunc
	waiters  int // under Resolver.mu

	res Resolution // set before answered is closed, and not changed
	err error
}

// answer sets what the callers get; the first one counts.
func (f *flight) answer(res Resolution, err error) {
	select {
	case <-f.answered:
	default:
		f.res, f.err = res, err
		close(f.answered)
	}
}

// join takes part in the asking for n, or starts it.
func (r *Resolver) join(n Name) *flight {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, ok := r.flights[n]
	if !ok {
		f = r.depart(n)
	}
	f.waiters++
	return f
}

// refresh asks for n behind an answer that was given already, unless that is being done.
func (r *Resolver) refresh(n Name) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.flights[n]; !ok && len(r.flights) < maxBehind {
		r.depart(n)
	}
}

// depart starts a flight; mu is held.
func (r *Resolver) depart(n Name) *flight {
	// No caller's end cuts it off: leave ends a flight that nobody needs.
	ctx, cancel := context.WithCancel(r.ctx)
	f := &flight{name: n, answered: make(chan struct{}), cancel: cancel}
	if r.ctx.Err() != nil {
		f.answer(Resolution{}, fmt.Errorf("resolving %s: %w", n, errClosed))
		return f
	}
	r.flights[n] = f
	r.behind.Go(func() {
		defer cancel()
		r.fly(ctx, f)
		r.forget(f)
	})
	return f
}

// leave takes no part any more. A flight that has not answered ends with the last one who waits for it; one that
// has goes on behind, as long as there are not too many of those.
func (r *Resolver) leave(f *flight) {
	r.mu.Lock()
	f.waiters--
	idle := f.waiters == 0
	if idle {
		select {
		case <-f.answered:
			idle = len(r.flights) > maxBehind
		default:
		}
	}
	if idle && r.flights[f.name] == f {
		delete(r.flights, f.name)
	}
	r.mu.Unlock()
	if idle {
		f.cancel()
	}
}

func (r *Resolver) forget(f *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.flights[f.name] == f {
		delete(r.flights, f.name)
	}
}

// fly asks all sources, answers as soon as there is something valid, and hears the others out.
func (r *Resolver) fly(ctx context.Context, f *flight) {
	a, replies, err := r.begin(ctx, f.name)
	if err != nil {
		f.answer(Resolution{}, err)
		return
	}
	defer a.end(replies)
	patience := time.NewTimer(ownPatience)
	defer patience.Stop()
	for open := true; open; {
		select {
		case rep, more := <-replies:
			if open = more; !more {
				break
			}
			better, err := a.hear(ctx, rep)
			if err != nil {
				f.answer(Resolution{}, err)
				return
			}
			if better {
				f.answer(r.settle(a, a.best), nil)
			}
		case <-patience.C:
			if a.reread(ctx) == nil && a.ownLives() {
				f.answer(Resolution{Record: a.own, Source: SourceOwn, Answers: a.answers()}, nil)
			}
		}
	}
	if ctx.Err() != nil {
		f.answer(Resolution{}, fmt.Errorf("resolving %s: %w: %w", f.name, ErrUnavailable, ctx.Err()))
		return
	}
	if err := a.reread(ctx); err != nil {
		f.answer(Resolution{}, err)
		return
	}
	res, err := a.outcome()
	if err != nil {
		r.rememberNone(f.name, err)
	} else {
		res = r.settle(a, res)
	}
	f.answer(res, err)
}

// askAll is one resolve without cache that waits for all sources.
func (r *Resolver) askAll(ctx context.Context, n Name) (res Resolution, reached bool, err error) {
	ctx, done, err := r.within(ctx)
	if err != nil {
		return Resolution{}, false, fmt.Errorf("resolving %s: %w", n, err)
	}
	defer done()
	a, replies, err := r.begin(ctx, n)
	if err != nil {
		return Resolution{}, false, err
	}
	defer a.end(replies)
	for rep := range replies {
		if _, err := a.hear(ctx, rep); err != nil {
			return Resolution{}, a.reached, err
		}
	}
	if err := a.reread(context.WithoutCancel(ctx)); err != nil {
		return Resolution{}, a.reached, err
	}
	res, err = a.outcome()
	if err != nil {
		return res, a.reached, err
	}
	return r.settle(a, res), a.reached, nil
}

// settle caches the outcome of an asking, for less than its TTL where nobody could be asked.
func (r *Resolver) settle(a *asking, res Resolution) Resolution {
	ttl := res.Record.TTL()
	if !a.reached && len(a.sources) > 0 {
		ttl = min(ttl, retryUnreached)
	}
	if newer := r.remember(res.Record, ttl); newer.Compare(res.Record) != 0 {
		res.Record, res.Source = newer, SourceOwn
	}
	res.Fresh = max(0, min(ttl, res.Record.ValidUntil().Sub(r.cfg.Now())))
	return res
}

// asking is one name being asked for, and what has been heard so far.
type asking struct {
	r       *Resolver
	name    Name
	floor   Record // the best that was kept when the asking began
	own     Record // the best that is kept, which grows better with what is heard
	sources []Source
	said    []Answer   // of each source
	best    Resolution // the best valid record that a source had
	expired Resolution // the best of those that have expired
	reached bool       // a source knew the name, or that it doesn't
	cancel  context.CancelFunc
}

// reply is what a source sent.
type reply struct {
	from int
	raw  []byte
	err  error
}

// begin reads what is kept and asks all sources at once. The channel is closed when all have answered, which they do
// by the deadline or the end of ctx. The caller ends the asking.
func (r *Resolver) begin(ctx context.Context, n Name) (*asking, <-chan reply, error) {
	own, err := r.cfg.Records.Best(ctx, n)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, nil, fmt.Errorf("resolving %s: reading the records kept: %w", n, err)
	}
	a := &asking{r: r, name: n, floor: own, own: own, sources: r.cfg.Sources(n)}
	a.said = make([]Answer, len(a.sources))
	for i, s := range a.sources {
		a.said[i] = Answer{Source: s.String(), Err: errNotYet}
	}
	replies := make(chan reply, len(a.sources))
	ctx, a.cancel = context.WithCancel(ctx)
	go r.query(ctx, n, a.sources, replies)
	return a, replies, nil
}

// end returns when all that begin started has ended.
func (a *asking) end(replies <-chan reply) {
	a.cancel()
	for range replies {
	}
}

// query asks, and closes replies when all that it started has ended.
func (r *Resolver) query(ctx context.Context, n Name, sources []Source, replies chan<- reply) {
	defer close(replies)
	ctx, cancel := context.WithTimeoutCause(ctx, r.cfg.Deadline, fmt.Errorf("no answer within %s: %w", r.cfg.Deadline, context.DeadlineExceeded))
	defer cancel()
	var asked sync.WaitGroup
	for i, s := range sources {
		asked.Go(func() {
			raw, err := s.Fetch(ctx, n)
			if err != nil && ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			replies <- reply{i, raw, err}
		})
	}
	asked.Wait()
}

// hear takes one reply, and tells whether it is valid and better than those before. The error is one of Records.
func (a *asking) hear(ctx context.Context, rep reply) (better bool, err error) {
	v := a.judge(rep.raw, rep.err)
	v.answer.Source = a.sources[rep.from].String()
	a.said[rep.from] = v.answer
	a.reached = a.reached || v.reached
	a.r.logRefusal(a.name, v)
	switch {
	case v.good && v.record.Compare(a.best.Record) > 0:
		return true, a.keep(ctx, Resolution{Record: v.record, Source: v.answer.Source})
	case !v.record.IsZero() && !v.good && v.record.Compare(a.expired.Record) > 0:
		a.expired = Resolution{Record: v.record, Source: v.answer.Source}
	}
	return false, nil
}

// keep puts a found record into Records. Where another process was there first with a better one, that one is the
// answer.
func (a *asking) keep(ctx context.Context, found Resolution) error {
	found.Answers = a.answers()
	if found.Record.Compare(a.own) == 0 {
		a.best = found
		return nil
	}
	err := a.r.cfg.Records.Accept(ctx, found.Record)
	if errors.Is(err, ErrOlder) {
		if a.own, err = a.r.cfg.Records.Best(ctx, a.name); err != nil {
			return fmt.Errorf("resolving %s: reading the records kept: %w", a.name, err)
		}
		if a.own.Expired(a.r.cfg.Now()) {
			return &ResolveError{Name: a.name, Kind: ErrOlder, Answers: found.Answers}
		}
		found.Record, found.Source = a.own, SourceOwn
		a.best = found
		return nil
	}
	if err != nil {
		return fmt.Errorf("resolving %s: keeping the record found: %w", a.name, err)
	}
	a.own, a.best = found.Record, found
	a.r.cfg.Found(found.Record)
	return nil
}

func (a *asking) ownLives() bool { return !a.own.IsZero() && !a.own.Expired(a.r.cfg.Now()) }

func (a *asking) answers() []Answer { return append([]Answer(nil), a.said...) }

// reread takes up what was put into Records by others since: who was pushed a record has shown it to readers already.
func (a *asking) reread(ctx context.Context) error {
	own, err := a.r.cfg.Records.Best(ctx, a.name)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("resolving %s: reading the records kept: %w", a.name, err)
	}
	if own.Compare(a.own) > 0 {
		a.own = own
	}
	return nil
}

// outcome is what is known when all sources have answered. With ErrExpired it has the best expired record.
func (a *asking) outcome() (Resolution, error) {
	res, expired := a.best, a.expired
	switch {
	case a.own.IsZero():
	case !a.ownLives():
		if a.own.Compare(expired.Record) > 0 {
			expired = Resolution{Record: a.own, Source: SourceOwn}
		}
	case a.own.Compare(res.Record) > 0:
		res = Resolution{Record: a.own, Source: SourceOwn}
	}
	res.Answers, expired.Answers = a.answers(), a.answers()
	if res.Record.IsZero() {
		return expired, &ResolveError{Name: a.name, Kind: a.failure(expired.Record), Expired: expired.Record, Answers: a.answers()}
	}
	return res, nil
}

// failure is why a name has no valid record.
func (a *asking) failure(expired Record) error {
	kind := ErrUnavailable
	for _, an := range a.said {
		if errors.Is(an.Err, ErrOlder) {
			return ErrOlder
		}
		if errors.Is(an.Err, ErrNotFound) {
			kind = ErrNotFound
		}
	}
	if !expired.IsZero() {
		return expiredError(expired, a.r.cfg.Now())
	}
	return kind
}

// verdict is an answer after it was checked.
type verdict struct {
	answer  Answer
	record  Record // also where it has expired; zero where refused otherwise
	reached bool   // the source knows the name, or that it doesn't
	good    bool   // valid now and not below the floor
}

// judge checks what a source sent. One that is behind another source has still answered well: only below what was
// kept before is a record refused.
func (a *asking) judge(raw []byte, err error) verdict {
	if err != nil {
		return verdict{answer: Answer{Err: err}, reached: errors.Is(err, ErrNotFound)}
	}
	var rec Record
	if !a.own.IsZero() && bytes.Equal(raw, a.own.s.raw) {
		rec = a.own // the usual answer; its signature was checked when we took it
	} else if rec, err = OpenStored(a.name, raw); err != nil {
		return verdict{answer: Answer{Err: err}}
	}
	if err := a.keepsFaith(rec); err != nil {
		return verdict{answer: Answer{Err: err}}
	}
	if rec.Compare(a.floor) < 0 {
		older := &OlderError{Name: a.name, Offered: rec.Sequence(), Floor: a.floor.Sequence()}
		return verdict{answer: Answer{Err: older}, reached: true}
	}
	if now := a.r.cfg.Now(); rec.Expired(now) {
		return verdict{answer: Answer{Err: expiredError(rec, now)}, record: rec, reached: true}
	}
	return verdict{answer: Answer{Sequence: rec.Sequence()}, record: rec, reached: true, good: true}
}

func (r *Resolver) logRefusal(n Name, v verdict) {
	if errors.Is(v.answer.Err, ErrInvalidRecord) || errors.Is(v.answer.Err, ErrOlder) {
		r.cfg.Log.Warn("a source's record was refused", "name", n, "source", v.answer.Source, "err", v.answer.Err)
	}
}
