package node

import (
	"context"
	"net/http"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"

	"github.com/holdfast-sites/holdfast/internal/p2p"
	"github.com/holdfast-sites/holdfast/replicate"
)

// RepairConfig is the [repair] table: how a host keeps sites alive with the others of their rosters,
// docs/formats.md. 0 is the default, which suits the internet; tests and demonstrations scale it down.
type RepairConfig struct {
	Off bool `toml:"off"` // answer the others, and do nothing of one's own

	Call        Duration `toml:"call"`         // how often every member is called; 5m
	CallTimeout Duration `toml:"call_timeout"` // for one call; 10s
	Grace       Duration `toml:"grace"`        // before the first standby takes over; 1h
	Delta       Duration `toml:"delta"`        // more for each live standby before us; 1h
	Jitter      Duration `toml:"jitter"`       // the most that is added by chance; 30m
	Fast        Duration `toml:"fast"`         // in place of grace where one live copy is left; 10m
	ProofAge    Duration `toml:"proof_age"`    // how old a proof may be against which a copy is given up; 1h
	Surplus     Duration `toml:"surplus"`      // for how long there have to be more copies than wanted; 36h
	Break       Duration `toml:"break"`        // the silence that ends an unbroken time of being up, more than call; 20m
	Stale       Duration `toml:"stale"`        // a proof that is older doesn't count; docs/formats.md
	PatienceMin Duration `toml:"patience_min"` // bounds of the silence after which a host is presumed gone, which follows its own habits; none
	PatienceMax Duration `toml:"patience_max"` // none

	AuditEvery       Duration `toml:"audit_every"`         // how often a holder is to prove itself to us; 12h
	AuditTimeout     Duration `toml:"audit_timeout"`       // for one audit; 20m
	AuditInterval    Duration `toml:"audit_interval"`      // how often one verifier may audit one site here, after the first few; 1h
	AuditBurst       int      `toml:"audit_burst"`         // the first few; 6
	AuditBytesPerDay int64    `toml:"audit_bytes_per_day"` // read for audits in a day, asked or asking; no limit
	GivesPerHour     int      `toml:"gives_per_hour"`      // sites that may be let go of in an hour; 4
	Leaves           int      `toml:"leaves"`              // of a site that a holder is asked for where we don't hold it; 4
}

func (c RepairConfig) times() replicate.Times {
	return replicate.Times{
		Call: time.Duration(c.Call), Grace: time.Duration(c.Grace), Delta: time.Duration(c.Delta), Jitter: time.Duration(c.Jitter),
		Fast: time.Duration(c.Fast), ProofAge: time.Duration(c.ProofAge), Surplus: time.Duration(c.Surplus),
		Break: time.Duration(c.Break), Stale: time.Duration(c.Stale),
	}
}

// openKeeper is what makes a host a member of rosters.
func (n *Node) openKeeper() (err error) {
	c := n.cfg.Repair
	n.keeper, err = replicate.NewKeeper(replicate.KeeperConfig{
		Self: n.p2p.ID(), Service: n.service, Store: n.state, Blocks: n.store, Caller: caller{n.p2p}, Auditor: n.auditor, Names: n.resolver,
		Times: c.times(), PatienceMin: time.Duration(c.PatienceMin), PatienceMax: time.Duration(c.PatienceMax),
		AuditEvery: time.Duration(c.AuditEvery), AuditTimeout: time.Duration(c.AuditTimeout), CallTimeout: time.Duration(c.CallTimeout),
		GivesPerHour: c.GivesPerHour, Leaves: c.Leaves, Budget: n.auditor.WithinBudget, Metrics: n.metrics, Log: n.log,
	})
	return err
}

// caller calls other hosts over libp2p.
type caller struct{ p2p *p2p.Node }

// Call implements replicate.Caller: a ping, over the connection there is or a new one.
func (c caller) Call(ctx context.Context, ai peer.AddrInfo) error {
	h := c.p2p.Host()
	if sw, ok := h.Network().(*swarm.Swarm); ok {
		// That it could not be reached the last time is no reason not to try: the calls are far enough apart.
		sw.Backoff().Clear(ai.ID)
	}
	if err := c.p2p.Connect(ctx, []peer.AddrInfo{ai}); err != nil {
		return err
	}
	return replicate.Alive(network.WithAllowLimitedConn(ctx, "call"), h, ai.ID)
}

// HTTPClient implements replicate.Caller.
func (c caller) HTTPClient(ai peer.AddrInfo) *http.Client { return c.p2p.HTTPClient(ai) }
