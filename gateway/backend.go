package gateway

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/ipfs/boxo/blockservice"
	bsfetcher "github.com/ipfs/boxo/fetcher/impl/blockservice"
	boxogw "github.com/ipfs/boxo/gateway"
	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/boxo/namesys"
	boxopath "github.com/ipfs/boxo/path"
	"github.com/ipfs/boxo/path/resolver"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-unixfsnode"
	dagpb "github.com/ipld/go-codec-dagpb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/maypok86/otter/v2"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/deny"
)

// backend is boxo's block backend with names of our own. It keeps what it
// learns in the request's trace.
type backend struct {
	*boxogw.BlocksBackend
	local  blockstore.Getter
	paths  *merkle.Paths
	denied *deny.Lists
	names  Names
	dns    DNSLinks
	now    func() time.Time

	spelled  *spellings
	followed *otter.Cache[naming.Name, followed]
	// nameTime is how long names may take, in part of the time to the first byte.
	nameTime time.Duration
}

var (
	_ boxogw.IPFSBackend     = (*backend)(nil)
	_ boxogw.WithContextHint = (*backend)(nil)
)

func newBackend(blocks blockstore.Getter, cfg Config) (*backend, error) {
	service := newBlockService(blocks)
	b, err := boxogw.NewBlocksBackend(service,
		boxogw.WithNameSystem(noNames{}), // names are resolved by ResolveMutable below
		boxogw.WithResolver(newResolver(service)))
	if err != nil {
		return nil, err
	}
	return &backend{
		BlocksBackend: b, local: cfg.Local, paths: merkle.NewPaths(blocks, cfg.ReadyBytes/shareOfPaths), denied: cfg.Denied, names: cfg.Names, dns: cfg.DNSLinks, now: time.Now, nameTime: cfg.RetrievalTimeout / 2,
		spelled:  newSpellings(),
		followed: newRemembered[naming.Name, followed](maxSpellings),
	}, nil
}

// tracedResolver tells the trace whether blocks are asked for on the way to the
// path's end, or for the content there.
type tracedResolver struct{ resolver.Resolver }

func newResolver(service blockservice.BlockService) resolver.Resolver {
	f := bsfetcher.NewFetcherConfig(service)
	f.PrototypeChooser = dagpb.AddSupportToChooser(bsfetcher.DefaultPrototypeChooser)
	return tracedResolver{resolver.NewBasicResolver(f.WithReifier(unixfsnode.Reify))}
}

func (r tracedResolver) ResolveToLastNode(ctx context.Context, p boxopath.ImmutablePath) (c cid.Cid, rest []string, err error) {
	t := traceOf(ctx)
	defer blameContent(ctx, StepPath, &err)
	t.set(func(t *trace) { t.reading = false })
	c, rest, err = r.Resolver.ResolveToLastNode(ctx, p)
	t.set(func(t *trace) { t.reading = err == nil })
	return c, rest, err
}

// Get hides a site's rules file from boxo unless it was asked for: the rules
// are carried out here, where they can't lead to another origin. Of folders it says only that they are some.
func (b *backend) Get(ctx context.Context, p boxopath.ImmutablePath, ranges ...boxogw.ByteRange) (md boxogw.ContentPathMetadata, r *boxogw.GetResponse, err error) {
	defer blameContent(ctx, StepBlock, &err)
	if s := p.Segments(); len(s) == 3 && s[2] == rulesFile {
		asked, _ := ctx.Value(boxogw.ContentPathKey).(boxopath.Path)
		if asked == nil || len(asked.Segments()) != 3 || asked.Segments()[2] != rulesFile {
			return boxogw.ContentPathMetadata{}, nil, &resolver.ErrNoLink{Name: rulesFile, Node: p.RootCid()}
		}
	}
	at, err := b.walk(ctx, p.RootCid(), "/"+strings.Join(p.Segments()[2:], "/"))
	if err != nil || !at.IsFolder() {
		return b.BlocksBackend.Get(ctx, p, ranges...)
	}
	if md, err = b.ResolvePath(ctx, p); err != nil {
		return md, nil, err
	}
	md.ModTime = at.ModTime()
	return md, boxogw.NewGetResponseFromDirectoryListing(0, nothingListed, nil), nil
}

// nothingListed is what boxo is told that folders have in them: it sends their index pages, and lists are ours. Else it
// begins to read all of a sharded folder while it sends the page.
var nothingListed = func() <-chan unixfs.LinkResult {
	none := make(chan unixfs.LinkResult)
	close(none)
	return none
}()

// walk finds what is at a path, and tells the trace how far it is.
func (b *backend) walk(ctx context.Context, root cid.Cid, path string) (merkle.Place, error) {
	t := traceOf(ctx)
	t.set(func(t *trace) { t.reading = false })
	place, err := b.paths.Walk(ctx, root, path)
	if err != nil {
		return place, err
	}
	for _, id := range place.CIDs { // what is kept of folders may be denied since
		if err := b.mayGive(ctx, id); err != nil {
			return place, err
		}
	}
	t.set(func(t *trace) { t.reading = true })
	return b.paths.Open(ctx, place)
}

// ResolvePath implements boxo's backend. What it finds may be confirmed to a client
// without being read, so it is looked at here.
func (b *backend) ResolvePath(ctx context.Context, p boxopath.ImmutablePath) (boxogw.ContentPathMetadata, error) {
	md, err := b.BlocksBackend.ResolvePath(ctx, p)
	if err == nil {
		err = b.mayGive(ctx, md.LastSegment.RootCid())
	}
	return md, err
}

// ResolveMutable implements boxo's backend: the TTL is that of the whole chain,
// and ends before any record does.
func (b *backend) ResolveMutable(ctx context.Context, p boxopath.Path) (boxopath.ImmutablePath, time.Duration, time.Time, error) {
	if p.Namespace() != boxopath.IPNSNamespace {
		ip, err := boxopath.NewImmutablePath(p)
		if err == nil {
			err = b.mayServe(ctx, p.String())
		}
		return ip, 0, time.Time{}, err
	}
	segments := p.Segments()
	rest := "/" + strings.Join(segments[2:], "/")
	if len(segments) > 2 && strings.HasSuffix(p.String(), "/") {
		rest += "/"
	}
	root, base, ttl, err := b.resolve(ctx, segments[1], rest)
	if err != nil {
		return boxopath.ImmutablePath{}, 0, time.Time{}, err
	}
	joined, err := boxopath.Join(boxopath.FromCid(root), append(boxopath.StringToSegments(base), segments[2:]...)...)
	if err != nil {
		return boxopath.ImmutablePath{}, 0, time.Time{}, err
	}
	ip, err := boxopath.NewImmutablePath(joined)
	return ip, ttl, time.Time{}, err
}

// mayServe fails for a path that the operator denies.
func (b *backend) mayServe(ctx context.Context, path string) error {
	if err := checkPath(ctx, b.denied, path); err != nil {
		return b.fail(ctx, StepPath, err)
	}
	return nil
}

// mayGive fails for a block that the operator denies.
func (b *backend) mayGive(ctx context.Context, c cid.Cid) error {
	if err := checkBlock(ctx, b.denied, c); err != nil {
		return b.fail(ctx, StepPath, err)
	}
	return nil
}

// fail notes the cause in the trace; what boxo gets is only text.
func (b *backend) fail(ctx context.Context, step Step, err error) error {
	traceOf(ctx).fail(ctx, stepFailure{step: step, err: err})
	return &blockFailure{err.Error()}
}

// GetIPNSRecord implements boxo's backend: the record of the name itself,
// whatever becomes of what it points at.
func (b *backend) GetIPNSRecord(ctx context.Context, c cid.Cid) ([]byte, error) {
	n, err := naming.ParseName(c.String())
	if err != nil {
		return nil, b.fail(ctx, StepName, err)
	}
	_, _, err = b.follow(ctx, n)
	if r := traceOf(ctx).snapshot().record; !r.Record.IsZero() && !r.Record.Expired(b.now()) {
		traceOf(ctx).set(func(t *trace) { t.failed = nil })
		return r.Record.Bytes(), nil
	}
	if err == nil {
		err = b.fail(ctx, StepRecord, naming.ErrNotFound)
	}
	return nil, err
}

// GetDNSLinkRecord implements boxo's backend. Only boxo's host handler, which
// is not used here, asks for it.
func (b *backend) GetDNSLinkRecord(context.Context, string) (boxopath.Path, error) {
	return nil, boxogw.NewErrorStatusCode(errors.New("not served"), http.StatusNotImplemented)
}

// cacheCheckTime bounds how long "only-if-cached" may look.
const cacheCheckTime = 2 * time.Second

// IsCached implements boxo's backend from what is at hand here.
func (b *backend) IsCached(ctx context.Context, p boxopath.Path) bool {
	ctx, cancel := context.WithTimeout(withTrace(ctx, &trace{}), cacheCheckTime)
	defer cancel()
	ip, _, _, err := b.ResolveMutable(ctx, p)
	if err != nil {
		return false
	}
	c, err := merkle.Resolve(ctx, b.local, ip.RootCid(), strings.Join(ip.Segments()[2:], "/"))
	if err != nil {
		return false
	}
	if checkBlock(ctx, b.denied, c) != nil {
		return false
	}
	_, err = b.local.Get(ctx, c)
	return err == nil
}

// noNames is a boxo name system that knows none. Without one boxo would make
// its own, which asks DNS and reads the environment.
type noNames struct{}

var _ namesys.NameSystem = noNames{}

func (noNames) Resolve(context.Context, boxopath.Path, ...namesys.ResolveOption) (namesys.Result, error) {
	return namesys.Result{}, namesys.ErrNoNamesys
}

func (noNames) Publish(context.Context, crypto.PrivKey, boxopath.Path, ...namesys.PublishOption) error {
	return namesys.ErrNoNamesys
}

func (noNames) ResolveAsync(context.Context, boxopath.Path, ...namesys.ResolveOption) <-chan namesys.AsyncResult {
	c := make(chan namesys.AsyncResult, 1)
	c <- namesys.AsyncResult{Err: namesys.ErrNoNamesys}
	close(c)
	return c
}
