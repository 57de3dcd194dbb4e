//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// load is the work of all connections together, done by one thread that asks the
// system which of them have something to read. Go's own scheduler would let one connection wait for
// others, and wake up a millisecond late for a request that is due: both would be
// measured as the server's.
type load struct {
	loadJob
	requests [][]byte
	began    time.Time
	next     int
	conns    []*loadConn
	polled   []unix.PollFd
	waits    figures // ms
	stood    time.Duration
	done     loadDone
}

// loadConn is one connection, on which one request at a time is under way.
type loadConn struct {
	net.Conn
	fd     int
	number int
	turn   int
	due    time.Time // of the request that is under way, or of the next one
	asked  string    // its path; empty: none is under way
	ended  bool

	head []byte // of the answer, as far as it was read
	left int64  // of its body; -1: the head is not whole yet
}

// readAtOnce is how much is read at once, in bytes.
const readAtOnce = 256 << 10

// run sends and reads until there is nothing more to do.
func (l *load) run(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer func() {
		for _, c := range l.conns {
			_ = c.Close()
		}
	}()
	for i := range l.Conns {
		c, err := l.connect(ctx, i)
		if err != nil {
			return err
		}
		l.conns, l.polled = append(l.conns, c), append(l.polled, unix.PollFd{Fd: int32(c.fd), Events: unix.POLLIN})
	}
	l.began = time.Now()
	buf, turn := make([]byte, readAtOnce), l.began
	for {
		now := time.Now()
		if gap := now.Sub(turn); gap > time.Millisecond {
			l.stood += gap
		}
		turn = now
		idle, open, err := l.send(now)
		if err != nil || open == 0 {
			l.sum()
			return err
		}
		timeout := 100 // ms
		if idle > 0 && l.Rate > 0 {
			timeout = 0 // it has a processor of its own, and must not be late
		}
		if _, err := unix.Poll(l.polled, timeout); err != nil && err != unix.EINTR {
			return os.NewSyscallError("poll", err)
		}
		if timeout > 0 {
			turn = time.Now() // it waited for the server
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for i, c := range l.conns {
			if l.polled[i].Revents == 0 || c.asked == "" {
				continue
			}
			if err := l.read(c, buf); err != nil {
				return fmt.Errorf("%s: %w", c.asked, err)
			}
		}
	}
}

func (l *load) connect(ctx context.Context, number int) (*loadConn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr)
	if err != nil {
		return nil, err
	}
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &loadConn{Conn: conn, number: number, left: -1}
	return c, raw.Control(func(fd uintptr) { c.fd = int(fd) })
}

// send begins every request that is due. It counts the connections that wait for
// their time, and those that have not ended.
func (l *load) send(now time.Time) (idle, open int, err error) {
	for _, c := range l.conns {
		if c.asked == "" && !c.ended {
			if err := l.begin(c, now); err != nil {
				return 0, 0, err
			}
		}
		if !c.ended {
			open++
		}
		if c.asked == "" {
			idle++
		}
	}
	return idle, open, nil
}

func (l *load) begin(c *loadConn, now time.Time) error {
	if l.Duration > 0 && now.Sub(l.began) >= l.Duration || l.Duration == 0 && l.next >= len(l.requests) {
		c.ended = true
		return nil
	}
	c.due = now
	if l.Rate > 0 {
		c.due = l.began.Add(time.Duration(float64(c.turn*l.Conns+c.number) / l.Rate * float64(time.Second)))
		if c.due.After(now) {
			return nil
		}
		if now.Sub(c.due) > time.Millisecond {
			l.done.MissedDue++
		}
	}
	n := l.next % len(l.requests)
	l.next++
	c.turn++
	c.asked = l.Paths[n]
	if w, err := unix.Write(c.fd, l.requests[n]); err != nil || w < len(l.requests[n]) {
		return fmt.Errorf("%s: sent %d bytes of the request: %w", c.asked, w, os.NewSyscallError("write", err))
	}
	return nil
}

// read takes what there is of an answer.
func (l *load) read(c *loadConn, buf []byte) error {
	n, err := unix.Read(c.fd, buf)
	if err == unix.EAGAIN || err == unix.EINTR {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("read", err)
	}
	if n == 0 {
		return errors.New("the server closed the connection")
	}
	body := int64(n)
	if c.left < 0 {
		c.head = append(c.head, buf[:n]...)
		end := bytes.Index(c.head, []byte("\r\n\r\n"))
		if end < 0 {
			return nil
		}
		if c.left, err = bodyLength(c.head[:end+2], l.Status); err != nil {
			return err
		}
		l.done.Bytes += c.left
		body = int64(len(c.head) - end - 4)
		c.head = c.head[:0]
	}
	if c.left -= body; c.left < 0 {
		return errors.New("more than one answer")
	}
	if c.left == 0 {
		l.waits = append(l.waits, float64(time.Since(c.due).Microseconds())/1000)
		l.done.Requests++
		c.asked, c.left = "", -1
	}
	return nil
}

// sum is what was seen.
func (l *load) sum() {
	l.done.Seconds = time.Since(l.began).Seconds()
	l.done.P50, l.done.P99, l.done.Slowest = l.waits.at(0.5), l.waits.at(0.99), l.waits.at(1)
	if l.Rate == 0 {
		return
	}
	var windows figures
	for window := range slices.Chunk(l.waits, max(1, int(l.Rate*windowTime.Seconds()))) {
		windows = append(windows, window.at(0.99))
	}
	l.done.Calm, l.done.Stood = windows.median(), 100*l.stood.Seconds()/l.done.Seconds
}

// windowTime is short beside the time between two moments in which a machine that is shared takes a processor away.
const windowTime = 100 * time.Millisecond

var contentLength = []byte("content-length:")

// bodyLength reads an answer's head, and is how many bytes come behind it.
func bodyLength(head []byte, want int) (int64, error) {
	if len(head) < 12 || string(head[9:12]) != strconv.Itoa(want) {
		return 0, fmt.Errorf("%.40q where status %d was expected", head, want)
	}
	if want == http.StatusNotModified {
		return 0, nil
	}
	for line := range bytes.Lines(head) {
		if len(line) > len(contentLength) && bytes.EqualFold(line[:len(contentLength)], contentLength) {
			return strconv.ParseInt(string(bytes.TrimSpace(line[len(contentLength):])), 10, 64)
		}
	}
	return 0, errors.New("an answer without length")
}
