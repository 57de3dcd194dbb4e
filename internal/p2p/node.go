package p2p

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	madns "github.com/multiformats/go-multiaddr-dns"
)

// Node is this process in the network. Its methods may be called concurrently.
type Node struct {
	cfg  Config
	log  *slog.Logger
	id   peer.ID
	gate *gate
	dns  *madns.Resolver

	// nil when the network is Offline
	host  host.Host
	dht   *dht.IpfsDHT
	find  *finder
	swap  *swap
	https *http.Server

	handler atomic.Pointer[http.Handler]
	blocks  *blocks

	mu    sync.Mutex
	peers map[peer.ID]peer.AddrInfo // kept connected; guarded by mu
	more  chan struct{}             // tells Serve that peers has grown
	close func() error
}

// Open joins the network and listens when it returns. Serve keeps the node
// connected; Close ends it. ErrConfig where the configuration can't work.
func Open(ctx context.Context, cfg Config) (*Node, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	id, err := peer.IDFromPrivateKey(cfg.Identity)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	n := &Node{
		cfg: cfg, log: cfg.Log, id: id, gate: &gate{private: cfg.AllowPrivate},
		peers: map[peer.ID]peer.AddrInfo{}, more: make(chan struct{}, 1),
	}
	if n.dns, err = madns.NewResolver(madns.WithDefaultResolver(cfg.DNS)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	n.blocks = &blocks{node: n, cache: newBlockCache(cfg.CacheBytes)}
	n.SetHTTP(cfg.HTTP)
	if err := n.trustTexts(cfg.Peers); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	n.close = sync.OnceValue(n.shut)
	if cfg.Network == Offline {
		return n, nil
	}
	if err := n.start(); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// start brings up the parts, each on top of the one before.
func (n *Node) start() (err error) {
	if n.host, err = newHost(n.cfg, n.gate, n.dns); err != nil {
		return err
	}
	if n.dht, err = newDHT(n.host, n.cfg, n.trustedPeers); err != nil {
		return err
	}
	if n.find, err = newFinder(n.cfg, n.dht); err != nil {
		return err
	}
	n.swap = newSwap(n.host, n.find, n.cfg.Store, n.cfg.Serves)
	n.blocks.lanes = n.newLanes()
	n.swap.waits.lanes.Store(n.blocks.lanes)
	n.blocks.sessions = n.swap.sessions(n.cfg.IdleTimeout)
	n.blocks.sessions.life, n.blocks.sessions.patience = sessionLife, n.cfg.IdleTimeout/3
	n.https, err = n.serveHTTP()
	return err
}

// shut ends the parts in the reverse order of start; any of them may be missing.
func (n *Node) shut() error {
	var errs []error
	if n.blocks.sessions != nil {
		n.blocks.sessions.close()
	}
	if n.https != nil {
		errs = append(errs, n.https.Close())
	}
	if n.swap != nil {
		errs = append(errs, n.swap.Close())
	}
	if n.dht != nil {
		errs = append(errs, n.dht.Close())
	}
	if n.host != nil {
		errs = append(errs, n.host.Close())
	}
	return errors.Join(errs...)
}

// Close leaves the network. What runs fails. Closing twice is no error.
func (n *Node) Close() error { return n.close() }

// Sent is how many bytes of blocks went to peers by bitswap, since Open.
func (n *Node) Sent() int64 {
	if n.swap == nil {
		return 0
	}
	st, err := n.swap.Server.Stat()
	if err != nil {
		return 0 // it counts what is in memory
	}
	return int64(st.DataSent)
}

// ID is who the node is.
func (n *Node) ID() peer.ID { return n.id }

// Host is the libp2p host, for protocols that live elsewhere. nil when Offline.
func (n *Node) Host() host.Host { return n.host }

// Addrs is where the node can be dialled, each ending in /p2p/ID: what is announced, or else what is listened on,
// of which the first works from the same machine. Empty when Offline.
func (n *Node) Addrs() []string {
	if n.host == nil {
		return nil
	}
	return dialable(n.host)
}

// Listening is the addresses that the node really listens on, whatever it announces. Empty when Offline.
func (n *Node) Listening() []string {
	if n.host == nil {
		return nil
	}
	var texts []string
	for _, a := range n.host.Network().ListenAddresses() {
		texts = append(texts, a.String())
	}
	return texts
}

// Serve keeps the configured and trusted peers connected, fills the DHT's
// routing table and provides the kept roots again and again. It returns nil when ctx ends.
func (n *Node) Serve(ctx context.Context) error {
	if n.host == nil {
		<-ctx.Done()
		return nil
	}
	var wg sync.WaitGroup
	wg.Go(func() { n.keepConnected(ctx) })
	wg.Go(func() { n.reprovide(ctx) })
	wg.Wait()
	return nil
}

// Bootstrap connects to the configured and trusted peers once, and waits a moment until the
// DHT knows somebody. It is for commands that run too briefly for Serve. An
// error where there are such peers and none could be reached.
func (n *Node) Bootstrap(ctx context.Context) error {
	if n.host == nil {
		return ErrOffline
	}
	var infos []peer.AddrInfo
	for _, ai := range n.trustedPeers() {
		if ai.ID != n.id {
			infos = append(infos, ai)
		}
	}
	errs := n.connectEach(ctx, infos, n.connectTrusted)
	if len(infos) > 0 && len(errs) == len(infos) {
		return fmt.Errorf("none of %d peers can be reached: %w", len(infos), errors.Join(errs...))
	}
	waitForPeers(ctx, n.dht, 2*time.Second)
	return nil
}
