package author

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// announceDeadline is how long a host may take over a fresh record. One that
// is away learns of it from the others.
const announceDeadline = 5 * time.Second

// raceDeadline is how long the last look for another machine's record may take.
const raceDeadline = 2 * time.Second

// announce hands the fresh record to all hosts that keep the site, side by
// side, one round trip each. Where one of them has a better record by now,
// another machine was signing at the same time, and that is said.
func (a *Author) announce(ctx context.Context, p *publication) error {
	hosts, err := a.keepers(ctx, p)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, a.requestTime(announceDeadline))
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	rival := naming.Resolution{}
	p.told = make(map[peer.ID]bool)
	for _, h := range hosts {
		wg.Go(func() {
			better, err := a.tell(ctx, h, p.record)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				p.told[h.ID] = true
				return
			}
			a.Log.Info("a host has not taken the record", "host", h.Name, "site", p.req.Alias, "err", err)
			if better.Compare(rival.Record) > 0 {
				rival = naming.Resolution{Record: better, Source: h.Name}
			}
		})
	}
	wg.Wait()
	if rival.Record.IsZero() {
		return nil
	}
	return a.lostRace(context.WithoutCancel(ctx), p, rival)
}

// keepers are the hosts that keep the site now, or are to from now on.
func (a *Author) keepers(ctx context.Context, p *publication) (out []state.Host, err error) {
	if p.placed != nil {
		for _, id := range p.placed.order {
			out = append(out, p.placed.hosts[id])
		}
	}
	holdings, err := a.State.Holdings(ctx, p.name)
	if err != nil {
		return nil, err
	}
	for _, h := range holdings {
		if !h.Follows() || p.placed != nil && p.placed.holds(h.Host) {
			continue
		}
		host, err := a.State.Host(ctx, h.Host)
		if errors.Is(err, state.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, host)
	}
	return out, nil
}

// tell hands a record to one host. Where the host has a better one, that is
// returned beside naming.ErrOlder; not one that breaks with the site's recovery
// key, which no other machine of the author's can have signed.
func (a *Author) tell(ctx context.Context, h state.Host, rec naming.Record) (better naming.Record, err error) {
	base, hc := a.face(h)
	client := naming.NewRoutingClient(h.Name, base, hc)
	if err = client.Put(ctx, rec); !errors.Is(err, naming.ErrOlder) {
		if err == nil {
			a.seen(ctx, rec, h.ID)
		}
		return naming.Record{}, err
	}
	raw, ferr := client.Fetch(ctx, rec.Name())
	if ferr != nil {
		return naming.Record{}, errors.Join(err, ferr)
	}
	better, ferr = naming.OpenStored(rec.Name(), raw)
	if ferr == nil {
		ferr = better.MayFollow(rec)
	}
	if ferr != nil || better.Compare(rec) <= 0 {
		return naming.Record{}, errors.Join(err, ferr)
	}
	return better, err
}

// seen notes that a host has the record.
func (a *Author) seen(ctx context.Context, rec naming.Record, host peer.ID) {
	if err := a.State.SawRecord(context.WithoutCancel(ctx), rec.Name(), host, rec.Sequence(), a.Now()); err != nil {
		a.Log.Warn("write holding", "err", err)
	}
}

// askAgain is the last look for a machine that was signing at the same time:
// it may have reached hosts and routing that we have not.
func (a *Author) askAgain(ctx context.Context, p *publication) error {
	if !a.Asked() {
		return nil
	}
	rctx, cancel := context.WithTimeout(ctx, raceDeadline)
	defer cancel()
	res, _, err := a.Resolver.ResolveFresh(rctx, p.name)
	if err != nil || res.Record.Compare(p.record) <= 0 {
		return ctx.Err() // that nobody answers any more changes nothing
	}
	return a.lostRace(context.WithoutCancel(ctx), p, res)
}

// goesOn tells whether a newer record is of a release that was made on top of ours.
func (a *Author) goesOn(ctx context.Context, p *publication, newer naming.Record) bool {
	if newer.Sequence() == p.record.Sequence() || !p.relCID.Defined() {
		return false
	}
	rel, err := a.readRelease(ctx, newer.Release())
	return err == nil && rel.Previous.Equals(p.relCID)
}

// lostRace takes note of a record that beats the one that we have just signed,
// takes back what was placed for ours, and says so.
func (a *Author) lostRace(ctx context.Context, p *publication, rival naming.Resolution) error {
	if err := a.State.Accept(ctx, rival.Record); err != nil && !errors.Is(err, naming.ErrOlder) {
		return fmt.Errorf("%s has a record of %s that can't be taken: %w", rival.Source, p.req.Alias, err)
	}
	a.Resolver.Accepted(rival.Record)
	if a.goesOn(ctx, p, rival.Record) {
		p.warn("%s has gone on already: %s", p.req.Alias, a.newer(ctx, rival.Record, rival.Source))
		return nil
	}
	if p.placed != nil {
		var wg sync.WaitGroup
		for _, id := range p.placed.order {
			wg.Go(func() { a.dropPins(ctx, p, p.placed.hosts[id], p.built.Root) })
		}
		wg.Wait()
	}
	return &ConflictError{
		Alias: p.req.Alias, Name: p.name, Ours: p.record.Sequence(), Lost: true, OurRoot: rootOf(p.record),
		Newer: a.newer(ctx, rival.Record, rival.Source),
	}
}

// lookAtNames asks the hosts of a site whether they have its record, and when
// they last put it. What they don't answer stays as it was.
func (a *Author) lookAtNames(ctx context.Context, n naming.Name) error {
	ctx, cancel := context.WithTimeout(ctx, a.requestTime(announceDeadline))
	defer cancel()
	hosts, err := a.keepers(ctx, &publication{name: n})
	if err != nil {
		return err
	}
	holdings, err := a.State.Holdings(ctx, n)
	if err != nil {
		return err
	}
	held := make(map[peer.ID]state.Holding)
	for _, h := range holdings {
		held[h.Host] = h
	}
	var wg sync.WaitGroup
	for _, h := range hosts {
		wg.Go(func() {
			base, hc := a.face(h)
			raw, err := naming.NewRoutingClient(h.Name, base, hc).Fetch(ctx, n)
			if err == nil {
				var rec naming.Record
				if rec, err = naming.OpenRecord(n, raw, a.Now()); err == nil {
					a.seen(ctx, rec, h.ID)
				}
			}
			if err != nil {
				a.Log.Info("a host does not show the site's record", "host", h.Name, "name", n, "err", err)
				return
			}
			a.askPin(ctx, h, held[h.ID])
		})
	}
	wg.Wait()
	return nil
}

// askPin notes when a host says that it last put a name's record, and, of a standby, whether it says that it has taken over.
func (a *Author) askPin(ctx context.Context, h state.Host, hold state.Holding) {
	pin := hold.NamePin
	if pin == "" {
		pin = hold.StandbyPin
	}
	s, err := a.pins(h).Get(ctx, pin)
	if err != nil {
		return
	}
	ctx = context.WithoutCancel(ctx)
	if at := a.saidAt(s.Info[replicate.InfoNamePut]); !at.IsZero() {
		if err := a.State.SaidPut(ctx, hold.Site, h.ID, at); err != nil {
			a.Log.Warn("write holding", "err", err)
		}
	}
	if since := a.saidAt(s.Info[replicate.InfoHolds]); hold.StandbyPin != "" && !since.Equal(hold.StandbyHolds) {
		if err := a.State.SaidHolds(ctx, hold.Site, h.ID, since); err != nil {
			a.Log.Warn("write holding", "err", err)
		}
	}
}

// saidAt reads a time that a host tells; zero where it tells none, or one that is still to come.
func (a *Author) saidAt(s string) time.Time {
	at, err := time.Parse(time.RFC3339, s)
	if err != nil || at.After(a.Now().Add(time.Hour)) {
		return time.Time{}
	}
	return at
}
