package naming_test

import (
	"context"
	"errors"
	"strings"
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
	if err := lasts(ctx, s.delay); err != nil {
		return nil, err
	}
	return s.raw, s.err
}

func has(name string, r naming.Record) *fakeSource { return &fakeSource{name: name, raw: r.Bytes()} }
func fails(name string, err error) *fakeSource     { return &fakeSource{name: name, err: err} }
func slow(s *fakeSource, d time.Duration) *fakeSource {
	s.delay = d
	return s
}

func resolver(t testing.TB, records naming.Records, sources ...*fakeSource) *naming.Resolver {
	r := naming.NewResolver(naming.ResolverConfig{Records: records, Sources: func(naming.Name) []naming.Source {
		out := make([]naming.Source, len(sources))
		for i, s := range sources {
			out[i] = s
		}
		return out
	}})
	t.Cleanup(r.Close)
	return r
}

// wantSettled asks all of the resolver's sources, and then wants the cache to have the record.
func wantSettled(t *testing.T, r *naming.Resolver, want naming.Record, source string) naming.Resolution {
	t.Helper()
	res, _, err := r.ResolveFresh(t.Context(), want.Name())
	if err != nil || res.Record.Compare(want) != 0 || res.Source != source {
		t.Fatalf("ResolveFresh gives sequence %d from %s, %v, want %d from %s", res.Record.Sequence(), res.Source, err, want.Sequence(), source)
	}
	wantRecord(t, r, want, naming.SourceCache)
	return res
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
	r := resolver(t, records, has("alice", two), has("bob", three), has("mallory", forged), fails("carol", errDown), fails("dave", naming.ErrNotFound))
	res := wantSettled(t, r, three, "bob")
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
	res := wantRecord(t, resolver(t, kept(t, own), has("alice", old)), own, naming.SourceOwn)
	var older *naming.OlderError
	if !errors.As(res.Answers[0].Err, &older) || older.Offered != 4 || older.Floor != 5 {
		t.Errorf("alice's answer is recorded as %+v", res.Answers[0])
	}
}

func TestTheFloorOutlivesItsRecord(t *testing.T) {
	s := namingtest.Signer(t, "a")
	dead := namingtest.Record(t, s, 5, "dead", time.Now().Add(-time.Hour))
	old := namingtest.Record(t, s, 4, "old", time.Now().Add(time.Hour))
	_, err := resolver(t, kept(t, dead), has("alice", old)).Resolve(t.Context(), s.Name())
	if !errors.Is(err, naming.ErrOlder) {
		t.Fatalf("Resolve: %v, want ErrOlder", err)
	}
	next := namingtest.Record(t, s, 6, "next", time.Now().Add(time.Hour))
	wantRecord(t, resolver(t, kept(t, dead), has("alice", old), has("bob", next)), next, "bob")
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
		res, _, err := resolver(t, records, has("alice", a), has("bob", b)).ResolveFresh(t.Context(), s.Name())
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
		r := resolver(t, kept(t, c.own...), c.sources...)
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
	res, reached, err := resolver(t, records, has("alice", dead)).ResolveFresh(t.Context(), s.Name())
	if !errors.Is(err, naming.ErrExpired) || !reached || res.Record.Compare(dead) != 0 {
		t.Fatalf("ResolveFresh: %d, %v, %v", res.Record.Sequence(), reached, err)
	}
	if _, err := records.Best(t.Context(), s.Name()); !errors.Is(err, naming.ErrNotFound) {
		t.Fatalf("the dead record was kept: %v", err)
	}
}

func TestOurOwnRecordIsUsedAfterAWhileWhenNobodyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := namingtest.Signer(t, "a")
		own := namingtest.Record(t, s, 1, "own", time.Now().Add(24*time.Hour))
		hangs := slow(has("alice", own), time.Hour)
		r := resolver(t, kept(t, own), hangs, fails("bob", errDown))
		start := time.Now()
		res := wantRecord(t, r, own, naming.SourceOwn)
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("it took %s, want 3 s", d)
		}
		if res.Answers[0].Err == nil || !errors.Is(res.Answers[1].Err, errDown) {
			t.Errorf("the answers are recorded as %v", res.Answers)
		}
		time.Sleep(8 * time.Second) // now the asking has ended
		wantRecord(t, r, own, naming.SourceCache)
		time.Sleep(10 * time.Second) // sooner than the TTL, since nobody was reached
		wantRecord(t, r, own, naming.SourceCache)
		synctest.Wait()
		if n := hangs.asked.Load(); n != 2 {
			t.Errorf("alice was asked %d times, want 2: again behind the answer", n)
		}
	})
}

func TestARecordFromAnOldCopyOfTheDiskIsNotUsedWhileOthersKnowBetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := namingtest.Signer(t, "a")
		end := time.Now().Add(time.Hour)
		old, newest := namingtest.Record(t, s, 5, "old", end), namingtest.Record(t, s, 6, "newest", end)
		r := resolver(t, kept(t, old), fails("dht", naming.ErrNotFound), slow(has("bob", newest), 2*time.Second))
		wantRecord(t, r, newest, "bob")
	})
}

func TestAResolveIsCachedForItsTTLThenRefreshedBehindAndNeverUsedPastItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := namingtest.Signer(t, "a")
		rec := namingtest.Record(t, s, 1, "x", time.Now().Add(90*time.Second)) // its TTL is 60 s
		alice := has("alice", rec)
		r := resolver(t, kept(t), alice)
		wantRecord(t, r, rec, "alice")
		time.Sleep(59 * time.Second)
		wantRecord(t, r, rec, naming.SourceCache)
		synctest.Wait()
		if got := alice.asked.Load(); got != 1 {
			t.Errorf("alice was asked %d times within the TTL, want 1", got)
		}
		time.Sleep(time.Second)
		wantRecord(t, r, rec, naming.SourceCache)
		synctest.Wait()
		if got := alice.asked.Load(); got != 2 {
			t.Errorf("alice was asked %d times after the TTL, want 2", got)
		}
		time.Sleep(30*time.Second + time.Nanosecond)
		if _, err := r.Resolve(t.Context(), s.Name()); !errors.Is(err, naming.ErrExpired) {
			t.Errorf("after its end: %v, want ErrExpired", err)
		}
	})
}

func TestANewReleaseIsSeenAfterTheTTLByTheSecondWhoAsksAndLongAfterByTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := namingtest.Signer(t, "a")
		end := time.Now().Add(time.Hour)
		one, two, three := namingtest.Record(t, s, 1, "one", end), namingtest.Record(t, s, 2, "two", end), namingtest.Record(t, s, 3, "three", end)
		alice := has("alice", one)
		r := resolver(t, kept(t), alice)
		wantRecord(t, r, one, "alice")
		alice.raw = two.Bytes()
		wantRecord(t, r, one, naming.SourceCache)
		time.Sleep(naming.DefaultTTL)
		wantRecord(t, r, one, naming.SourceCache)
		synctest.Wait()
		wantRecord(t, r, two, naming.SourceCache)
		alice.raw = three.Bytes()
		time.Sleep(10 * time.Minute)
		wantRecord(t, r, three, "alice")
	})
}

func TestThatNobodyHasARecordIsRememberedBriefly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := namingtest.Signer(t, "a")
		rec := namingtest.Record(t, s, 1, "x", time.Now().Add(time.Hour))
		alice := fails("alice", naming.ErrNotFound)
		r := resolver(t, kept(t), alice)
		for range 3 {
			if _, err := r.Resolve(t.Context(), s.Name()); !errors.Is(err, naming.ErrNotFound) {
				t.Fatalf("Resolve: %v", err)
			}
		}
		if got := alice.asked.Load(); got != 1 {
			t.Errorf("alice was asked %d times, want 1", got)
		}
		alice.raw, alice.err = rec.Bytes(), nil
		time.Sleep(5 * time.Second)
		wantRecord(t, r, rec, "alice")
	})
}

func TestAnOwnPublishIsSeenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := namingtest.Signer(t, "a")
		one, two := namingtest.Record(t, s, 1, "one", time.Now().Add(time.Hour)), namingtest.Record(t, s, 2, "two", time.Now().Add(time.Hour))
		records := kept(t)
		r := resolver(t, records, slow(has("alice", one), time.Second))
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
		time.Sleep(10 * time.Minute)
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
