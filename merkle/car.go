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

	"github.com/ipfs/go-cid"
	"github.com/ipld/go-ipld-prime/codec/dagcbor"
	"github.com/ipld/go-ipld-prime/datamodel"
	"github.com/ipld/go-ipld-prime/fluent/qp"
	cidlink "github.com/ipld/go-ipld-prime/linking/cid"
	"github.com/ipld/go-ipld-prime/node/basicnode"
	mh "github.com/multiformats/go-multihash"
	"github.com/multiformats/go-varint"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// Limits of a CAR that ReadCAR accepts.
const (
	MaxCARHeader  = 1 << 20 // bytes
	MaxCARRoots   = 1000
	maxCARPadding = 1 << 20 // bytes between a CARv2's header and its data
	maxCIDSize    = 256     // bytes; far over what an allowed hash needs
)

// WriteCAR streams a CARv1 of everything under root to w: each block once, in
// the order of Walk. Blocks that a CID carries in itself are left out. The
// CAR is complete only when the error is nil.
func WriteCAR(ctx context.Context, g blockstore.Getter, w io.Writer, root cid.Cid, opts WalkOptions) (Count, error) {
	out := bufio.NewWriterSize(w, 256<<10)
	header, err := encodeCARHeader(root)
	if err != nil {
		return Count{}, err
	}
	if err := writeSection(out, header, nil); err != nil {
		return Count{}, err
	}
	var n Count
	for b, err := range Walk(ctx, g, []cid.Cid{root}, opts) {
		if err != nil {
			return n, err
		}
		if isIdentity(b.Cid()) {
			continue
		}
		if err := writeSection(out, b.Cid().Bytes(), b.RawData()); err != nil {
			return n, err
		}
		n.Blocks++
		n.Bytes += int64(b.Size())
	}
	return n, out.Flush()
}

func encodeCARHeader(root cid.Cid) ([]byte, error) {
	n, err := qp.BuildMap(basicnode.Prototype.Map, 2, func(m datamodel.MapAssembler) {
		qp.MapEntry(m, "roots", qp.List(1, func(l datamodel.ListAssembler) {
			qp.ListEntry(l, qp.Link(cidlink.Link{Cid: root}))
		}))
		qp.MapEntry(m, "version", qp.Int(1))
	})
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	err = dagcbor.Encode(n, &buf)
	return buf.Bytes(), err
}

func writeSection(w *bufio.Writer, head, body []byte) error {
	var length [binary.MaxVarintLen64]byte
	for _, p := range [][]byte{length[:binary.PutUvarint(length[:], uint64(len(head)+len(body)))], head, body} {
		if _, err := w.Write(p); err != nil {
			return err
		}
	}
	return nil
}

func isIdentity(c cid.Cid) bool { return c.Prefix().MhType == mh.IDENTITY }

// Imported is what a CAR held.
type Imported struct {
	Roots []cid.Cid // as its header names them; they need not be among the blocks
	Count           // unique blocks of the CAR
	Added blockstore.Added
}

// ReadCAR puts every block of a CARv1 or CARv2 stream into the session, each
// checked. Whether the DAGs under the roots are complete is not looked at. It
// holds a few batches of blocks, whatever the stream claims.
//
// It fails with ErrMalformed where the stream is not a CAR or ends too soon,
// with a blockstore error of kind ErrCorrupt or ErrRefused for a bad block,
// with ErrLimit where limits are exceeded (MaxBlocks and MaxBytes count
// repeated blocks too), and with the reader's own errors; all of them name the
// byte of the stream. What came before stays in the session, kept by nobody.
func ReadCAR(ctx context.Context, into blockstore.Session, r io.Reader, limits Limits) (Imported, error) {
	c := carReader{r: bufio.NewReaderSize(r, 256<<10), left: math.MaxInt64, limits: limits.withDefaults(), seen: cid.NewSet()}
	group, gctx := errgroup.WithContext(ctx)
	batches := newSink()
	group.Go(func() error { return batches.write(gctx, into) })
	var readErr error
	group.Go(func() error {
		defer batches.close()
		if readErr = c.read(gctx, batches); readErr != nil && gctx.Err() != nil {
			return gctx.Err()
		}
		return batches.flush(gctx)
	})
	err := group.Wait()
	if err == nil {
		err = readErr
	}
	return Imported{Roots: c.roots, Count: c.unique, Added: batches.added}, err
}

// carReader reads one CAR and knows where in the stream it is.
type carReader struct {
	r      *bufio.Reader
	off    int64 // bytes read
	left   int64 // bytes of the data section; of a CARv1, without bound
	v2     bool
	limits Limits

	roots  []cid.Cid
	seen   *cid.Set
	total  Count // repetitions too
	unique Count
}

func (c *carReader) read(ctx context.Context, out *sink) error {
	version, err := c.header()
	if err == nil && version == 2 {
		if err = c.headerV2(); err == nil {
			version, err = c.header()
			if err == nil && version != 1 {
				err = c.bad(fmt.Errorf("a CARv%d inside a CARv2", version))
			}
		}
	}
	if err != nil {
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := c.section()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if isIdentity(b.Cid()) {
			continue
		}
		if err := out.put(ctx, b); err != nil {
			return err
		}
	}
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

// section reads and checks one block; io.EOF at the clean end.
func (c *carReader) section() (blockstore.Block, error) {
	begin := c.off
	n, err := c.length()
	if err != nil {
		return blockstore.Block{}, err
	}
	if n == 0 || n > blockstore.MaxBlockSize+maxCIDSize {
		return blockstore.Block{}, c.bad(fmt.Errorf("a section of %d bytes", n))
	}
	if int64(n) > c.left {
		return blockstore.Block{}, c.ended(io.ErrUnexpectedEOF, "a block")
	}
	c.total.Blocks++
	c.total.Bytes += int64(n)
	if c.total.Blocks > c.limits.MaxBlocks || c.total.Bytes > c.limits.MaxBytes {
		return blockstore.Block{}, fmt.Errorf("CAR at byte %d: %w", begin, ErrLimit)
	}
	data := make([]byte, n)
	if err := c.full(data); err != nil {
		return blockstore.Block{}, c.ended(err, "a block")
	}
	used, id, err := cid.CidFromBytes(data)
	if err != nil {
		return blockstore.Block{}, c.bad(fmt.Errorf("the CID of the section at byte %d: %w", begin, err))
	}
	b, err := blockstore.CheckBlock(id, data[used:])
	if err != nil {
		return blockstore.Block{}, fmt.Errorf("CAR at byte %d: %w", begin, err)
	}
	if c.seen.Visit(id) {
		c.unique.Blocks++
		c.unique.Bytes += int64(b.Size())
	}
	return b, nil
}
