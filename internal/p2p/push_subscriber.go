package p2p

import (
	"context"
	"errors"

	"github.com/holdfast-sites/holdfast/naming"
)

// listen does what the peer asks, until the stream ends.
func (p *Publisher) listen(s *subscriber) error {
	r := newPushReader(s.stream)
	idle := pushWait // whoever opens a stream wants something
	for {
		msg, err := r.next(idle)
		if err != nil {
			return err
		}
		op, n, err := decodeAsk(msg)
		if err != nil {
			return err
		}
		if err := p.change(s, op, n); err != nil {
			return err
		}
		idle = 0
	}
}

// change begins or ends to watch a name.
func (p *Publisher) change(s *subscriber, op byte, n naming.Name) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.gone {
		return errReplaced
	}
	if !s.visitor.asks.allow(1) {
		return errFlood
	}
	if op == pushWatch {
		return p.watch(s, n)
	}
	if t := p.topics[n]; t != nil {
		p.unwatch(s, t)
	}
	return nil
}

// tell writes what there is to tell, until the stream ends.
func (p *Publisher) tell(ctx context.Context, s *subscriber) error {
	var buf []byte
	for {
		t, r := p.next(s)
		if t == nil {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-s.wake:
			}
			continue
		}
		if r.IsZero() {
			r = p.kept(ctx, t.name)
		}
		if !p.due(s, t, r) {
			continue
		}
		buf = appendTold(buf[:0], t.name, r.Bytes())
		if err := writePush(s.stream, buf); err != nil {
			return err
		}
	}
}

// next takes one thing off what is to be told, news first. A zero record: what is kept has to be looked up, which
// waits until the peer can take it, so that a slow one costs no memory. A nil topic: there is nothing.
func (p *Publisher) next(s *subscriber) (*topic, naming.Record) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for t, r := range s.news {
		delete(s.news, t)
		return t, r
	}
	for t := range s.asked {
		delete(s.asked, t)
		return t, naming.Record{}
	}
	return nil, naming.Record{}
}

// kept is the record that is kept of a name, or the zero record.
func (p *Publisher) kept(ctx context.Context, n naming.Name) naming.Record {
	r, err := p.best(ctx, n)
	if err != nil {
		if !errors.Is(err, naming.ErrNotFound) && ctx.Err() == nil {
			p.log.Warn("names: look up a record", "name", n, "err", err)
		}
		return naming.Record{}
	}
	return r
}

// due tells whether a record is still to be told: not when the name is watched no longer, or something newer was told.
func (p *Publisher) due(s *subscriber, t *topic, r naming.Record) bool {
	if r.IsZero() || r.Name() != t.name {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	told, ok := s.topics[t]
	if !ok || r.Sequence() < told {
		return false
	}
	s.topics[t] = r.Sequence()
	return true
}
