package gateway

import (
	"context"
	"net/http"
	"regexp"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
)

const (
	maxReleases  = 20              // that a site's page lists
	releasesTime = 3 * time.Second // for all of them to be had
)

// plainAddr are addresses that are safe in a command: a site's author writes
// the roster, readers paste the command into a shell, and the host in an address may be any text.
var plainAddr = regexp.MustCompile(`^/[A-Za-z0-9./:_-]+$`)

// sitePage is what the page about a site shows.
type sitePage struct {
	Site
	URL        string // where it is read
	RootURL    string // where this root is read, whatever the name leads to later
	Files      int    // of the newest release; 0 where not known
	Sequence   uint64 // of the record
	ValidUntil time.Time
	MovedTo    string // the name that publishes for it, where that is another
	Closed     bool   // that is so for ever, by a last record
	Copies     Copies
	Releases   []releaseLine // newest first
	Older      int           // releases before those listed
	Gap        string        // why the rest can't be listed; may be empty
	CAR        string        // URL of all of its blocks
	Record     string        // URL of its signed record
	Peer       string        // a holder's address, for commands; may be empty
}

type releaseLine struct {
	merkle.Release
	CID string
	URL string
}

// serveSitePage shows what is known of the site of a name; on this machine, of an alias.
func (g *gateway) serveSitePage(x *transaction, h host, id string) {
	n, err := naming.ParseName(id)
	alias := ""
	if err != nil {
		var ok bool
		if n, ok = g.aliasOf(x, id); !ok || g.reader(x, h) != readerHere {
			f := badRequest("want the name of a site, k51…, after " + sitePrefix)
			f.Step = StepName
			g.fail(x, f)
			return
		}
		alias = id
	}
	if g.cfg.Names == nil {
		g.fail(x, Failure{Kind: KindUnsupported, Step: StepRecord, Message: "this gateway serves no names"})
		return
	}
	traceOf(x.ctx).set(func(t *trace) { t.path = x.r.URL.Path })
	if g.denies(x, "/ipns/"+n.String()) {
		return
	}
	chain, root, err := g.content.backend.chain(x.ctx, n)
	if err != nil {
		g.fail(x, failureOf(x.ctx, http.StatusBadGateway, err.Error()))
		return
	}
	if len(chain) == 0 {
		g.fail(x, Failure{Status: http.StatusNotFound, Kind: KindNotFound, Step: StepRecord, Name: n.String(), Message: "nothing is signed yet that a page could tell of"})
		return
	}
	writePage(x.w, http.StatusOK, "site", g.sitePage(x, h, Site{Alias: alias, Name: n, Root: root}, chain))
}

// sitePage puts together what the records, the chain of releases and the
// node's evidence say.
func (g *gateway) sitePage(x *transaction, h host, s Site, chain []naming.Resolution) sitePage {
	ctx, cancel := context.WithTimeout(withTrace(x.ctx, &trace{}), titleTime)
	s.Title = g.titles.of(ctx, g.cfg.Blocks, s.Root)
	cancel()
	p := sitePage{
		Site: s, URL: g.readURL(x.r, h, s), RootURL: g.siteURL(x.r, h, "ipfs", s.Root.String()),
		Sequence: chain[0].Record.Sequence(), ValidUntil: chain[0].Record.ValidUntil(),
	}
	if to := chain[len(chain)-1].Record.Name(); to != s.Name {
		p.MovedTo = to.String()
	}
	for _, r := range chain {
		p.Closed = p.Closed || r.Record.IsLast()
		if end := r.Record.ValidUntil(); end.Before(p.ValidUntil) {
			p.ValidUntil = end
		}
	}
	p.addReleases(g.releases(x.ctx, chain[len(chain)-1].Record.Release()))
	for i, r := range p.Releases {
		p.Releases[i].URL = g.siteURL(x.r, h, "ipfs", r.Root.String())
	}
	if g.cfg.Sites != nil {
		p.Copies = g.cfg.Sites.Copies(x.ctx, s.Name, s.Root)
	}
	for _, holder := range p.Copies.Holders {
		if p.Peer == "" && !holder.Gone && plainAddr.MatchString(holder.Addr) {
			p.Peer = holder.Addr
		}
	}
	p.CAR = absolute(x.r, p.RootURL) + "?format=car"
	p.Record = absolute(x.r, g.siteURL(x.r, h, "ipns", s.Name.String())) + "?format=ipns-record"
	return p
}

// absolute makes a path of this host a URL.
func absolute(r *http.Request, to string) string {
	if to[0] == '/' {
		return schemeOf(r) + "://" + r.Host + to
	}
	return to
}

func (p *sitePage) addReleases(found []releaseLine, gap string) {
	p.Releases, p.Gap = found, gap
	if len(found) > 0 {
		p.Published, p.Bytes = found[0].Time, found[0].Release.Bytes
		p.Files = int(found[0].Files)
		p.Older = int(found[len(found)-1].Number - 1)
	}
}

// releases follows the chain of releases back. gap says why it ends early;
// empty where it ends at its start, or at maxReleases.
func (g *gateway) releases(ctx context.Context, from cid.Cid) (found []releaseLine, gap string) {
	ctx, cancel := context.WithTimeout(withTrace(ctx, &trace{}), releasesTime)
	defer cancel()
	for c := from; c.Defined() && len(found) < maxReleases; {
		r, err := merkle.ReadRelease(ctx, g.cfg.Blocks, c)
		if err != nil {
			return found, "release " + c.String() + " can't be had here: " + err.Error()
		}
		if n := len(found); n > 0 && r.Number != found[n-1].Number-1 {
			return found, "release " + c.String() + " is out of order"
		}
		found = append(found, releaseLine{Release: r, CID: c.String()})
		c = r.Previous
	}
	return found, ""
}
