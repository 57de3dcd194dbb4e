package author

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"sync"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/replicate"
)

// replaceNamePins has each host that follows the site begin anew with what was
// published just now: a name pin keeps the CID that it was made with, and that
// is a release to be taken back. It is called once the hosts have switched; what fails is a warning.
func (a *Author) replaceNamePins(ctx context.Context, p *publication) {
	ctx, cancel := context.WithTimeout(ctx, followDeadline)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	for id, host := range p.placed.hosts {
		if p.placed.holding(id).NamePin == "" {
			continue
		}
		wg.Go(func() {
			err := a.replaceNamePin(ctx, p, host)
			if err == nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			p.warn("%s may still hold what was published before: %v; publish once more with --no-grace when it can be reached", host.Name, err)
		})
	}
	wg.Wait()
}

// replaceNamePin is replaceNamePins for one host. A pin that begins with the
// new root is left as it is.
func (a *Author) replaceNamePin(ctx context.Context, p *publication, host state.Host) error {
	if h := p.placed.holding(host.ID); h.State == Unreachable {
		return errors.New("it could not be reached")
	}
	client := a.pins(host)
	old, err := client.Get(ctx, p.placed.holding(host.ID).NamePin)
	if errors.Is(err, replicate.ErrNotFound) {
		return nil // and nothing is kept for it
	}
	if err != nil || old.Pin.CID.Equals(p.built.Root) {
		return err
	}
	pin := replicate.Pin{CID: p.built.Root, Name: old.Pin.Name, Origins: a.origins(), Meta: maps.Clone(old.Pin.Meta)}
	pin.Meta[replicate.MetaKeep] = strconv.Itoa(p.keep())
	next, err := client.Replace(ctx, old.RequestID, pin)
	if err != nil {
		return err
	}
	if err := a.setHolding(ctx, p, p.placed, host.ID, func(h *state.Holding) { h.NamePin = next.RequestID }); err != nil {
		return err
	}
	if err := a.waitPinned(ctx, client, next.RequestID); err != nil {
		return err
	}
	return a.waitSwitched(ctx, p, host, next.RequestID)
}
