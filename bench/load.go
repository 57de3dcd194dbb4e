//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
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
	Calm      float64 // ms, of a rate: P99 in the middle one of windows
	Stood     float64 // %, of a rate: of the time in which this process, which never waits then, stood still for over a millisecond
	MissedDue int64   // of a rate: requests that were not begun in time
}

func (d loadDone) perSecond() float64 { return float64(d.Requests) / d.Seconds }

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
	l := &load{loadJob: j, requests: requests}
	if err := l.run(ctx); err != nil {
		return nil, err
	}
	return l.done, nil
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
