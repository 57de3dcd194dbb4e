package merkle

import (
	"context"
	"sync"

	"github.com/ipfs/boxo/ipld/merkledag"
	ipld "github.com/ipfs/go-ipld-format"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// One batch of a sink. Two may wait and one be written while workers fill the
// next, so a build holds at most four of them.
const (
	batchBytes  = 4 << 20
	batchBlocks = 1024
)

// sink gathers blocks of many files into few, large Puts. One goroutine
// writes, so blocks reach the store in the order in which they were added: a
// parent never before its children.
type sink struct {
	mu    sync.Mutex
	batch []blockstore.Block
	size  int
	queue chan []blockstore.Block

	added blockstore.Added // owned by write until it has returned
}

func newSink() *sink { return &sink{queue: make(chan []blockstore.Block, 2)} }

// put takes one block over; it waits while the writer is behind.
func (s *sink) put(ctx context.Context, b blockstore.Block) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batch = append(s.batch, b)
	s.size += b.Size()
	if s.size < batchBytes && len(s.batch) < batchBlocks {
		return nil
	}
	return s.hand(ctx)
}

// flush hands the last, partly filled batch to the writer.
func (s *sink) flush(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.batch) == 0 {
		return nil
	}
	return s.hand(ctx)
}

// hand is called with the lock held, which keeps the batches in order.
func (s *sink) hand(ctx context.Context) error {
	select {
	case s.queue <- s.batch:
		s.batch, s.size = make([]blockstore.Block, 0, len(s.batch)), 0
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close tells write that nothing more comes.
func (s *sink) close() { close(s.queue) }

// write puts batches into the session until close.
func (s *sink) write(ctx context.Context, into blockstore.Session) error {
	for batch := range s.queue {
		added, err := into.Put(ctx, batch...)
		if err != nil {
			return err
		}
		s.added.Blocks += added.Blocks
		s.added.Bytes += added.Bytes
	}
	return nil
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

// writer collects the blocks that boxo makes for one node into out.
func (b *builder) writer(ctx context.Context, out *node) nodeWriter {
	return nodeWriter{add: func(n ipld.Node) error {
		blk, err := blockstore.BlockOf(n)
		if err != nil {
			return err
		}
		out.blocks = append(out.blocks, sizedID{blk.Cid(), int64(blk.Size())})
		return b.sink.put(ctx, blk)
	}}
}

// finish makes n the root of out, storing it.
func (b *builder) finish(ctx context.Context, n *merkledag.ProtoNode, out *node) error {
	if err := b.writer(ctx, out).Add(ctx, n); err != nil {
		return err
	}
	return out.rootedAt(n)
}

func (out *node) rootedAt(n ipld.Node) (err error) {
	out.cid = n.Cid()
	out.tsize, err = n.Size()
	return err
}
