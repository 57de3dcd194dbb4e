package gateway

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"
	carv2 "github.com/ipld/go-car/v2"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
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
	w.addr = serve(t, NewTrustless(w.store, nil, nil))
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

func TestCARParametersMeanWhatTheSpecificationSays(t *testing.T) {
	w := newWorld(t, nil)
	var big strings.Builder
	for i := range 500_000 {
		fmt.Fprintf(&big, "%08d", i) // 4 MB, four leaves
	}
	root := w.build(map[string]string{"big.bin": big.String(), "docs/a": "a", "docs/b": "a"})
	base := "http://127.0.0.1/ipfs/" + root.String()
	for ask, want := range map[string]int{ // blocks, or a status
		"": 8, "dag-scope=all": 8, "dag-scope=entity": 1, "dag-scope=block": 1, "dag-scope=": 400, "dag-scope=x": 400,
		"car-version=1": 8, "car-version=2": 400, "car-order=dfs": 8, "car-order=unk": 8, "car-order=x": 400,
		"car-dups=n": 8, "car-dups=y": 9, "car-dups=x": 400, "unknown=1": 8,
		"/big.bin?": 6, "/big.bin?dag-scope=block": 2, "/big.bin?dag-scope=entity": 6, "/docs?dag-scope=entity": 2, "/docs?": 3, "/docs?car-dups=y": 4,
		"/big.bin?entity-bytes=0:9": 3, "/big.bin?entity-bytes=-9:*": 3, "/big.bin?entity-bytes=0:*": 6, "/big.bin?entity-bytes=-9:-1": 3,
		"/big.bin?entity-bytes=0:-3999990": 3, "/big.bin?dag-scope=entity&entity-bytes=2000000:2000009": 3, "/big.bin?entity-bytes=99999999:*": 2,
		"/big.bin?entity-bytes=5:2": 400, "/big.bin?entity-bytes=x": 400, "/big.bin?entity-bytes=": 400, "/docs?entity-bytes=0:9": 2,
		"/nothing?": 404, "/nothing?dag-scope=block": 404,
	} {
		path, query, below := strings.Cut(ask, "?")
		if !below {
			path, query = "", ask
		}
		url := base + path + "?format=car&" + query
		r, head := w.get(url), w.do(http.MethodHead, url)
		if head.StatusCode != r.StatusCode || head.body != "" || head.Header.Get("Etag") != r.Header.Get("Etag") {
			t.Errorf("%s: HEAD %d %v, GET %d %v", ask, head.StatusCode, head.Header, r.StatusCode, r.Header)
		}
		if r.StatusCode != 200 {
			if r.StatusCode != want {
				t.Errorf("%s: %d, want %d", ask, r.StatusCode, want)
			}
			continue
		}
		if _, blocks := carBlocks(t, r.body); len(blocks) != want || !blocks[0].Equals(root) {
			t.Errorf("%s: %d blocks, want %d, the first %v", ask, len(blocks), want, blocks[0])
		}
		etag := r.Header.Get("Etag")
		if same := w.get(url, "If-None-Match", etag); !strings.HasPrefix(etag, `W/"`) || same.StatusCode != 304 || same.Header.Get("Etag") != etag {
			t.Errorf("%s: by its tag %s: %d", ask, etag, same.StatusCode)
		}
	}
}

// A client that lists what it can read says as much of CARs as one that names nothing else.
func TestACARAmongOtherTypesKeepsItsParameters(t *testing.T) {
	w := newWorld(t, nil)
	root := w.build(map[string]string{"a": "twice", "b": "twice"})
	url := "http://127.0.0.1/ipfs/" + root.String()
	const twice = "application/vnd.ipld.car; version=1; order=dfs; dups=y"
	for _, accept := range [][]string{
		{"Accept", twice},
		{"Accept", twice + ", */*"},
		{"Accept", "text/html, " + twice},
		{"Accept", "text/html", "Accept", twice},
		{"Accept", "application/vnd.ipld.CAR; dups=y"},
	} {
		for query, want := range map[string]int{"": 3, "?format=car": 3, "?car-dups=n": 2, "?format=car&car-dups=n": 2} {
			if _, blocks := carBlocks(t, w.get(url+query, accept...).body); len(blocks) != want {
				t.Errorf("%s %q: %d blocks, want %d", query, accept, len(blocks), want)
			}
		}
	}
	w.get(url+"?format=car", "Accept", "application/vnd.ipld.car; version=2, */*").want(t, 400, "")
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
	url, etag := "http://blog.localhost/?format=ipns-record", r.Header.Get("Etag")
	w.get(url).wantHeader(t, "Etag", etag)
	same := w.get(url, "If-None-Match", `"x", W/`+etag)
	same.want(t, 304, "")
	same.wantHeader(t, "Etag", etag)
	same.wantHeader(t, "Content-Type", "")
	if !strings.HasPrefix(same.Header.Get("Cache-Control"), "public, max-age=") {
		t.Errorf("a 304 with Cache-Control %q", same.Header.Get("Cache-Control"))
	}
	w.get(url, "If-None-Match", strings.Trim(etag, `"`)).want(t, 200, "")
	w.get(url, "Range", "bytes=0-9").want(t, 200, string(rec.Bytes()))
	if head := w.do(http.MethodHead, url); head.StatusCode != 200 || head.body != "" || head.ContentLength != int64(len(rec.Bytes())) {
		t.Errorf("HEAD: %d, %d bytes", head.StatusCode, head.ContentLength)
	}
	w.get("http://127.0.0.1/ipns/"+name.String()+"/below?format=ipns-record").want(t, 400, "")
}

func TestAnExpiredRecordIsNotServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys, err := naming.OpenKeyring(t.TempDir())
		must(t, err)
		_, err = keys.New("x")
		must(t, err)
		signer, err := keys.Signer("x")
		must(t, err)
		st, err := naming.Next(naming.Record{}, naming.Statement{Value: "/ipfs/" + missingCID(t, 1).String(), ValidUntil: time.Now().Add(time.Hour)})
		must(t, err)
		rec, err := signer.Sign(st)
		must(t, err)
		h, err := New(Config{Blocks: blockstore.NewMemory(), Names: agedNames{rec}})
		must(t, err)
		ask := func() *httptest.ResponseRecorder {
			out := httptest.NewRecorder()
			h.ServeHTTP(out, httptest.NewRequest(http.MethodGet, "http://127.0.0.1/ipns/"+signer.Name().String()+"?format=ipns-record", nil))
			return out
		}
		time.Sleep(time.Hour - 10*time.Second)
		if r := ask(); r.Code != 200 || r.Header().Get("Cache-Control") != "public, max-age=10" {
			t.Errorf("ten seconds before its end: %d, %s", r.Code, r.Header().Get("Cache-Control"))
		}
		time.Sleep(20 * time.Second)
		if r := ask(); r.Code != 502 || strings.Contains(r.Header().Get("Cache-Control"), "max-age") {
			t.Errorf("after its end: %d, %s", r.Code, r.Header().Get("Cache-Control"))
		}
	})
}

// agedNames knows one record, and gives it whatever has become of it.
type agedNames struct{ rec naming.Record }

func (f agedNames) Follow(context.Context, naming.Name) ([]naming.Resolution, cid.Cid, error) {
	root, _ := f.rec.Root()
	chain := []naming.Resolution{{Record: f.rec, Fresh: time.Minute}}
	if f.rec.Expired(time.Now()) {
		return chain, root, naming.ErrExpired
	}
	return chain, root, nil
}
