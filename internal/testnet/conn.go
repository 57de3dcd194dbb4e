package testnet

import (
	"io"
	"net"
	"sync"
	"time"
)

// chunk is the bytes of one read, and when they arrive on the other side.
type chunk struct {
	bytes []byte
	due   time.Time
}

// A direction of a connection holds so many chunks on their way: what a slow
// link can have in flight.
const (
	chunkBytes = 32 << 10
	inFlight   = 256
)

// conn is one connection over a link.
type conn struct {
	link     *link
	from, to net.Conn // to may be nil

	once sync.Once
	done chan struct{} // closed by kill

	mu     sync.Mutex
	budget int64 // bytes until it is lost; negative: never
}

// kill ends both sides at once, with a reset: what was on its way is lost.
func (c *conn) kill() {
	c.once.Do(func() {
		close(c.done)
		for _, side := range []net.Conn{c.from, c.to} {
			if tcp, ok := side.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
				_ = tcp.Close()
			}
		}
	})
}

// pump carries one direction to its end. The other goes on after an orderly
// end of this one, as in TCP, and ends with it after a fault.
func (c *conn) pump(to, from net.Conn) {
	flight := make(chan chunk, inFlight)
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(flight)
		c.read(flight, from)
	})
	defer reading.Wait()
	for ch := range flight {
		if d := c.link.turn(len(ch.bytes)); d > 0 {
			ch.due = later(ch.due, time.Now().Add(d))
		}
		if !c.travel(ch.due) {
			c.kill()
			return
		}
		if ch.bytes == nil { // the end, in its turn
			if tcp, ok := to.(*net.TCPConn); ok {
				_ = tcp.CloseWrite()
			}
			return
		}
		if !c.pass(len(ch.bytes)) {
			c.kill()
			return
		}
		if _, err := to.Write(ch.bytes); err != nil {
			c.kill()
			return
		}
	}
	c.kill()
}

// read puts what comes into the flight, until there is no more or the connection is killed.
func (c *conn) read(flight chan<- chunk, from net.Conn) {
	for {
		buf := make([]byte, chunkBytes)
		n, err := from.Read(buf)
		delay, _ := c.link.way()
		due := time.Now().Add(delay)
		send := func(b []byte) bool {
			select {
			case flight <- chunk{b, due}:
				return true
			case <-c.done:
				return false
			}
		}
		if n > 0 && !send(buf[:n]) {
			return
		}
		if err == io.EOF {
			send(nil)
		}
		if err != nil {
			return
		}
	}
}

// travel waits until bytes arrive: their time has come, and nothing holds them
// up. It tells whether the connection still lives.
func (c *conn) travel(due time.Time) bool {
	if d := time.Until(due); d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-c.done:
			return false
		}
	}
	for {
		_, held := c.link.way()
		if held == nil {
			select {
			case <-c.done:
				return false
			default:
				return true
			}
		}
		select {
		case <-held:
		case <-c.done:
			return false
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// pass counts bytes that have arrived. It tells whether the connection still lives.
func (c *conn) pass(n int) bool {
	l := c.link
	l.mu.Lock()
	left := l.left
	if left != nil && left.over() {
		l.mu.Unlock()
		return false // the cut is on its way
	}
	l.passed += int64(n)
	l.mu.Unlock()
	if left != nil {
		left.take(n)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.budget < 0 {
		return true
	}
	c.budget = max(0, c.budget-int64(n))
	return c.budget > 0
}
