package gateway

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	carv2 "github.com/ipld/go-car/v2"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
)

// carBlocks reads a CAR: its roots and blocks in order.
func carBlocks(t *testing.T, body string) (roots, blocks []cid.Cid) {
	t.Helper()
	r, err := carv2.NewBlockReader(bytes.NewReader([]byte(body)))
	must(t, err)
	for {
		b, err := r.Next()
		if err == io.EOF {
			return r.Roots, blocks
		}
		must(t, err)
		blocks = append(blocks, b.Cid())
	}
}

func trustlessWorld(t *testing.T) *world {
	w := &world{t: t, store: blockstore.NewMemory()}
	w.addr = serve(t, NewTrustless(w.store, nil))
	w.client = clientTo(t, w.addr)
	return w
}

func TestTrustlessStreamsWholeDAGs(t *testing.T) {
	w := trustlessWorld(t)
	root := w.build(blog)
	report, err := merkle.Verify(t.Context(), w.store, root, merkle.WalkOptions{})
	must(t, err)
	url := "http://any.example/ipfs/" + root.String()
	for _, c := range []struct {
		url    string
		accept string
	}{
		{url + "?format=car", ""},
		{url + "?format=car&dag-scope=all&car-order=dfs&car-dups=n&car-version=1", ""},
		{url, "application/vnd.ipld.car"},
		{url, "application/vnd.ipld.car; version=1; order=dfs; dups=n"},
		{url + "/?format=car", ""},
	} {
		r := w.get(c.url, "Accept", c.accept)
		r.want(t, 200, "")
		r.wantHeader(t, "Content-Type", carContentType)
		roots, blocks := carBlocks(t, r.body)
		if len(roots) != 1 || !roots[0].Equals(root) || len(blocks) != len(report.CIDs) || !blocks[0].Equals(root) {
			t.Errorf("%s: roots %v, %d blocks, want %d", c.url, roots, len(blocks), len(report.CIDs))
		}
		for i, b := range blocks {
			if !b.Equals(report.CIDs[i]) {
				t.Fatalf("%s: block %d is %s, want %s: not depth first", c.url, i, b, report.CIDs[i])
			}
		}
		h := w.do(http.MethodHead, c.url, "Accept", c.accept)
		h.want(t, 200, "")
		w.get(c.url, "Accept", c.accept, "If-None-Match", r.Header.Get("Etag")).want(t, 304, "")
	}
}

func TestTrustlessServesBlocksAndPartsAndNothingElse(t *testing.T) {
	w := trustlessWorld(t)
	root := w.build(blog)
	url := "http://any.example/ipfs/" + root.String()
	block, err := w.store.Get(t.Context(), root)
	must(t, err)
	w.get(url+"?format=raw").want(t, 200, string(block.RawData()))
	w.get(url, "Accept", "application/vnd.ipld.raw").want(t, 200, string(block.RawData()))
	for _, part := range []string{"?format=car&dag-scope=block", "/docs/?format=car&dag-scope=entity", "/big.bin?format=car&dag-scope=entity&entity-bytes=0:10", "?format=car&car-dups=y"} {
		r := w.get(url + part)
		r.want(t, 200, "")
		carBlocks(t, r.body)
	}
	w.get(url).want(t, 406, "")
	w.get(url+"/index.html").want(t, 406, "")
	w.get(url+"?format=car&car-version=2").want(t, 400, "")
	w.get(url+"?format=tar").want(t, 406, "")
	w.get("http://any.example/").want(t, 404, "")
	w.get("http://any.example/ipns/x?format=ipns-record").want(t, 404, "")
	w.get("http://any.example/ipfs/nonsense?format=raw").want(t, 400, "")
	absent := "http://any.example/ipfs/bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"
	w.get(absent+"?format=raw").want(t, 404, "")
	w.get(absent+"?format=car").want(t, 404, "")
}

func TestRecordIsServedAsItWasSigned(t *testing.T) {
	w := newWorld(t, nil)
	name := w.publish("blog", w.build(blog))
	rec, err := w.records.Best(t.Context(), name)
	must(t, err)
	r := w.get("http://127.0.0.1/ipns/" + name.String() + "?format=ipns-record")
	r.want(t, 200, string(rec.Bytes()))
	r.wantHeader(t, "Content-Type", "application/vnd.ipfs.ipns-record")
	if !strings.HasPrefix(r.Header.Get("Cache-Control"), "public, max-age=") {
		t.Errorf("Cache-Control %q", r.Header.Get("Cache-Control"))
	}
}
