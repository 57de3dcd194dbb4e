package merkle

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/boxo/ipld/unixfs/importer/balanced"
	"github.com/ipfs/boxo/ipld/unixfs/importer/helpers"
	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// file builds one regular file and makes sure that it was the scanned one
// throughout.
func (b *builder) file(ctx context.Context, into *packer, e *entry) (node, error) {
	f, err := openFile(e.path())
	if errors.Is(err, fs.ErrNotExist) {
		return node{}, ErrChanged
	}
	if err != nil {
		return node{}, bareError(err)
	}
	defer f.Close()
	if !unchanged(f, e.stamp) {
		return node{}, ErrChanged
	}
	var out node
	if b.oneLeaf(e.stamp.size) {
		out, err = b.smallFile(ctx, into, f, e)
	} else {
		out, err = b.largeFile(ctx, into, f, e)
	}
	if err != nil {
		return node{}, bareError(err)
	}
	if !unchanged(f, e.stamp) {
		return node{}, ErrChanged
	}
	return out, nil
}

// unchanged compares with what the scan saw; it also notices that another
// file, or a link to one, has been put in its place.
func unchanged(f *os.File, scanned stamp) bool {
	now, err := f.Stat()
	return err == nil && now.Mode().IsRegular() && stampOf(now).sameFile(scanned)
}

// oneLeaf says that a file of this size is one raw leaf: the common case,
// which needs nothing of the layout's machinery.
func (b *builder) oneLeaf(size int64) bool {
	return b.profile.RawLeaves && size <= min(b.profile.ChunkSize, slabSize)
}

// origin is where blocks of a file stay; zero where they are copied.
func (b *builder) origin(e *entry) blockstore.Origin {
	if !b.opts.InPlace {
		return blockstore.Origin{}
	}
	return blockstore.Origin{Path: e.path(), Size: e.stamp.size, ModTime: e.stamp.mtime}
}

func (b *builder) smallFile(ctx context.Context, into *packer, f io.ReaderAt, e *entry) (node, error) {
	size := e.stamp.size
	data, err := into.room(ctx, int(size))
	if err != nil {
		return node{}, err
	}
	if n, err := f.ReadAt(data, 0); n < len(data) {
		return node{}, shortRead(err)
	}
	blk, err := blockstore.NewBlock(b.rawPrefix, data)
	if err != nil {
		return node{}, err
	}
	if err := into.put(ctx, blk, b.origin(e)); err != nil {
		return node{}, err
	}
	b.bytes.Add(size)
	return node{sizedID: sizedID{blk.Cid(), size}, tsize: uint64(size)}, nil
}

// largeFile is laid out by boxo, its leaves read and hashed ahead on several
// processors.
func (b *builder) largeFile(ctx context.Context, into *packer, f io.ReaderAt, e *entry) (node, error) {
	size := e.stamp.size
	chunks := &chunker{
		ctx:    ctx,
		r:      f,
		size:   size,
		length: b.profile.ChunkSize,
		raw:    b.profile.RawLeaves && b.profile.ChunkSize <= slabSize,
		prefix: b.rawPrefix,
		ahead:  min(b.workers+1, maxAhead),
		into:   into,
		read: func(n int) {
			b.bytes.Add(int64(n))
			b.report()
		},
	}
	defer chunks.close()
	var out node
	made := assembly{into: into, out: &out, seen: make(map[cid.Cid]struct{}), chunks: chunks, origin: b.origin(e)}
	params := helpers.DagBuilderParams{
		Maxlinks:   b.profile.FileDAGWidth,
		RawLeaves:  b.profile.RawLeaves,
		CidBuilder: b.profile.CidBuilder(),
		Dagserv:    made.writer(ctx),
	}
	if chunks.raw {
		params.CidBuilder = hashedAhead{chunks, params.CidBuilder.(cid.Prefix)}
	}
	layout, err := params.New(chunks)
	if err != nil {
		return node{}, err
	}
	root, err := balanced.Layout(layout)
	if err != nil {
		return node{}, err
	}
	for n := divideUp(size, b.profile.ChunkSize); n > 1; n = divideUp(n, int64(b.profile.FileDAGWidth)) {
		out.height++
	}
	return out, made.rootedAt(root)
}

// symlink writes a UnixFS symlink.
func (b *builder) symlink(ctx context.Context, into *packer, target string) (out node, err error) {
	data, err := unixfs.SymlinkData(target)
	if err != nil {
		return node{}, err
	}
	n := merkledag.NodeWithData(data)
	if err := n.SetCidBuilder(b.profile.CidBuilder()); err != nil {
		return node{}, err
	}
	made := assembly{into: into, out: &out}
	return out, made.finish(ctx, n)
}

func divideUp(n, by int64) int64 { return (n + by - 1) / by }

// shortRead is why a read got less than the file had. The layout would take
// io.EOF for a clean end.
func shortRead(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrChanged
	}
	return err
}

func rawPrefix(b cid.Builder) cid.Prefix {
	return b.WithCodec(cid.Raw).(cid.Prefix)
}
