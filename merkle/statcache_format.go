package merkle

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// The stat cache as docs/formats.md describes it.
const (
	cacheMagic    = "hf-stat\x01" // the last byte is the version
	maxCacheBytes = 64 << 20
	minBlock      = 36           // bytes of the shortest block: its CID's length, that of version 0, and a size
	minKnown      = 6 + minBlock // bytes of the shortest entry but the top
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// cacheWriter encodes what a build remembers.
type cacheWriter struct {
	w       *bufio.Writer
	buf     []byte // of one entry
	written int64
	before  time.Time // stamps that were settled then are worth remembering
}

// encodeCache writes what was built. ErrLimit where it is too much to be read again.
func (b *builder) encodeCache(f io.Writer) error {
	sum := crc32.New(castagnoli)
	w := cacheWriter{w: bufio.NewWriterSize(io.MultiWriter(f, sum), 64<<10), before: b.started}
	binding := b.binding()
	w.buf = append(append(w.buf, cacheMagic...), binding[:]...)
	if err := w.entry(b.scan.root); err != nil {
		return err
	}
	if err := w.w.Flush(); err != nil {
		return err
	}
	_, err := f.Write(binary.BigEndian.AppendUint32(nil, sum.Sum32()))
	return err
}

func (w *cacheWriter) entry(e *entry) error {
	kind := knownNode
	switch {
	case e.folder:
		kind = knownFolder
	case !e.isLink() && e.stamp.settled(w.before):
		kind = knownFile
	}
	if e.parent == nil {
		w.text("")
	} else {
		w.text(e.name)
	}
	w.buf = append(w.buf, byte(kind))
	if kind == knownFile {
		w.stamp(e.stamp)
	}
	w.node(&e.built)
	if kind == knownFolder {
		w.buf = binary.AppendUvarint(w.buf, uint64(len(e.children)))
	}
	if err := w.write(); err != nil {
		return err
	}
	for i := range e.children {
		if err := w.entry(&e.children[i]); err != nil {
			return err
		}
	}
	return nil
}

func (w *cacheWriter) text(s string) {
	w.buf = binary.AppendUvarint(w.buf, uint64(len(s)))
	w.buf = append(w.buf, s...)
}

func (w *cacheWriter) stamp(s stamp) {
	for _, v := range [...]int64{s.size, s.mtime, s.ctime} {
		w.buf = binary.AppendVarint(w.buf, v)
	}
	w.buf = binary.AppendUvarint(w.buf, s.inode)
	w.buf = binary.AppendUvarint(w.buf, s.dev)
}

func (w *cacheWriter) node(n *node) {
	w.buf = binary.AppendUvarint(w.buf, n.tsize)
	w.buf = binary.AppendUvarint(w.buf, uint64(n.height))
	w.buf = binary.AppendUvarint(w.buf, uint64(len(n.below)+1))
	for blk := range n.all {
		w.text(blk.cid.KeyString())
		w.buf = binary.AppendUvarint(w.buf, uint64(blk.size))
	}
}

func (w *cacheWriter) write() error {
	if w.written += int64(len(w.buf)); w.written > maxCacheBytes-crc32.Size {
		return fmt.Errorf("%w: a cache of more than %d bytes", ErrLimit, maxCacheBytes)
	}
	_, err := w.w.Write(w.buf)
	w.buf = w.buf[:0]
	return err
}

// parseCache reads a cache. It takes memory in proportion to the data, whatever
// these claim. ErrMalformed.
func parseCache(data []byte) (*statCache, error) {
	c := &statCache{}
	end := len(data) - crc32.Size
	if !bytes.HasPrefix(data, []byte(cacheMagic)) || end < len(cacheMagic)+len(c.binding) {
		return nil, fmt.Errorf("%w: no cache of this version", ErrMalformed)
	}
	if crc32.Checksum(data[:end], castagnoli) != binary.BigEndian.Uint32(data[end:]) {
		return nil, fmt.Errorf("%w: a cache with a wrong checksum", ErrMalformed)
	}
	r := cacheReader{left: data[len(cacheMagic):end]}
	copy(c.binding[:], r.bytes(uint64(len(c.binding))))
	r.entry(&c.top, 0)
	if !r.failed && (c.top.name != "" || len(r.left) > 0) {
		r.fail()
	}
	if r.failed {
		return nil, fmt.Errorf("%w: a cache, %d bytes before its end", ErrMalformed, len(r.left))
	}
	return c, nil
}

// cacheReader decodes a cache. After a failure it returns zeros.
type cacheReader struct {
	left   []byte
	failed bool
}

func (r *cacheReader) fail() { r.failed = true }

func (r *cacheReader) entry(k *known, depth int) {
	k.name = string(r.bytes(r.uvarint()))
	k.kind = knownKind(r.byte())
	switch k.kind {
	case knownFile:
		r.stamp(&k.stamp)
	case knownFolder, knownNode:
	default:
		r.fail()
	}
	r.node(&k.node)
	if k.kind == knownFolder {
		r.children(k, depth)
	}
}

func (r *cacheReader) children(k *known, depth int) {
	n := r.uvarint()
	if depth > DefaultMaxDepth || n > uint64(len(r.left)/minKnown) {
		r.fail()
		return
	}
	k.children = make([]known, n)
	last := ""
	for i := range k.children {
		c := &k.children[i]
		r.entry(c, depth+1)
		if c.name <= last {
			r.fail()
		}
		if r.failed {
			return
		}
		last = c.name
	}
}

func (r *cacheReader) stamp(s *stamp) {
	s.size, s.mtime, s.ctime = r.varint(), r.varint(), r.varint()
	s.inode, s.dev = r.uvarint(), r.uvarint()
}

func (r *cacheReader) node(n *node) {
	n.tsize = r.uvarint()
	height, blocks := r.uvarint(), r.uvarint()
	if height > DefaultMaxDepth || blocks == 0 || blocks > uint64(len(r.left)/minBlock) {
		r.fail()
		return
	}
	n.height = int(height)
	if blocks > 1 {
		n.below = make([]sizedID, blocks-1)
	}
	for i := range n.below {
		r.block(&n.below[i])
	}
	r.block(&n.sizedID)
}

// block accepts the CIDs that Build makes.
func (r *cacheReader) block(b *sizedID) {
	raw := r.bytes(r.uvarint())
	size := r.uvarint()
	if r.failed {
		return
	}
	c, err := cid.Cast(raw)
	if err != nil || size > blockstore.MaxBlockSize || !isBuilt(c) {
		r.fail()
		return
	}
	b.cid, b.size = c, int64(size)
}

func isBuilt(c cid.Cid) bool {
	p := c.Prefix()
	return p.MhType == mh.SHA2_256 && p.MhLength == sha256.Size && (p.Codec == cid.Raw || p.Codec == cid.DagProtobuf)
}

func (r *cacheReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.left)
	return v * r.advance(n)
}

func (r *cacheReader) varint() int64 {
	v, n := binary.Varint(r.left)
	return v * int64(r.advance(n))
}

// advance passes what a varint took; it returns 1, or 0 for a bad one.
func (r *cacheReader) advance(n int) uint64 {
	if n <= 0 || r.failed {
		r.fail()
		return 0
	}
	r.left = r.left[n:]
	return 1
}

func (r *cacheReader) byte() byte {
	if b := r.bytes(1); len(b) > 0 {
		return b[0]
	}
	return 0
}

func (r *cacheReader) bytes(n uint64) []byte {
	if r.failed || n > uint64(len(r.left)) {
		r.fail()
		return nil
	}
	out := r.left[:n]
	r.left = r.left[n:]
	return out
}
