package merkle

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// WalkOptions steers a walk. The zero value works.
type WalkOptions struct {
	Limits
	Prefetch int // blocks asked for ahead, and so held at once (32 of them are 64 MiB at most); 0: 32; 1: none ahead
}

const defaultPrefetch = 32

// maxPending bounds the links that a walk has seen and not yet followed, which
// is what its memory grows with beside the set of visited CIDs.
const maxPending = 4 << 20

// Walk yields each block under roots once, in depth-first pre-order of first
// occurrence (links in node order, roots in order), the roots included. The
// order is a matter of the DAG only; up to Prefetch blocks are asked for ahead
// of it, concurrently. The first error ends the walk: the Getter's, ErrLimit,
// ErrMalformed or ErrUnsupported (from Links), or the context's. A DAG in which
// few blocks stand for very many paths costs only its few blocks.
func Walk(ctx context.Context, g blockstore.Getter, roots []cid.Cid, opts WalkOptions) iter.Seq2[blockstore.Block, error] {
	return func(yield func(blockstore.Block, error) bool) {
		w := newWalker(g, roots, opts)
		err := w.run(ctx, func(b blockstore.Block) error {
			if !yield(b, nil) {
				return errStop
			}
			return nil
		}, func(_ cid.Cid, err error) error { return err })
		if err != nil && err != errStop {
			yield(blockstore.Block{}, err)
		}
	}
}

// errStop ends a walk that the caller has had enough of.
var errStop = errors.New("stop")

// walker is one walk: a stack of the links still to follow, one frame for each
// node on the way, and the fetches that run ahead of it.
type walker struct {
	get    blockstore.Getter
	limits Limits
	window int
	raw    func(cid.Cid) error // takes raw blocks' CIDs; nil: they are fetched as all others

	frames  []*frame
	pending int // links in frames
	visited *cid.Set
	ahead   map[cid.Cid]*fetch
	reader  *readAhead // while it runs

	done Count
}

// frame is the links of one node.
type frame struct {
	links []cid.Cid
	next  int // to visit
	asked int // to ask for ahead
	// room is how much of the window was free when the frame was opened. Half of it
	// is left to the frames that its links will open: without that, siblings far
	// ahead would fill the window and the blocks that are needed first would
	// come one by one.
	room  int
	opens bool // a link before asked may open a frame
}

func newWalker(g blockstore.Getter, roots []cid.Cid, opts WalkOptions) *walker {
	w := &walker{
		get:     g,
		limits:  opts.Limits.withDefaults(),
		window:  opts.Prefetch,
		visited: cid.NewSet(),
		ahead:   make(map[cid.Cid]*fetch),
	}
	if w.window <= 0 {
		w.window = defaultPrefetch
	}
	w.push(roots)
	return w
}

// withDefaults makes every limit a number to compare with.
func (l Limits) withDefaults() Limits {
	const none = int64(1<<63 - 1)
	if l.MaxBytes <= 0 {
		l.MaxBytes = none
	}
	switch {
	case l.MaxBlocks == 0:
		l.MaxBlocks = DefaultMaxBlocks
	case l.MaxBlocks < 0:
		l.MaxBlocks = none
	}
	switch {
	case l.MaxDepth == 0:
		l.MaxDepth = DefaultMaxDepth
	case l.MaxDepth < 0:
		l.MaxDepth = 1<<31 - 1
	}
	return l
}

// run visits each block. failed decides about a block that can't be had: nil
// goes on without it and what is under it.
func (w *walker) run(ctx context.Context, visit func(blockstore.Block) error, failed func(cid.Cid, error) error) error {
	w.reader = newReadAhead(ctx, w.get, w.window)
	defer w.reader.close()
	for {
		c, ok := w.pop()
		if !ok {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if w.done.Blocks >= w.limits.MaxBlocks {
			return fmt.Errorf("%w: more than %d blocks", ErrLimit, w.limits.MaxBlocks)
		}
		if w.raw != nil && c.Prefix().Codec == cid.Raw {
			if err := w.raw(c); err != nil {
				return err
			}
			continue
		}
		b, err := w.take(c)
		if err != nil {
			if err := failed(c, err); err != nil {
				return err
			}
			continue
		}
		if err := w.block(b, visit); err != nil {
			return err
		}
	}
}

// block counts a block, opens its frame and hands it out.
func (w *walker) block(b blockstore.Block, visit func(blockstore.Block) error) error {
	w.done.Blocks++
	w.done.Bytes += int64(b.Size())
	if w.done.Bytes > w.limits.MaxBytes {
		return fmt.Errorf("%w: more than %d bytes", ErrLimit, w.limits.MaxBytes)
	}
	links, err := Links(b)
	if err != nil {
		return err
	}
	if len(links) > 0 {
		if len(w.frames) > w.limits.MaxDepth {
			return fmt.Errorf("%s: %w: more than %d links deep", b.Cid(), ErrLimit, w.limits.MaxDepth)
		}
		if w.pending+len(links) > maxPending {
			return fmt.Errorf("%s: %w: more than %d links wait to be followed", b.Cid(), ErrLimit, maxPending)
		}
		w.push(links)
	}
	w.fetchAhead()
	return visit(b)
}

func (w *walker) push(links []cid.Cid) {
	w.pending += len(links)
	w.frames = append(w.frames, &frame{links: links, room: w.window - len(w.ahead)})
}

// pop is the next CID to visit. A frame stays until its last link's turn is
// over, so the number of frames is the depth.
func (w *walker) pop() (cid.Cid, bool) {
	for len(w.frames) > 0 {
		f := w.frames[len(w.frames)-1]
		for f.next < len(f.links) {
			c := f.links[f.next]
			f.next++
			w.pending--
			if w.visited.Visit(c) {
				return c, true
			}
		}
		w.frames[len(w.frames)-1] = nil
		w.frames = w.frames[:len(w.frames)-1]
	}
	return cid.Undef, false
}

// take is the block, fetched now where it was not asked for.
func (w *walker) take(c cid.Cid) (blockstore.Block, error) {
	f := w.ahead[c]
	if f == nil {
		return w.get.Get(w.reader.ctx, c)
	}
	delete(w.ahead, c)
	return w.reader.take(f)
}

// fetchAhead asks for what the top frame needs next, as far as the window goes.
func (w *walker) fetchAhead() {
	if len(w.frames) == 0 {
		return
	}
	f := w.frames[len(w.frames)-1]
	f.asked = max(f.asked, f.next)
	// One slot is for the block in the caller's hands.
	free := w.window - 1 - len(w.ahead)
	if free < f.room/4 {
		return // a worker that is woken for every block sleeps more than it works
	}
	for f.asked < len(f.links) {
		free := w.window - 1 - len(w.ahead)
		if free <= 0 || f.opens && free <= f.room/2 {
			return
		}
		c := f.links[f.asked]
		f.asked++
		if c.Prefix().Codec != cid.Raw {
			f.opens = true
		} else if w.raw != nil {
			continue
		}
		if w.visited.Has(c) || w.ahead[c] != nil {
			continue
		}
		w.ahead[c] = w.reader.ask(c)
	}
}
