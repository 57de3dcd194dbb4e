package merkle

import (
	"context"
	"fmt"

	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/boxo/ipld/unixfs/hamt"
	uio "github.com/ipfs/boxo/ipld/unixfs/io"
	ipld "github.com/ipfs/go-ipld-format"
)

// maxShardLevels is how many shards lie between a sharded folder's root and
// its entries at most: the hash of a name has 64 bits, a level takes 8.
const maxShardLevels = 64 / 8

// tree builds the folders under e, children first, when all files are built.
func (b *builder) tree(ctx context.Context, e *entry) error {
	if !e.folder {
		return nil
	}
	for _, c := range e.children {
		if err := b.tree(ctx, c); err != nil {
			return err
		}
		e.built.height = max(e.built.height, c.built.height+1)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := b.folder(ctx, e); err != nil {
		return &PathError{Path: e.where(), Err: err}
	}
	return nil
}

// folder builds one folder by the profile: plain while it is small enough,
// else sharded. boxo's own directory type decides the same, but anew with every
// name that is added, at a cost that grows with the square of their number.
func (b *builder) folder(ctx context.Context, e *entry) error {
	n := unixfs.EmptyDirNode()
	if err := n.SetCidBuilder(b.profile.CidBuilder()); err != nil {
		return err
	}
	linkBytes := 0
	for _, c := range e.children {
		if err := n.AddRawLink(c.name, &ipld.Link{Name: c.name, Size: c.built.tsize, Cid: c.built.cid}); err != nil {
			return err
		}
		linkBytes += len(c.name) + c.built.cid.ByteLen()
	}
	size := linkBytes
	if b.profile.HAMTSizeEstimation == uio.SizeEstimationBlock {
		size = len(n.RawData())
	}
	if size > b.profile.HAMTShardingSize {
		e.built.height += maxShardLevels
		if err := b.shards(ctx, e); err != nil {
			return err
		}
	} else if err := b.finish(ctx, n, &e.built); err != nil {
		return err
	}
	if e.built.height > DefaultMaxDepth {
		return fmt.Errorf("%w: nested more than %d links deep", ErrLimit, DefaultMaxDepth)
	}
	return nil
}

// shards builds a folder as a HAMT.
func (b *builder) shards(ctx context.Context, e *entry) error {
	root, err := hamt.NewShard(b.writer(ctx, &e.built), b.profile.HAMTShardWidth)
	if err != nil {
		return err
	}
	root.SetCidBuilder(b.profile.CidBuilder())
	for _, c := range e.children {
		if err := root.SetLink(ctx, c.name, &ipld.Link{Name: c.name, Size: c.built.tsize, Cid: c.built.cid}); err != nil {
			return err
		}
	}
	n, err := root.Node() // stores it and the shards below
	if err != nil {
		return err
	}
	return e.built.rootedAt(n)
}
