package merkle

import (
	"context"
	"slices"

	ipld "github.com/ipfs/go-ipld-format"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// One batch of a sink. Two may wait and one be written while the next is filled.
const (
	batchBytes  = 4 << 20
	batchBlocks = 1024
)

// batch is blocks for one Put, and the slabs that hold their bytes.
type batch struct {
	blocks []blockstore.Block
	from   []blockstore.Origin // of the blocks
	bytes  int
	slabs  [][]byte
}

func (b *batch) full() bool { return b.bytes >= batchBytes || len(b.blocks) >= batchBlocks }

func (b *batch) add(blk blockstore.Block, from blockstore.Origin) {
	b.blocks, b.from = append(b.blocks, blk), append(b.from, from)
	b.bytes += blk.Size()
}

// sink gathers blocks of many files into few, large Puts. One goroutine
// writes, so batches reach the store in the order in which they were handed
// over: a parent never before its children.
type sink struct {
	queue chan batch
	slabs *slabs // where they go back to; nil: nobody uses any

	added blockstore.Added // owned by write until it has returned
}

func newSink() *sink { return &sink{queue: make(chan batch, 2)} }

// hand gives a batch to the writer, unless it is empty.
func (s *sink) hand(ctx context.Context, b batch) error {
	if len(b.blocks) == 0 {
		return nil
	}
	select {
	case s.queue <- b:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close tells write that nothing more comes.
func (s *sink) close() { close(s.queue) }

// write puts batches into the session until close.
func (s *sink) write(ctx context.Context, into blockstore.Session) error {
	for b := range s.queue {
		added, err := put(ctx, into, b)
		if err != nil {
			return err
		}
		s.added.Blocks += added.Blocks
		s.added.Bytes += added.Bytes
		for _, slab := range b.slabs {
			s.slabs.give(slab)
		}
	}
	return nil
}

func put(ctx context.Context, into blockstore.Session, b batch) (blockstore.Added, error) {
	if r, ok := into.(blockstore.Referrer); ok && slices.ContainsFunc(b.from, func(o blockstore.Origin) bool { return o.Path != "" }) {
		return r.PutFrom(ctx, b.blocks, b.from)
	}
	return into.Put(ctx, b.blocks...)
}

// nodeWriter lets boxo's builders write through a function; it can't read.
// boxo hands it no useful context, so the function brings its own.
type nodeWriter struct {
	ipld.DAGService // nil: every method that is not below would panic
	add             func(ipld.Node) error
}

func (w nodeWriter) Add(_ context.Context, n ipld.Node) error { return w.add(n) }

func (w nodeWriter) AddMany(_ context.Context, ns []ipld.Node) error {
	for _, n := range ns {
		if err := w.add(n); err != nil {
			return err
		}
	}
	return nil
}
