package gateway

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// net/http writes an answer's header with the beginning of the body, four
// kilobytes, and then the rest. A page is then two calls of the system, two packets and two
// wake-ups of whoever reads; here they become one.

// netHTTPBuffer is how much net/http gathers before it writes, in bytes.
const netHTTPBuffer = 4 << 10

// jointConn is a TCP connection on which a write may wait for the next one, and on which a long one is whole: its
// deadline is for each maxHanded of it. A nil one does nothing of the sort. It is for the goroutine that answers: nobody else writes.
// Between requests it may go to its lobby.
type jointConn struct {
	*net.TCPConn
	lobby *lobby // nil: it stays
	state atomic.Int32
	woken bool   // first is still to be read
	first byte   // what ended its rest
	last  uint32 // the last four bytes that were read

	waits bool   // the next write is to wait
	held  []byte // what waits, from heldBuffers; nil: nothing
	both  [2][]byte
	out   net.Buffers
	taken int // bytes that the reader took since the deadline was set
}

var heldBuffers = sync.Pool{New: func() any { return new([netHTTPBuffer]byte) }}

// join has the next write wait for the one after it, if so many bytes of a body
// make two. part must follow soon.
func (c *jointConn) join(bytes int) {
	if c != nil {
		c.waits = bytes >= netHTTPBuffer
	}
}

// part sends what still waits.
func (c *jointConn) part() {
	if c == nil {
		return
	}
	c.waits = false
	if c.held != nil { // there was no other
		_, _ = c.Write(nil) // an error comes again with the next write
	}
}

// Write implements net.Conn. What waits counts as written: where it then can't be, the next write fails.
func (c *jointConn) Write(p []byte) (int, error) {
	if c.waits && len(p) <= netHTTPBuffer {
		c.waits = false
		c.held = append(heldBuffers.Get().(*[netHTTPBuffer]byte)[:0], p...)
		return len(p), nil
	}
	c.waits = false
	if c.held == nil {
		return c.insist(p)
	}
	held := c.held
	c.held, c.both = nil, [2][]byte{held, p}
	c.out = c.both[:]
	first, err := c.out.WriteTo(c.TCPConn)
	c.both, c.out = [2][]byte{}, nil
	heldBuffers.Put((*[netHTTPBuffer]byte)(held[:netHTTPBuffer]))
	n := int(first) - len(held)
	c.taken += int(first)
	if n < 0 || err == nil || !c.another(err) {
		return max(n, 0), err
	}
	more, err := c.insist(p[n:])
	return n + more, err
}

// insist writes all of p, if the reader goes on taking it.
func (c *jointConn) insist(p []byte) (sent int, err error) {
	for {
		n, err := c.TCPConn.Write(p[sent:])
		sent += n
		c.taken += n
		if err == nil || !c.another(err) {
			return sent, err
		}
	}
}

// another gives a reader whose time is over as long again, if it took enough meanwhile. When it did is not known: who stops
// to read is cut after once to twice writeStall.
func (c *jointConn) another(err error) bool {
	if c.taken < maxHanded || !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	return c.SetWriteDeadline(time.Now().Add(writeStall)) == nil
}

// SetWriteDeadline implements net.Conn. It is for the next maxHanded bytes.
func (c *jointConn) SetWriteDeadline(t time.Time) error {
	c.taken = 0
	return c.TCPConn.SetWriteDeadline(t)
}

// ReadFrom implements io.ReaderFrom.
func (c *jointConn) ReadFrom(r io.Reader) (int64, error) {
	c.part()
	return c.TCPConn.ReadFrom(r)
}

// CloseWrite is what net/http ends a connection with.
func (c *jointConn) CloseWrite() error {
	c.part()
	return c.TCPConn.CloseWrite()
}

type jointKey struct{}

// withJoint is http.Server's ConnContext.
func withJoint(ctx context.Context, conn net.Conn) context.Context {
	if c, ok := conn.(*jointConn); ok {
		return context.WithValue(ctx, jointKey{}, c)
	}
	return ctx
}

// jointOf is the connection that a request came by; nil where its writes can't be joined.
func jointOf(ctx context.Context) *jointConn {
	c, _ := ctx.Value(jointKey{}).(*jointConn)
	return c
}
