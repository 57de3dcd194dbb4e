package gateway

import (
	"context"
	"sync"
	"time"

	"github.com/ipfs/boxo/blockservice"
	boxostore "github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/exchange"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// getAhead is how many blocks one request asks for at once.
const getAhead = 8

// newBlockService puts a Getter behind boxo's block service: as its exchange,
// since only an exchange is asked for several blocks at once.
func newBlockService(g blockstore.Getter) blockservice.BlockService {
	return blockservice.New(noStore{}, getterExchange{g}, blockservice.WriteThrough(true))
}

// tracedGetter notes failures in the request's trace.
type tracedGetter struct{ g blockstore.Getter }

func (t tracedGetter) Get(ctx context.Context, c cid.Cid) (blockstore.Block, error) {
	tr, began := traceOf(ctx), time.Now()
	b, err := t.g.Get(ctx, c)
	tr.spend(tr.blockStep(c), time.Since(began))
	if err != nil {
		tr.fail(ctx, stepFailure{step: tr.blockStep(c), block: c, err: err})
	}
	return b, err
}

// getterExchange implements exchange.Interface.
type getterExchange struct{ g blockstore.Getter }

var _ exchange.Interface = getterExchange{}

// blockFailure hides its cause from errors.Is on purpose: boxo answers 404 for
// anything that unwraps to IPLD's "not found", and a block that can't be had is
// not a path that is not there. The trace keeps the cause.
type blockFailure struct{ text string }

func (e *blockFailure) Error() string { return e.text }

func (x getterExchange) GetBlock(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	b, err := x.g.Get(ctx, c)
	if err != nil {
		return nil, &blockFailure{err.Error()}
	}
	return b, nil
}

// GetBlocks closes the channel early where a block can't be had, as its
// contract allows; the consumer counts.
func (x getterExchange) GetBlocks(ctx context.Context, cids []cid.Cid) (<-chan blocks.Block, error) {
	out := make(chan blocks.Block)
	work := make(chan cid.Cid)
	var wg sync.WaitGroup
	for range min(getAhead, len(cids)) {
		wg.Go(func() {
			for c := range work {
				b, err := x.g.Get(ctx, c)
				if err != nil {
					continue
				}
				select {
				case out <- b:
				case <-ctx.Done():
				}
			}
		})
	}
	go func() {
		defer close(out)
		defer wg.Wait()
		defer close(work)
		for _, c := range cids {
			select {
			case work <- c:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

func (x getterExchange) NotifyNewBlocks(context.Context, ...blocks.Block) error { return nil }
func (x getterExchange) Close() error                                           { return nil }

// noStore is a boxo blockstore that never has anything and keeps nothing.
type noStore struct{}

var _ boxostore.Blockstore = noStore{}

func (noStore) Get(_ context.Context, c cid.Cid) (blocks.Block, error) {
	return nil, ipld.ErrNotFound{Cid: c}
}
func (noStore) GetSize(_ context.Context, c cid.Cid) (int, error) { return 0, ipld.ErrNotFound{Cid: c} }
func (noStore) Has(context.Context, cid.Cid) (bool, error)        { return false, nil }
func (noStore) Put(context.Context, blocks.Block) error           { return nil }
func (noStore) PutMany(context.Context, []blocks.Block) error     { return nil }
func (noStore) DeleteBlock(context.Context, cid.Cid) error        { return nil }
func (noStore) AllKeysChan(context.Context) (<-chan cid.Cid, error) {
	c := make(chan cid.Cid)
	close(c)
	return c, nil
}
