package p2p

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/naming"
)

// offlineRouting serves the routing API of a node that holds these records.
func offlineRouting(t testing.TB, records naming.Records, opts RoutingOptions) http.Handler {
	t.Helper()
	return open(t, func(c *Config) { c.Network = Offline; c.Records = records }).RoutingHandler(opts)
}

func request(t testing.TB, h http.Handler, method, path string, body []byte, headers ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, bytes.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func putRecord(t testing.TB, h http.Handler, name naming.Name, raw []byte) (int, string) {
	t.Helper()
	resp := request(t, h, http.MethodPut, "/routing/v1/ipns/"+name.String(), raw, "Content-Type", naming.MediaType)
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func getRecord(t testing.TB, h http.Handler, name naming.Name) (int, []byte) {
	t.Helper()
	resp := request(t, h, http.MethodGet, "/routing/v1/ipns/"+name.String(), nil, "Accept", naming.MediaType)
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body
}

func all(naming.Name) bool { return true }

func TestRoutingRefusesMalformedRequests(t *testing.T) {
	h := offlineRouting(t, naming.NewMemoryRecords(), RoutingOptions{})
	name := "/routing/v1/ipns/" + newSigner(t).Name().String()
	for _, tc := range []struct {
		method, path string
		headers      []string
		status       int
	}{
		{"GET", "/routing/v1/ipns/junk", nil, 400},
		{"PUT", "/routing/v1/ipns/junk", nil, 400},
		{"GET", name, []string{"Accept", "text/html"}, 406},
		{"GET", name, []string{"Accept", "text/html, */*;q=0.1"}, 404},
		{"GET", name, []string{"Accept", "*/*;q=0"}, 406},
		{"PUT", name, []string{"Content-Type", "text/plain"}, 406},
		{"PUT", name, nil, 406},
		{"POST", name, nil, 501},
		{"DELETE", name, nil, 501},
		{"OPTIONS", name, nil, 204},
		{"GET", "/routing/v1/providers/junk", nil, 400},
		{"GET", "/routing/v1/providers/" + makeDAG(t, 3, 1).root.String(), []string{"Accept", "text/html"}, 406},
		{"PUT", "/routing/v1/providers/" + makeDAG(t, 3, 1).root.String(), nil, 501},
		{"PUT", "/routing/v1/providers", nil, 501},
		{"GET", "/routing/v1/peers/junk", nil, 400},
		{"GET", "/routing/v1/else", nil, 400},
	} {
		if resp := request(t, h, tc.method, tc.path, nil, tc.headers...); resp.StatusCode != tc.status {
			t.Errorf("%s %s %v: %d, want %d", tc.method, tc.path, tc.headers, resp.StatusCode, tc.status)
		}
	}
}

func TestProvidersAndPeersAreFound(t *testing.T) {
	hub, holder := open(t), open(t)
	d := makeDAG(t, 3, 2)
	put(t, holder, d.blocks...)
	connect(t, holder, hub)
	provide(t, holder, d.root)
	type peerRecord struct {
		Schema, ID string
		Addrs      []string
	}
	ask := func(n *Node, path, field string) []peerRecord {
		t.Helper()
		resp := request(t, n.RoutingHandler(RoutingOptions{}), http.MethodGet, path, nil)
		var got map[string][]peerRecord
		if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || resp.StatusCode != http.StatusOK || got[field] == nil {
			t.Fatalf("%s: %d, %v, %v", path, resp.StatusCode, got, err)
		}
		return got[field]
	}
	check := func(what string, got []peerRecord) {
		t.Helper()
		if len(got) != 1 || got[0].ID != holder.ID().String() || len(got[0].Addrs) == 0 || got[0].Schema != "peer" {
			t.Errorf("%s: %+v", what, got)
		}
	}
	check("through the DHT", ask(hub, "/routing/v1/providers/"+d.root.String(), "Providers"))
	check("by the holder", ask(holder, "/routing/v1/providers/"+d.root.String(), "Providers"))
	check("peer", ask(hub, "/routing/v1/peers/"+holder.ID().String(), "Peers"))
	if got := ask(hub, "/routing/v1/providers/"+d.root.String()+"?filter-protocols=transport-ipfs-gateway-http", "Providers"); len(got) != 0 {
		t.Errorf("filtered: %+v", got)
	}
	if got := ask(hub, "/routing/v1/providers/"+cid.NewCidV1(cid.Raw, d.blocks[0].Cid().Hash()).String(), "Providers"); len(got) != 0 {
		t.Errorf("not provided: %+v", got)
	}
	resp := request(t, hub.RoutingHandler(RoutingOptions{}), http.MethodGet, "/routing/v1/providers/"+d.root.String(), nil, "Accept", ndjsonType)
	var line peerRecord
	if err := json.NewDecoder(resp.Body).Decode(&line); err != nil || resp.Header.Get("Content-Type") != ndjsonType {
		t.Fatal(err, resp.Header)
	}
	check("NDJSON", []peerRecord{line})
}

func TestRoutingStreamsWhatItFindsAsItFindsIt(t *testing.T) {
	n := open(t, func(c *Config) { c.Network = Offline })
	h := &routingHandler{node: n, remotes: newRemotes(time.Now), lookups: make(chan struct{}, 1)}
	first := make(chan bool)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.answer(w, r, "Peers", func(_ context.Context, found func(peer.AddrInfo)) error {
			found(peer.AddrInfo{ID: n.ID()})
			<-first // the search goes on
			found(peer.AddrInfo{ID: n.ID()})
			return nil
		})
	}))
	defer srv.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", ndjsonType)
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for i := range 2 {
		if !lines.Scan() || !json.Valid(lines.Bytes()) {
			t.Errorf("line %d: %q, %v", i, lines.Text(), lines.Err())
		}
		if i == 0 {
			close(first)
		}
	}
	if lines.Scan() {
		t.Errorf("one more: %q", lines.Text())
	}
}
