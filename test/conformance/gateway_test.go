// Package conformance holds a running gateway, `holdfast serve --gateway`, to
// what the gateway specifications (https://specs.ipfs.tech/http-gateways/) and
// the official suite, ipfs/gateway-conformance, ask of all gateways: by path, by
// subdomain, by DNSLink, as a proxy, trustless, and a site's _redirects.
//
// Everything is imported by our own commands: CARs by import (one lacks a
// block on purpose), records by name put, DNSLinks by IPFS_NS_MAP.
package conformance

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-sites/holdfast/test/program"
	"github.com/holdfast-sites/holdfast/test/world"
)

func TestMain(m *testing.M) { program.Main(m) }

// public is a host name with subdomains, as a public gateway has it.
const public = "example.com"

// config is how the suite wants a gateway: subdomains on a host of its own, and
// a reverse proxy on loopback in front.
const config = `
network = "private"

[gateway]
trusted_proxies = ["127.0.0.0/8"]

[gateway.hosts."example.com"]
subdomains = true
inline_dnslink = true

[gateway.hosts."ipfs-only.example"]
paths = ["/ipfs"]
subdomains = true

[gateway.hosts."trustless.example"]
deserialized = false
`

// gateway is the one under test.
type gateway struct {
	byPath string // "http://127.0.0.1:PORT": the path gateway
	client *http.Client
	proxy  *http.Client // uses the gateway as its HTTP proxy
	addr   string
	*fixtures
}

// TestGateway runs everything against one process.
func TestGateway(t *testing.T) {
	w := world.New(t)
	f := newFixtures(t)
	home := w.Home("gw")
	must(t, os.MkdirAll(home, 0o700))
	must(t, os.WriteFile(filepath.Join(home, "config.toml"), []byte(config), 0o600))
	t.Setenv("IPFS_NS_MAP", f.nsMap())
	n := w.Serve("gw", "--gateway", "127.0.0.1:0", "--p2p", "/ip4/127.0.0.1/tcp/0")
	for _, path := range f.cars(t, w.Home("cars")) {
		w.Run(nil, "gw", "import", path)
	}
	for path, k := range f.records(t, w.Home("records")) {
		if taken := w.Try("gw", "name", "put", path, "--name", k.name); taken == k.bad {
			t.Fatalf("the record of %s is taken: %v", k.name, taken)
		}
	}
	at, err := url.Parse(n.Gateway)
	must(t, err)
	g := &gateway{byPath: "http://" + at.Host, addr: at.Host, fixtures: f, client: clientTo(t, at.Host, nil), proxy: clientTo(t, at.Host, at)}

	t.Run("path/unixfs", func(t *testing.T) { g.pathUnixFS(t) })
	t.Run("path/order", func(t *testing.T) { g.pathOrder(t) })
	t.Run("path/cache", func(t *testing.T) { g.pathCache(t) })
	t.Run("path/modified", func(t *testing.T) { g.pathModified(t) })
	t.Run("path/ranges", func(t *testing.T) { g.pathRanges(t) })
	t.Run("path/uri", func(t *testing.T) { g.pathURI(t) })
	t.Run("path/cors", func(t *testing.T) { g.pathCORS(t) })
	t.Run("path/dag", func(t *testing.T) { g.pathDAG(t) })
	t.Run("path/tar", func(t *testing.T) { g.pathTAR(t) })
	t.Run("path/ipns", func(t *testing.T) { g.pathIPNS(t) })
	t.Run("trustless/raw", func(t *testing.T) { g.trustlessRaw(t) })
	t.Run("trustless/car", func(t *testing.T) { g.trustlessCAR(t) })
	t.Run("trustless/ipns", func(t *testing.T) { g.trustlessIPNS(t) })
	t.Run("trustless/only", func(t *testing.T) { g.trustlessOnly(t) })
	t.Run("subdomain/ipfs", func(t *testing.T) { g.subdomainIPFS(t) })
	t.Run("subdomain/ipns", func(t *testing.T) { g.subdomainIPNS(t) })
	t.Run("dnslink", func(t *testing.T) { g.dnslink(t) })
	t.Run("redirects", func(t *testing.T) { g.redirects(t) })
	t.Run("routing", func(t *testing.T) { g.routing(t) })
	t.Run("proxy", func(t *testing.T) { g.proxyMode(t) })
}

// origin is a URL of content on an origin of its own.
func origin(label, ns, host, path string) string {
	return "http://" + label + "." + ns + "." + host + path
}

// both runs checks on a public host and on localhost, which differ in nothing.
func both(t *testing.T, run func(t *testing.T, host string)) {
	for _, host := range []string{public, "localhost"} {
		t.Run(strings.ReplaceAll(host, ".", "-"), func(t *testing.T) { run(t, host) })
	}
}
