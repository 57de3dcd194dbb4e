package p2p

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// Limits on the addresses that a tenant names.
const (
	MaxTenantAddrs   = 20   // addresses in one list, as in the Pinning Service API
	maxMultiaddrText = 1024 // bytes of one address
)

// TenantAddrs parses addresses that somebody who is not the operator named.
// Each must end in /p2p/ID. Addresses that may not be dialled are dropped; the
// peer stays in the result without them, since it may be connected already. Names are kept, and what they
// resolve to is checked when it is dialled. ErrAddress where there are more than MaxTenantAddrs, or
// one can't be parsed.
func (n *Node) TenantAddrs(origins []string) ([]peer.AddrInfo, error) {
	if len(origins) > MaxTenantAddrs {
		return nil, fmt.Errorf("%w: %d addresses, at most %d are accepted", ErrAddress, len(origins), MaxTenantAddrs)
	}
	var infos []peer.AddrInfo
	for _, text := range origins {
		id, addr, err := parsePeerAddr(text)
		if err != nil {
			return nil, err
		}
		if id == n.id {
			continue
		}
		i := slices.IndexFunc(infos, func(ai peer.AddrInfo) bool { return ai.ID == id })
		if i < 0 {
			i = len(infos)
			infos = append(infos, peer.AddrInfo{ID: id})
		}
		if addr != nil && mayName(addr, n.cfg.AllowPrivate) && !ma.Contains(infos[i].Addrs, addr) {
			infos[i].Addrs = append(infos[i].Addrs, addr)
		}
	}
	return infos, nil
}

// parsePeerAddr splits a multiaddr into the peer and the transport address,
// which is nil for a bare /p2p/ID.
func parsePeerAddr(text string) (peer.ID, ma.Multiaddr, error) {
	if len(text) > maxMultiaddrText {
		return "", nil, fmt.Errorf("%w: %d bytes long", ErrAddress, len(text))
	}
	if !strings.HasPrefix(text, "/") {
		return "", nil, fmt.Errorf("%w: %q is no multiaddr", ErrAddress, text)
	}
	full, err := ma.NewMultiaddr(text)
	if err != nil {
		return "", nil, fmt.Errorf("%w: %q: %v", ErrAddress, text, err)
	}
	addr, id := peer.SplitAddr(full)
	if id == "" {
		return "", nil, fmt.Errorf("%w: %q does not end in /p2p/ID", ErrAddress, text)
	}
	return id, addr, nil
}

// nameable is the protocols of addresses that others may make us dial.
// Whatever reaches the machine itself (unix sockets, zones of interfaces) is not among them.
var nameable = []int{
	ma.P_IP4, ma.P_IP6, ma.P_DNS, ma.P_DNS4, ma.P_DNS6, ma.P_DNSADDR, ma.P_TCP, ma.P_UDP, ma.P_QUIC_V1,
	ma.P_WS, ma.P_WSS, ma.P_TLS, ma.P_SNI, ma.P_P2P, ma.P_CIRCUIT, ma.P_WEBTRANSPORT, ma.P_CERTHASH,
}

var dnsProtocols = []int{ma.P_DNS, ma.P_DNS4, ma.P_DNS6, ma.P_DNSADDR}

// mayName tells whether an address that somebody else named may be kept. A DNS
// name passes: it has to pass again, resolved, when it is dialled.
func mayName(addr ma.Multiaddr, private bool) bool {
	return addressAllowed(addr, private, true)
}

// mayDial is mayName without names: by the time of a dial they have been resolved.
func mayDial(addr ma.Multiaddr, private bool) bool {
	return addressAllowed(addr, private, false)
}

func addressAllowed(addr ma.Multiaddr, private, names bool) bool {
	for i, c := range addr {
		code := c.Protocol().Code
		if !slices.Contains(nameable, code) {
			return false
		}
		isIP, isName := code == ma.P_IP4 || code == ma.P_IP6, slices.Contains(dnsProtocols, code)
		if i == 0 && !isIP && !isName {
			return false
		}
		if isName && !names {
			return false
		}
		if isIP {
			ip, ok := netip.AddrFromSlice(c.RawValue())
			if !ok || !ipAllowed(ip, private) {
				return false
			}
		}
	}
	return len(addr) > 0
}

// never is where no peer of ours can be, whoever says so. The metadata service of clouds
// is an ordinary link-local address, and too dangerous to be one.
var never = prefixes("0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", "169.254.169.254/32", "fd00:ec2::254/128", "::/128", "ff00::/8")

// inside is the addresses that mean this machine, this network, or nothing
// that the public internet routes to (IANA special-purpose registries).
var inside = prefixes(
	"10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
	"192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
	"::1/128", "64:ff9b:1::/48", "100::/64", "2001:db8::/32", "fc00::/7", "fe80::/10", "fec0::/10",
)

func prefixes(texts ...string) (ps []netip.Prefix) {
	for _, t := range texts {
		ps = append(ps, netip.MustParsePrefix(t))
	}
	return ps
}

func ipAllowed(ip netip.Addr, private bool) bool {
	ip = embeddedIPv4(ip.Unmap())
	contains := func(p netip.Prefix) bool { return p.Contains(ip) }
	if slices.ContainsFunc(never, contains) {
		return false
	}
	return private || !slices.ContainsFunc(inside, contains)
}

// embeddedIPv4 is the IPv4 address at which a translator or tunnel would deliver an IPv6 packet: an
// attacker writes 10.0.0.1 as 64:ff9b::a00:1.
func embeddedIPv4(ip netip.Addr) netip.Addr {
	if !ip.Is6() {
		return ip
	}
	b := ip.As16()
	switch {
	case netip.MustParsePrefix("64:ff9b::/96").Contains(ip), netip.MustParsePrefix("::/96").Contains(ip) && ip != netip.IPv6Loopback() && ip != netip.IPv6Unspecified():
		return netip.AddrFrom4([4]byte(b[12:16]))
	case netip.MustParsePrefix("2002::/16").Contains(ip): // 6to4
		return netip.AddrFrom4([4]byte(b[2:6]))
	case netip.MustParsePrefix("2001::/32").Contains(ip): // Teredo: the client's address, inverted
		return netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]})
	}
	return ip
}

// gate decides which addresses are dialled. It is the one place that enforces
// the rule, after names were resolved, whoever asked for the dial.
type gate struct {
	private bool
	mu      sync.RWMutex
	trusted map[peer.ID]map[string]bool // exact addresses that the operator named
}

// trust lets an exact address of a peer be dialled whatever its range.
func (g *gate) trust(id peer.ID, addrs ...ma.Multiaddr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.trusted == nil {
		g.trusted = map[peer.ID]map[string]bool{}
	}
	if g.trusted[id] == nil {
		g.trusted[id] = map[string]bool{}
	}
	for _, a := range addrs {
		g.trusted[id][a.String()] = true
	}
}

// InterceptAddrDial implements connmgr.ConnectionGater. The swarm calls it with resolved addresses.
func (g *gate) InterceptAddrDial(id peer.ID, addr ma.Multiaddr) bool {
	addr, _ = peer.SplitAddr(addr)
	if addr == nil {
		return false
	}
	if mayDial(addr, g.private) {
		return true
	}
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.trusted[id][addr.String()]
}

// The other decisions of a connmgr.ConnectionGater: everybody may connect to us.

func (g *gate) InterceptPeerDial(peer.ID) bool                                           { return true }
func (g *gate) InterceptAccept(network.ConnMultiaddrs) bool                              { return true }
func (g *gate) InterceptSecured(network.Direction, peer.ID, network.ConnMultiaddrs) bool { return true }
func (g *gate) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason)          { return true, 0 }
