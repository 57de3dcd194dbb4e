package author

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

const (
	putDeadline    = 20 * time.Second
	followDeadline = 2 * time.Minute
	lookDeadline   = 30 * time.Second
	routingGrace   = 2 * time.Second // for routing to answer once the holders have the record
	lookSamples    = 4               // blocks read from each holder by the look from outside
)

// rootOf is the record's root; undefined for no record and for one that points
// at another name.
func rootOf(r naming.Record) cid.Cid {
	if r.IsZero() {
		return cid.Undef
	}
	c, _ := r.Root()
	return c
}

// releaseOf is the release that the record names; undefined for no record and
// for one by another tool.
func releaseOf(r naming.Record) cid.Cid {
	if r.IsZero() {
		return cid.Undef
	}
	return r.Release()
}

// sign is step 8: policy and record, written down here before anybody else
// sees them, then handed to the hosts and to routing.
func (a *Author) sign(ctx context.Context, p *publication) error {
	s := naming.Statement{
		Value: "/ipfs/" + p.built.Root.String(), Release: p.relCID,
		TTL: p.req.TTL, ValidUntil: a.Now().Add(p.lifetime()),
	}
	s, err := naming.Next(p.best, s)
	if err != nil {
		return err
	}
	if err := a.writePolicy(ctx, p, s.ValidUntil); err != nil {
		return err
	}
	s.Policy = p.policy
	if err := keepAll(ctx, p.session, owner(p.name), p.built.Root, p.built.CIDs); err != nil {
		return err
	}
	rec, err := p.signer.Sign(s)
	if err != nil {
		return err
	}
	if err := a.writeDown(ctx, p, rec); err != nil {
		return err
	}
	a.Resolver.Accepted(rec)
	p.record = rec
	p.report(Event{Step: "sign", Message: fmt.Sprintf("sequence %d, valid until %s", rec.Sequence(), rec.ValidUntil().Format(time.DateOnly))})
	return nil
}

func (p *publication) lifetime() time.Duration {
	if p.req.Lifetime > 0 {
		return p.req.Lifetime
	}
	return naming.DefaultLifetime
}

func (p *publication) keep() int {
	if p.req.Keep > 0 {
		return p.req.Keep
	}
	return DefaultKeep
}

// writePolicy puts holders and standbys, in the plan's order, into the roster.
func (a *Author) writePolicy(ctx context.Context, p *publication, expires time.Time) error {
	pol := replicate.Policy{Copies: p.copies, Availability: DefaultAvailability, Keep: p.keep(), Expires: expires}
	for _, id := range append(append([]peer.ID{}, p.placed.order...), p.placed.standby...) {
		if len(pol.Roster) == replicate.MaxRoster {
			break
		}
		h := p.placed.hosts[id]
		pol.Roster = append(pol.Roster, replicate.Member{ID: id, Addrs: bareAddrs(h.Addrs), URL: h.URL, Labels: h.Labels})
	}
	block, err := replicate.EncodePolicy(pol)
	if err != nil {
		return err
	}
	p.policy = block.Cid()
	if _, err := p.session.Put(ctx, block); err != nil {
		return err
	}
	return a.keepBlock(ctx, p, p.policy)
}

// bareAddrs are the addresses as a roster holds them: without /p2p/ID, at most 16.
func bareAddrs(addrs []string) []string {
	out := []string{}
	for _, s := range addrs {
		m, err := ma.NewMultiaddr(s)
		if err != nil {
			continue
		}
		if bare, _ := peer.SplitAddr(m); bare != nil && len(out) < 16 {
			out = append(out, bare.String())
		}
	}
	return out
}

// addrInfo is where a host is dialled.
func addrInfo(h state.Host) (peer.AddrInfo, error) {
	ai := peer.AddrInfo{ID: h.ID}
	for _, s := range bareAddrs(h.Addrs) {
		m, err := ma.NewMultiaddr(s)
		if err != nil {
			return ai, err
		}
		ai.Addrs = append(ai.Addrs, m)
	}
	return ai, nil
}

// writeDown keeps site, release and record in one step, so that the record
// that the resolver knows never looks like somebody else's.
func (a *Author) writeDown(ctx context.Context, p *publication, rec naming.Record) error {
	return a.State.PutPublished(ctx, state.Site{
		Name: p.name, Alias: p.req.Alias, Root: p.built.Root, Release: p.relCID, Policy: p.policy,
		Number: p.release.Number, Sequence: rec.Sequence(), Files: p.built.Files, Bytes: p.built.Bytes,
		Copies: p.copies, PublishedAt: a.Now(), ValidUntil: rec.ValidUntil(), Dir: p.req.Dir,
	}, state.ReleaseRow{
		Site: p.name, Number: p.release.Number, CID: p.relCID, Root: p.built.Root, Sequence: rec.Sequence(),
		Time: p.release.Time, Message: p.release.Message, Files: p.built.Files, Bytes: p.built.Bytes,
	}, rec)
}

// follow hands the record to the holders and to routing, waits until each
// holder's name pin stands on the new root, and only then takes the temporary
// pins back. From here on the publish is done: what fails is a warning.
func (a *Author) follow(ctx context.Context, p *publication) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	warn := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		p.warn(format, args...)
	}
	rctx, cancel := context.WithTimeout(ctx, a.requestTime(putDeadline))
	defer cancel()
	routing := a.putInRouting(rctx, p, warn)
	for _, id := range p.placed.order {
		wg.Go(func() {
			host := p.placed.hosts[id]
			if err := a.switchHost(ctx, p, host); err != nil {
				// The temporary pin stays: it is what keeps the copy there.
				warn("%s holds the release but does not follow the name yet: %v", host.Name, err)
				return
			}
			a.dropPins(ctx, p, host)
		})
	}
	wg.Wait()
	if len(p.placed.order) > 0 {
		// The holders have the record, and put it into routing themselves.
		defer time.AfterFunc(routingGrace, cancel).Stop()
	}
	routing.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	a.dropLosers(ctx, p)
	return a.releaseOld(ctx, p)
}

// putInRouting puts the record where strangers look, until ctx ends.
func (a *Author) putInRouting(ctx context.Context, p *publication, warn func(string, ...any)) *sync.WaitGroup {
	var wg sync.WaitGroup
	for _, sink := range a.Sinks() {
		wg.Go(func() {
			if err := sink.Put(ctx, p.record); err != nil && !errors.Is(ctx.Err(), context.Canceled) {
				warn("the record did not reach %s: %v", sink, err)
			}
		})
	}
	return &wg
}

// switchHost makes sure that the host has a name pin, hands it the record, and
// waits until the pin stands on the new root.
func (a *Author) switchHost(ctx context.Context, p *publication, host state.Host) error {
	ctx, cancel := context.WithTimeout(ctx, followDeadline)
	defer cancel()
	client := a.pins(host)
	pin, err := a.namePin(ctx, p, client, p.placed.holding(host.ID))
	if err != nil {
		return err
	}
	err = a.setHolding(ctx, p, p.placed, host.ID, func(h *state.Holding) { h.NamePin = pin })
	if err != nil {
		return err
	}
	base, hc := a.face(host)
	if err := naming.NewRoutingClient(host.Name, base, hc).Put(ctx, p.record); err != nil {
		return err
	}
	root := p.built.Root.String()
	for {
		s, err := client.Get(ctx, pin)
		if err != nil {
			return err
		}
		if s.Status == replicate.Pinned && s.Info["root"] == root && s.Info["sequence"] == strconv.FormatUint(p.record.Sequence(), 10) {
			p.report(Event{Step: "follow", Host: host.Name, Message: "follows the name"})
			return nil
		}
		select {
		case <-time.After(pinPoll):
		case <-ctx.Done():
			return fmt.Errorf("its name pin stands on %s, last error %q: %w", s.Info["root"], s.Info["last_error"], ctx.Err())
		}
	}
}

// namePin finds the pin that follows the name at this host, or makes it.
func (a *Author) namePin(ctx context.Context, p *publication, client *replicate.Client, h *state.Holding) (string, error) {
	if h.NamePin != "" {
		switch _, err := client.Get(ctx, h.NamePin); {
		case err == nil:
			return h.NamePin, nil
		case !errors.Is(err, replicate.ErrNotFound):
			return "", err
		}
	}
	all := []replicate.Status{replicate.Queued, replicate.Pinning, replicate.Pinned}
	found, err := client.List(ctx, replicate.Query{Status: all, Meta: map[string]string{replicate.MetaName: p.name.String()}})
	if err != nil {
		return "", err
	}
	if len(found.Results) > 0 {
		return found.Results[0].RequestID, nil
	}
	s, err := client.Add(ctx, replicate.Pin{
		CID: p.built.Root, Name: pinName(p.req.Alias), Origins: a.Network.Addrs(),
		Meta: map[string]string{
			replicate.MetaName: p.name.String(), replicate.MetaKeep: strconv.Itoa(p.keep()),
			replicate.MetaAuditor: a.Network.ID().String(),
		},
	})
	return s.RequestID, err
}

// dropLosers ends the name pins of hosts that the plan no longer names, and
// the temporary pins of those that failed.
func (a *Author) dropLosers(ctx context.Context, p *publication) {
	holds := make(map[peer.ID]bool)
	for _, id := range p.placed.order {
		holds[id] = true
	}
	var wg sync.WaitGroup
	for id, host := range p.placed.hosts {
		h := p.placed.holding(id)
		if holds[id] || (h.TempPin == "" && h.NamePin == "") {
			continue
		}
		wg.Go(func() {
			if h.TempPin != "" {
				a.dropPins(ctx, p, host)
			}
			// A host that is only away for now keeps its name pin: it is a
			// spare copy, and it follows the name by itself when it is back.
			if h.NamePin == "" || h.State == Unreachable {
				return
			}
			if err := a.pins(host).Delete(ctx, h.NamePin); err != nil && !errors.Is(err, replicate.ErrNotFound) {
				a.Log.Warn("name pin stays", "host", host.Name, "err", err)
				return
			}
			if err := a.State.RemoveHolding(ctx, p.name, id); err != nil {
				a.Log.Warn("write holding", "err", err)
			}
		})
	}
	wg.Wait()
}

// releaseOld gives back our own copies of roots older than the policy keeps.
func (a *Author) releaseOld(ctx context.Context, p *publication) error {
	rows, err := a.State.Releases(ctx, p.name)
	if err != nil {
		return err
	}
	kept := make(map[cid.Cid]bool)
	for _, r := range rows {
		if len(kept) < p.keep() {
			kept[r.Root] = true
			continue
		}
		if !kept[r.Root] {
			if err := a.Store.Release(ctx, owner(p.name), r.Root); err != nil {
				return err
			}
		}
	}
	return nil
}

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
		Hosts: p.placed.states(p.placed.order), Live: site.Live, Warnings: p.warnings,
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
