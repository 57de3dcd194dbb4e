package naming

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
)

// errNotAwaited is the Answer of a source that was slower than a valid answer and the grace after it.
var errNotAwaited = errors.New("not waited for, another had answered")

// flight is one asking that all callers of Resolve for a name share.
type flight struct {
	done    chan struct{} // closed when res and err are set
	res     Resolution
	err     error
	waiters int // under Resolver.mu
	cancel  context.CancelFunc
}

// join takes part in the asking for n, or starts it.
func (r *Resolver) join(ctx context.Context, n Name) *flight {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f, ok := r.flights[n]; ok {
		f.waiters++
		return f
	}
	// The first caller's end must not cut off those who joined it: leave ends a flight that nobody waits for.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &flight{done: make(chan struct{}), waiters: 1, cancel: cancel}
	r.flights[n] = f
	go func() {
		defer cancel()
		f.res, _, f.err = r.ask(ctx, n, false)
		r.mu.Lock()
		if r.flights[n] == f {
			delete(r.flights, n)
		}
		r.mu.Unlock()
		close(f.done)
	}()
	return f
}

// leave gives up on a flight; the last one to leave ends it.
func (r *Resolver) leave(n Name, f *flight) {
	r.mu.Lock()
	f.waiters--
	last := f.waiters == 0
	if last && r.flights[n] == f {
		delete(r.flights, n)
	}
	r.mu.Unlock()
	if last {
		f.cancel()
		<-f.done
	}
}

// ask is one resolve without cache: own record, all sources, the best of them, kept.
func (r *Resolver) ask(ctx context.Context, n Name, patient bool) (res Resolution, reached bool, err error) {
	own, err := r.cfg.Records.Best(ctx, n)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Resolution{}, false, fmt.Errorf("resolving %s: reading the records kept: %w", n, err)
	}
	verdicts := r.query(ctx, n, own, patient)
	best, expired := Resolution{}, Resolution{}
	keepBest := func(source string, rec Record) {
		to := &best
		if rec.Expired(r.cfg.Now()) {
			to = &expired
		}
		if rec.Compare(to.Record) > 0 {
			to.Record, to.Source = rec, source
		}
	}
	if !own.IsZero() {
		keepBest(SourceOwn, own)
	}
	answers := make([]Answer, len(verdicts))
	for i, v := range verdicts {
		answers[i] = v.answer
		reached = reached || v.reached
		if !v.record.IsZero() {
			keepBest(v.answer.Source, v.record)
		}
	}
	best.Answers, expired.Answers = answers, answers
	if best.Record.IsZero() {
		return expired, reached, &ResolveError{Name: n, Kind: failure(expired.Record, answers), Answers: answers}
	}
	best, err = r.keep(ctx, best)
	if err != nil {
		return Resolution{}, reached, err
	}
	ttl := best.Record.TTL()
	if !reached && len(verdicts) > 0 {
		ttl = min(ttl, retryUnreached)
	}
	if newer := r.remember(best.Record, ttl); newer.Compare(best.Record) != 0 {
		best.Record, best.Source = newer, SourceOwn
	}
	return best, reached, nil
}

// failure is why a name has no valid record.
func failure(expired Record, answers []Answer) error {
	kind := ErrUnavailable
	for _, a := range answers {
		if errors.Is(a.Err, ErrOlder) {
			return ErrOlder
		}
		if errors.Is(a.Err, ErrNotFound) {
			kind = ErrNotFound
		}
	}
	if !expired.IsZero() {
		return ErrExpired
	}
	return kind
}

// keep puts a found record into Records. Where another process was there first with a better one, that one is the
// answer.
func (r *Resolver) keep(ctx context.Context, found Resolution) (Resolution, error) {
	if found.Source == SourceOwn {
		return found, nil
	}
	n := found.Record.Name()
	err := r.cfg.Records.Accept(ctx, found.Record)
	if errors.Is(err, ErrOlder) {
		better, err := r.cfg.Records.Best(ctx, n)
		if err != nil {
			return Resolution{}, fmt.Errorf("resolving %s: reading the records kept: %w", n, err)
		}
		if better.Expired(r.cfg.Now()) {
			return Resolution{}, &ResolveError{Name: n, Kind: ErrOlder, Answers: found.Answers}
		}
		found.Record, found.Source = better, SourceOwn
		return found, nil
	}
	if err != nil {
		return Resolution{}, fmt.Errorf("resolving %s: keeping the record found: %w", n, err)
	}
	return found, nil
}

// verdict is an answer after it was checked.
type verdict struct {
	answer  Answer
	record  Record // also where it has expired; zero where refused otherwise
	reached bool   // the source knows the name, or that it doesn't
	good    bool   // valid now and not below the floor
}

// query asks all sources at once and gives a verdict on each, in their order. It ends with the deadline or ctx,
// and unless it is patient, shortly after the first good answer. All that it started has ended when it returns.
func (r *Resolver) query(ctx context.Context, n Name, own Record, patient bool) []verdict {
	sources := r.cfg.Sources()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	late := time.AfterFunc(r.cfg.Deadline, func() {
		cancel(fmt.Errorf("no answer within %s: %w", r.cfg.Deadline, context.DeadlineExceeded))
	})
	defer late.Stop()

	type reply struct {
		from int
		raw  []byte
		err  error
	}
	replies := make(chan reply, len(sources))
	for i, s := range sources {
		go func() {
			raw, err := s.Fetch(ctx, n)
			if err != nil && ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			replies <- reply{i, raw, err}
		}()
	}
	verdicts := make([]verdict, len(sources))
	var grace *time.Timer
	for range sources {
		rep := <-replies
		v := r.judge(n, own, rep.raw, rep.err)
		v.answer.Source = sources[rep.from].String()
		verdicts[rep.from] = v
		r.logRefusal(n, v)
		if v.good && !patient && grace == nil {
			grace = time.AfterFunc(graceAfterAnswer, func() { cancel(errNotAwaited) })
			defer grace.Stop()
		}
	}
	return verdicts
}

// judge checks what a source sent, against our own record as the floor.
func (r *Resolver) judge(n Name, own Record, raw []byte, err error) verdict {
	if err != nil {
		return verdict{answer: Answer{Err: err}, reached: errors.Is(err, ErrNotFound)}
	}
	var rec Record
	if !own.IsZero() && bytes.Equal(raw, own.s.raw) {
		rec = own // the usual answer; its signature was checked when we took it
	} else if rec, err = OpenStored(n, raw); err != nil {
		return verdict{answer: Answer{Err: err}}
	}
	if rec.Compare(own) < 0 {
		older := &OlderError{Name: n, Offered: rec.Sequence(), Floor: own.Sequence()}
		return verdict{answer: Answer{Err: older}, reached: true}
	}
	if now := r.cfg.Now(); rec.Expired(now) {
		return verdict{answer: Answer{Err: expiredError(rec, now)}, record: rec, reached: true}
	}
	return verdict{answer: Answer{Sequence: rec.Sequence()}, record: rec, reached: true, good: true}
}

func (r *Resolver) logRefusal(n Name, v verdict) {
	if errors.Is(v.answer.Err, ErrInvalidRecord) || errors.Is(v.answer.Err, ErrOlder) {
		r.cfg.Log.Warn("a source's record was refused", "name", n, "source", v.answer.Source, "err", v.answer.Err)
	}
}
