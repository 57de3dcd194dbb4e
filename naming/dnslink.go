package naming

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
)

const (
	dnslinkLabel  = "_dnslink."
	dnslinkPrefix = "dnslink="
	// maxTXTRecords bounds how many TXT records of a domain are looked at, maxTXT how long one may be, in bytes.
	maxTXTRecords = 100
	maxTXT        = 4096
)

// DNSLink finds the content path that a domain's TXT record names. The zero value knows no domain and asks nobody:
// DNS is used only where Lookup is set.
//
// Source: https://dnslink.dev
type DNSLink struct {
	// Static answers for the domains in it, before DNS is asked: domain in lower case to "/ipfs/…" or "/ipns/…".
	Static map[string]string
	// Lookup gets the TXT records of a host, which is handed over with its final dot, like net.Resolver.LookupTXT.
	// May be nil.
	Lookup func(ctx context.Context, host string) ([]string, error)
}

// Resolve gives a domain's content path, "/ipfs/<cid>" or "/ipns/<name>" and perhaps a path behind it. A link to
// another domain ("/ipns/example.org") is followed. Errors: ErrInvalidName where domain is none, or a link is
// malformed or one of several; ErrNotFound where there is no link; ErrLoop; ErrUnavailable where DNS didn't
// answer.
func (d *DNSLink) Resolve(ctx context.Context, domain string) (string, error) {
	behind := ""
	seen := map[string]bool{}
	for at := domain; ; {
		name, err := parseDomain(at)
		if err != nil {
			return "", err
		}
		if seen[name] || len(seen) == maxHops {
			return "", fmt.Errorf("the DNSLink of %s: %w: at %s after %d domains", domain, ErrLoop, name, len(seen))
		}
		seen[name] = true
		link, err := d.link(ctx, name)
		if err != nil {
			return "", err
		}
		if link.domain == "" {
			return link.path + behind, nil
		}
		at, behind = link.domain, link.path+behind
		if len(behind) > maxTXT {
			return "", fmt.Errorf("the DNSLink of %s: %w: longer than %d bytes", domain, ErrInvalidName, maxTXT)
		}
	}
}

// dnslink is what one TXT record says.
type dnslink struct {
	domain string // where it links to another domain, else ""
	path   string // the whole content path, or what is behind that domain
}

// link is the one link of a domain.
func (d *DNSLink) link(ctx context.Context, domain string) (dnslink, error) {
	if text, ok := d.Static[domain]; ok {
		link, err := parseDNSLink(text)
		if err != nil {
			return dnslink{}, fmt.Errorf("the configured link of %s: %w", domain, err)
		}
		return link, nil
	}
	if d.Lookup == nil {
		return dnslink{}, fmt.Errorf("the DNSLink of %s: %w: DNS is not in use here", domain, ErrNotFound)
	}
	texts, err := d.Lookup(ctx, dnslinkLabel+domain+".")
	if dnsErr, ok := errors.AsType[*net.DNSError](err); ok && dnsErr.IsNotFound {
		texts, err = nil, nil
	}
	if err != nil {
		return dnslink{}, fmt.Errorf("the DNSLink of %s: %w: %w", domain, ErrUnavailable, err)
	}
	link, err := chooseDNSLink(texts)
	if err != nil {
		return dnslink{}, fmt.Errorf("the DNSLink of %s: %w", domain, err)
	}
	return link, nil
}

// chooseDNSLink takes the one link among a domain's TXT records. Several are an error, as in Kubo: DNS has no
// order, and a site must not depend on chance. Links into other namespaces don't count.
func chooseDNSLink(texts []string) (dnslink, error) {
	if len(texts) > maxTXTRecords {
		return dnslink{}, fmt.Errorf("%w: %d TXT records, at most %d are read", ErrInvalidName, len(texts), maxTXTRecords)
	}
	links := map[string]bool{}
	for _, t := range texts {
		value, ok := strings.CutPrefix(t, dnslinkPrefix)
		if ok && (strings.HasPrefix(value, "/ipfs/") || strings.HasPrefix(value, "/ipns/")) {
			links[value] = true
		}
	}
	switch len(links) {
	case 0:
		return dnslink{}, fmt.Errorf("%w: no TXT record %q at %s<domain>", ErrNotFound, dnslinkPrefix+"/ipns/…", dnslinkLabel)
	case 1:
		for value := range links {
			return parseDNSLink(value)
		}
	}
	return dnslink{}, fmt.Errorf("%w: %d different links, there must be one", ErrInvalidName, len(links))
}

// parseDNSLink reads "/ipfs/<cid>[/path]" or "/ipns/<name or domain>[/path]".
func parseDNSLink(value string) (dnslink, error) {
	if len(value) > maxTXT {
		return dnslink{}, fmt.Errorf("%w: a link of %d bytes", ErrInvalidName, len(value))
	}
	p, err := parseContentPath([]byte(value))
	if err == nil && strings.HasPrefix(value, "/") {
		return dnslink{path: p.text}, nil
	}
	namespace, head, rest, splitErr := splitContentPath(strings.TrimSuffix(value, "/"))
	if splitErr == nil && namespace == "ipns" {
		if domain, domainErr := parseDomain(head); domainErr == nil {
			return dnslink{domain: domain, path: rest}, nil
		}
	}
	return dnslink{}, fmt.Errorf("%w: the link %.80q is no content path: %w", ErrInvalidName, value, errors.Join(err, splitErr))
}

// parseDomain gives a domain in lower case without its final dot. It has at least two labels, so that no name and
// no alias can be one.
func parseDomain(s string) (string, error) {
	name := strings.ToLower(strings.TrimSuffix(s, "."))
	labels := strings.Split(name, ".")
	if len(name) > 253-len(dnslinkLabel) || len(labels) < 2 {
		return "", fmt.Errorf("%w: %.80q is no domain", ErrInvalidName, s)
	}
	for _, l := range labels {
		if len(l) < 1 || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' || strings.ContainsFunc(l, notInLabel) {
			return "", fmt.Errorf("%w: %.80q is no domain", ErrInvalidName, s)
		}
	}
	return name, nil
}

func notInLabel(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
}
