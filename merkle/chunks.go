package merkle

import (
	"context"
	"io"
	"slices"
	"sync"

	"github.com/ipfs/go-cid"
)

// maxAhead bounds the chunks of one file that are read and hashed at once.
const maxAhead = 8

// chunk is a piece of a file and, once done is closed, its content and its CID
// as a raw leaf.
type chunk struct {
	off  int64 // in the file
	data []byte
	slab []byte // that holds data; nil: it has memory of its own
	cid  cid.Cid
	err  error
	done chan struct{}
}

// chunker is boxo's Splitter: it cuts a file of known size into pieces of one
// size, and reads and hashes the next few while the layout works on the
// current one.
type chunker struct {
	ctx    context.Context // of the one file: boxo brings none
	r      io.ReaderAt
	off    int64
	size   int64 // of the file
	length int64 // of a chunk
	raw    bool  // leaves are the chunks themselves: hash them, in slabs of into
	prefix cid.Prefix
	ahead  int // chunks to begin before they are asked for
	into   *packer
	read   func(n int)

	queue  []*chunk
	handed []*chunk // in slabs, and not yet back as blocks
	wg     sync.WaitGroup
}

// Reader implements boxo's Splitter; nobody asks for it.
func (c *chunker) Reader() io.Reader { return nil }

// NextBytes implements boxo's Splitter.
func (c *chunker) NextBytes() ([]byte, error) {
	if err := c.fill(); err != nil {
		return nil, err
	}
	if len(c.queue) == 0 {
		return nil, io.EOF
	}
	next := c.queue[0]
	c.queue = c.queue[1:]
	<-next.done
	if next.err != nil {
		return nil, next.err
	}
	if next.slab != nil {
		c.handed = append(c.handed, next)
	}
	c.read(len(next.data))
	return next.data, c.ctx.Err()
}

// fill begins as many chunks as may be: the next one always, those after it
// while there is memory.
func (c *chunker) fill() error {
	for c.off < c.size && len(c.queue) <= c.ahead {
		next := &chunk{off: c.off, done: make(chan struct{})}
		n := min(c.size-c.off, c.length)
		switch {
		case !c.raw:
			next.data = make([]byte, n)
		case len(c.queue) > 0:
			if next.slab = c.into.sink.slabs.tryTake(); next.slab == nil {
				return nil
			}
		default:
			slab, err := c.into.slab(c.ctx)
			if err != nil {
				return err
			}
			next.slab = slab
		}
		if next.slab != nil {
			next.data = next.slab[:n:n]
		}
		c.queue = append(c.queue, next)
		c.off += n
		c.wg.Go(func() { c.begin(next) })
	}
	return nil
}

func (c *chunker) begin(next *chunk) {
	defer close(next.done)
	if n, err := c.r.ReadAt(next.data, next.off); n < len(next.data) {
		next.err = shortRead(err)
	} else if c.raw {
		next.cid, next.err = c.prefix.Sum(next.data)
	}
}

// find is the index in handed of the chunk that is data; -1 where there is none.
func (c *chunker) find(data []byte) int {
	if c == nil || len(data) == 0 {
		return -1
	}
	return slices.IndexFunc(c.handed, func(h *chunk) bool {
		return len(h.data) == len(data) && &h.data[0] == &data[0]
	})
}

// leaf is the chunk that a leaf's bytes are, whose slab is the caller's from now
// on; nil where they aren't one.
func (c *chunker) leaf(data []byte) *chunk {
	i := c.find(data)
	if i < 0 {
		return nil
	}
	leaf := c.handed[i]
	c.handed = slices.Delete(c.handed, i, i+1)
	return leaf
}

// close waits for the chunks that nobody will ask for.
func (c *chunker) close() { c.wg.Wait() }

// hashedAhead is a cid.Builder that knows the CIDs of the chunks that were
// handed out, and computes all others.
type hashedAhead struct {
	chunks *chunker
	cid.Prefix
}

// Sum implements cid.Builder.
func (h hashedAhead) Sum(data []byte) (cid.Cid, error) {
	if h.Codec == cid.Raw {
		if i := h.chunks.find(data); i >= 0 {
			return h.chunks.handed[i].cid, nil
		}
	}
	return h.Prefix.Sum(data)
}

// WithCodec implements cid.Builder.
func (h hashedAhead) WithCodec(codec uint64) cid.Builder {
	h.Codec = codec
	return h
}
