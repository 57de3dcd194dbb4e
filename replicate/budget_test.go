package replicate_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
	"github.com/holdfast-sites/holdfast/replicate"
)

func withDraining(c *replicate.ServiceConfig) {
	c.Draining = func(context.Context) (bool, error) { return true, nil }
}

func newMeter(t *testing.T, h *pinHost, budgets replicate.Traffic, sent ...func() int64) *replicate.TrafficMeter {
	t.Helper()
	m, err := replicate.NewTrafficMeter(t.Context(), replicate.TrafficConfig{Store: h.db, Budgets: budgets, Sent: sent})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// giving has the fetcher say where each block came from.
func giving(id peer.ID, bytes int64) func(context.Context, blockstore.Session, int) error {
	return func(_ context.Context, into blockstore.Session, _ int) error {
		into.(replicate.SourceWatcher).Gave(id, bytes)
		return nil
	}
}

func TestANewFetchWaitsForTomorrowWhenTheDaysBudgetIsSpent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPinHost(t)
		meter := newMeter(t, h, replicate.Traffic{Ingress: 5000})
		h.build(func(c *replicate.ServiceConfig) { c.Traffic = meter })
		somebody := namingtest.Signer(t, "p").Name().Peer()
		h.fetcher.set(func(f *copier) { f.gate = giving(somebody, 1000) })
		h.serve()
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- meter.Serve(ctx) }()
		defer func() {
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}()
		first := h.add(replicate.Pin{CID: h.site("v1", 9, 1000)})
		time.Sleep(10 * time.Second)
		if st := h.status(first); st.Status != replicate.Pinned {
			t.Fatalf("a fetch that was begun within the budget: %s %v", st.Status, st.Info)
		}
		second := h.add(replicate.Pin{CID: h.site("v2", 9, 1000)})
		here := h.add(replicate.Pin{CID: h.site("v1", 9, 1000)})
		time.Sleep(10 * time.Second)
		midnight := time.Now().UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)
		st := h.status(second)
		next, err := time.Parse(time.RFC3339, st.Info[replicate.InfoNextTry])
		if st.Status != replicate.Queued || err != nil || next.Before(midnight) || next.After(midnight.Add(time.Minute)) ||
			!strings.Contains(st.Info[replicate.InfoLastError], "budget") || !strings.Contains(st.Info[replicate.InfoLastError], midnight.Format(time.RFC3339)) {
			t.Fatalf("over the budget: %s %v", st.Status, st.Info)
		}
		if st := h.status(here); st.Status != replicate.Pinned {
			t.Errorf("what needs no fetch: %s %v", st.Status, st.Info)
		}
		time.Sleep(time.Until(midnight.Add(2 * time.Minute)))
		if st := h.status(second); st.Status != replicate.Pinned || st.Info[replicate.InfoLastError] != "" {
			t.Errorf("the next day: %s %v", st.Status, st.Info)
		}
	})
}

func TestTrafficIsCountedByTheDayAcrossProcessesAndRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPinHost(t)
		var sent atomic.Int64
		a, b := newMeter(t, h, replicate.Traffic{Egress: 1000}, sent.Load), newMeter(t, h, replicate.Traffic{})
		a.AddIngress(10)
		b.AddIngress(20)
		b.AddEgress(300)
		sent.Store(600)
		for _, m := range []*replicate.TrafficMeter{a, b, a} {
			if err := m.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		want := replicate.Traffic{Ingress: 30, Egress: 900}
		if got := a.Today(); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		if err := a.Egress(); err != nil {
			t.Errorf("within the budget: %v", err)
		}
		sent.Store(700)
		again := newMeter(t, h, replicate.Traffic{Egress: 1000}, sent.Load) // the counter begins with its process: all of it is new to this one
		spent := new(replicate.BudgetError)
		if err := again.Egress(); !errors.As(err, &spent) || !errors.Is(err, replicate.ErrBudget) || !spent.Until.After(time.Now()) {
			t.Errorf("over the budget, in the next process: %v", err)
		}
		time.Sleep(24 * time.Hour)
		if got := a.Today(); got != (replicate.Traffic{}) {
			t.Errorf("the next day: %+v", got)
		}
		var none *replicate.TrafficMeter
		none.AddIngress(1)
		if none.Ingress() != nil || none.Today() != (replicate.Traffic{}) {
			t.Error("a meter that isn't there counts")
		}
	})
}

func TestAPinSaysWhomItWasFetchedFromAndWhoFailed(t *testing.T) {
	h := newPinHost(t)
	good, bad := namingtest.Signer(t, "good").Name().Peer(), namingtest.Signer(t, "bad").Name().Peer()
	h.fetcher.set(func(f *copier) {
		f.gate = func(_ context.Context, into blockstore.Session, n int) error {
			w := into.(replicate.SourceWatcher)
			w.Gave(good, 100)
			w.Failed(bad, "not reached:\n"+strings.Repeat("x", 5000))
			return nil
		}
	})
	h.serve()
	st := h.waitStatus(h.add(replicate.Pin{CID: h.site("v1", 3, 100)}), replicate.Pinned)
	got := st.Info[replicate.InfoSources]
	if !strings.HasPrefix(got, good.String()+" 400; "+bad.String()+" 0: not reached: xxx") || len(got) > 1024 || strings.Contains(got, "\n") {
		t.Errorf("sources %q", got)
	}
	if st.Info[replicate.InfoBytesTotal] != st.Info[replicate.InfoBytesDone] {
		t.Errorf("info %v", st.Info)
	}
}

func TestAFetchThatGoesOnTellsHowMuchThereIsAndHowFastItComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPinHost(t)
		h.fetcher.set(func(f *copier) {
			f.gate = func(context.Context, blockstore.Session, int) error { time.Sleep(time.Second); return nil }
		})
		h.serve()
		root := h.site("v1", 40, 1000)
		id := h.add(replicate.Pin{CID: root})
		time.Sleep(30 * time.Second)
		st := h.status(id)
		if total := st.Info[replicate.InfoBytesTotal]; st.Status != replicate.Pinning || len(total) != 5 || total[0] != '4' {
			t.Errorf("%s %v; want about 42000 bytes in all", st.Status, st.Info)
		}
		if rate := st.Info[replicate.InfoRate]; len(rate) < 3 || len(rate) > 4 {
			t.Errorf("rate %s, want about 1000", rate)
		}
	})
}
