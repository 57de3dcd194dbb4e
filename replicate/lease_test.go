package replicate_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/naming/namingtest"
	"github.com/holdfast-sites/holdfast/replicate"
)

// slowToEnd holds a job up when it has given its row back, once, until the row
// was leased again.
type slowToEnd struct {
	replicate.PinStore
	service func() *replicate.Service

	once   sync.Once
	mu     sync.Mutex
	armed  bool
	leased bool
	idle   chan struct{} // closed when the loop, having leased the row, has nothing more to do
}

func (p *slowToEnd) LeaseNext(ctx context.Context, w replicate.Work, l replicate.Lease) (replicate.PinRow, error) {
	row, err := p.PinStore.LeaseNext(ctx, w, l)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil && p.armed {
		p.armed, p.leased = false, true
	}
	return row, err
}

func (p *slowToEnd) NextDue(ctx context.Context, w replicate.Work) (time.Time, error) {
	p.mu.Lock()
	if p.leased && w == replicate.WorkStanding {
		p.leased = false
		time.AfterFunc(20*time.Millisecond, func() { close(p.idle) }) // for the goroutine that got the row
	}
	p.mu.Unlock()
	return p.PinStore.NextDue(ctx, w)
}

func (p *slowToEnd) SavePin(ctx context.Context, row replicate.PinRow, by string, giveBack bool) error {
	if !giveBack || row.Status != replicate.Pinned {
		return p.PinStore.SavePin(ctx, row, by, giveBack)
	}
	first := false
	p.once.Do(func() { first = true })
	p.mu.Lock()
	p.armed = first
	p.mu.Unlock()
	err := p.PinStore.SavePin(ctx, row, by, giveBack)
	if first && err == nil {
		terms, _ := row.Pin.Terms()
		p.service().FollowNow(terms.Follow)
		<-p.idle
	}
	return err
}

// A record that comes while a job ends must not leave the row in nobody's hands
// until the lease runs out.
func TestRecordThatComesWhileAJobEndsIsFollowedAtOnce(t *testing.T) {
	store := &slowToEnd{idle: make(chan struct{})}
	h := newPinHost(t, func(c *replicate.ServiceConfig) { store.PinStore, c.Pins = c.Pins, store })
	store.service = func() *replicate.Service { return h.service }
	h.serve()
	s := namingtest.Signer(t, "site")
	first, second := h.folder(map[string]string{"a": "1"}), h.folder(map[string]string{"a": "2"})
	id := h.add(namePin(s, first))
	h.publish(s, toRoot(first, 1))
	h.wait(id, "the first record", at(first, 1))
	h.publish(s, toRoot(second, 2))
	h.wait(id, "the second record", at(second, 2))
}
