package merkle

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/ipfs/go-cid"
	"github.com/ipld/go-ipld-prime/codec/dagcbor"
	"github.com/ipld/go-ipld-prime/datamodel"
	cidlink "github.com/ipld/go-ipld-prime/linking/cid"
	"github.com/ipld/go-ipld-prime/node/basicnode"
	"github.com/multiformats/go-varint"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// carReader reads one CAR and knows where in the stream it is.
type carReader struct {
	r      *bufio.Reader
	off    int64 // bytes read
	left   int64 // bytes of the data section; of a CARv1, without bound
	v2     bool
	limits Limits

	roots []cid.Cid
	total Count // repetitions too
}

// read hands on all that the stream holds, chunk by chunk. What is wrong with
// the stream is the last chunk's error.
func (c *carReader) read(ctx context.Context, out func(*carChunk) error) error {
	chunk := newCARChunk()
	err := c.headers()
	for err == nil && ctx.Err() == nil {
		var size int
		begin := c.off
		if size, err = c.sectionSize(); err != nil {
			break
		}
		data := chunk.add(begin, size)
		if data == nil {
			if err := out(chunk); err != nil {
				return err
			}
			chunk = newCARChunk()
			data = chunk.add(begin, size)
		}
		if err = c.full(data); err != nil {
			chunk.sections = chunk.sections[:len(chunk.sections)-1]
			err = c.ended(err, "a block")
		}
	}
	if err == io.EOF && c.total.Blocks == 0 && slices.ContainsFunc(c.roots, func(r cid.Cid) bool { return !isIdentity(r) }) {
		err = c.bad(errors.New("the end comes right after a header that names roots"))
	}
	chunk.err = err
	return out(chunk)
}

func newCARChunk() *carChunk { return &carChunk{checked: make(chan struct{})} }

// headers reads what stands before the sections.
func (c *carReader) headers() error {
	version, err := c.header()
	if err != nil || version == 1 {
		return err
	}
	if err := c.headerV2(); err != nil {
		return err
	}
	if version, err = c.header(); err == nil && version != 1 {
		err = c.bad(fmt.Errorf("a CARv%d inside a CARv2", version))
	}
	return err
}

// bad is a violation of the format at the current position.
func (c *carReader) bad(err error) error {
	return fmt.Errorf("CAR at byte %d: %w: %w", c.off, ErrMalformed, notEOF(err))
}

// ended makes an error of reading one that names the place. A stream that ends
// here ends too soon.
func (c *carReader) ended(err error, what string) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return c.bad(fmt.Errorf("the end comes inside %s", what))
	}
	return fmt.Errorf("CAR at byte %d: %w", c.off, err)
}

// ReadByte implements io.ByteReader for varints.
func (c *carReader) ReadByte() (byte, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	b, err := c.r.ReadByte()
	if err == nil {
		c.off++
		c.left--
	}
	return b, err
}

func (c *carReader) full(p []byte) error {
	if int64(len(p)) > c.left {
		return io.ErrUnexpectedEOF
	}
	n, err := io.ReadFull(c.r, p)
	c.off += int64(n)
	c.left -= int64(n)
	return err
}

// length reads a section's length. io.EOF at a clean end of the data.
func (c *carReader) length() (uint64, error) {
	begin := c.off
	n, err := varint.ReadUvarint(c)
	switch {
	case err == nil:
		return n, nil
	case c.off == begin && errors.Is(err, io.EOF):
		if c.v2 && c.left > 0 {
			return 0, c.bad(errors.New("the end comes before the end of the data that the header names"))
		}
		return 0, io.EOF
	case errors.Is(err, varint.ErrOverflow), errors.Is(err, varint.ErrNotMinimal), errors.Is(err, varint.ErrUnderflow):
		return 0, c.bad(fmt.Errorf("a section's length: %w", err))
	}
	return 0, c.ended(err, "a section's length")
}

// header reads a CARv1 header, or a CARv2's first bytes, which look like one.
func (c *carReader) header() (version int64, err error) {
	n, err := c.length()
	if err == io.EOF {
		return 0, c.bad(errors.New("empty"))
	}
	if err != nil {
		return 0, err
	}
	if n == 0 || n > MaxCARHeader {
		return 0, c.bad(fmt.Errorf("a header of %d bytes", n))
	}
	if int64(n) > c.left {
		return 0, c.ended(io.ErrUnexpectedEOF, "the header")
	}
	data := make([]byte, n)
	if err := c.full(data); err != nil {
		return 0, c.ended(err, "the header")
	}
	nb := basicnode.Prototype.Map.NewBuilder()
	opts := dagcbor.DecodeOptions{AllowLinks: true, MaxDepth: 4, AllocationBudget: 4 * MaxCARHeader}
	if err := opts.Decode(nb, bytes.NewReader(data)); err != nil {
		return 0, c.bad(fmt.Errorf("header: %w", err))
	}
	return c.parseHeader(nb.Build())
}

func (c *carReader) parseHeader(h datamodel.Node) (int64, error) {
	v, err := h.LookupByString("version")
	if err != nil {
		return 0, c.bad(errors.New("a header without version"))
	}
	version, err := v.AsInt()
	if err != nil {
		return 0, c.bad(fmt.Errorf("version: %w", err))
	}
	if version == 2 && h.Length() == 1 {
		return 2, nil
	}
	if version != 1 {
		return 0, c.bad(fmt.Errorf("version %d", version))
	}
	roots, err := h.LookupByString("roots")
	if err != nil || roots.Kind() != datamodel.Kind_List || h.Length() != 2 {
		return 0, c.bad(errors.New("a header that is not a version and a list of roots"))
	}
	if roots.Length() > MaxCARRoots {
		return 0, fmt.Errorf("CAR at byte %d: %w: %d roots are more than %d", c.off, ErrLimit, roots.Length(), MaxCARRoots)
	}
	for it := roots.ListIterator(); !it.Done(); {
		_, n, err := it.Next()
		if err != nil {
			return 0, c.bad(err)
		}
		l, err := n.AsLink()
		if err != nil {
			return 0, c.bad(fmt.Errorf("roots: %w", err))
		}
		root := l.(cidlink.Link).Cid
		if err := blockstore.CheckCID(root); err != nil {
			return 0, fmt.Errorf("CAR at byte %d: root: %w", c.off, err)
		}
		c.roots = append(c.roots, root)
	}
	return 1, nil
}

// headerV2 reads what follows a CARv2's first bytes and goes to its data.
// https://ipld.io/specs/transport/car/carv2/
func (c *carReader) headerV2() error {
	var h [40]byte
	if err := c.full(h[:]); err != nil {
		return c.ended(err, "the CARv2 header")
	}
	offset, size := binary.LittleEndian.Uint64(h[16:]), binary.LittleEndian.Uint64(h[24:])
	if offset < uint64(c.off) || size == 0 || offset > math.MaxInt64 || size > math.MaxInt64-offset {
		return c.bad(fmt.Errorf("data at %d of %d bytes", offset, size))
	}
	padding := int64(offset) - c.off
	if padding > maxCARPadding {
		return c.bad(fmt.Errorf("%d bytes before the data", padding))
	}
	n, err := c.r.Discard(int(padding))
	c.off += int64(n)
	if err != nil {
		return c.ended(err, "the bytes before the data")
	}
	c.v2, c.left = true, int64(size)
	return nil
}

// sectionSize reads the length of the next section; io.EOF at the clean end.
func (c *carReader) sectionSize() (int, error) {
	begin := c.off
	n, err := c.length()
	if err != nil {
		return 0, err
	}
	if n == 0 || n > blockstore.MaxBlockSize+maxCIDSize {
		return 0, c.bad(fmt.Errorf("a section of %d bytes", n))
	}
	if int64(n) > c.left {
		return 0, c.ended(io.ErrUnexpectedEOF, "a block")
	}
	c.total.Blocks++
	c.total.Bytes += int64(n)
	if c.total.Blocks > c.limits.MaxBlocks || c.total.Bytes > c.limits.MaxBytes {
		return 0, fmt.Errorf("CAR at byte %d: %w", begin, ErrLimit)
	}
	return int(n), nil
}
