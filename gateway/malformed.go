package gateway

import (
	"context"
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
type decoderPanic struct{ value any }

func (e *decoderPanic) Error() string { return fmt.Sprintf("can't be read: %v", e.value) }

func (e *decoderPanic) Unwrap() error { return merkle.ErrMalformed }

// blameContent makes an error of a panic. To be deferred where content is decoded.
func blameContent(ctx context.Context, log *slog.Logger, step Step, err *error) {
	p := recover()
	if p == nil {
		return
	}
	cause := &decoderPanic{p}
	log.LogAttrs(ctx, slog.LevelWarn, "content made a decoder panic", slog.Any("why", p), slog.String("stack", string(debug.Stack())))
	traceOf(ctx).fail(ctx, stepFailure{step: step, err: cause})
	*err = &blockFailure{cause.Error()}
}

// GetAll implements boxo's backend.
func (b *backend) GetAll(ctx context.Context, p boxopath.ImmutablePath) (md boxogw.ContentPathMetadata, n files.Node, err error) {
	defer blameContent(ctx, b.log, StepBlock, &err)
	return b.BlocksBackend.GetAll(ctx, p)
}

// Head implements boxo's backend.
func (b *backend) Head(ctx context.Context, p boxopath.ImmutablePath) (md boxogw.ContentPathMetadata, r *boxogw.HeadResponse, err error) {
	defer blameContent(ctx, b.log, StepBlock, &err)
	return b.BlocksBackend.Head(ctx, p)
}
