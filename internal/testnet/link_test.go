package testnet

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// echo is a link in front of a server that sends back what it gets.
func echo(t *testing.T) Links {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLink(func() string { return ln.Addr().String() }, 1)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the link
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		l.close()
		<-done
	})
	return Links{l}
}

func dial(t *testing.T, ls Links) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", ls[0].addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// there sends b and reads it back.
func there(c net.Conn, b []byte) error {
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(b)
		sent <- err
	}()
	got := make([]byte, len(b))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if !bytes.Equal(got, b) {
		return errors.New("other bytes came back")
	}
	return <-sent
}

func TestALinkCarriesBytesAsTheyAre(t *testing.T) {
	ls := echo(t)
	ls.Delay(time.Millisecond)
	c := dial(t, ls)
	b := bytes.Repeat([]byte("0123456789abcde"), 200_000)
	if err := there(c, b); err != nil {
		t.Fatal(err)
	}
	if got := ls.Passed(); got != 2*int64(len(b)) {
		t.Errorf("%d bytes were counted, want %d", got, 2*len(b))
	}
	// An orderly end passes too, and after what was sent before it.
	if _, err := c.Write([]byte("last")); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(c); err != nil || string(rest) != "last" {
		t.Errorf("%q, %v", rest, err)
	}
}

func TestADelayIsEachWay(t *testing.T) {
	ls := echo(t)
	c := dial(t, ls)
	const d = 40 * time.Millisecond
	ls.Delay(d)
	began := time.Now()
	if err := there(c, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 2*d {
		t.Errorf("there and back took %s, less than twice %s", took, d)
	}
}

func TestACutKillsAndRefusesUntilMended(t *testing.T) {
	ls := echo(t)
	c := dial(t, ls)
	if err := there(c, []byte("x")); err != nil {
		t.Fatal(err)
	}
	ls.Cut()
	if err := there(c, []byte("x")); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("an open connection: %v", err)
	}
	// It may be over before the dialler knows that it began.
	if c, err := net.Dial("tcp", ls[0].addr()); err == nil {
		_ = c.SetDeadline(time.Now().Add(patience))
		if err := there(c, []byte("x")); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a new connection: %v", err)
		}
		c.Close()
	}
	if ls.Refused() != 1 {
		t.Errorf("%d refused", ls.Refused())
	}
	ls.Mend()
	if err := there(dial(t, ls), []byte("x")); err != nil {
		t.Errorf("after the mend: %v", err)
	}
}

func TestACutComesAfterItsBytes(t *testing.T) {
	ls := echo(t)
	c := dial(t, ls)
	cut := ls.CutAfter(1 << 20)
	if err := there(c, make([]byte, 2<<20)); err == nil {
		t.Error("everything came")
	}
	<-cut
	if got := ls.Passed(); got < 1<<20 || got > 1<<20+2*chunkBytes {
		t.Errorf("%d bytes had passed", got)
	}
}

func TestAStallHoldsWhatMendLetsGo(t *testing.T) {
	ls := echo(t)
	c := dial(t, ls)
	ls.Stall()
	late := dial(t, ls)
	for _, c := range []net.Conn{c, late} {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatalf("a stalled connection is not open: %v", err)
		}
		_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%d bytes passed, %v", n, err)
		}
	}
	ls.Mend()
	for _, c := range []net.Conn{c, late} {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if n, err := c.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Errorf("after the mend: %d bytes, %v", n, err)
		}
	}
}

func TestSoManyConnectionsAreLost(t *testing.T) {
	ls := echo(t)
	ls.Lose(0.5)
	lost := 0
	const all = 40
	for range all {
		if err := there(dial(t, ls), make([]byte, mayLose)); err != nil {
			lost++
		}
	}
	if lost < all/4 || lost > all*3/4 {
		t.Errorf("%d of %d were lost, want about half", lost, all)
	}
	ls.Mend()
	if err := there(dial(t, ls), make([]byte, mayLose)); err != nil {
		t.Errorf("after the mend: %v", err)
	}
}
