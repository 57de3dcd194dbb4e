package conformance

import (
	"bytes"
	"io"
	"os"
	"slices"
	"testing"

	carv2 "github.com/ipld/go-car/v2"
	carstore "github.com/ipld/go-car/v2/storage"
	dagpb "github.com/ipld/go-codec-dagpb"
	"github.com/ipld/go-ipld-prime"
	cidlink "github.com/ipld/go-ipld-prime/linking/cid"
	"github.com/multiformats/go-multihash"

	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-unixfsnode/data/builder"
)

// dag is blocks of one fixture, in the order in which they were made. They are
// made by other people's code, so that the gateway does not judge its own.
type dag struct {
	t      *testing.T
	blocks map[cid.Cid][]byte
	order  []cid.Cid
	links  ipld.LinkSystem
}

func newDAG(t *testing.T) *dag {
	d := &dag{t: t, blocks: make(map[cid.Cid][]byte), links: cidlink.DefaultLinkSystem()}
	d.links.StorageWriteOpener = func(ipld.LinkContext) (io.Writer, ipld.BlockWriteCommitter, error) {
		var buf bytes.Buffer
		return &buf, func(l ipld.Link) error {
			d.keep(l.(cidlink.Link).Cid, buf.Bytes())
			return nil
		}, nil
	}
	return d
}

func (d *dag) keep(c cid.Cid, data []byte) {
	if _, ok := d.blocks[c]; !ok {
		d.order = append(d.order, c)
	}
	d.blocks[c] = data
}

// node is something that was built: its CID, and its size for a link to it.
type node struct {
	cid  cid.Cid
	size uint64
}

func (d *dag) built(l ipld.Link, size uint64, err error) node {
	d.t.Helper()
	must(d.t, err)
	return node{l.(cidlink.Link).Cid, size}
}

// block is one block of any codec and hash.
func (d *dag) block(codec, hash uint64, data string) node {
	d.t.Helper()
	c, err := cid.Prefix{Version: 1, Codec: codec, MhType: hash, MhLength: -1}.Sum([]byte(data))
	must(d.t, err)
	d.keep(c, []byte(data))
	return node{c, uint64(len(data))}
}

func (d *dag) raw(data string) node { return d.block(cid.Raw, multihash.SHA2_256, data) }

// file is cut into pieces of a kilobyte quarter: "size-256".
func (d *dag) file(data string) node {
	d.t.Helper()
	return d.built(builder.BuildUnixFSFile(bytes.NewReader([]byte(data)), "size-256", &d.links))
}

func (d *dag) symlink(to string) node {
	d.t.Helper()
	return d.built(builder.BuildUnixFSSymlink(to, &d.links))
}

// entry names a node in a folder.
type entry struct {
	name string
	node node
}

func (d *dag) entries(in []entry) []dagpb.PBLink {
	d.t.Helper()
	var out []dagpb.PBLink
	for _, e := range in {
		l, err := builder.BuildUnixFSDirectoryEntry(e.name, int64(e.node.size), cidlink.Link{Cid: e.node.cid})
		must(d.t, err)
		out = append(out, l)
	}
	return out
}

func (d *dag) folder(in ...entry) node {
	d.t.Helper()
	return d.built(builder.BuildUnixFSDirectory(d.entries(in), &d.links))
}

// sharded is a folder as a HAMT of the given width.
func (d *dag) sharded(width int, in ...entry) node {
	d.t.Helper()
	return d.built(builder.BuildUnixFSShardedDirectory(width, multihash.MURMUR3X64_64, d.entries(in), &d.links))
}

// writeCAR writes the blocks of fixtures to a file.
func writeCAR(t *testing.T, path string, all ...fixture) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	var roots []cid.Cid
	for _, x := range all {
		roots = append(roots, x.root)
	}
	w, err := carstore.NewWritable(f, roots, carv2.WriteAsCarV1(true))
	must(t, err)
	for _, x := range all {
		for _, c := range x.dag.order {
			if !slices.Contains(x.without, c) {
				must(t, w.Put(t.Context(), c.KeyString(), x.dag.blocks[c]))
			}
		}
	}
	must(t, w.Finalize())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
