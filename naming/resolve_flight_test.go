package naming_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
)

func TestTheFirstValidAnswerIsUsedAtOnceAndBetterOnesAsTheyCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := namingtest.Signer(t, "a")
		end := time.Now().Add(time.Hour)
		one, two, three := namingtest.Record(t, s, 1, "one", end), namingtest.Record(t, s, 2, "two", end), namingtest.Record(t, s, 3, "three", end)
		var found []uint64
		sources := []naming.Source{
			slow(has("alice", one), 100*time.Millisecond), slow(has("bob", two), 350*time.Millisecond), slow(has("dht", three), 5*time.Second),
		}
		r := naming.NewResolver(naming.ResolverConfig{
			Records: kept(t), Sources: func(naming.Name) []naming.Source { return sources },
			Found: func(rec naming.Record) { found = append(found, rec.Sequence()) },
		})
		t.Cleanup(r.Close)
		start := time.Now()
		wantRecord(t, r, one, "alice")
		if d := time.Since(start); d != 100*time.Millisecond {
			t.Errorf("it took %s, want 100 ms", d)
		}
		time.Sleep(300 * time.Millisecond)
		wantRecord(t, r, two, naming.SourceCache)
		time.Sleep(5 * time.Second)
		wantRecord(t, r, three, naming.SourceCache)
		if len(found) != 3 {
			t.Errorf("Found was told of %v", found)
		}
	})
}

func TestAFreshResolveWaitsForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := namingtest.Signer(t, "a")
		end := time.Now().Add(time.Hour)
		one, three := namingtest.Record(t, s, 1, "one", end), namingtest.Record(t, s, 3, "three", end)
		r := resolver(t, kept(t), has("alice", one), slow(has("dht", three), 5*time.Second))
		wantSettled(t, r, three, "dht")
	})
}

func TestAnswersThatDoNotCountAreNotTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := namingtest.Signer(t, "a")
		end := time.Now().Add(time.Hour)
		old, own, next := namingtest.Record(t, s, 1, "old", end), namingtest.Record(t, s, 2, "own", end), namingtest.Record(t, s, 3, "next", end)
		r := resolver(t, kept(t, own), has("stale", old), &fakeSource{name: "junk", raw: []byte("junk")}, fails("none", naming.ErrNotFound), slow(has("dht", next), 2*time.Second))
		wantRecord(t, r, next, "dht")
	})
}

func TestAClosedResolverAnswersNobodyAndLeavesNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := namingtest.Record(t, namingtest.Signer(t, "a"), 1, "x", time.Now().Add(time.Hour))
		r := resolver(t, kept(t), slow(has("alice", rec), time.Second))
		done := make(chan error)
		go func() {
			_, err := r.Resolve(t.Context(), rec.Name())
			done <- err
		}()
		synctest.Wait()
		r.Close()
		if err := <-done; !errors.Is(err, naming.ErrUnavailable) {
			t.Errorf("Resolve: %v", err)
		}
	})
}

func TestAClosedResolverAsksNobodyAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := namingtest.Record(t, namingtest.Signer(t, "a"), 1, "x", time.Now().Add(time.Hour))
		alice := slow(has("alice", rec), time.Second)
		r := resolver(t, kept(t), alice)
		done := make(chan error)
		go func() {
			_, _, err := r.ResolveFresh(t.Context(), rec.Name())
			done <- err
		}()
		synctest.Wait()
		start := time.Now()
		r.Close()
		if err := <-done; !errors.Is(err, naming.ErrUnavailable) || !time.Now().Equal(start) {
			t.Errorf("a ResolveFresh under way ended after %s: %v", time.Since(start), err)
		}
		if _, err := r.Resolve(t.Context(), rec.Name()); !errors.Is(err, naming.ErrUnavailable) {
			t.Errorf("Resolve: %v", err)
		}
		if _, _, err := r.ResolveFresh(t.Context(), rec.Name()); !errors.Is(err, naming.ErrUnavailable) {
			t.Errorf("ResolveFresh: %v", err)
		}
		if n := alice.asked.Load(); n != 1 {
			t.Errorf("alice was asked %d times, want once before the end", n)
		}
	})
}

func TestWhoWaitsForSourcesDoesNotGetLessThanWasPushedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := namingtest.Signer(t, "a")
		own, pushed := namingtest.Record(t, s, 5, "own", time.Now().Add(time.Hour)), namingtest.Record(t, s, 6, "pushed", time.Now().Add(time.Hour))
		for when, hang := range map[string]time.Duration{"his patience ends": time.Hour, "all have answered": 2 * time.Second} {
			records := kept(t, own)
			r := resolver(t, records, slow(fails("alice", errDown), hang))
			got := make(chan naming.Resolution)
			go func() {
				res, err := r.Resolve(t.Context(), s.Name())
				if err != nil {
					t.Errorf("when %s: %v", when, err)
				}
				got <- res
			}()
			time.Sleep(time.Second)
			if err := records.Accept(t.Context(), pushed); err != nil {
				t.Fatal(err)
			}
			r.Accepted(pushed)
			wantRecord(t, r, pushed, naming.SourceCache) // another reader, who asked later
			if res := <-got; res.Record.Compare(pushed) != 0 {
				t.Errorf("when %s: sequence %d", when, res.Record.Sequence())
			}
		}
	})
}

func TestCallersOfOneNameShareTheAsking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := namingtest.Record(t, namingtest.Signer(t, "a"), 1, "x", time.Now().Add(time.Hour))
		alice := slow(has("alice", rec), time.Second)
		r := resolver(t, kept(t), alice)
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
		r := resolver(t, kept(t), alice)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err := r.Resolve(ctx, rec.Name())
		if !errors.Is(err, naming.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Fatalf("Resolve: %v after %s", err, time.Since(start))
		}
		wantRecord(t, r, rec, "alice") // a new asking, not the one that was ended

		// With a record of our own a caller in haste gets that.
		hasty := resolver(t, kept(t, rec), slow(has("alice", rec), 9*time.Second))
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
		if _, err := resolver(t, records, alice).Resolve(t.Context(), s.Name()); !errors.Is(err, errDisk) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestTheZeroNameIsNotResolved(t *testing.T) {
	r := resolver(t, kept(t))
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
	wantRecord(t, resolver(t, racingRecords{kept(t), better}, has("alice", found)), better, naming.SourceOwn)

	dead := namingtest.Record(t, s, 4, "dead", time.Now().Add(-time.Hour))
	_, err := resolver(t, racingRecords{kept(t), dead}, has("alice", found)).Resolve(t.Context(), s.Name())
	if !errors.Is(err, naming.ErrOlder) {
		t.Fatalf("below a dead floor: %v, want ErrOlder", err)
	}
}

func TestAThiefsRecordIsRefusedOnANewMachineThatHasTheSitesKey(t *testing.T) {
	s, own := namingtest.Signer(t, "a"), namingtest.Recovery(t, "a")
	good := namingtest.Committed(t, s, own, 7, farFuture)
	theft := namingtest.Committed(t, s, namingtest.Recovery(t, "thief"), 100, farFuture)
	sources := []naming.Source{has("thief's", theft), has("holder", good)}
	r := naming.NewResolver(naming.ResolverConfig{
		Records: naming.NewMemoryRecords(), Sources: func(naming.Name) []naming.Source { return sources },
		Committed: func(n naming.Name) naming.Commitment {
			if n != s.Name() {
				t.Errorf("asked of %s", n)
			}
			return own.Commitment()
		},
	})
	defer r.Close()
	res, _, err := r.ResolveFresh(t.Context(), s.Name())
	if err != nil || res.Record.Compare(good) != 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	if !errors.Is(res.Answers[0].Err, naming.ErrRecovery) {
		t.Errorf("the thief's: %v", res.Answers[0].Err)
	}
}
