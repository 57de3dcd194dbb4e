package gateway

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// ClientLimits bound what one client takes: an IPv4 address, or the /64 of an
// IPv6 address. The zero value bounds nothing. Clients on this machine are not
// limited; a proxy there that is not trusted is one client with all whom it speaks for.
type ClientLimits struct {
	Requests   float64 // a second on average; 0: no limit
	Burst      int     // requests that may come at once; 0: ten seconds' worth
	Bytes      int64   // of bodies, sent a second; 0: no limit
	Concurrent int     // requests at a time; 0: no limit
}

// MinClientBytes is the least ClientLimits.Bytes: with less, a page would take
// longer than a connection may stand still.
const MinClientBytes = 16 << 10

// maxClients is how many clients are told apart. Where so many are busy, what is more shares one place.
const maxClients = 1 << 16

// maxLooked is how many clients are looked at for one that can be forgotten.
const maxLooked = 32

// clients keeps count of each client.
type clients struct {
	limits ClientLimits
	max    int

	mu     sync.Mutex
	known  map[netip.Addr]*client
	others *client
}

// client is one of them. What is nil has no limit.
type client struct {
	requests *rate.Limiter
	bytes    *rate.Limiter
	open     int       // requests; guarded by clients.mu
	full     time.Time // when nothing of it need be remembered, once open is 0
}

// newClients is nil where there is no limit to keep.
func newClients(l ClientLimits) *clients {
	if l.Requests <= 0 && l.Bytes <= 0 && l.Concurrent <= 0 {
		return nil
	}
	if l.Burst <= 0 {
		l.Burst = max(1, int(10*l.Requests))
	}
	c := &clients{limits: l, max: maxClients, known: make(map[netip.Addr]*client)}
	c.others = c.fresh()
	return c
}

func (c *clients) fresh() *client {
	out := &client{}
	if c.limits.Requests > 0 {
		out.requests = rate.NewLimiter(rate.Limit(c.limits.Requests), c.limits.Burst)
	}
	if c.limits.Bytes > 0 {
		out.bytes = rate.NewLimiter(rate.Limit(c.limits.Bytes), int(c.limits.Bytes))
	}
	return out
}

// clientKey is what counts as one client.
func clientKey(a netip.Addr) netip.Addr {
	if a.Is4() {
		return a
	}
	p, _ := a.Prefix(64) // an IPv6 address has one
	return p.Addr()
}

// arrive counts a request. Where the client has had enough it is nil, with the
// time after which to try again; else depart has to follow.
func (c *clients) arrive(addr netip.Addr) (_ *client, after time.Duration) {
	key, now := clientKey(addr), time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	one := c.find(key, now)
	if c.limits.Concurrent > 0 && one.open >= c.limits.Concurrent {
		return nil, time.Second
	}
	if one.requests != nil {
		turn := one.requests.ReserveN(now, 1)
		if wait := turn.DelayFrom(now); wait > 0 {
			turn.CancelAt(now)
			return nil, wait
		}
	}
	one.open++
	one.full = now.Add(c.memory())
	return one, 0
}

func (c *clients) depart(one *client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	one.open--
}

// memory is how long it takes until a client has all its tokens back.
func (c *clients) memory() time.Duration {
	d := time.Second
	if c.limits.Requests > 0 {
		d = max(d, time.Duration(float64(c.limits.Burst)/c.limits.Requests*float64(time.Second)))
	}
	return d
}

func (c *clients) find(key netip.Addr, now time.Time) *client {
	if one := c.known[key]; one != nil {
		return one
	}
	if len(c.known) >= c.max && !c.forgetOne(now) {
		return c.others
	}
	one := c.fresh()
	c.known[key] = one
	return one
}

// forgetOne makes room by a client that asks for nothing now, best by one of which
// nothing need be remembered. Whoever has addresses enough to push others out has their tokens too.
func (c *clients) forgetOne(now time.Time) bool {
	var idle netip.Addr
	looked := 0
	for key, one := range c.known { // in no order that anybody could know
		if looked++; one.open == 0 {
			idle = key
			if now.After(one.full) {
				break
			}
		}
		if looked == maxLooked {
			break
		}
	}
	delete(c.known, idle)
	return idle.IsValid()
}

// sipWriter sends no faster than its client may receive.
type sipWriter struct {
	http.ResponseWriter
	ctx   context.Context
	bytes *rate.Limiter
}

// maxSip is how much is sent at a time, in bytes, so that a client's requests
// get on side by side.
const maxSip = 8 << 10

func (w *sipWriter) Write(p []byte) (sent int, err error) {
	for len(p) > 0 {
		sip := p[:min(len(p), maxSip)]
		if err := w.wait(len(sip)); err != nil {
			return sent, err
		}
		n, err := w.ResponseWriter.Write(sip)
		sent += n
		if err != nil {
			return sent, err
		}
		p = p[n:]
	}
	return sent, nil
}

// wait waits for the client's turn, which is not to count as its own delay.
func (w *sipWriter) wait(n int) error {
	now := time.Now()
	turn := w.bytes.ReserveN(now, n)
	d := turn.DelayFrom(now)
	if d == 0 {
		return nil
	}
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(now.Add(d + writeStall))
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-w.ctx.Done():
		turn.Cancel() // its others need not wait for what is not sent
		return context.Cause(w.ctx)
	}
}

// Unwrap is for http.ResponseController.
func (w *sipWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
