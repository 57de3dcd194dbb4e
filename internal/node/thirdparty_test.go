package node_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/control"
	"github.com/holdfast-sites/holdfast/internal/node"
	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/internal/testnet"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// elsewhere is an author with one host, and a pinning service of somebody else.
type elsewhere struct {
	t                *testing.T
	net              *testnet.Net
	anna, alice, bob *testnet.Peer // bob is what the service really is
	service          *httptest.Server
	token            string
	theirs           *replicate.Client // what the service would tell anna of her pins
}

// newElsewhere puts wrap, which may be nil, in front of a host that shows of itself nothing but the Pinning Service API.
func newElsewhere(t *testing.T, wrap func(http.Handler) http.Handler) *elsewhere {
	t.Helper()
	return newElsewhereWithin(t, 0, wrap)
}

// newElsewhereWithin is newElsewhere where a request may take patience; 0: the default.
func newElsewhereWithin(t *testing.T, patience time.Duration, wrap func(http.Handler) http.Handler) *elsewhere {
	t.Helper()
	e := &elsewhere{t: t, net: testnet.New(t)}
	e.net.Config = func(c *node.Config) {
		if c.Host {
			c.Gateway.Listen = "127.0.0.1:0"
		}
		c.Timeouts.Request = node.Duration(patience)
	}
	e.alice = e.net.Host("alice")
	e.bob = e.net.Host("bob", e.alice)
	e.anna = e.net.Author("anna", e.alice)
	h := plainService(t, e.bob.Info().Pins)
	if wrap != nil {
		h = wrap(h)
	}
	e.service = httptest.NewServer(h)
	t.Cleanup(e.service.Close)
	var tok node.NewToken
	e.call(e.bob, "token create", map[string]string{"address": "anna", "label": "anna"}, &tok)
	e.token = tok.Token
	e.theirs = replicate.NewClient(e.bob.Info().Pins, e.token, nil)
	return e
}

func (e *elsewhere) call(p *testnet.Peer, method string, params, result any) {
	e.t.Helper()
	if err := p.Call(method, params, result); err != nil {
		e.t.Fatalf("%s: %v", method, err)
	}
}

// plainService hides of a host whatever is not the specification's: other paths, and its info.
func plainService(t *testing.T, base string) http.Handler {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(u)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/pins" && !strings.HasPrefix(r.URL.Path, "/pins/") {
			http.NotFound(w, r)
			return
		}
		proxy.ServeHTTP(w, r)
	})
}

// add makes it one of anna's hosts.
func (e *elsewhere) add(gateways ...string) (info author.HostInfo) {
	e.t.Helper()
	e.call(e.anna, "host add", author.HostRequest{Where: e.service.URL, Token: e.token, Name: "cloud", Pinning: true, Gateways: gateways}, &info)
	return info
}

func (e *elsewhere) publish(page string) (p author.Published) {
	e.t.Helper()
	dir, copies := e.net.Dir("site"), 1
	if err := os.WriteFile(filepath.Join(dir, "index.html"), []byte(page), 0o644); err != nil {
		e.t.Fatal(err)
	}
	e.call(e.anna, "publish", author.PublishRequest{Dir: dir, Alias: "blog", Copies: &copies}, &p)
	return p
}

// pinned is the roots that the service has pinned, newest first.
func (e *elsewhere) pinned() (roots []string) {
	e.t.Helper()
	for st, err := range e.theirs.All(e.t.Context(), replicate.Query{Name: "holdfast blog", Status: []replicate.Status{replicate.Queued, replicate.Pinning, replicate.Pinned, replicate.Failed}}) {
		if err != nil {
			e.t.Fatal(err)
		}
		roots = append(roots, st.Pin.CID.String())
	}
	return roots
}

// stands is how the only service stands with the site.
func (e *elsewhere) stands(p author.Published) author.ThirdParty {
	e.t.Helper()
	name, err := naming.ParseName(p.Name)
	if err != nil {
		e.t.Fatal(err)
	}
	got, err := e.anna.Node().Author().ThirdParties(e.t.Context(), name)
	if err != nil || len(got) != 1 {
		e.t.Fatalf("%+v, %v", got, err)
	}
	return got[0]
}

// tend has the service asked again, and sampled.
func (e *elsewhere) tend(p author.Published) author.ThirdParty {
	e.t.Helper()
	name, err := naming.ParseName(p.Name)
	if err != nil {
		e.t.Fatal(err)
	}
	site := state.Site{Name: name, Alias: p.Alias, Root: cid.MustParse(p.Root)}
	if err := e.anna.Node().Author().TendThirdParties(e.t.Context(), site, true); err != nil {
		e.t.Fatal(err)
	}
	return e.stands(p)
}

func TestAPinningServiceGetsEachReleaseAndLetsGoOfOldOnes(t *testing.T) {
	t.Parallel()
	e := newElsewhere(t, nil)
	if info := e.add(e.bob.Info().Gateway); info.Kind != author.KindPinning || info.ID != e.service.URL || len(info.Addrs) != 0 {
		t.Errorf("added as %+v", info)
	}
	var roots []string
	var p author.Published
	for _, page := range []string{"one", "two", "three"} {
		p = e.publish("<h1>" + page + "</h1>")
		roots = append([]string{p.Root}, roots...)
		if s := e.stands(p); s.State != replicate.Pinned || s.Root != p.Root || s.Proved || s.Behind {
			t.Errorf("after release %s: %+v, warnings %q", page, s, p.Warnings)
		}
	}
	if got := e.pinned(); !slices.Equal(got, roots[:2]) {
		t.Errorf("the service has %q, want the two newest of %q", got, roots)
	}
	if s := e.tend(p); s.Sampled != replicate.Proved || s.SampledAt == nil || s.Proved {
		t.Errorf("sampled: %+v", s)
	}
	var left author.Left
	e.call(e.anna, "host leave", author.LeaveRequest{Host: "cloud"}, &left)
	if got := e.pinned(); !left.Gone || len(got) != 0 {
		t.Errorf("left behind: %q, %+v", got, left)
	}
}

func TestAPinningServiceIsNoHost(t *testing.T) {
	t.Parallel()
	e := newElsewhere(t, nil)
	e.add()
	dir, two := e.net.Dir("site"), 2
	if err := os.WriteFile(filepath.Join(dir, "index.html"), []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	err := e.anna.Call("publish", author.PublishRequest{Dir: dir, Alias: "blog", Copies: &two}, nil)
	var ce *control.Error
	if !errors.As(err, &ce) || ce.Kind != control.Unavailable {
		t.Errorf("one host and one service make two copies: %v", err)
	}
	var list node.Hosts
	e.call(e.anna, "host list", struct{}{}, &list)
	if len(list.Hosts) != 2 || list.Hosts[1].Kind != author.KindPinning {
		t.Errorf("%+v", list.Hosts)
	}
	e.call(e.anna, "host label", author.LabelRequest{Host: "cloud", Labels: map[string]string{"operator": "cloud ltd"}}, nil)
	var gone author.HostInfo
	e.call(e.anna, "host remove", node.Address{Address: e.service.URL}, &gone)
	if gone.Name != "cloud" || gone.Label["operator"] != "cloud ltd" {
		t.Errorf("%+v", gone)
	}
	for _, bad := range []author.HostRequest{
		{Where: e.service.URL, Token: "wrong", Pinning: true},
		{Where: e.service.URL, Pinning: true},
		{Where: e.bob.Info().Addrs[0], Token: e.token, Pinning: true},
		{Where: e.service.URL, Token: e.token, Pinning: true, Gateways: []string{"ftp://gw"}},
	} {
		if err := e.anna.Call("host add", bad, nil); err == nil {
			t.Errorf("%s was added", bad.Where)
		}
	}
}

func TestACallThatWasCutOffLeavesNoSecondPinElsewhere(t *testing.T) {
	t.Parallel()
	var cut atomic.Bool
	e := newElsewhere(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost && cut.CompareAndSwap(true, false) {
				next.ServeHTTP(httptest.NewRecorder(), r) // done, and nobody hears of it
				panic(http.ErrAbortHandler)
			}
			next.ServeHTTP(w, r)
		})
	})
	e.add()
	cut.Store(true)
	p := e.publish("<h1>cut</h1>")
	if s := e.stands(p); s.Error == "" || s.NextTry == nil {
		t.Fatalf("%+v", s)
	}
	again := e.publish("<h1>again</h1>") // another release: the failed one is no reason to wait
	if s := e.stands(again); s.State != replicate.Pinned {
		t.Fatalf("%+v", s)
	}
	if got := e.pinned(); len(got) == 0 || got[0] != again.Root || slices.Index(got[1:], again.Root) >= 0 || len(got) > 2 {
		t.Errorf("the service has %q", got)
	}
}

func TestAServiceThatLiesIsNotBelieved(t *testing.T) {
	t.Parallel()
	e := newElsewhere(t, func(http.Handler) http.Handler { return http.HandlerFunc(liar) })
	empty := e.net.Gateway("empty") // knows nobody
	e.add(empty.Info().Gateway)
	p := e.publish("<h1>lied about</h1>")
	if s := e.stands(p); s.State != replicate.Pinned || s.Proved {
		t.Errorf("%+v", s)
	}
	if s := e.tend(p); s.Sampled == replicate.Proved || s.Sampled == "" || s.Detail == "" {
		t.Errorf("sampled: %+v", s)
	}
}

// liar says that everything is pinned, and keeps nothing.
func liar(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		_, _ = io.WriteString(w, `{"count":0,"results":[]}`)
		return
	}
	body, _ := io.ReadAll(r.Body)
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(w, `{"requestid":"1","status":"pinned","created":"2026-11-22T10:00:00Z","delegates":[],"pin":`+string(body)+`}`)
}

func TestAServiceThatFailsHoldsUpNoPublish(t *testing.T) {
	t.Parallel()
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	for name, answer := range map[string]http.HandlerFunc{
		"500": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"a year": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "31536000")
			w.WriteHeader(429)
		},
		"nonsense": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>welcome</html>") },
		"silence": func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-stop:
			case <-r.Context().Done():
			}
		},
		"another": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, `{"requestid":"1","status":"pinned","created":"2026-11-22T10:00:00Z","delegates":[],"pin":{"cid":"bafkqaaa"},"count":0,"results":[]}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var broken atomic.Bool
			patience := time.Duration(0)
			if name == "silence" {
				patience = 3 * time.Second
			}
			e := newElsewhereWithin(t, patience, func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if broken.Load() {
						answer(w, r)
						return
					}
					next.ServeHTTP(w, r)
				})
			})
			e.add()
			broken.Store(true)
			p := e.publish("<h1>" + name + "</h1>")
			if !p.Live || !slices.ContainsFunc(p.Warnings, func(w string) bool { return strings.Contains(w, "cloud") }) {
				t.Errorf("live %v, warnings %q", p.Live, p.Warnings)
			}
			if s := e.stands(p); s.State == replicate.Pinned || s.Error == "" || s.NextTry == nil || s.NextTry.After(time.Now().Add(25*time.Hour)) {
				t.Errorf("%+v", s)
			}
			if s := e.stands(p); strings.Contains(s.Error, e.token) {
				t.Error("the token is shown")
			}
		})
	}
}
