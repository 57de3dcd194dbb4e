package p2p

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	madns "github.com/multiformats/go-multiaddr-dns"
	manet "github.com/multiformats/go-multiaddr/net"
)

// The size of a node: connections are trimmed from connHigh down to connLow, since trimming leaves new ones be for
// connGrace there may be connMost for a moment, and all of libp2p's buffers together stay under hostMemory.
const (
	connLow, connHigh = 96, 192
	connMost          = 512
	connGrace         = 20 * time.Second
	hostMemory        = 256 << 20 // bytes
	hostFiles         = 1024
	maxAddresses      = 100_000 // that are remembered of peers that are not connected
)

// httpProtocol is HTTP/1.1 over a libp2p stream (https://github.com/libp2p/specs/tree/master/http).
const httpProtocol = "/http/1.1"

// newHost starts a libp2p host that listens when it returns.
func newHost(cfg Config, g *gate, dns *madns.Resolver) (host.Host, error) {
	announced, err := announce(cfg.Announce)
	if err != nil {
		return nil, err
	}
	limits, err := resourceManager(cfg.AllowPrivate)
	if err != nil {
		return nil, err
	}
	book, err := pstoremem.NewPeerstore(pstoremem.WithMaxAddresses(maxAddresses), pstoremem.WithMaxSignedPeerRecords(maxAddresses/10))
	if err != nil {
		limits.Close()
		return nil, err
	}
	conns, err := connmgr.NewConnManager(connLow, connHigh, connmgr.WithGracePeriod(connGrace))
	if err != nil {
		return nil, err
	}
	opts := []libp2p.Option{
		libp2p.Identity(cfg.Identity),
		libp2p.ListenAddrStrings(cfg.Listen...),
		libp2p.ResourceManager(limits),
		libp2p.Peerstore(book),
		libp2p.ConnectionManager(conns),
		libp2p.ConnectionGater(g),
		libp2p.MultiaddrResolver(swarm.ResolverFromMaDNS{Resolver: dns}),
		libp2p.UserAgent("holdfast"),
		tcpTransport(cfg),
	}
	if len(announced) > 0 {
		opts = append(opts, libp2p.AddrsFactory(func([]ma.Multiaddr) []ma.Multiaddr { return slices.Clone(announced) }))
	}
	if len(cfg.PSK) == 0 {
		opts = append(opts, libp2p.Transport(quic.NewTransport))
	} else {
		opts = append(opts, libp2p.PrivateNetwork(pnet.PSK(slices.Clone(cfg.PSK))))
	}
	if cfg.Metrics != nil {
		opts = append(opts, libp2p.PrometheusRegisterer(cfg.Metrics))
	} else {
		opts = append(opts, libp2p.DisableMetrics())
	}
	if cfg.Network == Public {
		opts = append(opts, libp2p.NATPortMap(), libp2p.EnableAutoNATv2(), libp2p.EnableHolePunching())
	} else {
		// With the answer given, nobody is asked whether we can be reached.
		opts = append(opts, libp2p.ForceReachabilityPublic())
	}
	h, err := libp2p.New(opts...)
	if err != nil {
		limits.Close()
		conns.Close()
		return nil, fmt.Errorf("%w on %s: %w", ErrListen, strings.Join(cfg.Listen, ", "), err)
	}
	return h, nil
}

func tcpTransport(cfg Config) libp2p.Option {
	if cfg.Dial == nil {
		return libp2p.Transport(tcp.NewTCPTransport)
	}
	d := dialler(cfg.Dial)
	return libp2p.Transport(tcp.NewTCPTransport, tcp.WithDialerForAddr(func(ma.Multiaddr) (tcp.ContextDialer, error) { return d, nil }))
}

// dialler is a function as the transport wants it.
type dialler func(ctx context.Context, network, address string) (net.Conn, error)

func (d dialler) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return d(ctx, network, address)
}

// announce reads the addresses that others are told.
func announce(texts []string) (addrs []ma.Multiaddr, err error) {
	for _, text := range texts {
		a, err := ma.NewMultiaddr(text)
		if err != nil {
			return nil, fmt.Errorf("%w: announce %q: %v", ErrConfig, text, err)
		}
		if _, id := peer.SplitAddr(a); id != "" {
			return nil, fmt.Errorf("%w: announce %q: leave /p2p/ID out", ErrConfig, text)
		}
		addrs = append(addrs, a)
	}
	return addrs, nil
}

// dialable is the host's addresses, each with /p2p/ID, the ones that work from
// the same machine first, TCP before QUIC among equals.
func dialable(h host.Host) []string {
	addrs := slices.Clone(h.Addrs())
	rank := func(a ma.Multiaddr) (r int) {
		if !manet.IsIPLoopback(a) {
			r += 2
		}
		if _, err := a.ValueForProtocol(ma.P_TCP); err != nil {
			r++
		}
		return r
	}
	slices.SortStableFunc(addrs, func(a, b ma.Multiaddr) int { return rank(a) - rank(b) })
	texts := make([]string, 0, len(addrs))
	for _, a := range addrs {
		texts = append(texts, a.String()+"/p2p/"+h.ID().String())
	}
	return texts
}
