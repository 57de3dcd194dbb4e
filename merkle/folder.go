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
func (b *builder) tree(ctx context.Context, into *packer, e *entry) error {
	if !e.folder {
		return nil
	}
	for i := range e.children {
		c := &e.children[i]
		if err := b.tree(ctx, into, c); err != nil {
			return err
		}
		e.built.height = max(e.built.height, c.built.height+1)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if e.recalled && e.sameEntries() {
		e.built = e.known.node
		return nil
	}
	if err := b.folder(ctx, into, e); err != nil {
		return &PathError{Path: e.where(), Err: err}
	}
	return nil
}

// folder builds one folder by the profile: plain while it is small enough,
// else sharded. boxo's own directory type decides the same, but anew with every
// name that is added, at a cost that grows with the square of their number.
func (b *builder) folder(ctx context.Context, into *packer, e *entry) error {
	n := unixfs.EmptyDirNode()
	if err := n.SetCidBuilder(b.profile.CidBuilder()); err != nil {
		return err
	}
	links := make([]*ipld.Link, len(e.children))
	size := 0
	for i := range e.children {
		c := &e.children[i]
		links[i] = c.built.link(c.name)
		size += len(c.name) + c.built.cid.ByteLen()
	}
	if err := n.SetLinks(links); err != nil {
		return err
	}
	if b.profile.HAMTSizeEstimation == uio.SizeEstimationBlock && size <= b.profile.HAMTShardingSize {
		size = len(n.RawData()) // which is larger
	}
	made := assembly{into: into, out: &e.built}
	if size > b.profile.HAMTShardingSize {
		e.built.height += maxShardLevels
		if err := b.shards(ctx, made, links); err != nil {
			return err
		}
	} else if err := made.finish(ctx, n); err != nil {
		return err
	}
	if e.built.height > DefaultMaxDepth {
		return fmt.Errorf("%w: nested more than %d links deep", ErrLimit, DefaultMaxDepth)
	}
	return nil
}

// shards builds a folder as a HAMT.
func (b *builder) shards(ctx context.Context, made assembly, links []*ipld.Link) error {
	root, err := hamt.NewShard(made.writer(ctx), b.profile.HAMTShardWidth)
	if err != nil {
		return err
	}
	root.SetCidBuilder(b.profile.CidBuilder())
	for _, l := range links {
		if err := root.SetLink(ctx, l.Name, l); err != nil {
			return err
		}
	}
	n, err := root.Node() // stores it and the shards below
	if err != nil {
		return err
	}
	return made.rootedAt(n)
}
