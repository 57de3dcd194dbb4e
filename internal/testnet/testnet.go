// Package testnet runs whole nodes in one process, for tests: hosts, authors
// and gateways with homes, sockets and keys of their own, joined by links that
// can be slowed, cut, stalled and made to lose connections.
//
// It promises that every TCP connection between its nodes goes over the link
// between them, that nothing leaves the loopback interface, and that all of it
// ends with the test. It fakes nothing but distance: the nodes are what
// `holdfast serve` runs.
package testnet

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/node"
)

// Net is the nodes of one test and the links between them.
type Net struct {
	// Config, where set, changes how a node made from then on is configured,
	// which is with the program's own defaults.
	Config func(*node.Config)

	t   testing.TB
	dir string

	mu    sync.Mutex
	peers []*Peer
	doors map[string]*door // by the address that is announced
	links Links
}

// door is one of a peer's listeners as others are told of it. Whoever dials it
// from inside the net goes over a link of its own.
type door struct {
	owner  *Peer
	public *link           // for whoever is no peer of the net
	from   map[*Peer]*link // for the peers
	where  func() string   // the listener itself; empty while the owner is stopped
}

// New makes an empty net, which ends with the test.
func New(t testing.TB) *Net {
	t.Helper()
	// Not t.TempDir: its long name would make socket paths too long.
	dir, err := os.MkdirTemp("", "hft")
	if err != nil {
		t.Fatal(err)
	}
	n := &Net{t: t, dir: dir, doors: make(map[string]*door)}
	t.Cleanup(n.close)
	return n
}

func (n *Net) close() {
	n.t.Helper()
	n.mu.Lock()
	peers, links := slices.Clone(n.peers), slices.Clone(n.links)
	n.mu.Unlock()
	// Links first: nobody is to wait at the end for a stalled one.
	for _, l := range links {
		l.close()
	}
	var wg sync.WaitGroup
	for _, p := range peers {
		wg.Go(p.Stop)
	}
	wg.Wait()
	if err := os.RemoveAll(n.dir); err != nil {
		n.t.Error(err)
	}
}

// Dir makes a folder of the net.
func (n *Net) Dir(name string) string {
	n.t.Helper()
	dir := filepath.Join(n.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		n.t.Fatal(err)
	}
	return dir
}

// Host starts a host with a pin service, which keeps a connection to the peers that it knows.
func (n *Net) Host(name string, knows ...*Peer) *Peer {
	n.t.Helper()
	p := n.peer(name, knows)
	p.cfg.Host, p.cfg.Pins = true, node.PinsConfig{Listen: "127.0.0.1:0", Name: name}
	p.cfg.P2P.AllowPrivate = true // everybody is on loopback
	pins := n.door(p, func() string { return p.inner("pins") })
	p.cfg.Pins.URL = "http://" + pins.public.addr()
	n.open(p)
	return p
}

// Author starts an author's node, to which the given hosts are added by URL and token.
func (n *Net) Author(name string, knows ...*Peer) *Peer {
	n.t.Helper()
	p := n.peer(name, nil)
	n.open(p)
	for _, h := range knows {
		p.Add(h)
	}
	return p
}

// Gateway starts a reader's gateway, which keeps a connection to the peers that it knows.
func (n *Net) Gateway(name string, knows ...*Peer) *Peer {
	n.t.Helper()
	p := n.peer(name, knows)
	p.cfg.Gateway.Listen = "127.0.0.1:0"
	n.open(p)
	return p
}

// Add lets an author use a host, as `token create` and `host add` do.
func (p *Peer) Add(host *Peer) {
	t := p.net.t
	t.Helper()
	var tok node.NewToken
	if err := host.Call("token create", node.Address{Address: p.Name}, &tok); err != nil {
		t.Fatalf("a token of %s: %v", host.Name, err)
	}
	req := author.HostRequest{Where: host.cfg.Pins.URL, Token: tok.Token, Labels: map[string]string{"operator": host.Name}}
	if err := p.Call("host add", req, nil); err != nil {
		t.Fatalf("%s adds host %s: %v", p.Name, host.Name, err)
	}
}

// peer prepares a node that listens behind a door, and links it with all others.
func (n *Net) peer(name string, knows []*Peer) *Peer {
	n.t.Helper()
	p := &Peer{Name: name, net: n}
	n.mu.Lock()
	n.peers = append(n.peers, p)
	for _, d := range n.doors {
		d.from[p] = n.link(d.where)
	}
	n.mu.Unlock()
	p2p := n.door(p, func() string { return p.inner("p2p") })
	host, port, err := net.SplitHostPort(p2p.public.addr())
	if err != nil {
		n.t.Fatal(err)
	}
	p.cfg = node.Config{
		Home: n.Dir(name), RuntimeDir: n.dir, Tool: "testnet", Log: n.log(name),
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			return n.dial(ctx, p, network, address)
		},
		P2P: node.P2PConfig{
			Listen:   []string{"/ip4/127.0.0.1/tcp/0"},
			Announce: []string{fmt.Sprintf("/ip4/%s/tcp/%s", host, port)},
		},
	}
	for _, k := range knows {
		p.cfg.Peers = append(p.cfg.Peers, k.Info().Addrs[0])
	}
	return p
}

func (n *Net) log(name string) *slog.Logger {
	h := slog.NewTextHandler(n.t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})
	return slog.New(h).With("node", name)
}

// open starts a new node for good: it ends with the net.
func (n *Net) open(p *Peer) {
	n.t.Helper()
	if n.Config != nil {
		n.Config(&p.cfg)
	}
	if err := p.start(); err != nil {
		n.t.Fatalf("%s: %v", p.Name, err)
	}
}

// door puts a listener of p behind links from all peers.
func (n *Net) door(p *Peer, where func() string) *door {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	d := &door{owner: p, where: where, public: n.link(where), from: make(map[*Peer]*link)}
	for _, other := range n.peers {
		if other != p {
			d.from[other] = n.link(where)
		}
	}
	n.doors[d.public.addr()] = d
	return d
}

// link is called with mu held.
func (n *Net) link(where func() string) *link {
	n.t.Helper()
	l, err := newLink(where, uint64(len(n.links)))
	if err != nil {
		n.t.Fatal(err)
	}
	n.links = append(n.links, l)
	return l
}

// dial takes a peer's connection to the link that leads from it to the address.
func (n *Net) dial(ctx context.Context, from *Peer, network, address string) (net.Conn, error) {
	n.mu.Lock()
	if d := n.doors[address]; d != nil {
		if l := d.from[from]; l != nil {
			address = l.addr()
		}
	}
	n.mu.Unlock()
	return (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, network, address)
}

// Everywhere is all links there are.
func (n *Net) Everywhere() Links { return n.choose(func(*Peer, *door) bool { return true }) }

// Between is the links that join two peers, both ways.
func (n *Net) Between(a, b *Peer) Links {
	return n.choose(func(from *Peer, d *door) bool {
		return from == a && d.owner == b || from == b && d.owner == a
	})
}

// To is the links over which a peer is reached, by peers and by everybody
// else. Those that it opened itself are not among them: to cut To is what a NAT does.
func (n *Net) To(p *Peer) Links {
	return n.choose(func(_ *Peer, d *door) bool { return d.owner == p })
}

// Around is all links of a peer, both ways.
func (n *Net) Around(p *Peer) Links {
	return n.choose(func(from *Peer, d *door) bool { return from == p || d.owner == p })
}

// choose is called with a nil peer for the links of those outside.
func (n *Net) choose(want func(from *Peer, d *door) bool) (chosen Links) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, d := range n.doors {
		if want(nil, d) {
			chosen = append(chosen, d.public)
		}
		for from, l := range d.from {
			if want(from, d) {
				chosen = append(chosen, l)
			}
		}
	}
	return chosen
}
