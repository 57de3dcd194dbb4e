package p2p

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	mh "github.com/multiformats/go-multihash"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
)

const carType = "application/vnd.ipld.car"

// streamQuantum is the bytes that a source has to send within each
// StallTimeout: a source that trickles is as bad as one that hangs.
const streamQuantum = 256 << 10

// maxRepeats bounds the blocks that a stream may send again, though it was asked not to.
const maxRepeats = 1000

// providerWait bounds the search for sources when the given ones did not do.
const providerWait = 5 * time.Second

// How a stream may end other than well.
var (
	// errMostlyHere: the DAG differs little from what is there. Block by
	// block costs less than to send it all.
	errMostlyHere = errors.New("most of it is here already")
	errStalled    = errors.New("sent nothing, or next to nothing, for too long")
	errUnasked    = errors.New("sent a block that is not part of what was asked for")
	errRepeats    = errors.New("sent the same blocks again and again")
	errShort      = errors.New("ended the CAR before everything was in it")
)

// streams gets each root that is not there as one CAR, from the first source
// that has it. It is no error when that fails: the walk fills what is missing,
// from everybody. Its errors are those that no other source can mend.
func (f *fetch) streams(ctx context.Context, roots []cid.Cid, sources []*source) error {
	for i, root := range roots {
		info, err := f.node.cfg.Store.Stat(ctx, []cid.Cid{root})
		if err != nil {
			return err
		}
		if info[0].Present {
			continue
		}
		done, err := f.streamAny(ctx, root, sources)
		if err != nil {
			return err
		}
		if !done && i == 0 {
			found := f.otherSources(ctx, root, sources)
			sources = append(sources, found...)
			if _, err := f.streamAny(ctx, root, found); err != nil {
				return err
			}
		}
	}
	return nil
}

// otherSources is providers of root that were not among the given sources.
func (f *fetch) otherSources(ctx context.Context, root cid.Cid, given []*source) []*source {
	fctx, cancel := context.WithTimeout(ctx, providerWait)
	defer cancel()
	known := map[peer.ID]bool{f.node.id: true}
	for _, s := range given {
		known[s.ID] = true
	}
	var infos []peer.AddrInfo
	for ai := range f.node.find.FindProvidersAsync(fctx, root, maxProviders) {
		if !known[ai.ID] {
			infos = append(infos, ai)
		}
	}
	return f.connectAll(ctx, infos)
}

// streamAny tries the sources in order. It tells whether to go on with the walk at once.
func (f *fetch) streamAny(ctx context.Context, root cid.Cid, sources []*source) (done bool, err error) {
	for _, s := range sources {
		select {
		case <-s.ready:
		case <-ctx.Done():
			return false, nil // the walk says what is missing
		}
		if s.err != nil {
			continue
		}
		f.touch()
		guard := newGuard(f, root)
		err := f.stream(ctx, root, s.AddrInfo, guard)
		switch {
		case err == nil || errors.Is(err, errMostlyHere):
			return true, nil
		case guard.fatal != nil:
			return false, guard.fatal
		case ctx.Err() != nil:
			return false, nil
		}
		f.said.note(s.ID, "%v", err)
		f.node.log.Warn("fetch: source failed", "peer", s.ID, "root", root, "err", err)
	}
	return false, nil
}

// stream puts one CAR into the session, through the guard.
func (f *fetch) stream(ctx context.Context, root cid.Cid, from peer.AddrInfo, guard *carGuard) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := &stallReader{limit: f.node.cfg.StallTimeout, moved: f.touch, came: func(n int) { f.said.gave(from.ID, int64(n)) }}
	watch.timer = time.AfterFunc(watch.limit, func() { cancel(errStalled) })
	defer watch.timer.Stop()

	url := "http://" + from.ID.String() + "/ipfs/" + root.String() + "?format=car&dag-scope=all&car-order=dfs&car-dups=n"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", carType+"; version=1; order=dfs; dups=n")
	resp, err := f.node.HTTPClient(from).Do(req)
	if err == nil {
		defer resp.Body.Close()
		if err = checkCAR(resp); err == nil {
			watch.r = resp.Body
			_, err = merkle.ReadCAR(ctx, guard, watch, looser(f.limits))
			if err == nil && guard.wanted > 0 {
				err = errShort
			}
		}
	}
	if err != nil && context.Cause(ctx) == errStalled {
		return errStalled
	}
	return err
}

// looser lets the guard find a limit exceeded before the reader does: the
// guard knows whether it was the DAG or only the source that was too large.
func looser(l merkle.Limits) merkle.Limits {
	if l.MaxBytes > 0 {
		l.MaxBytes += 64 << 20
	}
	if l.MaxBlocks > 0 {
		l.MaxBlocks += 2 * maxRepeats
	}
	return l
}

func checkCAR(resp *http.Response) error {
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %q", resp.Status)
	}
	if t, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || t != carType {
		return fmt.Errorf("sent %q instead of a CAR", resp.Header.Get("Content-Type"))
	}
	// Nothing was asked to be compressed, and a decompressor is a way to turn little into much.
	if e := resp.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return fmt.Errorf("sent a body encoded as %q", e)
	}
	return nil
}

// stallReader lets a timer run out unless streamQuantum bytes come within limit.
type stallReader struct {
	r     io.Reader
	timer *time.Timer
	limit time.Duration
	moved func()
	came  func(n int)
	since int
}

func (s *stallReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.came(n)
	if s.since += n; s.since >= streamQuantum {
		s.since = 0
		s.timer.Reset(s.limit)
		s.moved()
	}
	return n, err
}

// carGuard is a session that takes only blocks that belong to the DAG: a root, or linked
// from a block that came before. So a source can't fill the store with
// what nobody asked for, whatever the limits are.
type carGuard struct {
	blockstore.Session
	fetch *fetch
	fatal error // of our store or of the DAG itself: no other source can mend it

	mu         sync.Mutex
	state      map[string]carState // by multihash
	wanted     int                 // of state
	repeats    int
	here, away int // links seen that were and were not present
	count      merkle.Count
}

type carState int8

const (
	carWanted carState = iota + 1
	carGot
)

func newGuard(f *fetch, root cid.Cid) *carGuard {
	return &carGuard{Session: f.into, fetch: f, wanted: 1, state: map[string]carState{string(root.Hash()): carWanted}}
}

// Put implements blockstore.Session.
func (g *carGuard) Put(ctx context.Context, blks ...blockstore.Block) (blockstore.Added, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var fresh []cid.Cid
	var refused error
	for i, b := range blks {
		links, err := g.admit(b)
		if err != nil {
			blks, refused = blks[:i], err
			break
		}
		fresh = append(fresh, links...)
	}
	// Before the put, which makes present what the links of this very batch name.
	if err := g.compare(ctx, fresh); refused == nil {
		refused = err
	}
	added, err := g.Session.Put(ctx, blks...)
	if err != nil {
		return added, g.fail(ctx, err)
	}
	if refused != nil {
		return added, refused
	}
	g.fetch.touch()
	g.fetch.present(g.count)
	return added, nil
}

// admit checks that the block was wanted, and returns the links that now are.
func (g *carGuard) admit(b blockstore.Block) (fresh []cid.Cid, err error) {
	key := string(b.Cid().Hash())
	limits := g.fetch.limits
	switch g.state[key] {
	case carGot:
		if g.repeats++; g.repeats > maxRepeats {
			return nil, errRepeats
		}
		return nil, nil
	case 0:
		return nil, fmt.Errorf("%w: %s", errUnasked, b.Cid())
	}
	g.state[key] = carGot
	g.wanted--
	g.count.Blocks++
	g.count.Bytes += int64(b.Size())
	if limits.MaxBytes > 0 && g.count.Bytes > limits.MaxBytes {
		g.fatal = fmt.Errorf("%w: more than %d bytes", merkle.ErrLimit, limits.MaxBytes)
		return nil, g.fatal
	}
	if limits.MaxBlocks > 0 && g.count.Blocks > limits.MaxBlocks {
		g.fatal = fmt.Errorf("%w: more than %d blocks", merkle.ErrLimit, limits.MaxBlocks)
		return nil, g.fatal
	}
	links, err := merkle.Links(b)
	if err != nil {
		g.fatal = err
		return nil, err
	}
	for _, c := range links {
		if k := string(c.Hash()); g.state[k] == 0 && c.Prefix().MhType != mh.IDENTITY {
			g.state[k] = carWanted
			g.wanted++
			fresh = append(fresh, c)
		}
	}
	return fresh, nil
}

// compare ends the stream when more of the DAG is here than is not.
func (g *carGuard) compare(ctx context.Context, fresh []cid.Cid) error {
	if len(fresh) == 0 {
		return nil
	}
	infos, err := g.Shield(ctx, fresh)
	if err != nil {
		return g.fail(ctx, err)
	}
	for _, i := range infos {
		if i.Present {
			g.here++
		} else {
			g.away++
		}
	}
	if g.here > g.away {
		return errMostlyHere
	}
	return nil
}

// fail notes an error of the store, unless it only says that the stream was given up.
func (g *carGuard) fail(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		g.fatal = err
	}
	return err
}
