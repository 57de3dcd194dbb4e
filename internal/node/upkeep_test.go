package node_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/control"
	"github.com/holdfast-sites/holdfast/internal/node"
	"github.com/holdfast-sites/holdfast/internal/testnet"
)

// damage flips one bit of a block where it lies in a home's segments.
func damage(t *testing.T, home string, c cid.Cid) {
	t.Helper()
	if damageCopies(t, home, c) == 0 {
		t.Fatalf("%s is not in the segments of %s", c, home)
	}
}

// damageCopies flips one bit of each good copy of a block.
func damageCopies(t *testing.T, home string, c cid.Cid) (n int) {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(home, "blocks", "segments", "*.car"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range segments {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0) // the bit and no more: the node may be appending
		if err != nil {
			t.Fatal(err)
		}
		for at := dataOf(b, c); at >= 0; at = dataOf(b, c) {
			b[at] ^= 4
			n++
			if _, err := f.WriteAt(b[at:at+1], int64(at)); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// dataOf is where a block's bytes begin in a CAR; -1 where they aren't in it.
func dataOf(car []byte, c cid.Cid) int {
	hash := []byte(c.Hash())
	for from := 0; ; {
		i := bytes.Index(car[from:], hash)
		if i < 0 {
			return -1
		}
		data := from + i + len(hash)
		from += i + 1
		// It is the block's own where a section begins before it, and else a link.
		start := data - len(hash) - 2 // version and codec
		for n := 1; n <= binary.MaxVarintLen32 && n <= start; n++ {
			size, read := binary.Uvarint(car[start-n : start])
			size -= uint64(2 + len(hash))
			if read != n || size > uint64(len(car)-data) {
				continue
			}
			if _, err := blockstore.CheckBlock(c, car[data:data+int(size)]); err == nil {
				return data
			}
		}
	}
}

func rawCID(t *testing.T, b []byte) cid.Cid {
	t.Helper()
	c, err := cid.V1Builder{Codec: cid.Raw, MhType: mh.SHA2_256}.Sum(b)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// kept is a site that two hosts keep, both with a gateway.
type kept struct {
	net              *testnet.Net
	anna, alice, bob *testnet.Peer
	site             author.Published
	root             cid.Cid
	page             []byte // of big.bin, one block
}

func keepSite(t *testing.T) *kept {
	t.Helper()
	return keepSiteWithin(t, 0)
}

// keepSiteWithin is keepSite where nobody is waited for that sends nothing for so long; 0: the default.
func keepSiteWithin(t *testing.T, stall time.Duration) *kept {
	t.Helper()
	k := &kept{net: testnet.New(t), page: make([]byte, 300<<10)}
	k.net.Config = func(c *node.Config) {
		if c.Host {
			c.Gateway.Listen = "127.0.0.1:0"
		}
		c.Timeouts.Stall = node.Duration(stall)
	}
	_, _ = rand.NewChaCha8([32]byte{7}).Read(k.page)
	k.alice = k.net.Host("alice")
	k.bob = k.net.Host("bob", k.alice)
	k.anna = k.net.Author("anna", k.alice, k.bob)
	dir := k.net.Dir("site")
	for name, b := range map[string][]byte{"index.html": []byte("<h1>hello</h1>"), "big.bin": k.page, "small.txt": []byte("small")} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.anna.Call("publish", author.PublishRequest{Dir: dir, Alias: "blog"}, &k.site); err != nil {
		t.Fatal(err)
	}
	var err error
	if k.root, err = cid.Decode(k.site.Root); err != nil {
		t.Fatal(err)
	}
	return k
}

// reads checks that a host's gateway serves the large page.
func (k *kept) reads(t *testing.T, p *testnet.Peer, when string) {
	t.Helper()
	status, body, err := p.Read(t.Context(), k.site.Name+".ipns", "big.bin")
	if err != nil || status != 200 || !bytes.Equal(body, k.page) {
		t.Fatalf("%s: %s answers %d with %d bytes, %v", when, p.Name, status, len(body), err)
	}
}

func (k *kept) verify(t *testing.T, p *testnet.Peer, req node.VerifyRequest) (v node.Verified) {
	t.Helper()
	if err := p.Call("verify", req, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestStorageAFlippedBitIsNeverServedAndIsMendedFromAReplica(t *testing.T) {
	t.Parallel()
	k := keepSite(t)
	c := rawCID(t, k.page)
	damage(t, k.net.Dir("alice"), c)
	k.reads(t, k.alice, "while it runs")

	k.alice.Stop()
	damageCopies(t, k.net.Dir("alice"), c) // it may have been mended meanwhile
	k.alice.Restart()
	k.reads(t, k.alice, "after a restart")
	if v := k.verify(t, k.alice, node.VerifyRequest{Fix: true}); v.Left != 0 {
		t.Errorf("%+v", v)
	}
	k.bob.Stop()
	k.anna.Stop()
	k.alice.Restart()
	k.reads(t, k.alice, "alone")
}

func TestStorageVerifyNamesADamagedBlockAndFixBringsItFromTheOtherHost(t *testing.T) {
	t.Parallel()
	k := keepSite(t)
	c := rawCID(t, k.page)
	damage(t, k.net.Dir("alice"), c)
	damage(t, k.net.Dir("alice"), k.root)
	v := k.verify(t, k.alice, node.VerifyRequest{})
	if v.Left != 2 || v.Fixed != 0 || len(v.Damaged) != 2 {
		t.Fatalf("%+v", v)
	}
	names := map[string]bool{}
	for _, d := range v.Damaged {
		names[d.CID] = true
		if len(d.Needed) == 0 || d.Needed[0].Root != k.site.Root || !strings.Contains(d.Needed[0].For, "pin ") {
			t.Errorf("%s is needed by %+v", d.CID, d.Needed)
		}
	}
	if !names[c.String()] || !names[k.site.Root] {
		t.Errorf("named are %v", names)
	}
	k.anna.Stop() // who has it too
	if v := k.verify(t, k.alice, node.VerifyRequest{Fix: true}); v.Fixed != 2 || v.Left != 0 {
		t.Fatalf("fix: %+v", v)
	}
	if v := k.verify(t, k.alice, node.VerifyRequest{}); v.Left != 0 || len(v.Damaged) != 0 {
		t.Errorf("afterwards: %+v", v)
	}
	k.bob.Stop()
	k.reads(t, k.alice, "alone")
}

func TestAnAuditOfADamagedCopyIsPassedOnlyWithTheMendedBytes(t *testing.T) {
	t.Parallel()
	k := keepSite(t)
	damage(t, k.net.Dir("alice"), rawCID(t, k.page))
	var s node.Sites
	if err := k.anna.Call("status", author.StatusRequest{Check: true}, &s); err != nil {
		t.Fatal(err)
	}
	for _, h := range s.Sites[0].Hosts {
		if h.State != author.Proved {
			t.Errorf("%s: %s %s", h.Name, h.State, h.Error)
		}
	}
	if v := k.verify(t, k.alice, node.VerifyRequest{Restart: true}); v.Left != 0 {
		t.Errorf("it was not put back: %+v", v)
	}
}

// Row "corrupt pinned node, then GC": the root's node is damaged, and nobody has it.
func TestStorageCorruptPinnedNodeThenGCKeepsTheChildren(t *testing.T) {
	t.Parallel()
	k := keepSiteWithin(t, 3*time.Second) // the root is waited for in vain
	k.bob.Stop()
	k.anna.Stop()
	damage(t, k.net.Dir("alice"), k.root)
	v := k.verify(t, k.alice, node.VerifyRequest{Fix: true})
	if v.Left != 1 || len(v.Damaged) != 1 || v.Damaged[0].Fixed || v.Damaged[0].Why == "" || len(v.Advice) == 0 {
		t.Fatalf("%+v", v)
	}
	var freed node.Collected
	if err := k.alice.Call("gc", node.CollectRequest{}, &freed); err != nil {
		t.Fatal(err)
	}
	if freed.Blocks != 0 {
		t.Errorf("the collection took %d blocks", freed.Blocks)
	}
	// Once somebody has it again, all is well: the children were kept.
	k.bob.Restart()
	if v := k.verify(t, k.alice, node.VerifyRequest{Fix: true}); v.Left != 0 || v.Fixed != 1 {
		t.Errorf("%+v", v)
	}
	k.bob.Stop()
	k.reads(t, k.alice, "alone")
}

func TestStorageALostIndexIsMadeAnewAndNothingThatIsKeptIsCollected(t *testing.T) {
	t.Parallel()
	k := keepSite(t)
	k.alice.Stop()
	if err := os.RemoveAll(filepath.Join(k.net.Dir("alice"), "blocks", "index")); err != nil {
		t.Fatal(err)
	}
	cfg := node.Config{Home: k.net.Dir("alice"), Network: "offline"}
	if _, err := node.Open(t.Context(), cfg, node.Blocks, "test"); err == nil || !strings.Contains(err.Error(), "holdfast verify --fix") {
		t.Fatalf("a home without an index opens: %v", err)
	}
	if made, err := node.RebuildIndex(t.Context(), cfg, "test"); err != nil || made.Blocks == 0 || made.Roots == 0 {
		t.Fatalf("%+v, %v", made, err)
	}
	n := open(t, cfg, node.Blocks)
	if err := callIn(t, n, "gc", node.CollectRequest{}, nil); err == nil || !strings.Contains(err.Error(), "holdfast verify") {
		t.Errorf("a collection before anybody knows what is kept: %v", err)
	}
	var v node.Verified
	if err := callIn(t, n, "verify", node.VerifyRequest{Fix: true}, &v); err != nil {
		t.Fatal(err)
	}
	if v.Left != 0 || len(v.Unlisted) == 0 {
		t.Errorf("%+v", v)
	}
	var freed node.Collected
	if err := callIn(t, n, "gc", node.CollectRequest{}, &freed); err != nil || freed.Blocks != 0 {
		t.Errorf("%+v, %v", freed, err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	k.bob.Stop()
	k.anna.Stop()
	k.alice.Restart()
	k.reads(t, k.alice, "alone")
}

func callIn(t *testing.T, n *node.Node, method string, params, result any) error {
	t.Helper()
	return control.InProcess(n.Methods()).Call(t.Context(), method, params, result, nil)
}
