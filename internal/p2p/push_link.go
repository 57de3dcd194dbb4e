package p2p

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/holdfast-sites/holdfast/naming"
)

// How a link behaves. What it asks stays within what a Publisher allows.
const (
	linkAsks, linkAsksRate = 2 * maxPushNames, 128 // names asked for at once, and then each second
	linkNews, linkNewsRate = 2 * maxPushNames, 128 // records taken at once, and then each second
	linkSteady             = time.Minute           // a stream that lasted so long was a good one
	linkPatience           = 3                     // failures in a row of a peer that was there before
	askBatch               = 64                    // names asked for in one write
)

// A connection that carries names outlives one that carries nothing when there are too many.
const linkTag, linkWeight = "names", 20

// wish is how far a watched name has come at a peer.
type wish uint8

const (
	toAsk wish = iota
	asked
	heard // and the last record was accepted
)

// link is a peer at which names are, or may be, watched. All below retry is guarded by the Watcher's mu.
type link struct {
	id    peer.ID
	wake  chan struct{} // tells its goroutine that names has changed
	retry chan struct{} // tells it that the peer is reachable
	asks  budget        // of its goroutine

	addrs    []ma.Multiaddr
	held     int // names that may be watched here
	names    map[naming.Name]wish
	fresh    map[naming.Name]struct{} // to be asked for; while up
	gone     map[naming.Name]struct{} // to be asked for no longer; while up
	running  bool                     // it has a goroutine
	up       bool                     // it has a stream
	met      bool                     // it had one
	failures int                      // in a row
	next     time.Time                // when to try again
}

func newLink(id peer.ID) *link {
	return &link{
		id: id, wake: make(chan struct{}, 1), retry: make(chan struct{}, 1),
		asks: budget{size: linkAsks, rate: linkAsksRate}, names: map[naming.Name]wish{},
	}
}

// away tells that others are to be preferred. It is called with mu held.
func (l *link) away() bool {
	return !l.up && (l.failures >= linkPatience || l.failures > 0 && !l.met)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// attach is called with mu held.
func (w *Watcher) attach(l *link, n naming.Name) {
	if len(l.names) == 0 {
		w.active++
	}
	l.names[n] = toAsk
	if l.up {
		if _, told := l.gone[n]; told {
			delete(l.gone, n)
			l.names[n] = asked
		}
		l.fresh[n] = struct{}{}
	}
	signal(l.wake)
	if !l.running {
		signal(w.more)
	}
}

// detach is called with mu held.
func (w *Watcher) detach(l *link, n naming.Name) {
	if l.up {
		delete(l.fresh, n)
		if l.names[n] != toAsk {
			l.gone[n] = struct{}{}
		}
	}
	delete(l.names, n)
	if len(l.names) == 0 {
		w.active--
	}
	signal(l.wake)
}

// run keeps a stream to the peer as long as a name is watched there.
func (w *Watcher) run(ctx context.Context, l *link) {
	for {
		info, wait, ok := w.wanted(ctx, l)
		switch {
		case !ok:
			return
		case wait > 0:
			w.pause(ctx, l, wait)
			continue
		}
		lasted, err := w.session(ctx, l, info)
		if err != nil && ctx.Err() == nil {
			w.failed(l, lasted)
			w.log.Debug("names: peer lost", "peer", l.id, "err", err)
		}
	}
}

// wanted tells whom to reach and when. ok is false when there is nothing to do: then the link runs no longer.
func (w *Watcher) wanted(ctx context.Context, l *link) (info peer.AddrInfo, wait time.Duration, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l.running = len(l.names) > 0 && ctx.Err() == nil
	return peer.AddrInfo{ID: l.id, Addrs: l.addrs}, time.Until(l.next), l.running
}

// failed notes a failure, and watches elsewhere what the peer is too long away for.
func (w *Watcher) failed(l *link, lasted time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if lasted >= linkSteady {
		l.failures = 0
	}
	l.failures++
	d := backoff(l.failures)
	l.next = time.Now().Add(d/2 + rand.N(d))
	select {
	case <-l.retry: // from before
	default:
	}
	if l.away() {
		w.moveAway(l)
	}
}

// backoff is how long to wait after so many failures in a row.
func backoff(failures int) time.Duration {
	return min(retryMin<<min(failures-1, 16), retryMax)
}

// pause waits until it is time to try, the peer turns up by itself, or the names change.
func (w *Watcher) pause(ctx context.Context, l *link, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-l.wake:
	case <-l.retry:
		w.mu.Lock()
		l.next = time.Time{}
		w.mu.Unlock()
	}
}

// session is one stream, until it ends or no names are left. lasted is how long it was open.
func (w *Watcher) session(ctx context.Context, l *link, info peer.AddrInfo) (lasted time.Duration, err error) {
	s, err := w.open(ctx, info)
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer s.Reset()
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	defer stop()
	w.begin(l)
	defer w.end(l)
	listened := make(chan struct{})
	go func() {
		defer close(listened)
		cancel(fmt.Errorf("listen: %w", w.listen(ctx, l, s)))
	}()
	err = w.ask(ctx, l, s)
	cause := context.Cause(ctx)
	s.Reset()
	cancel(nil)
	<-listened
	if errors.Is(err, context.Canceled) {
		err = cause
	}
	return time.Since(begun), err
}

// begin makes all names of the link be asked for.
func (w *Watcher) begin(l *link) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l.up, l.met = true, true
	if w.node != nil {
		w.node.host.ConnManager().TagPeer(l.id, linkTag, linkWeight)
	}
	l.fresh, l.gone = map[naming.Name]struct{}{}, map[naming.Name]struct{}{}
	for n := range l.names {
		l.fresh[n] = struct{}{}
	}
}

func (w *Watcher) end(l *link) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l.up, l.fresh, l.gone = false, nil, nil
	if w.node != nil {
		w.node.host.ConnManager().UntagPeer(l.id, linkTag)
	}
	for n := range l.names {
		l.names[n] = toAsk
	}
}

// ask tells the peer what is watched, as that changes. nil when no names are left.
func (w *Watcher) ask(ctx context.Context, l *link, s pushStream) error {
	var buf []byte
	for {
		buf = buf[:0]
		n, left := w.asksOf(l, &buf)
		switch {
		case !left:
			return nil
		case n == 0:
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-l.wake:
			}
			continue
		}
		sleep(ctx, l.asks.pace(n))
		if err := writePush(s, buf); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return err
		}
	}
}

// asksOf appends what is to be asked next, and counts it. What is watched no longer comes first, so that the peer never
// has more than it takes. left is false when the link has no names.
func (w *Watcher) asksOf(l *link, buf *[]byte) (count int, left bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for n := range l.gone {
		if count == askBatch {
			break
		}
		delete(l.gone, n)
		*buf = appendAsk(*buf, pushUnwatch, n)
		count++
	}
	for n := range l.fresh {
		if count == askBatch {
			break
		}
		delete(l.fresh, n)
		l.names[n] = asked
		*buf = appendAsk(*buf, pushWatch, n)
		count++
	}
	return count, len(l.names) > 0
}

// listen hands on what the peer tells. It takes no more than a peer has to tell that means well: one that has more waits.
func (w *Watcher) listen(ctx context.Context, l *link, s pushStream) error {
	r := newPushReader(s)
	news := budget{size: linkNews, rate: linkNewsRate}
	for {
		msg, err := r.next(0)
		if err != nil {
			return err
		}
		n, record, err := decodeTold(msg)
		if err != nil {
			return err
		}
		sleep(ctx, news.pace(1))
		if len(record) > naming.MaxRecordSize || !w.asked(l, n) {
			continue
		}
		err = w.found(ctx, n, record)
		w.heard(l, n, err == nil)
		if err != nil && ctx.Err() == nil {
			w.log.Debug("names: record refused", "peer", l.id, "name", n, "err", err)
			if errors.Is(err, naming.ErrInvalidRecord) && !errors.Is(err, naming.ErrExpired) {
				return err
			}
		}
	}
}

// asked tells whether the peer was asked for the name.
func (w *Watcher) asked(l *link, n naming.Name) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return l.names[n] >= asked
}

// heard notes whether the last that the peer told of a name was accepted.
func (w *Watcher) heard(l *link, n naming.Name, accepted bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l.names[n] < asked {
		return
	}
	l.names[n] = asked
	if accepted {
		l.names[n] = heard
	}
}
