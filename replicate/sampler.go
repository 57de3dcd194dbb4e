package replicate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	mh "github.com/multiformats/go-multihash"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
)

// Defaults and bounds of a Sampler.
const (
	DefaultLeaves  = 16               // of one sample, by somebody who asks alone
	RosterLeaves   = 4                // of one sample, by a member of a roster: the others ask, too
	sampleTimeout  = 20 * time.Second // for one block
	sampleBytes    = 64 << 20         // of all blocks of one sample
	sampleRequests = 2048
)

// Sampler has a host show that it holds a site to somebody who has the root only: it
// asks for blocks from the root down, along links chosen at random in proportion to the
// bytes that they declare below them, and checks each against its CID. c leaves find a
// missing fraction f with probability 1-(1-f)^c. That the blocks could be had says nothing of where they lay.
//
// The zero value is ready. docs/formats.md, "Random leaves".
type Sampler struct {
	Verifier peer.ID                   // who asks, for the result
	Leaves   int                       // 0: DefaultLeaves
	Timeout  time.Duration             // for one block; 0: 20 s
	Pick     func(below uint64) uint64 // a random number; nil: math/rand
	Now      func() time.Time          // nil: time.Now
}

// SampleSource is where blocks are asked for: GET {Base}/ipfs/{cid}?format=raw.
type SampleSource struct {
	HTTP *http.Client // nil: a plain one. Redirects are refused
	Base string       // "http://peer" over libp2p, or any gateway's URL
	Peer peer.ID      // for the result; empty of a gateway that is nobody's peer
	// Alive tells a host that lives and is silent from one that is down. Nil: silence is downtime
	// until it has answered once.
	Alive func(ctx context.Context) error
}

// Sample asks for random leaves under root. What the source does or fails to do is the
// result's Verdict: Proved, NotHeld (it says that it lacks a block, which Missing names), Busy,
// Refused, Missed (wrong bytes, nonsense, or silence of one that lives), Unreachable. Never
// Wrong: nothing here is signed. Errors: ErrInvalid, the context's where it was cancelled,
// merkle.ErrMalformed and merkle.ErrUnsupported where the site itself can't be walked.
func (s Sampler) Sample(ctx context.Context, from SampleSource, site naming.Name, root cid.Cid) (AuditResult, error) {
	if err := blockstore.CheckCID(root); err != nil {
		return AuditResult{}, fmt.Errorf("%w: %v", ErrInvalid, err)
	}
	if err := checkBaseURL(from.Base); err != nil {
		return AuditResult{}, fmt.Errorf("%w: base URL: %v", ErrInvalid, err)
	}
	s = s.withDefaults()
	res := AuditResult{At: s.Now().UTC(), Prover: from.Peer, Verifier: s.Verifier, Site: site, Roots: []cid.Cid{root}}
	w := &sample{Sampler: s, from: from, root: root, client: plainClient(from.HTTP), known: make(map[cid.Cid]blockstore.Block)}
	err := w.run(ctx)
	res.Took = s.Now().Sub(res.At)
	var f *sampleFault
	switch {
	case ctx.Err() != nil && canceled(ctx):
		return AuditResult{}, ctx.Err()
	case err == nil:
		res.Verdict = Proved
		res.Detail = fmt.Sprintf("%d leaves, %d blocks, %d bytes", s.Leaves, w.asked, w.bytes)
	case errors.As(err, &f):
		res.Verdict, res.Detail, res.Missing, res.Until = f.verdict, f.Error(), f.missing, f.until
	default:
		return AuditResult{}, err
	}
	return res, nil
}

func (s Sampler) withDefaults() Sampler {
	if s.Leaves <= 0 {
		s.Leaves = DefaultLeaves
	}
	if s.Timeout <= 0 {
		s.Timeout = sampleTimeout
	}
	if s.Pick == nil {
		s.Pick = rand.Uint64N
	}
	if s.Now == nil {
		s.Now = time.Now
	}
	return s
}

// plainClient is a copy of hc that follows no redirects: who is asked answers itself.
func plainClient(hc *http.Client) *http.Client {
	var c http.Client
	if hc != nil {
		c = *hc
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

// sampleFault is what a source did in place of showing a block.
type sampleFault struct {
	verdict Verdict
	block   cid.Cid
	missing cid.Cid
	until   time.Time
	why     string
}

func (f *sampleFault) Error() string { return fmt.Sprintf("%s: %s", f.block, f.why) }

// sample is one Sample on its way.
type sample struct {
	Sampler
	from   SampleSource
	root   cid.Cid
	client *http.Client
	known  map[cid.Cid]blockstore.Block // paths share their beginnings
	asked  int
	bytes  int64
}

func (w *sample) run(ctx context.Context) error {
	for range w.Leaves {
		if err := w.descend(ctx, w.root); err != nil {
			return err
		}
		if w.full() {
			return nil
		}
	}
	return nil
}

// full tells that enough was asked for one sample: sites of large blocks, or very deep ones.
func (w *sample) full() bool { return w.asked >= sampleRequests || w.bytes >= sampleBytes }

// descend goes from the root to one leaf.
func (w *sample) descend(ctx context.Context, c cid.Cid) error {
	for {
		b, err := w.block(ctx, c)
		if err != nil {
			return err
		}
		links, err := weigh(b)
		if err != nil {
			return err
		}
		if len(links) == 0 || w.full() {
			return nil
		}
		c = w.choose(links)
	}
}

// weighted is a link with the bytes that it declares below it.
type weighted struct {
	cid   cid.Cid
	bytes uint64
}

// maxWeight keeps the sum of a block's weights far from overflow, whatever it declares.
const maxWeight = 1 << 40

// weigh lists a block's links. Every link weighs something: what a block declares steers where we look, and
// must not keep us from looking anywhere.
func weigh(b blockstore.Block) ([]weighted, error) {
	cids, err := merkle.Links(b)
	if err != nil {
		return nil, err
	}
	links := make([]weighted, len(cids))
	for i, c := range cids {
		links[i] = weighted{c, 1}
	}
	if b.Cid().Prefix().Codec != cid.DagProtobuf {
		return links, nil
	}
	n, err := merkledag.DecodeProtobuf(b.RawData())
	if err != nil || len(n.Links()) != len(links) {
		return links, nil
	}
	for i, l := range n.Links() {
		links[i].bytes += min(l.Size, maxWeight)
	}
	return links, nil
}

func (w *sample) choose(links []weighted) cid.Cid {
	var sum uint64
	for _, l := range links {
		sum += l.bytes
	}
	at := w.Pick(sum)
	for _, l := range links {
		if at < l.bytes {
			return l.cid
		}
		at -= l.bytes
	}
	return links[len(links)-1].cid
}

// block is a verified block from the source, asked for once in a sample.
func (w *sample) block(ctx context.Context, c cid.Cid) (blockstore.Block, error) {
	if b, ok := w.known[c]; ok {
		return b, nil
	}
	b, err := w.ask(ctx, c)
	if err != nil {
		return blockstore.Block{}, err
	}
	w.known[c] = b
	return b, nil
}

func (w *sample) ask(ctx context.Context, c cid.Cid) (blockstore.Block, error) {
	if err := blockstore.CheckCID(c); err != nil {
		return blockstore.Block{}, err
	}
	if c.Prefix().MhType == mh.IDENTITY { // it is its own content
		d, err := mh.Decode(c.Hash())
		if err != nil {
			return blockstore.Block{}, err
		}
		return blockstore.CheckBlock(c, d.Digest)
	}
	u, err := url.JoinPath(w.from.Base, "ipfs", c.String())
	if err != nil {
		return blockstore.Block{}, fmt.Errorf("%w: base URL: %v", ErrInvalid, err)
	}
	asked, cancel := context.WithTimeout(ctx, w.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(asked, http.MethodGet, u+"?format=raw", nil)
	if err != nil {
		return blockstore.Block{}, fmt.Errorf("%w: base URL: %v", ErrInvalid, err)
	}
	req.Header.Set("Accept", "application/vnd.ipld.raw")
	req.Header.Set(KeptHeader, w.root.String())
	resp, err := w.client.Do(req)
	if err != nil {
		return blockstore.Block{}, w.silence(ctx, c, err)
	}
	defer resp.Body.Close()
	w.asked++
	if resp.StatusCode != http.StatusOK {
		return blockstore.Block{}, w.refusal(c, resp)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, blockstore.MaxBlockSize+1))
	if err != nil {
		return blockstore.Block{}, w.silence(ctx, c, err)
	}
	w.bytes += int64(len(data))
	b, err := blockstore.CheckBlock(c, data)
	if err != nil {
		return blockstore.Block{}, &sampleFault{verdict: Missed, block: c, why: fmt.Sprintf("it sent something else: %v", err)}
	}
	return b, nil
}

// silence is the fault of a source that gave no answer, or not all of it.
func (w *sample) silence(ctx context.Context, c cid.Cid, why error) error {
	f := &sampleFault{verdict: Missed, block: c, why: why.Error()}
	switch {
	case w.from.Alive != nil:
		if err := w.from.Alive(ctx); err != nil {
			f.verdict = Unreachable
		}
	case w.asked == 0:
		f.verdict = Unreachable
	}
	return f
}

// refusal is the fault of a source that answered without the block.
func (w *sample) refusal(c cid.Cid, resp *http.Response) error {
	f := &sampleFault{verdict: Missed, block: c, why: "it answered " + resp.Status}
	switch resp.StatusCode {
	case http.StatusNotFound, http.StatusGone, http.StatusPreconditionFailed, http.StatusGatewayTimeout:
		f.verdict, f.missing = NotHeld, c
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusUnavailableForLegalReasons:
		f.verdict = Refused
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		after, said := retryAfter(resp.Header.Get("Retry-After"), w.Now())
		if !said {
			after = time.Minute
		}
		f.verdict, f.until = Busy, w.Now().Add(after)
	}
	return f
}
