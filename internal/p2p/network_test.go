package p2p

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ds "github.com/ipfs/go-datastore"
	dsq "github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/naming"
)

// newSigner makes a name of its own.
func newSigner(t testing.TB) naming.Signer {
	t.Helper()
	ring, err := naming.OpenKeyring(filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ring.New("site"); err != nil {
		t.Fatal(err)
	}
	s, err := ring.Signer("site")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sign(t testing.TB, s naming.Signer, sequence uint64, life time.Duration) naming.Record {
	t.Helper()
	root, err := rawPrefix.Sum([]byte("site"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Sign(naming.Statement{Value: "/ipfs/" + root.String(), Sequence: sequence, ValidUntil: time.Now().Add(life)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestARecordPutByOneNodeIsFoundByAnother(t *testing.T) {
	one, two, three := open(t), open(t), open(t)
	reader := open(t, func(c *Config) { c.Server = false })
	for _, n := range []*Node{two, three, reader} {
		connect(t, n, one)
		joined(t, n)
	}
	s := newSigner(t)
	ctx := deadline(t, time.Minute)
	if _, err := reader.NameRouting().Fetch(ctx, s.Name()); !errors.Is(err, naming.ErrNotFound) {
		t.Fatalf("before the put: %v", err)
	}
	for sequence := range uint64(2) {
		rec := sign(t, s, sequence+1, time.Hour)
		if err := two.NameRouting().Put(ctx, rec); err != nil {
			t.Fatal(err)
		}
		for _, n := range []*Node{one, three, reader} {
			raw, err := n.NameRouting().Fetch(ctx, s.Name())
			if err != nil || !bytes.Equal(raw, rec.Bytes()) {
				t.Errorf("sequence %d: %v, right bytes %t", rec.Sequence(), err, bytes.Equal(raw, rec.Bytes()))
			}
		}
	}
}

func TestADHTWithoutPeersIsUnavailableAndNotEmpty(t *testing.T) {
	n, s := open(t), newSigner(t)
	if _, err := n.NameRouting().Fetch(deadline(t, time.Minute), s.Name()); err == nil || errors.Is(err, naming.ErrNotFound) {
		t.Errorf("fetch: %v", err)
	}
	if err := n.NameRouting().Put(deadline(t, time.Minute), sign(t, s, 1, time.Hour)); err == nil {
		t.Error("a put that nobody heard succeeded")
	}
}

func TestPreSharedKeysSeparateNetworks(t *testing.T) {
	psk := func(b byte) func(*Config) { return func(c *Config) { c.PSK = bytes.Repeat([]byte{b}, 32) } }
	one, same, other, none := open(t, psk(1)), open(t, psk(1)), open(t, psk(2)), open(t)
	connect(t, same, one)
	for what, n := range map[string]*Node{"another key": other, "no key": none} {
		if err := n.Connect(deadline(t, time.Second), []peer.AddrInfo{info(t, one)}); err == nil {
			t.Errorf("a node with %s connected", what)
		}
	}
}

func TestAPreSharedKeyRefusesQUIC(t *testing.T) {
	_, err := Open(t.Context(), Config{Identity: newKey(t), Store: blockstore.NewMemory(), PSK: make([]byte, 32),
		Listen: []string{"/ip4/127.0.0.1/udp/0/quic-v1"}})
	if !errors.Is(err, ErrConfig) {
		t.Errorf("got %v", err)
	}
}

func TestNodesTalkOverQUIC(t *testing.T) {
	udp := func(c *Config) { c.Listen = []string{"/ip4/127.0.0.1/udp/0/quic-v1"} }
	one, two := open(t, udp), open(t, udp)
	connect(t, one, two)
	one.SetHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "over quic") }))
	if body := getHTTP(t, two, peer.AddrInfo{ID: one.ID()}); body != "over quic" {
		t.Errorf("got %q", body)
	}
}

func getHTTP(t testing.TB, from *Node, to peer.AddrInfo) string {
	t.Helper()
	req, err := http.NewRequestWithContext(deadline(t, time.Minute), http.MethodGet, "http://peer/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := from.HTTPClient(to).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestHTTPKnowsWhichPeerAsks(t *testing.T) {
	server, client := open(t), open(t)
	server.SetHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, RemotePeer(r).String()) }))
	if got := getHTTP(t, client, info(t, server)); got != client.ID().String() {
		t.Errorf("the handler saw %s, not %s", got, client.ID())
	}
}

func TestHTTPTellsTheServerWhenTheClientGoesAway(t *testing.T) {
	server, client := open(t), open(t)
	ended := make(chan struct{})
	server.SetHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		for {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}))
	resp, err := client.HTTPClient(info(t, server)).Get("http://peer/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("the server still writes")
	}
}

func TestServeBringsALostPeerBack(t *testing.T) {
	key := newKey(t)
	host := open(t, func(c *Config) { c.Identity = key })
	port := mustMultiaddr(t, host.Addrs()[0])
	listen, _ := peer.SplitAddr(port)
	// The address is private and its owner named by the operator, who may.
	node := open(t, func(c *Config) { c.AllowPrivate = false; c.Peers = []string{port.String()} })
	serve(t, node)
	connected := func() bool { return node.Host().Network().Connectedness(host.ID()) == network.Connected }
	eventually(t, "the peer is connected", connected)
	if err := host.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the peer is gone", func() bool { return !connected() })
	open(t, func(c *Config) { c.Identity = key; c.Listen = []string{listen.String()} })
	eventually(t, "the peer is back", connected)
}

func TestOnlyTheNamedAddressOfATrustedPeerMayBePrivate(t *testing.T) {
	host := open(t)
	node := open(t, func(c *Config) { c.AllowPrivate = false })
	ai := info(t, host)
	node.Trust(peer.AddrInfo{ID: ai.ID, Addrs: []ma.Multiaddr{mustMultiaddr(t, "/ip4/127.0.0.1/tcp/1")}})
	if err := node.Connect(deadline(t, time.Minute), []peer.AddrInfo{ai}); err == nil {
		t.Fatal("another private address of a trusted peer was dialled")
	}
	node.Trust(ai)
	if err := node.Bootstrap(deadline(t, time.Minute)); err != nil {
		t.Error(err)
	}
}

func TestBootstrapSaysThatNobodyWasReached(t *testing.T) {
	gone := open(t)
	addr := gone.Addrs()[0]
	gone.Close()
	node := open(t, func(c *Config) { c.Peers = []string{addr} })
	if err := node.Bootstrap(deadline(t, time.Minute)); err == nil || !strings.Contains(err.Error(), gone.ID().String()) {
		t.Errorf("got %v", err)
	}
}

func TestAddrsCanBeDialledFromTheSameMachine(t *testing.T) {
	n := open(t, func(c *Config) { c.Listen = nil })
	addrs := n.Addrs()
	if len(addrs) == 0 || !strings.HasPrefix(addrs[0], "/ip4/127.0.0.1/tcp/") {
		t.Fatalf("the first of %q is not on loopback", addrs)
	}
	for _, a := range addrs {
		if !strings.HasSuffix(a, "/p2p/"+n.ID().String()) {
			t.Errorf("%s does not name the peer", a)
		}
	}
	connect(t, open(t), n)
}

// TestOfflineOpensNoSocket looks from a process of its own, where nobody else opens any.
func TestOfflineOpensNoSocket(t *testing.T) {
	if os.Getenv("P2P_TEST_OFFLINE") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestOfflineOpensNoSocket$")
		cmd.Env = append(os.Environ(), "P2P_TEST_OFFLINE=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	sockets := func() (n int) {
		fds, err := filepath.Glob("/proc/self/fd/*")
		if err != nil || len(fds) == 0 {
			t.Skip("no /proc here")
		}
		for _, fd := range fds {
			if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "socket:") {
				n++
			}
		}
		return n
	}
	before := sockets()
	n := open(t, func(c *Config) {
		c.Network = Offline
		c.Peers = []string{"/ip4/127.0.0.1/tcp/1/p2p/12D3KooWGRUoG1rVKgDKbQkS2pUoXSv8xgyHbCyGe7TpsoHoNk3V"}
	})
	serve(t, n)
	if _, err := n.HTTPClient(peer.AddrInfo{ID: n.ID()}).Get("http://peer/"); !errors.Is(err, ErrOffline) {
		t.Errorf("HTTP: %v", err)
	}
	for what, err := range map[string]error{
		"connect": n.Connect(t.Context(), []peer.AddrInfo{{ID: n.ID()}}), "provide": n.Provide(t.Context(), makeDAG(t, 3, 1).root),
		"bootstrap": n.Bootstrap(t.Context()),
	} {
		if !errors.Is(err, ErrOffline) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if n.NameRouting() != nil || n.Host() != nil || len(n.Addrs()) != 0 {
		t.Error("an offline node has a place in the network")
	}
	if after := sockets(); after != before {
		t.Errorf("%d sockets were opened", after-before)
	}
}

func TestTheStoreOfADHTServerIsBounded(t *testing.T) {
	const max = 100 << 10
	b := newBoundedStore(max)
	var last ds.Key
	for i := range 1000 {
		last = ds.NewKey(fmt.Sprint("k", i))
		if err := b.Put(t.Context(), last, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	res, err := b.Query(t.Context(), dsq.Query{})
	if err != nil {
		t.Fatal(err)
	}
	rest, err := res.Rest()
	if err != nil {
		t.Fatal(err)
	}
	if b.bytes > max || len(rest) > 100 || len(rest) < 50 {
		t.Errorf("%d entries, %d bytes", len(rest), b.bytes)
	}
	if ok, _ := b.Has(t.Context(), last); !ok {
		t.Error("the newest entry was forgotten")
	}
	for _, e := range rest {
		if err := b.Delete(t.Context(), ds.NewKey(e.Key)); err != nil {
			t.Fatal(err)
		}
	}
	if b.bytes != 0 || b.order.Len() != 0 {
		t.Errorf("%d bytes are left of nothing", b.bytes)
	}
}
