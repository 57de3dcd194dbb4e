package naming_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
)

// fakeSource answers after a delay with raw, or err where that is set.
type fakeSource struct {
	name  string
	raw   []byte
	err   error
	delay time.Duration
	asked atomic.Int32
}

func (s *fakeSource) String() string { return s.name }

func (s *fakeSource) Fetch(ctx context.Context, n naming.Name) ([]byte, error) {
	s.asked.Add(1)
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(s.delay):
		return s.raw, s.err
	}
}

func has(name string, r naming.Record) *fakeSource { return &fakeSource{name: name, raw: r.Bytes()} }
func fails(name string, err error) *fakeSource     { return &fakeSource{name: name, err: err} }
func slow(s *fakeSource, d time.Duration) *fakeSource {
	s.delay = d
	return s
}

func resolver(records naming.Records, sources ...*fakeSource) *naming.Resolver {
	return naming.NewResolver(naming.ResolverConfig{Records: records, Sources: func() []naming.Source {
		out := make([]naming.Source, len(sources))
		for i, s := range sources {
			out[i] = s
		}
		return out
	}})
}

// kept is a Records that holds recs.
func kept(t *testing.T, recs ...naming.Record) naming.Records {
	t.Helper()
	r := naming.NewMemoryRecords()
	for _, rec := range recs {
		if err := r.Accept(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func wantRecord(t *testing.T, r *naming.Resolver, want naming.Record, source string) naming.Resolution {
	t.Helper()
	res, err := r.Resolve(t.Context(), want.Name())
	if err != nil {
		t.Fatalf("Resolve: %v", err)
	}
	if res.Record.Compare(want) != 0 || res.Source != source {
		t.Fatalf("Resolve gives sequence %d from %s, want %d from %s", res.Record.Sequence(), res.Source, want.Sequence(), source)
	}
	return res
}

var errDown = errors.New("connection refused")

func TestMemoryRecords(t *testing.T) {
	namingtest.RunRecords(t, func(*testing.T) naming.Records { return naming.NewMemoryRecords() })
}

func TestResolveTakesTheBestValidAnswerAndKeepsIt(t *testing.T) {
	s := namingtest.Signer(t, "a")
	end := time.Now().Add(time.Hour)
	one, two, three := namingtest.Record(t, s, 1, "one", end), namingtest.Record(t, s, 2, "two", end), namingtest.Record(t, s, 3, "three", end)
	forged := namingtest.Record(t, namingtest.Signer(t, "b"), 99, "evil", end)
	records := kept(t, one)
	r := resolver(records, has("alice", two), has("bob", three), has("mallory", forged), fails("carol", errDown), fails("dave", naming.ErrNotFound))
	res := wantRecord(t, r, three, "bob")
	if len(res.Answers) != 5 || res.Answers[0].Sequence != 2 || res.Answers[1].Sequence != 3 ||
		!errors.Is(res.Answers[2].Err, naming.ErrSignature) || !errors.Is(res.Answers[3].Err, errDown) || !errors.Is(res.Answers[4].Err, naming.ErrNotFound) {
		t.Errorf("the answers are %v", res.Answers)
	}
	if best, err := records.Best(t.Context(), s.Name()); err != nil || best.Compare(three) != 0 {
		t.Errorf("kept is sequence %d, %v", best.Sequence(), err)
	}
}

func TestAnAnswerBelowTheFloorIsRefused(t *testing.T) {
	s := namingtest.Signer(t, "a")
	end := time.Now().Add(time.Hour)
	old, own := namingtest.Record(t, s, 4, "old", end.Add(time.Hour)), namingtest.Record(t, s, 5, "own", end)
	res := wantRecord(t, resolver(kept(t, own), has("alice", old)), own, naming.SourceOwn)
	var older *naming.OlderError
	if !errors.As(res.Answers[0].Err, &older) || older.Offered != 4 || older.Floor != 5 {
		t.Errorf("alice's answer is recorded as %+v", res.Answers[0])
	}
}

func TestTheFloorOutlivesItsRecord(t *testing.T) {
	s := namingtest.Signer(t, "a")
	dead := namingtest.Record(t, s, 5, "dead", time.Now().Add(-time.Hour))
	old := namingtest.Record(t, s, 4, "old", time.Now().Add(time.Hour))
	_, err := resolver(kept(t, dead), has("alice", old)).Resolve(t.Context(), s.Name())
	if !errors.Is(err, naming.ErrOlder) {
		t.Fatalf("Resolve: %v, want ErrOlder", err)
	}
	next := namingtest.Record(t, s, 6, "next", time.Now().Add(time.Hour))
	wantRecord(t, resolver(kept(t, dead), has("alice", old), has("bob", next)), next, "bob")
}

func TestTwoRecordsOfOneSequenceConvergeWhoeverAnswers(t *testing.T) {
	s := namingtest.Signer(t, "a")
	end := time.Now().Add(time.Hour)
	a, b := namingtest.Record(t, s, 3, "machine one", end), namingtest.Record(t, s, 3, "machine two", end)
	want := a
	if b.Compare(a) > 0 {
		want = b
	}
	for _, records := range []naming.Records{kept(t), kept(t, a), kept(t, b)} {
		res, err := resolver(records, has("alice", a), has("bob", b)).Resolve(t.Context(), s.Name())
		if err != nil || res.Record.Compare(want) != 0 {
			t.Errorf("resolves to %s, %v, want %s", res.Record.Value(), err, want.Value())
		}
	}
}

func TestAFailedResolveSaysWhyAndWhoSaidWhat(t *testing.T) {
	s := namingtest.Signer(t, "a")
	dead := namingtest.Record(t, s, 2, "dead", time.Now().Add(-time.Hour))
	forged := &fakeSource{name: "mallory", raw: []byte("junk")}
	for _, c := range []struct {
		what    string
		own     []naming.Record
		sources []*fakeSource
		kind    error
		reached bool
	}{
		{"nobody to ask", nil, nil, naming.ErrUnavailable, false},
		{"nobody answers", nil, []*fakeSource{fails("alice", errDown)}, naming.ErrUnavailable, false},
		{"only junk", nil, []*fakeSource{forged}, naming.ErrUnavailable, false},
		{"one knows of none", nil, []*fakeSource{fails("alice", errDown), fails("bob", naming.ErrNotFound)}, naming.ErrNotFound, true},
		{"one has a dead one", nil, []*fakeSource{fails("bob", naming.ErrNotFound), has("alice", dead)}, naming.ErrExpired, true},
		{"our own is dead, nobody answers", []naming.Record{dead}, []*fakeSource{fails("alice", errDown)}, naming.ErrExpired, false},
		{"our own is dead, nobody knows better", []naming.Record{dead}, []*fakeSource{fails("bob", naming.ErrNotFound), has("alice", dead)}, naming.ErrExpired, true},
	} {
		r := resolver(kept(t, c.own...), c.sources...)
		_, err := r.Resolve(t.Context(), s.Name())
		var re *naming.ResolveError
		if !errors.Is(err, c.kind) || !errors.As(err, &re) || len(re.Answers) != len(c.sources) || re.Name != s.Name() {
			t.Errorf("%s: %v, want %v", c.what, err, c.kind)
			continue
		}
		for _, src := range c.sources {
			if !strings.Contains(err.Error(), src.name) {
				t.Errorf("%s: the error %q doesn't name %s", c.what, err, src.name)
			}
		}
		if _, reached, _ := r.ResolveFresh(t.Context(), s.Name()); reached != c.reached {
			t.Errorf("%s: reached is %v", c.what, reached)
		}
	}
}

func TestADeadRecordIsNeitherServedNorKeptButKnownToTheSequenceRule(t *testing.T) {
	s := namingtest.Signer(t, "a")
	dead := namingtest.Record(t, s, 9, "dead", time.Now().Add(-time.Hour))
	records := kept(t)
	res, reached, err := resolver(records, has("alice", dead)).ResolveFresh(t.Context(), s.Name())
	if !errors.Is(err, naming.ErrExpired) || !reached || res.Record.Compare(dead) != 0 {
		t.Fatalf("ResolveFresh: %d, %v, %v", res.Record.Sequence(), reached, err)
	}
	if _, err := records.Best(t.Context(), s.Name()); !errors.Is(err, naming.ErrNotFound) {
		t.Fatalf("the dead record was kept: %v", err)
	}
}

func TestOurOwnRecordIsUsedWhenNobodyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := namingtest.Signer(t, "a")
		own := namingtest.Record(t, s, 1, "own", time.Now().Add(24*time.Hour))
		hangs := slow(has("alice", own), time.Hour)
		r := resolver(kept(t, own), hangs, fails("bob", errDown))
		start := time.Now()
		res := wantRecord(t, r, own, naming.SourceOwn)
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("it took %s, want the deadline of 10 s", d)
		}
		if !errors.Is(res.Answers[0].Err, context.DeadlineExceeded) {
			t.Errorf("the source that hangs is recorded as %v", res.Answers[0].Err)
		}
		wantRecord(t, r, own, naming.SourceCache)
		time.Sleep(10 * time.Second) // sooner than the TTL, since nobody was reached
		wantRecord(t, r, own, naming.SourceOwn)
	})
}

func TestAResolveIsCachedForItsTTLAndNeverPastItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := namingtest.Signer(t, "a")
		rec := namingtest.Record(t, s, 1, "x", time.Now().Add(90*time.Second)) // its TTL is 60 s
		alice := has("alice", rec)
		records := kept(t)
		r := resolver(records, alice)
		wantRecord(t, r, rec, "alice")
		time.Sleep(59 * time.Second)
		wantRecord(t, r, rec, naming.SourceCache)
		time.Sleep(time.Second)
		wantRecord(t, r, rec, naming.SourceOwn) // asked again, and alice has the same
		if got := alice.asked.Load(); got != 2 {
			t.Errorf("alice was asked %d times, want 2", got)
		}
		time.Sleep(29 * time.Second)
		wantRecord(t, r, rec, naming.SourceCache)
		time.Sleep(time.Second + time.Nanosecond)
		if _, err := r.Resolve(t.Context(), s.Name()); !errors.Is(err, naming.ErrExpired) {
			t.Errorf("after its end: %v, want ErrExpired", err)
		}
	})
}

func TestANewReleaseIsSeenWithinTheTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := namingtest.Signer(t, "a")
		one, two := namingtest.Record(t, s, 1, "one", time.Now().Add(time.Hour)), namingtest.Record(t, s, 2, "two", time.Now().Add(time.Hour))
		alice := has("alice", one)
		r := resolver(kept(t), alice)
		wantRecord(t, r, one, "alice")
		alice.raw = two.Bytes()
		wantRecord(t, r, one, naming.SourceCache)
		time.Sleep(naming.DefaultTTL)
		wantRecord(t, r, two, "alice")
	})
}

func TestAnOwnPublishIsSeenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := namingtest.Signer(t, "a")
		one, two := namingtest.Record(t, s, 1, "one", time.Now().Add(time.Hour)), namingtest.Record(t, s, 2, "two", time.Now().Add(time.Hour))
		records := kept(t)
		r := resolver(records, slow(has("alice", one), time.Second))
		wantRecord(t, r, one, "alice")
		accept := func(rec naming.Record) {
			if err := records.Accept(t.Context(), rec); err != nil {
				t.Fatal(err)
			}
			r.Accepted(rec)
		}
		accept(two)
		wantRecord(t, r, two, naming.SourceCache)
		r.Accepted(one) // late news change nothing
		wantRecord(t, r, two, naming.SourceCache)

		// Also while a resolve is under way that began before it.
		time.Sleep(naming.DefaultTTL)
		three := namingtest.Record(t, s, 3, "three", time.Now().Add(time.Hour))
		done := make(chan naming.Resolution)
		go func() {
			res, err := r.Resolve(t.Context(), s.Name())
			if err != nil {
				t.Error(err)
			}
			done <- res
		}()
		synctest.Wait()
		accept(three)
		if res := <-done; res.Record.Compare(three) != 0 {
			t.Errorf("the resolve under way gave sequence %d", res.Record.Sequence())
		}
		wantRecord(t, r, three, naming.SourceCache)
	})
}

func TestAResolveWaitsShortlyForABetterAnswerAndAFreshOneForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := namingtest.Signer(t, "a")
		end := time.Now().Add(time.Hour)
		one, two, three := namingtest.Record(t, s, 1, "one", end), namingtest.Record(t, s, 2, "two", end), namingtest.Record(t, s, 3, "three", end)
		sources := []*fakeSource{
			slow(has("alice", one), 100*time.Millisecond), slow(has("bob", two), 350*time.Millisecond), slow(has("dht", three), 5*time.Second),
		}
		start := time.Now()
		r := resolver(kept(t), sources...)
		res := wantRecord(t, r, two, "bob")
		if d := time.Since(start); d != 400*time.Millisecond {
			t.Errorf("it took %s, want 100 ms and the grace of 300 ms", d)
		}
		if res.Answers[2].Err == nil || errors.Is(res.Answers[2].Err, context.Canceled) {
			t.Errorf("the slow one is recorded as %v", res.Answers[2].Err)
		}
		start = time.Now()
		fresh, reached, err := r.ResolveFresh(t.Context(), s.Name())
		if err != nil || !reached || fresh.Record.Compare(three) != 0 || fresh.Source != "dht" || time.Since(start) != 5*time.Second {
			t.Errorf("ResolveFresh: %d from %s after %s, %v", fresh.Record.Sequence(), fresh.Source, time.Since(start), err)
		}
		wantRecord(t, r, three, naming.SourceCache)
	})
}

func TestAnswersThatDoNotCountDoNotStartTheGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := namingtest.Signer(t, "a")
		end := time.Now().Add(time.Hour)
		old, own, next := namingtest.Record(t, s, 1, "old", end), namingtest.Record(t, s, 2, "own", end), namingtest.Record(t, s, 3, "next", end)
		r := resolver(kept(t, own), has("stale", old), &fakeSource{name: "junk", raw: []byte("junk")}, fails("none", naming.ErrNotFound), slow(has("dht", next), 5*time.Second))
		wantRecord(t, r, next, "dht")
	})
}

func TestCallersOfOneNameShareTheAsking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := namingtest.Record(t, namingtest.Signer(t, "a"), 1, "x", time.Now().Add(time.Hour))
		alice := slow(has("alice", rec), time.Second)
		r := resolver(kept(t), alice)
		first, leave := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := r.Resolve(first, rec.Name()); !errors.Is(err, context.Canceled) || !errors.Is(err, naming.ErrUnavailable) {
				t.Errorf("who leaves gets %v", err)
			}
		})
		synctest.Wait()
		for range 20 {
			all.Go(func() { wantRecord(t, r, rec, "alice") })
		}
		synctest.Wait()
		leave() // the one that began it; the others get their answer
		all.Wait()
		if got := alice.asked.Load(); got != 1 {
			t.Errorf("alice was asked %d times, want 1", got)
		}
	})
}

func TestALastCallerThatLeavesEndsTheAsking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := namingtest.Record(t, namingtest.Signer(t, "a"), 1, "x", time.Now().Add(time.Hour))
		alice := slow(has("alice", rec), 9*time.Second)
		r := resolver(kept(t), alice)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err := r.Resolve(ctx, rec.Name())
		if !errors.Is(err, naming.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Fatalf("Resolve: %v after %s", err, time.Since(start))
		}
		wantRecord(t, r, rec, "alice") // a new asking, not the one that was ended

		// With a record of our own a caller in haste gets that.
		hasty := resolver(kept(t, rec), slow(has("alice", rec), 9*time.Second))
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if res, err := hasty.Resolve(ctx, rec.Name()); err != nil || res.Source != naming.SourceOwn {
			t.Fatalf("Resolve in haste: %s, %v", res.Source, err)
		}
	})
}

// brokenRecords can't be written, or not read.
type brokenRecords struct {
	naming.Records
	best, accept error
}

func (b brokenRecords) Best(ctx context.Context, n naming.Name) (naming.Record, error) {
	if b.best != nil {
		return naming.Record{}, b.best
	}
	return b.Records.Best(ctx, n)
}

func (b brokenRecords) Accept(ctx context.Context, r naming.Record) error { return b.accept }

func TestARecordThatCanNotBeKeptIsNotServed(t *testing.T) {
	errDisk := errors.New("no space left on device")
	s := namingtest.Signer(t, "a")
	alice := has("alice", namingtest.Record(t, s, 1, "x", time.Now().Add(time.Hour)))
	for what, records := range map[string]naming.Records{
		"unwritable": brokenRecords{Records: kept(t), accept: errDisk}, "unreadable": brokenRecords{Records: kept(t), best: errDisk},
	} {
		if _, err := resolver(records, alice).Resolve(t.Context(), s.Name()); !errors.Is(err, errDisk) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestTheZeroNameIsNotResolved(t *testing.T) {
	r := resolver(kept(t))
	if _, err := r.Resolve(t.Context(), naming.Name{}); !errors.Is(err, naming.ErrInvalidName) {
		t.Errorf("Resolve: %v", err)
	}
	if _, _, err := r.ResolveFresh(t.Context(), naming.Name{}); !errors.Is(err, naming.ErrInvalidName) {
		t.Errorf("ResolveFresh: %v", err)
	}
}

// racingRecords has another process accept a record just before each Accept of ours.
type racingRecords struct {
	naming.Records
	other naming.Record
}

func (r racingRecords) Accept(ctx context.Context, rec naming.Record) error {
	if err := r.Records.Accept(ctx, r.other); err != nil {
		return err
	}
	return r.Records.Accept(ctx, rec)
}

func TestABetterRecordThatAnotherProcessKeptMeanwhileIsTheAnswer(t *testing.T) {
	s := namingtest.Signer(t, "a")
	end := time.Now().Add(time.Hour)
	found, better := namingtest.Record(t, s, 2, "found", end), namingtest.Record(t, s, 3, "better", end)
	wantRecord(t, resolver(racingRecords{kept(t), better}, has("alice", found)), better, naming.SourceOwn)

	dead := namingtest.Record(t, s, 4, "dead", time.Now().Add(-time.Hour))
	_, err := resolver(racingRecords{kept(t), dead}, has("alice", found)).Resolve(t.Context(), s.Name())
	if !errors.Is(err, naming.ErrOlder) {
		t.Fatalf("below a dead floor: %v, want ErrOlder", err)
	}
}
