package author

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-sites/holdfast/internal/dns"
	"github.com/holdfast-sites/holdfast/naming"
)

// DomainRequest asks what a domain has published, and what it should have.
type DomainRequest struct {
	Domain    string   `json:"domain"`
	Site      string   `json:"site,omitempty"`      // alias or name that it should point at; empty: any will do
	Gateways  []string `json:"gateways,omitempty"`  // host names or addresses that should serve it; none: it may be anywhere
	Resolvers []string `json:"resolvers,omitempty"` // whom to ask; none: those of the configuration
}

// Verdict is how a domain stands. Of several, the one that is furthest down counts.
type Verdict string

// The verdicts.
const (
	DomainOK          Verdict = "ok"          // all is as it should be
	DomainUnavailable Verdict = "unavailable" // DNS could not be asked
	DomainMissing     Verdict = "missing"     // nothing is published
	DomainElsewhere   Verdict = "elsewhere"   // it points to something else
	DomainMalformed   Verdict = "malformed"   // what is published can't be followed: malformed, several, a loop
)

var verdicts = []Verdict{DomainOK, DomainUnavailable, DomainMissing, DomainElsewhere, DomainMalformed}

func worse(a, b Verdict) Verdict {
	return verdicts[max(slices.Index(verdicts, a), slices.Index(verdicts, b))]
}

// DomainReport is what is published under a domain, and what should be.
type DomainReport struct {
	Domain    string         `json:"domain"`
	Verdict   Verdict        `json:"verdict"`
	Message   string         `json:"message"`            // the verdict in words
	Site      string         `json:"site,omitempty"`     // the name that was asked about
	Resolvers []DomainView   `json:"resolvers"`          // what each of them sees
	Agree     bool           `json:"agree"`              // they see the same
	Records   []DomainRecord `json:"records"`            // what should be there
	TLS       []string       `json:"tls"`                // what a certificate needs, as sentences
	Notes     []string       `json:"notes"`              // what else is to be known, as sentences
	CAA       []string       `json:"caa"`                // which authorities may issue, as DNS has it; empty: any
	CAAFrom   string         `json:"caa_from,omitempty"` // the domain whose CAA records count
	Gateways  []string       `json:"gateways"`           // that should or could serve it
	Apex      bool           `json:"apex"`               // it is the top of its zone, where no CNAME can be
}

// DomainView is a domain as one resolver sees it.
type DomainView struct {
	Resolver  string   `json:"resolver"`
	Verdict   Verdict  `json:"verdict"`
	DNSLink   string   `json:"dnslink,omitempty"` // the content path that it leads to, other domains followed
	TTL       float64  `json:"ttl_seconds"`       // for how long that holds
	Texts     []string `json:"texts"`             // the TXT records at _dnslink, as they are
	Via       []string `json:"via"`               // the aliases of _dnslink
	Aliases   []string `json:"aliases"`           // of the domain itself
	Addresses []string `json:"addresses"`         // likewise
	Error     string   `json:"error,omitempty"`

	apex     bool // it is the top of a zone
	caa      []string
	caaFrom  string
	unsure   bool     // this resolver couldn't tell whether it is the top of a zone, or which CAA records count
	lines    []string // of the gateways, by address, which are what an apex needs
	web      Verdict  // how its addresses stand
	webError string
}

const (
	domainDeadline = 30 * time.Second
	// maxResolvers and maxGateways bound what one check asks.
	maxResolvers = 16
	maxGateways  = 16
)

// CheckDomain asks each resolver what the domain has published, and compares that with what it should have. What is
// wrong with the domain is in the report; an error says that there was nothing to ask, or nobody.
func (a *Author) CheckDomain(ctx context.Context, req DomainRequest) (DomainReport, error) {
	ctx, cancel := context.WithTimeout(ctx, domainDeadline)
	defer cancel()
	domain, err := naming.ParseDomain(req.Domain)
	if err != nil {
		return DomainReport{}, err
	}
	out := DomainReport{Domain: domain, Verdict: DomainOK, Agree: true, Resolvers: []DomainView{}, Notes: []string{}, CAA: []string{}}
	var site naming.Name
	if req.Site != "" {
		if site, err = a.nameOf(ctx, trimIPNS(req.Site)); err != nil {
			return DomainReport{}, err
		}
		out.Site = site.String()
	}
	if out.Gateways, err = a.domainGateways(ctx, site, req.Gateways); err != nil {
		return DomainReport{}, err
	}
	resolvers, err := a.domainResolvers(req.Resolvers)
	if err != nil {
		return DomainReport{}, err
	}
	look := domainLook{domain: domain, site: site, gateways: out.Gateways, mustServe: len(req.Gateways) > 0}
	views := make([]DomainView, len(resolvers))
	var wg sync.WaitGroup
	for i, r := range resolvers {
		wg.Go(func() { views[i] = look.through(ctx, r) })
	}
	wg.Wait()
	out.judge(views)
	out.advise(views, site)
	return out, nil
}

// domainResolvers are those to ask. A name that was given twice is one.
func (a *Author) domainResolvers(names []string) ([]dns.Resolver, error) {
	if len(names) > maxResolvers {
		return nil, usagef("at most %d resolvers can be asked", maxResolvers)
	}
	if a.Resolvers == nil {
		return nil, usagef("no DNS resolver is configured: name one, such as --resolver system")
	}
	resolvers, err := a.Resolvers(names)
	if errors.Is(err, dns.ErrResolver) {
		return nil, usagef("%v", err)
	}
	if err == nil && len(resolvers) == 0 {
		err = usagef("no DNS resolver is configured: name one, such as --resolver system, or set dns.resolvers in config.toml")
	}
	return resolvers, err
}

// domainLook is what is looked for.
type domainLook struct {
	domain    string
	site      naming.Name // zero: any
	gateways  []string
	mustServe bool // the domain has to lead to one of the gateways
}

// through looks through one resolver.
func (l domainLook) through(ctx context.Context, r dns.Resolver) DomainView {
	v := DomainView{Resolver: r.String(), Verdict: DomainOK, web: DomainOK, Texts: []string{}, Via: []string{}, Aliases: []string{}, Addresses: []string{}}
	l.link(ctx, r, &v)
	if v.Verdict == DomainUnavailable {
		v.unsure = true
		return v // more of the same
	}
	l.addresses(ctx, r, &v)
	top, err := r.Ask(ctx, l.domain, dns.SOA)
	v.apex = len(top.Data) > 0 && len(top.Aliases) == 0
	if err == nil {
		v.caa, v.caaFrom, err = certificateRules(ctx, r, l.domain)
	}
	v.unsure = err != nil
	v.Verdict = worse(v.Verdict, v.web)
	if v.Error == "" {
		v.Error = v.webError
	}
	return v
}

// link judges what is at _dnslink.
func (l domainLook) link(ctx context.Context, r dns.Resolver, v *DomainView) {
	first := true
	lookup := func(ctx context.Context, host string) ([]string, time.Duration, error) {
		answer, err := r.Ask(ctx, host, dns.TXT)
		if first && err == nil {
			v.Texts, v.Via = append(v.Texts, answer.Data...), append(v.Via, answer.Aliases...)
		}
		first = false
		return answer.Data, answer.TTL, err
	}
	path, ttl, err := (&naming.DNSLink{Lookup: lookup}).Resolve(ctx, l.domain)
	switch {
	case err == nil:
		v.DNSLink, v.TTL = path, ttl.Seconds()
		if why := l.other(path); why != "" {
			v.Verdict, v.Error = DomainElsewhere, why
		}
		return
	case errors.Is(err, naming.ErrNotFound):
		v.Verdict = DomainMissing
	case errors.Is(err, naming.ErrUnavailable):
		v.Verdict = DomainUnavailable
	default:
		v.Verdict = DomainMalformed
	}
	v.Error = err.Error()
}

// other says in what way a content path is not the site; empty where it is.
func (l domainLook) other(path string) string {
	if l.site.IsZero() {
		return ""
	}
	namespace, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if namespace == "ipfs" {
		return fmt.Sprintf("it points at %s, which stays as it is whatever is published", path)
	}
	head, _, _ := strings.Cut(rest, "/")
	if n, err := naming.ParseName(head); err != nil || n != l.site {
		return fmt.Sprintf("it points at %s, another site", path)
	}
	return ""
}

// addresses judges where a browser is led to.
func (l domainLook) addresses(ctx context.Context, r dns.Resolver, v *DomainView) {
	own, aliases, err := addressesOf(ctx, r, l.domain)
	v.Addresses, v.Aliases = append(v.Addresses, own...), append(v.Aliases, aliases...)
	switch {
	case err != nil && errors.Is(err, naming.ErrLoop):
		v.web, v.webError = DomainMalformed, err.Error()
		return
	case err != nil:
		v.web, v.webError = DomainUnavailable, err.Error()
		return
	}
	leads := false
	for _, g := range l.gateways {
		lines := []string{g}
		if _, err := netip.ParseAddr(g); err != nil {
			if lines, _, err = addressesOf(ctx, r, g); err != nil {
				continue // advice only, unless nothing leads there
			}
		}
		v.lines = append(v.lines, lines...)
		leads = leads || slices.Contains(aliases, g) || slices.ContainsFunc(own, func(a string) bool { return slices.Contains(lines, a) })
	}
	switch {
	case !l.mustServe || leads:
	case len(own) == 0:
		v.web, v.webError = DomainMissing, "the domain itself has no address"
	default:
		v.web, v.webError = DomainElsewhere, fmt.Sprintf("the domain leads to %s, not to %s", strings.Join(own, ", "), strings.Join(l.gateways, ", "))
	}
}

// addressesOf are a host's addresses, IPv4 first, each family in order, and its aliases.
func addressesOf(ctx context.Context, r dns.Resolver, host string) (addrs, aliases []string, err error) {
	for _, t := range []dns.Type{dns.A, dns.AAAA} {
		a, err := r.Ask(ctx, host, t)
		if err != nil {
			return nil, nil, err
		}
		aliases = a.Aliases
		slices.Sort(a.Data)
		addrs = append(addrs, a.Data...)
	}
	return addrs, aliases, nil
}

// judge comes to one verdict on what several resolvers see.
func (d *DomainReport) judge(views []DomainView) {
	seen := 0
	for i, v := range views {
		d.Resolvers = append(d.Resolvers, v)
		if worse(d.Verdict, v.Verdict) != d.Verdict {
			d.Verdict, d.Message = v.Verdict, v.Error
		}
		if v.Verdict == DomainOK {
			seen++
		}
		if i > 0 && !v.sameAs(views[0]) {
			d.Agree = false
		}
	}
	switch {
	case d.Verdict == DomainOK:
		d.Message = "all is as it should be"
	case seen > 0:
		d.Message = fmt.Sprintf("seen by %d of %d resolvers: %s", seen, len(views), d.Message)
	}
}

// sameAs compares what is published, not how long it still holds.
func (v DomainView) sameAs(o DomainView) bool {
	return v.Verdict == o.Verdict && v.DNSLink == o.DNSLink && slices.Equal(v.Addresses, o.Addresses)
}
