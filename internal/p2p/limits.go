package p2p

import (
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/x/rate"
)

// resourceManager limits what others may take of this node. private is whether private networks may be dialled.
func resourceManager(private bool) (network.ResourceManager, error) {
	limits := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&limits)
	// One peer gets a share of the HTTP streams, not all of them.
	limits.AddProtocolPeerLimit(httpProtocol,
		rcmgr.BaseLimit{Streams: 64, StreamsInbound: 64, StreamsOutbound: 64, Memory: 32 << 20},
		rcmgr.BaseLimitIncrease{})
	// A peer has one stream of names each way, and for a moment the one that it replaces.
	limits.AddProtocolPeerLimit(NamesProtocol,
		rcmgr.BaseLimit{Streams: 8, StreamsInbound: 4, StreamsOutbound: 4, Memory: 4 << 20},
		rcmgr.BaseLimitIncrease{})
	// Above what the connection manager trims to, or it would never trim, and strangers that came first keep the others out.
	system := rcmgr.PartialLimitConfig{System: rcmgr.ResourceLimits{Conns: connMost, ConnsInbound: connMost * 3 / 4, ConnsOutbound: connMost * 3 / 4}}
	var opts []rcmgr.Option
	if private {
		opts = append(opts, rcmgr.WithConnRateLimiters(rateOfStrangers()))
	}
	return rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(system.Build(limits.Scale(hostMemory, hostFiles))), opts...)
}

// rateOfStrangers is libp2p's own limit, a connection every five seconds from or to an address, for all but
// private networks. It counts what we dial, too: two hosts, each of which called the other
// while it was away, would spend their shares on calls that the other refuses, again and again.
func rateOfStrangers() *rate.Limiter {
	limit := rate.Limit{RPS: 0.2, Burst: 16}
	l := &rate.Limiter{SubnetRateLimiter: rate.SubnetLimiter{
		IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: limit}},
		IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 56, Limit: limit}, {PrefixLength: 48, Limit: rate.Limit{RPS: 0.5, Burst: 80}}},
		GracePeriod:      time.Minute,
	}}
	for _, prefix := range []string{"127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "::1/128", "fc00::/7", "fe80::/10"} {
		l.NetworkPrefixLimits = append(l.NetworkPrefixLimits, rate.PrefixLimit{Prefix: netip.MustParsePrefix(prefix)})
	}
	return l
}
