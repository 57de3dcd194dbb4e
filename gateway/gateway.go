// Package gateway serves sites to browsers over HTTP.
//
// It promises that every byte it sends was checked against its hash and every
// name against its signature, that a site has a web origin of its own wherever
// the host name allows one, that "not there" (404), "nobody answered" (504) and
// "wrong bytes" (502) are never mistaken for each other, and that an error
// names the step that failed. It never writes, never contacts a host on its
// own (blocks and names are handed to it), and injects nothing into a site's
// origin.
//
// It stands on boxo's gateway handler, which speaks the path, subdomain and
// trustless gateway specifications (https://specs.ipfs.tech/http-gateways/).
package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/deny"
)

// Defaults of Config.
const (
	DefaultRetrievalTimeout = 30 * time.Second
	DefaultMaxConcurrent    = 4096
	DefaultMaxRetrievals    = 1024
	DefaultReadyBytes       = 64 << 20
)

// How Config.ReadyBytes is shared out: half of it is for finished answers.
const (
	shareOfAnswers = 2
	shareOfLeaves  = 3
	shareOfPaths   = 6
)

// Names resolves names to roots. It is satisfied by *naming.Resolver.
type Names interface {
	// Follow resolves n through indirections to a root. Chain is outermost
	// first, and holds what was resolved before an error too.
	Follow(ctx context.Context, n naming.Name) (chain []naming.Resolution, root cid.Cid, err error)
}

// DNSLinks looks up what a domain points at. It is satisfied by *naming.DNSLink.
type DNSLinks interface {
	// Resolve returns "/ipfs/<cid>[/path]" or "/ipns/<name>[/path]", and for how
	// long it may be kept. naming.ErrNotFound where the domain has no DNSLink.
	Resolve(ctx context.Context, domain string) (path string, ttl time.Duration, err error)
}

var (
	_ Names    = (*naming.Resolver)(nil)
	_ DNSLinks = (*naming.DNSLink)(nil)
)

// SiteInfo is what a gateway may know about sites beyond their content.
type SiteInfo interface {
	// ByAlias is the name behind a local alias.
	ByAlias(ctx context.Context, alias string) (naming.Name, bool)
	// Holders names the peers believed to hold the site, for error pages.
	Holders(ctx context.Context, n naming.Name) []string
	// Sites lists the sites that the landing page on localhost shows.
	Sites(ctx context.Context) []Site
	// Copies is what this node knows of who holds the site while it leads to
	// root. It answers from what is here and asks nobody; the zero value knows nothing.
	Copies(ctx context.Context, n naming.Name, root cid.Cid) Copies
}

// Earlier knows what sites showed before.
type Earlier interface {
	// Before is the root that the name led to until it led to now, and the time
	// until which pages that were made of it may still ask for their parts. Not ok where
	// there is none, or it was taken back. It answers soon, whatever the network does.
	Before(ctx context.Context, n naming.Name, now cid.Cid) (before cid.Cid, until time.Time, ok bool)
}

// Site is one line of the landing page.
type Site struct {
	Alias     string // may be empty
	Name      naming.Name
	Title     string    // empty: that of its first page
	Root      cid.Cid   // may be undefined
	Published time.Time // of the release it shows; zero where not known
	Bytes     int64     // of its files; 0 where not known
	Proved    int       // holders that stand proved, the node itself among them where it is one
	Wanted    int       // holders that are wanted; 0 where not known
}

// Copies is who holds a site, by this node's own evidence.
type Copies struct {
	Checked   bool      // this node has holders prove themselves; else it has no evidence, for or against
	Wanted    int       // the fewest holders that the site asks for; 0: not known
	Proved    int       // how many stand proved
	Holders   []Holder  // those that are to hold it, in the order in which the author ranks them, then standbys
	SafeUntil time.Time // zero: not known here; only the author's machine knows what the hosts promised
}

// Holder is a host of a site.
type Holder struct {
	ID      string    // peer id
	Label   string    // by the site's signed policy, or as this node calls it; may be empty
	Addr    string    // a multiaddr that ends in its peer id; may be empty
	Here    bool      // it is this node
	Keeps   bool      // it is this node, and all of the current root is kept here
	Standby bool      // it takes over when others are lost
	Gone    bool      // it is presumed lost
	Proved  time.Time // when it last proved all of the current root to this node; zero: never
}

// HostConfig says how requests for one public host name are served. The zero
// value serves /ipfs/ and /ipns/ paths.
type HostConfig struct {
	// Paths are the namespaces served: "/ipfs", "/ipns". Nil means both.
	Paths []string
	// Subdomains gives each site an origin of its own under the host and
	// redirects paths to it.
	Subdomains bool
	// InlineDNSLink writes DNSLink names as one label, as a wildcard certificate needs.
	InlineDNSLink bool
	// Aliases gives local aliases an origin under the host: <alias>.<host>.
	Aliases bool
	// TrustlessOnly refuses everything but blocks, CARs and records.
	TrustlessOnly bool
}

// Config of a gateway. Blocks is required.
type Config struct {
	// Blocks finds blocks, here or on the network.
	Blocks blockstore.Getter
	// Local finds blocks without asking anybody: what "only-if-cached" means. It is asked
	// before Blocks. Nil: Blocks asks nobody.
	Local blockstore.Getter
	// Names resolves /ipns/ paths. Nil: they are answered with 501.
	Names Names
	// Sites may be nil.
	Sites SiteInfo
	// Earlier finds parts of pages that are open in browsers while their site has
	// changed. Nil: they are missing.
	Earlier Earlier
	// Routing is mounted at /routing/v1/ outside of site origins. May be nil.
	Routing http.Handler
	// DNSLinks resolves domains. Nil: no DNS, ever.
	DNSLinks DNSLinks
	// Hosts are the public host names, without port. "localhost" is served with
	// subdomains and aliases unless it is given here. IP addresses and unknown
	// names are served by path, sandboxed.
	Hosts map[string]HostConfig
	// RetrievalTimeout bounds the time to the first byte, and each pause for
	// retrieval after it. 0: DefaultRetrievalTimeout.
	RetrievalTimeout time.Duration
	// ReadyBytes bounds what is kept in memory so that it can be served again at
	// once: finished answers, blocks of large files, decoded folders. 0: DefaultReadyBytes; negative: nothing is kept.
	ReadyBytes int64
	// MaxConcurrent bounds the requests that are worked on at once. Those beyond wait for a
	// moment, then get 503. 0: DefaultMaxConcurrent.
	MaxConcurrent int
	// MaxRetrievals bounds the requests that wait for others (peers, name servers) at once;
	// they don't count as worked on. Those beyond wait too, client by client in turn. 0: DefaultMaxRetrievals.
	MaxRetrievals int
	// RetrievalBlocks and RetrievalBytes bound what is fetched from others for one request.
	// 0: DefaultRetrievalBlocks, DefaultRetrievalBytes.
	RetrievalBlocks int
	RetrievalBytes  int64
	// Clients bounds what one client takes.
	Clients ClientLimits
	// Denied is what isn't served, whoever has it: 410, or 451 where a rule says so. Nil: nothing.
	Denied *deny.Lists
	// AccessLog is off unless it says where to write.
	AccessLog AccessLog
	// TrustedProxies may say with X-Forwarded-Host and X-Forwarded-Proto what
	// the client asked for, and with X-Forwarded-For who it is. From everybody
	// else such headers are dropped.
	TrustedProxies []netip.Prefix
	// Metrics is where metrics are registered. Nil: a registry that nobody sees.
	Metrics prometheus.Registerer
	// Log may be nil.
	Log *slog.Logger

	boxoOnly bool // for the test that compares
}

// gateway is the handler that New makes.
type gateway struct {
	cfg     Config
	hosts   map[string]HostConfig
	content *content
	titles  titles
	guard   *guard
	ready   *ready
	errors  *prometheus.CounterVec
	log     *slog.Logger
}

// New makes the handler for everything that a gateway's port serves. It owns
// nothing that has to be closed.
func New(cfg Config) (http.Handler, error) {
	if cfg.Blocks == nil {
		return nil, errors.New("gateway: no blocks to serve from")
	}
	cfg = cfg.withDefaults().inTurn()
	hosts, err := checkHosts(cfg.Hosts)
	if err != nil {
		return nil, err
	}
	errorCount := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "holdfast_gateway_errors_total",
		Help: "Error answers by kind and by the step that failed.",
	}, []string{"kind", "step"})
	if err := cfg.Metrics.Register(errorCount); err != nil {
		return nil, err
	}
	door, err := newGuard(cfg)
	if err != nil {
		return nil, err
	}
	served := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "holdfast_gateway_ready_total",
		Help: "Answers that were given again as they were, from memory.",
	})
	if err := cfg.Metrics.Register(served); err != nil {
		return nil, err
	}
	c, err := newContent(cfg, hosts, false)
	if err != nil {
		return nil, err
	}
	g := &gateway{
		cfg:     cfg,
		hosts:   hosts,
		content: c,
		guard:   door,
		ready:   newReady(cfg.ReadyBytes/shareOfAnswers, cfg.Names, cfg.TrustedProxies, cfg.Denied.Generation, served),
		errors:  errorCount,
		log:     cfg.Log,
	}
	g.ready.also, g.ready.graceful = c.forget, cfg.Earlier != nil
	return g, cfg.Metrics.Register(cacheMetrics{g})
}

func (cfg Config) withDefaults() Config {
	if cfg.RetrievalTimeout <= 0 {
		cfg.RetrievalTimeout = DefaultRetrievalTimeout
	}
	if cfg.MaxConcurrent <= 0 {
		cfg.MaxConcurrent = DefaultMaxConcurrent
	}
	if cfg.ReadyBytes == 0 {
		cfg.ReadyBytes = DefaultReadyBytes
	}
	if cfg.MaxRetrievals <= 0 {
		cfg.MaxRetrievals = DefaultMaxRetrievals
	}
	if cfg.RetrievalBlocks <= 0 {
		cfg.RetrievalBlocks = DefaultRetrievalBlocks
	}
	if cfg.RetrievalBytes <= 0 {
		cfg.RetrievalBytes = DefaultRetrievalBytes
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return cfg
}
