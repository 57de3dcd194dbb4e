package merkle

import (
	"context"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// slabSize is the size of the buffers that files are read into, in bytes: one
// chunk of a large file, or many small files.
const slabSize = 1 << 20

// slabs are the buffers of one build. There are never more than it was made
// with, which is what bounds the content in memory: who needs one waits until
// the store has taken what another holds.
type slabs struct{ free chan []byte }

func newSlabs(n int) *slabs {
	s := &slabs{free: make(chan []byte, n)}
	for range n {
		s.free <- nil // made when it is first taken
	}
	return s
}

// tryTake is nil where none is free.
func (s *slabs) tryTake() []byte {
	select {
	case slab := <-s.free:
		return made(slab)
	default:
		return nil
	}
}

// take waits for one. Whoever waits must hold none that the writer does not
// have yet, or all could wait for each other.
func (s *slabs) take(ctx context.Context) ([]byte, error) {
	select {
	case slab := <-s.free:
		return made(slab), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *slabs) give(slab []byte) { s.free <- slab }

func made(slab []byte) []byte {
	if slab == nil {
		return make([]byte, slabSize)
	}
	return slab
}

// packer fills batches for a sink with what one goroutine reads. Its blocks
// reach the store in the order in which they were put.
type packer struct {
	sink  *sink
	batch batch
	rest  []byte // of the batch's last slab
}

// slab is a whole slab. The caller gives it to the batch with its block, or back.
func (p *packer) slab(ctx context.Context) ([]byte, error) {
	if slab := p.sink.slabs.tryTake(); slab != nil {
		return slab, nil
	}
	if err := p.flush(ctx); err != nil {
		return nil, err
	}
	return p.sink.slabs.take(ctx)
}

// room is n bytes, at most slabSize, for a block that is put next.
func (p *packer) room(ctx context.Context, n int) ([]byte, error) {
	if len(p.rest) < n {
		slab, err := p.slab(ctx)
		if err != nil {
			return nil, err
		}
		p.batch.slabs = append(p.batch.slabs, slab)
		p.rest = slab
	}
	out := p.rest[:n:n]
	p.rest = p.rest[n:]
	return out, nil
}

// put takes a block over; origin is zero unless it is to stay there.
func (p *packer) put(ctx context.Context, b blockstore.Block, origin blockstore.Origin) error {
	if p.batch.add(b, origin); p.batch.full() {
		return p.flush(ctx)
	}
	return nil
}

// flush hands the batch to the writer.
func (p *packer) flush(ctx context.Context) error {
	b := p.batch
	p.batch, p.rest = batch{blocks: make([]blockstore.Block, 0, len(b.blocks)), from: make([]blockstore.Origin, 0, len(b.from))}, nil
	return p.sink.hand(ctx, b)
}
