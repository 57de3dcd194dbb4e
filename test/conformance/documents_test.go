package conformance

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-unixfsnode/data"
	"github.com/ipfs/go-unixfsnode/data/builder"
	dagpb "github.com/ipld/go-codec-dagpb"
	"github.com/ipld/go-ipld-prime"
	"github.com/ipld/go-ipld-prime/codec/dagcbor"
	"github.com/ipld/go-ipld-prime/codec/dagjson"
	"github.com/ipld/go-ipld-prime/fluent/qp"
	cidlink "github.com/ipld/go-ipld-prime/linking/cid"
	"github.com/ipld/go-ipld-prime/node/basicnode"
	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"
)

// documents are blocks of JSON and CBOR, plain and with links.
func (f *fixtures) documents(t *testing.T) {
	d := newDAG(t)
	cbor, err := ipld.Encode(hello(t), dagcbor.Encode)
	must(t, err)
	f.plain = map[string]node{
		"json": d.block(uint64(multicodec.Json), multihash.SHA2_256, `{ "test": "plain json" }`),
		"cbor": d.block(uint64(multicodec.Cbor), multihash.SHA2_256, string(cbor)),
	}
	f.add("plain-json", d, f.plain["json"])
	f.add("plain-cbor", d, f.plain["cbor"])
	f.json = d.raw(`{"test": "JSON in a file"}`)
	f.add("json", d, f.json)

	f.walked, f.last = make(map[string]node), make(map[string]node)
	for format, encode := range map[string]ipld.Encoder{"json": dagjson.Encode, "cbor": dagcbor.Encode} {
		d := newDAG(t)
		codec := uint64(multicodec.DagJson)
		if format == "cbor" {
			codec = uint64(multicodec.DagCbor)
		}
		document := func(n ipld.Node) node {
			text, err := ipld.Encode(n, encode)
			must(t, err)
			return d.block(codec, multihash.SHA2_256, string(text))
		}
		f.last[format] = document(hello(t))
		middle := document(linkAt(t, f.last[format].cid, "bar"))
		f.walked[format] = document(linkAt(t, middle.cid, "foo", "link"))
		f.add("walked-"+format, d, f.walked[format])
	}

	d = newDAG(t)
	f.cborDoc = map[string]node{"single": d.raw("a file behind a link\n")}
	doc, err := ipld.Encode(linkAt(t, f.cborDoc["single"].cid, "files", "single"), dagcbor.Encode)
	must(t, err)
	f.cborDoc["document"] = d.block(uint64(multicodec.DagCbor), multihash.SHA2_256, string(doc))
	f.cborDoc["root"] = d.folder(entry{"document", f.cborDoc["document"]})
	f.add("cbor-document", d, f.cborDoc["root"])
}

func hello(t *testing.T) ipld.Node {
	t.Helper()
	n, err := qp.BuildMap(basicnode.Prototype.Any, -1, func(m ipld.MapAssembler) { qp.MapEntry(m, "hello", qp.String("this is not a link")) })
	must(t, err)
	return n
}

// linkAt is a document with one link, under the given keys.
func linkAt(t *testing.T, to cid.Cid, keys ...string) ipld.Node {
	t.Helper()
	value := qp.Link(cidlink.Link{Cid: to})
	for i := len(keys) - 1; i > 0; i-- {
		inner, key := value, keys[i]
		value = qp.Map(-1, func(m ipld.MapAssembler) { qp.MapEntry(m, key, inner) })
	}
	n, err := qp.BuildMap(basicnode.Prototype.Any, -1, func(m ipld.MapAssembler) { qp.MapEntry(m, keys[0], value) })
	must(t, err)
	return n
}

// pbFile is a file in one dag-pb block, which has a CIDv0 too.
func pbFile(d *dag, content string, more ...func(*builder.Builder)) (ipld.Link, uint64, error) {
	file, err := builder.BuildUnixFS(func(b *builder.Builder) {
		builder.DataType(b, data.Data_File)
		builder.Data(b, []byte(content))
		builder.FileSize(b, uint64(len(content)))
		for _, f := range more {
			f(b)
		}
	})
	if err != nil {
		return nil, 0, err
	}
	n, err := qp.BuildMap(dagpb.Type.PBNode, 2, func(m ipld.MapAssembler) {
		qp.MapEntry(m, "Links", qp.List(0, func(ipld.ListAssembler) {}))
		qp.MapEntry(m, "Data", qp.Bytes(data.EncodeUnixFSData(file)))
	})
	if err != nil {
		return nil, 0, err
	}
	link, err := d.links.Store(ipld.LinkContext{}, cidlink.LinkPrototype{Prefix: cid.Prefix{
		Version: 1, Codec: cid.DagProtobuf, MhType: multihash.SHA2_256, MhLength: 32}}, n)
	return link, uint64(len(content)), err
}

// pbLink is a link of a dag-pb block.
type pbLink struct {
	name string
	cid  cid.Cid
}

func pbLinks(t *testing.T, block []byte) (out []pbLink) {
	t.Helper()
	nb := dagpb.Type.PBNode.NewBuilder()
	must(t, dagpb.DecodeBytes(nb, block))
	links := nb.Build().(dagpb.PBNode).Links.Iterator()
	for !links.Done() {
		_, l := links.Next()
		out = append(out, pbLink{l.Name.Must().String(), l.Hash.Link().(cidlink.Link).Cid})
	}
	return out
}

// rules are sites with a _redirects file, good and bad.
func (f *fixtures) rules(t *testing.T) {
	d := newDAG(t)
	site := func(rules string, more ...entry) node {
		return d.folder(append([]entry{{"_redirects", d.file(rules)}}, more...)...)
	}
	page := func(name, text string) entry { return entry{name, d.file(text)} }
	f.redirect = map[string]node{
		"404.html": d.file("my 404\n"), "410.html": d.file("my 410\n"), "451.html": d.file("my 451\n"),
	}
	f.redirect["examples"] = site(`
/redirect-one /one.html
/301-redirect-one /one.html 301
/302-redirect-two /two.html 302
/200-index /index.html 200
/posts/:year/:month/:day/:title /articles/:year/:month/:day/:title 301
/splat/* /redirected-splat/:splat 301
/not-found/* /404.html 404
/gone/* /410.html 410
/unavail/* /451.html 451
/* /index.html 200
`, page("index.html", "my index\n"), page("one.html", "my one\n"), page("two.html", "my two\n"),
		entry{"404.html", f.redirect["404.html"]}, entry{"410.html", f.redirect["410.html"]}, entry{"451.html", f.redirect["451.html"]})
	f.redirect["spa.html"] = d.file("the application\n")
	f.redirect["spa"] = site("/* /index.html 200\n", entry{"index.html", f.redirect["spa.html"]})
	f.redirect["newlines"] = site("/redirect-one /one.html\r\n/redirect-two /two.html 302\r\n", page("one.html", "my one\n"))
	f.redirect["good-codes"] = site(goodCodes(), page("found.html", "my found\n"))
	f.redirect["bad-codes"] = site("/bad /found.html 999\n", page("found.html", "my found\n"))
	f.redirect["forced"] = site("/not-found* /index.html 200!\n", page("index.html", "my index\n"))
	f.redirect["too-large"] = site(strings.Repeat("# a line of a file that is far too long\n", 2000)+"/* /index.html 200\n", page("index.html", "my index\n"))
	var all []entry
	for _, name := range []string{"bad-codes", "examples", "forced", "good-codes", "newlines", "spa", "too-large"} {
		all = append(all, entry{name, f.redirect[name]})
	}
	f.add("redirects", d, d.folder(all...))
}

func goodCodes() string {
	var b strings.Builder
	for _, code := range []int{301, 302, 303, 307, 308} {
		fmt.Fprintf(&b, "/a%d /b%d %d\n", code, code, code)
	}
	return b.String()
}
