package merkle

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/boxo/ipld/unixfs/importer/balanced"
	"github.com/ipfs/boxo/ipld/unixfs/importer/helpers"
	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// maxAhead bounds the chunks of one file that are hashed at once.
const maxAhead = 8

// file builds one regular file and makes sure that it was the scanned one
// throughout.
func (b *builder) file(ctx context.Context, e *entry) (node, error) {
	f, err := openFile(b.scan.path(e))
	if errors.Is(err, fs.ErrNotExist) {
		return node{}, ErrChanged
	}
	if err != nil {
		return node{}, bareError(err)
	}
	defer f.Close()
	if !unchanged(f, e.info) {
		return node{}, ErrChanged
	}
	var out node
	if e.info.Size() <= b.profile.ChunkSize && b.profile.RawLeaves {
		out, err = b.smallFile(ctx, f, e.info.Size())
	} else {
		out, err = b.largeFile(ctx, f, e.info.Size())
	}
	if err != nil {
		return node{}, bareError(err)
	}
	if !unchanged(f, e.info) {
		return node{}, ErrChanged
	}
	return out, nil
}

// unchanged compares with what the scan saw; it also notices that another
// file, or a link to one, has been put in its place.
func unchanged(f *os.File, scanned fs.FileInfo) bool {
	now, err := f.Stat()
	return err == nil && now.Mode().IsRegular() && os.SameFile(now, scanned) &&
		now.Size() == scanned.Size() && now.ModTime().Equal(scanned.ModTime())
}

// smallFile is a file of one raw leaf: the common case, without any of the
// layout's machinery.
func (b *builder) smallFile(ctx context.Context, f io.Reader, size int64) (node, error) {
	data := make([]byte, size)
	if _, err := io.ReadFull(f, data); err != nil {
		return node{}, shortRead(err)
	}
	blk, err := blockstore.NewBlock(rawPrefix(b.profile.CidBuilder()), data)
	if err != nil {
		return node{}, err
	}
	if err := b.sink.put(ctx, blk); err != nil {
		return node{}, err
	}
	b.bytes.Add(size)
	return node{cid: blk.Cid(), tsize: uint64(size), blocks: []sizedID{{blk.Cid(), size}}}, nil
}

// largeFile is laid out by boxo, its leaves hashed ahead on several processors.
func (b *builder) largeFile(ctx context.Context, f io.Reader, size int64) (node, error) {
	chunks := &chunker{
		r:      f,
		left:   size,
		size:   b.profile.ChunkSize,
		prefix: rawPrefix(b.profile.CidBuilder()),
		ahead:  min(b.workers+1, maxAhead),
		read: func(n int) error {
			b.bytes.Add(int64(n))
			b.report()
			return ctx.Err()
		},
	}
	defer chunks.close()
	var out node
	params := helpers.DagBuilderParams{
		Maxlinks:   b.profile.FileDAGWidth,
		RawLeaves:  b.profile.RawLeaves,
		CidBuilder: b.profile.CidBuilder(),
		Dagserv:    b.writer(ctx, &out),
	}
	if b.profile.RawLeaves {
		params.CidBuilder = hashedAhead{chunks, params.CidBuilder.(cid.Prefix)}
	} else {
		chunks.ahead = 0
	}
	layout, err := params.New(chunks)
	if err != nil {
		return node{}, err
	}
	root, err := balanced.Layout(layout)
	if err != nil {
		return node{}, shortRead(err)
	}
	for n := divideUp(size, b.profile.ChunkSize); n > 1; n = divideUp(n, int64(b.profile.FileDAGWidth)) {
		out.height++
	}
	return out, out.rootedAt(root)
}

// symlink writes a UnixFS symlink.
func (b *builder) symlink(ctx context.Context, target string) (node, error) {
	data, err := unixfs.SymlinkData(target)
	if err != nil {
		return node{}, err
	}
	n := merkledag.NodeWithData(data)
	if err := n.SetCidBuilder(b.profile.CidBuilder()); err != nil {
		return node{}, err
	}
	var out node
	return out, b.finish(ctx, n, &out)
}

func divideUp(n, by int64) int64 { return (n + by - 1) / by }

func shortRead(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrChanged
	}
	return err
}

func rawPrefix(b cid.Builder) cid.Prefix {
	return b.WithCodec(cid.Raw).(cid.Prefix)
}

// chunk is a piece of a file and its CID as a raw leaf, once done is closed.
type chunk struct {
	data []byte
	cid  cid.Cid
	err  error
	done chan struct{}
}

// chunker is boxo's Splitter: it cuts a file of known size into pieces of one
// size and hashes the next few while the layout works on the current one.
type chunker struct {
	r      io.Reader
	left   int64 // bytes not yet read
	size   int64 // of a chunk
	prefix cid.Prefix
	ahead  int // chunks to hash before they are asked for; 0: hash none
	read   func(n int) error

	queue   []*chunk
	current *chunk
	wg      sync.WaitGroup
}

// Reader implements boxo's Splitter.
func (c *chunker) Reader() io.Reader { return c.r }

// NextBytes implements boxo's Splitter.
func (c *chunker) NextBytes() ([]byte, error) {
	for c.left > 0 && len(c.queue) <= c.ahead {
		next := &chunk{data: make([]byte, min(c.left, c.size)), done: make(chan struct{})}
		if _, err := io.ReadFull(c.r, next.data); err != nil {
			// The layout takes io.EOF for a clean end.
			return nil, ErrChanged
		}
		c.left -= int64(len(next.data))
		if err := c.read(len(next.data)); err != nil {
			return nil, err
		}
		c.queue = append(c.queue, next)
		if c.ahead > 0 {
			c.wg.Go(func() {
				defer close(next.done)
				next.cid, next.err = c.prefix.Sum(next.data)
			})
		}
	}
	if len(c.queue) == 0 {
		return nil, io.EOF
	}
	c.current, c.queue = c.queue[0], c.queue[1:]
	return c.current.data, nil
}

// close waits for the hashing that nobody will ask for.
func (c *chunker) close() { c.wg.Wait() }

// hashedAhead is a cid.Builder that knows the CID of the chunk that was handed
// out last, and computes all others.
type hashedAhead struct {
	chunks *chunker
	cid.Prefix
}

// Sum implements cid.Builder.
func (h hashedAhead) Sum(data []byte) (cid.Cid, error) {
	if c := h.chunks.current; h.Codec == cid.Raw && c != nil && len(data) > 0 && len(data) == len(c.data) && &data[0] == &c.data[0] {
		<-c.done
		return c.cid, c.err
	}
	return h.Prefix.Sum(data)
}

// WithCodec implements cid.Builder.
func (h hashedAhead) WithCodec(codec uint64) cid.Builder {
	h.Codec = codec
	return h
}
