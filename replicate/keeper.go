package replicate

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/naming"
)

// KeeperConfig is what a Keeper works with. Self, Service, Store, Blocks, Caller,
// Auditor and Names are required.
type KeeperConfig struct {
	Self    peer.ID
	Service *Service
	Store   KeeperStore
	Blocks  blockstore.Getter // where policies are read: what is here, and nothing behind it
	Caller  Caller
	Auditor Challenger
	Names   Follower

	Times       Times         // of the rule
	PatienceMin time.Duration // bounds of what is taken for a host's patience (Presence.Patience); 0: none
	PatienceMax time.Duration // 0: none
	// AuditEvery is how often a holder is to prove itself to us, about; one that isn't known to
	// hold the site is asked four times as often, which costs next to nothing. 0: 12 h.
	AuditEvery   time.Duration
	CallTimeout  time.Duration // for one call; 0: 10 s. At most a third of Times.Pause
	AuditTimeout time.Duration // for one audit, with the own reading; 0: 20 minutes
	GivesPerHour int           // sites that may be let go of in an hour; 0: 4
	Leaves       int           // of one sample; 0: RosterLeaves
	// Budget tells whether there is still something to spend on audits. Nil: always.
	Budget func() bool

	Metrics prometheus.Registerer // nil: none
	Now     func() time.Time      // nil: time.Now
	Log     *slog.Logger          // nil: discards
}

const (
	proofsAtOnce = 4
	callsAtOnce  = 32
	maxPolicies  = 1024 // remembered, decoded: of the largest, 150 MB
)

// Keeper keeps the sites of a host alive together with the other members of
// their rosters, without their authors. Again and again it calls the others, has holders prove
// themselves, and does what Decide says. All it goes by is in the
// store: what is in memory can be lost at any moment, and no step depends on having seen an event.
type Keeper struct {
	cfg     KeeperConfig
	log     *slog.Logger
	counts  keeperCounts
	sampler Sampler
	slots   chan struct{} // proofs in hand
	wake    chan struct{}
	lines   chan struct{} // calls in hand
	hands   sync.WaitGroup
	short   map[naming.Name]struct{} // of which we see too few holders; see seeShort

	mu       sync.Mutex
	touched  map[naming.Name]struct{} // to be attended to now
	calling  map[peer.ID]struct{}
	busy     map[peer.ID]struct{} // members with a proof in hand: one at a time, so that who is slow holds up nobody else
	asked    map[pair]time.Time   // when Decide last had somebody asked
	policies map[cid.Cid]Policy
	roots    map[naming.Name]rootSince
	governed map[naming.Name]policySince
}

// pair is one member of one site's roster.
type pair struct {
	site naming.Name
	host peer.ID
}

// rootSince is where a name leads, and since when, as far as that was seen; zero where it was so from the start.
type rootSince struct {
	root cid.Cid
	at   time.Time
}

// policySince is by which policy a site is kept, and since when, as far as that was seen.
type policySince struct {
	policy cid.Cid
	at     time.Time
}

// NewKeeper checks the configuration. Nothing happens before Serve.
func NewKeeper(cfg KeeperConfig) (*Keeper, error) {
	if cfg.Self == "" || cfg.Service == nil || cfg.Store == nil || cfg.Blocks == nil || cfg.Caller == nil || cfg.Auditor == nil || cfg.Names == nil {
		return nil, errors.New("replicate: a keeper needs Self, Service, Store, Blocks, Caller, Auditor and Names")
	}
	for d, v := range map[*time.Duration]time.Duration{
		&cfg.AuditEvery: 12 * time.Hour, &cfg.CallTimeout: 10 * time.Second, &cfg.AuditTimeout: 20 * time.Minute,
	} {
		if *d <= 0 {
			*d = v
		}
	}
	cfg.Times = cfg.Times.WithDefaults()
	// Calls that end further apart than Pause look as if it had been us who were away, and nobody would ever be gone.
	cfg.CallTimeout = min(cfg.CallTimeout, cfg.Times.Pause()/3)
	if cfg.Leaves <= 0 {
		cfg.Leaves = RosterLeaves
	}
	if cfg.GivesPerHour <= 0 {
		cfg.GivesPerHour = 4
	}
	if cfg.Budget == nil {
		cfg.Budget = func() bool { return true }
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	k := &Keeper{
		cfg: cfg, log: cfg.Log,

		// Half, so that there is time left to find out whether one that shows nothing is there at all.
		sampler: Sampler{Verifier: cfg.Self, Leaves: cfg.Leaves, Timeout: min(sampleTimeout, cfg.AuditTimeout/2), Now: cfg.Now},
		slots:   make(chan struct{}, proofsAtOnce), lines: make(chan struct{}, callsAtOnce), wake: make(chan struct{}, 1), short: make(map[naming.Name]struct{}),
		touched: make(map[naming.Name]struct{}), calling: make(map[peer.ID]struct{}), busy: make(map[peer.ID]struct{}), asked: make(map[pair]time.Time),
		policies: make(map[cid.Cid]Policy), roots: make(map[naming.Name]rootSince),
		governed: make(map[naming.Name]policySince),
	}
	var err error
	k.counts, err = newKeeperCounts(cfg.Metrics)
	return k, err
}

// Serve keeps sites until ctx ends, waits for what is in hand, and returns nil then.
func (k *Keeper) Serve(ctx context.Context) error {
	// Called first, decided later: nobody is to be taken for gone because it was us who were away.
	k.callDue(ctx)
	if !pause(ctx, nil, min(k.cfg.CallTimeout, k.cfg.Times.Call)) {
		k.hands.Wait()
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { k.callAgain(ctx); return nil })
	g.Go(func() error { k.attendAgain(ctx); return nil })
	err := g.Wait()
	k.hands.Wait()
	return err
}

// Touch has a site attended to at once: something new is known of it. It is a hint.
func (k *Keeper) Touch(n naming.Name) {
	k.mu.Lock()
	k.touched[n] = struct{}{}
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default: // it is about to look anyway
	}
}

// callAgain calls every member of all rosters that this host is in, each about every Times.Call.
func (k *Keeper) callAgain(ctx context.Context) {
	for {
		next := k.callDue(ctx)
		if !pause(ctx, nil, next.Sub(k.cfg.Now())) {
			return
		}
	}
}

// attendAgain attends to every site about every Times.Call, and in between to
// those whose time has come or that were touched.
func (k *Keeper) attendAgain(ctx context.Context) {
	next := map[naming.Name]time.Time{}
	var all time.Time // when to look through all of them
	for {
		now := k.cfg.Now()
		var sites []Standing
		if !now.Before(all) {
			var err error
			if sites, err = k.everySite(ctx); err != nil && ctx.Err() == nil {
				k.log.Error("which sites are kept", "err", err)
			}
			clear(next)
			all = now.Add(jittered(k.cfg.Times.Call))
		} else {
			sites = k.dueSites(ctx, next, now)
		}
		seen, err := k.cfg.Store.Presences(ctx)
		if err != nil {
			if ctx.Err() == nil {
				k.log.Error("what was seen of hosts", "err", err)
			}
			sites = nil
		}
		for _, st := range sites {
			next[st.Site] = k.attend(ctx, st, seen)
		}
		soonest := all
		for _, at := range next {
			if at.Before(soonest) {
				soonest = at
			}
		}
		if !pause(ctx, nil, k.breath()) || !pause(ctx, k.wake, soonest.Sub(k.cfg.Now())) {
			return
		}
	}
}

// breath is the least time between two looks, so that what comes at once is seen together.
func (k *Keeper) breath() time.Duration {
	return min(max(k.cfg.Times.Call/50, 10*time.Millisecond), time.Second)
}

// pause waits, or until wake; it tells whether to go on.
func pause(ctx context.Context, wake <-chan struct{}, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-wake:
	case <-t.C:
	}
	return ctx.Err() == nil
}

// everySite is all sites, and forgets what is remembered of others.
func (k *Keeper) everySite(ctx context.Context) ([]Standing, error) {
	sites, err := k.cfg.Service.Standings(ctx)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	clear(k.touched)
	k.mu.Unlock()
	return sites, k.forget(ctx, sites)
}

func (k *Keeper) forget(ctx context.Context, sites []Standing) error {
	kept := make(map[naming.Name]bool, len(sites))
	for _, st := range sites {
		kept[st.Site] = true
	}
	watched, err := k.cfg.Store.WatchedSites(ctx)
	for _, n := range watched {
		if err == nil && !kept[n] {
			err = k.cfg.Store.ForgetSite(ctx, n)
		}
	}
	again := k.cfg.Now().Add(-k.cfg.Times.Call)
	k.mu.Lock()
	defer k.mu.Unlock()
	for n := range k.roots {
		if !kept[n] {
			delete(k.roots, n)
		}
	}
	for n := range k.governed {
		if !kept[n] {
			delete(k.governed, n)
		}
	}
	for n := range k.short {
		if !kept[n] {
			delete(k.short, n)
		}
	}
	for p, at := range k.asked {
		if at.Before(again) {
			delete(k.asked, p)
		}
	}
	return err
}

// dueSites is the sites that were touched, and those whose time has come.
func (k *Keeper) dueSites(ctx context.Context, next map[naming.Name]time.Time, now time.Time) (sites []Standing) {
	k.mu.Lock()
	due := k.touched
	k.touched = make(map[naming.Name]struct{})
	k.mu.Unlock()
	for n, at := range next {
		if !now.Before(at) {
			due[n] = struct{}{}
		}
	}
	for n := range due {
		st, err := k.cfg.Service.StandingOf(ctx, n)
		switch {
		case err == nil:
			sites = append(sites, st)
		case errors.Is(err, ErrNotFound):
			delete(next, n)
		case ctx.Err() == nil:
			k.log.Error("where a site stands", "site", n, "err", err)
		}
	}
	return sites
}

// policy is a site's, where it is here and in force.
func (k *Keeper) policy(ctx context.Context, c cid.Cid) (Policy, bool) {
	if !c.Defined() {
		return Policy{}, false
	}
	k.mu.Lock()
	p, ok := k.policies[c]
	k.mu.Unlock()
	if !ok {
		var err error
		if p, err = ReadPolicy(ctx, k.cfg.Blocks, c); err != nil {
			k.log.Debug("a policy does not count", "err", err)
			return Policy{}, false
		}
		k.mu.Lock()
		if len(k.policies) >= maxPolicies {
			clear(k.policies)
		}
		k.policies[c] = p
		k.mu.Unlock()
	}
	return p, k.cfg.Now().Before(p.Expires)
}

// governedSince is since when a site is kept by the policy that it has now. After a
// restart that begins anew, which costs nothing but time.
func (k *Keeper) governedSince(st Standing) time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	known, ok := k.governed[st.Site]
	if !ok || known.policy != st.Policy || known.at.After(k.cfg.Now()) {
		known = policySince{st.Policy, k.cfg.Now()}
		k.governed[st.Site] = known
	}
	return known.at
}

// patience is after how long a silence we presume a host gone.
func (k *Keeper) patience(p Presence) time.Duration {
	d := max(p.Patience(), k.cfg.PatienceMin)
	if most := k.cfg.PatienceMax; most > 0 {
		d = min(d, max(most, k.cfg.PatienceMin))
	}
	return d
}

// spread is a random part of d, so that what begins together doesn't go on together.
func spread(d time.Duration) time.Duration { return rand.N(max(d, 1)) }
