package gateway

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
)

// errBusy says that too many wait already.
var errBusy = errors.New("too many requests at once")

// gate lets so many in at a time. Those that have to wait are let in client by
// client in turn: one client's thousand requests are no more in the way of
// another's than one of them would be.
type gate struct {
	size int // how many places there are

	mu      sync.Mutex
	free    int
	queue   int // how many may wait
	waiting int
	lines   []*line // of clients that wait; the first is next
}

// line is what waits of one client, the oldest first.
type line struct {
	client  netip.Addr
	waiters []chan error // each gets one answer: nil or errBusy
}

func newGate(size, queue int) *gate { return &gate{size: size, free: size, queue: queue} }

// enter waits for a place until ctx ends. errBusy where too many wait: of those
// the client with the most loses its newest, which may be the one that asks.
func (g *gate) enter(ctx context.Context, client netip.Addr) error {
	if g.tryEnter() {
		return nil
	}
	g.mu.Lock()
	if g.free > 0 { // a place has come free just now
		g.free--
		g.mu.Unlock()
		return nil
	}
	l := g.line(client)
	if g.waiting >= g.queue && !g.makeRoom(len(l.waiters)) {
		g.drop(l)
		g.mu.Unlock()
		return errBusy
	}
	answer := make(chan error, 1)
	l.waiters = append(l.waiters, answer)
	g.waiting++
	g.mu.Unlock()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return g.giveUp(ctx, l, answer)
	}
}

// tryEnter takes a place if one is free; then nobody waits for it.
func (g *gate) tryEnter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.free == 0 {
		return false
	}
	g.free--
	return true
}

// state is how many are in, and how many wait.
func (g *gate) state() (in, waiting int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.size - g.free, g.waiting
}

// leave gives a place to whoever is next.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting == 0 {
		g.free++
		return
	}
	l := g.lines[0]
	g.lines = append(g.lines[1:], l) // the others before its next one
	answer := l.waiters[0]
	l.waiters = l.waiters[1:]
	g.waiting--
	g.drop(l)
	answer <- nil
}

func (g *gate) giveUp(ctx context.Context, l *line, answer chan error) error {
	g.mu.Lock()
	if i := slices.Index(l.waiters, answer); i >= 0 {
		l.waiters = slices.Delete(l.waiters, i, i+1)
		g.waiting--
		g.drop(l)
		g.mu.Unlock()
		return context.Cause(ctx)
	}
	g.mu.Unlock()
	if err := <-answer; err != nil {
		return err
	}
	g.leave()
	return context.Cause(ctx)
}

// line is the client's, at the end where it is new.
func (g *gate) line(client netip.Addr) *line {
	for _, l := range g.lines {
		if l.client == client {
			return l
		}
	}
	l := &line{client: client}
	g.lines = append(g.lines, l)
	return l
}

// drop forgets a line in which nobody stands.
func (g *gate) drop(l *line) {
	if len(l.waiters) == 0 {
		g.lines = slices.DeleteFunc(g.lines, func(x *line) bool { return x == l })
	}
}

// makeRoom turns away the newest of the longest line, if that is longer than
// what the client who asks would come to.
func (g *gate) makeRoom(waitingOfClient int) bool {
	longest := slices.MaxFunc(g.lines, func(a, b *line) int { return len(a.waiters) - len(b.waiters) })
	if len(longest.waiters) <= waitingOfClient+1 {
		return false
	}
	last := len(longest.waiters) - 1
	longest.waiters[last] <- errBusy
	longest.waiters = longest.waiters[:last]
	g.waiting--
	g.drop(longest)
	return true
}
