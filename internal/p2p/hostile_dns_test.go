package p2p

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/holdfast-sites/holdfast/internal/testnet/dnstest"
	"github.com/holdfast-sites/holdfast/merkle"
)

// turningDNS asks a real server, whose zone changes after each question: what is looked at is
// never what is dialled, for those who look twice.
type turningDNS struct {
	*net.Resolver
	server *dnstest.Server

	mu    sync.Mutex
	zones []string // of the questions to come; the last one stays
	asked int
}

func newTurningDNS(t *testing.T, zones ...string) *turningDNS {
	d := &turningDNS{server: dnstest.New(t), zones: zones}
	d.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var nd net.Dialer
		return nd.DialContext(ctx, network, d.server.Addr())
	}}
	return d
}

func (d *turningDNS) turn() {
	d.asked++
	d.server.Set(d.zones[0])
	if len(d.zones) > 1 {
		d.zones = d.zones[1:]
	}
}

// LookupIPAddr implements madns.BasicResolver. One question at a time: the zone is the server's.
func (d *turningDNS) LookupIPAddr(ctx context.Context, name string) ([]net.IPAddr, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn()
	return d.Resolver.LookupIPAddr(ctx, name)
}

// LookupTXT implements madns.BasicResolver.
func (d *turningDNS) LookupTXT(ctx context.Context, name string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn()
	return d.Resolver.LookupTXT(ctx, name)
}

func (d *turningDNS) questions() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked
}

// service is something on this machine that must not be reached; it counts who tries, by TCP.
type service struct {
	net.Listener
	port    string
	reached atomic.Int64
}

func newService(t *testing.T) *service {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	s := &service{Listener: l, port: port}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.reached.Add(1)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return s
}

// newMute accepts connections and never says a word; it returns the port.
func newMute(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() }) // the kernel accepts for it
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// dialled has a node dial only through a function that counts where to.
func dialled(addresses *sync.Map) func(*Config) {
	return func(c *Config) {
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			addresses.Store(address, true)
			var d net.Dialer
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			if !strings.HasPrefix(address, "127.") { // nothing of a test leaves the machine
				return nil, fmt.Errorf("%s can't be reached from here", address)
			}
			return d.DialContext(ctx, network, address)
		}
	}
}

func TestNamesThatTurnPrivateAreNotDialled(t *testing.T) {
	const public = "rebind.test. 0 IN A 8.8.8.8\n"
	for what, tc := range map[string]struct {
		addr  string
		zones []string // PORT and PEER are filled in
		tried bool     // whether the public address may be
	}{
		"private from the first answer on": {"/dns4/rebind.test/tcp/PORT", []string{"rebind.test. 0 IN A 127.0.0.1"}, false},
		"private from the second on":       {"/dns4/rebind.test/tcp/PORT", []string{public, "rebind.test. 0 IN A 127.0.0.1"}, true},
		"private from the third on":        {"/dns/rebind.test/tcp/PORT", []string{public, public, "rebind.test. 0 IN A 127.0.0.1"}, true},
		"back and forth":                   {"/dns4/rebind.test/tcp/PORT", []string{public, "rebind.test. 0 IN A 127.0.0.1", public, "rebind.test. 0 IN A 127.0.0.1"}, true},
		"both at once":                     {"/dns4/rebind.test/tcp/PORT", []string{public + "rebind.test. 0 IN A 127.0.0.1"}, true},
		"by an alias":                      {"/dns4/rebind.test/tcp/PORT", []string{"rebind.test. 0 IN CNAME localhost.rebind.test.\nlocalhost.rebind.test. 0 IN A 127.0.0.1"}, false},
		"the metadata service":             {"/dns4/rebind.test/tcp/80", []string{public, "rebind.test. 0 IN A 169.254.169.254"}, true},
		"as IPv6":                          {"/dns6/rebind.test/tcp/PORT", []string{"rebind.test. 0 IN AAAA ::ffff:127.0.0.1\nrebind.test. 0 IN AAAA ::1"}, false},
		"translated to IPv6":               {"/dns6/rebind.test/tcp/PORT", []string{"rebind.test. 0 IN AAAA 64:ff9b::7f00:1"}, false},
		"nobody at all":                    {"/dns4/rebind.test/tcp/PORT", []string{"rebind.test. 0 IN A 0.0.0.0"}, false},
		"in a list of addresses": {"/dnsaddr/rebind.test", []string{
			"_dnsaddr.rebind.test. 0 IN TXT \"dnsaddr=/ip4/127.0.0.1/tcp/PORT/p2p/PEER\""}, false},
		"in a list of names": {"/dnsaddr/rebind.test", []string{
			"_dnsaddr.rebind.test. 0 IN TXT \"dnsaddr=/dns4/rebind.test/tcp/PORT/p2p/PEER\"\nrebind.test. 0 IN A 8.8.8.8",
			"rebind.test. 0 IN A 127.0.0.1"}, false},
		"in lists of lists": {"/dnsaddr/rebind.test", []string{
			"_dnsaddr.rebind.test. 0 IN TXT \"dnsaddr=/dnsaddr/rebind.test/p2p/PEER\"",
			"_dnsaddr.rebind.test. 0 IN TXT \"dnsaddr=/ip4/127.0.0.1/tcp/PORT/p2p/PEER\""}, false},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			victim := newService(t)
			fill := strings.NewReplacer("PORT", victim.port, "PEER", alice).Replace
			var zones []string
			for _, z := range tc.zones {
				zones = append(zones, fill(z))
			}
			dns := newTurningDNS(t, zones...)
			var dials sync.Map
			n := open(t, dialled(&dials), func(c *Config) { c.AllowPrivate, c.DNS = false, dns })

			from, err := n.TenantAddrs([]string{fill(tc.addr) + "/p2p/" + alice})
			if err != nil || len(from) != 1 || len(from[0].Addrs) != 1 {
				t.Fatalf("the origin is not used: %v, %v", from, err)
			}
			for range 3 { // as often as a pin is tried again
				n.host.Network().(*swarm.Swarm).Backoff().Clear(from[0].ID)
				if err := n.Connect(t.Context(), from); err == nil {
					t.Error("it is connected")
				}
			}
			if dns.questions() < 3 {
				t.Errorf("the name was looked up %d times in 3 tries", dns.questions())
			}
			if victim.reached.Load() > 0 {
				t.Error("the private address was dialled")
			}
			dials.Range(func(address, _ any) bool {
				if !tc.tried || address != "8.8.8.8:"+victim.port && address != "8.8.8.8:80" {
					t.Errorf("%s was dialled", address)
				}
				return true
			})
		})
	}
}

// TestAPrivateAddressOfATrustedNameIsDialled: the operator's own word counts, for that peer only.
func TestAPrivateAddressOfATrustedNameIsDialled(t *testing.T) {
	friend := open(t)
	port, err := info(t, friend).Addrs[0].ValueForProtocol(ma.P_TCP)
	if err != nil {
		t.Fatal(err)
	}
	dns := newTurningDNS(t, "friend.test. 0 IN A 127.0.0.1")
	named := "/dns4/friend.test/tcp/" + port + "/p2p/"
	n := open(t, func(c *Config) {
		c.AllowPrivate, c.DNS, c.Peers = false, dns, []string{named + friend.ID().String()}
	})
	if err := n.Bootstrap(t.Context()); err != nil {
		t.Errorf("the operator's peer: %v", err)
	}
	from, err := n.TenantAddrs([]string{named + alice})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Connect(t.Context(), from); err == nil || !strings.Contains(err.Error(), "gater") {
		t.Errorf("the same name under another peer's id: %v", err)
	}
}

// TestOriginsOfAPinAreFetchedFromOnlyWhereTheyMayBe is the whole way of an origin, with a source that is
// there and has everything: it is not used at a private address, and the reason is told.
func TestOriginsOfAPinAreFetchedFromOnlyWhereTheyMayBe(t *testing.T) {
	author := open(t)
	d := makeDAG(t, 20, 40)
	put(t, author, d.blocks...)
	author.SetHTTP(serveCARs(author, nil))
	host := open(t, func(c *Config) { c.AllowPrivate, c.IdleTimeout = false, time.Second })
	from, err := host.TenantAddrs([]string{author.Addrs()[0]})
	if err != nil {
		t.Fatal(err)
	}
	_, err = host.Fetch(t.Context(), session(t, host), d.roots(), from, merkle.Limits{}, nil)
	if err == nil || has(t, host, d) != 0 {
		t.Fatal("the host dialled a loopback address that a tenant named")
	}
	if !strings.Contains(err.Error(), author.ID().String()+": not reached") {
		t.Errorf("the error does not say why: %v", err)
	}
}

// TestRedirectsOfASourceAreNotFollowed: a source that answers may still try to send us elsewhere.
func TestRedirectsOfASourceAreNotFollowed(t *testing.T) {
	victim := newService(t)
	for _, code := range []int{301, 302, 303, 307, 308} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			bad, host := open(t), open(t, func(c *Config) { c.IdleTimeout = time.Second })
			d := makeDAG(t, 20, 41)
			bad.SetHTTP(http.RedirectHandler("http://"+victim.Addr().String()+"/latest/meta-data", code))
			from := []peer.AddrInfo{info(t, bad)}
			if _, err := host.Fetch(t.Context(), session(t, host), d.roots(), from, merkle.Limits{}, nil); err == nil {
				t.Error("fetched from a redirect")
			}
			if victim.reached.Load() > 0 {
				t.Error("it was followed to a private address")
			}
		})
	}
}
