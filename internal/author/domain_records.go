package author

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/holdfast-sites/holdfast/internal/dns"
	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
)

// DomainRecord is a record that a domain should have, for a zone file and for a provider's form.
type DomainRecord struct {
	Name  string `json:"name"` // without final dot
	Type  string `json:"type"`
	Value string `json:"value"` // without quotes
	TTL   int    `json:"ttl"`
	Line  string `json:"line"` // as a zone file has it
	// Choice groups records of which one is enough; 0: it is needed.
	Choice int `json:"choice"`
}

// domainTTL is what records are given, in seconds: the link rarely changes, and a mistake should heal in minutes.
const domainTTL = 300

func newDomainRecord(name, kind, value string, choice int) DomainRecord {
	written := value
	switch kind {
	case "TXT":
		written = `"` + value + `"`
	case "CNAME", "ALIAS":
		written = value + "."
	}
	return DomainRecord{Name: name, Type: kind, Value: value, TTL: domainTTL, Choice: choice,
		Line: fmt.Sprintf("%s. %d IN %s %s", name, domainTTL, kind, written)}
}

// domainGateways are the hosts that should serve a domain: those that were given, or else the public gateways of the
// hosts that keep the site, or of all hosts where none does yet.
func (a *Author) domainGateways(ctx context.Context, site naming.Name, given []string) ([]string, error) {
	out := []string{}
	add := func(text string) bool {
		host, ok := gatewayHost(text)
		if ok && !slices.Contains(out, host) && len(out) < maxGateways {
			out = append(out, host)
		}
		return ok
	}
	for _, g := range given {
		if !add(g) {
			return nil, usagef("--gateway is a host name, an address or a URL, not %q", g)
		}
	}
	if len(given) > 0 {
		return out, nil
	}
	hosts, err := a.State.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	if !site.IsZero() {
		held, err := a.State.Holdings(ctx, site)
		if err != nil {
			return nil, err
		}
		if len(held) > 0 {
			hosts = slices.DeleteFunc(hosts, func(h state.Host) bool {
				return !slices.ContainsFunc(held, func(o state.Holding) bool { return o.Host == h.ID })
			})
		}
	}
	for _, h := range hosts {
		for _, g := range h.Gateways {
			add(g) // what a host says of itself: what makes no sense is left out
		}
	}
	return out, nil
}

// gatewayHost is the host of a gateway's URL, or of a host that is given as such, without port.
func gatewayHost(text string) (string, bool) {
	if !strings.Contains(text, "://") {
		if ip, err := netip.ParseAddr(text); err == nil {
			return ip.String(), true
		}
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.User != nil {
		return "", false
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil {
		return ip.String(), true
	}
	host, err := naming.ParseDomain(u.Hostname())
	return host, err == nil
}

// advise fills in what should be published, and what a certificate needs.
func (d *DomainReport) advise(views []DomainView, site naming.Name) {
	d.Records = []DomainRecord{}
	if site.IsZero() {
		d.Notes = append(d.Notes, "say with --site which site the domain is for, to see the records that it needs")
	} else {
		d.Records = append(d.Records, newDomainRecord("_dnslink."+d.Domain, "TXT", "dnslink=/ipns/"+site.String(), 0))
	}
	var addrs []string
	unsure := !slices.ContainsFunc(views, func(v DomainView) bool { return !v.unsure })
	d.Apex = unsure && strings.Count(d.Domain, ".") == 1 // where nobody can say: as it mostly is
	for _, v := range views {
		d.Apex = d.Apex || v.apex
		for _, line := range v.lines {
			if !slices.Contains(addrs, line) {
				addrs = append(addrs, line)
			}
		}
		if len(v.caa) > 0 && d.CAAFrom == "" {
			d.CAA, d.CAAFrom = v.caa, v.caaFrom
		}
		d.note(v)
	}
	d.adviseAddress(addrs)
	d.adviseTLS(unsure)
}

// adviseAddress says how the domain itself gets to a gateway.
func (d *DomainReport) adviseAddress(addrs []string) {
	choice := 0
	if len(d.Gateways) > 1 {
		choice = 1
	}
	for _, g := range d.Gateways {
		switch ip, err := netip.ParseAddr(g); {
		case err == nil:
			d.Records = append(d.Records, newDomainRecord(d.Domain, familyOf(ip), g, choice))
		case g == d.Domain:
		case d.Apex:
			d.Records = append(d.Records, newDomainRecord(d.Domain, "ALIAS", g, 1))
		default:
			d.Records = append(d.Records, newDomainRecord(d.Domain, "CNAME", g, choice))
		}
	}
	if len(d.Gateways) == 0 {
		d.Notes = append(d.Notes, "no public gateway of a host is known: name the one that serves the domain with --gateway HOST, for the CNAME, A or AAAA record that browsers need")
		return
	}
	if !d.Apex {
		if choice > 0 {
			d.Notes = append(d.Notes, "a name has one CNAME: choose one of the gateways")
		}
		return
	}
	d.Notes = append(d.Notes, d.Domain+" is the top of its zone, where no CNAME can be: use ALIAS or ANAME where your DNS provider has it, or else A and AAAA, which have to be changed when the gateway moves")
	for _, a := range addrs {
		if ip, err := netip.ParseAddr(a); err == nil && !slices.Contains(d.Gateways, a) {
			d.Records = append(d.Records, newDomainRecord(d.Domain, familyOf(ip), a, 1))
		}
	}
}

func familyOf(ip netip.Addr) string {
	if ip.Unmap().Is4() {
		return "A"
	}
	return "AAAA"
}

// note tells what of a view an author should know though it is not wrong.
func (d *DomainReport) note(v DomainView) {
	say := func(format string, args ...any) {
		if s := fmt.Sprintf(format, args...); !slices.Contains(d.Notes, s) {
			d.Notes = append(d.Notes, s)
		}
	}
	for _, a := range v.Addresses {
		if ip, err := netip.ParseAddr(a); err == nil && (ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsUnspecified()) {
			say("%s is an address that readers elsewhere can't reach", a)
		}
	}
	if v.Verdict == DomainOK && strings.Count(v.DNSLink, "/") > 2 {
		say("the domain shows a part of the site: %s", v.DNSLink)
	}
	if len(v.Via) > 0 {
		say("_dnslink.%s is an alias of %s: whoever has that domain decides what this one shows", d.Domain, v.Via[len(v.Via)-1])
	}
	if d.Site != "" && len(v.Addresses) == 0 && v.Verdict == DomainOK {
		say("the domain itself has no address: tools find the site by its DNSLink, browsers don't")
	}
}

// certificateRules are the CAA records that count for a domain: its own, or those of the nearest domain above it
// that has some (RFC 8659).
func certificateRules(ctx context.Context, r dns.Resolver, domain string) (rules []string, from string, err error) {
	for name := domain; name != ""; _, name, _ = strings.Cut(name, ".") {
		a, err := r.Ask(ctx, name, dns.CAA)
		if err != nil || len(a.Data) > 0 {
			return a.Data, name, err
		}
	}
	return nil, "", nil
}

// adviseTLS says what a certificate for the domain needs. Nothing is connected to in order to find out; unsure, no
// resolver could tell of CAA records.
func (d *DomainReport) adviseTLS(unsure bool) {
	at := "the gateway that serves it"
	if len(d.Gateways) > 0 {
		at = strings.Join(d.Gateways, " or ")
	}
	d.TLS = []string{
		fmt.Sprintf("whoever ends TLS at %s needs a certificate for %s (a gateway of ours with gateway.tls gets it by itself), and its gateway must ask DNS (gateway.dns = true)", at, d.Domain),
		fmt.Sprintf("to get one: HTTP-01 needs port 80 of where %s leads reachable from everywhere; DNS-01 needs a TXT record at _acme-challenge.%s, and no port", d.Domain, d.Domain),
	}
	switch issuers := issuersOf(d.CAA); {
	case unsure:
		d.TLS = append(d.TLS, "whether CAA records forbid an authority could not be asked")
	case d.CAAFrom == "":
		d.TLS = append(d.TLS, "no CAA record forbids an authority")
	case len(issuers) == 0:
		d.TLS = append(d.TLS, fmt.Sprintf("the CAA records of %s forbid every authority to issue", d.CAAFrom))
	default:
		d.TLS = append(d.TLS, fmt.Sprintf("by the CAA records of %s only these authorities may issue: %s", d.CAAFrom, strings.Join(issuers, ", ")))
	}
}

// issuersOf reads CAA records such as `0 issue "letsencrypt.org; validationmethods=dns-01"`. Where none is about
// issuing, any authority may.
func issuersOf(caa []string) []string {
	var out []string
	limited := false
	for _, rule := range caa {
		fields := strings.SplitN(rule, " ", 3)
		if len(fields) != 3 || !strings.EqualFold(fields[1], "issue") {
			continue
		}
		limited = true
		issuer, _, _ := strings.Cut(strings.Trim(fields[2], `"`), ";")
		if issuer = strings.TrimSpace(issuer); issuer != "" {
			out = append(out, issuer)
		}
	}
	if !limited {
		return []string{"any"}
	}
	return out
}
