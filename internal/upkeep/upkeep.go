// Package upkeep looks after the blocks at rest in one home: it collects what
// nobody keeps, verifies what is there, and mends from replicas what was
// damaged or lost.
//
// It promises that nothing is dropped that anybody keeps, that a mended block
// is durable before anybody is told that it is mended, and that what can't be
// mended is named, with who needs it. It knows owners only by what it is told of
// them: sites, pins and hosts are other rooms' matter.
package upkeep

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/replicate"
)

// Network is where replicas are.
type Network interface {
	replicate.Fetcher
	// Remote gets blocks from the network only, whatever the store has.
	Remote() blockstore.Getter
	// Connect connects to each of the peers; Remote asks those that are connected.
	Connect(ctx context.Context, infos []peer.AddrInfo) error
}

// Owner is somebody who keeps roots in the store.
type Owner struct {
	ID    string // as the store knows it
	Label string // for people: `site "blog"`
	// Advice is what people can do about blocks that nobody has any more.
	Advice string
	// Sources is who else is likely to have what the owner keeps. It may be nil.
	Sources func(ctx context.Context) []peer.AddrInfo
	// Restore puts what the owner has at hand of its content (an author's folder)
	// into the session. It may be nil.
	Restore func(ctx context.Context, into blockstore.Session) error
	// Partial says that a root of codec raw may stand for a DAG of which only
	// some blocks are kept.
	Partial bool
}

// Config is what a Caretaker works with. Store is required.
type Config struct {
	// Store is what is looked after.
	Store blockstore.Store
	// Network is where replicas are; nil, or a nil result: offline.
	Network func() Network
	// Owners lists who keeps roots. Nil: nobody is known, so nobody has sources.
	Owners func(ctx context.Context) ([]Owner, error)
	// Patience is how long one block may take to come from replicas. 0: 20 s.
	Patience time.Duration
	// CollectEvery is how often Serve looks whether there is something to
	// collect. 0: an hour.
	CollectEvery time.Duration
	Log          *slog.Logger // nil: discard
}

// Caretaker looks after one store. Its methods may be called concurrently.
type Caretaker struct {
	cfg    Config
	log    *slog.Logger
	slots  chan struct{} // one for each block that is on its way
	notice chan struct{} // a read has met damage
	soon   chan struct{} // something is to be given back without waiting for the timer

	mu      sync.Mutex
	flights map[string]*flight // by multihash: blocks on their way
	vain    map[string]vainTry // by multihash: blocks that nobody had
}

// Bounds of what is mended at the same time, and how long one block is tried for.
const (
	atOnce          = 8
	defaultPatience = 20 * time.Second
)

// New returns a Caretaker. Nothing runs until Serve is called.
func New(cfg Config) *Caretaker {
	if cfg.Network == nil {
		cfg.Network = func() Network { return nil }
	}
	if cfg.Owners == nil {
		cfg.Owners = func(context.Context) ([]Owner, error) { return nil, nil }
	}
	if cfg.Patience <= 0 {
		cfg.Patience = defaultPatience
	}
	if cfg.CollectEvery <= 0 {
		cfg.CollectEvery = time.Hour
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Caretaker{
		cfg: cfg, log: cfg.Log, slots: make(chan struct{}, atOnce), notice: make(chan struct{}, 1), soon: make(chan struct{}, 1),
		flights: map[string]*flight{}, vain: map[string]vainTry{},
	}
}

// Serve collects when there is likely something to collect, and mends what
// reads and verifications have found damaged, until ctx ends. It returns nil then.
func (c *Caretaker) Serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { c.collectNowAndThen(ctx); return nil })
	g.Go(func() error { c.mendAlways(ctx); return nil })
	return g.Wait()
}

// mendAgain is how often Serve looks for damage without being told of any.
const mendAgain = 5 * time.Minute

// mendAlways brings back what is in quarantine. What nobody has is tried again, ever more seldom.
func (c *Caretaker) mendAlways(ctx context.Context) {
	t := time.NewTicker(mendAgain)
	defer t.Stop()
	for {
		if err := c.mendDamaged(ctx); err != nil && ctx.Err() == nil {
			c.log.Error("mend damaged blocks", "err", err)
		}
		select {
		case <-c.notice:
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// mendDamaged tries each block in quarantine whose turn it is.
func (c *Caretaker) mendDamaged(ctx context.Context) error {
	v, ok := c.cfg.Store.(blockstore.Verifier)
	if !ok || c.cfg.Network() == nil {
		return nil
	}
	damaged, err := v.Damaged(ctx)
	if err != nil {
		return err
	}
	found := newFindings()
	for _, d := range damaged {
		if len(found.byHash) == maxListed {
			break // the rest is still there when these are not
		}
		if !c.inVain(d.CID) {
			found.damaged(d)
		}
	}
	if len(found.byHash) == 0 {
		return nil
	}
	if err := c.tellNeeds(ctx, found); err != nil {
		return err
	}
	return c.mendAll(ctx, found, func(Event) {})
}

// Event is progress for people. Done and Total are bytes; Total is 0 where it is not known.
type Event struct {
	Step    string
	Message string
	Done    int64
	Total   int64
}

// seldom passes on no more than one event each so long; the first after as long.
func seldom(each time.Duration, f func(Event)) func(Event) {
	var mu sync.Mutex
	last := time.Now()
	return func(e Event) {
		mu.Lock()
		due := time.Since(last) >= each
		if due {
			last = time.Now()
		}
		mu.Unlock()
		if due {
			f(e)
		}
	}
}

// errOffline says that there is nobody to ask.
var errOffline = errors.New("the network is offline, so no replica can be asked")
