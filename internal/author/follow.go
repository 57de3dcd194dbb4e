package author

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// Deadlines of what comes after the signature. None of them undoes it.
const (
	putDeadline    = 20 * time.Second
	followDeadline = 2 * time.Minute
	routingGrace   = 2 * time.Second // for routing to answer once the holders have the record
)

// follow hands the record to the holders and to routing, waits until each
// holder's name pin stands on the new root, and only then takes the temporary
// pins back. From here on the publish is done: what fails is a warning.
func (a *Author) follow(ctx context.Context, p *publication) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	warn := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		p.warn(format, args...)
	}
	rctx, cancel := context.WithTimeout(ctx, a.requestTime(putDeadline))
	defer cancel()
	routing := a.putInRouting(rctx, p, warn)
	for _, id := range p.placed.order {
		wg.Go(func() {
			host := p.placed.hosts[id]
			if p.placed.stands(id) != Proved { // still fetching: the temporary pin brings it, the name pin finds it there
				if _, err := a.makeNamePin(ctx, p, host); err != nil {
					warn("%s does not follow the name yet: %v", host.Name, err)
				}
				return
			}
			if err := a.switchHost(ctx, p, host); err != nil {
				// The temporary pin stays: it is what keeps the copy there.
				warn("%s holds the release but does not follow the name yet: %v", host.Name, err)
				return
			}
			a.dropPins(ctx, p, host)
		})
	}
	wg.Wait()
	if len(p.placed.order) > 0 {
		// The holders have the record, and put it into routing themselves.
		defer time.AfterFunc(routingGrace, cancel).Stop()
	}
	routing.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	a.placeStandbys(ctx, p)
	a.dropLosers(ctx, p)
	if p.req.NoGrace {
		a.replaceNamePins(ctx, p)
	}
	return a.releaseOld(ctx, p)
}

// putInRouting puts the record where strangers look, until ctx ends. It calls warn from goroutines of its own, one at a time.
func (a *Author) putInRouting(ctx context.Context, p *publication, warn func(string, ...any)) *sync.WaitGroup {
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, sink := range a.Sinks(p.name) {
		wg.Go(func() {
			if err := sink.Put(ctx, p.record); err != nil && !errors.Is(ctx.Err(), context.Canceled) {
				mu.Lock()
				defer mu.Unlock()
				warn("the record did not reach %s: %v", sink, err)
			}
		})
	}
	return &wg
}

// switchHost makes sure that the host has a name pin and the record, and
// waits until the pin stands on the new root.
func (a *Author) switchHost(ctx context.Context, p *publication, host state.Host) error {
	ctx, cancel := context.WithTimeout(ctx, followDeadline)
	defer cancel()
	before := p.placed.holding(host.ID).NamePin
	pin, err := a.makeNamePin(ctx, p, host)
	if err != nil {
		return err
	}
	if pin != before || !p.told[host.ID] { // a host keeps records only of names that it follows
		if _, err := a.tell(ctx, host, p.record); err != nil {
			return err
		}
	}
	return a.waitSwitched(ctx, p, host, pin)
}

// makeNamePin makes sure that the host has a name pin, and writes it down.
func (a *Author) makeNamePin(ctx context.Context, p *publication, host state.Host) (string, error) {
	pin, err := a.namePin(ctx, p, a.pins(host), p.placed.holding(host.ID))
	if err != nil {
		return "", err
	}
	return pin, a.setHolding(ctx, p, p.placed, host.ID, func(h *state.Holding) { h.NamePin = pin })
}

// waitSwitched waits until a host's name pin stands on the new root.
func (a *Author) waitSwitched(ctx context.Context, p *publication, host state.Host, pin string) error {
	client, root := a.pins(host), p.built.Root.String()
	for {
		s, err := client.Get(ctx, pin)
		if err != nil {
			return err
		}
		if s.Status == replicate.Pinned && s.Info["root"] == root && s.Info["sequence"] == strconv.FormatUint(p.record.Sequence(), 10) {
			p.report(Event{Step: "follow", Host: host.Name, Message: "follows the name"})
			return nil
		}
		if overtaken(s, root, p.record.Sequence()) {
			if better, err := a.tell(ctx, host, p.record); !better.IsZero() {
				return fmt.Errorf("it has another machine's record, which leads to %s: %w", better.Value(), err)
			}
		}
		select {
		case <-time.After(pinPoll):
		case <-ctx.Done():
			return fmt.Errorf("its name pin stands on %s, last error %q: %w", s.Info["root"], s.Info["last_error"], ctx.Err())
		}
	}
}

// overtaken tells whether a name pin stands on a record that may beat ours: then it never comes to ours.
func overtaken(s replicate.PinStatus, root string, ours uint64) bool {
	theirs, err := strconv.ParseUint(s.Info["sequence"], 10, 64)
	return err == nil && s.Status == replicate.Pinned && theirs >= ours && s.Info["root"] != root
}

// namePin finds the pin that follows the name at this host, or makes it.
func (a *Author) namePin(ctx context.Context, p *publication, client *replicate.Client, h *state.Holding) (string, error) {
	if h.NamePin != "" {
		switch _, err := client.Get(ctx, h.NamePin); {
		case err == nil:
			return h.NamePin, nil
		case !errors.Is(err, replicate.ErrNotFound):
			return "", err
		}
	}
	found, err := a.pinFollowing(ctx, p.name, client, replicate.RoleHolder)
	if err != nil || found.RequestID != "" {
		return found.RequestID, err
	}
	s, err := client.Add(ctx, replicate.Pin{
		CID: p.built.Root, Name: pinName(p.req.Alias), Origins: a.origins(),
		Meta: map[string]string{
			replicate.MetaName: p.name.String(), replicate.MetaKeep: strconv.Itoa(p.keep()),
			replicate.MetaAuditor: a.Network.ID().String(),
		},
	})
	return s.RequestID, err
}

// pinFollowing is the pin that follows a name in a role at a host; the zero PinStatus where there is none.
func (a *Author) pinFollowing(ctx context.Context, n naming.Name, client *replicate.Client, role string) (replicate.PinStatus, error) {
	q := replicate.Query{
		Status: []replicate.Status{replicate.Queued, replicate.Pinning, replicate.Pinned},
		Meta:   map[string]string{replicate.MetaName: n.String()},
	}
	for s, err := range client.All(ctx, q) {
		if err != nil {
			return replicate.PinStatus{}, err
		}
		if (s.Pin.Meta[replicate.MetaRole] == replicate.RoleStandby) == (role == replicate.RoleStandby) {
			return s, nil
		}
	}
	return replicate.PinStatus{}, nil
}

// dropLosers ends the pins of hosts that the plan no longer names, and
// the temporary pins of those that failed. Copies are taken away only where all that the plan names have proved themselves.
func (a *Author) dropLosers(ctx context.Context, p *publication) {
	var wg sync.WaitGroup
	for id, host := range p.placed.hosts {
		h := *p.placed.holding(id)
		if h.TempPin == "" && !h.Follows() {
			continue
		}
		wg.Go(func() { a.dropLoser(ctx, p, host, h) })
	}
	wg.Wait()
}

func (a *Author) dropLoser(ctx context.Context, p *publication, host state.Host, h state.Holding) {
	holds, stands := p.placed.holds(h.Host), slices.Contains(p.placed.standby, h.Host)
	if !holds && h.TempPin != "" {
		a.dropPins(ctx, p, host)
	}
	// A host that is only away for now keeps its name pin: it is a
	// spare copy, and it follows the name by itself when it is back.
	mayLose := h.State != Unreachable && p.placed.whole()
	if !holds && h.NamePin != "" && mayLose && a.endPin(ctx, host, h.NamePin) {
		h.NamePin = ""
	}
	if !stands && h.StandbyPin != "" && (holds || mayLose) && a.endPin(ctx, host, h.StandbyPin) {
		h.StandbyPin = ""
	}
	var err error
	if h.Follows() {
		err = a.setHolding(ctx, p, p.placed, h.Host, func(to *state.Holding) { to.NamePin, to.StandbyPin = h.NamePin, h.StandbyPin })
	} else {
		err = a.State.RemoveHolding(ctx, p.name, h.Host)
	}
	if err != nil {
		a.Log.Warn("write holding", "err", err)
	}
}

// endPin deletes a pin, and tells whether it is gone.
func (a *Author) endPin(ctx context.Context, host state.Host, pin string) bool {
	ctx, cancel := context.WithTimeout(ctx, a.requestTime(putDeadline))
	defer cancel()
	err := a.pins(host).Delete(ctx, pin)
	if err != nil && !errors.Is(err, replicate.ErrNotFound) {
		a.Log.Warn("pin stays", "host", host.Name, "err", err)
		return false
	}
	return true
}

// releaseOld gives back our own copies of roots older than the policy keeps. What has a grace stays until the next release.
func (a *Author) releaseOld(ctx context.Context, p *publication) error {
	rows, err := a.State.Releases(ctx, p.name)
	if err != nil {
		return err
	}
	kept, keep := make(map[cid.Cid]bool), p.keep()
	if p.grace() > 0 {
		keep = max(keep, 2)
	}
	for _, r := range rows {
		if len(kept) < keep {
			kept[r.Root] = true
			continue
		}
		if !kept[r.Root] {
			if err := a.Store.Release(ctx, owner(p.name), r.Root); err != nil {
				return err
			}
		}
	}
	if p.req.NoGrace && a.Collect != nil {
		if err := a.Collect(ctx); err != nil {
			p.warn("what was taken back may still be on this machine; `holdfast gc` gives it back: %v", err)
		}
	}
	return ctx.Err()
}
