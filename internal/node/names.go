package node

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/internal/p2p"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// gossip is how many other holders a host hands a record to: the next ones behind it in the roster. The author, and
// those before it, hand it to the others.
const gossip = 8

// openNames puts together what finds, spreads and keeps names.
func (n *Node) openNames() {
	n.resolver = naming.NewResolver(naming.ResolverConfig{
		Records: n.state, Sources: n.sources, Deadline: time.Duration(n.cfg.Timeouts.Resolve), Committed: n.keys.Committed, Found: n.recordFound, Log: n.log,
	})
	// Others are asked for what they keep, and no further: two hosts that confirm with each other would never stop.
	n.confirmed.resolver = naming.NewResolver(naming.ResolverConfig{
		Records: n.state, Sources: n.keptSources, Deadline: confirmDeadline, Committed: n.keys.Committed, Found: n.recordArrived, Log: n.log,
	})
	n.confirmed.began, n.confirmed.closed = time.Now(), make(chan struct{})
	n.relay = naming.NewRelay(naming.RelayConfig{
		Names: n.state.KeptNames, Records: n.state, Confirm: n.confirm, Sinks: n.relaySinks, OnPut: n.notePut, Log: n.log,
	})
	n.holders.read = func(ctx context.Context, c cid.Cid) (replicate.Policy, error) {
		if n.store == nil {
			return replicate.Policy{}, naming.ErrNotFound
		}
		return replicate.ReadPolicy(ctx, n.store, c)
	}
	if n.p2p == nil {
		return
	}
	n.publisher = n.p2p.NewPublisher(p2p.PublisherConfig{Best: n.confirmedBest})
	n.watcher = n.p2p.NewWatcher(p2p.WatcherConfig{Found: n.recordPushed})
}

// sources is everybody who can be asked for a name's record now: the hosts that the author added, the peers that the
// operator named, those who hold the site, delegated routers, the DHT.
func (n *Node) sources(name naming.Name) (out []naming.Source) {
	for _, c := range n.peerRouting(name) {
		out = append(out, c)
	}
	return append(out, n.publicSources()...)
}

// keptSources is sources, but peers tell only what they keep, and ask nobody in turn.
func (n *Node) keptSources(name naming.Name) (out []naming.Source) {
	for _, c := range n.peerRouting(name) {
		out = append(out, c.Kept())
	}
	return append(out, n.publicSources()...)
}

// publicSources is those that are nobody's peer.
func (n *Node) publicSources() (out []naming.Source) {
	if n.p2p == nil {
		return nil
	}
	for _, url := range n.cfg.P2P.Routers {
		out = append(out, n.router(url))
	}
	if n.inDHT() {
		out = append(out, n.p2p.NameRouting())
	}
	return out
}

// peerRouting is the routing APIs of the peers among the sources.
func (n *Node) peerRouting(name naming.Name) (out []*naming.RoutingClient) {
	if n.p2p == nil {
		return nil
	}
	asked := map[peer.ID]bool{n.p2p.ID(): true}
	add := func(id peer.ID, c *naming.RoutingClient) {
		if !asked[id] {
			asked[id] = true
			out = append(out, c)
		}
	}
	for _, h := range n.author.HostRouting() {
		add(h.ID, h.Client)
	}
	for _, ai := range n.named {
		add(ai.ID, n.routingOf("peer "+ai.ID.String(), ai))
	}
	for _, ai := range n.rosters(name) {
		add(ai.ID, n.routingOf("holder "+ai.ID.String(), ai))
	}
	return out
}

// router is a delegated router that the config names.
func (n *Node) router(url string) *naming.RoutingClient {
	return naming.NewRoutingClient("router "+url, url, n.web)
}

// routingOf is a peer's routing API, over libp2p.
func (n *Node) routingOf(label string, ai peer.AddrInfo) *naming.RoutingClient {
	return naming.NewRoutingClient(label, "http://"+ai.ID.String(), n.p2p.HTTPClient(ai))
}

func (n *Node) inDHT() bool {
	return n.p2p != nil && n.p2p.NameRouting() != nil && len(n.p2p.Host().Network().Peers()) > 0
}

// sinks is where records are put beside the hosts that keep a site.
func (n *Node) sinks(naming.Name) (out []naming.Sink) {
	if n.inDHT() {
		out = append(out, n.p2p.NameRouting())
	}
	for _, url := range n.cfg.P2P.Routers {
		out = append(out, n.router(url))
	}
	return out
}

// relaySinks is where a name's record is put again and again: routing, and some of the other holders.
func (n *Node) relaySinks(name naming.Name) []naming.Sink {
	out := n.sinks(name)
	if n.p2p == nil {
		return out
	}
	roster := n.rosters(name)
	at := 0
	for i, ai := range roster {
		if ai.ID == n.p2p.ID() {
			at = i
		}
	}
	for i := range min(gossip, len(roster)) {
		if ai := roster[(at+1+i)%len(roster)]; ai.ID != n.p2p.ID() {
			out = append(out, n.routingOf("holder "+ai.ID.String(), ai))
		}
	}
	return out
}

func (n *Node) notePut(p naming.Put) {
	if err := n.state.NotePut(context.Background(), p); err != nil {
		n.log.Warn("write put", "err", err)
	}
}

// lastPut is when a name's record was last put anywhere from here; zero for never.
func (n *Node) lastPut(ctx context.Context, name naming.Name) (at time.Time) {
	puts, err := n.state.Puts(ctx, name)
	if err != nil {
		n.log.Warn("read puts", "err", err)
	}
	for _, p := range puts {
		if p.DoneAt.After(at) {
			at = p.DoneAt
		}
	}
	return at
}

// followed tells which names' records this node takes from anybody.
func (n *Node) followed(name naming.Name) bool {
	ok, err := n.state.Followed(context.Background(), name)
	if err != nil {
		n.log.Warn("look a name up", "err", err)
	}
	return ok
}

// recordArrived makes a record count at once that was put here and is kept now.
func (n *Node) recordArrived(r naming.Record) {
	n.resolver.Accepted(r)
	n.recordFound(r)
}

// recordSigned tells those who watch a name of a record that was signed here. Hosts and routing are told by whoever signed.
func (n *Node) recordSigned(r naming.Record) {
	if n.publisher != nil {
		n.publisher.Announce(r)
	}
}

// recordFound tells those who care of a record that is better than the one before, wherever it came from.
func (n *Node) recordFound(r naming.Record) {
	if n.publisher != nil {
		n.publisher.Announce(r)
	}
	followers, err := n.state.Followers(context.Background(), r.Name())
	if err != nil {
		n.log.Warn("look a name up", "err", err)
	}
	if len(followers) == 0 {
		return
	}
	n.relay.Kick(r.Name())
	if n.service != nil {
		for _, f := range followers {
			n.service.FollowNow(f)
		}
	}
}

// recordPushed takes a record from somebody at whom its name is watched.
func (n *Node) recordPushed(ctx context.Context, name naming.Name, raw []byte) error {
	rec, err := naming.OpenRecord(name, raw, time.Now())
	if err != nil {
		return err
	}
	before, err := n.state.Best(ctx, name)
	if err != nil && !errors.Is(err, naming.ErrNotFound) {
		return err
	}
	if err := n.state.Accept(ctx, rec); err != nil {
		return err
	}
	if rec.Compare(before) != 0 {
		n.recordArrived(rec)
	}
	return nil
}

// watch has the holders of a name tell this node of its next record.
func (n *Node) watch(chain []naming.Resolution) {
	if n.watcher == nil {
		return
	}
	for _, r := range chain {
		name := r.Record.Name()
		if r.Source == naming.SourceCache && (n.watcher.Watched(name) || !n.rewatch.due(name, time.Now())) {
			continue // the usual case, on the way to each page
		}
		peers := append([]peer.AddrInfo(nil), n.rosters(name)...)
		n.watcher.Watch(name, append(peers, n.named...))
	}
}

// watchAgain is how soon another try is made to watch a name that nobody could be found to watch it at.
const watchAgain = 30 * time.Second

// pacer lets things be done now and then. The zero value is ready.
type pacer struct {
	mu   sync.Mutex
	last map[naming.Name]time.Time
}

// due tells whether it is time again for a name, and takes that as done.
func (p *pacer) due(name naming.Name, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.last[name]) < watchAgain {
		return false
	}
	if p.last == nil || len(p.last) >= maxRosters {
		p.last = map[naming.Name]time.Time{}
	}
	p.last[name] = now
	return true
}
