package gateway

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

var (
	anna = netip.MustParseAddr("198.51.100.1")
	ben  = netip.MustParseAddr("198.51.100.2")
)

// queueUp has n requests of a client wait at the gate; got hears of each that is let in or turned away.
func queueUp(g *gate, ctx context.Context, client netip.Addr, n int, got chan<- error) {
	for range n {
		go func() { got <- g.enter(ctx, client) }()
		synctest.Wait()
	}
}

func TestOneOfAClientWaitsForNoMoreThanOneOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1, 1000)
		if g.enter(t.Context(), anna) != nil {
			t.Fatal("an empty gate is closed")
		}
		annas, bens := make(chan error, 500), make(chan error, 1)
		queueUp(g, t.Context(), anna, 500, annas)
		queueUp(g, t.Context(), ben, 1, bens)
		g.leave()
		g.leave()
		synctest.Wait()
		if len(annas) != 1 || len(bens) != 1 {
			t.Errorf("of two places anna got %d and ben %d", len(annas), len(bens))
		}
		for range 500 {
			g.leave()
		}
		synctest.Wait()
		if in, waiting := g.state(); in != 0 || waiting != 0 || len(g.lines) != 0 {
			t.Errorf("in the end %d are in, %d wait in %d lines", in, waiting, len(g.lines))
		}
	})
}

func TestWhereTooManyWaitTheGreediestClientIsTurnedAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1, 4)
		_ = g.enter(t.Context(), anna)
		annas, bens := make(chan error, 10), make(chan error, 10)
		queueUp(g, t.Context(), anna, 5, annas)
		if len(annas) != 1 || !errors.Is(<-annas, errBusy) {
			t.Fatal("the fifth of four was not turned away")
		}
		queueUp(g, t.Context(), ben, 2, bens)
		if len(annas) != 2 || len(bens) != 0 {
			t.Fatalf("for two of ben's, %d of anna's were turned away, and %d of his own", len(annas), len(bens))
		}
		queueUp(g, t.Context(), ben, 1, bens)
		if len(bens) != 1 || !errors.Is(<-bens, errBusy) {
			t.Error("where both have the same, the one who asks for more is to go")
		}
	})
}

func TestWhoGivesUpWaitingTakesNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1, 10)
		_ = g.enter(t.Context(), anna)
		why := errors.New("gone home")
		ctx, cancel := context.WithCancelCause(t.Context())
		got := make(chan error, 2)
		queueUp(g, ctx, anna, 1, got)
		queueUp(g, t.Context(), ben, 1, got)
		cancel(why)
		if err := <-got; !errors.Is(err, why) {
			t.Error(err)
		}
		g.leave()
		if err := <-got; err != nil {
			t.Error(err)
		}
		g.leave()
		if in, waiting := g.state(); in != 0 || waiting != 0 {
			t.Errorf("%d in, %d wait", in, waiting)
		}
	})
}

func TestASeatThatWaitsForOthersIsAnothersMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(1, 1)
		ctx := t.Context()
		first, err := h.sit(ctx, anna)
		must(t, err)
		if _, err := h.sit(ctx, ben); !errors.Is(err, errBusy) {
			t.Fatalf("two on one seat: %v", err)
		}
		must(t, first.wait(ctx))
		must(t, first.wait(ctx)) // a second block of the same request
		second, err := h.sit(ctx, ben)
		must(t, err)
		first.back(ctx)
		if in, _ := h.retrieval.state(); in != 1 {
			t.Errorf("%d wait for others", in)
		}
		returned := make(chan bool)
		go func() { first.back(ctx); close(returned) }()
		synctest.Wait()
		second.leave()
		<-returned
		first.stream()
		third, err := h.sit(ctx, ben)
		must(t, err)
		first.leave()
		third.leave()
		third.leave()
		for _, g := range []*gate{h.work, h.retrieval} {
			if in, waiting := g.state(); in != 0 || waiting != 0 {
				t.Errorf("%d in, %d wait", in, waiting)
			}
		}
	})
}

func TestANameThatTakesItsTimeHoldsNoSeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(1, 1)
		s, err := h.sit(t.Context(), anna)
		must(t, err)
		ctx := withTrace(t.Context(), &trace{seat: s})
		var seen []int
		look := func() {
			work, _ := h.work.state()
			waits, _ := h.retrieval.state()
			seen = append(seen, work, waits)
		}
		patiently(ctx, func(context.Context) { look() })
		patiently(ctx, func(context.Context) { time.Sleep(time.Second); look() })
		look()
		if !slices.Equal(seen, []int{1, 0, 0, 1, 1, 0}) {
			t.Errorf("worked on and waiting, at once, while it waits, after: %v", seen)
		}
		s.leave()
	})
}

// stuck is a client that reads nothing until it is told to.
type stuck struct {
	http.ResponseWriter
	reads chan bool
}

func (s stuck) Write(p []byte) (int, error) {
	<-s.reads
	return len(p), nil
}

func TestAClientThatReadsNothingHoldsNoSeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(1, 1)
		one, err := h.sit(t.Context(), anna)
		must(t, err)
		reads := make(chan bool)
		w, _, stop := pace(stuck{httptest.NewRecorder(), reads}, t.Context(), time.Minute)
		defer stop()
		w.seat = one
		written := make(chan bool)
		go func() {
			_, _ = w.Write([]byte("a small page"))
			close(written)
		}()
		other, err := h.sit(t.Context(), ben) // has patience for a second
		must(t, err)
		close(reads)
		<-written
		one.leave()
		other.leave()
		if in, waiting := h.work.state(); in != 0 || waiting != 0 {
			t.Errorf("%d are in, %d wait", in, waiting)
		}
	})
}
