package author

import (
	"context"
	"strings"

	"github.com/holdfast-sites/holdfast/naming"
)

// isDomain tells whether an address can be looked up as a domain here.
func (a *Author) isDomain(s string) bool {
	_, err := naming.ParseDomain(s)
	return err == nil && a.DNSLink != nil
}

// resolveDomain finds the site that a domain points at, and its record. What is found holds no longer than the
// domain's own TTL.
func (a *Author) resolveDomain(ctx context.Context, domain string) (NameResult, error) {
	target, ttl, err := a.DNSLink(ctx, domain)
	if err != nil {
		return NameResult{}, err
	}
	at, err := a.ParseAddress(ctx, target)
	if err != nil {
		return NameResult{}, err
	}
	out := NameResult{Root: cidString(at.CID), Value: target, TTL: ttl.Seconds(), Source: "dns"}
	if !at.Name.IsZero() {
		if out, err = a.ResolveName(ctx, at.Name.String()); err != nil {
			return NameResult{}, err
		}
		out.TTL = min(out.TTL, ttl.Seconds())
	}
	out.Domain, out.DNSLink = strings.ToLower(strings.TrimSuffix(domain, ".")), target
	return out, nil
}
