package merkle

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"
	"github.com/ipld/go-ipld-prime/codec"
	"github.com/ipld/go-ipld-prime/codec/dagcbor"
	"github.com/ipld/go-ipld-prime/codec/dagjson"
	"github.com/ipld/go-ipld-prime/datamodel"
	cidlink "github.com/ipld/go-ipld-prime/linking/cid"
	"github.com/ipld/go-ipld-prime/node/basicnode"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// maxNesting bounds maps and lists within each other in one DAG-CBOR or
// DAG-JSON block; maxNodeCost what decoding one may allocate, in bytes.
const (
	maxNesting  = 256
	maxNodeCost = 8 * blockstore.MaxBlockSize
)

// Links returns what a block links to, in the order in which its codec lists
// it, repetitions included. Raw blocks have no links. ErrMalformed where the
// bytes don't follow the codec (dag-pb, dag-cbor, dag-json), or are a shard of a
// folder that nobody could list; ErrUnsupported for any other codec.
func Links(b blockstore.Block) ([]cid.Cid, error) {
	switch b.Cid().Prefix().Codec {
	case cid.Raw:
		return nil, nil
	case cid.DagProtobuf:
		n, err := decodePB(b)
		if err != nil {
			return nil, err
		}
		if err := checkShard(b.Cid(), n); err != nil {
			return nil, err
		}
		links := make([]cid.Cid, len(n.Links()))
		for i, l := range n.Links() {
			links[i] = l.Cid
		}
		return links, nil
	case cid.DagCBOR:
		n, err := decodeCBOR(b)
		if err != nil {
			return nil, err
		}
		return appendLinks(nil, n), nil
	case cid.DagJSON:
		n, err := decodeJSON(b)
		if err != nil {
			return nil, err
		}
		return appendLinks(nil, n), nil
	}
	return nil, fmt.Errorf("%s: codec 0x%x: %w", b.Cid(), b.Cid().Prefix().Codec, ErrUnsupported)
}

func decodePB(b blockstore.Block) (*merkledag.ProtoNode, error) {
	n, err := merkledag.DecodeProtobuf(b.RawData())
	if err != nil {
		return nil, malformed(b.Cid(), err)
	}
	return n, nil
}

func decodeCBOR(b blockstore.Block) (datamodel.Node, error) {
	nb := basicnode.Prototype.Any.NewBuilder()
	opts := dagcbor.DecodeOptions{AllowLinks: true, MaxDepth: maxNesting, AllocationBudget: maxNodeCost}
	if err := opts.Decode(nb, bytes.NewReader(b.RawData())); err != nil {
		return nil, malformed(b.Cid(), err)
	}
	n := nb.Build()
	// The decoder overlooks some things that DAG-CBOR does not allow (a tag on
	// text, undefined, short floats). Old data with unsorted keys is let through.
	var again bytes.Buffer
	err := dagcbor.EncodeOptions{AllowLinks: true, MapSortMode: codec.MapSortMode_None}.Encode(n, &again)
	if err != nil {
		return nil, malformed(b.Cid(), err)
	}
	if !bytes.Equal(again.Bytes(), b.RawData()) {
		return nil, malformed(b.Cid(), errors.New("not strict DAG-CBOR"))
	}
	return n, nil
}

func decodeJSON(b blockstore.Block) (datamodel.Node, error) {
	nb := basicnode.Prototype.Any.NewBuilder()
	opts := dagjson.DecodeOptions{ParseLinks: true, ParseBytes: true, MaxDepth: maxNesting}
	if err := opts.Decode(nb, bytes.NewReader(b.RawData())); err != nil {
		return nil, malformed(b.Cid(), err)
	}
	return nb.Build(), nil
}

// appendLinks adds the links in n, depth first. Decoding has bounded the depth.
func appendLinks(links []cid.Cid, n datamodel.Node) []cid.Cid {
	switch n.Kind() {
	case datamodel.Kind_Link:
		if l, err := n.AsLink(); err == nil {
			if l, ok := l.(cidlink.Link); ok {
				links = append(links, l.Cid)
			}
		}
	case datamodel.Kind_List:
		for it := n.ListIterator(); !it.Done(); {
			_, v, err := it.Next()
			if err != nil {
				break
			}
			links = appendLinks(links, v)
		}
	case datamodel.Kind_Map:
		for it := n.MapIterator(); !it.Done(); {
			_, v, err := it.Next()
			if err != nil {
				break
			}
			links = appendLinks(links, v)
		}
	}
	return links
}

// malformed says that the block's bytes, though they match its CID, don't
// follow its format.
func malformed(c cid.Cid, err error) error {
	return fmt.Errorf("%s: %w: %w", c, ErrMalformed, notEOF(err))
}

// notEOF never lets a parser's end of input look like the clean end of a stream.
func notEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
