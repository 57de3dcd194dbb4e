// Package author tells the author's flows, in order: publish, status, history,
// hosts, and reading content back. Each flow reads like the paragraph about it
// in the design; the parts that it calls live in their own rooms.
//
// It promises that a name never moves to a root that fewer than the wanted
// copies have proved, that nobody else's newer release is overwritten unasked,
// and that a flow that was cut off anywhere can be run again. It never opens
// files of the home but for its cache, listens, or prints: internal/node hands it what it needs.
package author

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/internal/dns"
	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// Network is what the flows need of the peer-to-peer room.
type Network interface {
	replicate.Fetcher
	ID() peer.ID
	// Addrs are our addresses, each ending in /p2p/ID.
	Addrs() []string
	// Connect dials all of them and fails when none could be reached.
	Connect(ctx context.Context, infos []peer.AddrInfo) error
	// Blocks is our own store, then the network.
	Blocks() blockstore.Getter
	// Providers are those who say that they have everything under root, as far as they are found before ctx ends.
	Providers(ctx context.Context, root cid.Cid) []peer.AddrInfo
	// HTTPClient speaks HTTP over libp2p to one peer.
	HTTPClient(ai peer.AddrInfo) *http.Client
}

// Outside looks at a site as a stranger does.
type Outside interface {
	// Look resolves the name under a throw-away identity that is connected to
	// the holders only, and reads the samples from each of them. It fails
	// when the name does not lead to root, or a sample does not arrive.
	Look(ctx context.Context, name naming.Name, root cid.Cid, holders []peer.AddrInfo, samples []cid.Cid) error
}

// Config is what an Author works with. All fields are needed but where noted.
type Config struct {
	Store    blockstore.Store
	State    *state.DB
	Keys     *naming.Keyring
	Resolver *naming.Resolver
	Network  Network            // nil: not joined, or offline; publishing to hosts is refused
	Offline  bool               // nobody is to be asked anything
	Auditor  *replicate.Auditor // nil with Network nil
	Outside  Outside            // nil: nothing is ever reported live
	// Sinks are where a fresh record goes beside the hosts: the DHT, configured routers.
	Sinks func(naming.Name) []naming.Sink
	// Signed is told of each record that was signed and written down here; may be nil.
	Signed func(naming.Record)
	// Collect gives back what nobody keeps in Store; nil: that is left to others.
	Collect func(ctx context.Context) error
	// Peers are whom to ask for blocks first, beside a site's own holders.
	Peers func() []peer.AddrInfo
	// Asked says whether there is anybody on the network who could know a name (peers, routers, hosts).
	Asked func() bool
	// Gateway is the base URL at which local aliases are served, e.g. "http://localhost:8080".
	Gateway func() string
	// GatewayOpen tells whether it is served there now; nil: that isn't known.
	GatewayOpen func() bool
	// DNSLink finds what a domain points at, and for how long that holds; nil: DNS is not asked.
	DNSLink func(ctx context.Context, domain string) (path string, ttl time.Duration, err error)
	// Resolvers are the DNS resolvers of the given names, or those that are configured where none is given. Nil: there are none.
	Resolvers func(names []string) ([]dns.Resolver, error)
	// Rules reads a site's rules as strictly as gateways do; nil: unchecked.
	Rules func(SiteFiles) (SiteRules, error)
	// Home is where the keys are: what lies in it, or around it, is never built. Empty: anything is.
	Home string
	// Cache is a folder for what can be made again at some cost; empty: nothing is remembered.
	Cache string
	// HTTP reaches hosts by URL; nil: a client like http.DefaultClient.
	HTTP *http.Client
	// RequestTimeout is how long a host may take over one request, and routing over a put; 0: each kind of
	// request has its own.
	RequestTimeout time.Duration
	Tool           string // what a release says it was made by
	Now            func() time.Time
	Log            *slog.Logger
}

// Author runs the flows. Its methods may be called concurrently; two publishes
// of one site take turns.
type Author struct {
	Config
	turns turns
}

// New returns an Author.
func New(c Config) *Author {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Sinks == nil {
		c.Sinks = func(naming.Name) []naming.Sink { return nil }
	}
	if c.Signed == nil {
		c.Signed = func(naming.Record) {}
	}
	if c.Asked == nil {
		c.Asked = func() bool { return c.Network != nil }
	}
	if c.Peers == nil {
		c.Peers = func() []peer.AddrInfo { return nil }
	}
	if c.Rules == nil {
		c.Rules = func(SiteFiles) (SiteRules, error) { return SiteRules{}, nil }
	}
	if c.HTTP == nil {
		c.HTTP = &http.Client{}
	}
	if c.Gateway == nil {
		c.Gateway = func() string { return "http://localhost:8080" }
	}
	return &Author{Config: c}
}

// Event is progress for people. Total is 0 where it is not known.
type Event struct {
	Step    string `json:"step"` // "build", "place", "prove", "sign", "live", …
	Host    string `json:"host,omitempty"`
	Message string `json:"message,omitempty"`
	Done    int64  `json:"done,omitempty"`
	Total   int64  `json:"total,omitempty"`
}

// files is a number of them, for a message.
func files(n int64) string {
	if n == 1 {
		return "1 file"
	}
	return fmt.Sprintf("%d files", n)
}

// HostState is where a host stands with a site.
type HostState struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	State      string            `json:"state"` // queued, fetching, proved, failed, unreachable; of a standby that has not taken over: waiting
	VerifiedAt *time.Time        `json:"verified_at"`
	Label      map[string]string `json:"label"`
	Uptime     int               `json:"uptime"`              // low estimate, millionths
	Bytes      int64             `json:"bytes"`               // of its copy; of a standby that waits: reserved
	Until      *time.Time        `json:"until"`               // when our token or its terms end; null: never
	TookOver   *time.Time        `json:"took_over,omitempty"` // of a standby: since when it holds the site, as it says
	Draining   bool              `json:"draining,omitempty"`  // its operator, or we, want it empty
	Error      string            `json:"error,omitempty"`
}

// The states of a HostState.
const (
	Queued      = "queued"
	Fetching    = "fetching"
	Proved      = "proved"
	Failed      = "failed"
	Unreachable = "unreachable"
	Waiting     = "waiting"
)

// Errors of this package beside those of the rooms below.
var (
	// ErrUsage says that a request contradicts itself or names what can't be.
	ErrUsage = errors.New("usage")
	// ErrNoSite says that nothing was ever published under an alias here.
	ErrNoSite = errors.New("no such site")
	// ErrUnreachable says that the network could not be asked.
	ErrUnreachable = errors.New("the network could not be asked")
)

// ConflictError says that somebody, perhaps another machine of ours, published
// a newer release than the one this machine knows.
type ConflictError struct {
	Alias   string
	Name    naming.Name
	Ours    uint64 // the sequence that this machine signed last; 0: none
	Newer   Newer
	WantOld cid.Cid // what --if-root asked for, if anything
	Lost    bool    // ours was signed before the newer one was seen
	OurRoot cid.Cid // of a lost race: what our record led to, if that was a root
}

// Newer is the release that a conflict is about.
type Newer struct {
	Root     string     `json:"root"`
	Release  string     `json:"release,omitempty"`
	Number   uint64     `json:"number,omitempty"`
	Sequence uint64     `json:"sequence"`
	Time     *time.Time `json:"time"`
	Message  string     `json:"message,omitempty"`
	Source   string     `json:"source"`
}

func timePtr(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func cidString(c cid.Cid) string {
	if !c.Defined() {
		return ""
	}
	return c.String()
}
