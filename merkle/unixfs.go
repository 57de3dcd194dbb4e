package merkle

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"

	"github.com/holdfast-sites/holdfast/blockstore"
)

type kind int

const (
	kindFile kind = iota
	kindFolder
	kindShard // of a sharded folder (HAMT)
	kindSymlink
)

// fsNode is one decoded UnixFS node that is consistent in itself: what it says
// about its children has still to be compared with them.
type fsNode struct {
	cid    cid.Cid
	kind   kind
	links  []*ipld.Link
	data   []byte    // content of a leaf, target of a symlink
	size   int64     // bytes of content under a file node
	sizes  []int64   // the same, of each link
	mtime  time.Time // zero where it has none
	fanout fanout    // of shards
	slots  []int     // the slot of each of a shard's links, ascending
}

// decodeNode checks what can be checked about one node. ErrMalformed, or
// ErrUnsupported where the block is no UnixFS at all.
func decodeNode(b blockstore.Block) (*fsNode, error) {
	n := &fsNode{cid: b.Cid()}
	switch b.Cid().Prefix().Codec {
	case cid.Raw:
		n.data, n.size = b.RawData(), int64(b.Size())
		return n, nil
	case cid.DagProtobuf:
	default:
		return nil, fmt.Errorf("%s: %w: not UnixFS (codec 0x%x)", n.cid, ErrUnsupported, b.Cid().Prefix().Codec)
	}
	pb, err := decodePB(b)
	if err != nil {
		return nil, err
	}
	if pb.Data() == nil {
		return nil, malformed(n.cid, errors.New("no UnixFS data"))
	}
	fs, err := unixfs.FSNodeFromBytes(pb.Data())
	if err != nil {
		return nil, malformed(n.cid, err)
	}
	n.links, n.mtime = pb.Links(), fs.ModTime()
	switch fs.Type() {
	case unixfs.TFile, unixfs.TRaw:
		err = n.asFile(fs)
	case unixfs.TDirectory:
		n.kind = kindFolder
	case unixfs.THAMTShard:
		n.kind = kindShard
		err = n.asShard(fs)
	case unixfs.TSymlink:
		n.kind, n.data = kindSymlink, fs.Data()
		if len(n.links) > 0 {
			err = errors.New("a symlink with links")
		}
	default:
		return nil, fmt.Errorf("%s: %w: UnixFS type %s", n.cid, ErrUnsupported, fs.Type())
	}
	if err != nil {
		return nil, malformed(n.cid, err)
	}
	return n, nil
}

// checkShard refuses a malformed shard also where only links are followed, so
// that nothing is kept which can't be listed. Other nodes may be what they like.
func checkShard(c cid.Cid, pb *merkledag.ProtoNode) error {
	fs, err := unixfs.FSNodeFromBytes(pb.Data())
	if err != nil || fs.Type() != unixfs.THAMTShard {
		return nil
	}
	n := &fsNode{cid: c, kind: kindShard, links: pb.Links()}
	if err := n.asShard(fs); err != nil {
		return malformed(c, err)
	}
	return nil
}

func (n *fsNode) asFile(fs *unixfs.FSNode) error {
	n.kind, n.data = kindFile, fs.Data()
	if len(n.links) > 0 && len(n.data) > 0 {
		return errors.New("an inner node with content of its own")
	}
	if len(fs.BlockSizes()) != len(n.links) {
		return fmt.Errorf("%d sizes for %d links", len(fs.BlockSizes()), len(n.links))
	}
	n.size = int64(len(n.data))
	n.sizes = make([]int64, len(n.links))
	for i, s := range fs.BlockSizes() {
		if s > math.MaxInt64-uint64(n.size) {
			return errors.New("sizes that overflow")
		}
		n.sizes[i] = int64(s)
		n.size += int64(s)
	}
	if fs.FileSize() != uint64(n.size) {
		return fmt.Errorf("says it has %d bytes, its parts %d", fs.FileSize(), n.size)
	}
	return nil
}

// isFolder says that n is a folder, sharded or not.
func (n *fsNode) isFolder() bool { return n.kind == kindFolder || n.kind == kindShard }

// nodeGetter gets a decoded node: anew, or one that was kept.
type nodeGetter func(ctx context.Context, c cid.Cid) (*fsNode, error)

func nodesOf(g blockstore.Getter) nodeGetter {
	return func(ctx context.Context, c cid.Cid) (*fsNode, error) { return getNode(ctx, g, c) }
}

func getNode(ctx context.Context, g blockstore.Getter, c cid.Cid) (*fsNode, error) {
	b, err := g.Get(ctx, c)
	if err != nil {
		return nil, err
	}
	return decodeNode(b)
}
