package gateway

import (
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// net/http keeps a goroutine with 8 KB of stack and as much in buffers for each connection, whether it asks anything or not. One that has
// asked nothing for a while waits in the lobby instead, where it takes a third of that: net/http is told that it is over, and gets it as a
// new one when it asks again.

// patience is for how long connections that ask nothing are kept, and where.
type patience struct {
	inside time.Duration // by net/http
	lobby  time.Duration // in the lobby, after that
}

// lobby is a listener whose connections come from the one below it, and again from their rest. Safe for concurrent use.
type lobby struct {
	below    net.Listener
	patience patience
	arrivals chan arrival
	closed   chan struct{}

	mu      sync.Mutex
	resting map[*net.TCPConn]struct{} // nil: closed
	group   sync.WaitGroup            // the one who admits, and those who rest
}

type arrival struct {
	conn net.Conn
	err  error
}

// newLobby takes ln over.
func newLobby(ln net.Listener, p patience) *lobby {
	l := &lobby{below: ln, patience: p, arrivals: make(chan arrival), closed: make(chan struct{}), resting: map[*net.TCPConn]struct{}{}}
	l.group.Go(l.admit)
	return l
}

// serve has srv serve the connections of the lobby, and let go of those that ask nothing. It closes the lobby.
func (l *lobby) serve(srv *http.Server) error {
	srv.ConnState, srv.IdleTimeout = noteIdle, l.patience.inside
	return srv.Serve(l)
}

// admit waits for connections until the lobby closes. How often a listener that
// fails is asked again is for whoever accepts to say.
func (l *lobby) admit() {
	for {
		conn, err := l.below.Accept()
		if tcp, ok := conn.(*net.TCPConn); ok {
			conn = &jointConn{TCPConn: tcp, lobby: l}
		}
		if !l.arrive(arrival{conn, err}) {
			return
		}
	}
}

// arrive hands a to whoever accepts. False: the lobby is closed, and so is the connection.
func (l *lobby) arrive(a arrival) bool {
	select {
	case l.arrivals <- a:
		return true
	case <-l.closed:
		if a.conn != nil {
			_ = a.conn.Close()
		}
		return false
	}
}

// Accept implements net.Listener.
func (l *lobby) Accept() (net.Conn, error) {
	select {
	case a := <-l.arrivals:
		return a.conn, a.err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Addr implements net.Listener.
func (l *lobby) Addr() net.Addr { return l.below.Addr() }

// Close implements net.Listener. It closes the connections that rest, too.
func (l *lobby) Close() error {
	l.mu.Lock()
	resting := l.resting
	l.resting = nil
	if resting == nil {
		l.mu.Unlock()
		return nil
	}
	close(l.closed)
	for c := range resting {
		_ = c.Close()
	}
	l.mu.Unlock()
	err := l.below.Close()
	l.group.Wait()
	return err
}

// rest keeps c, which it takes over, until it asks something, its time is over or the lobby closes.
func (l *lobby) rest(c *net.TCPConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.resting == nil || c.SetReadDeadline(time.Now().Add(l.patience.lobby)) != nil {
		_ = c.Close()
		return
	}
	l.resting[c] = struct{}{}
	l.group.Add(1)
	go l.await(c)
}

// await reads the first byte of c's next request.
func (l *lobby) await(c *net.TCPConn) {
	defer l.group.Done()
	var first [1]byte
	n, _ := c.Read(first[:])
	l.mu.Lock()
	delete(l.resting, c)
	l.mu.Unlock()
	if n == 0 {
		_ = c.Close()
		return
	}
	l.arrive(arrival{conn: &jointConn{TCPConn: c, lobby: l, first: first[0], woken: true}})
}

// An idle connection is between two requests: net/http says so, sets a deadline, reads, and sets another when the next request has begun.
const (
	atWork  int32 = iota
	between       // net/http has said so
	idle          // and has set the deadline
	atRest        // it is in the lobby: whatever is done here is done to nothing
)

// noteIdle is http.Server's ConnState.
func noteIdle(conn net.Conn, s http.ConnState) {
	if c, ok := conn.(*jointConn); ok && s == http.StateIdle {
		c.state.Store(between)
	}
}

// SetReadDeadline implements net.Conn.
func (c *jointConn) SetReadDeadline(t time.Time) error {
	switch c.state.Load() {
	case between:
		c.state.Store(idle)
	case idle:
		c.state.Store(atWork)
	}
	return c.TCPConn.SetReadDeadline(t)
}

// endOfHeader ends a request without a body, as most are.
const endOfHeader = 0x0d0a0d0a

// Read implements net.Conn. A connection whose time inside is over goes to the lobby, if net/http can hold nothing of it: at most three
// bytes are in its buffers then, the last ones that came, and after endOfHeader these are empty lines, which say nothing (RFC 9112, 2.2).
func (c *jointConn) Read(p []byte) (n int, err error) {
	if c.woken && len(p) > 0 {
		c.woken, p[0] = false, c.first
		c.noteLast(p[:1])
		return 1, nil
	}
	n, err = c.TCPConn.Read(p)
	c.noteLast(p[:n])
	if err == nil || c.lobby == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
		return n, err
	}
	switch {
	case c.last != endOfHeader && c.state.CompareAndSwap(idle, atWork):
		if err := c.TCPConn.SetReadDeadline(time.Now().Add(c.lobby.patience.lobby)); err != nil {
			return 0, err
		}
		return c.Read(p)
	case c.last == endOfHeader && c.state.CompareAndSwap(idle, atRest):
		c.lobby.rest(c.TCPConn)
	}
	return n, err
}

func (c *jointConn) noteLast(read []byte) {
	for _, b := range read[max(0, len(read)-4):] {
		c.last = c.last<<8 | uint32(b)
	}
}

// Close implements net.Conn.
func (c *jointConn) Close() error {
	if c.state.Load() == atRest {
		return nil
	}
	return c.TCPConn.Close()
}
