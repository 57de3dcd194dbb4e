package conformance

import (
	"testing"

	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"
)

// orders are the roots of the test vectors of IPIP-550
// (https://github.com/ipfs/specs/pull/550): one file in a folder and in a shard,
// each with the links of its block before the data and after.
var orders = []struct{ name, root string }{
	{"a folder, links first", "bafybeigdcg7pksx2zk5336vrfsktjodlr4rbfz37qr3koc5xboxe5ekv24"},
	{"a folder, data first", "bafybeigqvyloizmfcdy6scaxnyltftzptaruqa3hnnplfzsbf4sqteiwlm"},
	{"a shard, links first", "bafybeicjwkfslu7gwyywffvqgse5kiibojtktxcdqhgv7ldj5fjdacuceq"},
	{"a shard, data first", "bafybeicwgy2rlqmqqu3yy2tqvm2wbgdvy3snu4sbbv4wqpvpnoplpzxz74"},
}

func (f *fixtures) order(t *testing.T) {
	d := newDAG(t)
	file := entry{"hello.txt", d.raw("hello\n")}
	for _, n := range []node{d.folder(file), d.sharded(256, file)} {
		f.ordered = append(f.ordered, n, d.block(uint64(multicodec.DagPb), multihash.SHA2_256, dataFirst(t, d.blocks[n.cid])))
	}
	f.add("order", d, f.ordered[0])
}

// pathOrder reads blocks in either order of their fields, and wants each back as it is.
func (g *gateway) pathOrder(t *testing.T) {
	raw := []string{"Accept", "application/vnd.ipld.raw"}
	checks := []check{{name: "the block of the file", url: "/ipfs/" + g.hello.cid.String(), header: raw, status: 200, body: "hello\n"}}
	for i, o := range orders {
		n := g.ordered[i]
		if n.cid.String() != o.root {
			t.Errorf("%s: %s, want %s", o.name, n.cid, o.root)
		}
		checks = append(checks,
			check{name: "a file in " + o.name, url: "/ipfs/" + n.cid.String() + "/hello.txt", status: 200, body: "hello\n"},
			check{name: "the block of " + o.name, url: "/ipfs/" + n.cid.String(), header: raw, status: 200, body: string(g.block(t, n))})
	}
	g.runAll(t, checks)
}
