package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	boxogw "github.com/ipfs/boxo/gateway"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multibase"

	"github.com/holdfast-sites/holdfast/naming"
)

// sandbox is the policy of content that is served by path, where all sites
// share one origin: scripts run, in an origin of their own that has no storage,
// no cookies and no service worker. Never add allow-same-origin.
const sandbox = "sandbox allow-scripts allow-forms allow-modals allow-popups allow-downloads"

// maxLabel is the longest DNS label.
const maxLabel = 63

// serveGateway answers on a host that is no site's: by path.
func (g *gateway) serveGateway(x *transaction, h host, p place) {
	ns, id, rest := splitNamespace(x.r.URL.EscapedPath())
	if plain, err := url.PathUnescape(id); err == nil {
		id = plain
	}
	switch {
	case g.serveOwn(x, h, p):
	case ns == "" || p.kind == placeGateway && !p.config.serves("/"+ns):
		g.fail(x, Failure{Status: http.StatusNotFound, Kind: KindNotFound, Step: StepRequest, Message: "this gateway has nothing at that path"})
	case x.r.Header.Get("Service-Worker") != "":
		g.fail(x, badRequest("a service worker needs a site's own origin"))
	case p.kind == placeGateway && p.config.Subdomains && id != "" && x.r.Method != http.MethodOptions:
		label, err := g.label(ns, id, p.config.InlineDNSLink || schemeOf(x.r) == "https")
		if err != nil {
			if ns == "ipfs" && !errors.Is(err, errLongLabel) { // "/ipfs/ipfs/…" and the like: boxo says what is meant
				g.servePath(x, h)
				return
			}
			f := badRequest(err.Error())
			f.Step = StepName
			g.fail(x, f)
			return
		}
		g.redirect(x, originURL(schemeOf(x.r), label+"."+ns, p.parent)+rest)
	default:
		g.servePath(x, h)
	}
}

// servePath serves content where it shares an origin with other content.
func (g *gateway) servePath(x *transaction, h host) {
	x.w.Header().Set("Content-Security-Policy", sandbox)
	x.w.Header().Set("X-Content-Type-Options", "nosniff")
	x.w.Header().Set("Vary", "Accept") // verifying clients ask for blocks and CARs at the very same URLs
	g.serveContent(x, origin{gateway: h}, true)
}

// splitNamespace cuts an escaped path "/ipfs/id/rest" and keeps the slash
// before rest. ns is empty where the path is in no namespace.
func splitNamespace(escaped string) (ns, id, rest string) {
	parts := strings.SplitN(escaped, "/", 4)
	if len(parts) < 2 || parts[0] != "" || parts[1] != "ipfs" && parts[1] != "ipns" {
		return "", "", ""
	}
	rest = "/"
	if len(parts) > 2 {
		id = parts[2]
	}
	if len(parts) > 3 {
		rest += parts[3]
	}
	return parts[1], id, rest
}

// originURL is "http://label.ns.host:port", without a path.
func originURL(scheme, sub string, h host) string {
	return scheme + "://" + sub + "." + h.String()
}

// redirect sends the client to a URL (path escaped, no query yet) of this
// gateway, with the query that it came with.
func (g *gateway) redirect(x *transaction, to string) {
	x.w.Header().Set("Location", asciiHeader(to+querySuffix(x.r.URL.RawQuery)))
	x.w.Header().Set("Content-Length", "0")
	x.w.WriteHeader(http.StatusMovedPermanently)
}

// label is the DNS form of a CID, name or domain: what its origin begins with.
func (g *gateway) label(ns, id string, inline bool) (string, error) {
	if ns == "ipfs" {
		c, err := cid.Decode(id)
		if err != nil {
			return "", fmt.Errorf("%.100q is no CID", id)
		}
		return cidLabel(c)
	}
	if _, text, err := g.content.backend.spelled.parse(id); err == nil {
		return text, nil
	}
	if n, err := nameOfCID(id); err == nil {
		return n.String(), nil
	}
	id = strings.ToLower(strings.TrimSuffix(id, "."))
	if !validDomain(id) || g.cfg.DNSLinks == nil {
		return "", fmt.Errorf("%w: %.100q", naming.ErrInvalidName, id)
	}
	if inline && strings.Contains(id, ".") {
		return boxogw.InlineDNSLink(id)
	}
	return id, nil
}

// nameOfCID reads a name that is written as a CID of some other codec than that of keys.
func nameOfCID(id string) (naming.Name, error) {
	c, err := cid.Decode(id)
	if err != nil {
		return naming.Name{}, err
	}
	return naming.ParseName(cid.NewCidV1(cid.Libp2pKey, c.Hash()).String())
}

// errLongLabel is worded as other gateways do.
var errLongLabel = fmt.Errorf("CID incompatible with DNS label length limit of %d", maxLabel)

// cidLabel is a CID as CIDv1 in base32, or in base36 where that is too long.
func cidLabel(c cid.Cid) (string, error) {
	c = cid.NewCidV1(c.Type(), c.Hash())
	if s := c.String(); len(s) <= maxLabel {
		return s, nil
	}
	s, err := c.StringOfBase(multibase.Base36)
	if err != nil || len(s) > maxLabel {
		return "", fmt.Errorf("%w: ask for it by path, on an IP address", errLongLabel)
	}
	return s, nil
}

// serveID answers on <id>.<ns>.<host>, after a redirect to the one spelling of
// id: two spellings would be two origins.
func (g *gateway) serveID(x *transaction, p place) {
	id := p.id
	if p.ns == "ipns" && g.cfg.DNSLinks != nil && !strings.Contains(id, ".") && strings.Contains(id, "-") {
		// An inlined domain: my-v--long-example-com → my.v-long.example.com
		id = boxogw.UninlineDNSLink(id)
	}
	label, err := g.label(p.ns, id, false)
	if err != nil {
		f := badRequest(err.Error())
		f.Step = StepName
		g.fail(x, f)
		return
	}
	if label != id && label != p.id {
		g.redirect(x, originURL(schemeOf(x.r), label+"."+p.ns, p.parent)+localPath(x.r.URL.EscapedPath()))
		return
	}
	g.serveContent(x, origin{prefix: "/" + p.ns + "/" + label, gateway: p.parent}, true)
}
