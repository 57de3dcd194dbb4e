package author

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

const (
	elsewhereDeadline = 10 * time.Second       // for all services of a publish: the copies that count are there already
	elsewherePoll     = 500 * time.Millisecond // between two looks of a publish
	serviceDeadline   = time.Minute            // for one service otherwise
	meetDelegates     = 3 * time.Second
	maxDelegates      = 20 // Pinning Service API

	firstAskAgain = time.Minute // after a failure; twice as long after each more
	lastAskAgain  = 6 * time.Hour
)

// thirdParty is a pinning service at work.
type thirdParty struct {
	a *Author
	s state.Service
	c *replicate.Client
}

// wish is what a service is to keep of a site: the first root, and of the others those that it has.
type wish struct {
	site  naming.Name
	alias string
	roots []cid.Cid // newest first, at least one
}

// wanted is the roots of a site that pinning services are to keep.
func (a *Author) wanted(ctx context.Context, s state.Site, keep int) (wish, error) {
	w := wish{site: s.Name, alias: s.Alias}
	if s.Root.Defined() {
		w.roots = append(w.roots, s.Root)
	}
	rows, err := a.State.Releases(ctx, s.Name)
	for _, r := range rows {
		if len(w.roots) < keep && !slices.Contains(w.roots, r.Root) {
			w.roots = append(w.roots, r.Root)
		}
	}
	return w, err
}

// pinElsewhere has the pinning services keep what was published, and waits for them a little. They never count, so
// whatever they do is no error.
func (a *Author) pinElsewhere(ctx context.Context, p *publication) error {
	services, err := a.State.Services(ctx)
	if err != nil || len(services) == 0 {
		return err
	}
	keep := p.keep()
	if p.grace() > 0 {
		keep = max(keep, 2)
	}
	w, err := a.wanted(ctx, state.Site{Name: p.name, Alias: p.req.Alias, Root: p.built.Root}, keep)
	if err != nil {
		return err
	}
	ectx, cancel := context.WithTimeout(ctx, elsewhereDeadline)
	defer cancel()
	done, err := a.turns.take(ectx, elsewhereTurn(p.name))
	if err != nil { // the services are being looked at, and keep somebody waiting
		p.warn("the release is not yet with the pinning services; `holdfast status --check` asks them")
		return ctx.Err()
	}
	defer done()
	rows := make([]state.ServicePin, len(services))
	var wg sync.WaitGroup
	for i, s := range services {
		wg.Go(func() { rows[i] = a.thirdParty(s).until(ectx, w) })
	}
	wg.Wait()
	for i, s := range services {
		switch row := rows[i]; {
		case row.Status == replicate.Pinned:
			p.report(Event{Step: "follow", Host: s.Name, Message: "says that it has pinned the release; nothing proves it"})
		case row.Error != "":
			p.warn("%s, which keeps an unproved copy, has not pinned the release: %s; it is asked again", s.Name, row.Error)
		default:
			p.warn("%s, which keeps an unproved copy, says that it is %s; `holdfast status --check` asks again", s.Name, row.Status)
		}
	}
	return ctx.Err()
}

// elsewhereTurn keeps a publish and a look by the clock from asking for the same pin twice.
func elsewhereTurn(n naming.Name) string { return "elsewhere:" + n.String() }

func (a *Author) thirdParty(s state.Service) thirdParty { return thirdParty{a, s, a.service(s)} }

// TendThirdParties has each pinning service keep what is published of a site: it is asked how it stands, asked again for what
// it lost or failed at, and what is wanted no longer is taken back. With sample, random leaves are asked for at its
// gateways. What goes wrong is kept with the pin, to be shown; an error is the state's or the context's.
func (a *Author) TendThirdParties(ctx context.Context, site state.Site, sample bool) error {
	services, err := a.State.Services(ctx)
	if err != nil || len(services) == 0 || !site.Root.Defined() {
		return err
	}
	w, err := a.wanted(ctx, site, a.keptAtHosts(ctx, site.Name))
	if err != nil {
		return err
	}
	done, err := a.turns.take(ctx, elsewhereTurn(site.Name))
	if err != nil {
		return err
	}
	defer done()
	var wg sync.WaitGroup
	errs := make([]error, len(services))
	for i, s := range services {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, serviceDeadline)
			defer cancel()
			t := a.thirdParty(s)
			row, err := t.look(ctx, w)
			if err == nil && sample && row.Status == replicate.Pinned {
				err = t.sample(ctx, row)
			}
			errs[i] = err
		})
	}
	wg.Wait()
	return errors.Join(append(errs, ctx.Err())...)
}

// keptAtHosts is how many roots of a site its holders keep, as its policy says.
func (a *Author) keptAtHosts(ctx context.Context, site naming.Name) int {
	rec, err := a.State.Best(ctx, site)
	if err != nil || !rec.Policy().Defined() {
		return DefaultKeep
	}
	pol, err := replicate.ReadPolicy(ctx, a.blocks(), rec.Policy())
	switch {
	case err != nil:
		return replicate.MaxKeep // that it can't be read just now must not cost a copy
	case pol.Grace > 0:
		return max(pol.Keep, 2)
	}
	return pol.Keep
}

// until looks at the service until it has pinned the newest root, or has failed at it, or ctx ends.
func (t thirdParty) until(ctx context.Context, w wish) state.ServicePin {
	tick := time.NewTicker(elsewherePoll)
	defer tick.Stop()
	for {
		row, err := t.look(ctx, w)
		if err != nil {
			row.Error = err.Error()
		}
		if row.Error != "" || row.Status.Ended() {
			return row
		}
		select {
		case <-ctx.Done():
			return row
		case <-tick.C:
		}
	}
}

// look brings the service one step nearer to the wish, and returns the pin of the newest root. The wish is what is known to be
// wanted, and the rows are what was asked for: whatever was cut off between the two is done the next time. An
// error is the state's.
func (t thirdParty) look(ctx context.Context, w wish) (state.ServicePin, error) {
	rows, err := t.a.State.ServicePins(ctx, w.site)
	if err != nil {
		return state.ServicePin{}, err
	}
	rows = slices.DeleteFunc(rows, func(p state.ServicePin) bool { return p.Service != t.s.URL })
	row := state.ServicePin{Service: t.s.URL, Site: w.site, Root: w.roots[0], Status: replicate.Queued}
	at := slices.IndexFunc(rows, func(p state.ServicePin) bool { return p.Root.Equals(row.Root) })
	switch {
	case t.s.Leaving:
		return row, t.takeBackAll(ctx, rows)
	case at >= 0:
		row = rows[at]
		rows = slices.Delete(rows, at, at+1)
	default: // written down before it is asked for, so that it isn't forgotten there
		if err := t.a.State.PutServicePin(ctx, row); err != nil {
			return row, err
		}
	}
	if t.a.Now().Before(row.Due) {
		return row, nil
	}
	row = t.ask(ctx, w, row)
	if err := t.a.State.PutServicePin(context.WithoutCancel(ctx), row); err != nil || row.Status != replicate.Pinned {
		return row, err
	}
	// Only now: what was there stays until the new is.
	return row, t.takeBackAll(ctx, slices.DeleteFunc(rows, func(p state.ServicePin) bool {
		return p.Status == replicate.Pinned && slices.Contains(w.roots, p.Root)
	}))
}

// ask asks the service for the pin, or how it stands, and writes into the row what came of it.
func (t thirdParty) ask(ctx context.Context, w wish, row state.ServicePin) state.ServicePin {
	st, err := t.statusOf(ctx, w, &row)
	now := t.a.Now()
	if err == nil {
		row.Request, row.Status, row.AskedAt, row.Error = st.RequestID, st.Status, now, ""
		if serr := t.a.State.SawService(context.WithoutCancel(ctx), t.s.URL, now); serr != nil {
			t.a.Log.Warn("write service", "service", t.s.Name, "err", serr)
		}
		if st.Status != replicate.Failed {
			row.Attempts, row.Due = 0, time.Time{}
			t.meet(ctx, st)
			return row
		}
		err = fmt.Errorf("it has failed: %s", reasonOf(st))
	}
	t.a.Log.Info("pinning service", "service", t.s.Name, "site", w.alias, "err", err)
	row.Error, row.Attempts = err.Error(), row.Attempts+1
	row.Due = now.Add(askAgain(row.Attempts, err))
	return row
}

// reasonOf is why a pin has failed, where the service says so.
func reasonOf(st replicate.PinStatus) string {
	for _, key := range []string{"status_details", replicate.InfoLastError} {
		if s := st.Info[key]; s != "" {
			return strings.ToValidUTF8(s[:min(len(s), 200)], "")
		}
	}
	return "it doesn't say why"
}

// askAgain is how long to leave a service alone after so many failures in a row.
func askAgain(attempts int, err error) time.Duration {
	d := lastAskAgain
	if attempts < 10 {
		d = min(firstAskAgain<<(attempts-1), lastAskAgain)
	}
	var busy *replicate.BusyError
	if errors.As(err, &busy) {
		d = max(d, busy.After) // at most a day
	}
	return d
}

// statusOf is the service's answer about a pin, which it is asked for where it hasn't got it.
func (t thirdParty) statusOf(ctx context.Context, w wish, row *state.ServicePin) (replicate.PinStatus, error) {
	if row.Request != "" && row.Status == replicate.Failed { // it stays failed: only a new one is tried
		if err := t.delete(ctx, *row); err != nil {
			return replicate.PinStatus{}, err
		}
		row.Request = ""
	}
	if row.Request != "" {
		st, err := t.c.Get(ctx, row.Request)
		if !errors.Is(err, replicate.ErrNotFound) {
			return t.about(st, row.Root, err)
		}
		row.Request, row.Status = "", replicate.Queued
	}
	st, err := t.find(ctx, w.alias, row.Root)
	if err != nil || st.RequestID != "" {
		return st, err
	}
	st, err = t.c.Add(ctx, replicate.Pin{
		CID: row.Root, Name: pinName(w.alias), Origins: t.a.originsFor(ctx), Meta: map[string]string{replicate.MetaSite: w.site.String()},
	})
	return t.about(st, row.Root, err)
}

// about refuses an answer that is about something else.
func (t thirdParty) about(st replicate.PinStatus, root cid.Cid, err error) (replicate.PinStatus, error) {
	if err == nil && string(st.Pin.CID.Hash()) != string(root.Hash()) {
		err = fmt.Errorf("%w: asked about %s, it answers about %s", replicate.ErrInvalid, root, st.Pin.CID)
	}
	return st, err
}

// find looks for the pin of a call that was cut off before its answer came; without a request id there is none.
func (t thirdParty) find(ctx context.Context, alias string, root cid.Cid) (replicate.PinStatus, error) {
	res, err := t.c.List(ctx, replicate.Query{CIDs: []cid.Cid{root}, Name: pinName(alias), Status: []replicate.Status{replicate.Queued, replicate.Pinning, replicate.Pinned}})
	if err != nil {
		return replicate.PinStatus{}, err
	}
	for _, st := range res.Results { // some services don't heed all filters
		if st.Pin.Name == pinName(alias) && st.Status != replicate.Failed && string(st.Pin.CID.Hash()) == string(root.Hash()) {
			return st, nil
		}
	}
	return replicate.PinStatus{}, nil
}

// originsFor is where a service may fetch from: our hosts, who are always on, and this machine.
func (a *Author) originsFor(ctx context.Context) []string {
	var out []string
	hosts, err := a.State.Hosts(ctx)
	if err != nil {
		a.Log.Warn("list hosts", "err", err)
	}
	for _, h := range hosts {
		for _, addr := range h.Addrs {
			if _, err := peer.AddrInfoFromString(addr); err == nil && len(addr) <= replicate.MaxOriginBytes && len(out) < maxOrigins/2 && !slices.Contains(out, addr) {
				out = append(out, addr)
			}
		}
	}
	if a.Network != nil {
		for _, addr := range a.origins() {
			if len(out) < maxOrigins && !slices.Contains(out, addr) {
				out = append(out, addr)
			}
		}
	}
	return out
}

// meet opens connections to where the service says that it fetches from, so that it need not be able to reach us.
func (t thirdParty) meet(ctx context.Context, st replicate.PinStatus) {
	if t.a.Network == nil || st.Status == replicate.Pinned {
		return
	}
	var infos []peer.AddrInfo
	for _, s := range st.Delegates[:min(len(st.Delegates), maxDelegates)] {
		if ai, err := peer.AddrInfoFromString(s); err == nil && ai.ID != t.a.Network.ID() {
			infos = append(infos, *ai)
		}
	}
	if len(infos) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, meetDelegates)
	defer cancel()
	if err := t.a.Network.Connect(ctx, infos); err != nil {
		t.a.Log.Info("connect to a pinning service's delegates", "service", t.s.Name, "err", err)
	}
}

// takeBackAll takes pins back. What a service does not take back now it is asked again the next time: an error is the state's.
func (t thirdParty) takeBackAll(ctx context.Context, rows []state.ServicePin) error {
	for _, p := range rows {
		if err := t.takeBack(ctx, p); err != nil {
			t.a.Log.Info("a pin stays at a pinning service", "service", t.s.Name, "root", p.Root, "err", err)
		}
	}
	return nil
}

// takeBack ends one pin at the service, then forgets it.
func (t thirdParty) takeBack(ctx context.Context, p state.ServicePin) error {
	if p.Request == "" {
		site, err := t.a.State.SiteByName(ctx, p.Site)
		if err != nil && !errors.Is(err, state.ErrNotFound) {
			return err
		}
		st, err := t.find(ctx, site.Alias, p.Root)
		if err != nil {
			return err
		}
		p.Request = st.RequestID
	}
	if err := t.delete(ctx, p); err != nil {
		return err
	}
	return t.a.State.RemoveServicePin(ctx, p)
}

// delete ends a pin at the service, unless another of ours is the same one there: some services
// know a pin by its CID, whoever asked for it under whatever name.
func (t thirdParty) delete(ctx context.Context, p state.ServicePin) error {
	if p.Request == "" {
		return nil
	}
	all, err := t.a.State.ServicePins(ctx, naming.Name{})
	if err != nil {
		return err
	}
	for _, o := range all {
		if o.Service == p.Service && o.Request == p.Request && (o.Site != p.Site || !o.Root.Equals(p.Root)) {
			return nil
		}
	}
	if err := t.c.Delete(ctx, p.Request); err != nil && !errors.Is(err, replicate.ErrNotFound) {
		return err
	}
	return nil
}
