package author

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// RotateRequest moves a site to a new key.
type RotateRequest struct {
	RestateRequest
	// Release is what the site shows under its new name: a release's number; 0: what it shows now, which after a theft
	// may be the thief's.
	Release uint64 `json:"release,omitempty"`
}

// Rotated is the outcome of moving a site to a new key.
type Rotated struct {
	Restated        // of the new name
	OldName  string `json:"old_name"`
	OldAlias string `json:"old_alias"` // under which the old key is kept, and the old name goes on
}

// Rotate moves a site to a new key and name for good. The new name says first
// what the old one says, everywhere that the site is kept; then the old name's
// last record leads to it; then the alias stands for the new key. The site's
// seed must be in the keyring: without the recovery key nobody would believe
// the last record. Interrupted anywhere and run again, it goes on.
//
// Errors: ErrUsage where the seed is in its backup only, naming.ErrRecovery, and those of Renew.
func (a *Author) Rotate(ctx context.Context, req RotateRequest, report func(Event)) (Rotated, error) {
	p, done, err := a.openRestated(ctx, req.RestateRequest, report)
	if err != nil {
		return Rotated{}, err
	}
	defer done()
	p.shows = req.Release
	p.req.Rebase = p.req.Rebase || req.Release > 0            // whoever says what is to be shown knows that it is another's
	if left, err := a.leftOver(p); err != nil || left != "" { // all was done but the last step
		if err == nil {
			err = a.Keys.Supersede(req.Alias, left, archiveAlias(req.Alias, p.name))
		}
		return Rotated{Restated: Restated{Alias: req.Alias, Name: p.name.String()}}, err
	}
	next, err := a.nextKey(p)
	if err != nil {
		return Rotated{}, err
	}
	out := Rotated{OldName: p.name.String(), OldAlias: archiveAlias(req.Alias, p.name)}
	if out.Restated, err = a.move(ctx, p, next); err != nil {
		return out, err
	}
	if err := a.State.RenameSite(ctx, req.Alias, out.OldAlias, nextAlias(p)); err != nil {
		return out, err
	}
	if err := a.Keys.Supersede(req.Alias, nextAlias(p), out.OldAlias); err != nil {
		return out, err
	}
	out.Alias, out.Name = req.Alias, next.Name().String()
	return out, nil
}

// move has the old name lead to the new one, unless it does so already: then hosts and routing are told once more,
// since an interrupted rotation may have told nobody.
func (a *Author) move(ctx context.Context, p *publication, next naming.Signer) (Restated, error) {
	// No sequence that a thief may have signed stands in the way: a last record is above all of them.
	source, err := a.askNewest(ctx, p)
	if err != nil {
		return Restated{}, err
	}
	if !p.best.IsZero() && p.best.IsLast() {
		if to, _ := p.best.Target(); to != next.Name() {
			return Restated{}, fmt.Errorf("%w: %s has moved to %s already; import that key", naming.ErrInvalidRecord, p.req.Alias, p.best.Value())
		}
		p.record = p.best
		return a.handOut(ctx, p)
	}
	if err := a.mayFollow(ctx, p, source); err != nil {
		return Restated{}, err
	}
	return a.moveTo(ctx, p, next)
}

// The aliases of a rotation begin with the site's, and end with the old name's last characters: nobody calls another
// site so, and two rotations don't have the same.
const nextMark, archiveMark = "-next-", "-was-"

// nextAlias is under which a site's next key waits for its turn.
func nextAlias(p *publication) string { return markedAlias(p.req.Alias, nextMark, p.name) }

// archiveAlias is under which a site's old key is kept.
func archiveAlias(alias string, n naming.Name) string { return markedAlias(alias, archiveMark, n) }

func markedAlias(alias, mark string, n naming.Name) string {
	text := n.String()
	return alias[:min(len(alias), 50)] + mark + text[len(text)-6:]
}

// leftOver is the alias under which the site's key waited for its turn, where it is there still though the site has the key
// already; "" where none is.
func (a *Author) leftOver(p *publication) (string, error) {
	keys, err := a.Keys.List()
	if len(keys) == 0 {
		return "", err
	} // else it is others' files that can't be read
	before, _, _ := strings.Cut(nextAlias(p), nextMark)
	for _, k := range keys {
		if k.Name == p.name && k.Alias != p.req.Alias && strings.HasPrefix(k.Alias, before+nextMark) {
			return k.Alias, nil
		}
	}
	return "", nil
}

// nextKey is the key that a site moves to, made unless an interrupted rotation has.
func (a *Author) nextKey(p *publication) (naming.Signer, error) {
	next, err := a.Keys.Signer(nextAlias(p))
	if !errors.Is(err, naming.ErrNoKey) {
		return next, err
	}
	if _, err := a.seedOf(p.req.Alias); err != nil {
		return nil, err
	}
	if _, err := a.Keys.NewLike(nextAlias(p), p.req.Alias); err != nil {
		return nil, err
	}
	return a.Keys.Signer(nextAlias(p))
}

// seedOf is a site's seed. ErrUsage where only a backup has it.
func (a *Author) seedOf(alias string) (naming.Seed, error) {
	seed, err := a.Keys.Seed(alias)
	if errors.Is(err, naming.ErrNoSeed) {
		err = usagef("the seed of %s is in its backup only: name that with --backup FILE, or --words", alias)
	}
	return seed, err
}

// moveTo has the new name say what the old one says, and signs the old one's
// last record.
func (a *Author) moveTo(ctx context.Context, p *publication, next naming.Signer) (Restated, error) {
	if p.best.IsZero() {
		return Restated{}, fmt.Errorf("%w: nothing was published under %s yet", ErrNoSite, p.req.Alias)
	}
	seed, err := a.seedOf(p.req.Alias)
	if err != nil {
		return Restated{}, err
	}
	recovery, err := seed.Recovery()
	if err != nil {
		return Restated{}, err
	}
	// Signed before anything is handed out: a recovery key that doesn't fit must not leave half a move behind.
	last, err := naming.SignLast(p.signer, recovery, p.best, next.Name())
	if err != nil {
		return Restated{}, err
	}
	out, err := a.begin(ctx, p, next)
	if err != nil {
		return out, err
	}
	p.record = last
	p.report(Event{Step: "move", Message: "the old name leads to the new one"})
	_, err = a.handOut(ctx, p)
	out.Warnings = append(out.Warnings, p.warnings...)
	return out, err
}

// begin publishes what the old name says under the new one, and has the hosts
// follow it.
func (a *Author) begin(ctx context.Context, p *publication, next naming.Signer) (Restated, error) {
	q := &publication{req: p.req, signer: next, name: next.Name(), session: p.session, report: p.report, restates: true}
	q.req.Alias = nextAlias(p)
	best, _, err := a.newest(ctx, q.req.Alias, q.name, p.req.ForceOffline)
	if err != nil {
		return Restated{}, err
	}
	s := naming.Statement{
		Value: p.best.Value(), TTL: p.best.TTL(), ValidUntil: a.Now().Add(p.lifetime()), Release: p.best.Release(), Recovery: next.Recovery(),
	}
	if p.shows > 0 {
		release, root, err := a.releaseOfSite(ctx, p, p.best.Release(), p.shows)
		if err != nil {
			return Restated{}, err
		}
		s.Value, s.Release, q.built.Root = "/ipfs/"+root.String(), release, root
	}
	if p.best.ValidUntil().After(s.ValidUntil) {
		s.ValidUntil = p.best.ValidUntil()
	}
	if s, err = naming.Next(best, s); err != nil {
		return Restated{}, err
	}
	if s.Policy, err = a.renewPolicy(ctx, q, p.best.Policy(), s.ValidUntil); err != nil {
		return Restated{}, err
	}
	if q.record, err = next.Sign(s); err != nil {
		return Restated{}, err
	}
	if err := a.copySite(ctx, p, q); err != nil {
		return Restated{}, err
	}
	if err := a.pinUnder(ctx, p, q); err != nil {
		return Restated{}, err
	}
	return a.handOut(ctx, q)
}

// pinUnder makes name pins for the new name at the hosts that follow the old one.
func (a *Author) pinUnder(ctx context.Context, p, q *publication) error {
	hosts, err := a.keepers(ctx, p)
	if err != nil || len(hosts) == 0 {
		return err
	}
	chain, root, err := a.Resolver.Follow(ctx, p.name)
	if err != nil {
		return err
	}
	q.wants.Keep = a.keepOf(ctx, naming.Governing(chain))
	if !q.built.Root.Defined() {
		q.built.Root = root
	}
	proved := make(map[peer.ID]state.Holding)
	holdings, err := a.State.Holdings(ctx, p.name)
	if err != nil {
		return err
	}
	for _, h := range holdings {
		proved[h.Host] = h
	}
	pinned := make(map[peer.ID]bool)
	for _, h := range hosts {
		if proved[h.ID].NamePin == "" { // a standby: the next publish or apply has it stand by for the new name
			continue
		}
		if err := a.dial(ctx, h); err != nil {
			q.warn("%s can't be reached, and doesn't follow the new name yet: %v", h.Name, err)
			continue
		}
		pin, err := a.namePin(ctx, q, a.pins(h), &state.Holding{})
		if err == nil {
			err = a.waitPinned(ctx, a.pins(h), pin)
		}
		if err != nil {
			q.warn("%s does not follow the new name: %v", h.Name, err)
			continue
		}
		pinned[h.ID] = true
		row := proved[h.ID]
		if !row.Root.Equals(q.built.Root) { // else the same bytes in the same hands
			row = state.Holding{Host: h.ID, State: Queued}
		}
		row.Site, row.NamePin, row.TempPin = q.name, pin, ""
		if err := a.State.PutHolding(ctx, row); err != nil {
			return err
		}
	}
	if len(pinned) == 0 {
		return fmt.Errorf("%w: no host could be asked to follow the new name; nothing has changed", ErrUnreachable)
	}
	return nil
}

// waitPinned waits until a host has what a pin asks for, which it mostly has.
func (a *Author) waitPinned(ctx context.Context, client *replicate.Client, pin string) error {
	ctx, cancel := context.WithTimeout(ctx, followDeadline)
	defer cancel()
	got, err := client.Wait(ctx, pin, pinPoll, nil)
	if err == nil && got.Status != replicate.Pinned {
		err = fmt.Errorf("its name pin %s: %s", got.Status, got.Info[replicate.InfoLastError])
	}
	return err
}

// keepOf is how many releases a site's policy has holders keep.
func (a *Author) keepOf(ctx context.Context, governing naming.Record) int {
	if !governing.Policy().Defined() {
		return 0
	}
	pol, err := replicate.ReadPolicy(ctx, a.blocks(), governing.Policy())
	if err != nil {
		return 0
	}
	return pol.Keep
}

// copySite writes down for the new name what is known and kept of the old one.
func (a *Author) copySite(ctx context.Context, p, q *publication) error {
	site, err := a.State.SiteByName(ctx, p.name)
	if errors.Is(err, state.ErrNotFound) { // published by another machine only
		p.record = p.best
		site, err = a.restatedSite(ctx, p)
	}
	if err != nil {
		return err
	}
	rows, err := a.State.Releases(ctx, p.name)
	if err != nil {
		return err
	}
	roots, err := a.Store.Kept(ctx, owner(p.name))
	if err != nil {
		return err
	}
	for _, root := range roots {
		var cids []cid.Cid
		for c, err := range a.Store.KeptCIDs(ctx, root) {
			if err != nil {
				return err
			}
			cids = append(cids, c)
		}
		if _, err := q.session.Shield(ctx, cids); err != nil {
			return err
		}
		if err := keepAll(ctx, q.session, owner(q.name), root, cids); err != nil {
			return err
		}
	}
	for _, r := range rows {
		r.Site = q.name
		if err := a.State.PutRelease(ctx, r); err != nil {
			return err
		}
	}
	site.Name, site.Alias, site.Sequence = q.name, q.req.Alias, 0
	return a.State.PutSite(ctx, site)
}
