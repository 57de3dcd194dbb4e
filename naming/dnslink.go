package naming

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
)

const (
	dnslinkLabel  = "_dnslink."
	dnslinkPrefix = "dnslink="
	// maxTXTRecords bounds how many TXT records of a domain are looked at, maxTXT how long one may be, in bytes.
	maxTXTRecords = 100
	maxTXT        = 4096
	// staticTTL is for how long an answer from the configuration holds.
	staticTTL = time.Minute
)

// ErrDNSLink says that what a domain has published is no DNSLink that can be followed: malformed, too long, or
// several that differ.
var ErrDNSLink = errors.New("malformed DNSLink")

// DNSLink finds the content path that a domain's TXT record names. The zero value knows no domain and asks nobody:
// DNS is used only where Lookup is set.
//
// Source: https://dnslink.dev
type DNSLink struct {
	// Static answers for the domains in it, before DNS is asked: domain in lower case to "/ipfs/…" or "/ipns/…".
	Static map[string]string
	// Lookup gets the TXT records of a host, which is handed over with its final dot: each text is one record, its
	// strings joined, and ttl is for how long all of them hold, at least 0. No texts and no error where there are
	// none. ErrLoop where aliases (CNAME) lead in a circle; any other error means that DNS could not be asked.
	// May be nil.
	Lookup func(ctx context.Context, host string) (texts []string, ttl time.Duration, err error)
}

// Resolve gives a domain's content path, "/ipfs/<cid>" or "/ipns/<name>" and perhaps a path behind it, and for how
// long that may be kept. A link to another domain ("/ipns/example.org") is followed, and the shortest TTL on the way
// counts. Errors: ErrInvalidName where domain is none; ErrDNSLink where a link is malformed or one of several;
// ErrNotFound where there is none; ErrLoop; ErrUnavailable where DNS didn't answer.
func (d *DNSLink) Resolve(ctx context.Context, domain string) (path string, ttl time.Duration, err error) {
	behind := ""
	seen := map[string]bool{}
	for at := domain; ; {
		name, err := ParseDomain(at)
		if err != nil {
			return "", 0, err
		}
		if seen[name] || len(seen) == MaxHops {
			return "", 0, fmt.Errorf("the DNSLink of %s: %w: at %s after %d domains", domain, ErrLoop, name, len(seen))
		}
		link, holds, err := d.link(ctx, name)
		if err != nil {
			return "", 0, err
		}
		if len(seen) == 0 || holds < ttl {
			ttl = holds
		}
		seen[name] = true
		if link.domain == "" {
			return link.path + behind, ttl, nil
		}
		at, behind = link.domain, link.path+behind
		if len(behind) > maxTXT {
			return "", 0, fmt.Errorf("the DNSLink of %s: %w: longer than %d bytes", domain, ErrDNSLink, maxTXT)
		}
	}
}

// dnslink is what one TXT record says.
type dnslink struct {
	domain string // where it links to another domain, else ""
	path   string // the whole content path, or what is behind that domain
}

// link is the one link of a domain, and how long it holds.
func (d *DNSLink) link(ctx context.Context, domain string) (dnslink, time.Duration, error) {
	if text, ok := d.Static[domain]; ok {
		link, err := parseDNSLink(text)
		if err != nil {
			return dnslink{}, 0, fmt.Errorf("the configured link of %s: %w", domain, err)
		}
		return link, staticTTL, nil
	}
	if d.Lookup == nil {
		return dnslink{}, 0, fmt.Errorf("the DNSLink of %s: %w: DNS is not in use here", domain, ErrNotFound)
	}
	texts, ttl, err := d.Lookup(ctx, dnslinkLabel+domain+".")
	if err != nil && !errors.Is(err, ErrLoop) && !errors.Is(err, ErrUnavailable) {
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	var link dnslink
	if err == nil {
		link, err = chooseDNSLink(texts)
	}
	if err != nil {
		return dnslink{}, 0, fmt.Errorf("the DNSLink of %s: %w", domain, err)
	}
	return link, ttl, nil
}

// chooseDNSLink takes the one link among a domain's TXT records. Several are an error, as in Kubo: DNS has no
// order, and a site must not depend on chance. Links into other namespaces don't count.
func chooseDNSLink(texts []string) (dnslink, error) {
	if len(texts) > maxTXTRecords {
		return dnslink{}, fmt.Errorf("%w: %d TXT records, at most %d are read", ErrDNSLink, len(texts), maxTXTRecords)
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
	return dnslink{}, fmt.Errorf("%w: %d different links, there must be one", ErrDNSLink, len(links))
}

// parseDNSLink reads "/ipfs/<cid>[/path]" or "/ipns/<name or domain>[/path]".
func parseDNSLink(value string) (dnslink, error) {
	if len(value) > maxTXT {
		return dnslink{}, fmt.Errorf("%w: a link of %d bytes", ErrDNSLink, len(value))
	}
	if !strings.HasPrefix(value, "/") { // a record's value may also be the bytes of a CID
		return dnslink{}, fmt.Errorf("%w: the link %.80q doesn't begin with /", ErrDNSLink, value)
	}
	p, err := parseContentPath([]byte(value))
	if err == nil {
		return dnslink{path: p.text}, nil
	}
	namespace, head, rest, splitErr := splitContentPath(strings.TrimSuffix(value, "/"))
	if splitErr == nil && namespace == "ipns" {
		if domain, domainErr := ParseDomain(head); domainErr == nil {
			return dnslink{domain: domain, path: rest}, nil
		}
	}
	return dnslink{}, fmt.Errorf("%w: the link %.80q: %v", ErrDNSLink, value, err)
}

// ParseDomain gives a domain in lower case without its final dot. It has at least two labels, so that no name and
// no alias can be one, and the last is no number, so that no IP address can. ErrInvalidName.
func ParseDomain(s string) (string, error) {
	if strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII }) {
		return "", fmt.Errorf("%w: %.80q is written in DNS as xn--…: give it so", ErrInvalidName, s)
	}
	name := strings.ToLower(strings.TrimSuffix(s, "."))
	labels := strings.Split(name, ".")
	if len(name) > 253-len(dnslinkLabel) || len(labels) < 2 || strings.Trim(labels[len(labels)-1], "0123456789") == "" {
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
