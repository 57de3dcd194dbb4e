package gateway

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// decoded is the body without its coding.
func (r reply) decoded(t *testing.T) string {
	t.Helper()
	var from io.Reader = strings.NewReader(r.body)
	switch c := r.Header.Get("Content-Encoding"); c {
	case "gzip":
		z, err := gzip.NewReader(from)
		must(t, err)
		from = z
	case "br":
		from = brotli.NewReader(from)
	case "zstd":
		z, err := zstd.NewReader(from)
		must(t, err)
		defer z.Close()
		from = z
	}
	b, err := io.ReadAll(from)
	must(t, err)
	return string(b)
}

var long = map[string]string{
	"index.html": strings.Repeat("<p>home</p>", 1000), "big.js": strings.Repeat("let a = 1;\n", 100_000), "huge.txt": strings.Repeat("0123456789abcdef", 300_000),
	"short.css": "body{}", "pic.png": strings.Repeat("not really a picture", 1000), "404.html": strings.Repeat("lost ", 1000),
	"app.js": strings.Repeat("let b = 2;\n", 1000), "app.js.br": "b-coded", "app.js.gz": "g-coded", "odd.js": strings.Repeat("let c = 3;\n", 1000), "odd.js.br/x": "a folder",
	"README": strings.Repeat("read me\n", 1000),
}

func TestTextIsSentInTheCodingThatTheClientTakes(t *testing.T) {
	w, forgetful := newWorld(t, nil), newWorld(t, func(c *Config) { c.ReadyBytes = -1 })
	w.publish("long", w.build(long))
	forgetful.publish("long", forgetful.build(long))
	seen := map[string]string{}
	for _, c := range []struct{ path, accept, coding string }{
		{"/", "", ""}, {"/", "gzip", "gzip"}, {"/", "br;q=0.5, gzip", "br"}, {"/", "gzip, deflate, br, zstd", "zstd"}, {"/", "zstd;q=0, br; q=0.0, gzip;q=0.1", "gzip"},
		{"/", "br;\tq=0, gzip;x=1;q=0, zstd;q=nan", ""}, {"/", "identity;q=0, br", "br"}, {"/", "identity, *;q=0", ""}, {"/big.js", "zstd", "zstd"}, {"/big.js", "br", "br"}, {"/short.css", "gzip", ""}, {"/pic.png", "gzip", ""}, {"/huge.txt", "gzip", ""}, {"/odd.js", "br", "br"}, {"/README", "br", "br"},
	} {
		file := strings.TrimPrefix(c.path, "/")
		if file == "" {
			file = "index.html"
		}
		for range 2 { // made, and kept
			r := w.get("http://long.localhost"+c.path, "Accept-Encoding", c.accept)
			if got := r.decoded(t); r.StatusCode != 200 || got != long[file] {
				t.Fatalf("%v: %d, %d bytes", c, r.StatusCode, len(got))
			}
			r.wantHeader(t, "Content-Encoding", c.coding)
			if r.ContentLength != int64(len(r.body)) {
				t.Errorf("%v: Content-Length %d of %d", c, r.ContentLength, len(r.body))
			}
			if v := r.Header.Get("Vary"); (v == "Accept-Encoding") != (len(long[file]) > 1024 && file != "pic.png") {
				t.Errorf("%v: Vary %q", c, v)
			}
			etag := r.Header.Get("Etag")
			if other, ok := seen[etag]; ok && other != c.path+c.coding {
				t.Errorf("%v has the tag of %s", c, other)
			}
			seen[etag] = c.path + c.coding
			for _, w := range []*world{w, forgetful} {
				again := w.get("http://long.localhost"+c.path, "Accept-Encoding", c.accept, "If-None-Match", etag)
				again.want(t, 304, "")
				again.wantHeader(t, "Etag", etag)
				if v := r.Header.Get("Vary"); v != "" { // where it is short, nothing is said with 200; there is no harm in saying it with 304
					again.wantHeader(t, "Vary", v)
				}
			}
			h := w.do(http.MethodHead, "http://long.localhost"+c.path, "Accept-Encoding", c.accept)
			h.wantHeader(t, "Content-Encoding", c.coding)
			h.wantHeader(t, "Etag", etag)
		}
	}
	r := w.get("http://long.localhost/no/such", "Accept-Encoding", "br")
	if r.StatusCode != 404 || r.decoded(t) != long["404.html"] || r.Header.Get("Content-Encoding") != "br" {
		t.Errorf("404 page: %d %q", r.StatusCode, r.Header)
	}
}

func TestPartsAreNeverCompressed(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("long", w.build(long))
	for _, path := range []string{"/big.js", "/app.js"} {
		r := w.get("http://long.localhost"+path, "Accept-Encoding", "gzip, br", "Range", "bytes=4-9")
		r.want(t, 206, long[path[1:]][4:10])
		r.wantHeader(t, "Content-Encoding", "")
	}
	// The tag of a compressed whole is not that of the plain one, of which parts are.
	whole := w.get("http://long.localhost/big.js", "Accept-Encoding", "gzip")
	w.get("http://long.localhost/big.js", "Range", "bytes=4-9", "If-Range", whole.Header.Get("Etag")).want(t, 200, long["big.js"])
}

func TestFileThatTheSiteCompressedItselfIsUsed(t *testing.T) {
	w := newWorld(t, nil)
	root := w.build(long)
	w.publish("long", root)
	for _, origin := range []string{"http://long.localhost", "http://" + root.String() + ".ipfs.localhost", "http://127.0.0.1/ipfs/" + root.String()} {
		for accept, want := range map[string]string{"gzip, br": "b-coded", "gzip": "g-coded", "": long["app.js"]} {
			r := w.get(origin+"/app.js", "Accept-Encoding", accept)
			r.want(t, 200, want)
			r.wantHeader(t, "Content-Type", "text/javascript; charset=utf-8")
			if vary := r.Header.Get("Vary"); strings.TrimPrefix(vary, "Accept, ") != "Accept-Encoding" {
				t.Errorf("Vary: %q", vary)
			}
			if uri := r.Header.Get("Ipfs-Uri"); strings.HasSuffix(uri, ".br") || strings.HasSuffix(uri, ".gz") {
				t.Errorf("%s", uri)
			}
			etag := r.Header.Get("Etag")
			again := w.get(origin+"/app.js", "Accept-Encoding", accept, "If-None-Match", etag)
			again.want(t, 304, "")
			again.wantHeader(t, "Etag", etag)
		}
		w.get(origin+"/app.js.br", "Accept-Encoding", "br").wantHeader(t, "Content-Encoding", "")
	}
}

func TestTrustlessAnswersAreNeverCompressed(t *testing.T) {
	w := newWorld(t, nil)
	root := w.build(map[string]string{"a.txt": strings.Repeat("text ", 1000)})
	for _, format := range []string{"raw", "car", "tar", "dag-json"} {
		r := w.get("http://127.0.0.1/ipfs/"+root.String()+"/a.txt?format="+format, "Accept-Encoding", "gzip, br, zstd")
		r.wantHeader(t, "Content-Encoding", "")
	}
}

func TestHalfOfATextIsNeverSentCompressed(t *testing.T) {
	w, g := countedWorld(t)
	var b strings.Builder
	for i := range 300_000 {
		fmt.Fprintln(&b, i)
	}
	w.publish("long", w.build(map[string]string{"long.txt": b.String()}))
	root, err := w.store.Get(t.Context(), w.fileOf("long.txt"))
	must(t, err)
	links, err := dagLinks(root)
	must(t, err)
	g.missing[links[len(links)-1]] = true
	r := w.get("http://long.localhost/long.txt", "Accept-Encoding", "zstd", "Accept", "application/json")
	if r.StatusCode != 504 || r.Header.Get("Content-Encoding") != "" || !strings.Contains(r.body, links[len(links)-1].String()) {
		t.Errorf("%d %v %.300s", r.StatusCode, r.Header, r.body)
	}
	clear(g.missing)
	if r := w.get("http://long.localhost/long.txt", "Accept-Encoding", "zstd"); r.StatusCode != 200 || r.decoded(t) != b.String() {
		t.Errorf("%d", r.StatusCode)
	}
}

// dagLinks are the CIDs that a dag-pb block links to.
func dagLinks(b blockstore.Block) ([]cid.Cid, error) {
	node, err := merkledag.DecodeProtobuf(b.RawData())
	if err != nil {
		return nil, err
	}
	var out []cid.Cid
	for _, l := range node.Links() {
		out = append(out, l.Cid)
	}
	return out, nil
}

func TestABusyPackerLeavesTheBodyAsItIs(t *testing.T) {
	p := newPacker()
	for range cap(p.workers) {
		p.workers <- struct{}{}
	}
	text := bytes.Repeat([]byte("text "), 1000)
	key := packedKey{etag: `"x"`, coding: codingGzip}
	if _, ok := p.pack(key, text); ok {
		t.Error("packed beyond its limit")
	}
	<-p.workers
	if packed, ok := p.pack(key, text); !ok || len(packed) > 500 {
		t.Errorf("%v, %d bytes", ok, len(packed))
	}
	if _, ok := p.done.GetIfPresent(key); !ok {
		t.Error("not kept")
	}
}

func TestWhatABusyPackerLeftIsPackedForTheNext(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("long", w.build(long))
	p := w.gateway().content.packer
	for name, busy := range map[string]func() (free func()){
		"workers": func() func() {
			for range cap(p.workers) {
				p.workers <- struct{}{}
			}
			return func() {
				for range cap(p.workers) {
					<-p.workers
				}
			}
		},
		"space": func() func() {
			must(t, p.space.Acquire(t.Context(), maxPacking))
			return func() { p.space.Release(maxPacking) }
		},
		"a range that does not count": func() func() {
			w.get("http://long.localhost/big.js", "Accept-Encoding", "gzip", "Range", "bytes=0-9", "If-Range", `"x-gzip"`).want(t, 200, "")
			w.get("http://long.localhost/big.js", "Accept-Encoding", "gzip", "Range", "bytes=0-9", "If-Range", `"x"`).want(t, 200, "")
			return func() {}
		},
	} {
		w.gateway().ready.answers.InvalidateAll()
		p.done.InvalidateAll()
		free := busy()
		w.get("http://long.localhost/big.js", "Accept-Encoding", "gzip").want(t, 200, "")
		free()
		w.get("http://long.localhost/big.js", "Accept-Encoding", "gzip").wantHeader(t, "Content-Encoding", "gzip")
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

func TestKeptStaysWithinItsBudget(t *testing.T) {
	const most = 20_000
	k := newKept(most, func(_ int, b []byte) int64 { return int64(len(b)) })
	for i := range 100 {
		k.Set(i%50, make([]byte, 900))
		if n := k.WeightedSize(); n > most || n == 0 {
			t.Fatalf("%d bytes", n)
		}
	}
	k.Set(1000, make([]byte, most))
	if _, ok := k.GetIfPresent(1000); ok {
		t.Error("one takes more than all there is")
	}
	if k.EstimatedSize() == 0 {
		t.Error("everything else is gone")
	}
}

func FuzzAcceptEncoding(f *testing.F) {
	for _, s := range []string{"gzip, deflate, br, zstd", "gzip;q=0", "br;q=1.0,*;q=0", ";;,,q=", "GZIP ; Q=0.5", "zstd;q=nan"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := acceptedCodings(http.Header{"Accept-Encoding": {s}})
		for _, c := range ownCodings {
			if got&c != 0 && !strings.Contains(strings.ToLower(s), c.String()) {
				t.Fatalf("%q allows %s", s, c)
			}
		}
	})
}
