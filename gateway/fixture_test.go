package gateway

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
)

// world is a gateway on a real socket, with a store and names behind it.
type world struct {
	t        testing.TB
	store    blockstore.Store
	keys     *naming.Keyring
	records  naming.Records
	resolver *naming.Resolver
	sites    *knownSites
	handler  http.Handler
	addr     string
	client   *http.Client
}

// knownSites is the SiteInfo of the tests.
type knownSites struct {
	list    []Site
	holders []string
	copies  Copies
}

func (k *knownSites) ByAlias(_ context.Context, alias string) (naming.Name, bool) {
	for _, s := range k.list {
		if s.Alias == alias {
			return s.Name, true
		}
	}
	return naming.Name{}, false
}
func (k *knownSites) Holders(context.Context, naming.Name) []string { return k.holders }
func (k *knownSites) Sites(context.Context) []Site                  { return k.list }
func (k *knownSites) Copies(context.Context, naming.Name, cid.Cid) Copies {
	return k.copies
}

// newWorld starts a gateway; change may adjust its configuration.
func newWorld(t testing.TB, change func(*Config)) *world {
	t.Helper()
	keys, err := naming.OpenKeyring(t.TempDir())
	must(t, err)
	w := &world{t: t, store: blockstore.NewMemory(), keys: keys, records: naming.NewMemoryRecords(), sites: &knownSites{}}
	w.resolver = naming.NewResolver(naming.ResolverConfig{Records: w.records})
	cfg := Config{Blocks: w.store, Names: w.resolver, Sites: w.sites, RetrievalTimeout: time.Minute}
	if change != nil {
		change(&cfg)
	}
	h, err := New(cfg)
	must(t, err)
	w.handler, w.addr = h, serve(t, h)
	w.client = clientTo(t, w.addr)
	return w
}

// gateway is the handler itself.
func (w *world) gateway() *gateway {
	g, ok := w.handler.(*gateway)
	if !ok {
		w.t.Fatalf("the handler is a %T", w.handler)
	}
	return g
}

// serve runs h on a loopback port until the test ends.
func serve(t testing.TB, h http.Handler) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, ln, h, nil) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return ln.Addr().String()
}

// clientTo sends every request to addr, whatever its URL says, and follows no redirects.
func clientTo(t testing.TB, addr string) *http.Client {
	tr := &http.Transport{
		DisableCompression: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		},
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// build puts a folder of files into the store and gives its root.
func (w *world) build(files map[string]string) cid.Cid {
	w.t.Helper()
	dir := w.t.TempDir()
	for name, content := range files {
		p := filepath.Join(dir, filepath.FromSlash(name))
		must(w.t, os.MkdirAll(filepath.Dir(p), 0o755))
		must(w.t, os.WriteFile(p, []byte(content), 0o644))
	}
	ctx := w.t.Context()
	s, err := w.store.Begin(ctx, "")
	must(w.t, err)
	defer s.Close()
	b, err := merkle.Build(ctx, s, dir, merkle.BuildOptions{})
	must(w.t, err)
	must(w.t, s.Keep(ctx, "test", b.Root, slices.Values(b.CIDs)))
	return b.Root
}

// publish signs a record of the alias for root, as its next release.
func (w *world) publish(alias string, root cid.Cid) naming.Name {
	w.t.Helper()
	ctx := w.t.Context()
	signer, err := w.keys.Signer(alias)
	if err != nil {
		_, err = w.keys.New(alias)
		must(w.t, err)
		signer, err = w.keys.Signer(alias)
		must(w.t, err)
		w.sites.list = append(w.sites.list, Site{Alias: alias, Name: signer.Name(), Root: root})
	}
	best, _ := w.records.Best(ctx, signer.Name())
	st, err := naming.Next(best, naming.Statement{Value: "/ipfs/" + root.String(), ValidUntil: time.Now().Add(time.Hour)})
	must(w.t, err)
	rec, err := signer.Sign(st)
	must(w.t, err)
	must(w.t, w.records.Accept(ctx, rec))
	w.resolver.Accepted(rec)
	return signer.Name()
}

// reply is an answer that was read to its end.
type reply struct {
	*http.Response
	body string
}

// get asks for a URL ("http://host/path"); header holds pairs.
func (w *world) get(url string, header ...string) reply {
	w.t.Helper()
	return w.do(http.MethodGet, url, header...)
}

func (w *world) do(method, url string, header ...string) reply {
	w.t.Helper()
	r, err := w.try(method, url, header...)
	must(w.t, err)
	return r
}

func (w *world) try(method, url string, header ...string) (reply, error) {
	req, err := http.NewRequestWithContext(w.t.Context(), method, url, nil)
	if err != nil {
		return reply{}, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return reply{resp, string(body)}, err
}

// raw sends bytes as they are and reads one answer.
func (w *world) raw(text string) reply {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.addr)
	must(w.t, err)
	defer conn.Close()
	must(w.t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(conn, text)
	must(w.t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: strings.Fields(text)[0]})
	must(w.t, err)
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return reply{resp, string(body)}
}

func (r reply) want(t *testing.T, status int, body string) {
	t.Helper()
	if r.StatusCode != status {
		t.Fatalf("status %d, want %d; body %.500q", r.StatusCode, status, r.body)
	}
	if body != "" && r.body != body {
		t.Fatalf("body %.500q, want %.200q", r.body, body)
	}
}

func (r reply) wantHeader(t testing.TB, key, value string) {
	t.Helper()
	if got := r.Header.Get(key); got != value {
		t.Errorf("%s: %q, want %q", key, got, value)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// blog is the site of most tests.
var blog = map[string]string{
	"index.html":          "<h1>home</h1>",
	"style.css":           "body{}",
	"docs/index.html":     "<h1>docs</h1>",
	"docs/404.html":       "no such doc",
	"docs/a b%#.html":     "odd name",
	"404.html":            "no such page",
	"plain/file.txt":      "just a file\n",
	"big.bin":             strings.Repeat("0123456789abcdef", 200_000), // 3.2 MB: several blocks
	".well-known/thing":   "known",
	"img/logo.svg":        "<svg xmlns='http://www.w3.org/2000/svg'/>",
	"deep/er/and/er/x.js": "1",
}

func queryEscape(s string) string { return url.QueryEscape(s) }
