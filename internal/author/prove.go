package author

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// prove brings the root to one host and has it prove that it holds every byte.
// A host's failure is a state, not an error: the next in the plan takes its
// place. An error ends the publish.
func (a *Author) prove(ctx context.Context, p *publication, pl *placement, id peer.ID) error {
	host := pl.hosts[id]
	err := a.proveHere(ctx, p, pl, host)
	if err != nil && ctx.Err() == nil && !errors.Is(err, replicate.ErrUnavailable) {
		if err = a.bring(ctx, p, pl, host); err == nil {
			err = a.audit(ctx, p, pl, host)
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return a.failHolding(ctx, p, pl, id, err)
	}
	return nil
}

// errNotThere says that there is no reason to think that a host holds what is being placed.
var errNotThere = errors.New("it holds another root, or none")

// proveHere asks for a proof without bringing anything: where only the placing changes, most holders have it all.
func (a *Author) proveHere(ctx context.Context, p *publication, pl *placement, host state.Host) error {
	if h := pl.holding(host.ID); !p.restates || h.NamePin == "" && h.StandbyHolds.IsZero() {
		return errNotThere
	}
	if err := a.dial(ctx, host); err != nil {
		return err
	}
	return a.audit(ctx, p, pl, host)
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
	res, err := a.askProof(ctx, p, host)
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
		if err := a.State.TriedHost(ctx, host.ID, res.At, res.Verdict); err != nil {
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

// busyPatience is for how long a publish waits for a host that has other proofs in hand. One that wants a longer pause
// has been asked too often, or has read enough for today.
const busyPatience = 2 * time.Minute

// askProof asks for a proof, and once more where the host is only busy with others.
func (a *Author) askProof(ctx context.Context, p *publication, host state.Host) (replicate.AuditResult, error) {
	giveUp := a.Now().Add(busyPatience)
	for {
		res, err := a.Auditor.Audit(ctx, host.ID, p.name, []cid.Cid{p.built.Root})
		if err != nil || res.Verdict != replicate.Busy || res.Until.After(giveUp) {
			return res, err
		}
		if at, err := a.lastProof(ctx, p.name, host.ID, p.built.Root); err != nil || a.Now().Sub(at) <= proofStands {
			return res, err // it has proved the same just before
		}
		p.report(Event{Step: "prove", Host: host.Name, Message: "is busy with other proofs, and asked again"})
		select {
		case <-time.After(max(res.Until.Sub(a.Now()), time.Second)):
		case <-ctx.Done():
			return res, ctx.Err()
		}
	}
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
