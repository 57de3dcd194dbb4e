package control

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// event is one line of an answer.
type event struct {
	Progress any    `json:"progress,omitempty"`
	Result   any    `json:"result,omitempty"`
	Error    *Error `json:"error,omitempty"`
	Done     bool   `json:"done,omitempty"` // with a result, which may be null
}

// Server answers calls on a listener.
type Server struct {
	methods Methods
	info    func() any
	log     *slog.Logger
	mux     *http.ServeMux
	// running counts the calls, those among them that were handed over: they
	// go on when the caller has gone, and end with the node.
	running sync.WaitGroup
}

// NewServer offers methods; info is what GET /v1/node answers. The log hears of
// calls that were handed over and failed, since nobody else does; nil: discard.
func NewServer(m Methods, info func() any, log *slog.Logger) *Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Server{methods: m, info: info, log: log, mux: http.NewServeMux()}
}

// Handle adds something else that only the node's own user may see, metrics
// for one. Before Serve.
func (s *Server) Handle(pattern string, h http.Handler) { s.mux.Handle(pattern, h) }

// Serve answers until ctx ends, then waits for the calls that run.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	mux := s.mux
	mux.HandleFunc("GET /v1/node", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.info())
	})
	mux.HandleFunc("POST /v1/call/{method}", func(w http.ResponseWriter, r *http.Request) {
		s.running.Add(1)
		defer s.running.Done()
		s.call(ctx, w, r)
	})
	mux.HandleFunc("POST /v1/stream/{method}", func(w http.ResponseWriter, r *http.Request) {
		s.running.Add(1)
		defer s.running.Done()
		s.stream(w, r)
	})
	srv := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			srv.Close()
		}
	}()
	err := srv.Serve(ln)
	if !errors.Is(err, http.ErrServerClosed) {
		stop() // the listener broke
		<-done
		s.running.Wait()
		return err
	}
	<-done
	s.running.Wait()
	return nil
}

func readParams(w http.ResponseWriter, r *http.Request) (json.RawMessage, *Error) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxParams))
	if err != nil {
		return nil, Errorf(Usage, "parameters: %v", err)
	}
	return b, nil
}

// call runs one method and writes its events as lines.
func (s *Server) call(node context.Context, w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := &eventWriter{w: w, rc: http.NewResponseController(w)}
	params, perr := readParams(w, r)
	if perr != nil {
		out.write(event{Error: perr})
		return
	}
	f, ok := s.methods.Calls[r.PathValue("method")]
	if !ok {
		out.write(event{Error: Errorf(Usage, "the running node has no method %q; is it of another version?", r.PathValue("method"))})
		return
	}
	if r.URL.Query().Get("handover") == "true" {
		s.running.Go(func() {
			if _, err := f(node, params, func(any) {}); err != nil {
				s.log.Error("handed over", "method", r.PathValue("method"), "err", err)
			}
		})
		out.write(event{Done: true})
		return
	}
	result, err := f(r.Context(), params, func(v any) { out.write(event{Progress: v}) })
	if err != nil {
		out.write(event{Error: Classify(err, s.methods.Kind)})
		return
	}
	out.write(event{Result: result, Done: true})
}

func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	fail := func(e *Error) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(event{Error: e})
	}
	params, perr := readParams(w, r)
	if perr != nil {
		fail(perr)
		return
	}
	f, ok := s.methods.Streams[r.PathValue("method")]
	if !ok {
		fail(Errorf(Usage, "the running node has no stream %q; is it of another version?", r.PathValue("method")))
		return
	}
	cw := &countingWriter{w: w}
	if err := f(r.Context(), params, cw); err != nil {
		if cw.n == 0 {
			fail(Classify(err, s.methods.Kind))
			return
		}
		// Bytes are out already: cut the connection, so that the client can't
		// take a part for the whole.
		panic(http.ErrAbortHandler)
	}
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// eventWriter writes whole lines, one at a time. A client that has gone is
// noticed by the request's context.
type eventWriter struct {
	mu sync.Mutex
	w  io.Writer
	rc *http.ResponseController
}

func (e *eventWriter) write(ev event) {
	b, err := json.Marshal(ev)
	if err != nil {
		b, _ = json.Marshal(event{Error: Errorf(Failed, "%v", err)})
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := e.w.Write(append(b, '\n')); err == nil {
		_ = e.rc.Flush()
	}
}
