// Package node puts a Holdfast node together: Config → Open → Serve → Close. It
// is the only place that knows every room, and does nothing of its own beyond
// handing each what it needs.
//
// It promises that a home is written to by one process at a time, that Serve
// ends everything it started when its context ends, and that Close leaves the
// home whole.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/p2p"
	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/internal/upkeep"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/deny"
	"github.com/holdfast-sites/holdfast/replicate"
)

// Scope is how much of a node is opened. A command asks for no more than it
// needs, so that it starts fast and doesn't stand in another's way.
type Scope int

// The scopes, each containing the ones before.
const (
	// Records opens keys and state; any number of processes may.
	Records Scope = iota
	// Blocks takes the home's lock and opens the block store.
	Blocks
	// Connected joins the network.
	Connected
)

// Node is an opened home.
type Node struct {
	cfg     Config
	log     *slog.Logger
	metrics *prometheus.Registry

	lock      *homeLock
	keys      *naming.Keyring
	state     *state.DB
	store     blockstore.Store  // nil below Blocks
	care      *upkeep.Caretaker // nil below Blocks
	p2p       *p2p.Node         // nil below Connected, and offline
	resolver  *naming.Resolver
	auditor   *replicate.Auditor
	keeper    *replicate.Keeper       // nil unless a host
	service   *replicate.Service      // nil where nothing can be kept: offline, and in commands on a home that is no host's
	serves    bool                    // Serve runs, or has run
	denied    *deny.Lists             // nil below Connected
	admission *replicate.Admission    // nil below Connected, and offline
	traffic   *replicate.TrafficMeter // nil where nothing is counted: offline
	friends   *friends
	relay     *naming.Relay
	author    *author.Author
	web       *http.Client // to the URLs of hosts
	domains   domains      // where DNS is asked
	meet      *acquaintance

	publisher *p2p.Publisher // tells others of new records; nil offline
	watcher   *p2p.Watcher   // hears of them; nil offline
	confirmed confirmations
	rewatch   pacer
	holders   rosterCache
	tending   sync.Mutex // held by whoever changes which copies are wanted, or brings them in line
	earlier   *earlier   // nil without a gateway
	accessLog *logFile   // nil: none is written

	fresh chan replicate.PinRow // pinned a moment ago, to be provided
	named []peer.AddrInfo       // the peers of the config

	gatewayLn, secureLn, pinsLn, controlLn net.Listener
	secureUDP                              net.PacketConn // nil without HTTP/3
	certs                                  *certs         // nil without TLS
}

// Open opens the home as far as scope says; command is what another process
// is told about who holds it. With Connected, listeners that the config names
// are open when it returns. The caller closes the node.
func Open(ctx context.Context, cfg Config, scope Scope, command string) (_ *Node, err error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Home == "" {
		return nil, errors.New("no home given")
	}
	if cfg.Home, err = filepath.Abs(cfg.Home); err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, log: cfg.Log, metrics: prometheus.NewRegistry(), fresh: make(chan replicate.PinRow, 256)}
	defer func() {
		if err != nil {
			n.Close()
		}
	}()
	n.web = &http.Client{Transport: webTransport(n.cfg.Dial)}
	if n.domains, err = openDomains(n.cfg, n.web.Transport); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Home, 0o700); err != nil {
		return nil, err
	}
	if scope >= Blocks {
		if n.lock, err = lockHome(cfg.Home, command); err != nil {
			return nil, err
		}
	}
	cfg.Keys.Dir = filepath.Join(cfg.Home, "keys")
	if n.keys, err = cfg.Keys.Open(); err != nil {
		return nil, err
	}
	if n.state, err = state.Open(ctx, filepath.Join(cfg.Home, "state.db")); err != nil {
		return nil, err
	}
	if scope >= Blocks {
		if err := n.openStore(ctx); err != nil {
			return nil, err
		}
	}
	if scope >= Connected {
		if err := n.openDenied(); err != nil {
			return nil, err
		}
	}
	if scope >= Connected && cfg.Network != string(p2p.Offline) {
		if err := n.connect(ctx); err != nil {
			return nil, err
		}
	}
	n.compose()
	if scope >= Connected {
		if err := n.listen(ctx); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// connect joins the network.
func (n *Node) connect(ctx context.Context) error {
	key, err := p2p.LoadIdentity(filepath.Join(n.cfg.Home, "identity.key"))
	if err != nil {
		return err
	}
	psk, err := readPSK(n.cfg.P2P.PSKFile)
	if err != nil {
		return err
	}
	for _, s := range n.cfg.Peers {
		ai, err := peer.AddrInfoFromString(s)
		if err != nil {
			return fmt.Errorf("peer %q: %w", s, err)
		}
		n.named = append(n.named, *ai)
	}
	if err := n.openAdmission(); err != nil {
		return err
	}
	if err := n.openTraffic(ctx); err != nil {
		return err
	}
	n.p2p, err = p2p.Open(ctx, p2p.Config{
		Identity: key, Network: p2p.Network(n.cfg.Network), Server: n.cfg.Host, Listen: n.cfg.P2P.Listen,
		Announce: n.cfg.P2P.Announce, Dial: n.cfg.Dial, ConnectTimeout: time.Duration(n.cfg.Timeouts.Connect),
		StallTimeout: time.Duration(n.cfg.Timeouts.Stall), IdleTimeout: time.Duration(n.cfg.Timeouts.Idle),
		Peers: n.cfg.Peers, PSK: psk, AllowPrivate: n.mayDialPrivate(), RoutersV1: n.cfg.P2P.Routers,
		Store: n.care.Noticing(), Serves: n.servesBlock, Records: n.state, Metrics: n.metrics, Log: n.log,
	})
	if err != nil {
		return err
	}
	n.auditor = replicate.NewAuditor(replicate.AuditorConfig{
		Host: n.p2p.Host(), Key: key, Blocks: n.care.Mending(), Holds: n.holds, Allowed: n.mayAudit, Log: n.log,
		Interval: time.Duration(n.cfg.Repair.AuditInterval), Burst: n.cfg.Repair.AuditBurst, BytesPerDay: n.cfg.Repair.AuditBytesPerDay,
	})
	if !n.cfg.Host {
		return nil
	}
	host, err := os.Hostname()
	if n.cfg.Pins.Name == "" && err == nil {
		n.cfg.Pins.Name = host
	}
	return nil
}

// mayDialPrivate tells whether private addresses that others name are dialled. Those who
// have no tenants may on a private network: there the holders that an author's
// policy names are where they are. A host needs its operator's word.
func (n *Node) mayDialPrivate() bool {
	return n.cfg.P2P.AllowPrivate || !n.cfg.Host && n.cfg.Network != string(p2p.Public)
}

// cacheDir is where is remembered what can be made again; empty where there is no such folder.
func (n *Node) cacheDir() string {
	dir := filepath.Join(n.cfg.Home, "cache")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		n.log.Warn("nothing is cached", "err", err)
		return ""
	}
	return dir
}

// compose hands each room what it needs.
func (n *Node) compose() {
	n.openNames()
	cfg := author.Config{
		Store: n.store, State: n.state, Keys: n.keys, Resolver: n.resolver, Auditor: n.auditor, Offline: n.cfg.Network == string(p2p.Offline),
		HTTP: n.web, RequestTimeout: time.Duration(n.cfg.Timeouts.Request),
		Sinks: n.sinks, Signed: n.recordSigned, Asked: func() bool { return len(n.sources(naming.Name{})) > 0 }, Gateway: n.gatewayURL, GatewayOpen: func() bool { return n.gatewayLn != nil },
		Peers: func() []peer.AddrInfo { return n.named }, Rules: readRules, Home: n.cfg.Home, Cache: n.cacheDir(), DNSLink: n.domains.link(), Resolvers: n.domains.choose, Tool: n.cfg.Tool, Log: n.log,
	}
	if n.care != nil {
		cfg.Collect = n.collectForAuthor
	}
	if n.p2p != nil {
		cfg.Network, cfg.Outside = n.p2p, outside{n.cfg, n.log}
		n.meet = newAcquaintance(n.p2p, &n.holders, n.log)
	}
	n.author = author.New(cfg)
}

// webTransport is the node's own, so that its connections end with the node.
func webTransport(dial func(ctx context.Context, network, address string) (net.Conn, error)) *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	if dial != nil {
		t.DialContext = dial
	}
	return t
}

// Info is what a node says of itself on its control socket and when it is ready.
type Info struct {
	Version string   `json:"version"`
	PID     int      `json:"pid"`
	Peer    string   `json:"peer"`
	Addrs   []string `json:"addrs"`
	Listen  []string `json:"listen"` // differs from addrs where others are told other addresses
	Gateway string   `json:"gateway"`
	Secure  string   `json:"gateway_tls,omitempty"`
	Pins    string   `json:"pins"`
	Network string   `json:"network"`
}

// Info tells where the node can be reached.
func (n *Node) Info() Info {
	out := Info{Version: n.cfg.Tool, PID: os.Getpid(), Network: n.cfg.Network, Addrs: []string{}, Listen: []string{}}
	if out.Network == "" {
		out.Network = string(p2p.Private)
	}
	if n.p2p != nil {
		out.Peer, out.Addrs, out.Listen = n.p2p.ID().String(), n.p2p.Addrs(), n.p2p.Listening()
	}
	if n.gatewayLn != nil {
		out.Gateway = reachable(n.gatewayLn.Addr())
	}
	if n.secureLn != nil {
		out.Secure = "https" + strings.TrimPrefix(reachable(n.secureLn.Addr()), "http")
	}
	if n.pinsLn != nil {
		out.Pins = reachable(n.pinsLn.Addr())
	}
	return out
}

// Close lets go of everything that Open opened. Serve must have returned.
func (n *Node) Close() error {
	var errs []error
	for _, ln := range []net.Listener{n.gatewayLn, n.secureLn, n.pinsLn, n.controlLn} {
		if ln != nil {
			if err := ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	if n.secureUDP != nil {
		if err := n.secureUDP.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if n.certs != nil {
		n.certs.close()
	}
	if n.accessLog != nil {
		errs = append(errs, n.accessLog.Close())
	}
	if n.resolver != nil {
		n.resolver.Close()
		n.confirmed.close()
	}
	if n.meet != nil {
		n.meet.close()
	}
	n.domains.close()
	if n.web != nil {
		n.web.CloseIdleConnections()
	}
	if n.p2p != nil {
		errs = append(errs, n.p2p.Close())
	}
	if n.store != nil {
		errs = append(errs, n.store.Close())
	}
	if n.state != nil {
		errs = append(errs, n.state.Close())
	}
	if n.lock != nil {
		n.lock.release()
	}
	return errors.Join(errs...)
}

// readPSK reads a private network's key: 32 bytes, raw or as 64 hex digits.
func readPSK(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(b) == 32 {
		return b, nil
	}
	return decodeHexKey(path, strings.TrimSpace(string(b)))
}
