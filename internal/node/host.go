package node

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/internal/p2p"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// holds tells the auditor whether a root is kept here.
func (n *Node) holds(ctx context.Context, root cid.Cid) (bool, error) {
	for _, err := range n.store.KeptCIDs(ctx, root) {
		if err != nil {
			return false, ignoreNotFound(err)
		}
		return true, nil
	}
	return false, nil
}

// mayAudit lets the members of a kept site's roster audit it, and those whom a
// tenant's pin names.
func (n *Node) mayAudit(ctx context.Context, verifier peer.ID, site naming.Name, roots []cid.Cid) bool {
	if n.service != nil && n.service.Audited(ctx, verifier, site, roots) {
		return true
	}
	rec := n.governing(ctx, site)
	if rec.IsZero() || !rec.Policy().Defined() {
		return false
	}
	pol, err := replicate.ReadPolicy(ctx, n.store, rec.Policy())
	if err != nil {
		return false
	}
	for _, m := range pol.Roster {
		if m.ID == verifier {
			return true
		}
	}
	return false
}

// describe is the host's description of itself.
func (n *Node) describe(ctx context.Context) (replicate.HostDescription, error) {
	d := replicate.HostDescription{
		Peer: n.p2p.ID(), Time: time.Now(), Name: n.cfg.Pins.Name, Addrs: firstAddrs(n.p2p.Addrs()),
		MaxPinBytes: n.maxPinBytes(), Software: n.cfg.Tool,
		Terms: replicate.HostTerms{
			AuditsPerHour: 1, AuditBytesPerDay: n.cfg.Repair.AuditBytesPerDay, MaxSiteBytes: n.cfg.Admission.MaxSiteBytes,
			IngressBytesPerDay: n.cfg.Pins.IngressPerDay, EgressBytesPerDay: n.cfg.Pins.EgressPerDay, Until: timeOrNil(n.cfg.Pins.Until),
		},
	}
	var err error
	if d.FreeBytes, err = n.service.FreeBytes(ctx); err != nil {
		return d, err
	}
	if d.Draining, err = n.draining(ctx); err != nil {
		return d, err
	}
	switch {
	case n.cfg.Gateway.URL != "":
		d.Gateways = []string{n.cfg.Gateway.URL}
	case n.gatewayLn != nil:
		d.Gateways = []string{reachable(n.gatewayLn.Addr())}
	}
	return d, nil
}

// firstAddrs leaves out what a description has no room for (docs/formats.md).
func firstAddrs(addrs []string) []string { return addrs[:min(len(addrs), 32)] }

// defaultMaxPin is how many unique bytes a pin may take where the config is silent.
const defaultMaxPin = 10 << 30

func (n *Node) maxPinBytes() int64 {
	if n.cfg.Pins.MaxPinBytes > 0 {
		return n.cfg.Pins.MaxPinBytes
	}
	return defaultMaxPin
}

// acquaintance connects a reader to the holders that a site's policy names,
// so that blocks are asked of those who have them.
type acquaintance struct {
	p2p     *p2p.Node
	holders *rosterCache
	log     interface{ Debug(string, ...any) }

	ctx    context.Context // of what goes on behind readers
	stop   context.CancelFunc
	behind sync.WaitGroup

	mu  sync.Mutex
	met map[cid.Cid]time.Time // policy → when its roster was last connected to
}

const (
	meetAgain    = 5 * time.Minute
	meetDeadline = 5 * time.Second
	meetPatience = 100 * time.Millisecond // of a reader
	maxMet       = 4096
)

func newAcquaintance(p *p2p.Node, holders *rosterCache, log interface{ Debug(string, ...any) }) *acquaintance {
	ctx, stop := context.WithCancel(context.Background())
	return &acquaintance{p2p: p, holders: holders, log: log, met: make(map[cid.Cid]time.Time), ctx: ctx, stop: stop}
}

// close ends what goes on and waits for it.
func (a *acquaintance) close() {
	a.stop()
	a.behind.Wait()
}

// meetRoster connects to the members of the policy's roster, unless it did so a moment
// ago. It fails silently: the blocks may be had elsewhere. A reader is held up for a moment only: of a release that
// is being published the policy may come after the site, and those who are connected have the site.
func (a *acquaintance) meetRoster(ctx context.Context, policy cid.Cid) {
	if a == nil || !policy.Defined() || !a.due(policy) {
		return
	}
	done := make(chan struct{})
	a.behind.Go(func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(a.ctx, meetDeadline)
		defer cancel()
		a.meet(ctx, policy)
	})
	patience := time.NewTimer(meetPatience)
	defer patience.Stop()
	select {
	case <-done:
	case <-patience.C:
	case <-ctx.Done():
	}
}

func (a *acquaintance) meet(ctx context.Context, policy cid.Cid) {
	pol, err := replicate.ReadPolicy(ctx, a.p2p.Blocks(), policy)
	if err != nil {
		a.log.Debug("policy", "cid", policy, "err", err)
		a.forget(policy)
		return
	}
	var infos []peer.AddrInfo
	for _, ai := range a.holders.learn(policy, pol) {
		if ai.ID != a.p2p.ID() {
			infos = append(infos, ai)
		}
	}
	if err := a.p2p.Connect(ctx, infos); err != nil {
		a.log.Debug("connect to holders", "policy", policy, "err", err)
	}
}

// forget has the next reader try again.
func (a *acquaintance) forget(policy cid.Cid) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.met, policy)
}

func (a *acquaintance) due(policy cid.Cid) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if now.Sub(a.met[policy]) < meetAgain {
		return false
	}
	if len(a.met) >= maxMet {
		clear(a.met)
	}
	a.met[policy] = now
	return true
}

func decodeHexKey(path, text string) ([]byte, error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != 32 {
		return nil, fmt.Errorf("%s: a pre-shared key is 32 bytes, raw or as 64 hex digits", path)
	}
	return b, nil
}

// hostServices is what a host offers over HTTP and over libp2p.
func (n *Node) hostServices(routing http.Handler) http.Handler {
	mux := http.NewServeMux()
	pins := replicate.NewHandler(n.service, replicate.HandlerConfig{Log: n.log})
	mux.Handle("/pins", pins)
	mux.Handle("/pins/", pins)
	mux.Handle(replicate.TenantPath, pins)
	mux.Handle("/routing/v1/", routing)
	key := n.p2p.Host().Peerstore().PrivKey(n.p2p.ID())
	mux.Handle("GET /holdfast/1/host", replicate.NewHostHandler(n.describe, key))
	mux.Handle("GET "+replicate.ReportPath, replicate.NewReportHandler(n.keeper, key, replicate.HandlerConfig{Log: n.log}))
	return mux
}
