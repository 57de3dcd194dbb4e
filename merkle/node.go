package merkle

import (
	"context"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// node is a finished part of the tree.
type node struct {
	sizedID           // its root block
	tsize   uint64    // bytes of the whole sub-DAG, as links declare it
	height  int       // links to the deepest leaf
	below   []sizedID // the other blocks of its own (not its entries'), unique, children first
}

type sizedID struct {
	cid  cid.Cid
	size int64
}

// all are the blocks of n, children first: a sequence.
func (n *node) all(yield func(sizedID) bool) {
	for _, b := range n.below {
		if !yield(b) {
			return
		}
	}
	yield(n.sizedID)
}

// link is what a folder says about n.
func (n *node) link(name string) *ipld.Link {
	return &ipld.Link{Name: name, Size: n.tsize, Cid: n.cid}
}

// assembly is one node that boxo builds, block by block; the root is put last.
type assembly struct {
	into   *packer
	out    *node
	seen   map[cid.Cid]struct{} // nil: no block can come twice
	chunks *chunker             // whose leaves these are; may be nil
	origin blockstore.Origin    // of the file, where leaves stay in it
}

// writer is where boxo's builders put the blocks.
func (a *assembly) writer(ctx context.Context) nodeWriter {
	return nodeWriter{add: func(n ipld.Node) error { return a.add(ctx, n) }}
}

func (a *assembly) add(ctx context.Context, n ipld.Node) error {
	blk, err := blockstore.BlockOf(n)
	if err != nil {
		return err
	}
	leaf := a.chunks.leaf(blk.RawData())
	if a.seen != nil {
		if _, twice := a.seen[blk.Cid()]; twice {
			if leaf != nil {
				a.into.sink.slabs.give(leaf.slab)
			}
			return nil
		}
		a.seen[blk.Cid()] = struct{}{}
	}
	origin := blockstore.Origin{}
	if leaf != nil {
		a.into.batch.slabs = append(a.into.batch.slabs, leaf.slab)
		if origin = a.origin; origin.Path != "" {
			origin.Offset = leaf.off
		}
	}
	if a.out.cid.Defined() {
		a.out.below = append(a.out.below, a.out.sizedID)
	}
	a.out.sizedID = sizedID{blk.Cid(), int64(blk.Size())}
	return a.into.put(ctx, blk, origin)
}

// finish adds n as the root.
func (a *assembly) finish(ctx context.Context, n *merkledag.ProtoNode) error {
	if err := a.add(ctx, n); err != nil {
		return err
	}
	return a.rootedAt(n)
}

func (a *assembly) rootedAt(n ipld.Node) (err error) {
	a.out.tsize, err = n.Size()
	return err
}
