package p2p

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	mh "github.com/multiformats/go-multihash"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
)

var rawPrefix = cid.Prefix{Version: 1, Codec: cid.Raw, MhType: mh.SHA2_256, MhLength: 32}

func newKey(t testing.TB) crypto.PrivKey {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// logBuffer is a log that a test can read.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// open makes a private node on loopback that ends with the test.
func open(t testing.TB, change ...func(*Config)) *Node {
	t.Helper()
	cfg := Config{
		Identity: newKey(t), Server: true, AllowPrivate: true,
		Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Store: blockstore.NewMemory(),
	}
	for _, f := range change {
		f(&cfg)
	}
	n, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return n
}

func info(t testing.TB, n *Node) peer.AddrInfo {
	t.Helper()
	ai, err := peer.AddrInfoFromString(n.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	return *ai
}

func connect(t testing.TB, from *Node, to ...*Node) {
	t.Helper()
	for _, n := range to {
		if err := from.Connect(t.Context(), []peer.AddrInfo{info(t, n)}); err != nil {
			t.Fatal(err)
		}
	}
}

// joined waits until a node that is connected is in the DHT too.
func joined(t testing.TB, n *Node) {
	t.Helper()
	eventually(t, "somebody is in the routing table", func() bool { return n.dht.RoutingTable().Size() > 0 })
}

// provide tells the DHT of a root.
func provide(t testing.TB, n *Node, root cid.Cid) {
	t.Helper()
	joined(t, n)
	if err := n.Provide(deadline(t, time.Minute), root); err != nil {
		t.Fatal(err)
	}
}

func serve(t testing.TB, n *Node) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
}

// deadline is a context for what a test waits for.
func deadline(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// eventually polls until the condition holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	ctx := deadline(t, time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

// dag is a folder-like DAG: a root with nodes of 100 leaves of 1 KiB each.
type dag struct {
	root   cid.Cid
	blocks []blockstore.Block
}

func (d dag) count() (c merkle.Count) {
	for _, b := range d.blocks {
		c.Blocks++
		c.Bytes += int64(b.Size())
	}
	return c
}

// makeDAG makes a DAG of about n blocks, different for each seed.
func makeDAG(t testing.TB, n int, seed uint64) (d dag) {
	t.Helper()
	node := func(children []blockstore.Block) blockstore.Block {
		pb := merkledag.NodeWithData([]byte{8, 1})
		pb.SetCidBuilder(merkledag.V1CidPrefix())
		for _, c := range children {
			if err := pb.AddRawLink("", ipldLink(c)); err != nil {
				t.Fatal(err)
			}
		}
		b, err := blockstore.BlockOf(pb)
		if err != nil {
			t.Fatal(err)
		}
		d.blocks = append(d.blocks, b)
		return b
	}
	var nodes []blockstore.Block
	for len(d.blocks) < n-1 {
		var leaves []blockstore.Block
		for len(leaves) < 100 && len(d.blocks) < n-2 {
			data := bytes.Repeat(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, seed), uint64(len(d.blocks))), 64)
			b, err := blockstore.NewBlock(rawPrefix, data)
			if err != nil {
				t.Fatal(err)
			}
			leaves = append(leaves, b)
			d.blocks = append(d.blocks, b)
		}
		nodes = append(nodes, node(leaves))
	}
	d.root = node(nodes).Cid()
	return d
}

// put keeps blocks in the node's store.
func put(t testing.TB, n *Node, blks ...blockstore.Block) {
	t.Helper()
	s := session(t, n)
	if _, err := s.Put(t.Context(), blks...); err != nil {
		t.Fatal(err)
	}
	for _, b := range blks {
		if err := s.Keep(t.Context(), "test", b.Cid(), func(yield func(cid.Cid) bool) { yield(b.Cid()) }); err != nil {
			t.Fatal(err)
		}
	}
}

func session(t testing.TB, n *Node) blockstore.Session {
	t.Helper()
	s, err := n.cfg.Store.Begin(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// has counts the blocks of d that the node has.
func has(t testing.TB, n *Node, d dag) (count int) {
	t.Helper()
	for _, b := range d.blocks {
		if _, err := n.cfg.Store.Get(t.Context(), b.Cid()); err == nil {
			count++
		}
	}
	return count
}

// serveCARs is the part of a trustless gateway that Fetch uses. change, if any,
// spoils what is sent.
func serveCARs(n *Node, change func([]byte) []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := cid.Decode(strings.TrimPrefix(r.URL.Path, "/ipfs/"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/vnd.ipld.car; version=1")
		if change == nil {
			if _, err := merkle.WriteCAR(r.Context(), n.cfg.Store, w, c, merkle.WalkOptions{}); err != nil {
				panic(http.ErrAbortHandler)
			}
			return
		}
		var b bytes.Buffer
		if _, err := merkle.WriteCAR(r.Context(), n.cfg.Store, &b, c, merkle.WalkOptions{}); err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Write(change(b.Bytes()))
	})
}

func withLog(l *logBuffer) func(*Config) {
	return func(c *Config) { c.Log = slog.New(slog.NewTextHandler(l, nil)) }
}

func multiaddrs(t testing.TB, texts ...string) (addrs []ma.Multiaddr) {
	t.Helper()
	for _, s := range texts {
		addrs = append(addrs, mustMultiaddr(t, s))
	}
	return addrs
}

func mustMultiaddr(t testing.TB, s string) ma.Multiaddr {
	t.Helper()
	a, err := ma.NewMultiaddr(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (d dag) roots() []cid.Cid { return []cid.Cid{d.root} }
