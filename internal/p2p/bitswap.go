package p2p

import (
	"context"
	"slices"
	"time"

	"github.com/ipfs/boxo/bitswap"
	"github.com/ipfs/boxo/bitswap/client"
	"github.com/ipfs/boxo/bitswap/network/bsnet"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// swap is bitswap, both sides of it.
type swap struct {
	*bitswap.Bitswap
	host  host.Host
	find  *finder
	waits *waits
}

// newSwap starts to serve the store to peers and to fetch from them. There are no HTTP providers in it: a
// provider record must not make us send requests to wherever it says. The store checks what it reads, so a wrong
// byte is never sent.
//
// A busy peer gets more time than boxo's 50 ms before it is taken for one that
// does not have the block: sixteen of those in a row cost it its place in the session.
//
// serves, which may be nil, tells who gets what.
func newSwap(h host.Host, find *finder, store blockstore.Store, serves func(peer.ID, cid.Cid) bool) *swap {
	w := &waits{}
	slow := client.DefaultDontHaveTimeoutConfig()
	slow.MinTimeout = 3 * time.Second
	if serves == nil {
		serves = func(peer.ID, cid.Cid) bool { return true }
	}
	sh := newSwapHost(h)
	b := bitswap.New(context.Background(), bsnet.NewFromIpfsHost(sh), find, blockstore.ForBoxo(store, nil),
		bitswap.WithPeerBlockRequestFilter(serves),
		bitswap.WithTracer(w),
		bitswap.WithClientOption(client.WithDontHaveTimeoutConfig(slow)),
		bitswap.WithoutDuplicatedBlockStats(),
		bitswap.ProviderSearchDelay(500*time.Millisecond),
		bitswap.EngineBlockstoreWorkerCount(16),
		bitswap.TaskWorkerCount(swapWorkers),
		bitswap.EngineTaskWorkerCount(4),
		bitswap.MaxOutstandingBytesPerPeer(4<<20),
	)
	sh.server.Store(b.Server)
	return &swap{Bitswap: b, host: h, find: find, waits: w}
}

// sessions starts sessions that are replaced well before idle has passed
// without a block.
func (s *swap) sessions(idle time.Duration) *sessions {
	return &sessions{start: s.NewSession, quiet: min(5*time.Second, idle/3)}
}

// get waits for one block from the network. The error is the context's; a has been told who was asked.
func (s *swap) get(ctx context.Context, from *sessions, c cid.Cid, a *answers) (blockstore.Block, error) {
	// A block of no bytes is known to everybody who knows its CID, and boxo's
	// bitswap never sends one.
	if blk, err := blockstore.CheckBlock(c, nil); err == nil {
		return blk, nil
	}
	end := s.waits.begin(c)
	blk, err := from.get(ctx, c)
	refused, giver := end()
	if err == nil {
		a.gave(giver, int64(len(blk.RawData())))
		return blockstore.CheckBlock(c, blk.RawData())
	}
	for _, id := range refused {
		a.note(id, "does not have it")
	}
	a.noteSilent(s.peers())
	a.noteSilent(s.find.found(c))
	return blockstore.Block{}, err
}

// peers is the connected peers that speak bitswap.
func (s *swap) peers() (ids []peer.ID) {
	for _, id := range s.host.Network().Peers() {
		if ps, err := s.host.Peerstore().SupportsProtocols(id, bitswapProtocols...); err == nil && len(ps) > 0 {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

var bitswapProtocols = []protocol.ID{
	bsnet.ProtocolBitswap, bsnet.ProtocolBitswapOneOne, bsnet.ProtocolBitswapOneZero, bsnet.ProtocolBitswapNoVers,
}
