package naming_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
)

// fakeSink notes what it gets and when.
type fakeSink struct {
	name  string
	delay time.Duration

	mu   sync.Mutex
	err  error
	got  []naming.Record
	when []time.Time
	now  int // puts under way
	most int
}

func (s *fakeSink) String() string { return s.name }

func (s *fakeSink) Put(ctx context.Context, r naming.Record) error {
	s.mu.Lock()
	s.now++
	s.most = max(s.most, s.now)
	s.mu.Unlock()
	err := lasts(ctx, s.delay)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now--
	if err == nil {
		err = s.err
	}
	if err == nil {
		s.got, s.when = append(s.got, r), append(s.when, time.Now())
	}
	return err
}

// lasts waits for d, or gives ctx's error where that ends before. No time is no timer: two goroutines of a bubble that
// receive from timers which have run out crash the race detector (Go 1.26).
func lasts(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func (s *fakeSink) puts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}

func (s *fakeSink) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// put is what OnPut was told.
type put struct {
	sink string
	err  error
}

type relayRun struct {
	relay *naming.Relay
	mu    sync.Mutex
	puts  []put
}

func (r *relayRun) told() []put {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.puts)
}

// runRelay runs a relay of names without jitter until the test ends.
func runRelay(t *testing.T, records naming.Records, names func() []naming.Name, sinks ...*fakeSink) *relayRun {
	t.Helper()
	run := &relayRun{}
	run.relay = naming.NewRelay(naming.RelayConfig{
		Names:   func(context.Context) ([]naming.Name, error) { return names(), nil },
		Records: records,
		Sinks: func(naming.Name) []naming.Sink {
			out := make([]naming.Sink, len(sinks))
			for i, s := range sinks {
				out[i] = s
			}
			return out
		},
		Jitter: func() float64 { return 0.5 },
		OnPut: func(p naming.Put) {
			run.mu.Lock()
			defer run.mu.Unlock()
			run.puts = append(run.puts, put{p.Sink, p.Err})
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- run.relay.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Serve ended with %v", err)
		}
	})
	return run
}

func only(n ...naming.Name) func() []naming.Name { return func() []naming.Name { return n } }

func TestTheRelayPutsOnStartAndAgainEachIntervalByteForByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := testKey(t, "a")
		f := honest()
		f.Extra = map[string]any{"_other": "tool"}
		rec, err := naming.OpenRecord(nameOfKey(t, key), f.Raw(t, key), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		alice, dht := &fakeSink{name: "alice"}, &fakeSink{name: "dht"}
		start := time.Now()
		run := runRelay(t, kept(t, rec), only(rec.Name()), alice, dht)
		time.Sleep(9 * time.Hour)
		synctest.Wait()
		for _, s := range []*fakeSink{alice, dht} {
			want := []time.Time{start, start.Add(4 * time.Hour), start.Add(8 * time.Hour)}
			if !slices.EqualFunc(s.when, want, time.Time.Equal) {
				t.Errorf("%s was put to at %v, want %v", s.name, s.when, want)
			}
			for _, got := range s.got {
				if !bytes.Equal(got.Bytes(), rec.Bytes()) {
					t.Errorf("%s got other bytes", s.name)
				}
			}
		}
		if told := run.told(); len(told) != 6 || told[0].err != nil {
			t.Errorf("OnPut was told %v", told)
		}
	})
}

func TestTheRelaysIntervalIsJitteredByATenth(t *testing.T) {
	for jitter, want := range map[float64]time.Duration{0: 54 * time.Minute, 0.5: time.Hour, 1: 66 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			rec := namingtest.Record(t, namingtest.Signer(t, "a"), 1, "x", time.Now().Add(24*time.Hour))
			alice := &fakeSink{name: "alice"}
			relay := naming.NewRelay(naming.RelayConfig{
				Names:   func(context.Context) ([]naming.Name, error) { return []naming.Name{rec.Name()}, nil },
				Records: kept(t, rec), Sinks: func(naming.Name) []naming.Sink { return []naming.Sink{alice} },
				Interval: time.Hour, Jitter: func() float64 { return jitter },
			})
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Minute)
			defer cancel()
			if err := relay.Serve(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			if len(alice.when) != 2 || alice.when[1].Sub(start) != want {
				t.Errorf("with jitter %v put at %v", jitter, alice.when)
			}
		})
	}
}

func TestTheRelayPutsOnlyTheBestRecordAndNeverADeadOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := namingtest.Signer(t, "a")
		one := namingtest.Record(t, s, 1, "one", time.Now().Add(5*time.Hour))
		records := kept(t, one)
		alice := &fakeSink{name: "alice"}
		runRelay(t, records, only(s.Name(), namingtest.Signer(t, "unknown").Name()), alice)
		time.Sleep(time.Hour)
		two := namingtest.Record(t, s, 2, "two", time.Now().Add(5*time.Hour))
		if err := records.Accept(t.Context(), two); err != nil {
			t.Fatal(err)
		}
		time.Sleep(48 * time.Hour)
		synctest.Wait()
		if len(alice.got) != 2 || alice.got[0].Compare(one) != 0 || alice.got[1].Compare(two) != 0 {
			t.Errorf("alice got %d records", len(alice.got))
		}
	})
}

func TestAKickPutsAtOnceAlsoWhileASinkHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := namingtest.Record(t, namingtest.Signer(t, "a"), 1, "a", time.Now().Add(24*time.Hour))
		b := namingtest.Record(t, namingtest.Signer(t, "b"), 1, "b", time.Now().Add(24*time.Hour))
		alice, hangs := &fakeSink{name: "alice"}, &fakeSink{name: "hangs", delay: time.Hour}
		run := runRelay(t, kept(t, a, b), only(a.Name()), alice, hangs)
		synctest.Wait() // the first round now hangs
		for range 3 {
			run.relay.Kick(b.Name())
			synctest.Wait()
		}
		if got := alice.puts(); got != 4 {
			t.Errorf("alice got %d records at once, want a's and b's three times", got)
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		late := 0
		for _, p := range run.told() {
			if p.sink == "hangs" && errors.Is(p.err, context.DeadlineExceeded) {
				late++
			}
		}
		if late != 4 {
			t.Errorf("%d puts were given up after 30 s, want 4: %v", late, run.told())
		}
	})
}

func TestAKickBeforeServeIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := namingtest.Record(t, namingtest.Signer(t, "a"), 1, "a", time.Now().Add(24*time.Hour))
		alice := &fakeSink{name: "alice"}
		relay := naming.NewRelay(naming.RelayConfig{
			Names:   func(context.Context) ([]naming.Name, error) { return nil, nil },
			Records: kept(t, rec), Sinks: func(naming.Name) []naming.Sink { return []naming.Sink{alice} },
		})
		relay.Kick(rec.Name())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := relay.Serve(ctx); !errors.Is(err, context.DeadlineExceeded) || alice.puts() != 1 {
			t.Errorf("alice got %d records, %v", alice.puts(), err)
		}
	})
}

func TestAFailedRoundIsTriedAgainSoonerAndNotForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := namingtest.Record(t, namingtest.Signer(t, "a"), 1, "a", time.Now().Add(90*24*time.Hour))
		alice, bob := &fakeSink{name: "alice"}, &fakeSink{name: "bob", err: errDown}
		start := time.Now()
		runRelay(t, kept(t, rec), only(rec.Name()), alice, bob)
		time.Sleep(20 * time.Minute)
		bob.fail(nil)
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		if want := start.Add(45 * time.Minute); len(bob.when) != 1 || !bob.when[0].Equal(want) {
			t.Fatalf("bob was put to at %v, want %v", bob.when, want)
		}
		bob.fail(errDown)
		before := alice.puts()
		time.Sleep(30 * 24 * time.Hour)
		if got := alice.puts() - before; got > 30*6+5 {
			t.Errorf("a sink that stays down makes %d rounds in 30 days", got)
		}
	})
}

func TestASinkThatKnowsBetterIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := namingtest.Record(t, namingtest.Signer(t, "a"), 1, "a", time.Now().Add(24*time.Hour))
		alice := &fakeSink{name: "alice", err: &naming.OlderError{Name: rec.Name(), Offered: 1, Floor: 2}}
		run := runRelay(t, kept(t, rec), only(rec.Name()), alice)
		time.Sleep(3 * time.Hour)
		if told := run.told(); len(told) != 1 || !errors.Is(told[0].err, naming.ErrOlder) {
			t.Errorf("OnPut was told %v", told)
		}
	})
}

func TestTheRelayNeverHasMoreThanFourPutsAtASink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var names []naming.Name
		var recs []naming.Record
		for _, s := range signers(t, 30) {
			recs = append(recs, namingtest.Record(t, s, 1, "x", time.Now().Add(24*time.Hour)))
			names = append(names, s.Name())
		}
		alice := &fakeSink{name: "alice", delay: time.Second}
		runRelay(t, kept(t, recs...), only(names...), alice)
		time.Sleep(time.Minute)
		synctest.Wait()
		if alice.puts() != 30 || alice.most != 4 {
			t.Errorf("%d puts, %d at a time, want 30 and 4", alice.puts(), alice.most)
		}
	})
}

// serveRelay runs a relay without jitter until the test ends.
func serveRelay(t *testing.T, cfg naming.RelayConfig) {
	t.Helper()
	cfg.Jitter = func() float64 { return 0.5 }
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() { _ = naming.NewRelay(cfg).Serve(ctx) })
	t.Cleanup(func() { cancel(); serving.Wait() })
}

// recordsOf is a first record of each of n new names.
func recordsOf(t *testing.T, n int) (names []naming.Name, recs []naming.Record) {
	t.Helper()
	for _, s := range signers(t, n) {
		names = append(names, s.Name())
		recs = append(recs, namingtest.Record(t, s, 1, "x", time.Now().Add(24*time.Hour)))
	}
	return names, recs
}

func keptAlive(names ...naming.Name) func(context.Context) ([]naming.Name, error) {
	return func(context.Context) ([]naming.Name, error) { return names, nil }
}

func TestARecordIsConfirmedBeforeItIsPutForTheFirstTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := namingtest.Signer(t, "a")
		end := time.Now().Add(24 * time.Hour)
		old, better := namingtest.Record(t, s, 1, "old", end), namingtest.Record(t, s, 2, "better", end)
		records, alice := kept(t, old), &fakeSink{name: "alice"}
		serveRelay(t, naming.RelayConfig{
			Names: keptAlive(s.Name()), Records: records, Sinks: func(naming.Name) []naming.Sink { return []naming.Sink{alice} },
			Confirm: func(ctx context.Context, n naming.Name) {
				time.Sleep(3 * time.Second) // others are slow to answer
				if n != s.Name() || alice.puts() > 0 {
					t.Errorf("%s is confirmed after %d puts", n, alice.puts())
				}
				if err := records.Accept(ctx, better); err != nil {
					t.Error(err)
				}
			},
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(alice.got) != 1 || alice.got[0].Compare(better) != 0 {
			t.Errorf("alice got %d records", len(alice.got))
		}
	})
}

func TestAConfirmationThatHangsDoesNotHoldUpOtherNamesForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		names, recs := recordsOf(t, 40)
		alice := &fakeSink{name: "alice"}
		serveRelay(t, naming.RelayConfig{
			Names: keptAlive(names...), Records: kept(t, recs...), Sinks: func(naming.Name) []naming.Sink { return []naming.Sink{alice} },
			Confirm: func(ctx context.Context, n naming.Name) {
				if n == names[0] {
					<-ctx.Done()
				}
			},
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		// What can't be confirmed is put all the same: else a holder that nobody answers would let the name die.
		if alice.puts() != len(names) {
			t.Errorf("%d of %d names were put", alice.puts(), len(names))
		}
	})
}

func TestEachNameGoesToItsOwnSinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		names, recs := recordsOf(t, 2)
		all, first, second := &fakeSink{name: "dht"}, &fakeSink{name: "holder of the first"}, &fakeSink{name: "holder of the second"}
		serveRelay(t, naming.RelayConfig{
			Names: keptAlive(names...), Records: kept(t, recs...), Sinks: func(n naming.Name) []naming.Sink {
				if n == names[0] {
					return []naming.Sink{all, first}
				}
				return []naming.Sink{all, second}
			},
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(first.got) != 1 || first.got[0].Name() != names[0] || len(second.got) != 1 || second.got[0].Name() != names[1] || all.puts() != 2 {
			t.Errorf("%d, %d and %d puts", len(first.got), len(second.got), all.puts())
		}
	})
}

// samePlace is a sink made anew for each name, as internal/node makes them, that leads to the same place.
type samePlace struct{ *fakeSink }

func TestSinksOfTheSameNameAreOnePlaceThatIsNotFlooded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		names, recs := recordsOf(t, 30)
		alice := &fakeSink{name: "alice", delay: time.Second}
		serveRelay(t, naming.RelayConfig{
			Names: keptAlive(names...), Records: kept(t, recs...),
			Sinks: func(naming.Name) []naming.Sink { return []naming.Sink{&samePlace{alice}, &samePlace{alice}} },
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		if alice.puts() != len(names) || alice.most != 4 {
			t.Errorf("%d puts, %d at a time, want %d and 4", alice.puts(), alice.most, len(names))
		}
	})
}
