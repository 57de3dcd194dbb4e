package gateway

import (
	"context"

	"github.com/ipfs/go-cid"
	"github.com/maypok86/otter/v2"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/naming/deny"
)

// hotBlocks keeps the blocks of large files that are asked for again and again:
// hashing them each time would take longer than sending them.
type hotBlocks struct {
	get    blockstore.Getter
	denied *deny.Lists // what was kept may be denied since
	kept   *otter.Cache[cid.Cid, blockstore.Block]
	asked  tally
}

// newHotBlocks keeps about most bytes of blocks.
func newHotBlocks(g blockstore.Getter, denied *deny.Lists, most int64) *hotBlocks {
	return &hotBlocks{get: g, denied: denied, kept: newKept(most, func(_ cid.Cid, b blockstore.Block) int64 { return int64(b.Size()) })}
}

// Get implements blockstore.Getter.
func (h *hotBlocks) Get(ctx context.Context, c cid.Cid) (blockstore.Block, error) {
	b, ok := h.kept.GetIfPresent(c)
	ok = ok && checkBlock(ctx, h.denied, c) == nil
	h.asked.count(ok)
	if ok {
		return b, nil
	}
	b, err := h.get.Get(ctx, c)
	if err == nil {
		h.kept.Set(c, b)
	}
	return b, err
}
