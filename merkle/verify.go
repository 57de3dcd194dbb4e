package merkle

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// maxReported bounds each list of a Report's failures.
const maxReported = 1000

// Report is what a Verify found.
type Report struct {
	Count             // of what is present and right
	CIDs    []cid.Cid // of the same, unique, in the order of Walk
	Missing []cid.Cid // at most 1000
	Corrupt []cid.Cid // at most 1000
}

// Whole says that everything is there and right.
func (r Report) Whole() bool { return len(r.Missing) == 0 && len(r.Corrupt) == 0 }

// Verify reads everything under root and checks it. It goes on past blocks that
// are missing or corrupt, so that the report names them; what lies only under
// such a block is not seen. Any other error, also of a block that can't be read just
// now (blockstore.ErrUnavailable), ends it, with the report so far.
func Verify(ctx context.Context, g blockstore.Getter, root cid.Cid, opts WalkOptions) (Report, error) {
	var r Report
	err := r.run(ctx, newWalker(g, []cid.Cid{root}, opts))
	return r, err
}

// run takes down what a walk finds.
func (r *Report) run(ctx context.Context, w *walker) error {
	err := w.run(ctx, func(b blockstore.Block) error {
		r.CIDs = append(r.CIDs, b.Cid())
		return nil
	}, func(c cid.Cid, err error) error {
		switch {
		case errors.Is(err, blockstore.ErrCorrupt):
			r.Corrupt = appendUpTo(r.Corrupt, c)
		case errors.Is(err, blockstore.ErrNotFound):
			r.Missing = appendUpTo(r.Missing, c)
		default:
			return err
		}
		return nil
	})
	r.Count = w.done
	return err
}

// StatGetter is a store as Inventory needs it.
type StatGetter interface {
	blockstore.Getter
	Stat(ctx context.Context, cids []cid.Cid) ([]blockstore.Info, error)
}

// Inventory is Verify for blocks that have just been checked on their way in: it
// reads the nodes under root, and takes the store's word for raw blocks, which
// lead nowhere. So of those it finds what is missing and not what is corrupt, and
// the report's CIDs stand in no order.
func Inventory(ctx context.Context, s StatGetter, root cid.Cid, opts WalkOptions) (Report, error) {
	var r, raw Report
	var asked []cid.Cid
	flush := func() error {
		infos, err := s.Stat(ctx, asked)
		for _, i := range infos {
			raw.note(i)
		}
		asked = asked[:0]
		return err
	}
	w := newWalker(s, []cid.Cid{root}, opts)
	w.raw = func(c cid.Cid) error {
		if w.done.Blocks+raw.Blocks+int64(len(asked)) >= w.limits.MaxBlocks {
			return fmt.Errorf("%w: more than %d blocks", ErrLimit, w.limits.MaxBlocks)
		}
		if asked = append(asked, c); len(asked) < statBatch {
			return nil
		}
		return flush()
	}
	err := r.run(ctx, w)
	if err == nil {
		err = flush()
	}
	r.Blocks, r.Bytes = r.Blocks+raw.Blocks, r.Bytes+raw.Bytes
	if err == nil && r.Bytes > w.limits.MaxBytes {
		err = fmt.Errorf("%w: more than %d bytes", ErrLimit, w.limits.MaxBytes)
	}
	r.CIDs = append(r.CIDs, raw.CIDs...)
	for _, c := range raw.Missing {
		r.Missing = appendUpTo(r.Missing, c)
	}
	return r, err
}

const statBatch = 1024

// note takes down what the store says of a raw block.
func (r *Report) note(i blockstore.Info) {
	if !i.Present {
		r.Missing = appendUpTo(r.Missing, i.CID)
		return
	}
	r.Blocks++
	r.Bytes += i.Size
	r.CIDs = append(r.CIDs, i.CID)
}

func appendUpTo(list []cid.Cid, c cid.Cid) []cid.Cid {
	if len(list) == maxReported {
		return list
	}
	return append(list, c)
}
