package p2p

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
)

func TestRemotesAreCountedByPeerAddressAndCustomer(t *testing.T) {
	peer := namingtest.Signer(t, "peer").Name().Peer()
	for _, c := range []struct{ addr, want string }{
		{"192.0.2.7:1234", "192.0.2.7"},
		{"[::ffff:192.0.2.7]:1234", "192.0.2.7"},
		{"[2001:db8:1:2:3:4:5:6]:1234", "2001:db8:1:2::/64"},
		{"[2001:db8:1:2::9]:99", "2001:db8:1:2::/64"},
		{"[fe80::1%eth0]:99", "fe80::/64"},
		{"127.0.0.1:99", thisMachine},
		{"[::1]:99", thisMachine},
		{"junk", "junk"},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.RemoteAddr = c.addr
		if got := remoteOf(r); got != c.want {
			t.Errorf("%s counts as %s, want %s", c.addr, got, c.want)
		}
		r = r.WithContext(context.WithValue(r.Context(), remotePeerKey{}, peer))
		if got := remoteOf(r); got != peer.String() {
			t.Errorf("a peer counts as %s", got)
		}
	}
}

func TestWhoAsksTooMuchIsToldWhenToComeBackAndOthersAreServed(t *testing.T) {
	now := time.Now()
	h := offlineRouting(t, naming.NewMemoryRecords(), RoutingOptions{
		Now:    func() time.Time { return now },
		Lookup: func(context.Context, naming.Name) (naming.Record, error) { return naming.Record{}, naming.ErrNotFound },
	})
	rec := sign(t, newSigner(t), 1, time.Hour)
	path := "/routing/v1/ipns/" + rec.Name().String()
	unknown := "/routing/v1/ipns/" + newSigner(t).Name().String()
	ask := func(from, method, path string) *http.Response {
		r := httptest.NewRequestWithContext(t.Context(), method, path, bytes.NewReader(rec.Bytes()))
		r.RemoteAddr = from
		r.Header.Set("Content-Type", naming.MediaType)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Result()
	}
	for _, c := range []struct {
		what, method, path string
		burst, ok          int
	}{
		{"puts", http.MethodPut, path, strangersBurst, http.StatusOK},
		{"searches", http.MethodGet, unknown, lookupsBurst, http.StatusNotFound},
	} {
		for i := range c.burst {
			if resp := ask("192.0.2.1:99", c.method, c.path); resp.StatusCode != c.ok {
				t.Fatalf("%s: the %dth got %d", c.what, i+1, resp.StatusCode)
			}
		}
		if resp := ask("192.0.2.1:7", c.method, c.path); resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") != "1" {
			t.Errorf("%s: one too many got %d, Retry-After %q", c.what, resp.StatusCode, resp.Header.Get("Retry-After"))
		}
		if resp := ask("192.0.2.2:99", c.method, c.path); resp.StatusCode != c.ok {
			t.Errorf("%s: another remote got %d", c.what, resp.StatusCode)
		}
	}
	// What is here costs nothing to say.
	if resp := ask("192.0.2.1:99", http.MethodGet, path); resp.StatusCode != http.StatusOK {
		t.Errorf("a record that is here: %d", resp.StatusCode)
	}
	now = now.Add(time.Second)
	if resp := ask("192.0.2.1:99", http.MethodPut, path); resp.StatusCode != http.StatusOK {
		t.Errorf("a second later: %d", resp.StatusCode)
	}
}

func TestARelayMayPutThousandsOfFollowedNamesAtOnce(t *testing.T) {
	rs := newRemotes(time.Now)
	for i := range 2000 {
		if err := rs.mayPut("a", true); err != nil {
			t.Fatalf("the %dth: %v", i+1, err)
		}
	}
}

func TestTheRemotesRememberedAreBoundedAndABusyOneIsNotForgotten(t *testing.T) {
	now := time.Now()
	rs := newRemotes(func() time.Time { return now })
	for range lookupsBurst {
		if err := rs.mayLookUp("busy"); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 * maxRemotes {
		rs.of(fmt.Sprint(i))
		if i%maxRemotes == 0 {
			var wait *waitError
			if err := rs.mayLookUp("busy"); !errors.As(err, &wait) {
				t.Fatalf("forgotten after %d others: %v", i, err)
			}
		}
	}
	if n := len(rs.young) + len(rs.former); n > 2*maxRemotes {
		t.Errorf("%d remotes are remembered", n)
	}
}

func TestTooManySearchesOfAllAreRefusedAndWhatIsKnownIsServed(t *testing.T) {
	records := naming.NewMemoryRecords()
	rec := sign(t, newSigner(t), 1, time.Hour)
	if err := records.Accept(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	h := &routingHandler{
		node: open(t, func(c *Config) { c.Network = Offline; c.Records = records }), guests: newGuests(1), remotes: newRemotes(time.Now),
		lookups: make(chan struct{}), // all are taken
		opts: RoutingOptions{
			Accept: func(naming.Name) bool { return false }, Now: time.Now,
			Lookup: func(context.Context, naming.Name) (naming.Record, error) { t.Error("looked up"); return rec, nil },
		},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /routing/v1/ipns/{name}", h.getRecord)
	wantServed(t, "known", mux, rec)
	resp := request(t, mux, http.MethodGet, "/routing/v1/ipns/"+newSigner(t).Name().String(), nil)
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("unknown: %d, Retry-After %q", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
}

func TestARecordThatCanNotBeCheckedInTimeIsNoneOfTheRecordsFault(t *testing.T) {
	h := &routingHandler{
		node: open(t, func(c *Config) { c.Network = Offline }), guests: newGuests(1), remotes: newRemotes(time.Now),
		checks: make(chan struct{}), // all are taken
		opts:   RoutingOptions{Accept: all, Now: time.Now},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /routing/v1/ipns/{name}", h.putRecord)
	rec := sign(t, newSigner(t), 1, time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequestWithContext(ctx, http.MethodPut, "/routing/v1/ipns/"+rec.Name().String(), bytes.NewReader(rec.Bytes()))
	r.Header.Set("Content-Type", naming.MediaType)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("got %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
	}
}

func TestOneThatFloodsDisplacesOnlyItself(t *testing.T) {
	const max = 8
	g := newGuests(max)
	put := func(from string, rec naming.Record) naming.Record {
		t.Helper()
		if err := g.accept(rec, from); err != nil {
			t.Fatal(err)
		}
		return rec
	}
	fresh := func() naming.Record { return sign(t, newSigner(t), 1, time.Hour) }
	there := func(rec naming.Record) bool { _, ok := g.get(rec.Name()); return ok }

	var flood []naming.Record
	for range max {
		flood = append(flood, put("flood", fresh()))
	}
	ours := put("us", fresh())
	if there(flood[0]) || !there(flood[1]) {
		t.Error("the oldest of the flood should have made room")
	}
	put("flood", ours) // who floods puts our record, too
	for range 3 * max {
		flood = append(flood, put("flood", fresh()))
	}
	if !there(ours) {
		t.Error("the flood displaced somebody else's record")
	}
	put("us", flood[len(flood)-1]) // a site's own author comes after the flood had put its record
	for range 3 * max {
		put("flood", fresh())
	}
	if !there(flood[len(flood)-1]) {
		t.Error("a record that its author put again went with the flood")
	}
	if n := len(g.byName); n != max || g.count("us")+g.count("flood") != max || len(g.owners) != 2 {
		t.Errorf("%d records by name, %d + %d by remote", n, g.count("us"), g.count("flood"))
	}
}
