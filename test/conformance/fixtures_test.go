package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"
	"google.golang.org/protobuf/encoding/protowire"
)

// fixtures is the content that the checks ask for, of the same shapes as the
// official suite's.
type fixtures struct {
	all []fixture

	listing  node            // ą/ę/file-źł.txt
	odd      node            // its file
	cache    map[string]node // root, root/root2, …: folders down to root4/index.html
	link     node            // foo, and bar that leads to it
	percent  node            // one file with an odd name
	tricky   node
	nested   node
	slashed  node   // a/b.txt, and a link that is called "a/b.txt"
	swapped  node   // a folder whose block has its data before its links
	ordered  []node // as orders has them
	mixed    map[string]node
	sharded  node
	shards   []cid.Cid // of sharded, its root first
	inShard  map[string]node
	ways     map[string][]cid.Cid // the shards from sharded's root to a file, without the root
	dups     map[string]node
	cborDoc  map[string]node
	missing  node // a file of three blocks, of which the second is nowhere
	pieces   []cid.Cid
	json     node            // a file of JSON, without a name
	plain    map[string]node // "json" and "cbor"
	walked   map[string]node // documents that lead to documents: foo/link/bar
	last     map[string]node // where that ends
	tarIn    node
	tarOut   node
	hello    node // raw
	helloPB  node // a file in one dag-pb block
	dated    node // page.html, that says when it was modified
	tooLong  node // a CID that fits no label
	dir      node
	redirect map[string]node
	keys     map[string]key
}

// fixture is one CAR.
type fixture struct {
	name    string
	dag     *dag
	root    cid.Cid
	without []cid.Cid
}

const (
	ascii      = "hello application/vnd.ipld.raw\n" // 31 bytes
	multiblock = 1026                               // bytes: four pieces of 256 and one of two
	oddText    = "I am a txt file on path with utf8\n"
	oddName    = "Portugal%2C+España=Peninsula Ibérica.txt"
)

func newFixtures(t *testing.T) *fixtures {
	f := &fixtures{}
	f.unixfs(t)
	f.names(t)
	f.trees(t)
	f.shard(t)
	f.documents(t)
	f.tars(t)
	f.subdomains(t)
	f.modified(t)
	f.order(t)
	f.rules(t)
	f.keys = newKeys(t, f)
	return f
}

func (f *fixtures) add(name string, d *dag, root node, without ...cid.Cid) {
	f.all = append(f.all, fixture{name, d, root.cid, without})
}

// cars writes all of them, those that are whole into one, and gives their paths.
func (f *fixtures) cars(t *testing.T, dir string) (paths []string) {
	must(t, os.MkdirAll(dir, 0o700))
	var whole []fixture
	for _, x := range f.all {
		if len(x.without) == 0 {
			whole = append(whole, x)
			continue
		}
		path := filepath.Join(dir, x.name+".car")
		writeCAR(t, path, x)
		paths = append(paths, path)
	}
	path := filepath.Join(dir, "whole.car")
	writeCAR(t, path, whole...)
	return append(paths, path)
}

// nsMap is the value of IPFS_NS_MAP.
func (f *fixtures) nsMap() string {
	links := map[string]string{
		"website.example.org":   "/ipfs/" + f.listing.cid.String(),
		"subpath.example.org":   "/ipfs/" + f.cache["root"].cid.String() + "/root2",
		"spa.example.org":       "/ipfs/" + f.redirect["spa"].cid.String(),
		"redirects.example.org": "/ipfs/" + f.redirect["examples"].cid.String(),
		"en.wikipedia-on.org":   "/ipfs/" + f.listing.cid.String(),
		"blog." + public:        "/ipfs/" + f.listing.cid.String(),
		"dnslink.example":       "/ipfs/" + f.hello.cid.String(),
		"named.example":         "/ipns/" + f.keys["cache"].name,
	}
	var parts []string
	for domain, path := range links {
		parts = append(parts, domain+":"+path)
	}
	return strings.Join(parts, ",")
}

func (f *fixtures) unixfs(t *testing.T) {
	d := newDAG(t)
	f.odd = d.file(oddText)
	f.listing = d.folder(entry{"ą", d.folder(entry{"ę", d.folder(entry{"file-źł.txt", f.odd})})})
	f.add("listing", d, f.listing)

	d = newDAG(t)
	f.cache = make(map[string]node)
	f.cache["index.html"] = d.file("hello\n")
	f.cache["root4"] = d.folder(entry{"index.html", f.cache["index.html"]})
	f.cache["root3"] = d.folder(entry{"root4", f.cache["root4"]})
	f.cache["root2"] = d.folder(entry{"root3", f.cache["root3"]})
	f.cache["root"] = d.folder(entry{"root2", f.cache["root2"]})
	f.add("cache", d, f.cache["root"])

	d = newDAG(t)
	f.link = d.folder(entry{"bar", d.symlink("foo")}, entry{"foo", d.file("content of foo\n")})
	f.add("symlink", d, f.link)

	d = newDAG(t)
	canonical := d.folder(entry{"a.txt", d.file("a\n")}, entry{"b.txt", d.file("b\n")})
	f.swapped = d.block(uint64(multicodec.DagPb), multihash.SHA2_256, dataFirst(t, d.blocks[canonical.cid]))
	f.add("swapped", d, f.swapped)
}

// dataFirst puts the data of a dag-pb node before its links, as no encoder does
// and every decoder has to understand.
func dataFirst(t *testing.T, block []byte) string {
	t.Helper()
	var links, data []byte
	for len(block) > 0 {
		number, _, n := protowire.ConsumeField(block)
		must(t, protowire.ParseError(n))
		if number == 1 {
			data = append(data, block[:n]...)
		} else {
			links = append(links, block[:n]...)
		}
		block = block[n:]
	}
	return string(data) + string(links)
}

func (f *fixtures) names(t *testing.T) {
	d := newDAG(t)
	f.percent = d.folder(entry{oddName, d.file("percent\n")})
	f.add("percent", d, f.percent)

	d = newDAG(t)
	f.tricky = d.folder(entry{"a#b?c.txt", d.file("delimiters\n")}, entry{"emoji🚀.txt", d.file("rocket\n")}, entry{"plain.txt", d.file("plain\n")})
	f.add("tricky", d, f.tricky)

	d = newDAG(t)
	f.nested = d.folder(entry{"sub dir", d.folder(entry{"file!'()*~.txt", d.file("nested\n")})})
	f.add("nested", d, f.nested)

	d = newDAG(t)
	f.slashed = d.folder(entry{"a", d.folder(entry{"b.txt", d.file("the nested file\n")})}, entry{"a/b.txt", d.file("the link with a slash\n")})
	f.add("slashed", d, f.slashed)
}

func (f *fixtures) trees(t *testing.T) {
	d := newDAG(t)
	f.mixed = map[string]node{"ascii.txt": d.raw(ascii), "hello.txt": d.raw("hello world\n"), "multiblock.txt": d.file(text(multiblock))}
	f.mixed["subdir"] = d.folder(entry{"ascii.txt", f.mixed["ascii.txt"]}, entry{"hello.txt", f.mixed["hello.txt"]}, entry{"multiblock.txt", f.mixed["multiblock.txt"]})
	f.mixed["root"] = d.folder(entry{"subdir", f.mixed["subdir"]})
	f.add("mixed", d, f.mixed["root"])
	for i := 0; i < multiblock; i += 256 {
		piece := d.raw(text(multiblock)[i:min(i+256, multiblock)])
		f.pieces = append(f.pieces, piece.cid)
	}

	d = newDAG(t)
	f.dups = map[string]node{"ascii.txt": d.raw(ascii), "hello.txt": d.raw("hello world\n"), "multiblock.txt": d.file(text(multiblock))}
	f.dups["root"] = d.folder(entry{"ascii-copy.txt", f.dups["ascii.txt"]}, entry{"ascii.txt", f.dups["ascii.txt"]},
		entry{"hello.txt", f.dups["hello.txt"]}, entry{"multiblock.txt", f.dups["multiblock.txt"]})
	f.add("dups", d, f.dups["root"])

	d = newDAG(t)
	f.missing = d.file(strings.Repeat("x", 256) + strings.Repeat("y", 256) + strings.Repeat("z", 256))
	f.add("missing", d, f.missing, d.raw(strings.Repeat("y", 256)).cid)
}

// text is n bytes, no two pieces of which are the same.
func text(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "line %d of the text\n", i)
	}
	return b.String()[:n]
}

func (f *fixtures) shard(t *testing.T) {
	d := newDAG(t)
	f.inShard, f.ways = make(map[string]node), make(map[string][]cid.Cid)
	var entries []entry
	for i := range 1000 {
		name := fmt.Sprintf("%d.txt", i)
		f.inShard[name] = d.file(text(300 + i))
		entries = append(entries, entry{name, f.inShard[name]})
	}
	f.sharded = d.sharded(256, entries...)
	f.shards = []cid.Cid{f.sharded.cid}
	f.walkShard(t, d, f.sharded.cid, nil)
	f.add("sharded", d, f.sharded)
}

// walkShard notes the shards, in the order of a walk, and the way to each file.
func (f *fixtures) walkShard(t *testing.T, d *dag, at cid.Cid, way []cid.Cid) {
	for _, l := range pbLinks(t, d.blocks[at]) {
		if len(l.name) > 2 { // two digits and the name of an entry
			f.ways[l.name[2:]] = way
			continue
		}
		f.shards = append(f.shards, l.cid)
		f.walkShard(t, d, l.cid, append(way[:len(way):len(way)], l.cid))
	}
}

func (f *fixtures) subdomains(t *testing.T) {
	d := newDAG(t)
	f.hello = d.raw("hello\n")
	f.helloPB = d.built(pbFile(d, "hello\n"))
	f.tooLong = d.block(cid.Raw, multihash.SHA2_512, "hello\n")
	f.dir = d.folder(
		entry{"api", d.folder(entry{"file.txt", d.file("I am a txt file\n")})},
		entry{"hello", f.hello},
		entry{"ipfs", d.folder(
			entry{"file.txt", d.file("I am a txt file\n")},
			entry{"ipns", d.folder(entry{"bar", d.file("text-file-content\n")})})})
	f.add("subdomains", d, f.dir)
}

func (f *fixtures) tars(t *testing.T) {
	d := newDAG(t)
	file := d.file("a file\n")
	f.tarIn = d.folder(entry{"foobar", d.folder(entry{"../foobar/file", file})})
	f.add("tar-inside", d, f.tarIn)
	f.tarOut = d.folder(entry{"foobar", d.folder(entry{"../../file", file})})
	f.add("tar-outside", d, f.tarOut)
}
