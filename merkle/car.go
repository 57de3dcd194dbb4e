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
	"runtime"

	"github.com/ipfs/go-cid"
	"github.com/ipld/go-ipld-prime/codec/dagcbor"
	"github.com/ipld/go-ipld-prime/datamodel"
	"github.com/ipld/go-ipld-prime/fluent/qp"
	cidlink "github.com/ipld/go-ipld-prime/linking/cid"
	"github.com/ipld/go-ipld-prime/node/basicnode"
	mh "github.com/multiformats/go-multihash"
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
	if err := writeSection(out, "", header); err != nil {
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
		if err := writeSection(out, b.Cid().KeyString(), b.RawData()); err != nil {
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

func writeSection(w *bufio.Writer, id string, data []byte) error {
	length := binary.AppendUvarint(w.AvailableBuffer(), uint64(len(id)+len(data)))
	if _, err := w.Write(length); err != nil {
		return err
	}
	if _, err := w.WriteString(id); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

func isIdentity(c cid.Cid) bool { return c.Prefix().MhType == mh.IDENTITY }

// Imported is what a CAR held.
type Imported struct {
	Roots []cid.Cid // as its header names them; they need not be among the blocks
	Count           // unique blocks of the CAR
	Added blockstore.Added
}

// ReadCAR puts every block of a CARv1 or CARv2 stream into the session, each
// checked, in the order of the stream. Whether the DAGs under the roots are
// complete is not looked at. It hashes on all processors, and holds at most
// GOMAXPROCS + 2 chunks of blocks, of 1 MiB or one larger block each, whatever the
// stream claims.
//
// It fails with ErrMalformed where the stream is not a CAR or ends too soon,
// with a blockstore error of kind ErrCorrupt or ErrRefused for a bad block,
// with ErrLimit where limits are exceeded (MaxBlocks and MaxBytes count
// repeated blocks too), and with the reader's own errors; all of them name the
// byte of the stream. What came before stays in the session, kept by nobody.
func ReadCAR(ctx context.Context, into blockstore.Session, r io.Reader, limits Limits) (Imported, error) {
	c := carReader{r: bufio.NewReaderSize(r, 256<<10), left: math.MaxInt64, limits: limits.withDefaults()}
	w := carWriter{into: into, seen: cid.NewSet()}
	group, gctx := errgroup.WithContext(ctx)
	workers := runtime.GOMAXPROCS(0)
	// A chunk goes to a worker and, in its turn, to the writer, which waits for it.
	work, order := make(chan *carChunk, workers), make(chan *carChunk, workers)
	group.Go(func() error {
		defer close(work)
		defer close(order)
		return c.read(gctx, func(chunk *carChunk) error {
			return errors.Join(send(gctx, order, chunk), send(gctx, work, chunk))
		})
	})
	for range workers {
		group.Go(func() error {
			for chunk := range work {
				chunk.check()
			}
			return nil
		})
	}
	group.Go(func() error { return w.write(gctx, order) })
	err := group.Wait()
	return Imported{Roots: c.roots, Count: w.unique, Added: w.added}, err
}

func send(ctx context.Context, to chan<- *carChunk, chunk *carChunk) error {
	select {
	case to <- chunk:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// carChunk is a piece of a CAR: whole sections, one behind another.
type carChunk struct {
	data     []byte
	sections []carSection
	err      error // what stands behind the sections; io.EOF for the clean end

	checked chan struct{} // closed when blocks and err are what check found
	blocks  []blockstore.Block
}

type carSection struct {
	at  int64 // byte of the stream
	end int   // byte of the chunk
}

const carChunkSize = 1 << 20

// add makes room for a section; nil where the chunk is full.
func (k *carChunk) add(at int64, size int) []byte {
	if k.data == nil {
		k.data = make([]byte, 0, max(size, carChunkSize))
	}
	begin, end := len(k.data), len(k.data)+size
	if end > cap(k.data) {
		return nil
	}
	k.data = k.data[:end]
	k.sections = append(k.sections, carSection{at, end})
	return k.data[begin:end:end]
}

// check makes blocks of the sections, up to the first that is bad.
func (k *carChunk) check() {
	defer close(k.checked)
	k.blocks = make([]blockstore.Block, 0, len(k.sections))
	begin := 0
	for _, s := range k.sections {
		b, err := s.block(k.data[begin:s.end:s.end])
		if err != nil {
			k.err = err
			return
		}
		// What a CID carries in itself needs no keeping.
		if !isIdentity(b.Cid()) {
			k.blocks = append(k.blocks, b)
		}
		begin = s.end
	}
}

func (s carSection) block(data []byte) (blockstore.Block, error) {
	used, id, err := cid.CidFromBytes(data)
	if err != nil {
		return blockstore.Block{}, fmt.Errorf("CAR at byte %d: %w: a section's CID: %w", s.at, ErrMalformed, notEOF(err))
	}
	b, err := blockstore.CheckBlock(id, data[used:])
	if err != nil {
		return blockstore.Block{}, fmt.Errorf("CAR at byte %d: %w", s.at, err)
	}
	return b, nil
}

// carWriter puts what a CAR held into a session.
type carWriter struct {
	into   blockstore.Session
	seen   *cid.Set
	unique Count
	added  blockstore.Added
}

func (w *carWriter) write(ctx context.Context, order <-chan *carChunk) error {
	for chunk := range order {
		select {
		case <-chunk.checked:
		case <-ctx.Done():
			return ctx.Err()
		}
		added, err := w.into.Put(ctx, chunk.blocks...)
		if err != nil {
			return err
		}
		w.added.Blocks += added.Blocks
		w.added.Bytes += added.Bytes
		for _, b := range chunk.blocks {
			if w.seen.Visit(b.Cid()) {
				w.unique.Blocks++
				w.unique.Bytes += int64(b.Size())
			}
		}
		if chunk.err == io.EOF {
			return nil
		}
		if chunk.err != nil {
			return chunk.err
		}
	}
	return ctx.Err()
}
