package author

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
)

const (
	lookDeadline = 30 * time.Second
	lookSamples  = 4 // blocks read from each holder by the look from outside
)

// look is step 9: what a stranger sees who knows the holders only.
func (a *Author) look(ctx context.Context, p *publication) error {
	if a.Outside == nil || len(p.placed.order) == 0 {
		return nil
	}
	p.report(Event{Step: "look", Message: "from outside"})
	ctx2, cancel := context.WithTimeout(ctx, lookDeadline)
	defer cancel()
	holders := make([]peer.AddrInfo, 0, len(p.placed.order))
	for _, id := range p.placed.order {
		if p.placed.stands(id) != Proved {
			continue
		}
		ai, err := addrInfo(p.placed.hosts[id])
		if err != nil {
			return err
		}
		holders = append(holders, ai)
	}
	if err := a.lookTwice(ctx2, p, holders); err != nil {
		p.warn("not seen from outside yet: %v", err)
		return ctx.Err()
	}
	site, err := a.State.SiteByName(ctx, p.name)
	if err != nil {
		return err
	}
	site.Live, site.LiveAt = true, a.Now()
	return a.State.PutSite(ctx, site)
}

// lookTwice looks, and once more where a single lost connection may be the
// reason that nothing was seen.
func (a *Author) lookTwice(ctx context.Context, p *publication, holders []peer.AddrInfo) error {
	err := a.Outside.Look(ctx, p.name, p.built.Root, holders, samples(p.built))
	if err != nil && ctx.Err() == nil {
		err = a.Outside.Look(ctx, p.name, p.built.Root, holders, samples(p.built))
	}
	return err
}

// samples spreads a few blocks over the whole DAG, the root among them.
func samples(b merkle.Built) []cid.Cid {
	n := len(b.CIDs)
	if n <= lookSamples {
		return b.CIDs
	}
	out := []cid.Cid{b.Root}
	for i := range lookSamples - 1 {
		out = append(out, b.CIDs[i*n/(lookSamples-1)])
	}
	return out
}

// published is the outcome as people and programs read it.
func (a *Author) published(p *publication) Published {
	site, _ := a.State.SiteByName(context.Background(), p.name)
	out := Published{
		Alias: p.req.Alias, Name: p.name.String(), Root: p.built.Root.String(), Release: p.relCID.String(),
		Number: p.release.Number, Sequence: p.record.Sequence(), Files: p.built.Files, Bytes: p.built.Bytes,
		AddedBytes: p.built.Added.Bytes, URLs: []string{a.localURL(p.req.Alias)},
		Hosts: p.placed.states(p.placed.order), Live: site.Live, Warnings: p.warnings, Preflight: &p.findings,
		Changed: p.changed, Copies: len(p.placed.order), Availability: p.placed.plan.After.Availability, Target: target(p.wants), Notes: p.notes,
	}
	if a.GatewayOpen != nil && !a.GatewayOpen() {
		out.Notes = append(out.Notes, fmt.Sprintf("%s is for this machine, once `holdfast serve --gateway %s` runs here", out.URLs[0], strings.TrimPrefix(a.Gateway(), "http://")))
	}
	for _, id := range p.placed.order {
		for _, g := range p.placed.hosts[id].Gateways {
			out.URLs = append(out.URLs, siteURL(g, p.name))
		}
	}
	if p.copies > 0 {
		out.SafeUntil = timePtr(p.record.ValidUntil())
	}
	return out
}

// localURL is the site under its alias at this machine's gateway.
func (a *Author) localURL(alias string) string {
	u, err := url.Parse(a.Gateway())
	if err != nil || u.Port() == "" {
		return "http://" + alias + ".localhost/"
	}
	return "http://" + alias + ".localhost:" + u.Port() + "/"
}

// siteURL is the site's own origin at a gateway: a subdomain where the gateway
// is on this machine, a path where we can't know whether it has subdomains.
func siteURL(gateway string, n naming.Name) string {
	u, err := url.Parse(gateway)
	if err != nil {
		return gateway
	}
	host := u.Hostname()
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		origin := u.Scheme + "://" + n.String() + ".ipns.localhost"
		if u.Port() != "" {
			origin += ":" + u.Port()
		}
		return origin + "/"
	}
	return strings.TrimSuffix(gateway, "/") + "/ipns/" + n.String() + "/"
}
