// Package p2p is the node's place in the network: the libp2p host, the DHT,
// bitswap, HTTP over libp2p and delegated routing, put together.
//
// It promises that every block it hands out was checked against its CID, that
// it dials a loopback, private or link-local address only when the operator
// named that address or allowed such addresses, that nothing outside is
// contacted unless the network is public, and that what it could not get
// is reported together with who was asked and what each said. It never
// keeps, collects or signs anything, and knows nothing of sites, pins or
// tenants beyond the addresses that they name.
package p2p

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	madns "github.com/multiformats/go-multiaddr-dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/naming"
)

// Network says with whom a node talks.
type Network string

// The networks. The empty Network means Private.
const (
	Offline Network = "offline" // with nobody: no socket is opened
	Private Network = "private" // with the given peers and whoever they know, on a DHT of its own
	Public  Network = "public"  // with everybody: the Amino DHT and its bootstrap peers
)

// Errors of this package; match with errors.Is.
var (
	// ErrOffline says that the network is Offline, so that nobody can be asked.
	ErrOffline = errors.New("the network is offline")
	// ErrListen says that the network could not be joined: an address is taken,
	// or can't be listened on here.
	ErrListen = errors.New("can't listen")
	// ErrConfig says that a Config can't work.
	ErrConfig = errors.New("invalid p2p configuration")
	// ErrAddress says that a tenant's list of addresses is malformed or too long.
	ErrAddress = errors.New("invalid peer address")
	// ErrIdentity says that an identity file is there and unusable.
	ErrIdentity = errors.New("identity file is damaged")
)

// Config says how to join a network. Identity and Store are required; the zero
// value of everything else works.
type Config struct {
	Identity crypto.PrivKey
	Network  Network
	// Server makes the node answer DHT queries. Hosts are servers, authors and
	// readers are clients.
	Server bool
	// Listen is the multiaddrs to listen on. Empty means TCP and QUIC on all
	// IPv4 interfaces at free ports (TCP only with a PSK).
	Listen []string
	// Announce is the multiaddrs, without /p2p, that others are told to dial in
	// place of those listened on: the outer side of a NAT or a proxy. Empty: what is listened on.
	Announce []string
	// Dial opens TCP connections. nil: the system's dialler, from the port that
	// is listened on where that can be. QUIC goes its own way.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// DNS resolves the names in multiaddrs. nil: the system's resolver.
	DNS madns.BasicResolver
	// Peers is multiaddrs ending in /p2p/ID that Serve keeps connected and that
	// seed the DHT. The operator named them: they may be private addresses.
	Peers []string
	// PSK, 32 bytes, keeps everybody out who does not have it. It works over
	// TCP only.
	PSK []byte
	// AllowPrivate lets the node dial loopback, private and link-local addresses
	// that others name: tenants, the DHT, records.
	AllowPrivate bool
	// Store answers bitswap and is read first by Blocks and Fetch. The node
	// does not close it.
	Store blockstore.Store
	// Serves tells whether a peer gets a block by bitswap; it is called for every want, and returns at once. nil:
	// everybody gets what is here.
	Serves func(id peer.ID, c cid.Cid) bool
	// Records answers /routing/v1/ipns; may be nil.
	Records naming.Records
	// HTTP is served to peers over libp2p; SetHTTP can set it later.
	HTTP http.Handler
	// RoutersV1 is base URLs of delegated routers that are asked for providers.
	// Only used when the network is Public.
	RoutersV1 []string
	// ConnectTimeout is how long it may take to reach one peer, and to open a stream to it. 0: 10 s.
	ConnectTimeout time.Duration
	// IdleTimeout is how long a Fetch may go without one new block, and how
	// long a Get of Blocks may take whatever its context says. 0: 60 s.
	IdleTimeout time.Duration
	// StallTimeout is how long one source of a Fetch may send nothing. 0: 20 s.
	StallTimeout time.Duration
	// CacheBytes bounds the blocks that Blocks keeps in memory. 0: 64 MiB;
	// negative: none.
	CacheBytes int64
	// Metrics gets libp2p's metrics. nil: none are made.
	Metrics prometheus.Registerer
	Log     *slog.Logger // nil: discard
}

// withDefaults fills the zero fields and refuses what can't work.
func (c Config) withDefaults() (Config, error) {
	switch c.Network {
	case "":
		c.Network = Private
	case Offline, Private, Public:
	default:
		return c, fmt.Errorf("%w: network %q", ErrConfig, c.Network)
	}
	if c.Identity == nil {
		return c, fmt.Errorf("%w: no identity", ErrConfig)
	}
	if c.Store == nil {
		return c, fmt.Errorf("%w: no store", ErrConfig)
	}
	if n := len(c.PSK); n != 0 && n != 32 {
		return c, fmt.Errorf("%w: the pre-shared key has %d bytes, not 32", ErrConfig, n)
	}
	if len(c.PSK) != 0 && c.Network == Public {
		return c, fmt.Errorf("%w: a pre-shared key on the public network", ErrConfig)
	}
	if len(c.Listen) == 0 {
		c.Listen = []string{"/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/udp/0/quic-v1"}
		if len(c.PSK) != 0 {
			c.Listen = c.Listen[:1]
		}
	}
	if c.ConnectTimeout <= 0 {
		c.ConnectTimeout = 10 * time.Second
	}
	if err := c.checkListen(); err != nil {
		return c, err
	}
	if c.IdleTimeout <= 0 {
		c.IdleTimeout = 60 * time.Second
	}
	if c.StallTimeout <= 0 {
		c.StallTimeout = 20 * time.Second
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = 64 << 20
	}
	if c.DNS == nil {
		c.DNS = net.DefaultResolver
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// checkListen refuses addresses that can't be meant, before anything is opened.
func (c Config) checkListen() error {
	for _, text := range c.Listen {
		addr, err := ma.NewMultiaddr(text)
		if err != nil {
			return fmt.Errorf("%w: listen %q: %w", ErrConfig, text, err)
		}
		if _, err := addr.ValueForProtocol(ma.P_UDP); err == nil && len(c.PSK) != 0 {
			return fmt.Errorf("%w: listen %q: a pre-shared key works over TCP only", ErrConfig, text)
		}
	}
	return nil
}
