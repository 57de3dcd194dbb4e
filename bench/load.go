//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// loadJob is what a load generator is to do: keep-alive connections over which the
// requests are sent in turn. It reads no more of an answer than its length says.
type loadJob struct {
	Addr     string
	Host     string
	Paths    []string
	Hosts    []string // of each path; nil: Host
	Header   string   // further lines, each with CR LF
	Status   int      // that every answer has to have
	Conns    int
	Duration time.Duration // 0: each path once
	Rate     float64       // requests a second, begun whether others have ended or not; 0: as fast as it goes
}

// loadDone is what it saw.
type loadDone struct {
	Requests  int64
	Bytes     int64 // of bodies
	Seconds   float64
	P50, P99  float64 // ms, from when the request was due
	Slowest   float64 // ms
	MissedDue int64   // of a rate: requests that were not begun in time
}

// loadChild is a load generator of one processor's work.
func loadChild(ctx context.Context, asked json.RawMessage) (any, error) {
	var file string
	if err := json.Unmarshal(asked, &file); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var j loadJob
	if err := json.Unmarshal(text, &j); err != nil {
		return nil, err
	}
	runtime.GOMAXPROCS(1)
	requests := make([][]byte, len(j.Paths))
	for i, p := range j.Paths {
		host := j.Host
		if j.Hosts != nil {
			host = j.Hosts[i]
		}
		requests[i] = fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", p, host, j.Header)
	}
	l := &load{loadJob: j, requests: requests, began: time.Now()}
	var wg sync.WaitGroup
	errs := make([]error, j.Conns)
	for i := range j.Conns {
		wg.Go(func() { errs[i] = l.connection(ctx, i) })
	}
	wg.Wait()
	took := time.Since(l.began)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return loadDone{
		Requests: l.requestsDone.Load(), Bytes: l.bytes.Load(), Seconds: took.Seconds(), MissedDue: l.late.Load(),
		P50: l.waits.at(0.5), P99: l.waits.at(0.99), Slowest: l.waits.at(1),
	}, nil
}

// load is the work of all connections together.
type load struct {
	loadJob
	requests     [][]byte
	began        time.Time
	next         atomic.Int64
	requestsDone atomic.Int64
	bytes        atomic.Int64
	late         atomic.Int64

	mu    sync.Mutex
	waits figures // ms
}

// connection sends and reads until there is nothing more to do.
func (l *load) connection(ctx context.Context, number int) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	r := bufio.NewReaderSize(conn, 64<<10)
	var waits figures
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.waits = append(l.waits, waits...)
	}()
	for turn := 0; ; turn++ {
		due := time.Now()
		if l.Duration > 0 && due.Sub(l.began) >= l.Duration {
			return nil
		}
		if l.Rate > 0 {
			due = l.began.Add(time.Duration(float64(turn*l.Conns+number) / l.Rate * float64(time.Second)))
			if wait := time.Until(due); wait > 0 {
				time.Sleep(wait)
			} else if wait < -time.Millisecond {
				l.late.Add(1)
			}
		}
		n := l.next.Add(1) - 1
		if l.Duration == 0 && n >= int64(len(l.requests)) {
			return nil
		}
		if _, err := conn.Write(l.requests[n%int64(len(l.requests))]); err != nil {
			return err
		}
		length, err := readAnswer(r, l.Status)
		if err != nil {
			return fmt.Errorf("%s: %w", l.Paths[n%int64(len(l.Paths))], err)
		}
		waits = append(waits, float64(time.Since(due).Microseconds())/1000)
		l.requestsDone.Add(1)
		l.bytes.Add(length)
	}
}

var contentLength = []byte("content-length:")

// readAnswer reads one answer and throws its body away.
func readAnswer(r *bufio.Reader, want int) (length int64, err error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if len(line) < 12 || string(line[9:12]) != strconv.Itoa(want) {
		return 0, fmt.Errorf("%q where status %d was expected", bytes.TrimSpace(line), want)
	}
	length = -1
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		if len(line) <= 2 {
			break
		}
		if len(line) > len(contentLength) && bytes.EqualFold(line[:len(contentLength)], contentLength) {
			if length, err = strconv.ParseInt(string(bytes.TrimSpace(line[len(contentLength):])), 10, 64); err != nil {
				return 0, err
			}
		}
	}
	if want == http.StatusNotModified {
		return 0, nil
	}
	if length < 0 {
		return 0, errors.New("an answer without length")
	}
	_, err = r.Discard(int(length))
	return length, err
}

// bareJob is what a bare net/http server sends, from memory.
type bareJob struct {
	Files  map[string]string      // path → file
	Header map[string]http.Header // path → what is sent with it
}

// bareChild is the measure for ours: a handler that does nothing but send bytes with the
// same header. It says where it listens and serves until it is killed.
func bareChild(ctx context.Context, asked json.RawMessage) (any, error) {
	var j bareJob
	if err := json.Unmarshal(asked, &j); err != nil {
		return nil, err
	}
	bodies, err := readFiles(j.Files)
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	fmt.Println(ln.Addr())
	return nil, http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		for k, v := range j.Header[r.URL.Path] {
			h[k] = v
		}
		if tag := r.Header["If-None-Match"]; tag != nil && tag[0] == h["Etag"][0] {
			delete(h, "Content-Length")
			delete(h, "Content-Type")
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = w.Write(bodies[r.URL.Path])
	}))
}
