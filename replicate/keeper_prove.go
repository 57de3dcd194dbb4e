package replicate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/naming"
)

// mayProve tells whether a member can be asked for a proof now, and takes note of it.
// again is when to look again where it can't.
func (k *Keeper) mayProve(p pair, urgent bool) (again time.Time, ok bool) {
	now := k.cfg.Now()
	if !k.cfg.Budget() {
		return now.Add(k.cfg.Times.Call), false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, busy := k.busy[p.host]; busy {
		return now.Add(k.breath() + spread(k.cfg.Times.Call/4)), false // not all who wait at the same moment
	}
	if last := k.asked[p].Add(k.cfg.Times.Call / 4); urgent && now.Before(last) {
		return last, false
	}
	select {
	case k.slots <- struct{}{}:
	default:
		return now.Add(k.breath() + spread(k.cfg.Times.Call/20)), false
	}
	k.busy[p.host] = struct{}{}
	if urgent {
		k.asked[p] = now
	}
	return time.Time{}, true
}

// startProof has a member prove itself, behind the caller, if that can be now. Else it says when to look again.
func (k *Keeper) startProof(ctx context.Context, st Standing, m Member, urgent bool) (again time.Time, ok bool) {
	p := pair{st.Site, m.ID}
	if again, ok := k.mayProve(p, urgent); !ok {
		return again, false
	}
	k.hands.Go(func() {
		defer func() {
			<-k.slots
			k.mu.Lock()
			delete(k.busy, p.host)
			k.mu.Unlock()
			k.Touch(st.Site)
		}()
		if err := k.prove(ctx, st, m); err != nil && ctx.Err() == nil {
			k.log.Warn("have a host prove itself", "host", m.ID, "site", st.Site, "err", err)
			k.putOff(ctx, p)
		}
	})
	return time.Time{}, true
}

// putOff asks later where it was our own fault that nothing came of it.
func (k *Keeper) putOff(ctx context.Context, p pair) {
	at := k.cfg.Now().Add(k.cfg.Times.Call)
	if err := k.cfg.Store.Sighted(ctx, p.site, p.host, func(s *Sighting) { s.Ask = at }); err != nil && ctx.Err() == nil {
		k.log.Error("write down a proof", "err", err)
	}
}

// prove calls a member and has it prove that it holds the site: by every byte where we hold it
// too, else by random leaves. An error is ours.
func (k *Keeper) prove(ctx context.Context, st Standing, m Member) error {
	ai, _ := m.AddrInfo()
	res := AuditResult{Verdict: Unreachable, At: k.cfg.Now(), Prover: m.ID, Verifier: k.cfg.Self, Site: st.Site}
	if err := k.call(ctx, ai); err == nil {
		root, since, err := k.root(ctx, st)
		if err != nil {
			return fmt.Errorf("where the name leads: %w", err)
		}
		if res, err = k.challenge(ctx, st, ai, root); err != nil {
			return err
		}
		if res.Verdict == Unreachable {
			k.look(ctx, m.ID, false)
		}
		if res.Verdict == NotHeld && k.cfg.Now().Sub(since) < k.cfg.Times.Call {
			// The name has moved a moment ago: one of us may not have followed it yet.
			k.putOff(ctx, pair{st.Site, m.ID})
			return nil
		}
	} else if ctx.Err() != nil {
		return ctx.Err()
	}
	return k.note(ctx, st, res)
}

// root is what members are to hold: what we hold ourselves, or where the name
// leads; and since when, as far as we saw.
func (k *Keeper) root(ctx context.Context, st Standing) (cid.Cid, time.Time, error) {
	if st.Root.Defined() {
		return st.Root, st.Switched, nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()
	_, root, err := k.cfg.Names.Follow(ctx, st.Site)
	if err == nil && !root.Defined() {
		err = naming.ErrNotFound
	}
	if err != nil {
		return cid.Undef, time.Time{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	known, ok := k.roots[st.Site]
	if !ok || !sameBlock(known.root, root) {
		known = rootSince{root: root}
		if ok {
			known.at = k.cfg.Now()
		}
		k.roots[st.Site] = known
	}
	return root, known.at, nil
}

func (k *Keeper) challenge(ctx context.Context, st Standing, ai peer.AddrInfo, root cid.Cid) (AuditResult, error) {
	ctx, cancel := context.WithTimeout(ctx, k.cfg.AuditTimeout)
	defer cancel()
	kind, began := "audit", k.cfg.Now()
	var res AuditResult
	var err error
	if st.Root.Defined() {
		res, err = k.cfg.Auditor.Audit(ctx, ai.ID, st.Site, []cid.Cid{root})
	} else {
		kind = "leaves"
		alive := func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, k.cfg.CallTimeout)
			defer cancel()
			return k.cfg.Caller.Call(ctx, ai)
		}
		from := SampleSource{HTTP: k.cfg.Caller.HTTPClient(ai), Base: "http://" + ai.ID.String(), Peer: ai.ID, Alive: alive}
		res, err = k.sampler.Sample(ctx, from, st.Site, root)
	}
	if err == nil {
		k.counts.proof(kind, res.Verdict)
		k.log.Debug("proof", "kind", kind, "host", ai.ID, "site", st.Site, "verdict", res.Verdict, "took", k.cfg.Now().Sub(began), "detail", res.Detail)
	}
	return res, err
}

// note writes down what came of a proof: what it says of the member, when it is asked next, the evidence.
func (k *Keeper) note(ctx context.Context, st Standing, r AuditResult) error {
	now := k.cfg.Now()
	var before, after Sighting
	err := k.cfg.Store.Sighted(ctx, st.Site, r.Prover, func(s *Sighting) {
		before = *s
		s.Proofs.Out = s.Trial.Convicted()
		s.Proofs.Audit(r.Verdict, now, k.cfg.Times)
		s.Trial.Add(r.Verdict, now)
		s.Ask = k.nextAsk(r, now)
		after = *s
	})
	if err != nil {
		return err
	}
	held := before.Proofs.Held.After(before.Proofs.Absent)
	switch {
	case after.Trial.Convicted() && !before.Trial.Convicted():
		err = k.tell(ctx, Event{Site: st.Site, Kind: EventConvicted, Host: r.Prover, Detail: r.Detail})
	case r.Verdict == Missed:
		err = k.tell(ctx, Event{Site: st.Site, Kind: EventMissed, Host: r.Prover, Detail: r.Detail})
	case r.Verdict == NotHeld && held:
		err = k.tell(ctx, Event{Site: st.Site, Kind: EventAbsent, Host: r.Prover, Detail: r.Detail})
	}
	switch r.Verdict {
	case Unreachable, Busy, Refused:
		return err
	case NotHeld:
		if !held { // who stands by says so each time
			return err
		}
	}
	return errors.Join(err, k.cfg.Store.KeepAudit(ctx, r))
}

// nextAsk is when a member is to prove itself again of its own accord.
func (k *Keeper) nextAsk(r AuditResult, now time.Time) time.Time {
	every := jittered(k.cfg.AuditEvery)
	switch r.Verdict {
	case Unreachable: // when it is back
		return now
	case Busy:
		if r.Until.After(now) && r.Until.Before(now.Add(every)) {
			return r.Until
		}
	case NotHeld, Missed:
		return now.Add(every / 4)
	}
	return now.Add(every)
}

// tell keeps an event.
func (k *Keeper) tell(ctx context.Context, e Event) error {
	e.At = k.cfg.Now()
	if e.Detail = errorText(errors.New(e.Detail)); len(e.Detail) > maxDetail {
		e.Detail = e.Detail[:maxDetail]
	}
	k.log.Info("repair", "event", e.Kind, "site", e.Site, "host", e.Host, "detail", e.Detail)
	k.counts.event(e.Kind)
	return k.cfg.Store.AddEvent(ctx, e)
}

// maxDetail bounds an event's text, in bytes: another host may have written it.
const maxDetail = 512
