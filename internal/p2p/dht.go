package p2p

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ipfs/boxo/ipns"
	"github.com/ipfs/go-cid"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/routing"
	ma "github.com/multiformats/go-multiaddr"
	mh "github.com/multiformats/go-multihash"

	"github.com/holdfast-sites/holdfast/naming"
)

// privatePrefix keeps the DHT of a private network apart from the Amino DHT.
const privatePrefix = "/holdfast"

// What strangers may make a DHT server remember, in bytes.
const (
	dhtValueBytes    = 32 << 20
	dhtProviderBytes = 16 << 20
)

// Provider records die after 48 h; a reprovide that fails once has time for another.
const (
	reprovideEvery = 20 * time.Hour
	reprovideFirst = time.Minute // after the start: the routing table fills first
	provideTimeout = time.Minute
)

func newDHT(h host.Host, cfg Config, seeds func() []peer.AddrInfo) (*dht.IpfsDHT, error) {
	opts := []dht.Option{
		dht.Validator(record.NamespacedValidator{
			"pk":   record.PublicKeyValidator{},
			"ipns": ipns.Validator{KeyBook: h.Peerstore()},
		}),
		dht.BootstrapPeersFunc(seeds),
		dht.ValueDatastore(newBoundedStore(dhtValueBytes)),
		dht.ProviderDatastore(newBoundedStore(dhtProviderBytes)),
		dht.Mode(dht.ModeClient),
	}
	if cfg.Server {
		opts = append(opts, dht.Mode(dht.ModeServer))
	}
	if cfg.Network == Private {
		opts = append(opts, dht.ProtocolPrefix(privatePrefix))
	} else if !cfg.AllowPrivate {
		opts = append(opts, dht.AddressFilter(func(addrs []ma.Multiaddr) []ma.Multiaddr {
			return ma.FilterAddrs(addrs, func(a ma.Multiaddr) bool { return mayName(a, false) })
		}))
	}
	return dht.New(h, opts...)
}

// waitForPeers waits until the routing table has somebody in it, at most for
// the given time, and not at all when nobody who is connected will ever be.
// A connection becomes an entry only after an exchange of its own.
func waitForPeers(ctx context.Context, d *dht.IpfsDHT, most time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for d.RoutingTable().Size() == 0 && knowsServers(d.Host()) {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// knowsServers tells whether somebody who is connected answers DHT queries, or
// has not yet said what it does.
func knowsServers(h host.Host) bool {
	return slices.ContainsFunc(h.Network().Peers(), func(id peer.ID) bool {
		ps, err := h.Peerstore().GetProtocols(id)
		return err == nil && (len(ps) == 0 || slices.ContainsFunc(ps, func(p protocol.ID) bool {
			return strings.HasSuffix(string(p), "/kad/1.0.0")
		}))
	})
}

// Provide tells the DHT that this node has the blocks. An error where no
// provider record could be put.
func (n *Node) Provide(ctx context.Context, cids ...cid.Cid) error {
	if n.host == nil {
		return ErrOffline
	}
	waitForPeers(ctx, n.dht, 2*time.Second)
	var errs []error
	for _, c := range cids {
		if c.Prefix().MhType == mh.IDENTITY {
			continue // whoever has the CID has the block
		}
		if err := n.dht.Provide(ctx, c, true); err != nil {
			errs = append(errs, fmt.Errorf("provide %s: %w", c, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// reprovide keeps the provider records of all kept roots alive.
func (n *Node) reprovide(ctx context.Context) {
	wait := time.NewTimer(reprovideFirst)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		}
		wait.Reset(reprovideEvery)
		roots, err := n.cfg.Store.Kept(ctx, "")
		if err != nil {
			n.log.Warn("reprovide: reading what is kept", "err", err)
			continue
		}
		failed := 0
		for _, c := range roots {
			pctx, cancel := context.WithTimeout(ctx, provideTimeout)
			if err := n.Provide(pctx, c); err != nil {
				failed++
			}
			cancel()
			if ctx.Err() != nil {
				return
			}
		}
		n.log.Info("reprovided", "roots", len(roots), "failed", failed)
	}
}

// NameRouting is the DHT as a place for names.
type NameRouting interface {
	naming.Source
	naming.Sink
}

// NameRouting is where to ask for and put records. nil when Offline.
func (n *Node) NameRouting() NameRouting {
	if n.dht == nil {
		return nil
	}
	return dhtNames{n.dht}
}

type dhtNames struct{ dht *dht.IpfsDHT }

// String implements naming.Source and naming.Sink.
func (d dhtNames) String() string { return "dht" }

// Fetch implements naming.Source. What it returns, the DHT's validator has checked.
func (d dhtNames) Fetch(ctx context.Context, name naming.Name) ([]byte, error) {
	waitForPeers(ctx, d.dht, time.Second)
	qctx, heard := countResponses(ctx)
	raw, err := d.dht.GetValue(qctx, string(name.RoutingKey()))
	answers := heard()
	switch {
	case err == nil && len(raw) > naming.MaxRecordSize:
		return nil, naming.ErrTooLarge
	case err == nil:
		return raw, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("dht: %w", ctx.Err())
	case errors.Is(err, routing.ErrNotFound) && answers > 0:
		return nil, naming.ErrNotFound
	case errors.Is(err, routing.ErrNotFound):
		return nil, errors.New("dht: nobody answered")
	}
	return nil, fmt.Errorf("dht: %w", err)
}

// Put implements naming.Sink. It succeeds when at least one other node was told. ErrOlder only where this node itself
// keeps a better record for the DHT: what others make of theirs they don't say.
func (d dhtNames) Put(ctx context.Context, r naming.Record) error {
	waitForPeers(ctx, d.dht, time.Second)
	qctx, heard := countResponses(ctx)
	err := d.dht.PutValue(qctx, string(r.Name().RoutingKey()), r.Bytes())
	answers := heard()
	if err != nil {
		if older := d.better(ctx, r); older != nil {
			err = older
		}
		return fmt.Errorf("dht: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("dht: %w", err)
	}
	if answers == 0 {
		return errors.New("dht: nobody answered")
	}
	return nil
}

// better is an OlderError where the DHT has a better record than r, which it
// asks for: a refused put has no sentinel of its own.
func (d dhtNames) better(ctx context.Context, r naming.Record) error {
	raw, err := d.Fetch(ctx, r.Name())
	if err != nil {
		return nil
	}
	held, err := naming.OpenStored(r.Name(), raw)
	if err != nil || held.Compare(r) <= 0 {
		return nil
	}
	return &naming.OlderError{Name: r.Name(), Offered: r.Sequence(), Floor: held.Sequence()}
}

// countResponses counts the peers that answer a query made under the
// returned context: the DHT itself does not tell "nobody has it" from
// "nobody answered". The count ends the query's events.
func countResponses(ctx context.Context) (context.Context, func() int) {
	ctx, cancel := context.WithCancel(ctx)
	qctx, events := routing.RegisterForQueryEvents(ctx)
	var n atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := range events {
			if e.Type == routing.PeerResponse {
				n.Add(1)
			}
		}
	}()
	return qctx, func() int {
		cancel()
		<-done
		return int(n.Load())
	}
}
