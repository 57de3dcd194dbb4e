package p2p

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/naming"
)

// What one peer may ask of a Publisher, over all of its streams: a full stream three times in a row, and then a
// change every 4 ms. To open a stream costs as much as some names do.
const (
	asksAtOnce = 3 * maxPushNames
	asksRate   = 256 // a second
	openCost   = 32
)

var (
	errFlood    = errors.New("asks too much in too short a time")
	errTooMany  = errors.New("too many names are watched")
	errReplaced = errors.New("the peer has opened another stream")
)

// PublisherConfig says what a Publisher knows. Its zero value works.
type PublisherConfig struct {
	// Best is the record kept for a name, which a peer is told when it begins to watch the name. ErrNotFound where
	// there is none. It is called concurrently. nil: peers are told only what is announced.
	Best func(context.Context, naming.Name) (naming.Record, error)
}

// Publisher tells peers of new records of the names that they watch. A node has at most one that is served. It keeps
// nothing of names that nobody watches. Its methods may be called concurrently.
type Publisher struct {
	best func(context.Context, naming.Name) (naming.Record, error)
	host host.Host // nil when Offline
	log  *slog.Logger

	mu       sync.Mutex
	serving  bool
	handlers sync.WaitGroup // Add is called with mu held, while serving
	topics   map[naming.Name]*topic
	visitors map[peer.ID]*visitor
	streams  int // visitors that have one
	watches  int // names over all streams
}

// topic is a name that somebody watches.
type topic struct {
	name     naming.Name
	watchers []*subscriber
}

// visitor is a peer that watches, or has watched so much of late that it is remembered.
type visitor struct {
	stream *subscriber // nil: it is gone
	asks   budget
}

// subscriber is one stream. Its fields below cancel are guarded by the Publisher's mu.
type subscriber struct {
	visitor *visitor
	stream  pushStream
	wake    chan struct{} // tells the writer that there is something to tell
	cancel  context.CancelCauseFunc

	gone   bool
	topics map[*topic]uint64        // what it watches, and the highest sequence that it was told
	news   map[*topic]naming.Record // the newest that was announced and not told yet
	asked  map[*topic]struct{}      // what is to be looked up
}

// NewPublisher makes a Publisher of this node.
func (n *Node) NewPublisher(cfg PublisherConfig) *Publisher {
	p := newPublisher(cfg, n.log)
	p.host = n.host
	return p
}

func newPublisher(cfg PublisherConfig, log *slog.Logger) *Publisher {
	if cfg.Best == nil {
		cfg.Best = func(context.Context, naming.Name) (naming.Record, error) { return naming.Record{}, naming.ErrNotFound }
	}
	return &Publisher{best: cfg.Best, log: log, topics: map[naming.Name]*topic{}, visitors: map[peer.ID]*visitor{}}
}

// Serve answers peers until ctx ends; then it ends their streams and returns nil. Where the network is Offline there
// are none.
func (p *Publisher) Serve(ctx context.Context) error {
	p.mu.Lock()
	p.serving = true
	p.mu.Unlock()
	if p.host != nil {
		p.host.SetStreamHandler(NamesProtocol, func(s network.Stream) { p.handle(ctx, s.Conn().RemotePeer(), s) })
	}
	<-ctx.Done()
	if p.host != nil {
		p.host.RemoveStreamHandler(NamesProtocol)
	}
	p.mu.Lock()
	p.serving = false
	clear(p.visitors)
	p.mu.Unlock()
	p.handlers.Wait()
	return nil
}

// Announce tells everybody who watches the record's name, as soon as each can take it. It never waits. Of several
// records that a slow peer has not taken yet, it gets the best.
func (p *Publisher) Announce(r naming.Record) {
	if r.IsZero() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.topics[r.Name()]
	if t == nil {
		return
	}
	for _, s := range t.watchers {
		if r.Compare(s.news[t]) > 0 {
			s.news[t] = r
			s.poke()
		}
	}
}

// Watchers is how many peers watch here, and how many names they do, one that two watch counted twice.
func (p *Publisher) Watchers() (peers, names int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.streams, p.watches
}

// handle serves one stream.
func (p *Publisher) handle(ctx context.Context, id peer.ID, stream pushStream) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &subscriber{
		stream: stream, wake: make(chan struct{}, 1), cancel: cancel,
		topics: map[*topic]uint64{}, news: map[*topic]naming.Record{}, asked: map[*topic]struct{}{},
	}
	if err := p.enter(id, s); err != nil {
		stream.Reset()
		p.log.Debug("names: peer refused", "peer", id, "err", err)
		return
	}
	defer p.handlers.Done()
	stop := context.AfterFunc(ctx, func() { stream.Reset() })
	defer stop()
	var writer sync.WaitGroup
	writer.Go(func() { cancel(p.tell(ctx, s)) })
	cancel(p.listen(s))
	p.leave(s)
	stream.Reset()
	writer.Wait()
	p.log.Debug("names: stream ended", "peer", id, "err", context.Cause(ctx))
}

// enter admits a stream, in place of another that the peer may have. The caller owes a handlers.Done where it succeeds.
func (p *Publisher) enter(id peer.ID, s *subscriber) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.serving {
		return context.Canceled
	}
	v := p.visitors[id]
	if (v == nil || v.stream == nil) && p.streams >= maxPushPeers {
		return fmt.Errorf("%d peers watch already", p.streams)
	}
	if v == nil {
		if p.forget(); len(p.visitors) >= 2*maxPushPeers {
			return fmt.Errorf("%d peers are remembered already", len(p.visitors))
		}
		v = &visitor{asks: budget{size: asksAtOnce, rate: asksRate}}
		p.visitors[id] = v
	}
	if !v.asks.allow(openCost) {
		return errFlood
	}
	if v.stream != nil {
		old := v.stream
		old.cancel(errReplaced)
		p.drop(old)
	}
	s.visitor, v.stream = v, s
	p.streams++
	p.handlers.Add(1)
	return nil
}

// forget lets go of visitors that are gone and owe nothing. It is called with mu held.
func (p *Publisher) forget() {
	for id, v := range p.visitors {
		if v.stream == nil && v.asks.usedNow() == 0 {
			delete(p.visitors, id)
		}
	}
}

func (p *Publisher) leave(s *subscriber) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(s)
}

// drop takes away all that a stream had. It is called with mu held, and may be called again.
func (p *Publisher) drop(s *subscriber) {
	if s.gone {
		return
	}
	s.gone = true
	for t := range s.topics {
		p.unwatch(s, t)
	}
	s.visitor.stream = nil
	p.streams--
}

// watch is called with mu held.
func (p *Publisher) watch(s *subscriber, n naming.Name) error {
	t := p.topics[n]
	if t == nil {
		t = &topic{name: n}
	}
	if _, again := s.topics[t]; !again {
		if len(s.topics) >= maxPushNames || p.watches >= maxPushWatches {
			return errTooMany
		}
		p.topics[n] = t
		t.watchers = append(t.watchers, s)
		s.topics[t] = 0
		p.watches++
	}
	s.asked[t] = struct{}{}
	s.poke()
	return nil
}

// unwatch is called with mu held.
func (p *Publisher) unwatch(s *subscriber, t *topic) {
	if _, ok := s.topics[t]; !ok {
		return
	}
	delete(s.topics, t)
	delete(s.news, t)
	delete(s.asked, t)
	p.watches--
	i := slices.Index(t.watchers, s)
	t.watchers = slices.Delete(t.watchers, i, i+1)
	if len(t.watchers) == 0 {
		delete(p.topics, t.name)
	}
}

func (s *subscriber) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
