package node

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/holdfast-sites/holdfast/internal/dns"
	"github.com/holdfast-sites/holdfast/internal/p2p"
	"github.com/holdfast-sites/holdfast/naming"
)

// domains is where DNS is asked. The zero value asks nobody.
type domains struct {
	web       http.RoundTripper
	static    map[string]string
	resolvers []dns.Resolver                                                 // of the configuration
	lookup    func(context.Context, string) ([]string, time.Duration, error) // TXT, from those through a cache; nil: there are none
	cache     *dns.Cache                                                     // behind lookup
	readers   bool                                                           // readers may name domains
}

// openDomains readies the resolvers of the configuration; nobody is asked yet. Without [dns] there are none, but for
// a gateway that may ask DNS: it uses the system's. Offline nobody is asked. dns.ErrResolver.
func openDomains(cfg Config, web http.RoundTripper) (domains, error) {
	d := domains{web: web, static: cfg.Gateway.DNSLink, readers: cfg.Gateway.DNS}
	specs := cfg.DNS.Resolvers
	if len(specs) == 0 && cfg.Gateway.DNS {
		specs = []string{dns.System}
	}
	resolvers, err := d.parse(specs)
	if err != nil {
		return domains{}, fmt.Errorf("dns.resolvers: %w", err)
	}
	if len(resolvers) > 0 && cfg.Network != string(p2p.Offline) {
		d.resolvers = resolvers
		d.cache = dns.NewCache(dns.InOrder(resolvers), nil)
		d.lookup = dns.TXTLookup(d.cache)
	}
	return d, nil
}

// close ends what is being asked.
func (d domains) close() {
	if d.cache != nil {
		d.cache.Close()
	}
}

// parse reads resolvers; one that is named twice is one.
func (d domains) parse(specs []string) (out []dns.Resolver, err error) {
	known := make(map[string]bool)
	for _, s := range specs {
		r, err := dns.Parse(s, dns.Options{HTTP: d.web})
		if err != nil {
			return nil, err
		}
		if !known[r.String()] {
			known[r.String()] = true
			out = append(out, r)
		}
	}
	return out, nil
}

// choose gives the resolvers of the given names, or those of the configuration.
func (d domains) choose(specs []string) ([]dns.Resolver, error) {
	if len(specs) == 0 {
		return d.resolvers, nil
	}
	return d.parse(specs)
}

// link looks up domains for the node's own user; nil where there is nothing to look in.
func (d domains) link() func(context.Context, string) (string, time.Duration, error) {
	if d.lookup == nil && len(d.static) == 0 {
		return nil
	}
	return (&naming.DNSLink{Static: d.static, Lookup: d.lookup}).Resolve
}

// forReaders looks up any domain that readers name, which is why DNS takes a setting of its own there; nil where
// there is nothing to look in.
func (d domains) forReaders() *naming.DNSLink {
	links := &naming.DNSLink{Static: d.static}
	if d.readers {
		links.Lookup = d.lookup
	}
	if links.Lookup == nil && len(links.Static) == 0 {
		return nil
	}
	return links
}
