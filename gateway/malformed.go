package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/ipfs/boxo/files"
	boxogw "github.com/ipfs/boxo/gateway"
	boxopath "github.com/ipfs/boxo/path"

	"github.com/holdfast-sites/holdfast/merkle"
)

// Content comes from anybody. Where it makes somebody's decoder panic, all the same
// the request fails and nothing else, and it is the content that is to blame.

// decoderPanic is the error that a panic while content was read becomes.
type decoderPanic struct {
	value any
	stack string
}

func (e *decoderPanic) Error() string { return fmt.Sprintf("can't be read: %v", e.value) }

func (e *decoderPanic) Unwrap() error { return merkle.ErrMalformed }

// blameContent makes an error of a panic. To be deferred where content is decoded.
func blameContent(ctx context.Context, step Step, err *error) {
	p := recover()
	if p == nil {
		return
	}
	cause := &decoderPanic{p, string(debug.Stack())}
	traceOf(ctx).fail(ctx, stepFailure{step: step, err: cause})
	*err = &blockFailure{cause.Error()}
}

// logPanic tells the operator of a panic that the trace holds, if any.
func logPanic(ctx context.Context, log *slog.Logger) {
	var p *decoderPanic
	if f := traceOf(ctx).snapshot().failed; f != nil && errors.As(f.err, &p) {
		log.LogAttrs(ctx, slog.LevelWarn, "content made a decoder panic", slog.Any("why", p.value), slog.String("stack", p.stack))
	}
}

// GetAll implements boxo's backend.
func (b *backend) GetAll(ctx context.Context, p boxopath.ImmutablePath) (md boxogw.ContentPathMetadata, n files.Node, err error) {
	defer blameContent(ctx, StepBlock, &err)
	return b.BlocksBackend.GetAll(ctx, p)
}

// Head implements boxo's backend.
func (b *backend) Head(ctx context.Context, p boxopath.ImmutablePath) (md boxogw.ContentPathMetadata, r *boxogw.HeadResponse, err error) {
	defer blameContent(ctx, StepBlock, &err)
	return b.BlocksBackend.Head(ctx, p)
}
