package replicate

import (
	"context"
	"crypto/ed25519"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/ipld/go-ipld-prime/datamodel"
	"github.com/ipld/go-ipld-prime/fluent/qp"
	cidlink "github.com/ipld/go-ipld-prime/linking/cid"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	mh "github.com/multiformats/go-multihash"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/naming"
)

var updateFormats = flag.Bool("update-formats", false, "write the golden files of the formats anew")

// golden compares text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *updateFormats {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Fatalf("%s: a format has changed without a new version.\ngot:\n%s\nwant:\n%s", file, got, want)
	}
}

// keyNumber is a key that is the same in every run.
func keyNumber(n byte) crypto.PrivKey {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = n
	key, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(seed))
	if err != nil {
		panic(err)
	}
	return key
}

// ids are made once: tests of plans use many.
var ids = sync.OnceValue(func() (all [256]peer.ID) {
	for n := range all {
		id, err := peer.IDFromPrivateKey(keyNumber(byte(n)))
		if err != nil {
			panic(err)
		}
		all[n] = id
	}
	return all
})

func idNumber(n byte) peer.ID { return ids()[n] }

func siteNumber(n byte) naming.Name { return naming.NameOf(idNumber(n)) }

// blockMap is a store of a few blocks, of which some can be made to fail.
type blockMap struct {
	mu     sync.Mutex
	blocks map[cid.Cid]blockstore.Block
	broken map[cid.Cid]error
	// wait, where it is set, is called before each Get.
	wait func(ctx context.Context) error
}

func (m *blockMap) Get(ctx context.Context, c cid.Cid) (blockstore.Block, error) {
	m.mu.Lock()
	b, ok := m.blocks[c]
	err := m.broken[c]
	wait := m.wait
	m.mu.Unlock()
	if wait != nil {
		if err := wait(ctx); err != nil {
			return blockstore.Block{}, err
		}
	}
	if err != nil {
		return blockstore.Block{}, &blockstore.BlockError{CID: c, Kind: err}
	}
	if !ok {
		return blockstore.Block{}, &blockstore.BlockError{CID: c, Kind: blockstore.ErrNotFound}
	}
	return b, nil
}

func (m *blockMap) breakBlock(c cid.Cid, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broken[c] = err
}

// tree is two roots that share a leaf, and use one leaf twice:
//
//	first:  [ [a, b, a], c ]
//	second: [ b, d ]
type tree struct {
	first, second cid.Cid
	leaf          map[string]cid.Cid
	blocks        map[cid.Cid]blockstore.Block
}

func newTree(t testing.TB) tree {
	t.Helper()
	tr := tree{leaf: make(map[string]cid.Cid), blocks: make(map[cid.Cid]blockstore.Block)}
	put := func(codec uint64, data []byte) cid.Cid {
		b, err := blockstore.NewBlock(cid.Prefix{Version: 1, Codec: codec, MhType: mh.SHA2_256, MhLength: 32}, data)
		if err != nil {
			t.Fatal(err)
		}
		tr.blocks[b.Cid()] = b
		return b.Cid()
	}
	node := func(links ...cid.Cid) cid.Cid {
		raw, err := encodeMap(func(m datamodel.MapAssembler) {
			for i, l := range links {
				qp.MapEntry(m, fmt.Sprint(i), qp.Link(cidlink.Link{Cid: l}))
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		return put(cid.DagCBOR, raw)
	}
	for _, l := range []string{"a", "b", "c", "d"} {
		tr.leaf[l] = put(cid.Raw, []byte(strings.Repeat("leaf "+l, 1000)))
	}
	tr.first = node(node(tr.leaf["a"], tr.leaf["b"], tr.leaf["a"]), tr.leaf["c"])
	tr.second = node(tr.leaf["b"], tr.leaf["d"])
	return tr
}

func (tr tree) store() *blockMap {
	m := &blockMap{blocks: make(map[cid.Cid]blockstore.Block), broken: make(map[cid.Cid]error)}
	for c, b := range tr.blocks {
		m.blocks[c] = b
	}
	return m
}

// newHost is a libp2p host on loopback that ends with the test.
func newHost(t testing.TB, n byte) host.Host {
	t.Helper()
	h, err := libp2p.New(
		libp2p.Identity(keyNumber(n)),
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.DisableRelay(),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func introduce(to, who host.Host) {
	to.Peerstore().AddAddrs(who.ID(), who.Addrs(), peerstore.PermanentAddrTTL)
}

// testClock is a time that tests set.
type testClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *testClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *testClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

var testTime = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// auditScene is a verifier (key 1) and an honest prover (key 2) that has all
// of the tree and answers everybody but key 9.
type auditScene struct {
	tree
	site           naming.Name
	verifier       *Auditor
	verifierHost   host.Host
	proverHost     host.Host
	ours, theirs   *blockMap
	clock          *testClock // of both
	proverClock    *testClock
	held           map[cid.Cid]bool
	proverFinished chan struct{} // closed when its Serve has ended
	stopProver     context.CancelFunc
}

func newAuditScene(t *testing.T, change ...func(*AuditorConfig)) *auditScene {
	t.Helper()
	tr := newTree(t)
	s := &auditScene{
		tree: tr, site: siteNumber(100), ours: tr.store(), theirs: tr.store(),
		verifierHost: newHost(t, 1), proverHost: newHost(t, 2),
		clock: &testClock{now: testTime}, proverClock: &testClock{now: testTime},
		held:           map[cid.Cid]bool{tr.first: true, tr.second: true},
		proverFinished: make(chan struct{}),
	}
	introduce(s.verifierHost, s.proverHost)
	s.verifier = NewAuditor(AuditorConfig{
		Host: s.verifierHost, Key: keyNumber(1), Blocks: s.ours, Now: s.clock.Now, Timeout: 20 * time.Second,
	})
	cfg := AuditorConfig{
		Host: s.proverHost, Key: keyNumber(2), Blocks: s.theirs, Now: s.proverClock.Now,
		Holds: func(_ context.Context, root cid.Cid) (bool, error) { return s.held[root], nil },
		Allowed: func(_ context.Context, verifier peer.ID, site naming.Name, _ []cid.Cid) bool {
			return verifier != idNumber(9) && site == s.site
		},
	}
	for _, f := range change {
		f(&cfg)
	}
	serve(t, s, NewAuditor(cfg))
	return s
}

// serve runs the prover until the test ends, and waits until it listens.
func serve(t *testing.T, s *auditScene, prover *Auditor) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s.stopProver = cancel
	var serveErr error
	go func() {
		defer close(s.proverFinished)
		serveErr = prover.Serve(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-s.proverFinished
		if serveErr != nil {
			t.Error(serveErr)
		}
	})
	waitFor(t, "the prover listens", func() bool { return speaksAudit(s.proverHost) })
}

func speaksAudit(h host.Host) bool {
	for _, p := range h.Mux().Protocols() {
		if p == AuditProtocol {
			return true
		}
	}
	return false
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func (s *auditScene) audit(t *testing.T, roots ...cid.Cid) AuditResult {
	t.Helper()
	res, err := s.verifier.Audit(context.Background(), s.proverHost.ID(), s.site, roots)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func wantVerdict(t *testing.T, res AuditResult, want Verdict) {
	t.Helper()
	if res.Verdict != want {
		t.Fatalf("the verdict is %q (%s), want %q", res.Verdict, res.Detail, want)
	}
}
