package replicate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Traffic is bytes that came and went.
type Traffic struct {
	Ingress int64 // came, for pins
	Egress  int64 // went to peers and readers
}

// TrafficStore counts traffic by UTC day. What was added last may be lost in a crash. Implemented by internal/state.
type TrafficStore interface {
	AddTraffic(ctx context.Context, at time.Time, more Traffic) error
	// Traffic is what was counted for the day of at.
	Traffic(ctx context.Context, at time.Time) (Traffic, error)
}

// TrafficConfig is what a TrafficMeter works with. Store is required.
type TrafficConfig struct {
	Store   TrafficStore
	Budgets Traffic        // bytes a UTC day; 0: no limit
	Sent    []func() int64 // counters of their own, which only grow and begin at 0 with the process; asked twice a minute
	Now     func() time.Time
	Log     *slog.Logger
}

// TrafficMeter counts a host's traffic by UTC day, and says when a day's budget is spent. Counting costs one
// atomic addition. A nil meter counts nothing and has no budgets. Safe for concurrent use.
type TrafficMeter struct {
	cfg     TrafficConfig
	in, out atomic.Int64 // not written down yet

	mu     sync.Mutex
	day    int64   // of today; days since 1970
	today  Traffic // as the store had it last
	polled []int64 // by counter of cfg.Sent
}

const trafficFlush = 30 * time.Second

// NewTrafficMeter begins with what the store has of today.
func NewTrafficMeter(ctx context.Context, cfg TrafficConfig) (*TrafficMeter, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	m := &TrafficMeter{cfg: cfg, polled: make([]int64, len(cfg.Sent))}
	return m, m.Flush(ctx)
}

// AddIngress counts bytes that came.
func (m *TrafficMeter) AddIngress(n int64) {
	if m != nil {
		m.in.Add(n)
	}
}

// AddEgress counts bytes that went.
func (m *TrafficMeter) AddEgress(n int64) {
	if m != nil {
		m.out.Add(n)
	}
}

// Serve writes the counts down twice a minute until ctx ends, and once more then.
func (m *TrafficMeter) Serve(ctx context.Context) error {
	if m == nil {
		return nil
	}
	t := time.NewTicker(trafficFlush)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWrites)
			defer cancel()
			return m.Flush(last)
		case <-t.C:
		}
		if err := m.Flush(ctx); err != nil && ctx.Err() == nil {
			m.cfg.Log.Error("traffic is not written down", "err", err)
		}
	}
}

// Flush writes the counts down, and learns what other processes have counted.
func (m *TrafficMeter) Flush(ctx context.Context) error {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, sent := range m.cfg.Sent {
		n := sent()
		m.out.Add(max(0, n-m.polled[i]))
		m.polled[i] = n
	}
	now := m.cfg.Now()
	more := Traffic{m.in.Load(), m.out.Load()}
	if more != (Traffic{}) {
		if err := m.cfg.Store.AddTraffic(ctx, now, more); err != nil {
			return err
		}
		m.in.Add(-more.Ingress)
		m.out.Add(-more.Egress)
	}
	today, err := m.cfg.Store.Traffic(ctx, now)
	if err == nil {
		m.day, m.today = utcDay(now), today
	}
	return err
}

func utcDay(t time.Time) int64 { return t.Unix() / int64(24*time.Hour/time.Second) }

// Today is the traffic of this UTC day so far.
func (m *TrafficMeter) Today() Traffic {
	if m == nil {
		return Traffic{}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	out := Traffic{m.in.Load(), m.out.Load()}
	if m.day == utcDay(m.cfg.Now()) {
		out.Ingress += m.today.Ingress
		out.Egress += m.today.Egress
	}
	return out
}

// Budgets is what a day may take; 0 is no limit.
func (m *TrafficMeter) Budgets() Traffic {
	if m == nil {
		return Traffic{}
	}
	return m.cfg.Budgets
}

// Ingress is a *BudgetError where today's budget for what comes is spent.
func (m *TrafficMeter) Ingress() error {
	return m.spent("ingress", m.Budgets().Ingress, m.Today().Ingress)
}

// Egress is a *BudgetError where today's budget for what goes is spent.
func (m *TrafficMeter) Egress() error { return m.spent("egress", m.Budgets().Egress, m.Today().Egress) }

func (m *TrafficMeter) spent(what string, budget, used int64) error {
	if budget <= 0 || used < budget {
		return nil
	}
	return &BudgetError{What: what, Budget: budget, Until: m.cfg.Now().UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)}
}

// ErrBudget says that a day's budget is spent.
var ErrBudget = errors.New("the budget of today is spent")

// BudgetError says which budget is spent, and until when. It is an ErrBudget.
type BudgetError struct {
	What   string // "ingress" or "egress"
	Budget int64  // bytes a UTC day
	Until  time.Time
}

func (e *BudgetError) Error() string {
	return fmt.Sprintf("%v: this host takes %d bytes of %s a day; it goes on at %s", ErrBudget, e.Budget, e.What, e.Until.Format(time.RFC3339))
}

// Unwrap is ErrBudget.
func (e *BudgetError) Unwrap() error { return ErrBudget }
