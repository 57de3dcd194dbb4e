// Package control lets commands work with a running node, or without one.
//
// A node offers its methods by name; a command calls one and gets progress and
// a result, the same way over the node's unix socket as in its own process. The
// package knows the transport and the kinds of failure, never what a method
// does. The socket is the user's own: its folder is 0700.
//
// The protocol is described in docs/formats.md, "Local control API".
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Kind is what sort of failure an error is. It is the "kind" of the JSON and
// decides the exit code.
type Kind string

// The kinds. The zero Kind is treated as Failed.
const (
	Failed      Kind = "failed"
	Usage       Kind = "usage"
	NotFound    Kind = "not_found"
	Conflict    Kind = "conflict"
	Unavailable Kind = "unavailable"
	Corrupt     Kind = "corrupt"
)

// ExitCode is the process exit code of a kind.
func (k Kind) ExitCode() int {
	switch k {
	case Usage:
		return 2
	case NotFound:
		return 3
	case Conflict:
		return 4
	case Unavailable:
		return 5
	case Corrupt:
		return 6
	}
	return 1
}

// Error is a failure as it crosses the socket and as `--json` prints it.
type Error struct {
	Kind    Kind           `json:"kind"`
	Message string         `json:"message"`
	Details map[string]any `json:"details,omitempty"` // what a program may act on, e.g. the newer release of a conflict
}

func (e *Error) Error() string { return e.Message }

// Errorf makes an Error.
func Errorf(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Message: fmt.Sprintf(format, args...)}
}

// Classify turns any error into an Error; classify decides the kind of those
// that are not one yet.
func Classify(err error, classify func(error) Kind) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	kind := Failed
	if classify != nil {
		kind = classify(err)
	}
	out := &Error{Kind: kind, Message: err.Error()}
	var d interface{ Details() map[string]any }
	if errors.As(err, &d) {
		out.Details = d.Details()
	}
	return out
}

// Method is one thing that a node can be asked to do. params is JSON, at most
// MaxParams bytes; the result is marshalled to JSON. progress may be called
// from several goroutines until the method returns.
type Method func(ctx context.Context, params json.RawMessage, progress func(any)) (any, error)

// Stream is a method whose result is bytes.
type Stream func(ctx context.Context, params json.RawMessage, w io.Writer) error

// MaxParams bounds the parameters of a call, in bytes.
const MaxParams = 1 << 20

// Methods is what a node offers.
type Methods struct {
	Calls   map[string]Method
	Streams map[string]Stream
	// Kind classifies errors that are not an Error; nil: Failed.
	Kind func(error) Kind
}

// Caller asks for a method by name: a node in another process, or one in this.
type Caller interface {
	// Call runs a method and decodes its result into result (nil: ignored).
	// Errors are of type *Error.
	Call(ctx context.Context, method string, params, result any, progress func(json.RawMessage)) error
	// Copy runs a streaming method and writes its bytes to w.
	Copy(ctx context.Context, method string, params any, w io.Writer) error
}

// Typed adapts a function with typed parameters to a Method.
func Typed[P, R any](f func(ctx context.Context, p P, progress func(any)) (R, error)) Method {
	return func(ctx context.Context, params json.RawMessage, progress func(any)) (any, error) {
		var p P
		if err := decodeParams(params, &p); err != nil {
			return nil, err
		}
		return f(ctx, p, progress)
	}
}

// TypedStream adapts a function with typed parameters to a Stream.
func TypedStream[P any](f func(ctx context.Context, p P, w io.Writer) error) Stream {
	return func(ctx context.Context, params json.RawMessage, w io.Writer) error {
		var p P
		if err := decodeParams(params, &p); err != nil {
			return err
		}
		return f(ctx, p, w)
	}
}

func decodeParams(params json.RawMessage, into any) error {
	if len(params) == 0 {
		return nil
	}
	if err := json.Unmarshal(params, into); err != nil {
		return Errorf(Usage, "parameters: %v", err)
	}
	return nil
}

// encodeParams is how parameters travel, within MaxParams.
func encodeParams(params any) (json.RawMessage, error) {
	b, err := json.Marshal(params)
	if err != nil {
		return nil, Errorf(Failed, "%v", err)
	}
	if len(b) > MaxParams {
		return nil, Errorf(Usage, "the parameters take %d bytes, more than %d", len(b), MaxParams)
	}
	return b, nil
}

// InProcess calls methods without a socket, through the same JSON, so that a
// command can't tell the difference.
func InProcess(m Methods) Caller { return inProcess{m} }

type inProcess struct{ m Methods }

func (c inProcess) Call(ctx context.Context, method string, params, result any, progress func(json.RawMessage)) error {
	f, ok := c.m.Calls[method]
	if !ok {
		return Errorf(Usage, "no method %q", method)
	}
	raw, err := encodeParams(params)
	if err != nil {
		return err
	}
	report := func(v any) {
		if progress == nil {
			return
		}
		if b, err := json.Marshal(v); err == nil {
			progress(b)
		}
	}
	got, err := f(ctx, raw, report)
	if err != nil {
		return Classify(err, c.m.Kind)
	}
	if result == nil {
		return nil
	}
	b, err := json.Marshal(got)
	if err != nil {
		return Errorf(Failed, "%v", err)
	}
	if err := json.Unmarshal(b, result); err != nil {
		return Errorf(Failed, "%v", err)
	}
	return nil
}

func (c inProcess) Copy(ctx context.Context, method string, params any, w io.Writer) error {
	f, ok := c.m.Streams[method]
	if !ok {
		return Errorf(Usage, "no stream %q", method)
	}
	raw, err := encodeParams(params)
	if err != nil {
		return err
	}
	if err := f(ctx, raw, w); err != nil {
		return Classify(err, c.m.Kind)
	}
	return nil
}
