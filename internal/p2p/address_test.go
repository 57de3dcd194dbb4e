package p2p

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/holdfast-sites/holdfast/blockstore"
)

const (
	alice = "12D3KooWGRUoG1rVKgDKbQkS2pUoXSv8xgyHbCyGe7TpsoHoNk3V"
	bob   = "12D3KooWSHj3RRbBjD15g6wekV8y3mm57Pobmps2g2WJm6F67Lay"
)

func TestTenantAddrsDropsWhatMayNotBeDialled(t *testing.T) {
	const keep, local, never = "kept", "kept only when private addresses are allowed", "never kept"
	for addr, want := range map[string]string{
		"/ip4/8.8.8.8/tcp/4001":                                                 keep,
		"/ip4/8.8.8.8/udp/4001/quic-v1":                                         keep,
		"/ip6/2606:4700::1111/tcp/4001":                                         keep,
		"/dns4/example.com/tcp/4001":                                            keep,
		"/dns/example.com/udp/4001/quic-v1":                                     keep,
		"/dnsaddr/example.com":                                                  keep,
		"/ip4/8.8.8.8/tcp/4001/p2p/" + bob + "/p2p-circuit":                     keep,
		"/ip4/127.0.0.1/tcp/4001":                                               local,
		"/ip4/127.255.255.254/tcp/4001":                                         local,
		"/ip4/10.0.0.1/tcp/4001":                                                local,
		"/ip4/172.16.0.1/tcp/4001":                                              local,
		"/ip4/172.31.255.255/tcp/4001":                                          local,
		"/ip4/192.168.1.1/tcp/4001":                                             local,
		"/ip4/100.64.0.1/tcp/4001":                                              local,
		"/ip4/169.254.1.1/tcp/4001":                                             local,
		"/ip4/198.18.0.1/tcp/4001":                                              local,
		"/ip6/::1/tcp/4001":                                                     local,
		"/ip6/fe80::1/tcp/4001":                                                 local,
		"/ip6/fd12::1/tcp/4001":                                                 local,
		"/ip6/::ffff:10.0.0.1/tcp/4001":                                         local,
		"/ip6/64:ff9b::a00:1/tcp/4001":                                          local,
		"/ip6/2002:a00:1::/tcp/4001":                                            local,
		"/ip6/2001:0:4136:e378:8000:63bf:f5ff:fffe/tcp/4001":                    local,
		"/ip4/10.0.0.1/tcp/4001/p2p/" + bob + "/p2p-circuit":                    local,
		"/ip4/172.15.255.255/tcp/4001":                                          keep,
		"/ip4/172.32.0.0/tcp/4001":                                              keep,
		"/ip4/100.63.255.255/tcp/4001":                                          keep,
		"/ip4/100.128.0.0/tcp/4001":                                             keep,
		"/ip4/169.254.169.254/tcp/80":                                           never,
		"/ip6/::ffff:169.254.169.254/tcp/80":                                    never,
		"/ip6/64:ff9b::a9fe:a9fe/tcp/80":                                        never,
		"/ip6/fd00:ec2::254/tcp/80":                                             never,
		"/ip4/0.0.0.0/tcp/4001":                                                 never,
		"/ip6/::/tcp/4001":                                                      never,
		"/ip4/224.0.0.1/udp/4001/quic-v1":                                       never,
		"/ip4/255.255.255.255/tcp/4001":                                         never,
		"/ip6/ff02::1/tcp/4001":                                                 never,
		"/ip6zone/eth0/ip6/fe80::1/tcp/4001":                                    never,
		"/p2p/" + bob + "/p2p-circuit":                                          never,
		"/onion3/vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd:1234": never,
	} {
		for _, allow := range []bool{false, true} {
			n := &Node{cfg: Config{AllowPrivate: allow}}
			infos, err := n.TenantAddrs([]string{addr + "/p2p/" + alice})
			if err != nil {
				t.Errorf("%s: %v", addr, err)
				continue
			}
			if len(infos) != 1 || infos[0].ID.String() != alice {
				t.Errorf("%s: the peer is not in %v", addr, infos)
				continue
			}
			kept := len(infos[0].Addrs) == 1
			if kept != (want == keep || want == local && allow) {
				t.Errorf("%s with private addresses allowed %t: kept %t, want %q", addr, allow, kept, want)
			}
			// What was named is dialled by the same rule, except that names have been resolved by then.
			g := &gate{private: allow}
			isName := strings.HasPrefix(addr, "/dns")
			if got := g.InterceptAddrDial(infos[0].ID, mustMultiaddr(t, addr)); got != (kept && !isName) {
				t.Errorf("%s with private addresses allowed %t: dialled %t", addr, allow, got)
			}
		}
	}
}

func TestTenantAddrsRefusesWhatIsMalformed(t *testing.T) {
	n := &Node{}
	for _, bad := range []string{
		"", "/", "junk", "http://example.com", "/ip4/8.8.8.8/tcp/4001", "/ip4/8.8.8.8/tcp/4001/p2p/", "/ip4/8.8.8.8/tcp/4001/p2p/junk",
		"/ip4/8.8.8/tcp/4001/p2p/" + alice, "/ip4/8.8.8.8/tcp/65536/p2p/" + alice, "/ip4/8.8.8.8/tcp/4001/p2p/" + alice + "/p2p-circuit",
		"/unix/run/docker.sock/p2p/" + alice, "/dns4/" + strings.Repeat("a", 2000) + "/tcp/1/p2p/" + alice,
	} {
		if _, err := n.TenantAddrs([]string{bad}); !errors.Is(err, ErrAddress) {
			t.Errorf("%.60q: %v", bad, err)
		}
	}
	one := "/ip4/8.8.8.8/tcp/4001/p2p/" + alice
	if _, err := n.TenantAddrs(slices.Repeat([]string{one}, MaxTenantAddrs)); err != nil {
		t.Errorf("%d addresses: %v", MaxTenantAddrs, err)
	}
	if _, err := n.TenantAddrs(slices.Repeat([]string{one}, MaxTenantAddrs+1)); !errors.Is(err, ErrAddress) {
		t.Errorf("%d addresses: %v", MaxTenantAddrs+1, err)
	}
}

func TestTenantAddrsGathersByPeer(t *testing.T) {
	id, err := peer.Decode(bob)
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{id: id}
	infos, err := n.TenantAddrs([]string{
		"/ip4/8.8.8.8/tcp/1/p2p/" + alice, "/ip4/8.8.4.4/tcp/1/p2p/" + bob, "/p2p/" + alice,
		"/ip4/8.8.8.8/tcp/1/p2p/" + alice, "/ip4/8.8.4.4/tcp/1/p2p/" + alice,
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(infos) != 1 || len(infos[0].Addrs) != 2 {
		t.Errorf("got %v; itself and repetitions are to be left out", infos)
	}
}

func TestANameThatTurnsPrivateIsNotDialled(t *testing.T) {
	g := &gate{}
	id, err := peer.Decode(alice)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"/ip4/127.0.0.1/tcp/1", "/ip4/169.254.169.254/tcp/80", "/dns4/example.com/tcp/1"} {
		if g.InterceptAddrDial(id, mustMultiaddr(t, a)) {
			t.Errorf("%s would be dialled", a)
		}
	}
}

func TestOpenRefusesAConfigurationThatCannotWork(t *testing.T) {
	good := func() Config {
		return Config{Identity: newKey(t), Store: blockstore.NewMemory(), Network: Offline}
	}
	for what, change := range map[string]func(*Config){
		"no identity":            func(c *Config) { c.Identity = nil },
		"no store":               func(c *Config) { c.Store = nil },
		"unknown network":        func(c *Config) { c.Network = "lan" },
		"short key":              func(c *Config) { c.PSK = make([]byte, 31) },
		"key on public network":  func(c *Config) { c.Network, c.PSK = Public, make([]byte, 32) },
		"peer without ID":        func(c *Config) { c.Peers = []string{"/ip4/127.0.0.1/tcp/1"} },
		"peer without address":   func(c *Config) { c.Peers = []string{"/p2p/" + alice} },
		"listen address is junk": func(c *Config) { c.Network, c.Listen = Private, []string{"junk"} },
	} {
		cfg := good()
		change(&cfg)
		if n, err := Open(t.Context(), cfg); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", what, err)
			if err == nil {
				n.Close()
			}
		}
	}
	cfg := good() // an address of somebody else's
	cfg.Network, cfg.Listen = Private, []string{"/ip4/203.0.113.1/tcp/1"}
	if _, err := Open(t.Context(), cfg); !errors.Is(err, ErrListen) {
		t.Errorf("an address that is not ours: %v", err)
	}
}

func FuzzTenantAddrs(f *testing.F) {
	for _, s := range []string{
		"/ip4/8.8.8.8/tcp/4001/p2p/" + alice, "/ip4/127.0.0.1/tcp/4001/p2p/" + alice + "\n/dns4/example.com/tcp/1/p2p/" + bob,
		"/ip6/64:ff9b::a9fe:a9fe/tcp/80/p2p/" + alice, "/ip4/8.8.8.8/tcp/1/p2p/" + bob + "/p2p-circuit/p2p/" + alice, "/unix/a/p2p/" + alice,
	} {
		f.Add(s)
	}
	n := &Node{}
	f.Fuzz(func(t *testing.T, s string) {
		infos, err := n.TenantAddrs(strings.Split(s, "\n"))
		if err != nil {
			if !errors.Is(err, ErrAddress) || infos != nil {
				t.Errorf("%v, %v", infos, err)
			}
			return
		}
		for _, ai := range infos {
			if ai.ID == "" || len(ai.Addrs) > MaxTenantAddrs {
				t.Errorf("got %v", ai)
			}
			for _, a := range ai.Addrs {
				ma.ForEach(a, func(c ma.Component) bool {
					ip := c.Value()
					if c.Protocol().Code == ma.P_IP4 && (strings.HasPrefix(ip, "10.") || strings.HasPrefix(ip, "127.") ||
						strings.HasPrefix(ip, "192.168.") || strings.HasPrefix(ip, "169.254.")) {
						t.Errorf("%s was kept", a)
					}
					return true
				})
			}
		}
	})
}
