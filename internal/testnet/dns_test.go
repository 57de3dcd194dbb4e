package testnet

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/gateway"
	"github.com/holdfast-sites/holdfast/internal/dns"
	"github.com/holdfast-sites/holdfast/internal/node"
	"github.com/holdfast-sites/holdfast/internal/testnet/dnstest"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
)

// page is what a browser gets of a domain from a gateway: the body, and for how many seconds it may keep it.
func page(t *testing.T, at, domain, path string) (status int, body string, maxAge int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = domain
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if m := regexp.MustCompile(`max-age=(\d+)`).FindStringSubmatch(resp.Header.Get("Cache-Control")); m != nil {
		maxAge, _ = strconv.Atoi(m[1])
	}
	return resp.StatusCode, string(b), maxAge
}

func TestAGatewayServesADomainForAsLongAsItsDNSLinkHolds(t *testing.T) {
	t.Parallel()
	d := dnstest.New(t)
	now := time.Unix(1_700_000_000, 0)
	resolver, err := dns.Parse(d.UDP(), dns.Options{})
	if err != nil {
		t.Fatal(err)
	}
	cache := dns.NewCache(resolver, func() time.Time { return now })
	store, records := blockstore.NewMemory(), naming.NewMemoryRecords()
	// Names that don't tell of changes are asked for each page: else the gateway would go by its own clock for a second.
	asked := struct{ gateway.Names }{naming.NewResolver(naming.ResolverConfig{Records: records})}
	h, err := gateway.New(gateway.Config{
		Blocks: store, Names: asked,
		DNSLinks: &naming.DNSLink{Lookup: dns.TXTLookup(cache)},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	defer s.Close()
	n := New(t)
	var links []string
	for _, mark := range []string{"one", "two"} {
		b := build(t, store, makeSite(n, mark, 0).dir)
		r, err := namingtest.Signer(t, mark).Sign(naming.Statement{Value: "/ipfs/" + b, Sequence: 1, ValidUntil: time.Now().Add(time.Hour), TTL: 50 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		if err := records.Accept(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		links = append(links, "dnslink=/ipns/"+r.Name().String())
	}
	point := func(ttl int, link string) { d.Set(fmt.Sprintf(`_dnslink.site.example. %d IN TXT %q`, ttl, link)) }
	wants := func(body string, longest int) {
		t.Helper()
		status, got, maxAge := page(t, s.URL, "site.example", "/")
		if status != 200 || got != body || maxAge > longest {
			t.Errorf("%d %q for %d s, want %q for at most %d", status, got, maxAge, body, longest)
		}
	}
	point(20, links[0])
	wants("<h1>one</h1>", 20)
	point(300, links[1])
	now = now.Add(15 * time.Second)
	wants("<h1>one</h1>", 5)
	now = now.Add(5 * time.Second)
	wants("<h1>two</h1>", 50) // now the record's own TTL is the shorter one
	if got := d.Asked("_dnslink.site.example"); got != 2 {
		t.Errorf("%d questions for three pages", got)
	}
	d.Become(dnstest.Illness{Rcode: wire.RcodeServerFailure})
	now = now.Add(301 * time.Second)
	wants("<h1>two</h1>", 0)
	if status, _, _ := page(t, s.URL, "other.example", "/"); status != http.StatusGatewayTimeout {
		t.Errorf("a domain that can't be looked up: %d", status)
	}
	d.Become(dnstest.Illness{})
	if status, _, _ := page(t, s.URL, "absent.example", "/"); status != http.StatusNotFound {
		t.Errorf("a domain without DNSLink: %d", status)
	}
	d.Set("_dnslink.bad.example. 1 IN TXT \"dnslink=/ipns/blog\"")
	if status, _, _ := page(t, s.URL, "bad.example", "/"); status != http.StatusUnprocessableEntity {
		t.Errorf("a domain with a malformed link: %d", status)
	}
}

// build puts a folder into a store.
func build(t *testing.T, store blockstore.Store, dir string) (root string) {
	t.Helper()
	s, err := store.Begin(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b, err := merkle.Build(t.Context(), s, dir, merkle.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Keep(t.Context(), "test", b.Root, slices.Values(b.CIDs)); err != nil {
		t.Fatal(err)
	}
	return b.Root.String()
}

func TestANodeServesDomainsOnlyWhereItMayAskDNS(t *testing.T) {
	t.Parallel()
	d := dnstest.New(t)
	secure, _ := d.HTTPS()
	for what, tt := range map[string]struct {
		set  func(*node.Config)
		want int
	}{
		"gateway.dns":           {func(c *node.Config) { c.Gateway.DNS, c.DNS.Resolvers = true, []string{d.UDP()} }, 200},
		"gateway.dns, by HTTP":  {func(c *node.Config) { c.Gateway.DNS, c.DNS.Resolvers = true, []string{d.HTTP()} }, 200},
		"a wrong certificate":   {func(c *node.Config) { c.Gateway.DNS, c.DNS.Resolvers = true, []string{secure} }, 504},
		"resolvers alone":       {func(c *node.Config) { c.DNS.Resolvers = []string{d.UDP()} }, 404},
		"gateway.dns, offline":  {func(c *node.Config) { c.Network, c.Gateway.DNS, c.DNS.Resolvers = "offline", true, []string{d.UDP()} }, 404},
		"nothing":               {func(*node.Config) {}, 404},
		"gateway.dnslink alone": {func(c *node.Config) { c.Gateway.DNSLink = map[string]string{"site.example": "/ipfs/bafkqaaa"} }, 200},
	} {
		n := New(t)
		n.Config = tt.set
		before := d.Asked("_dnslink.site.example")
		d.Set("_dnslink.site.example. 60 IN TXT \"dnslink=/ipfs/bafkqaaa\"")
		gw := n.Gateway("gateway")
		if status, body, _ := page(t, gw.Info().Gateway, "site.example", "/"); status != tt.want {
			t.Errorf("%s: %d, want %d: %.200s", what, status, tt.want, body)
		}
		if asked := d.Asked("_dnslink.site.example") - before; asked > 1 || tt.want == 404 && asked > 0 {
			t.Errorf("%s: %d questions", what, asked)
		}
		gw.Stop()
	}
}

func TestADNSWithoutRecordsAnswersThatThereIsNothing(t *testing.T) {
	t.Parallel()
	d := dnstest.New(t)
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, d.Addr())
	}}
	for _, truncated := range []bool{false, true} {
		d.Become(dnstest.Illness{Truncate: truncated})
		if texts, err := r.LookupTXT(t.Context(), "site.example."); err == nil {
			t.Errorf("%q", texts)
		}
	}
	if d.Asked("site.example") < 3 {
		t.Errorf("%d questions: nobody came again over TCP", d.Asked("site.example"))
	}
}
