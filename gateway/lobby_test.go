package gateway

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"
)

// restful is a server whose connections go to the lobby at once, and one connection to it.
type restful struct {
	lobby *lobby
	stop  func() // as Serve does
	conn  net.Conn
	in    *bufio.Reader
}

func newRestful(t *testing.T, p patience) *restful {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := &restful{lobby: newLobby(ln, p)}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.URL.Path+" for "+r.RemoteAddr)
	})}
	ended := make(chan error, 1)
	go func() { ended <- s.lobby.serve(srv) }()
	s.stop = sync.OnceFunc(func() {
		_ = srv.Shutdown(context.WithoutCancel(t.Context()))
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("the server ended with %v", err)
		}
	})
	t.Cleanup(s.stop)
	s.conn, err = net.Dial("tcp", ln.Addr().String())
	must(t, err)
	t.Cleanup(func() { s.conn.Close() })
	must(t, s.conn.SetDeadline(time.Now().Add(time.Minute)))
	s.in = bufio.NewReader(s.conn)
	return s
}

func (s *restful) send(t *testing.T, text string) {
	t.Helper()
	_, err := io.WriteString(s.conn, text)
	must(t, err)
}

// expect reads an answer, which has to be for the connection that the test began with.
func (s *restful) expect(t *testing.T, path string) {
	t.Helper()
	resp, err := http.ReadResponse(s.in, nil)
	must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	if want := path + " for " + s.conn.LocalAddr().String(); string(body) != want {
		t.Fatalf("got %q, want %q", body, want)
	}
}

// rests waits until so many connections are in the lobby.
func (s *restful) rests(n int) {
	for {
		s.lobby.mu.Lock()
		now := len(s.lobby.resting)
		s.lobby.mu.Unlock()
		if now == n {
			return
		}
		runtime.Gosched()
	}
}

func request(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: a\r\n\r\n" }

var soon = patience{inside: time.Millisecond, lobby: time.Hour}

func TestAConnectionThatRestedIsAnsweredLikeAnyOther(t *testing.T) {
	s := newRestful(t, soon)
	for _, path := range []string{"/1", "/2", "/3"} {
		s.send(t, request(path))
		s.expect(t, path)
		s.rests(1) // net/http has nothing of it any more
	}
	s.send(t, request("/4")+request("/5")+request("/6")[:3])
	s.expect(t, "/4")
	s.expect(t, "/5")
	s.send(t, request("/6")[3:])
	s.expect(t, "/6")
	s.rests(1)
	s.send(t, "G")
	s.send(t, request("/7")[1:])
	s.expect(t, "/7")
}

func TestAConnectionRestsOnlyWhereNothingOfItIsLost(t *testing.T) {
	const get, idle, header = "GET / HTTP/1.1\r\nHost: a\r\n\r\n", true, false
	for name, test := range map[string]struct {
		read  string
		waits bool // for another request; else for the rest of this one
		rests bool
	}{
		"a request":                        {get, idle, true},
		"two":                              {get + get, idle, true},
		"an empty line after a request":    {get + "\r\n", idle, true},
		"one byte more":                    {get + "G", idle, false},
		"three bytes more":                 {get + "GET", idle, false},
		"part of an empty line":            {get + "\r", idle, false},
		"a header with bare line ends":     {"GET / HTTP/1.1\nHost: a\n\n", idle, false},
		"a body":                           {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab", idle, false},
		"nothing yet":                      {"", idle, false},
		"a request whose answer is made":   {get, header, false},
		"another request's header, unread": {get + "GET / HTTP/1.1\r\n", header, false},
	} {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			must(t, err)
			l := newLobby(ln, patience{lobby: -time.Second}) // who stays is out of time at once
			defer l.Close()
			client, c := bothEnds(t, l)
			_, err = io.WriteString(client, test.read)
			must(t, err)
			_, err = io.ReadFull(c, make([]byte, len(test.read)))
			must(t, err)
			past := time.Unix(1, 0)
			noteIdle(c, http.StateIdle)
			must(t, c.SetReadDeadline(past))
			if test.waits == header {
				must(t, c.SetReadDeadline(past))
			}
			if n, err := c.Read(make([]byte, 10)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("reads %d, %v", n, err)
			}
			if rests := c.(*jointConn).state.Load() == atRest; rests != test.rests {
				t.Errorf("rests: %v", rests)
			}
		})
	}
}

func TestWhoRestsTooLongOrLeavesIsLetGo(t *testing.T) {
	s := newRestful(t, patience{inside: time.Millisecond, lobby: time.Millisecond})
	s.send(t, request("/1"))
	s.expect(t, "/1")
	if _, err := s.in.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("after its time: %v", err)
	}
	s = newRestful(t, soon)
	s.send(t, request("/1"))
	s.expect(t, "/1")
	s.rests(1)
	must(t, s.conn.Close())
	s.rests(0)
}

func TestAServerThatEndsClosesWhatRests(t *testing.T) {
	s := newRestful(t, soon)
	s.send(t, request("/1"))
	s.expect(t, "/1")
	s.rests(1)
	s.stop()
	if _, err := s.in.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("at rest: %v", err)
	}
	if _, err := s.lobby.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed lobby accepts: %v", err)
	}
}
