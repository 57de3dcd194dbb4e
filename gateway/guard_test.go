package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-sites/holdfast/blockstore"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// behindPeers is a gateway of which the store is what is here, and lossy what peers have.
func behindPeers(t *testing.T, change func(*Config)) (*world, *lossy) {
	peers := &lossy{}
	w := newWorld(t, func(c *Config) {
		c.Local, peers.Getter = c.Blocks, c.Blocks
		c.Blocks, c.TrustedProxies = peers, loopback
		if change != nil {
			change(c)
		}
	})
	return w, peers
}

// missingCID is one that nobody has.
func missingCID(t *testing.T, i int) cid.Cid {
	b, err := blockstore.NewBlock(cid.Prefix{Version: 1, Codec: cid.Raw, MhType: multihash.SHA2_256, MhLength: -1}, fmt.Append(nil, "missing ", i))
	must(t, err)
	return b.Cid()
}

func TestPresentContentIsServedWhileAThousandClientsAskForMissingCIDs(t *testing.T) {
	const crowd = 1000
	w, peers := behindPeers(t, func(c *Config) { c.MaxConcurrent, c.MaxRetrievals, c.RetrievalTimeout = 16, 64, time.Minute })
	w.publish("blog", w.build(blog))
	peers.happens = func(ctx context.Context, c cid.Cid) error {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var ended sync.WaitGroup
	turnedAway := make(chan bool, crowd)
	for i := range crowd {
		ended.Go(func() {
			missing := missingCID(t, i)
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1/ipfs/"+missing.String(), nil)
			req.Header.Set("X-Forwarded-For", fmt.Sprintf("198.18.%d.%d", i/250, i%250))
			if resp, err := w.client.Do(req); err == nil {
				resp.Body.Close()
				turnedAway <- resp.StatusCode == 503 && resp.Header.Get("Retry-After") == "1"
			}
		})
	}
	// 64 wait for peers, 4 * 64 for their turn; the rest can't be helped, and is told so.
	for range crowd - 5*64 {
		if !<-turnedAway {
			t.Fatal("a request that can't be helped now got something else than 503 with Retry-After")
		}
	}
	for _, path := range []string{"/", "/big.bin", "/docs/", "/nowhere"} {
		if r := w.get("http://blog.localhost" + path); r.StatusCode != 200 && path != "/nowhere" || r.StatusCode == 503 {
			t.Errorf("%s: %d", path, r.StatusCode)
		}
	}
	cancel()
	ended.Wait()
}

func TestARequestMayHaveSoMuchFetchedAndNoMore(t *testing.T) {
	var here blockstore.Store
	w, peers := behindPeers(t, func(c *Config) {
		here = c.Local.(blockstore.Store)
		c.Local, c.RetrievalBlocks, c.RetrievalBytes = blockstore.NewMemory(), 40, 2<<20
	})
	peers.Getter = here
	var big strings.Builder
	for i := range 400_000 {
		fmt.Fprintf(&big, "%07d\n", i)
	}
	root := w.build(map[string]string{"file.txt": "small", "big.bin": big.String()})
	w.get("http://127.0.0.1/ipfs/"+root.String()+"/file.txt").want(t, 200, "small")
	// The read-ahead may be past the budget before the first byte is sent, or after it.
	whole, err := w.try(http.MethodGet, "http://127.0.0.1/ipfs/"+root.String()+"/big.bin")
	if err == nil && whole.StatusCode != http.StatusTooManyRequests {
		t.Errorf("3.2 MB where 2 MiB may be fetched: %d, %d bytes", whole.StatusCode, len(whole.body))
	}
	w.get("http://127.0.0.1/ipfs/"+root.String()+"/big.bin", "Range", "bytes=3199990-").want(t, 206, big.String()[3199990:])
	seat := &seat{hall: newHall(1, 1)}
	seat.budget.blocks.Store(1)
	seat.budget.bytes.Store(1 << 20)
	ctx := withTrace(t.Context(), &trace{seat: seat})
	_, err = supply{here: blockstore.NewMemory(), others: here}.Get(ctx, root)
	must(t, err)
	_, err = supply{here: blockstore.NewMemory(), others: here}.Get(ctx, root)
	if kind := classify(ctx, err); !errors.Is(err, errBudget) || kind != KindLimited {
		t.Errorf("a second block where one may be fetched: %v (%s)", err, kind)
	}
}

func TestTheClientIsWhoTheLastTrustedProxySays(t *testing.T) {
	trusted := append(loopback, netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8"))
	for _, c := range []struct {
		remote, forwarded, want string
		trusted                 []netip.Prefix
	}{
		{"192.0.2.1:99", "", "192.0.2.1", trusted},
		{"192.0.2.1:99", "198.51.100.7", "192.0.2.1", trusted}, // from anyone
		{"10.0.0.1:99", "198.51.100.7", "10.0.0.1", nil},
		{"10.0.0.1:99", "198.51.100.7", "198.51.100.7", trusted},
		{"10.0.0.1:99", "6.6.6.6, 198.51.100.7", "198.51.100.7", trusted}, // the client wrote the first
		{"10.0.0.1:99", "6.6.6.6, 198.51.100.7,10.9.9.9 , fd00::1", "198.51.100.7", trusted},
		{"10.0.0.1:99", "6.6.6.6\n198.51.100.7", "198.51.100.7", trusted}, // in two headers
		{"10.0.0.1:99", "198.51.100.7, unknown", "10.0.0.1", trusted},     // nothing is known of who speaks there
		{"10.0.0.1:99", "10.1.1.1, 10.2.2.2", "10.1.1.1", trusted},        // all of them ours
		{"10.0.0.1:99", "198.51.100.7:1234", "198.51.100.7", trusted},     // with a port, as some write it
		{"10.0.0.1:99", "[2001:db8::1]:1234", "2001:db8::1", trusted},     //
		{"10.0.0.1:99", "[2001:db8::1]", "2001:db8::1", trusted},          //
		{"10.0.0.1:99", "::ffff:198.51.100.7", "198.51.100.7", trusted},   //
		{"[::ffff:10.0.0.1]:99", "198.51.100.7", "198.51.100.7", trusted}, //
		{"[fe80::1%eth0]:99", "", "fe80::1", trusted},                     //
		{"10.0.0.1:99", ",,,", "10.0.0.1", trusted},                       //
		{"@", "198.51.100.7", "invalid IP", trusted},                      // a unix socket
		{"10.0.0.1:99", strings.Repeat("10.1.1.1,", 9999), "10.0.0.1", trusted},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = c.remote
		for v := range strings.SplitSeq(c.forwarded, "\n") {
			if v != "" {
				r.Header.Add("X-Forwarded-For", v)
			}
		}
		if got := clientAddr(r, c.trusted).String(); got != c.want {
			t.Errorf("%s for %.60q: %s, want %s", c.remote, c.forwarded, got, c.want)
		}
	}
}

func FuzzForwardedForNeverNamesTheClientItself(f *testing.F) {
	for _, s := range []string{"", "1.2.3.4", "1.2.3.4, 10.0.0.1", "x, [::1]:1", ",", "10.0.0.1,10.0.0.2"} {
		f.Add(s)
	}
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	f.Fuzz(func(t *testing.T, said string) {
		r := &http.Request{RemoteAddr: "10.0.0.1:1", Header: http.Header{"X-Forwarded-For": {said + ", 192.0.2.9"}}}
		if got := clientAddr(r, trusted); got != netip.MustParseAddr("192.0.2.9") {
			t.Fatalf("a client behind a proxy says %q and passes for %s", said, got)
		}
		r.Header = http.Header{"X-Forwarded-For": {said}}
		if !clientAddr(r, trusted).IsValid() {
			t.Fatalf("nobody, for %q", said)
		}
	})
}

// from is a request of a client, without a network.
func from(h http.Handler, addr string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, "http://blog.localhost/", nil)
	r.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr(addr), 1).String()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec
}

func TestAClientThatAsksTooOftenIsToldWhenToComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := New(Config{Blocks: blockstore.NewMemory(), Clients: ClientLimits{Requests: .5, Burst: 3}})
		must(t, err)
		asks := func(addr string, want ...int) {
			t.Helper()
			for i, status := range want {
				if got := from(h, addr); got.Code != status {
					t.Errorf("request %d from %s: %d, want %d", i, addr, got.Code, status)
				}
			}
		}
		asks("2001:db8:0:1::1", 404, 404, 404, 429)
		asks("2001:db8:0:1::ffff", 429) // the same network, the same customer
		asks("2001:db8:0:2::1", 404)
		asks("198.51.100.7", 404, 404, 404, 429)
		asks("198.51.100.8", 404)
		asks("127.0.0.1", 404, 404, 404, 404, 404)
		if got := from(h, "198.51.100.7"); got.Header().Get("Retry-After") != "2" || !strings.Contains(got.Body.String(), "from your address") {
			t.Errorf("%v %s", got.Header(), got.Body)
		}
		time.Sleep(2 * time.Second)
		asks("198.51.100.7", 404, 429)
	})
}

func TestOnlyWhoIsOnThisMachineIsTakenForIt(t *testing.T) {
	var said bytes.Buffer
	routed := make(chan string, 1)
	routing := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { routed <- r.RemoteAddr })
	for _, c := range []struct {
		remote, header, value string
		trusted               []netip.Prefix
		limited, warns        bool
		routing               string
	}{
		{"127.0.0.1:5", "", "", nil, false, false, "127.0.0.1:5"},
		{"127.0.0.1:5", "", "", loopback, false, false, "127.0.0.1:5"},
		{"127.0.0.1:5", "X-Forwarded-For", "198.51.100.7", nil, true, true, "proxy"},
		{"[::1]:5", "Via", "1.1 proxy", nil, true, true, "proxy"},
		{"[::ffff:127.0.0.1]:5", "Forwarded", "for=198.51.100.7", nil, true, true, "proxy"},
		{"127.0.0.1:5", "X-Forwarded-For", "198.51.100.7", loopback, true, false, "198.51.100.7:0"},
		{"127.0.0.1:5", "X-Forwarded-For", "unknown", loopback, true, false, "proxy"},
		{"127.0.0.1:5", "X-Forwarded-For", "127.0.0.1", loopback, true, false, "proxy"}, // of the proxy's proxy
		{"198.51.100.7:5", "X-Forwarded-For", "127.0.0.1", loopback, true, false, "198.51.100.7:0"},
	} {
		said.Reset()
		h, err := New(Config{
			Blocks: blockstore.NewMemory(), Clients: ClientLimits{Requests: .01, Burst: 3}, TrustedProxies: c.trusted, Routing: routing,
			Sites: &knownSites{list: []Site{{Alias: "secret", Title: "SECRET"}}}, Log: slog.New(slog.NewTextHandler(&said, nil)),
		})
		must(t, err)
		ask := func(url string) *httptest.ResponseRecorder {
			r := httptest.NewRequest(http.MethodGet, url, nil)
			if r.RemoteAddr = c.remote; c.header != "" {
				r.Header.Set(c.header, c.value)
			}
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, r)
			return rec
		}
		if ask("http://localhost/routing/v1/providers/x"); <-routed != c.routing {
			t.Errorf("%+v: another remote was told to what is behind the gateway", c)
		}
		if shown := strings.Contains(ask("http://127.0.0.1/").Body.String(), "SECRET"); shown == c.limited {
			t.Errorf("%+v: the node's sites were shown: %v", c, shown)
		}
		ask("http://localhost/")
		if limited := ask("http://localhost/").Code == http.StatusTooManyRequests; limited != c.limited {
			t.Errorf("%+v: limited: %v", c, limited)
		}
		if n := strings.Count(said.String(), "trusted_proxies"); n > 1 || (n == 1) != c.warns {
			t.Errorf("%+v: warned %d times", c, n)
		}
	}
}

func TestAClientWaitsInOneLineWhicheverOfItsAddressesItUses(t *testing.T) {
	g, err := newGuard(Config{Metrics: prometheus.NewRegistry(), MaxConcurrent: 2, MaxRetrievals: 1, Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	sit := func(ctx context.Context, addr string) (visit, *Failure) {
		v := visit{g: g, addr: netip.MustParseAddr(addr)}
		pw, ctx, stop := pace(httptest.NewRecorder(), withTrace(ctx, &trace{}), time.Minute)
		defer stop()
		return v, v.sit(&transaction{w: pw, ctx: ctx})
	}
	for range 2 { // all the places there are
		first, _ := sit(t.Context(), "2001:db8::1")
		defer first.seat.leave()
	}
	ctx, cancel := context.WithCancel(t.Context())
	var ended sync.WaitGroup
	for _, addr := range []string{"2001:db8::2", "2001:db8::3"} {
		ended.Go(func() { _, _ = sit(ctx, addr) })
	}
	for n := 0; n < 2; _, n = g.hall.work.state() {
		runtime.Gosched()
	}
	g.hall.work.mu.Lock()
	lines := len(g.hall.work.lines)
	g.hall.work.mu.Unlock()
	if lines != 1 {
		t.Errorf("one network's addresses stand in %d lines", lines)
	}
	cancel()
	ended.Wait()
}

func TestAClientHasOnlySoManyRequestsOpen(t *testing.T) {
	w, peers := behindPeers(t, func(c *Config) { c.Clients.Concurrent = 2 })
	root := w.build(blog)
	w.publish("blog", root)
	arrived, release := make(chan bool), make(chan bool)
	peers.happens = func(context.Context, cid.Cid) error {
		arrived <- true
		<-release
		return blockstore.ErrUnavailable
	}
	var ended sync.WaitGroup
	missing := "http://127.0.0.1/ipfs/" + missingCID(t, 0).String()
	for range 2 {
		ended.Go(func() { _, _ = w.try(http.MethodGet, missing, "X-Forwarded-For", "198.51.100.7") })
		<-arrived
	}
	w.get("http://blog.localhost/", "X-Forwarded-For", "198.51.100.7").want(t, 429, "")
	w.get("http://blog.localhost/", "X-Forwarded-For", "198.51.100.8").want(t, 200, "")
	close(release)
	ended.Wait()
	w.get("http://blog.localhost/", "X-Forwarded-For", "198.51.100.7").want(t, 200, "")
}

func TestAClientGetsSoManyBytesASecondHoweverManyRequestsItMakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClients(ClientLimits{Bytes: 100_000})
		began := time.Now()
		var ended sync.WaitGroup
		for range 3 {
			ended.Go(func() {
				one, _ := c.arrive(anna)
				defer c.depart(one)
				w := &sipWriter{ResponseWriter: httptest.NewRecorder(), ctx: t.Context(), bytes: one.bytes}
				if n, err := w.Write(make([]byte, 200_000)); n != 200_000 || err != nil {
					t.Errorf("%d bytes, %v", n, err)
				}
			})
		}
		ended.Wait()
		// 600 KB, of which the first 100 KB may come at once; the clock is the test's own.
		if d := time.Since(began).Round(100 * time.Millisecond); d != 5*time.Second {
			t.Errorf("took %v", d)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		left := errors.New("left")
		cancel(left)
		one, _ := c.arrive(anna)
		w := &sipWriter{ResponseWriter: httptest.NewRecorder(), ctx: ctx, bytes: one.bytes}
		if _, err := w.Write(make([]byte, 200_000)); !errors.Is(err, left) {
			t.Errorf("a client that has left: %v", err)
		}
	})
}

func TestTheTableOfClientsIsBoundedAndACrowdShutsNobodyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClients(ClientLimits{Requests: 1, Burst: 2})
		c.max = 10
		addr := netip.MustParseAddr("198.18.0.0")
		var busy []*client
		for i := range 100 {
			addr = addr.Next()
			one, _ := c.arrive(addr)
			if one == nil {
				t.Fatalf("the first request of client %d was refused", i)
			}
			if i < 9 {
				busy = append(busy, one)
			} else {
				c.depart(one)
			}
		}
		if one, _ := c.arrive(anna); len(c.known) != 10 || one == c.others || one == nil {
			t.Errorf("%d are known; anna: %v", len(c.known), one)
		}
		for _, one := range busy {
			if c.known[netip.MustParseAddr("198.18.0.1")] != busy[0] || one.open != 1 {
				t.Error("one that is busy was forgotten")
			}
		}
		// Ten are busy: all others share one place.
		for i, want := range []bool{true, true, false} {
			if one, _ := c.arrive(addr.Next()); (one == c.others) != want {
				t.Errorf("request %d of the others: %v", i, one)
			}
		}
	})
}

func TestTheAccessLogSaysWhatAndNotWho(t *testing.T) {
	for format, want := range map[string]string{
		"":               `198.51.100.0 - - [TIME] "GET /style.css HTTP/1.1" 200 6`,
		"combined":       `198.51.100.0 - - [TIME] "GET /style.css HTTP/1.1" 200 6 "http://elsewhere.example/\"\x0a" "a\"b\x1b"`,
		"vhost_combined": `blog.localhost 2001:db8:1:: - - [TIME] "GET /style.css HTTP/1.1" 200 6 "-" "-"`,
		"full":           `2001:db8:1:2::3 - - [TIME] "GET /style.css HTTP/1.1" 200 6`,
	} {
		var out bytes.Buffer
		cfg := AccessLog{Out: &out, Format: format}
		if format == "full" {
			cfg.Format, cfg.FullAddresses = "common", true
		}
		must(t, CheckAccessFormat(cfg.Format))
		h, err := New(Config{Blocks: blockstore.NewMemory(), AccessLog: cfg})
		must(t, err)
		r := httptest.NewRequest(http.MethodGet, "http://blog.localhost/style.css?token=secret", nil)
		r.RemoteAddr = "198.51.100.7:80"
		if strings.Contains(want, "2001") {
			r.RemoteAddr = "[2001:db8:1:2::3]:80"
		}
		if format == "combined" {
			r.Header["Referer"], r.Header["User-Agent"] = []string{"http://elsewhere.example/\"\n?who=me"}, []string{"a\"b\x1b"}
		}
		h.ServeHTTP(httptest.NewRecorder(), r)
		got := regexp.MustCompile(`\[[^]]*\]`).ReplaceAllString(out.String(), "[TIME]")
		// Nobody has a site here: what counts is the line, not the answer.
		got = regexp.MustCompile(`" 404 \d+`).ReplaceAllString(got, `" 200 6`)
		if got != want+"\n" {
			t.Errorf("%s: %s, want %s", format, got, want)
		}
	}
	if err := CheckAccessFormat("json"); err == nil {
		t.Error("a format that nobody writes")
	}
}

func TestAnswersAreCounted(t *testing.T) {
	reg := prometheus.NewRegistry()
	w := newWorld(t, func(c *Config) { c.Metrics = reg })
	w.publish("blog", w.build(blog))
	w.get("http://blog.localhost/").want(t, 200, "")
	w.get("http://blog.localhost/").want(t, 200, "")
	w.get("http://nobody.localhost/").want(t, 404, "")
	w.get("http://blog.localhost/", "X-Forwarded-For", "1.2.3.4").want(t, 200, "")
	families, err := reg.Gather()
	must(t, err)
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "holdfast_gateway_requests_total" {
				got[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	if !maps.Equal(got, map[string]float64{"200": 3, "404": 1}) {
		t.Errorf("%v", got)
	}
}
