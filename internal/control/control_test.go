package control_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/internal/control"
)

// shortDir is a folder whose name leaves room for a socket path.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hfc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// running is a server on a real socket.
type running struct {
	path string
	stop func() error // ends the server and waits for it
	log  *bytes.Buffer
}

func serve(t *testing.T, m control.Methods) running {
	t.Helper()
	path := filepath.Join(shortDir(t), "s.sock")
	ln, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	srv := control.NewServer(m, func() any { return map[string]int{"pid": 7} }, slog.New(slog.NewTextHandler(&log, nil)))
	srv.Handle("GET /v1/extra", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "more") }))
	ctx, cancel := context.WithCancel(context.Background())
	var once sync.Once
	var end error
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx, ln) }()
	stop := func() error {
		once.Do(func() {
			cancel()
			select {
			case end = <-done:
			case <-time.After(time.Minute):
				end = errors.New("the server did not end")
			}
		})
		return end
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return running{path, stop, &log}
}

func (r running) dial(t *testing.T) *control.Client {
	t.Helper()
	c, err := control.Dial(t.Context(), r.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

type sum struct {
	A, B int
}

var errBroken = errors.New("broken")

type richError struct{}

func (richError) Error() string           { return "newer" }
func (richError) Details() map[string]any { return map[string]any{"sequence": 8} }

func methods() control.Methods {
	return control.Methods{
		Kind: func(err error) control.Kind {
			if errors.Is(err, errBroken) {
				return control.Corrupt
			}
			if errors.As(err, new(richError)) {
				return control.Conflict
			}
			return control.Failed
		},
		Calls: map[string]control.Method{
			"add up": control.Typed(func(_ context.Context, p sum, progress func(any)) (int, error) {
				for i := range 100 {
					progress(i)
				}
				return p.A + p.B, nil
			}),
			"nothing": control.Typed(func(context.Context, struct{}, func(any)) (any, error) { return nil, nil }),
			"broken":  control.Typed(func(context.Context, struct{}, func(any)) (int, error) { return 0, fmt.Errorf("it is: %w", errBroken) }),
			"rich":    control.Typed(func(context.Context, struct{}, func(any)) (int, error) { return 0, fmt.Errorf("a: %w", richError{}) }),
			"own": control.Typed(func(context.Context, struct{}, func(any)) (int, error) {
				return 0, control.Errorf(control.NotFound, "no %s", "thing")
			}),
			"echo": control.Typed(func(_ context.Context, p string, _ func(any)) (int, error) { return len(p), nil }),
		},
		Streams: map[string]control.Stream{
			"bytes": control.TypedStream(func(_ context.Context, p sum, w io.Writer) error {
				_, err := io.Copy(w, strings.NewReader(strings.Repeat("x", p.A)))
				return err
			}),
			"early": control.TypedStream(func(context.Context, struct{}, io.Writer) error { return errBroken }),
			"late": control.TypedStream(func(_ context.Context, _ struct{}, w io.Writer) error {
				io.WriteString(w, "half")
				return errBroken
			}),
		},
	}
}

// callers are the two ways to a method: a command must not see a difference.
func callers(t *testing.T, m control.Methods) map[string]control.Caller {
	return map[string]control.Caller{"socket": serve(t, m).dial(t), "in process": control.InProcess(m)}
}

func TestACallGivesProgressInOrderAndThenItsResult(t *testing.T) {
	for how, c := range callers(t, methods()) {
		var seen []int
		var got int
		err := c.Call(t.Context(), "add up", sum{2, 3}, &got, func(raw json.RawMessage) {
			var i int
			if err := json.Unmarshal(raw, &i); err != nil {
				t.Fatal(err)
			}
			seen = append(seen, i)
		})
		if err != nil || got != 5 {
			t.Errorf("%s: %d, %v", how, got, err)
		}
		if len(seen) != 100 || seen[0] != 0 || seen[99] != 99 {
			t.Errorf("%s: progress arrived as %v", how, seen)
		}
		if err := c.Call(t.Context(), "add up", sum{2, 3}, nil, nil); err != nil {
			t.Errorf("%s: result and progress ignored: %v", how, err)
		}
		if err := c.Call(t.Context(), "nothing", nil, nil, nil); err != nil {
			t.Errorf("%s: no parameters, no result: %v", how, err)
		}
	}
}

func TestAnErrorKeepsItsKindAndDetailsOnTheWay(t *testing.T) {
	for how, c := range callers(t, methods()) {
		for _, tt := range []struct {
			method, message string
			kind            control.Kind
			details         map[string]any
		}{
			{"broken", "it is: broken", control.Corrupt, nil},
			{"rich", "a: newer", control.Conflict, map[string]any{"sequence": 8.0}},
			{"own", "no thing", control.NotFound, nil},
		} {
			var e *control.Error
			err := c.Call(t.Context(), tt.method, nil, nil, nil)
			if !errors.As(err, &e) || e.Kind != tt.kind || e.Message != tt.message {
				t.Errorf("%s: %s: %#v", how, tt.method, err)
				continue
			}
			raw, _ := json.Marshal(e.Details)
			var details map[string]any
			_ = json.Unmarshal(raw, &details)
			if !reflect.DeepEqual(details, tt.details) {
				t.Errorf("%s: %s: details %v, want %v", how, tt.method, details, tt.details)
			}
		}
	}
}

func TestWhatCannotBeAskedIsAUsageError(t *testing.T) {
	for how, c := range callers(t, methods()) {
		for name, err := range map[string]error{
			"unknown method":      c.Call(t.Context(), "no such/method?", nil, nil, nil),
			"unknown stream":      c.Copy(t.Context(), "no such/stream?", nil, io.Discard),
			"parameters' type":    c.Call(t.Context(), "add up", "text", nil, nil),
			"stream's parameters": c.Copy(t.Context(), "bytes", "text", io.Discard),
			"parameters' size":    c.Call(t.Context(), "echo", strings.Repeat("x", control.MaxParams), nil, nil),
		} {
			var e *control.Error
			if !errors.As(err, &e) || e.Kind != control.Usage || e.Message == "" {
				t.Errorf("%s: %s: %v", how, name, err)
			}
		}
		var n int
		if err := c.Call(t.Context(), "echo", strings.Repeat("x", control.MaxParams-2), &n, nil); err != nil || n != control.MaxParams-2 {
			t.Errorf("%s: the largest parameters: %d, %v", how, n, err)
		}
	}
}

func TestTheServerRefusesParametersOverTheLimit(t *testing.T) {
	r := serve(t, methods())
	hc := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", r.path)
		},
	}}
	body := `"` + strings.Repeat("x", control.MaxParams) + `"`
	resp, err := hc.Post("http://holdfast/v1/call/echo", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(resp.Body)
	if !bytes.Contains(answer, []byte(`"kind":"usage"`)) {
		t.Errorf("answered %s", answer)
	}
}

func TestAStreamArrivesWholeOrFails(t *testing.T) {
	for how, c := range callers(t, methods()) {
		var b bytes.Buffer
		if err := c.Copy(t.Context(), "bytes", sum{A: 300_000}, &b); err != nil || b.Len() != 300_000 {
			t.Errorf("%s: %d bytes, %v", how, b.Len(), err)
		}
		var e *control.Error
		if err := c.Copy(t.Context(), "early", nil, &b); !errors.As(err, &e) || e.Kind != control.Corrupt {
			t.Errorf("%s: an error before any byte: %v", how, err)
		}
		b.Reset()
		if err := c.Copy(t.Context(), "late", nil, &b); !errors.As(err, &e) {
			t.Errorf("%s: an error after bytes was taken for the end of them: %q, %v", how, b.String(), err)
		}
	}
}

func TestACallerThatGoesAwayEndsItsCall(t *testing.T) {
	started, ended := make(chan struct{}), make(chan error, 1)
	m := control.Methods{Calls: map[string]control.Method{"wait": func(ctx context.Context, _ json.RawMessage, _ func(any)) (any, error) {
		close(started)
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	}}}
	c := serve(t, m).dial(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-started; cancel() }()
	err := c.Call(ctx, "wait", nil, nil, nil)
	var e *control.Error
	if !errors.As(err, &e) || !strings.Contains(e.Message, "interrupted") {
		t.Errorf("the caller was told %v", err)
	}
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("the call goes on without its caller")
	}
}

func TestAHandedOverCallOutlivesItsCallerAndEndsWithTheNode(t *testing.T) {
	started, gone := make(chan struct{}), make(chan struct{})
	ended := make(chan bool, 1)
	m := control.Methods{Calls: map[string]control.Method{"work": func(ctx context.Context, _ json.RawMessage, _ func(any)) (any, error) {
		close(started)
		<-gone
		ended <- ctx.Err() == nil // still alive when its caller has gone
		<-ctx.Done()
		return nil, errors.New("no host had room")
	}}}
	r := serve(t, m)
	ctx, cancel := context.WithCancel(t.Context())
	c := r.dial(t)
	if err := c.HandOver(ctx, "work", nil); err != nil {
		t.Fatal(err)
	}
	<-started
	cancel()
	c.Close()
	close(gone)
	if alive := <-ended; !alive {
		t.Error("the call ended with its caller")
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(r.log.String(), "no host had room") {
		t.Errorf("nobody hears that it failed: %q", r.log.String())
	}
}

func TestServeWaitsForTheCallsThatRun(t *testing.T) {
	if testing.Short() {
		t.Skip("takes the server's grace of two seconds")
	}
	started, release := make(chan struct{}), make(chan struct{})
	m := control.Methods{Calls: map[string]control.Method{"slow": func(context.Context, json.RawMessage, func(any)) (any, error) {
		close(started)
		<-release // however long the connection lives
		return nil, nil
	}}}
	r := serve(t, m)
	c := r.dial(t)
	called, stopped := make(chan error, 1), make(chan error, 1)
	go func() { called <- c.Call(context.Background(), "slow", nil, nil, nil) }()
	<-started
	go func() { stopped <- r.stop() }()
	var e *control.Error
	if err := <-called; !errors.As(err, &e) || e.Kind != control.Unavailable {
		t.Errorf("the caller of a node that goes was told %v", err)
	}
	select {
	case err := <-stopped:
		t.Errorf("Serve returned while a call still worked: %v", err)
	default:
	}
	close(release)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestTheNodeSaysWhatItIs(t *testing.T) {
	c := serve(t, methods()).dial(t)
	var info map[string]int
	if err := c.Node(t.Context(), &info); err != nil || info["pid"] != 7 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestADeadNodesSocketIsReplaced(t *testing.T) {
	path := filepath.Join(shortDir(t), "s.sock")
	if _, err := control.Dial(t.Context(), path); !errors.Is(err, control.ErrNoNode) {
		t.Fatalf("no socket: %v", err)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	ln.Close()
	if _, err := control.Dial(t.Context(), path); !errors.Is(err, control.ErrNoNode) {
		t.Fatalf("a dead socket: %v", err)
	}
	ln, err = control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if c, err := control.Dial(t.Context(), path); err != nil {
		t.Error(err)
	} else {
		c.Close()
	}
}

func TestExitCodes(t *testing.T) {
	for kind, code := range map[control.Kind]int{
		"": 1, control.Failed: 1, control.Usage: 2, control.NotFound: 3, control.Conflict: 4, control.Unavailable: 5, control.Corrupt: 6, "later": 1,
	} {
		if got := kind.ExitCode(); got != code {
			t.Errorf("%q: %d, want %d", kind, got, code)
		}
	}
}
