package node

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/gateway"
	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/author/preflight"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
)

// Preview shows a folder as readers will see it, by the gateway's own code, and
// again after each change. It signs nothing, keeps nothing, and contacts nobody.
// Dir and Alias are required.
type Preview struct {
	Dir      string // absolute
	Alias    string // the site is at http://<alias>.localhost:<port>/
	Symlinks merkle.SymlinkMode
	Home     string // where keys are, which are never shown; may be empty
	// Report is told how far the first look is; may be nil.
	Report func(author.Event)
	// Built is told of each look at the folder; nil: nothing is.
	Built func(PreviewBuild)
	// Note is told what a person should know of the watching; may be nil.
	Note func(string)
	Log  *slog.Logger // may be nil
}

// PreviewBuild is one look at the folder.
type PreviewBuild struct {
	Root      string            `json:"root,omitempty"`
	Files     int64             `json:"files"`
	Bytes     int64             `json:"bytes"`
	Preflight *preflight.Report `json:"preflight,omitempty"`
	// Err is why the folder can't be shown, or the rules in it not be carried out. In the
	// former case what was shown before still is.
	Err error `json:"-"`
}

// Serve shows the folder on ln until ctx ends, which is no error, and closes
// ln. The first look has to succeed.
func (p Preview) Serve(ctx context.Context, ln net.Listener) error {
	s := &previewServer{Preview: p, name: previewName(p.Dir), reload: newReloader()}
	if s.Built == nil {
		s.Built = func(PreviewBuild) {}
	}
	if s.Report == nil {
		s.Report = func(author.Event) {}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return gateway.Serve(ctx, ln, s.reload.wrap(ctx, s), p.Log) })
	g.Go(func() error {
		return author.Watch(ctx, author.WatchOptions{Dir: p.Dir, Symlinks: p.Symlinks, Publish: s.build, Note: p.Note})
	})
	return g.Wait()
}

// previewServer is a Preview that runs.
type previewServer struct {
	Preview
	name   naming.Name
	reload *reloader
	root   cid.Cid                      // that is shown
	shown  atomic.Pointer[http.Handler] // nil before the first build
}

// ServeHTTP implements http.Handler.
func (s *previewServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := s.shown.Load()
	if h == nil {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "the folder is being read; try again in a moment", http.StatusServiceUnavailable)
		return
	}
	(*h).ServeHTTP(w, r)
}

// build looks at the folder. Each look has a store and a gateway of its own, so
// that nothing of the one before can be seen in it.
func (s *previewServer) build(ctx context.Context) (author.Attempt, error) {
	store := blockstore.NewMemory()
	a := author.New(author.Config{Store: store, Rules: readRules, Home: s.Home, Log: s.Log})
	report := s.Report
	if s.shown.Load() != nil {
		report = func(author.Event) {}
	}
	b, err := a.Build(ctx, author.BuildRequest{Path: s.Dir, Profile: merkle.V1_2025, Symlinks: s.Symlinks}, report)
	if err != nil {
		if ctx.Err() != nil || s.shown.Load() == nil {
			return author.Succeeded, err
		}
		s.Built(PreviewBuild{Err: err})
		return author.FailedSoon, nil
	}
	root, err := cid.Decode(b.Root)
	if err != nil {
		return author.Succeeded, err
	}
	if root.Equals(s.root) {
		return author.Succeeded, nil
	}
	h, err := gateway.New(gateway.Config{Blocks: store, Names: previewNames{s.name, root}, Sites: previewSites{s.Alias, s.name, root}, Log: s.Log})
	if err != nil {
		return author.Succeeded, err
	}
	s.root = root
	s.shown.Store(&h)
	s.reload.signal()
	out := PreviewBuild{Root: b.Root, Files: b.Files, Bytes: b.Bytes}
	found, err := a.Check(ctx, root, report) // an open page is loaded anew meanwhile
	if err != nil {
		out.Err = err
	} else {
		out.Preflight = &found
	}
	s.Built(out)
	return author.Succeeded, nil
}

// previewName is a name that nobody has the key of: it is only to be well-formed, and the same each time.
func previewName(dir string) naming.Name {
	seed := sha256.Sum256([]byte("holdfast preview " + dir))
	key, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		panic(err) // only of another length
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		panic(err) // every key has one
	}
	return naming.NameOf(id)
}

// previewNames is a gateway.Names without records.
type previewNames struct {
	name naming.Name
	root cid.Cid
}

var _ gateway.Names = previewNames{}

func (n previewNames) Follow(_ context.Context, name naming.Name) ([]naming.Resolution, cid.Cid, error) {
	if name != n.name {
		return nil, cid.Undef, naming.ErrNotFound
	}
	return nil, n.root, nil
}

// previewSites is a gateway.SiteInfo of one site.
type previewSites struct {
	alias string
	name  naming.Name
	root  cid.Cid
}

var _ gateway.SiteInfo = previewSites{}

func (s previewSites) ByAlias(_ context.Context, alias string) (naming.Name, bool) {
	return s.name, alias == s.alias
}

func (s previewSites) Holders(context.Context, naming.Name) []string { return nil }

// Copies implements gateway.SiteInfo: nobody else has it yet.
func (s previewSites) Copies(context.Context, naming.Name, cid.Cid) gateway.Copies {
	return gateway.Copies{}
}

func (s previewSites) Sites(context.Context) []gateway.Site {
	return []gateway.Site{{Alias: s.alias, Name: s.name, Root: s.root}}
}
