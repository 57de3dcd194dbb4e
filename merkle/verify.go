package merkle

import (
	"context"
	"errors"

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
	w := newWalker(g, []cid.Cid{root}, opts)
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
	return r, err
}

func appendUpTo(list []cid.Cid, c cid.Cid) []cid.Cid {
	if len(list) == maxReported {
		return list
	}
	return append(list, c)
}
