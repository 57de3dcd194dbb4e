package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	carv2 "github.com/ipld/go-car/v2"

	"github.com/ipfs/boxo/ipns"
	"github.com/ipfs/go-cid"
)

func (g *gateway) trustlessRaw(t *testing.T) {
	file, dir := g.mixed["ascii.txt"].cid.String(), g.mixed["subdir"].cid.String()
	block := string(g.block(t, g.mixed["subdir"]))
	accept := []string{"Accept", "application/vnd.ipld.raw"}
	headers := map[string]string{"Content-Type": "application/vnd.ipld.raw", "Content-Length": fmt.Sprint(len(ascii)), "Content-Disposition": `~^attachment;\s*filename=".*\.bin"`,
		"X-Content-Type-Options": "nosniff", "Etag": `~` + file + `\.raw`, "X-Ipfs-Path": legacy("/ipfs/" + file), "X-Ipfs-Roots": "~" + file, "Cache-Control": forever}
	g.runAll(t, []check{
		{name: "by format", url: "/ipfs/" + dir + "?format=raw", status: 200, body: block},
		{name: "by Accept", url: "/ipfs/" + dir, header: accept, status: 200, body: block},
		{name: "headers", url: "/ipfs/" + file, header: accept, status: 200, body: ascii, want: headers},
		{name: "HEAD", url: "/ipfs/" + file, method: http.MethodHead, header: accept, status: 200, want: headers},
		{name: "with a name", url: "/ipfs/" + file + "?filename=foobar.bin", header: accept, status: 200, want: map[string]string{"Content-Disposition": `~^attachment;\s*filename="foobar\.bin"`}},
		{name: "on a path", url: "/ipfs/" + g.mixed["root"].cid.String() + "/subdir?format=raw", status: 200, body: block},
		{name: "on a path by Accept", url: "/ipfs/" + g.mixed["root"].cid.String() + "/subdir", header: accept, status: 200, body: block},
		{name: "a range on a path", url: "/ipfs/" + g.mixed["root"].cid.String() + "/subdir", header: append(accept, "Range", "bytes=6-16"), status: 206, body: block[6:17],
			want: map[string]string{"Content-Type": "application/vnd.ipld.raw", "Content-Range": fmt.Sprintf("bytes 6-16/%d", len(block))}},
		{name: "headers on a path", url: "/ipfs/" + dir + "/ascii.txt", header: accept, status: 200, body: ascii, want: map[string]string{
			"Content-Type": "application/vnd.ipld.raw", "Content-Length": fmt.Sprint(len(ascii)), "Content-Disposition": "~^attachment;", "X-Content-Type-Options": "nosniff",
			"X-Ipfs-Path": legacy("/ipfs/" + dir + "/ascii.txt"), "X-Ipfs-Roots": dir + "," + file, "Cache-Control": forever, "Etag": `~.`}},
		{name: "with a name on a path", url: "/ipfs/" + dir + "/ascii.txt?filename=foobar.bin", header: accept, status: 200, want: map[string]string{"Content-Disposition": `~^attachment;\s*filename="foobar\.bin"`}},
		{name: "a range", url: "/ipfs/" + dir, header: append(accept, "Range", "bytes=6-16"), status: 206, body: block[6:17],
			want: map[string]string{"Content-Type": "application/vnd.ipld.raw", "Content-Range": fmt.Sprintf("bytes 6-16/%d", len(block))}},
		{name: "format counts before Accept", url: "/ipfs/" + dir + "?format=raw", header: []string{"Accept", "application/vnd.ipld.car"}, status: 200, body: block},
	})
	g.parts(t, "of a file's block", "/ipfs/"+file, "application/vnd.ipld.raw", ascii, accept...)
}

const carType = "application/vnd.ipld.car"

// carCheck is a CAR that is asked for, and the blocks that it has to hold.
type carCheck struct {
	name, path string
	query      string   // without format=car, unless there is an accept
	accept     string   // "": it is asked for twice, by format=car and by Accept
	want       []string // parts of the Content-Type
	blocks     []cid.Cid
	unordered  bool
}

func (g *gateway) trustlessCAR(t *testing.T) {
	root, sub, multi := g.mixed["root"].cid, g.mixed["subdir"].cid, g.mixed["multiblock.txt"].cid
	all := append([]cid.Cid{root, sub, g.mixed["ascii.txt"].cid, g.mixed["hello.txt"].cid, multi}, g.pieces...)
	whole := append([]cid.Cid{root, sub, multi}, g.pieces...)
	in := func(name string) []cid.Cid {
		return append(append([]cid.Cid{g.sharded.cid}, g.ways[name]...), g.inShard[name].cid)
	}
	doc := g.cborDoc
	for _, c := range []carCheck{
		{name: "a path through folders", path: root.String() + "/subdir/ascii.txt", blocks: []cid.Cid{root, sub, g.mixed["ascii.txt"].cid}},
		{name: "a path through a sharded folder", path: g.sharded.cid.String() + "/685.txt", blocks: append(in("685.txt"), pieces(g, "685.txt")...)},
		{name: "a path through a document", path: doc["document"].cid.String() + "/files/single", blocks: []cid.Cid{doc["document"].cid, doc["single"].cid}},
		{name: "block of a folder", path: root.String() + "/subdir", query: "dag-scope=block", blocks: []cid.Cid{root, sub}},
		{name: "block of a file", path: root.String() + "/subdir/multiblock.txt", query: "dag-scope=block", blocks: []cid.Cid{root, sub, multi}},
		{name: "block in a sharded folder", path: g.sharded.cid.String() + "/1.txt", query: "dag-scope=block", blocks: in("1.txt")},
		{name: "entity of a folder", path: root.String(), query: "dag-scope=entity", blocks: []cid.Cid{root}},
		{name: "entity of a sharded folder", path: g.sharded.cid.String(), query: "dag-scope=entity", blocks: g.shards},
		{name: "entity of a file", path: root.String() + "/subdir/ascii.txt", query: "dag-scope=entity", blocks: []cid.Cid{root, sub, g.mixed["ascii.txt"].cid}},
		{name: "entity of a file in pieces", path: root.String() + "/subdir/multiblock.txt", query: "dag-scope=entity", blocks: whole},
		{name: "entity of a document", path: doc["root"].cid.String() + "/document", query: "dag-scope=entity", blocks: []cid.Cid{doc["root"].cid, doc["document"].cid}},
		{name: "all of a folder", path: root.String() + "/subdir", query: "dag-scope=all", blocks: all},
		{name: "all of a file", path: root.String() + "/subdir/multiblock.txt", query: "dag-scope=all", blocks: whole},
		{name: "everything, whole", path: root.String(), blocks: all},
		{name: "bytes before a missing block", path: g.missing.cid.String(), query: "dag-scope=entity&entity-bytes=0:99", blocks: []cid.Cid{g.missing.cid, g.piece(t, "x")}},
		{name: "bytes after a missing block", path: g.missing.cid.String(), query: "dag-scope=entity&entity-bytes=520:*", blocks: []cid.Cid{g.missing.cid, g.piece(t, "z")}},
		{name: "all bytes", path: root.String() + "/subdir/multiblock.txt", query: "dag-scope=entity&entity-bytes=0:*", blocks: whole},
		{name: "bytes of a folder", path: g.sharded.cid.String(), query: "dag-scope=entity&entity-bytes=0:*", blocks: g.shards},
		{name: "bytes to the end", path: multi.String(), query: "dag-scope=entity&entity-bytes=512:*", blocks: append([]cid.Cid{multi}, g.pieces[2:]...)},
		{name: "bytes in the middle", path: multi.String(), query: "dag-scope=entity&entity-bytes=512:1023", blocks: append([]cid.Cid{multi}, g.pieces[2:4]...)},
		{name: "bytes to before the end", path: multi.String(), query: "dag-scope=entity&entity-bytes=512:-256", blocks: append([]cid.Cid{multi}, g.pieces[2:4]...)},
		{name: "the last bytes", path: multi.String(), query: "dag-scope=entity&entity-bytes=-5:*", blocks: append([]cid.Cid{multi}, g.pieces[3:]...)},
		{name: "more than the last bytes", path: multi.String(), query: "dag-scope=entity&entity-bytes=-9999:*", blocks: append([]cid.Cid{multi}, g.pieces...)},
		{name: "more than the last bytes, but for some", path: multi.String(), query: "dag-scope=entity&entity-bytes=-9999:-3", blocks: append([]cid.Cid{multi}, g.pieces[:4]...)},
		{name: "the first byte", path: multi.String(), query: "dag-scope=entity&entity-bytes=0:0", blocks: []cid.Cid{multi, g.pieces[0]}},
		{name: "with duplicates", path: g.dups["root"].cid.String(), accept: "application/vnd.ipld.car; version=1; order=dfs; dups=y", want: []string{"order=dfs", "dups=y"}, blocks: g.duplicates(2)},
		{name: "without duplicates", path: g.dups["root"].cid.String(), accept: "application/vnd.ipld.car; version=1; order=dfs; dups=n", want: []string{"order=dfs", "dups=n"}, blocks: g.duplicates(1)},
		{name: "in any order", path: g.dups["root"].cid.String(), accept: "application/vnd.ipld.car; version=1; order=unk", want: []string{"order="}, blocks: g.duplicates(1), unordered: true},
		{name: "an identity CID holds no block", path: "bafkqaf3imvwgy3zaneqgc3janfxgy2lomvscay3jmqfa", accept: "application/vnd.ipld.car; dups=y", want: []string{"dups=y"}},
		{name: "format leaves the parameters to Accept", path: g.dups["root"].cid.String(), query: "format=car", accept: "application/vnd.ipld.car; version=1; order=dfs; dups=y", want: []string{"dups=y"}, blocks: g.duplicates(2)},
		{name: "format leaves them to Accept among others", path: g.dups["root"].cid.String(), query: "format=car", accept: carType + "; version=1; order=dfs; dups=y, */*", want: []string{"dups=y"}, blocks: g.duplicates(2)},
		{name: "duplicates by query", path: g.dups["root"].cid.String(), query: "car-dups=y", want: []string{"dups=y"}, blocks: g.duplicates(2)},
		{name: "format counts before Accept", path: g.dups["root"].cid.String(), query: "format=car", accept: "application/vnd.ipld.raw", blocks: g.duplicates(1)},
		{name: "no duplicates by query counts before Accept", path: g.dups["root"].cid.String(), query: "car-dups=n", accept: carType + "; version=1; order=dfs; dups=y", want: []string{"dups=n"}, blocks: g.duplicates(1)},
		{name: "duplicates by query count before Accept", path: g.dups["root"].cid.String(), query: "format=car&car-dups=y", accept: carType + "; version=1; order=dfs; dups=n", want: []string{"dups=y"}, blocks: g.duplicates(2)},
		{name: "order by query counts before Accept", path: g.dups["root"].cid.String(), query: "car-order=dfs", accept: carType + "; order=unk", want: []string{"order=dfs"}, blocks: g.duplicates(1)},
		{name: "version by query counts before Accept", path: g.dups["root"].cid.String(), query: "car-version=1", accept: carType + "; version=2", want: []string{"version=1"}, blocks: g.duplicates(1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.accept != "" {
				g.car(t, c)
				return
			}
			byFormat, byAccept := c, c
			byFormat.query = strings.TrimPrefix(c.query+"&format=car", "&")
			byAccept.accept = carType
			t.Run("by format", func(t *testing.T) { g.car(t, byFormat) })
			t.Run("by Accept", func(t *testing.T) { g.car(t, byAccept) })
		})
	}
	id := g.dups["root"].cid.String()
	g.runAll(t, []check{
		{name: "headers", url: "/ipfs/" + id + "?format=car", status: 200, want: map[string]string{
			"Content-Type": "~^application/vnd.ipld.car; version=1", "Content-Disposition": `~^attachment; filename="` + id + `(_.*)?\.car"`, "X-Content-Type-Options": "nosniff",
			"Etag": `~^(W/)?"` + id + `\.car`, "Accept-Ranges": "none", "X-Ipfs-Path": legacy("/ipfs/" + id), "X-Ipfs-Roots": id, "Ipfs-Uri": "ipfs://" + id, "Cache-Control": forever}},
		{name: "HEAD", url: "/ipfs/" + id + "?format=car", method: http.MethodHead, status: 200, want: map[string]string{"Content-Type": "~^application/vnd.ipld.car"}},
		{name: "with a name", url: "/ipfs/" + id + "?format=car&filename=site.car", status: 200, want: map[string]string{"Content-Disposition": `~^attachment; filename="site.car"`}},
		{name: "a version that isn't", url: "/ipfs/" + id, header: []string{"Accept", "application/vnd.ipld.car; version=2"}, status: 400},
		{name: "a version by query that isn't", url: "/ipfs/" + id + "?car-version=2", header: []string{"Accept", carType + "; version=1"}, status: 400},
		{name: "a scope that isn't", url: "/ipfs/" + id + "?format=car&dag-scope=some", status: 400},
		{name: "bytes that aren't", url: "/ipfs/" + id + "?format=car&dag-scope=entity&entity-bytes=a:b", status: 400},
		{name: "a path that isn't", url: "/ipfs/" + root.String() + "/subdir/i-do-not-exist?format=car", status: 404},
		{name: "a path that isn't, by Accept", url: "/ipfs/" + root.String() + "/subdir/i-do-not-exist", header: []string{"Accept", carType}, status: 404},
	})
}

// piece is the block of one letter of the file that lacks a block.
func (g *gateway) piece(t *testing.T, letter string) cid.Cid {
	return newDAG(t).raw(strings.Repeat(letter, 256)).cid
}

// pieces are the blocks behind a file of the sharded folder.
func pieces(g *gateway, name string) (out []cid.Cid) {
	for _, x := range g.all {
		if block, ok := x.dag.blocks[g.inShard[name].cid]; ok && g.inShard[name].cid.Type() == cid.DagProtobuf {
			for _, l := range pbLinks(x.dag.t, block) {
				out = append(out, l.cid)
			}
			return out
		}
	}
	return nil
}

// duplicates are the blocks of the folder in which one file stands twice.
func (g *gateway) duplicates(times int) []cid.Cid {
	out := []cid.Cid{g.dups["root"].cid}
	for range times {
		out = append(out, g.dups["ascii.txt"].cid)
	}
	return append(append(out, g.dups["hello.txt"].cid, g.dups["multiblock.txt"].cid), g.pieces...)
}

// carHeaders are what every CAR says of itself, whatever is in it.
var carHeaders = map[string]string{
	"X-Content-Type-Options": "nosniff",
	"Accept-Ranges":          "none",
	"Content-Disposition":    `~^attachment; filename=".*\.car"`,
	"Etag":                   `~^(W/)?"[^"]+\.car[^"]*"$`,
}

func (g *gateway) car(t *testing.T, c carCheck) {
	var header []string
	if c.accept != "" {
		header = []string{"Accept", c.accept}
	}
	a := g.ask(t, http.MethodGet, strings.TrimSuffix("/ipfs/"+c.path+"?"+c.query, "?"), header...)
	if a.StatusCode != 200 {
		t.Fatalf("%s: %.500s", a.Status, a.body)
	}
	for key, want := range carHeaders {
		if got := a.Header.Get(key); !matches(got, want) {
			t.Errorf("%s: %q, want %s", key, got, want)
		}
	}
	for _, part := range append(c.want, carType) {
		if !strings.Contains(a.Header.Get("Content-Type"), part) {
			t.Errorf("Content-Type %q lacks %q", a.Header.Get("Content-Type"), part)
		}
	}
	got := readCAR(t, a.body)
	if c.unordered {
		byText := func(a, b cid.Cid) int { return strings.Compare(a.String(), b.String()) }
		slices.SortFunc(got, byText)
		got = slices.Compact(got)
		slices.SortFunc(c.blocks, byText)
	}
	if !slices.Equal(got, c.blocks) {
		t.Errorf("blocks\n%v, want\n%v", got, c.blocks)
	}
}

// readCAR gives the CIDs of its blocks, each of which has to match.
func readCAR(t *testing.T, raw []byte) (out []cid.Cid) {
	t.Helper()
	r, err := carv2.NewBlockReader(bytes.NewReader(raw))
	must(t, err)
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		must(t, err)
		if sum, err := b.Cid().Prefix().Sum(b.RawData()); err != nil || !sum.Equals(b.Cid()) {
			t.Errorf("block %s has other bytes", b.Cid())
		}
		out = append(out, b.Cid())
	}
}

func (g *gateway) trustlessIPNS(t *testing.T) {
	k := g.keys["hello"]
	want := map[string]string{"Content-Type": "~^application/vnd.ipfs.ipns-record", "Content-Disposition": "~^attachment;", "Cache-Control": "public, max-age=600", "Etag": `~^(W/)?"[^"]+"$`}
	for kind, name := range map[string]string{"both signatures": "hello", "version 2 only": "v2", "an RSA key": "rsa"} {
		k := g.keys[name]
		see := func(t *testing.T, a answer) { leadsTo(t, a, k, "/ipfs/"+g.hello.cid.String()) }
		g.runAll(t, []check{
			{name: kind + ", by format", url: "/ipns/" + k.name + "?format=ipns-record", status: 200, want: want, see: see},
			{name: kind + ", by Accept", url: "/ipns/" + k.name, header: []string{"Accept", "application/vnd.ipfs.ipns-record"}, status: 200, want: want, see: see},
		})
	}
	g.runAll(t, []check{
		{name: "its content", url: "/ipns/" + k.name, status: 200, body: "hello\n"},
		{name: "with a name", url: query("/ipns/"+k.name, "format", "ipns-record", "filename", "testтест.ipns-record"), status: 200,
			want: map[string]string{"Content-Disposition": `~attachment; filename="test____.ipns-record"; filename\*=UTF-8''test%D1%82%D0%B5%D1%81%D1%82.ipns-record`}},
		{name: "on a path below is refused", url: "/ipns/" + k.name + "/below?format=ipns-record", status: 400},
		{name: "a name without record", url: "/ipns/" + g.keys["unknown"].name + "?format=ipns-record", status: anyServerError},
	})
}

// leadsTo checks that the answer is k's record, byte for byte, and valid, and what it points to.
func leadsTo(t *testing.T, a answer, k key, to string) {
	t.Helper()
	if !bytes.Equal(a.body, k.record) {
		t.Errorf("%d bytes that aren't those of the record", len(a.body))
	}
	rec, err := ipns.UnmarshalRecord(a.body)
	must(t, err)
	name, err := ipns.NameFromString(k.name)
	must(t, err)
	must(t, ipns.ValidateWithName(rec, name))
	if v, err := rec.Value(); err != nil || v.String() != to {
		t.Errorf("value %v, %v, want %s", v, err, to)
	}
}

// trustlessOnly is a host that serves what a client can check, and nothing else.
func (g *gateway) trustlessOnly(t *testing.T) {
	id := "http://trustless.example/ipfs/" + g.dups["root"].cid.String()
	g.runAll(t, []check{
		{name: "a block", url: id + "?format=raw", status: 200},
		{name: "a CAR", url: id + "?format=car", status: 200},
		{name: "a record", url: "http://trustless.example/ipns/" + g.keys["hello"].name + "?format=ipns-record", status: 200},
		{name: "a page", url: id + "/ascii.txt", status: 406},
		{name: "a listing", url: id + "/", status: 406},
		{name: "a TAR", url: id + "?format=tar", status: 406},
		{name: "DAG-JSON", url: id + "?format=dag-json", status: 406},
		{name: "the content of a name", url: "http://trustless.example/ipns/" + g.keys["hello"].name, status: 406},
		{name: "no page of ours", url: "http://trustless.example/", status: 404},
	})
}
