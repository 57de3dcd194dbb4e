package p2p

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/ipfs/boxo/retrieval"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// A bitswap session asks whoever answered first, again and again, and leaves the uplinks of
// all others idle. So leaves, of which large files consist, are fetched from all peers that
// have said over bitswap that they have something under the same root, each as fast as
// it is, block by block over HTTP (https://specs.ipfs.tech/http-gateways/trustless-gateway/).
// Bitswap stops to ask as soon as one has answered, so who is believed to have all of it may be told beforehand.
// Whatever this can't do is left to bitswap.
const (
	laneQuiet                                 = time.Second                  // without a byte, before somebody else is asked, too
	lanePatience                              = 8                            // times laneQuiet: likewise where bytes trickle
	laneRest                                  = 10 * time.Second             // that a peer which stalled is not asked
	laneBan                                   = 10 * time.Minute             // likewise of one that sent something else
	laneWhole                                 = 2 * lanePatience * laneQuiet // for one block, whoever sends; then bitswap may find somebody else
	laneForget                                = time.Minute                  // that a peer was slow, once it is asked for nothing
	laneTries                                 = 4                            // peers that are asked for one block
	laneMemory                                = 10 * time.Minute             // a peer that has something under a root may still have it
	maxLaneRoots, maxLanePeers, maxLaneBlocks = 1024, 64, 4096
	rateSpan                                  = 100 * time.Millisecond // over which a peer's rate is taken
	rateShare                                 = 0.3                    // of the newest one in the rate that counts
)

// lanes is who has what, and how fast each is. Safe for concurrent use.
type lanes struct {
	usable func(peer.ID) bool // it is connected, and speaks HTTP
	ask    func(ctx context.Context, id peer.ID, c cid.Cid, came func(bytes int)) (blockstore.Block, error)

	mu     sync.Mutex
	blocks map[cid.Cid]cid.Cid // asked for over bitswap, and the root above it
	roots  map[cid.Cid]map[peer.ID]word
	peers  map[peer.ID]*lane
	turn   uint64

	flights map[cid.Cid]*flight // blocks that are under way
}

// word is what is known of a peer and a root.
type word struct {
	at    time.Time
	lacks bool // it has not what it was asked for
}

// lane is a peer as a source; guarded by the mutex of its lanes.
type lane struct {
	busy   int           // blocks that it was asked for
	rate   float64       // bytes a second; 0: not known
	bytes  int           // that came since its rate was last taken
	worked time.Duration // that it was busy since, up to the last time that it began to be
	since  time.Time     // when that was, or its rate was last taken, or it was done
	rest   time.Time     // it is not asked before
	asked  uint64        // turn in which it was last asked
}

func newLanes(usable func(peer.ID) bool, ask func(context.Context, peer.ID, cid.Cid, func(int)) (blockstore.Block, error)) *lanes {
	return &lanes{usable: usable, ask: ask, blocks: map[cid.Cid]cid.Cid{}, roots: map[cid.Cid]map[peer.ID]word{}, peers: map[peer.ID]*lane{}, flights: map[cid.Cid]*flight{}}
}

// watch has the answers that come for a block count for all that is under root.
func (l *lanes) watch(root, c cid.Cid) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.blocks) >= maxLaneBlocks {
		clear(l.blocks)
	}
	l.blocks[c] = root
}

// has says that a peer has a block.
func (l *lanes) has(id peer.ID, c cid.Cid) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if root, ok := l.blocks[c]; ok {
		l.note(root, id, false)
	}
}

// believe says that peers are likely to have what is under root. One that lacked something of it lately is not believed.
func (l *lanes) believe(root cid.Cid, ids []peer.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		if w := l.roots[root][id]; !w.lacks || time.Since(w.at) > laneMemory {
			l.note(root, id, false)
		}
	}
}

// note needs the lock.
func (l *lanes) note(root cid.Cid, id peer.ID, lacks bool) {
	words := l.roots[root]
	if words == nil {
		if len(l.roots) >= maxLaneRoots {
			clear(l.roots)
		}
		words = map[peer.ID]word{}
		l.roots[root] = words
	}
	if _, known := words[id]; known || len(words) < maxLanePeers {
		words[id] = word{time.Now(), lacks}
	}
}

// take is the peer that is likely to be the first to deliver a block from under root, of those
// that are not in tried, and counts it as busy. Empty where there is none, or, for the first
// try, where there is nobody to choose from.
func (l *lanes) take(root cid.Cid, tried map[peer.ID]bool) peer.ID {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, fastest, known := time.Now(), 0.0, 0
	for id, w := range l.roots[root] {
		if now.Sub(w.at) > laneMemory {
			delete(l.roots[root], id)
			continue
		}
		if w.lacks || !l.usable(id) {
			continue
		}
		known++
		if p := l.peers[id]; p != nil {
			if p.busy == 0 && now.Sub(p.since) > laneForget {
				p.rate, p.bytes, p.worked = 0, 0, 0
			}
			fastest = max(fastest, p.rate)
		}
	}
	if known < 2 && len(tried) == 0 {
		return ""
	}
	best, soonest := peer.ID(""), math.Inf(1)
	for id, w := range l.roots[root] {
		if w.lacks || tried[id] || !l.usable(id) {
			continue
		}
		p := l.lane(id)
		if now.Before(p.rest) {
			continue
		}
		rate := p.rate
		if rate == 0 {
			rate = max(fastest, 1) // nobody knows yet: give it a chance
		}
		wait := float64(p.busy+1) / rate
		if wait < soonest || wait == soonest && p.asked < l.lane(best).asked {
			best, soonest = id, wait
		}
	}
	if best != "" {
		p := l.lane(best)
		l.turn++
		p.asked = l.turn
		if p.busy++; p.busy == 1 {
			p.since = now
		}
	}
	return best
}

// lane needs the lock.
func (l *lanes) lane(id peer.ID) *lane {
	p := l.peers[id]
	if p == nil {
		if len(l.peers) >= maxLaneRoots {
			l.forget(time.Now())
		}
		p = &lane{}
		l.peers[id] = p
	}
	return p
}

// forget makes room by peers that are idle, first by those of which nothing bad is known. It needs the lock.
func (l *lanes) forget(now time.Time) {
	for _, resting := range []bool{false, true} {
		for id, p := range l.peers {
			if p.busy == 0 && (resting || !now.Before(p.rest)) {
				delete(l.peers, id)
			}
		}
		if len(l.peers) < maxLaneRoots {
			return
		}
	}
}

// moved notes that bytes of a block came from a peer.
func (l *lanes) moved(id peer.ID, bytes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, now := l.lane(id), time.Now()
	p.bytes += bytes
	if p.worked+now.Sub(p.since) >= rateSpan {
		p.measure(now)
	}
}

// measure takes the rate of what came since it was last taken.
func (p *lane) measure(now time.Time) {
	span := p.worked + now.Sub(p.since)
	if span <= 0 || p.bytes == 0 {
		return
	}
	rate := float64(p.bytes) / span.Seconds()
	if p.rate > 0 {
		rate = rateShare*rate + (1-rateShare)*p.rate
	}
	p.rate, p.bytes, p.worked, p.since = rate, 0, 0, now
}

// ended notes how a peer did with a block from under root.
func (l *lanes) ended(root cid.Cid, id peer.ID, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, now := l.lane(id), time.Now()
	if p.busy--; p.busy == 0 {
		if p.rate == 0 { // that of one block is better than none
			p.measure(now)
		}
		p.worked, p.since = p.worked+now.Sub(p.since), now
	}
	if err == nil || errors.Is(err, context.Canceled) { // another was faster
		return
	}
	l.note(root, id, true)
	if errors.Is(err, blockstore.ErrCorrupt) {
		p.rest = now.Add(laneBan)
	}
}

// stalls notes that a peer has others wait.
func (l *lanes) stalls(id peer.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.lane(id)
	p.rate /= 4
	p.rest = time.Now().Add(laneRest)
}

// Believe says that peers are likely to hold all that is under root, so that readers' blocks are asked of
// all of them. Those that don't are found out.
func (n *Node) Believe(root cid.Cid, holders []peer.AddrInfo) {
	if n.blocks.lanes == nil {
		return
	}
	ids := make([]peer.ID, 0, len(holders))
	for _, ai := range holders {
		if ai.ID != n.id {
			ids = append(ids, ai.ID)
		}
	}
	n.blocks.lanes.believe(root, ids)
}

// newLanes goes by what this node's connections can.
func (n *Node) newLanes() *lanes {
	usable := func(id peer.ID) bool {
		if n.host.Network().Connectedness(id) != network.Connected {
			return false
		}
		ps, err := n.host.Peerstore().SupportsProtocols(id, httpProtocol)
		return err == nil && len(ps) > 0
	}
	return newLanes(usable, n.askForBlock)
}

const rawType = "application/vnd.ipld.raw"

// askForBlock asks one connected peer for one block. ErrCorrupt where it sends something else.
func (n *Node) askForBlock(ctx context.Context, id peer.ID, c cid.Cid, came func(bytes int)) (blockstore.Block, error) {
	req, err := http.NewRequestWithContext(network.WithNoDial(ctx, "connected"), http.MethodGet, "http://"+id.String()+"/ipfs/"+c.String()+"?format=raw", nil)
	if err != nil {
		return blockstore.Block{}, err
	}
	req.Header.Set("Accept", rawType)
	resp, err := n.HTTPClient(peer.AddrInfo{ID: id}).Do(req)
	if err != nil {
		return blockstore.Block{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return blockstore.Block{}, fmt.Errorf("answered %s", resp.Status)
	}
	data := make([]byte, 0, min(max(resp.ContentLength, 0), blockstore.MaxBlockSize)+1)
	for {
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
		k, err := resp.Body.Read(data[len(data):cap(data)])
		data = data[:len(data)+k]
		came(k)
		if err == io.EOF {
			return blockstore.CheckBlock(c, data)
		}
		if err != nil {
			return blockstore.Block{}, err
		}
		if len(data) > blockstore.MaxBlockSize {
			return blockstore.Block{}, fmt.Errorf("%w: more than a block", blockstore.ErrCorrupt)
		}
	}
}

// rootAbove is the root of what a reader reads, where the context tells; else undefined.
func rootAbove(ctx context.Context) cid.Cid {
	if state := retrieval.StateFromContext(ctx); state != nil {
		return state.GetRootCID()
	}
	return cid.Undef
}
