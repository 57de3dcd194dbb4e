package blockstore

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"github.com/ipfs/boxo/verifcid"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	mh "github.com/multiformats/go-multihash"
)

// Block is bytes that are known to be the ones its CID names: there is no way
// to make one without hashing. It implements go-block-format's Block. The zero
// value is no block. The bytes belong to everybody: nobody may change them.
type Block struct {
	cid  cid.Cid
	data []byte
}

var _ blocks.Block = Block{}

// NewBlock hashes data with the given prefix. It takes ownership of data.
// ErrRefused where the hash is not allowed or the data too large.
func NewBlock(p cid.Prefix, data []byte) (Block, error) {
	c, err := p.Sum(data)
	if err != nil {
		return Block{}, fmt.Errorf("%w: %v", ErrRefused, err)
	}
	if err := CheckCID(c); err != nil {
		return Block{}, err
	}
	if len(data) > MaxBlockSize {
		return Block{}, tooLarge(c, len(data))
	}
	return Block{cid: c, data: data}, nil
}

// CheckBlock hashes data and compares with c. It takes ownership of data.
// ErrCorrupt where they differ, ErrRefused where a limit is broken.
func CheckBlock(c cid.Cid, data []byte) (Block, error) {
	if err := CheckCID(c); err != nil {
		return Block{}, err
	}
	if len(data) > MaxBlockSize {
		return Block{}, tooLarge(c, len(data))
	}
	if want, ok := sha2(c); ok {
		if sum := sha256.Sum256(data); string(sum[:]) == want {
			return Block{cid: c, data: data}, nil
		}
	}
	got, err := c.Prefix().Sum(data)
	if err != nil {
		return Block{}, &BlockError{CID: c, Kind: ErrRefused, Err: err}
	}
	if !bytes.Equal(got.Hash(), c.Hash()) {
		return Block{}, &BlockError{CID: c, Kind: ErrCorrupt, Err: fmt.Errorf("the bytes hash to %s", got)}
	}
	return Block{cid: c, data: data}, nil
}

// BlockOf is the block of a node that this process has encoded and hashed
// itself; it must never be given a node that came from outside.
func BlockOf(n ipld.Node) (Block, error) {
	if len(n.RawData()) > MaxBlockSize {
		return Block{}, tooLarge(n.Cid(), len(n.RawData()))
	}
	return Block{cid: n.Cid(), data: n.RawData()}, nil
}

// CheckCID refuses CIDs that are undefined, whose hash function is unknown or
// too weak to trust (boxo's list), and identity CIDs over MaxIdentitySize.
func CheckCID(c cid.Cid) error {
	if !c.Defined() {
		return fmt.Errorf("%w: undefined CID", ErrRefused)
	}
	if _, ok := sha2(c); ok {
		return nil
	}
	if err := verifcid.ValidateCid(verifcid.DefaultAllowlist, c); err != nil {
		return &BlockError{CID: c, Kind: ErrRefused, Err: err}
	}
	return nil
}

// hashString is the CID's multihash, without a copy.
func hashString(c cid.Cid) string {
	s := c.KeyString()
	if c.Version() == 0 {
		return s
	}
	for range 2 { // version and codec
		i := 0
		for s[i]&0x80 != 0 {
			i++
		}
		s = s[i+1:]
	}
	return s
}

// sha2 is the digest of a CID whose hash is a whole SHA2-256, as nearly all are.
func sha2(c cid.Cid) (digest string, ok bool) {
	h := hashString(c)
	if len(h) != 2+sha256.Size || h[0] != mh.SHA2_256 || h[1] != sha256.Size {
		return "", false
	}
	return h[2:], true
}

// identity returns the block that an identity CID carries in itself.
func identity(c cid.Cid) (Block, bool) {
	if hashString(c)[0] != mh.IDENTITY {
		return Block{}, false
	}
	d, err := mh.Decode(c.Hash())
	if err != nil {
		return Block{}, false
	}
	return Block{cid: c, data: d.Digest}, true
}

func tooLarge(c cid.Cid, n int) error {
	return &BlockError{CID: c, Kind: ErrRefused, Err: fmt.Errorf("%d bytes is more than a block's %d", n, MaxBlockSize)}
}

// Cid implements blocks.Block.
func (b Block) Cid() cid.Cid { return b.cid }

// RawData implements blocks.Block. The caller must not change the bytes.
func (b Block) RawData() []byte { return b.data }

// Size is the number of bytes.
func (b Block) Size() int { return len(b.data) }

// As is the same bytes under another CID with the same multihash (another
// codec or CID version). It panics when the multihash differs, since that
// would make an unchecked block.
func (b Block) As(c cid.Cid) Block {
	if !bytes.Equal(b.cid.Hash(), c.Hash()) {
		panic("blockstore: Block.As with another multihash")
	}
	return Block{cid: c, data: b.data}
}

// String implements fmt.Stringer for logs.
func (b Block) String() string { return fmt.Sprintf("[Block %s]", b.cid) }

// Loggable implements blocks.Block.
func (b Block) Loggable() map[string]any { return map[string]any{"block": b.cid.String()} }
