package replicate

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/naming"
)

// concerns tells whether a site's roster is our business: we are in it, or still
// hold the site as one who was.
func (k *Keeper) concerns(pol Policy, st Standing) bool {
	return pol.Copies > 0 && (k.rank(pol) < len(pol.Roster) || st.Standby && !st.Active.IsZero())
}

// rank is our place in a roster; behind all others where we have none.
func (k *Keeper) rank(pol Policy) int {
	for i, m := range pol.Roster {
		if m.ID == k.cfg.Self {
			return i
		}
	}
	return len(pol.Roster)
}

// attend does what is due about one site, and says when to look at it again.
func (k *Keeper) attend(ctx context.Context, st Standing, seen map[peer.ID]Seen) (next time.Time) {
	next = k.cfg.Now().Add(k.cfg.Times.Call)
	pol, ok := k.policy(ctx, st.Policy)
	if !ok || !k.concerns(pol, st) || ctx.Err() != nil {
		return next
	}
	k.governedSince(st)
	sightings, err := k.cfg.Store.Sightings(ctx, st.Site)
	if err == nil {
		err = k.forgetMembers(ctx, st.Site, pol, sightings)
	}
	if err == nil {
		err = k.noteGone(ctx, st, pol, seen, sightings)
	}
	if err == nil {
		next = earlier(next, k.proveDue(ctx, st, pol, seen, sightings))
		var at time.Time
		at, err = k.decide(ctx, st, pol, k.others(pol, seen, sightings), heard(seen))
		next = earlier(next, at)
	}
	if err != nil && ctx.Err() == nil {
		k.log.Error("keep a site", "site", st.Site, "err", err)
	}
	return next
}

// forgetMembers drops what was seen of those that the roster doesn't name any more, but for a
// conviction, which stands should they come back.
func (k *Keeper) forgetMembers(ctx context.Context, site naming.Name, pol Policy, sightings map[peer.ID]Sighting) error {
	for id, s := range sightings {
		if s.Trial.Convicted() || slices.ContainsFunc(pol.Roster, func(m Member) bool { return m.ID == id }) {
			continue
		}
		if err := k.cfg.Store.ForgetMember(ctx, site, id); err != nil {
			return err
		}
	}
	return nil
}

// others is every member as Decide sees it, by rank.
func (k *Keeper) others(pol Policy, seen map[peer.ID]Seen, sightings map[peer.ID]Sighting) []Sight {
	out := make([]Sight, len(pol.Roster), len(pol.Roster)+1)
	for i, m := range pol.Roster {
		out[i] = sightings[m.ID].sight(seen[m.ID], k.patience(seen[m.ID].Presence))
	}
	return out
}

// heard is when any host at all last answered us.
func heard(seen map[peer.ID]Seen) (at time.Time) {
	for _, s := range seen {
		at = later(at, s.Calls.Seen)
	}
	return at
}

// noteGone tells of holders that fell silent for too long, and of those that are back.
func (k *Keeper) noteGone(ctx context.Context, st Standing, pol Policy, seen map[peer.ID]Seen, sightings map[peer.ID]Sighting) error {
	now := k.cfg.Now()
	for i, sight := range k.others(pol, seen, sightings) {
		id := pol.Roster[i].ID
		was := sightings[id]
		gone := sight.holds() && !sight.answered() && !sight.present(k.cfg.Times, now)
		var e Event
		switch {
		case gone && was.Gone.IsZero():
			was.Gone = now
			e = Event{Kind: EventGone, Detail: fmt.Sprintf("silent since %s", sight.silentFrom().UTC().Format(time.RFC3339))}
		case !was.Gone.IsZero() && sight.answered():
			e = Event{Kind: EventBack, Detail: fmt.Sprintf("away since %s", was.Gone.UTC().Format(time.RFC3339))}
			was.Gone = time.Time{}
		default:
			continue
		}
		sightings[id] = was
		e.Site, e.Host = st.Site, id
		if err := k.tell(ctx, e); err != nil {
			return err
		}
		if err := k.cfg.Store.Sighted(ctx, st.Site, id, func(s *Sighting) { s.Gone = was.Gone }); err != nil {
			return err
		}
	}
	return nil
}

// proveDue has those members prove themselves whose time it is, and that answered
// the last call; it says when the next is due.
func (k *Keeper) proveDue(ctx context.Context, st Standing, pol Policy, seen map[peer.ID]Seen, sightings map[peer.ID]Sighting) (next time.Time) {
	now := k.cfg.Now()
	next = now.Add(k.cfg.Times.Call)
	for _, m := range pol.Roster {
		s := sightings[m.ID]
		calls := seen[m.ID].Calls
		switch {
		case m.ID == k.cfg.Self || !calls.answered():
		case s.Ask.IsZero():
			// The first time soon, but not all sites at once.
			k.plan(ctx, pair{st.Site, m.ID}, now.Add(spread(k.cfg.AuditEvery/48)))
		case now.Before(s.Ask):
			next = earlier(next, s.Ask)
		default:
			if again, ok := k.startProof(ctx, st, m, false); !ok {
				next = earlier(next, again)
			}
		}
	}
	return next
}

// plan writes down when a member is to prove itself for the first time.
func (k *Keeper) plan(ctx context.Context, p pair, at time.Time) {
	err := k.cfg.Store.Sighted(ctx, p.site, p.host, func(s *Sighting) {
		if s.Ask.IsZero() {
			s.Ask = at
		}
	})
	if err != nil && ctx.Err() == nil {
		k.log.Error("write down a proof", "err", err)
	}
	k.Touch(p.site)
}

// decide goes by the rule for one site.
func (k *Keeper) decide(ctx context.Context, st Standing, pol Policy, others []Sight, heard time.Time) (next time.Time, err error) {
	now := k.cfg.Now()
	w, err := k.cfg.Store.Watch(ctx, st.Site)
	if err != nil {
		return now.Add(k.cfg.Times.Call), err
	}
	was := w
	if w.Jitter <= 0 {
		w.Jitter = 1 + spread(k.cfg.Times.Jitter)
	}
	rank := k.rank(pol)
	if rank == len(others) { // not in the roster any more: behind everybody
		others = append(others, Sight{})
	}
	d := Decide(Seat{
		Copies: pol.Copies, Rank: rank, Holding: st.Root.Defined(), Since: st.Holds, May: st.Standby,
		Others: others, Short: w.Short, Jitter: w.Jitter, Heard: heard,
		Taking: !st.Active.IsZero() && !st.Root.Defined() && st.Failing.IsZero(),
	}, k.cfg.Times, now)
	k.log.Debug("decided", "site", st.Site, "step", d.Step, "whom", d.Whom, "why", d.Why, "at", d.At)
	w.Short = d.Short
	next = d.At
	switch d.Step {
	case Ask:
		next = earlier(next, k.ask(ctx, st, pol, d.Whom))
	case Take:
		err = k.take(ctx, st, pol, &w, d.Why)
	case Give:
		err = k.give(ctx, st, d.Why)
	case Rest:
		if !st.Active.IsZero() && !st.Root.Defined() {
			// Somebody else was faster, or it was a false alarm: the fetch is called off.
			err = k.cfg.Service.LetGo(ctx, st.Site)
		}
	}
	k.seeShort(st.Site, !d.Short.IsZero())
	if err == nil && w != was {
		err = k.cfg.Store.PutWatch(ctx, st.Site, w)
	}
	return next, err
}

// seeShort counts the sites of which we see too few holders. It is called by one goroutine only.
func (k *Keeper) seeShort(site naming.Name, short bool) {
	if short {
		k.short[site] = struct{}{}
	} else {
		delete(k.short, site)
	}
	k.counts.short.Set(float64(len(k.short)))
}

// ask has members prove themselves at once. It says when to look again where that can't be.
func (k *Keeper) ask(ctx context.Context, st Standing, pol Policy, whom []int) (next time.Time) {
	next = k.cfg.Now().Add(k.cfg.Times.Call)
	for _, rank := range whom {
		if rank >= len(pol.Roster) || pol.Roster[rank].ID == k.cfg.Self {
			continue
		}
		if again, ok := k.startProof(ctx, st, pol.Roster[rank], true); !ok {
			next = earlier(next, again)
		}
	}
	return next
}

// take has the service take over, and tells how that goes. Said again and again
// until we hold the site.
func (k *Keeper) take(ctx context.Context, st Standing, pol Policy, w *Watch, why string) error {
	if k.rank(pol) == len(pol.Roster) {
		return nil // without a seat nothing is taken over
	}
	if st.Refused.Defined() {
		root, _, err := k.root(ctx, st)
		if err != nil {
			return err
		}
		if sameBlock(root, st.Refused) && !(st.Active.IsZero() && k.cfg.Service.roomToHold(ctx, st.Site)) {
			return k.decline(ctx, st) // there is no room for it: the next one's turn
		}
	}
	if st.Active.IsZero() {
		if err := k.tell(ctx, Event{Site: st.Site, Kind: EventTookOver, Host: k.cfg.Self, Detail: why}); err != nil {
			return err
		}
		return k.cfg.Service.TakeOver(ctx, st.Site)
	}
	if !st.Failing.IsZero() && !st.Failing.Equal(w.Failing) {
		w.Failing = st.Failing
		return k.tell(ctx, Event{Site: st.Site, Kind: EventFetchFailed, Host: k.cfg.Self, Detail: st.Error})
	}
	return nil
}

// decline ends a turn in which the site turned out to be too large.
func (k *Keeper) decline(ctx context.Context, st Standing) error {
	if st.Active.IsZero() {
		return nil // that was told
	}
	if err := k.tell(ctx, Event{Site: st.Site, Kind: EventDeclined, Host: k.cfg.Self, Detail: st.Error}); err != nil {
		return err
	}
	return k.cfg.Service.LetGo(ctx, st.Site)
}

// give lets go of our copy, if this hour has room for it. Not soon after the roster has changed: others that still go
// by the one before may let go of theirs against ours, and that has to show in proofs that are younger.
func (k *Keeper) give(ctx context.Context, st Standing, why string) error {
	if k.cfg.Now().Sub(k.governedSince(st)) < 2*k.cfg.Times.ProofAge {
		return nil
	}
	n, err := k.cfg.Store.CountEvents(ctx, EventLetGo, k.cfg.Now().Add(-time.Hour))
	if err != nil || n >= k.cfg.GivesPerHour {
		return err
	}
	// Told first: a crash in between must not make the hour longer.
	if err := k.tell(ctx, Event{Site: st.Site, Kind: EventLetGo, Host: k.cfg.Self, Detail: why}); err != nil {
		return err
	}
	return k.cfg.Service.LetGo(ctx, st.Site)
}
