package p2p

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/naming"
)

// pipeNet is holders of names that a Watcher reaches over pipes.
type pipeNet struct {
	mu       sync.Mutex
	holders  map[peer.ID]*holder
	attempts map[peer.ID]int
}

// holder is a Publisher that can be switched off and on.
type holder struct {
	*Publisher
	records naming.Records
	ctx     context.Context // of its Serve
	stop    func()
}

func newPipeNet() *pipeNet {
	return &pipeNet{holders: map[peer.ID]*holder{}, attempts: map[peer.ID]int{}}
}

// start brings a holder up, with what it kept when it was up before.
func (p *pipeNet) start(t *testing.T, id peer.ID) *holder {
	t.Helper()
	h := &holder{records: naming.NewMemoryRecords()}
	if old := p.holders[id]; old != nil { // only tests write it
		h.records = old.records
	}
	h.Publisher = newPublisher(PublisherConfig{Best: h.records.Best}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	h.ctx = ctx
	done := make(chan struct{})
	go func() { defer close(done); h.Serve(ctx) }()
	synctest.Wait()
	h.stop = sync.OnceFunc(func() {
		cancel()
		<-done
		h.leavesNothing(t)
	})
	t.Cleanup(h.stop)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holders[id] = h
	return h
}

func (p *pipeNet) open(ctx context.Context, ai peer.AddrInfo) (pushStream, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.attempts[ai.ID]++
	h := p.holders[ai.ID]
	if h == nil || !h.isServing() {
		return nil, errors.New("unreachable")
	}
	ours, theirs := newPipe()
	go h.handle(h.ctx, "watcher", theirs)
	return ours, nil
}

// tries is how often a holder was tried to be reached.
func (p *pipeNet) tries(id peer.ID) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.attempts[id]
}

func (p *Publisher) isServing() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.serving
}

// publish keeps and announces a record.
func (h *holder) publish(t *testing.T, r naming.Record) {
	t.Helper()
	if err := h.records.Accept(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	h.Announce(r)
}

// keeper is where a Watcher puts what it hears.
type keeper struct {
	records naming.Records
	mu      sync.Mutex
	calls   int
}

func newKeeper() *keeper { return &keeper{records: naming.NewMemoryRecords()} }

func (k *keeper) found(ctx context.Context, n naming.Name, raw []byte) error {
	k.mu.Lock()
	k.calls++
	k.mu.Unlock()
	r, err := naming.OpenRecord(n, raw, time.Now())
	if err != nil {
		return err
	}
	return k.records.Accept(ctx, r)
}

func (k *keeper) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.calls
}

// sequence is that of the best record of a name, 0 where there is none.
func (k *keeper) sequence(n naming.Name) uint64 {
	r, err := k.records.Best(context.Background(), n)
	if err != nil {
		return 0
	}
	return r.Sequence()
}

func serveWatcher(t *testing.T, k *keeper, open func(context.Context, peer.AddrInfo) (pushStream, error)) *Watcher {
	t.Helper()
	w := newWatcher(WatcherConfig{Found: k.found}, slog.New(slog.DiscardHandler))
	w.open, w.connected = open, func(peer.ID) bool { return false }
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, l := range w.links {
			if l.up || l.running {
				t.Errorf("%s: up %t, running %t", l.id, l.up, l.running)
			}
		}
	})
	return w
}

// leavesNothing checks that nothing is kept of names that are watched no longer.
func (w *Watcher) leavesNothing(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.names) != 0 || w.recent.Len() != 0 || len(w.links) != 0 || w.active != 0 {
		t.Errorf("left: %d names, %d peers, %d active", len(w.names), len(w.links), w.active)
	}
}

// at is the peers at which a name is watched.
func (w *Watcher) at(n naming.Name) (ids []peer.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.names[n].Value.(*watched).at {
		ids = append(ids, l.id)
	}
	slices.Sort(ids)
	return ids
}

func ids(names ...string) (infos []peer.AddrInfo) {
	for _, n := range names {
		infos = append(infos, peer.AddrInfo{ID: peer.ID(n)})
	}
	return infos
}
