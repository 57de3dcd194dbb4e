package p2p

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

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

func TestPutRecordRefusesWhatIsNotValid(t *testing.T) {
	s, stranger := newSigner(t), newSigner(t)
	good := sign(t, s, 5, time.Hour)
	tampered := good.Bytes()
	tampered[len(tampered)-1] ^= 1
	for what, tc := range map[string]struct {
		raw    []byte
		status int
	}{
		"tampered":                {tampered, http.StatusBadRequest},
		"signed by somebody else": {sign(t, stranger, 5, time.Hour).Bytes(), http.StatusBadRequest},
		"expired":                 {sign(t, s, 5, -time.Hour).Bytes(), http.StatusBadRequest},
		"empty":                   {nil, http.StatusBadRequest},
		"junk":                    {[]byte("junk"), http.StatusBadRequest},
		"as large as allowed":     {make([]byte, naming.MaxRecordSize), http.StatusBadRequest},
		"one byte larger":         {make([]byte, naming.MaxRecordSize+1), http.StatusRequestEntityTooLarge},
		"much larger":             {make([]byte, 10<<20), http.StatusRequestEntityTooLarge},
		"good":                    {good.Bytes(), http.StatusOK},
	} {
		for kind, accept := range map[string]func(naming.Name) bool{"followed": all, "not followed": nil} {
			records := naming.NewMemoryRecords()
			var told int
			h := offlineRouting(t, records, RoutingOptions{Accept: accept, Accepted: func(naming.Record) { told++ }})
			status, body := putRecord(t, h, s.Name(), tc.raw)
			if status != tc.status || status != http.StatusOK && strings.TrimSpace(body) == "" {
				t.Errorf("%s, %s: %d %q, want %d", what, kind, status, body, tc.status)
			}
			if status != http.StatusOK {
				if got, _ := getRecord(t, h, s.Name()); got != http.StatusNotFound || told != 0 {
					t.Errorf("%s, %s: something was kept", what, kind)
				}
				continue
			}
			if got, raw := getRecord(t, h, s.Name()); got != http.StatusOK || !bytes.Equal(raw, tc.raw) {
				t.Errorf("%s, %s: got %d", what, kind, got)
			}
			_, err := records.Best(t.Context(), s.Name())
			if kept := err == nil; kept != (kind == "followed") || kept != (told == 1) {
				t.Errorf("%s, %s: kept for good: %t, told %d times", what, kind, kept, told)
			}
		}
	}
}

func TestPutRecordNeverGoesBack(t *testing.T) {
	for kind, accept := range map[string]func(naming.Name) bool{"followed": all, "not followed": nil} {
		s := newSigner(t)
		h := offlineRouting(t, naming.NewMemoryRecords(), RoutingOptions{Accept: accept})
		newer := sign(t, s, 7, time.Hour)
		for _, step := range []struct {
			rec    naming.Record
			status int
		}{{newer, 200}, {newer, 200}, {sign(t, s, 6, 2*time.Hour), 409}, {sign(t, s, 7, time.Minute), 409}} {
			if status, body := putRecord(t, h, s.Name(), step.rec.Bytes()); status != step.status {
				t.Errorf("%s: sequence %d got %d %s", kind, step.rec.Sequence(), status, body)
			}
		}
		if _, raw := getRecord(t, h, s.Name()); !bytes.Equal(raw, newer.Bytes()) {
			t.Errorf("%s: the newest is not served", kind)
		}
	}
}

func TestANameThatIsFollowedNoLongerKeepsItsFloor(t *testing.T) {
	s, records := newSigner(t), naming.NewMemoryRecords()
	if err := records.Accept(t.Context(), sign(t, s, 9, time.Hour)); err != nil {
		t.Fatal(err)
	}
	h := offlineRouting(t, records, RoutingOptions{})
	if status, _ := putRecord(t, h, s.Name(), sign(t, s, 8, time.Hour).Bytes()); status != http.StatusConflict {
		t.Errorf("got %d", status)
	}
}

func TestRecordsOfNamesThatNobodyFollowsAreBounded(t *testing.T) {
	const max = 4
	g := newGuests(max)
	var recs []naming.Record
	for range max + 1 {
		rec := sign(t, newSigner(t), 1, time.Hour)
		if err := g.accept(rec); err != nil {
			t.Fatal(err)
		}
		recs = append(recs, rec)
	}
	if g.order.Len() != max || len(g.byName) != max {
		t.Errorf("%d records in the list, %d by name", g.order.Len(), len(g.byName))
	}
	if _, ok := g.get(recs[0].Name()); ok {
		t.Error("the oldest was not forgotten")
	}
	if _, ok := g.get(recs[max].Name()); !ok {
		t.Error("the newest was forgotten")
	}
}

func TestGetRecordServesTheBestAndNeverAnExpiredOne(t *testing.T) {
	s, records := newSigner(t), naming.NewMemoryRecords()
	older, newer := sign(t, s, 1, 24*time.Hour), sign(t, s, 2, time.Hour)
	now := time.Now()
	var found naming.Record
	h := offlineRouting(t, records, RoutingOptions{
		Now: func() time.Time { return now },
		Lookup: func(context.Context, naming.Name) (naming.Record, error) {
			if found.IsZero() {
				return found, naming.ErrNotFound
			}
			return found, nil
		},
	})
	if status, _ := getRecord(t, h, s.Name()); status != http.StatusNotFound {
		t.Errorf("nothing is known: %d", status)
	}
	found = older
	if _, raw := getRecord(t, h, s.Name()); !bytes.Equal(raw, older.Bytes()) {
		t.Error("what the lookup found is not served")
	}
	if err := records.Accept(t.Context(), newer); err != nil {
		t.Fatal(err)
	}
	if _, raw := getRecord(t, h, s.Name()); !bytes.Equal(raw, newer.Bytes()) {
		t.Error("the newer of two is not served")
	}
	now = now.Add(2 * time.Hour)
	if status, body := getRecord(t, h, s.Name()); status != http.StatusNotFound {
		t.Errorf("after the newest has expired: %d, %d bytes", status, len(body))
	}
}

func TestARecordIsCachedForItsTTLAndNoLongerThanItLives(t *testing.T) {
	s, records := newSigner(t), naming.NewMemoryRecords()
	rec := sign(t, s, 1, time.Hour)
	if err := records.Accept(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	h := offlineRouting(t, records, RoutingOptions{Now: func() time.Time { return now }})
	path := "/routing/v1/ipns/" + s.Name().String()
	resp := request(t, h, http.MethodGet, path, nil)
	if got := resp.Header.Get("Cache-Control"); got != "public, max-age=60" || resp.Header.Get("Content-Type") != naming.MediaType {
		t.Errorf("headers %v", resp.Header)
	}
	if resp := request(t, h, http.MethodGet, path, nil, "If-None-Match", resp.Header.Get("Etag")); resp.StatusCode != http.StatusNotModified {
		t.Errorf("If-None-Match: %d", resp.StatusCode)
	}
	now = rec.ValidUntil().Add(-10 * time.Second)
	if got := request(t, h, http.MethodGet, path, nil).Header.Get("Cache-Control"); got != "public, max-age=10" {
		t.Errorf("10 s before the end: %q", got)
	}
}

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
		{"PUT", name, []string{"Content-Type", "text/plain"}, 415},
		{"PUT", name, nil, 415},
		{"POST", name, nil, 405},
		{"DELETE", name, nil, 405},
		{"OPTIONS", name, nil, 204},
		{"GET", "/routing/v1/providers/junk", nil, 400},
		{"GET", "/routing/v1/providers/" + makeDAG(t, 3, 1).root.String(), []string{"Accept", "text/html"}, 406},
		{"PUT", "/routing/v1/providers/" + makeDAG(t, 3, 1).root.String(), nil, 405},
		{"GET", "/routing/v1/peers/junk", nil, 400},
		{"GET", "/routing/v1/else", nil, 404},
	} {
		if resp := request(t, h, tc.method, tc.path, nil, tc.headers...); resp.StatusCode != tc.status {
			t.Errorf("%s %s %v: %d, want %d", tc.method, tc.path, tc.headers, resp.StatusCode, tc.status)
		}
	}
}

func TestNamingsClientSpeaksToTheHandler(t *testing.T) {
	s := newSigner(t)
	server := httptest.NewServer(offlineRouting(t, naming.NewMemoryRecords(), RoutingOptions{Accept: all}))
	defer server.Close()
	c := naming.NewRoutingClient("host", server.URL, server.Client())
	if _, err := c.Fetch(t.Context(), s.Name()); !errors.Is(err, naming.ErrNotFound) {
		t.Errorf("before: %v", err)
	}
	rec := sign(t, s, 2, time.Hour)
	if err := c.Put(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	if raw, err := c.Fetch(t.Context(), s.Name()); err != nil || !bytes.Equal(raw, rec.Bytes()) {
		t.Errorf("after: %v", err)
	}
	if err := c.Put(t.Context(), sign(t, s, 1, time.Hour)); !errors.Is(err, naming.ErrOlder) {
		t.Errorf("an older one: %v", err)
	}
}

func TestProvidersAndPeersAreFound(t *testing.T) {
	hub, holder := open(t), open(t)
	d := makeDAG(t, 3, 2)
	put(t, holder, d.blocks...)
	connect(t, holder, hub)
	if err := holder.Provide(deadline(t, 10*time.Second), d.root); err != nil {
		t.Fatal(err)
	}
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

func FuzzPutRecord(f *testing.F) {
	s := newSigner(f)
	good := sign(f, s, 5, time.Hour)
	f.Add(good.Bytes())
	f.Add([]byte{})
	f.Add(good.Bytes()[:100])
	h := offlineRouting(f, naming.NewMemoryRecords(), RoutingOptions{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		status, _ := putRecord(t, h, s.Name(), raw)
		if valid := bytes.Equal(raw, good.Bytes()); status == http.StatusOK && !valid {
			// Another encoding of the same signed data is a valid record too.
			if _, err := naming.OpenRecord(s.Name(), raw, time.Now()); err != nil {
				t.Errorf("%x was kept: %v", raw, err)
			}
		} else if status >= 500 {
			t.Errorf("%x: status %d", raw, status)
		}
	})
}
