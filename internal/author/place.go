package author

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// Deadlines of a placement. A fetch has none of its own: the host ends it when
// nothing moves any more, and says so.
const (
	dialDeadline  = 15 * time.Second
	auditDeadline = 10 * time.Minute
	pinPoll       = 200 * time.Millisecond
)

// placement is where the copies of one publication stand.
type placement struct {
	hosts map[peer.ID]state.Host

	mu       sync.Mutex
	holdings map[peer.ID]*state.Holding
	standby  []peer.ID
	order    []peer.ID // the holders, in the plan's order

	before []state.Holding // where the copies stood when it began
}

func (pl *placement) holding(id peer.ID) *state.Holding {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	return pl.holdings[id]
}

// tempPin is the temporary pin that is left at a host; "" for none.
func (pl *placement) tempPin(id peer.ID) string {
	if h := pl.holding(id); h != nil {
		return h.TempPin
	}
	return ""
}

// holds tells whether a host is among the holders.
func (pl *placement) holds(id peer.ID) bool { return slices.Contains(pl.order, id) }

// place is steps 6 and 7: hosts are chosen, pull the root over the connection
// that we open, and prove every byte. A host that fails is replaced by the
// next in the plan, until enough have proved or nobody is left.
func (a *Author) place(ctx context.Context, p *publication) error {
	pl, err := a.openPlacement(ctx, p)
	if err != nil {
		return err
	}
	p.placed = pl
	if p.copies == 0 {
		return nil
	}
	observed := pl.observations()
	for {
		actions, err := replicate.Plan(replicate.Desired{Site: p.name, Root: p.built.Root, Bytes: p.built.DAG.Bytes, Copies: p.copies}, observed, a.Now())
		if err != nil {
			return pl.short(p, err)
		}
		var todo []peer.ID
		pl.order, pl.standby, todo = pl.follow(actions.Actions)
		if len(todo) == 0 {
			return nil
		}
		g, gctx := errgroup.WithContext(ctx)
		for _, id := range todo {
			g.Go(func() error { return a.prove(gctx, p, pl, id) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
		observed = pl.observations()
	}
}

// openPlacement reads which hosts there are and what is known of them.
func (a *Author) openPlacement(ctx context.Context, p *publication) (*placement, error) {
	hosts, err := a.State.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	if p.copies > 0 {
		if hosts, err = a.refresh(ctx, hosts); err != nil {
			return nil, err
		}
	}
	known, err := a.State.Holdings(ctx, p.name)
	if err != nil {
		return nil, err
	}
	pl := &placement{hosts: make(map[peer.ID]state.Host), holdings: make(map[peer.ID]*state.Holding), before: known}
	for _, h := range hosts {
		pl.hosts[h.ID] = h
		pl.holdings[h.ID] = &state.Holding{Site: p.name, Host: h.ID}
	}
	for _, h := range known {
		if _, ok := pl.hosts[h.Host]; !ok {
			continue
		}
		kept := h
		kept.State, kept.Error, kept.VerifiedAt = "", "", time.Time{}
		if h.Root.Equals(p.built.Root) { // what was proved of another root says nothing about this one
			kept.VerifiedAt = h.VerifiedAt
		}
		pl.holdings[h.Host] = &kept
	}
	return pl, nil
}

// observations is what the plan may know of each host.
func (pl *placement) observations() []replicate.Observation {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	out := make([]replicate.Observation, 0, len(pl.hosts))
	for id, h := range pl.hosts {
		hold := pl.holdings[id]
		out = append(out, replicate.Observation{
			Host: id, Name: h.Name, Labels: h.Labels, FreeBytes: h.FreeBytes, MaxPinBytes: h.MaxPinBytes,
			Reachable: hold.State != Failed && hold.State != Unreachable,
			Holds:     hold.State == Proved || hold.NamePin != "",
		})
	}
	return out
}

// follow sorts the plan's actions; todo are the holders that have not proved yet.
func (pl *placement) follow(actions []replicate.Action) (order, standby, todo []peer.ID) {
	for _, act := range actions {
		switch act.Kind {
		case replicate.Hold:
			order = append(order, act.Host)
			if pl.holding(act.Host).State != Proved {
				todo = append(todo, act.Host)
			}
		case replicate.Standby:
			standby = append(standby, act.Host)
		}
	}
	return order, standby, todo
}

// short is the error of a placement that can't be completed.
func (pl *placement) short(p *publication, why error) error {
	states := pl.states(nil)
	got := 0
	for _, h := range states {
		if h.State == Proved {
			got++
		}
	}
	var few *replicate.TooFewHostsError
	if errors.As(why, &few) {
		why = nil // the hosts' own reasons follow in Hosts, where they can be read
		if len(states) == 0 {
			why = few
		}
	}
	return &ShortError{Want: p.copies, Got: got, Hosts: states, Err: why}
}

// states lists the hosts with something to say, holders first, by name.
func (pl *placement) states(only []peer.ID) []HostState {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	wanted := make(map[peer.ID]bool)
	for _, id := range only {
		wanted[id] = true
	}
	out := []HostState{}
	for id, h := range pl.holdings {
		if h.State == "" || (only != nil && !wanted[id] && h.State == Proved) {
			continue
		}
		out = append(out, hostState(pl.hosts[id], *h))
	}
	sort.Slice(out, func(i, j int) bool {
		if (out[i].State == Proved) != (out[j].State == Proved) {
			return out[i].State == Proved
		}
		return out[i].Name < out[j].Name
	})
	return out
}

func hostState(h state.Host, hold state.Holding) HostState {
	return HostState{ID: h.ID.String(), Name: h.Name, State: hold.State, VerifiedAt: timePtr(hold.VerifiedAt), Error: hold.Error}
}

// prove brings the root to one host and has it prove that it holds every byte.
// A host's failure is a state, not an error: the next in the plan takes its
// place. An error ends the publish.
func (a *Author) prove(ctx context.Context, p *publication, pl *placement, id peer.ID) error {
	host := pl.hosts[id]
	err := a.bring(ctx, p, pl, host)
	if err == nil {
		err = a.audit(ctx, p, pl, host)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return a.failHolding(ctx, p, pl, id, err)
	}
	return nil
}

// failHolding writes down why a host does not count.
func (a *Author) failHolding(ctx context.Context, p *publication, pl *placement, id peer.ID, why error) error {
	st := Failed
	if errors.Is(why, replicate.ErrUnavailable) {
		st = Unreachable
	}
	a.Log.Warn("host does not count", "host", pl.hosts[id].Name, "site", p.req.Alias, "err", why)
	return a.setHolding(ctx, p, pl, id, func(h *state.Holding) { h.State, h.Error = st, why.Error() })
}

// setHolding changes what is known of one host and writes it down.
func (a *Author) setHolding(ctx context.Context, p *publication, pl *placement, id peer.ID, change func(*state.Holding)) error {
	pl.mu.Lock()
	before := *pl.holdings[id]
	change(pl.holdings[id])
	row := *pl.holdings[id]
	pl.mu.Unlock()
	if row.State != before.State || row.Error != before.Error {
		ev := Event{Step: "place", Host: pl.hosts[id].Name, Message: row.State}
		if row.Error != "" {
			ev.Message += ": " + row.Error
		}
		p.report(ev)
	}
	return a.State.PutHolding(ctx, row)
}

// bring pins the root at the host, as an ordinary pin beside the one that
// follows the name, and waits until the host has pulled it.
func (a *Author) bring(ctx context.Context, p *publication, pl *placement, host state.Host) error {
	if err := a.setHolding(ctx, p, pl, host.ID, func(h *state.Holding) { h.State, h.Error = Queued, "" }); err != nil {
		return err
	}
	if err := a.dial(ctx, host); err != nil {
		return err
	}
	client := a.pins(host)
	pin, err := a.temporaryPin(ctx, p, client)
	if err != nil {
		return err
	}
	err = a.setHolding(ctx, p, pl, host.ID, func(h *state.Holding) { h.State, h.TempPin = Fetching, pin.RequestID })
	if err != nil {
		return err
	}
	got, err := client.Wait(ctx, pin.RequestID, pinPoll, func(s replicate.PinStatus) {
		done, _ := strconv.ParseInt(s.Info["bytes_done"], 10, 64)
		p.report(Event{Step: "fetch", Host: host.Name, Done: done, Total: p.built.DAG.Bytes, Message: s.Info["last_error"]})
	})
	if err != nil {
		return err
	}
	if got.Status != replicate.Pinned {
		return fmt.Errorf("the host could not fetch it: %s", got.Info["last_error"])
	}
	return nil
}

// dial opens the connection over which the host will fetch, so that it need
// not be able to reach us.
func (a *Author) dial(ctx context.Context, host state.Host) error {
	ctx, cancel := context.WithTimeout(ctx, dialDeadline)
	defer cancel()
	ai, err := addrInfo(host)
	if err != nil {
		return err
	}
	if err := a.Network.Connect(ctx, []peer.AddrInfo{ai}); err != nil {
		return fmt.Errorf("%w: %v", replicate.ErrUnavailable, err)
	}
	return nil
}

// audit has the host prove that it holds every byte under the root.
func (a *Author) audit(ctx context.Context, p *publication, pl *placement, host state.Host) error {
	ctx, cancel := context.WithTimeout(ctx, auditDeadline)
	defer cancel()
	p.report(Event{Step: "prove", Host: host.Name, Message: "is asked to prove every byte"})
	res, err := a.Auditor.Audit(ctx, host.ID, p.name, []cid.Cid{p.built.Root})
	if err != nil {
		return err
	}
	at := res.At
	switch res.Verdict {
	case replicate.Busy: // it has proved the same so often that it wants a pause: that says nothing against it
		if at, err = a.lastProof(ctx, p.name, host.ID, p.built.Root); err != nil {
			return err
		}
		if a.Now().Sub(at) > proofStands {
			return fmt.Errorf("audit: it wants to be asked again at %s", res.Until.UTC().Format(time.RFC3339))
		}
	default:
		if err := a.State.AddEvidence(ctx, evidence(res)); err != nil {
			return err
		}
		if res.Verdict != replicate.Proved {
			return fmt.Errorf("audit: %s: %s", res.Verdict, res.Detail)
		}
	}
	return a.setHolding(ctx, p, pl, host.ID, func(h *state.Holding) {
		h.State, h.Error, h.Root, h.VerifiedAt = Proved, "", p.built.Root, at
	})
}

// proofStands is for how long a proof of ours counts where a host has no time for another one: it may make us wait an hour.
const proofStands = 70 * time.Minute

// lastProof is when a host last proved to us that it holds all of a root, for this site; zero for never, and where the last
// thing that we saw of it was no proof.
func (a *Author) lastProof(ctx context.Context, site naming.Name, host peer.ID, root cid.Cid) (time.Time, error) {
	seen, err := a.State.LastEvidence(ctx, site, state.EvidenceAudit)
	if err != nil {
		return time.Time{}, err
	}
	for _, e := range seen {
		if e.Host == host && e.OK && e.Root.Equals(root) {
			return e.At, nil
		}
	}
	return time.Time{}, nil
}

func evidence(r replicate.AuditResult) state.Evidence {
	e := state.Evidence{
		Kind: "audit", Site: r.Site, Host: r.Prover, At: r.At, OK: r.Verdict == replicate.Proved,
		Verdict: string(r.Verdict), Detail: r.Detail,
	}
	if len(r.Roots) > 0 {
		e.Root = r.Roots[0]
	}
	if r.Verdict == replicate.Wrong {
		// With its challenge anybody can check it (replicate.CheckProof): worth keeping.
		e.Signed = append(binary.AppendUvarint(nil, uint64(len(r.Challenge))), r.Challenge...)
		e.Signed = append(e.Signed, r.Answer...)
	}
	return e
}
