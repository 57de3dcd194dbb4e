package gateway

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/naming"
)

// maxAddress bounds an address, in bytes.
const maxAddress = 2048

// maxListed bounds the sites on the landing page.
const maxListed = 500

// titleTime bounds how long a page may look for titles.
const titleTime = time.Second

// landingPage is what the landing template shows.
type landingPage struct {
	Local bool // the reader is on this machine: sites are listed
	Sites []landingSite
	More  int // sites that are not listed
}

type landingSite struct {
	Site
	URL   string
	About string // the site's page here
	Label string
}

// serveLanding shows what this is. The sites are listed only to a reader on
// this machine: which sites somebody keeps is nobody else's business.
func (g *gateway) serveLanding(x *transaction, h host) {
	p := landingPage{Local: g.reader(x, h) == readerHere}
	if p.Local && g.cfg.Sites != nil {
		sites := g.cfg.Sites.Sites(x.ctx)
		if p.More = len(sites) - maxListed; p.More > 0 {
			sites = sites[:maxListed]
		}
		ctx, cancel := context.WithTimeout(x.ctx, titleTime)
		defer cancel()
		for _, s := range sites {
			p.Sites = append(p.Sites, g.landingSite(ctx, x.r, h, s))
		}
		slices.SortStableFunc(p.Sites, func(a, b landingSite) int { return strings.Compare(strings.ToLower(a.Label), strings.ToLower(b.Label)) })
	}
	writePage(x.w, http.StatusOK, "landing", p, schemeOf(x.r)+"://*."+g.originHost(h).String())
}

func (g *gateway) landingSite(ctx context.Context, r *http.Request, h host, s Site) landingSite {
	if s.Title == "" {
		s.Title = g.titles.of(ctx, g.cfg.Local, s.Root)
	}
	l := landingSite{Site: s, Label: s.Title, URL: g.readURL(r, h, s), About: sitePrefix + s.Name.String()}
	if l.Label == "" {
		l.Label = s.Alias
	}
	if l.Label == "" {
		l.Label = s.Name.String()
	}
	return l
}

// readURL is where a site is read: at its alias where it has one that can be a
// host name, else at its name.
func (g *gateway) readURL(r *http.Request, h host, s Site) string {
	at := g.originHost(h)
	if s.Alias != "" && validDomain(s.Alias) && !strings.Contains(s.Alias, ".") && g.hosts[at.name].Aliases {
		return originURL(schemeOf(r), s.Alias, at) + "/"
	}
	return g.siteURL(r, h, "ipns", s.Name.String())
}

// originHost is the host under which sites have origins of their own, seen
// from h: localhost for the addresses of this machine, which can have none below them.
func (g *gateway) originHost(h host) host {
	if h.loopback() {
		return host{name: "localhost", port: h.port}
	}
	return h
}

// siteURL is where a CID or name is read: its origin where the host has such,
// else its path.
func (g *gateway) siteURL(r *http.Request, h host, ns, id string) string {
	at := g.originHost(h)
	if c, ok := g.hosts[at.name]; ok && c.Subdomains {
		if label, err := g.label(ns, id, c.InlineDNSLink || schemeOf(r) == "https"); err == nil {
			return originURL(schemeOf(r), label+"."+ns, at) + "/"
		}
	}
	return "/" + ns + "/" + id + "/"
}

// serveOpen redirects to where an address is read. The target is put together
// from what was parsed, so it can't be anybody else's origin.
func (g *gateway) serveOpen(x *transaction, h host) {
	address := strings.TrimSpace(x.r.URL.Query().Get("address"))
	to, ok := g.resolveAddress(x, h, address)
	if !ok {
		g.fail(x, badRequest("that is no address: want a CID, a name, /ipfs/…, /ipns/…, ipfs://…, ipns://… or an alias"))
		return
	}
	x.w.Header().Set("Location", asciiHeader(to))
	x.w.Header().Set("Cache-Control", "no-store")
	x.w.WriteHeader(http.StatusSeeOther)
}

func (g *gateway) resolveAddress(x *transaction, h host, address string) (string, bool) {
	if address == "" || len(address) > maxAddress {
		return "", false
	}
	ns := ""
	for _, n := range []string{"ipfs", "ipns"} {
		for _, lead := range []string{"/" + n + "/", n + "://"} {
			if rest, ok := strings.CutPrefix(address, lead); ok {
				ns, address = n, rest
			}
		}
	}
	id, rest, _ := strings.Cut(address, "/")
	path := (&url.URL{Path: "/" + rest}).EscapedPath()[1:]
	if ns == "" {
		if n, ok := g.aliasOf(x, id); ok {
			if h.loopback() {
				return originURL(schemeOf(x.r), id, g.originHost(h)) + "/" + path, true
			}
			ns, id = "ipns", n.String()
		} else if _, err := naming.ParseName(id); err == nil {
			ns = "ipns"
		} else if _, err := cid.Decode(id); err == nil {
			ns = "ipfs"
		} else if g.cfg.DNSLinks != nil && strings.Contains(id, ".") {
			ns = "ipns"
		}
	}
	if ns == "" {
		return "", false
	}
	if _, err := g.label(ns, id, false); err != nil {
		return "", false
	}
	return g.siteURL(x.r, h, ns, id) + path, true
}

func (g *gateway) aliasOf(x *transaction, id string) (naming.Name, bool) {
	if g.cfg.Sites == nil || !validDomain(id) || strings.Contains(id, ".") || !x.here {
		return naming.Name{}, false
	}
	return g.cfg.Sites.ByAlias(x.ctx, id)
}
