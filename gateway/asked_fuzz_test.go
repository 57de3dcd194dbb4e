package gateway

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-unixfsnode/data"
)

// FuzzWhatIsAskedFor asks for a small site with any path, query and Accept.
func FuzzWhatIsAskedFor(f *testing.F) {
	for _, s := range [][3]string{
		{"/index.html", "", "text/html"}, {"", "format=car", ""}, {"/", "format=car&dag-scope=entity&entity-bytes=0:*", "application/vnd.ipld.car; version=1; order=dfs; dups=y"},
		{"/a", "format=raw", "*/*"}, {"", "", "application/vnd.ipld.car;version=2,application/json;q=0.9"}, {"/a/../b", "filename=x&download=true", ""}, {"//x", "format=tar", ""},
		{"/%", "car-version=1&car-order=unk&car-dups=n", "application/vnd.ipld.raw"}, {"", "format=ipns-record", "application/vnd.ipld.dag-json"}, {"", "entity-bytes=-1:-9223372036854775808", "application/vnd.ipld.car"},
	} {
		f.Add(s[0], s[1], s[2])
	}
	blocks := handful{}
	page, err := blocks.put(cid.Raw, []byte("<h1>home</h1>"))
	if err != nil {
		f.Fatal(err)
	}
	root, err := blocks.put(cid.DagProtobuf, shardBlock(f, data.Data_Directory, 0, 0, nil, shardLink(f, "index.html", page)))
	if err != nil {
		f.Fatal(err)
	}
	h, err := New(Config{Blocks: blocks})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, path, query, accept string) {
		r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1/", nil)
		r.URL = &url.URL{Path: "/ipfs/" + root.String() + path, RawQuery: query}
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		if serveAborting(h, w, r); w.Code == http.StatusInternalServerError {
			t.Errorf("%q ? %q, Accept %q: %d %s", path, query, accept, w.Code, w.Body)
		}
	})
}
