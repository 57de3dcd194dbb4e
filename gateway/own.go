package gateway

import (
	"net/http"
	"strings"
)

// Our own pages are at "/" and under ownPrefix of hosts that are no site's.
const (
	ownPrefix  = "/-/"
	openPath   = ownPrefix + "open"  // takes an address from the landing page's form and redirects to it
	sitePrefix = ownPrefix + "site/" // what is known here of the site of a name
)

// serveOwn answers with one of our own pages. It reports false where the
// request is for none of them.
func (g *gateway) serveOwn(x *transaction, h host, p place) bool {
	path := x.r.URL.Path
	if path != "/" && !strings.HasPrefix(path, ownPrefix) || p.kind != placeGateway && !h.ip.IsValid() || p.config.TrustlessOnly {
		return false
	}
	if askedByAnother(x.r) {
		f := badRequest("this page can't be asked for by a script, or be part of a page, of another site")
		f.Status = http.StatusForbidden
		g.fail(x, f)
		return true
	}
	site, ofSite := strings.CutPrefix(path, sitePrefix)
	switch {
	case path == "/":
		g.serveLanding(x, h)
	case path == openPath:
		g.serveOpen(x, h)
	case ofSite:
		g.serveSitePage(x, h, site)
	default:
		return false
	}
	return true
}

// askedByAnother tells whether a browser says that a page of another origin
// asks, and not a reader who follows a link. Without CORS it could not read the
// answer anyway; this way it learns nothing from times and sizes either.
func askedByAnother(r *http.Request) bool {
	from, mode := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Sec-Fetch-Mode")
	return (from == "cross-site" || from == "same-site") && mode != "navigate"
}

// reader is who a page of ours is for.
type reader int

const (
	readerElsewhere reader = iota
	readerHere             // on this machine, at an address that only this machine has
)

// reader tells where the reader is. Both sides of the connection have to be on
// this machine, and no proxy between them: a name that leads here could be anybody's.
func (g *gateway) reader(x *transaction, h host) reader {
	if h.loopback() && x.here {
		return readerHere
	}
	return readerElsewhere
}

// aboutURL is the page about the site that a failure is of; empty where that
// would not help, or there is none to be seen from where the reader is.
func (g *gateway) aboutURL(r *http.Request, f Failure) string {
	if f.Name == "" || f.Kind != KindUnavailable && f.Kind != KindUntrusted || f.Step == StepName || f.Step == StepRecord {
		return ""
	}
	h, err := parseHost(r.Host)
	if err != nil {
		return ""
	}
	p := locate(g.hosts, h)
	switch {
	case p.config.TrustlessOnly:
		return ""
	case p.kind == placeGateway || p.kind == placeID || p.kind == placeAlias:
		h = p.parent
	case !h.ip.IsValid():
		return ""
	}
	return schemeOf(r) + "://" + h.String() + sitePrefix + f.Name
}
