package author_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/control"
	"github.com/holdfast-sites/holdfast/internal/node"
	"github.com/holdfast-sites/holdfast/replicate"
)

// machine is a node that runs in this process, asked as a command asks it.
type machine struct {
	t    *testing.T
	dir  string
	info node.Info
	call control.Caller
	stop func()
}

// start runs a node on loopback; change lays hands on its config.
func start(t *testing.T, change func(*node.Config)) *machine {
	t.Helper()
	dir, err := os.MkdirTemp("", "hfa")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cfg := node.Config{
		Home: filepath.Join(dir, "home"), RuntimeDir: dir, Tool: "test",
		P2P: node.P2PConfig{Listen: []string{"/ip4/127.0.0.1/tcp/0"}},
	}
	change(&cfg)
	n, err := node.Open(t.Context(), cfg, node.Connected, "test")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan node.Info, 1), make(chan error, 1)
	go func() { done <- n.Serve(ctx, func(i node.Info) { ready <- i }) }()
	m := &machine{t: t, dir: dir, call: control.InProcess(n.Methods())}
	var once sync.Once
	m.stop = func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-done:
				if err := errors.Join(err, n.Close()); err != nil {
					t.Error(err)
				}
			case <-time.After(time.Minute):
				t.Error("the node does not end")
			}
		})
	}
	t.Cleanup(m.stop)
	select {
	case m.info = <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	return m
}

func startAuthor(t *testing.T) *machine { return start(t, func(*node.Config) {}) }

func startHost(t *testing.T, name string) *machine {
	return start(t, func(c *node.Config) {
		c.Host, c.Pins.Listen, c.Pins.Name, c.P2P.AllowPrivate = true, "127.0.0.1:0", name, true
	})
}

// ask calls a method that has to succeed.
func ask[R any](m *machine, method string, params any) (out R) {
	m.t.Helper()
	if err := m.call.Call(m.t.Context(), method, params, &out, nil); err != nil {
		m.t.Fatalf("%s: %v", method, err)
	}
	return out
}

// refused calls a method that has to fail.
func (m *machine) refused(kind control.Kind, text, method string, params any) *control.Error {
	m.t.Helper()
	err := m.call.Call(m.t.Context(), method, params, nil, nil)
	var e *control.Error
	if !errors.As(err, &e) || e.Kind != kind || !strings.Contains(e.Message, text) {
		m.t.Fatalf("%s: %#v, want %s with %q", method, err, kind, text)
	}
	return e
}

func (m *machine) token() string {
	return ask[node.NewToken](m, "token create", node.Address{Address: "anna"}).Token
}

// add adds a host by its URL, or by another that leads to it.
func (m *machine) add(host *machine, through string) author.HostInfo {
	m.t.Helper()
	if through == "" {
		through = host.info.Pins
	}
	return ask[author.HostInfo](m, "host add", author.HostRequest{Where: through, Token: host.token()})
}

// folder writes files, each given as name and text.
func (m *machine) folder(name string, files ...string) string {
	m.t.Helper()
	dir := filepath.Join(m.dir, name)
	for i := 0; i < len(files); i += 2 {
		p := filepath.Join(dir, files[i])
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(files[i+1]), 0o644)); err != nil {
			m.t.Fatal(err)
		}
	}
	return dir
}

func (m *machine) publish(req author.PublishRequest) author.Published {
	m.t.Helper()
	return ask[author.Published](m, "publish", req)
}

// pinsAt lists all pins of a tenant, by whether they follow a name.
func pinsAt(t *testing.T, host *machine, token string) (following, plain []replicate.PinStatus) {
	t.Helper()
	c := replicate.NewClient(host.info.Pins, token, nil)
	q := replicate.Query{Status: []replicate.Status{replicate.Queued, replicate.Pinning, replicate.Pinned, replicate.Failed}}
	for s, err := range c.All(t.Context(), q) {
		if err != nil {
			t.Fatal(err)
		}
		if s.Pin.Meta[replicate.MetaName] != "" {
			following = append(following, s)
		} else {
			plain = append(plain, s)
		}
	}
	return following, plain
}

func two() *int { n := 2; return &n }

func TestAPublishEndsProvedLiveAndWithoutTemporaryPins(t *testing.T) {
	a, h1, h2 := startAuthor(t), startHost(t, "alice"), startHost(t, "bob")
	t1 := h1.token()
	ask[author.HostInfo](a, "host add", author.HostRequest{Where: h1.info.Pins, Token: t1})
	a.add(h2, "")
	dir := a.folder("blog", "index.html", "<h1>one</h1>", "a/b.txt", strings.Repeat("x", 300_000))
	p := a.publish(author.PublishRequest{Dir: dir, Alias: "blog", Message: "one"})
	if p.Number != 1 || !p.Live || p.SafeUntil == nil || len(p.Hosts) != 2 || p.Files != 2 {
		t.Errorf("%+v", p)
	}
	for _, h := range p.Hosts {
		if h.State != author.Proved || h.VerifiedAt == nil || h.Error != "" {
			t.Errorf("%+v", h)
		}
	}
	if !strings.Contains(strings.Join(p.Warnings, "\n"), "2 of 3 copies") {
		t.Errorf("fewer copies than usual are not said: %q", p.Warnings)
	}
	following, plain := pinsAt(t, h1, t1)
	if len(following) != 1 || len(plain) != 0 || following[0].Info["root"] != p.Root {
		t.Errorf("at the host: %v, %v", following, plain)
	}

	// The same again: no new release, but a younger record.
	again := a.publish(author.PublishRequest{Dir: dir, Alias: "blog"})
	if again.Number != 1 || again.Release != p.Release || again.Root != p.Root || again.Sequence != p.Sequence+1 || again.AddedBytes != 0 {
		t.Errorf("unchanged: %+v", again)
	}
	// Another message is another release, of the same root.
	said := a.publish(author.PublishRequest{Dir: dir, Alias: "blog", Message: "two"})
	if said.Number != 2 || said.Root != p.Root || said.Release == p.Release {
		t.Errorf("with another message: %+v", said)
	}
	a.folder("blog", "index.html", "<h1>three</h1>")
	third := a.publish(author.PublishRequest{Dir: dir, Alias: "blog"})
	if third.Number != 3 || third.Root == p.Root || !third.Live {
		t.Errorf("changed: %+v", third)
	}
	if following, plain = pinsAt(t, h1, t1); len(following) != 1 || len(plain) != 0 || following[0].Info["root"] != third.Root {
		t.Errorf("at the host: %v, %v", following, plain)
	}
	h := ask[node.Releases](a, "history", author.HistoryRequest{Site: "blog"}).Releases
	if len(h) != 3 || h[0].Number != 3 || h[2].Message != "one" || h[1].Root != p.Root || h[0].Sequence != third.Sequence {
		t.Errorf("%+v", h)
	}
	if h := ask[node.Releases](a, "history", author.HistoryRequest{Site: third.Name, Limit: 2}).Releases; len(h) != 2 {
		t.Errorf("%+v", h)
	}

	// A host that is away is told as such, with what it last proved.
	h2.stop()
	st := ask[node.Sites](a, "status", author.StatusRequest{Alias: "blog", Check: true}).Sites[0]
	if st.SafeUntil != nil || len(st.Hosts) != 2 {
		t.Errorf("%+v", st)
	}
	for _, h := range st.Hosts {
		switch {
		case h.Name == "alice" && h.State != author.Proved:
			t.Errorf("%+v", h)
		case h.Name == "bob" && (h.State == author.Proved || h.Error == "" || h.VerifiedAt == nil):
			t.Errorf("%+v", h)
		}
	}
}

func TestTooFewCopiesSignNothingAndLeaveNothing(t *testing.T) {
	a, h1, h2 := startAuthor(t), startHost(t, "alice"), startHost(t, "bob")
	dir := a.folder("blog", "index.html", "one")
	req := author.PublishRequest{Dir: dir, Alias: "blog", Copies: two()}
	a.refused(control.Unavailable, "0 hosts are known", "publish", req)
	a.refused(control.Unavailable, "holdfast host add", "publish", author.PublishRequest{Dir: dir, Alias: "blog"})
	t1 := h1.token()
	ask[author.HostInfo](a, "host add", author.HostRequest{Where: h1.info.Pins, Token: t1})
	a.refused(control.Unavailable, "1 host is known", "publish", req)
	a.add(h2, "")
	h2.stop()
	e := a.refused(control.Unavailable, "1 of 2 wanted copies", "publish", req)
	if !strings.Contains(e.Message, "bob unreachable") || e.Details["wanted"] != 2 || e.Details["proved"] != 1 {
		t.Errorf("%v %v", e, e.Details)
	}
	if following, plain := pinsAt(t, h1, t1); len(following)+len(plain) != 0 {
		t.Errorf("the host keeps %v %v", following, plain)
	}
	a.refused(control.NotFound, "blog", "status", author.StatusRequest{Alias: "blog"})
	if s := ask[node.Sites](a, "status", author.StatusRequest{}).Sites; len(s) != 0 {
		t.Errorf("%+v", s)
	}
	one := 1
	if p := a.publish(author.PublishRequest{Dir: dir, Alias: "blog", Copies: &one}); p.Sequence != 0 && p.Sequence != 1 || p.Number != 1 {
		t.Errorf("the name has moved before: %+v", p)
	}
}

// counted is a proxy before a host's pin service that counts the plain pins that are added.
func counted(t *testing.T, host *machine) (base string, added func() int) {
	t.Helper()
	u, err := url.Parse(host.info.Pins)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	n := 0
	proxy := httputil.NewSingleHostReverseProxy(u)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.URL.Path == "/pins" {
			b, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(b))
			var p struct{ Meta map[string]string }
			if json.Unmarshal(b, &p) == nil && p.Meta[replicate.MetaName] == "" {
				mu.Lock()
				n++
				mu.Unlock()
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, func() int { mu.Lock(); defer mu.Unlock(); return n }
}

func TestAPublishTakesUpThePinsOfOneThatWasCutOff(t *testing.T) {
	a, h := startAuthor(t), startHost(t, "alice")
	base, added := counted(t, h)
	token := h.token()
	ask[author.HostInfo](a, "host add", author.HostRequest{Where: base, Token: token})
	dir := a.folder("blog", "index.html", "one")
	p := a.publish(author.PublishRequest{Dir: dir, Alias: "blog"})
	if added() != 1 {
		t.Fatalf("%d pins for the first publish", added())
	}
	// What a publish leaves that is killed before its signature: a pin of the
	// new root, and, from an earlier one, a pin of a root that nobody wants any more.
	client := replicate.NewClient(h.info.Pins, token, nil)
	leave := func(text string) string {
		a.folder("blog", "index.html", text)
		root := ask[author.BuildResult](a, "build", author.BuildRequest{Path: dir}).Root
		s, err := client.Add(t.Context(), replicate.Pin{
			CID: cid.MustParse(root), Origins: a.info.Addrs,
			Meta: map[string]string{replicate.MetaSite: p.Name, replicate.MetaAuditor: a.info.Peer},
		})
		if err != nil {
			t.Fatal(err)
		}
		return s.RequestID
	}
	leave("nobody wants this")
	leave("two")
	if second := a.publish(author.PublishRequest{Dir: dir, Alias: "blog"}); second.Number != 2 {
		t.Errorf("%+v", second)
	}
	if added() != 1 {
		t.Error("the pin that was left behind was not taken up")
	}
	if following, plain := pinsAt(t, h, token); len(following) != 1 || len(plain) != 0 {
		t.Errorf("the host keeps %v %v", following, plain)
	}
}

func TestWhatIsNoHostIsNotAdded(t *testing.T) {
	a, h1, h2 := startAuthor(t), startHost(t, "alice"), startHost(t, "bob")
	token := h1.token()
	id, err := peer.Decode(h2.info.Peer)
	if err != nil {
		t.Fatal(err)
	}
	invite := func(i replicate.Invite) string {
		s, err := i.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	add := func(where, token string) author.HostRequest { return author.HostRequest{Where: where, Token: token} }
	for _, e := range []*control.Error{
		a.refused(control.Failed, "token does not work", "host add", add(h1.info.Pins, "hft_0123456789012345678901234567890123456789012")),
		a.refused(control.Unavailable, "does not answer as a host", "host add", add(web.URL, token)),
		a.refused(control.Unavailable, "does not answer as a host", "host add", add("http://127.0.0.1:1", token)),
		a.refused(control.Unavailable, "does not answer as a host", "host add", add(a.info.Addrs[0], token)), // a node, but no host
		a.refused(control.Corrupt, "the invite is for", "host add", add(invite(replicate.Invite{Base: h1.info.Pins, Peer: id, Token: token}), "")),
		a.refused(control.Usage, "token is needed", "host add", add(h1.info.Pins, "")),
		a.refused(control.Usage, "", "host add", add("hfi1junk", "")),
		a.refused(control.Usage, "", "host add", add("", token)),
		a.refused(control.Usage, "", "host add", add("/ip4/127.0.0.1/tcp/1", token)),
		a.refused(control.Usage, "", "host add", add("/not/an/addr", token)),
	} {
		if strings.Contains(e.Message, token) || strings.Contains(e.Message, "hft_") || strings.Contains(e.Message, "hfi1") && !strings.Contains(e.Message, "hfi1…") {
			t.Errorf("a secret shows: %s", e.Message)
		}
	}
	if hosts := ask[node.Hosts](a, "host list", struct{}{}).Hosts; len(hosts) != 0 {
		t.Errorf("%+v", hosts)
	}
	// Over libp2p, by invite, it works as well as by URL.
	inv := ask[node.InviteResult](h2, "invite", node.Address{Address: "anna"}).Invite
	if got := ask[author.HostInfo](a, "host add", author.HostRequest{Where: " " + inv + "\n", Name: "bobby"}); got.Name != "bobby" || got.ID != h2.info.Peer {
		t.Errorf("%+v", got)
	}
	ask[author.HostInfo](a, "host add", add(h2.info.Addrs[0], h2.token()))
	if hosts := ask[node.Hosts](a, "host list", struct{}{}).Hosts; len(hosts) != 1 {
		t.Errorf("a host that is added again is there twice: %+v", hosts)
	}
	if p := a.publish(author.PublishRequest{Dir: a.folder("blog", "index.html", "x"), Alias: "blog"}); !p.Live {
		t.Errorf("over libp2p only: %+v", p)
	}
	ask[author.HostInfo](a, "host remove", node.Address{Address: h2.info.Peer})
	a.refused(control.NotFound, "holdfast host list", "host remove", node.Address{Address: h2.info.Peer})
}

func TestPreflightSaysWhatReadersWouldFind(t *testing.T) {
	a := start(t, func(c *node.Config) { c.Network = "offline" })
	warned := func(p author.Published, text string) bool {
		return strings.Contains(p.Preflight.Text(10), text)
	}
	req := func(dir string) author.PublishRequest {
		return author.PublishRequest{Dir: dir, Alias: "blog", Alone: true}
	}

	if p := a.publish(req(a.folder("list", "page.html", "x"))); !warned(p, "no index.html") {
		t.Errorf("%+v", p.Preflight)
	}
	if p := a.publish(req(a.folder("good", "index.html", "x", "_redirects", "/a /b 301\n"))); p.Preflight.Total != 0 {
		t.Errorf("%+v", p.Preflight)
	}
	if p := a.publish(req(a.folder("cookie", "index.html", "x", "_headers", "/*\n  Set-Cookie: a=b\n"))); !warned(p, `ignored field: "_headers" line 2: "Set-Cookie" is not for a site to set`) {
		t.Errorf("%s", p.Preflight.Text(10))
	}
	before := ask[node.Sites](a, "status", author.StatusRequest{Alias: "blog"}).Sites[0]
	a.refused(control.Failed, "_redirects", "publish", req(a.folder("bad", "index.html", "x", "_redirects", "/a /b 999\n")))
	a.refused(control.Failed, "larger than", "publish", req(a.folder("huge", "index.html", "x", "_redirects", strings.Repeat("/a /b\n", 12_000))))
	a.refused(control.Failed, "must be a file", "publish", req(a.folder("dir", "index.html", "x", "_redirects/x", "x")))
	a.refused(control.Failed, "_headers: line 2:", "publish", req(a.folder("headers", "index.html", "x", "_headers", "/*\n  X-A no colon\n")))
	a.refused(control.Failed, "_options: line 1:", "publish", req(a.folder("options", "index.html", "x", "_options", "listing: perhaps\n")))
	a.refused(control.Failed, "_redirects: line 2: forced redirects", "publish", req(a.folder("forced", "index.html", "x", "_redirects", "# force\n/a /b 301!\n")))
	if after := ask[node.Sites](a, "status", author.StatusRequest{Alias: "blog"}).Sites[0]; after.Sequence != before.Sequence {
		t.Error("the name moved though the rules are bad")
	}
}

func TestARequestThatCannotBeMeantIsRefusedBeforeAKeyIsMade(t *testing.T) {
	a := start(t, func(c *node.Config) { c.Network = "offline" })
	dir := a.folder("blog", "index.html", "x")
	none, minus, many := 0, -1, replicate.MaxRoster+1
	for _, tt := range []struct {
		kind control.Kind
		text string
		req  author.PublishRequest
	}{
		{control.NotFound, "missing", author.PublishRequest{Dir: filepath.Join(a.dir, "missing"), Alias: "blog", Alone: true}},
		{control.Usage, "is a file", author.PublishRequest{Dir: filepath.Join(dir, "index.html"), Alias: "blog", Alone: true}},
		{control.Usage, "alias", author.PublishRequest{Dir: dir, Alone: true}},
		{control.Usage, "--copies must be", author.PublishRequest{Dir: dir, Alias: "blog", Copies: &minus}},
		{control.Usage, "--copies must be", author.PublishRequest{Dir: dir, Alias: "blog", Copies: &many}},
		{control.Unavailable, "hosts are known", author.PublishRequest{Dir: dir, Alias: "blog", Copies: two()}},
	} {
		a.refused(tt.kind, tt.text, "publish", tt.req)
	}
	if keys, _ := filepath.Glob(filepath.Join(a.dir, "home/keys/*.key")); len(keys) != 0 {
		t.Errorf("keys were made: %v", keys)
	}
	a.refused(control.Usage, "alias", "publish", author.PublishRequest{Dir: dir, Alias: "My Site", Copies: &none})
	a.refused(control.Usage, "--if-root", "publish", author.PublishRequest{Dir: dir, Alias: "blog", Copies: &none, IfRoot: "junk"})
	a.refused(control.Conflict, "nobody knows a release", "publish", author.PublishRequest{Dir: dir, Alias: "blog", Copies: &none, IfRoot: "bafkqaaa"})
	first := a.publish(author.PublishRequest{Dir: dir, Alias: "blog", Copies: &none})
	second := a.publish(author.PublishRequest{Dir: dir, Alias: "blog", Copies: &none, IfRoot: first.Root})
	if second.Sequence != first.Sequence+1 {
		t.Errorf("%d then %d", first.Sequence, second.Sequence)
	}
}

func TestPublishSaysWhenNobodyCouldBeAsked(t *testing.T) {
	a, h := startAuthor(t), startHost(t, "alice")
	a.add(h, "")
	h.stop()
	none := 0
	req := author.PublishRequest{Dir: a.folder("blog", "index.html", "x"), Alias: "blog", Copies: &none}
	a.refused(control.Unavailable, "--force-offline", "publish", req)
	req.ForceOffline = true
	a.publish(req)
}
