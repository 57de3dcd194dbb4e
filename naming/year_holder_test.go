package naming_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
)

const (
	day = 24 * time.Hour
	// dhtForgets is how long a DHT node keeps what nobody puts again.
	dhtForgets = 48 * time.Hour
)

// forgetful is routing with the DHT's rules: only valid records, the better one wins, and what was not put for 48 hours
// is gone.
type forgetful struct {
	mu    sync.Mutex
	held  map[naming.Name]naming.Record
	since map[naming.Name]time.Time // of the last put
}

func newForgetful() *forgetful {
	return &forgetful{held: map[naming.Name]naming.Record{}, since: map[naming.Name]time.Time{}}
}

func (f *forgetful) String() string { return "routing" }

// record is what is held now; mu is held.
func (f *forgetful) record(n naming.Name) naming.Record {
	if r, ok := f.held[n]; ok && time.Since(f.since[n]) <= dhtForgets && !r.Expired(time.Now()) {
		return r
	}
	return naming.Record{}
}

func (f *forgetful) Fetch(_ context.Context, n naming.Name) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r := f.record(n); !r.IsZero() {
		return r.Bytes(), nil
	}
	return nil, naming.ErrNotFound
}

func (f *forgetful) Put(_ context.Context, r naming.Record) error {
	if r.Expired(time.Now()) {
		return naming.ErrExpired
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if held := f.record(r.Name()); r.Compare(held) < 0 {
		return &naming.OlderError{Name: r.Name(), Offered: r.Sequence(), Floor: held.Sequence()}
	}
	f.held[r.Name()], f.since[r.Name()] = r, time.Now()
	return nil
}

// holder is a host that keeps one name alive as internal/node does: it asks others for a better record once after each
// start, puts the best one into routing and to the other holders, and tells them on when it gets one.
type holder struct {
	t       *testing.T
	name    naming.Name
	label   string
	routing *forgetful
	others  func() []*holder

	mu    sync.Mutex
	up    *uptime // nil while it is away
	tried []naming.Put
}

// uptime is a holder from a start to its end. Its records outlive it.
type uptime struct {
	records  naming.Records
	now      func() time.Time
	resolver *naming.Resolver
	relay    *naming.Relay
	end      func()
}

func (h *holder) String() string { return "holder " + h.label }

func (h *holder) running() (*uptime, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.up == nil {
		return nil, errDown
	}
	return h.up, nil
}

// Fetch is its /routing/v1: what it keeps, as long as that lives.
func (h *holder) Fetch(ctx context.Context, n naming.Name) ([]byte, error) {
	up, err := h.running()
	if err != nil {
		return nil, err
	}
	rec, err := up.records.Best(ctx, n)
	switch {
	case err != nil:
		return nil, err
	case rec.Expired(up.now()):
		return nil, naming.ErrNotFound
	}
	return rec.Bytes(), nil
}

// Put is its /routing/v1 too.
func (h *holder) Put(ctx context.Context, r naming.Record) error {
	up, err := h.running()
	if err != nil {
		return err
	}
	if r.Expired(up.now()) {
		return naming.ErrExpired
	}
	before, err := up.records.Best(ctx, r.Name())
	if err != nil {
		return err
	}
	if err := up.records.Accept(ctx, r); err != nil {
		return err
	}
	if r.Compare(before) != 0 {
		up.resolver.Accepted(r)
		up.relay.Kick(r.Name())
	}
	return nil
}

// places is routing and the other holders.
func places[T any](h *holder) []T {
	out := []T{any(h.routing).(T)}
	for _, o := range h.others() {
		out = append(out, any(o).(T))
	}
	return out
}

// start starts the holder on records, with a clock that is so far ahead.
func (h *holder) start(records naming.Records, ahead time.Duration) {
	up := &uptime{records: records, now: func() time.Time { return time.Now().Add(ahead) }}
	up.resolver = naming.NewResolver(naming.ResolverConfig{
		Records: records, Now: up.now, Sources: func(naming.Name) []naming.Source { return places[naming.Source](h) },
	})
	var confirmed sync.Once
	up.relay = naming.NewRelay(naming.RelayConfig{
		Names: keptAlive(h.name), Records: records, Now: up.now,
		Confirm: func(ctx context.Context, n naming.Name) {
			confirmed.Do(func() { _, _, _ = up.resolver.ResolveFresh(ctx, n) })
		},
		Sinks: func(naming.Name) []naming.Sink { return places[naming.Sink](h) },
		OnPut: func(p naming.Put) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.tried = append(h.tried, p)
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() { _ = up.relay.Serve(ctx) })
	up.end = func() {
		cancel()
		serving.Wait()
		up.resolver.Close()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.up = up
}

// stop ends it, where it runs, and gives what it has kept.
func (h *holder) stop() naming.Records {
	h.mu.Lock()
	up := h.up
	h.up = nil
	h.mu.Unlock()
	if up == nil {
		return nil
	}
	up.end()
	return up.records
}

// best is what the holder keeps.
func (h *holder) best() (naming.Record, error) {
	up, err := h.running()
	if err != nil {
		return naming.Record{}, err
	}
	return up.records.Best(h.t.Context(), h.name)
}

// resolve is what the holder itself finds, and the time by its clock.
func (h *holder) resolve() (rec naming.Record, now time.Time, err error) {
	up, err := h.running()
	if err != nil {
		return naming.Record{}, time.Now(), err
	}
	res, err := up.resolver.Resolve(h.t.Context(), h.name)
	return res.Record, up.now(), err
}

// puts is what it has handed on or tried to since it was asked last.
func (h *holder) puts() []naming.Put {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.tried
	h.tried = nil
	return out
}
