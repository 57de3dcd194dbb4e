package p2p

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
)

// fetchAhead is how many blocks a Fetch asks for at once.
const fetchAhead = 64

// A batch of fetched blocks is put when it has this many blocks or bytes.
const (
	batchBlocks = 64
	batchBytes  = 4 << 20
)

// errIdle is why a fetch gave up that heard nothing new.
var errIdle = errors.New("no new block for too long")

// Fetch makes everything under roots present in the store, which into must be
// a session of, every block verified, from the given sources and whoever else is connected or
// provides the roots. It takes up where an earlier call was interrupted: what is present is shielded, not fetched. It
// neither syncs nor keeps.
//
// Where nothing of a root is there it streams a CAR from the first source that
// works; holes are filled by bitswap from everybody. A source is used over its open
// connection if there is one, whoever dialled. Where into is a SourceWatcher, it is told who gave what. progress, which may be nil, is called one
// call at a time with what is present so far.
//
// The result is all CIDs under the roots, unique, in walk order. Errors:
// blockstore.ErrUnavailable with an *AskedError inside after IdleTimeout
// without a new block or at the context's deadline; merkle.ErrLimit,
// merkle.ErrMalformed; the context's error when it was cancelled.
func (n *Node) Fetch(ctx context.Context, into blockstore.Session, roots []cid.Cid, from []peer.AddrInfo,
	limits merkle.Limits, progress func(merkle.Count)) ([]cid.Cid, error) {
	f := &fetch{node: n, into: into, limits: limits, report: progress}
	f.said.watch, _ = into.(SourceWatcher)
	fctx, cancel := context.WithCancelCause(ctx)
	f.idle = time.AfterFunc(n.cfg.IdleTimeout, func() { cancel(fmt.Errorf("%w (%v)", errIdle, n.cfg.IdleTimeout)) })
	defer f.background.Wait()
	defer cancel(nil)
	defer f.idle.Stop()

	if _, err := into.Shield(ctx, roots); err != nil {
		return nil, err
	}
	var err error
	if n.swap != nil {
		f.bitswap = n.swap.sessions(n.cfg.IdleTimeout)
		defer f.bitswap.close()
		defer f.protect(from)()
		links := f.connectAll(fctx, from)
		err = f.streams(fctx, roots, links)
	}
	var cids []cid.Cid
	if err == nil {
		cids, err = f.walk(fctx, roots)
	}
	// What has arrived is kept for the next attempt even when this one was cut off.
	if flushed := f.flush(context.WithoutCancel(ctx)); err == nil {
		err = flushed
	}
	if err != nil {
		return nil, f.explain(ctx, fctx, err)
	}
	return cids, nil
}

// fetch is one Fetch on its way.
type fetch struct {
	node    *Node
	into    blockstore.Session
	limits  merkle.Limits
	bitswap *sessions // nil when Offline
	idle    *time.Timer
	said    answers

	background sync.WaitGroup // ends before Fetch returns
	search     sync.Once      // of the roots' providers

	reportMu sync.Mutex
	report   func(merkle.Count)
	most     merkle.Count // what was reported

	mu           sync.Mutex
	lost         cid.Cid // the first block that could not be had
	batch        []blockstore.Block
	pendingBytes int
}

// touch is called when something new has arrived.
func (f *fetch) touch() { f.idle.Reset(f.node.cfg.IdleTimeout) }

// present reports progress, which never goes back: the stream counts first, and the walk that follows
// counts the same blocks again.
func (f *fetch) present(c merkle.Count) {
	f.reportMu.Lock()
	defer f.reportMu.Unlock()
	if f.report == nil || c.Blocks <= f.most.Blocks {
		return
	}
	f.most = merkle.Count{Blocks: c.Blocks, Bytes: max(c.Bytes, f.most.Bytes)}
	f.report(f.most)
}

// source is a peer to fetch from; ready is closed when it was connected, or
// could not be.
type source struct {
	peer.AddrInfo
	ready chan struct{}
	err   error
}

// connectAll connects to all sources at once, so that bitswap can ask them all and a dead one costs
// no time when its turn comes.
func (f *fetch) connectAll(ctx context.Context, from []peer.AddrInfo) []*source {
	var sources []*source
	for _, ai := range from {
		if ai.ID == f.node.id {
			continue
		}
		s := &source{AddrInfo: ai, ready: make(chan struct{})}
		sources = append(sources, s)
		f.background.Go(func() {
			defer close(s.ready)
			if s.err = f.node.connect(ctx, ai); s.err != nil && ctx.Err() == nil {
				f.said.note(ai.ID, "not reached: %v", s.err)
			}
		})
	}
	return sources
}

var fetchCount atomic.Uint64

// protect keeps the connections to the sources from being trimmed until the
// returned function is called.
func (f *fetch) protect(from []peer.AddrInfo) (undo func()) {
	cm, tag := f.node.host.ConnManager(), "fetch-"+strconv.FormatUint(fetchCount.Add(1), 10)
	for _, ai := range from {
		cm.Protect(ai.ID, tag)
	}
	return func() {
		for _, ai := range from {
			cm.Unprotect(ai.ID, tag)
		}
	}
}

// walk goes over the whole DAG and gets what is not there.
func (f *fetch) walk(ctx context.Context, roots []cid.Cid) ([]cid.Cid, error) {
	var cids []cid.Cid
	var count merkle.Count
	g := holes{f, roots}
	for b, err := range merkle.Walk(ctx, g, roots, merkle.WalkOptions{Limits: f.limits, Prefetch: fetchAhead}) {
		if err != nil {
			return nil, err
		}
		cids = append(cids, b.Cid())
		count.Blocks++
		count.Bytes += int64(b.Size())
		f.present(count)
	}
	return cids, nil
}

// holes gets blocks from the store, and what is missing there from the network.
type holes struct {
	*fetch
	roots []cid.Cid
}

// Get implements blockstore.Getter. The links of what it returns are shielded
// before anybody follows them, so that a collection can't take what the walk has yet to find.
func (h holes) Get(ctx context.Context, c cid.Cid) (blockstore.Block, error) {
	b, err := h.node.cfg.Store.Get(ctx, c)
	switch {
	case errors.Is(err, blockstore.ErrNotFound):
		if b, err = h.fromNetwork(ctx, c); err == nil {
			err = h.put(ctx, b)
		}
	case errors.Is(err, blockstore.ErrCorrupt):
		b, err = h.mend(ctx, c)
	}
	if err != nil {
		return b, err
	}
	h.touch()
	if links, err := merkle.Links(b); err == nil && len(links) > 0 {
		if _, err := h.into.Shield(ctx, links); err != nil {
			return b, err
		}
	} // the walk itself reports what is malformed
	return b, nil
}

// mend replaces a block that is damaged here by one that may be whole
// elsewhere, and looks whether the store has taken it.
func (h holes) mend(ctx context.Context, c cid.Cid) (blockstore.Block, error) {
	b, err := h.fromNetwork(ctx, c)
	if err != nil {
		return b, err
	}
	if _, err := h.into.Put(ctx, b); err != nil {
		return b, err
	}
	return h.node.cfg.Store.Get(ctx, c)
}

func (h holes) fromNetwork(ctx context.Context, c cid.Cid) (b blockstore.Block, err error) {
	if h.bitswap == nil {
		err = ErrOffline
	} else {
		h.search.Do(func() { h.background.Go(func() { h.searchProviders(ctx, h.roots) }) })
		b, err = h.node.swap.get(ctx, h.bitswap, c, &h.said)
	}
	if err != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		if !h.lost.Defined() {
			h.lost = c
		}
	}
	return b, err
}

// searchProviders connects to whoever provides the roots. Bitswap asks new
// connections for what is still wanted.
func (f *fetch) searchProviders(ctx context.Context, roots []cid.Cid) {
	for _, root := range roots {
		f.node.tryProviders(ctx, root, &f.said)
	}
}

// put gathers fetched blocks into batches.
func (f *fetch) put(ctx context.Context, b blockstore.Block) error {
	f.mu.Lock()
	f.batch = append(f.batch, b)
	f.pendingBytes += b.Size()
	full := len(f.batch) >= batchBlocks || f.pendingBytes >= batchBytes
	f.mu.Unlock()
	if full {
		return f.flush(ctx)
	}
	return nil
}

func (f *fetch) flush(ctx context.Context) error {
	f.mu.Lock()
	batch := f.batch
	f.batch, f.pendingBytes = nil, 0
	f.mu.Unlock()
	if len(batch) == 0 {
		return nil
	}
	_, err := f.into.Put(ctx, batch...)
	return err
}

// explain turns the end of a wait into the error that says who was asked.
func (f *fetch) explain(ctx, fctx context.Context, err error) error {
	f.mu.Lock()
	lost := f.lost
	f.mu.Unlock()
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case f.bitswap == nil && errors.Is(err, ErrOffline):
		return unavailable(lost, &f.said, ErrOffline)
	case fctx.Err() == nil:
		return err
	case !lost.Defined(): // it ended while the store was busy
		return fmt.Errorf("%w: %w", blockstore.ErrUnavailable, &AskedError{Answers: f.said.list(), Cause: context.Cause(fctx)})
	}
	return unavailable(lost, &f.said, context.Cause(fctx))
}
