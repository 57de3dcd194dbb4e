package author

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/replicate"
)

const (
	// standbyDeadline is how long a host may take over a standby pin. It has a block to fetch.
	standbyDeadline = 10 * time.Second
	// standbyFloor is reserved for the smallest sites: they grow.
	standbyFloor = 1 << 20
	// standbyWaste is how many times more than it needs a standby may reserve before its pin is replaced.
	standbyWaste = 8
)

// placeStandbys has each standby of the roster reserve room and follow the name. One that doesn't is a note: it would
// be needed only after a holder is gone, and the next in the roster takes its turn.
func (a *Author) placeStandbys(ctx context.Context, p *publication) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, id := range p.placed.standby {
		wg.Go(func() {
			host := p.placed.hosts[id]
			sctx, cancel := context.WithTimeout(ctx, standbyDeadline)
			defer cancel()
			if err := a.standBy(sctx, p, host); err != nil && ctx.Err() == nil {
				mu.Lock()
				defer mu.Unlock()
				p.notes = append(p.notes, fmt.Sprintf("%s does not stand by: %v", host.Name, err))
			}
		})
	}
	wg.Wait()
}

// standBy makes sure of one host's standby pin. A pin that is there stays, also under another policy: the host
// learns of that one with the record. It is replaced where it reserves too little for the site, or far too much.
func (a *Author) standBy(ctx context.Context, p *publication, host state.Host) error {
	need := p.standbyBytes()
	h := *p.placed.holding(host.ID)
	if h.StandbyPin != "" && h.StandbyBytes >= p.built.DAG.Bytes && h.StandbyBytes <= need*standbyWaste {
		return nil
	}
	if err := a.dial(ctx, host); err != nil {
		return err
	}
	client := a.pins(host)
	found, err := a.pinFollowing(ctx, p.name, client, replicate.RoleStandby)
	if err != nil {
		return err
	}
	pin := replicate.Pin{
		CID: p.record.Policy(), Name: pinName(p.req.Alias), Origins: a.origins(),
		Meta: map[string]string{
			replicate.MetaName: p.name.String(), replicate.MetaRole: replicate.RoleStandby, replicate.MetaKeep: strconv.Itoa(p.keep()),
			replicate.MetaMaxBytes: strconv.FormatInt(fits(need, p.built.DAG.Bytes, host), 10), replicate.MetaAuditor: a.Network.ID().String(),
		},
	}
	var s replicate.PinStatus
	if found.RequestID != "" {
		s, err = client.Replace(ctx, found.RequestID, pin)
	} else {
		s, err = client.Add(ctx, pin)
	}
	if err != nil {
		return err
	}
	err = a.setHolding(ctx, p, p.placed, host.ID, func(h *state.Holding) { h.StandbyPin, h.StandbyBytes = s.RequestID, need })
	if err != nil {
		return err
	}
	if _, err := a.tell(ctx, host, p.record); err != nil {
		return err
	}
	if _, err := client.Wait(ctx, s.RequestID, pinPoll, nil); err != nil {
		return fmt.Errorf("it has not fetched the policy yet: %w", err)
	}
	return nil
}

// standbyBytes is the room that a standby reserves: for the site as it is, for the roots that are kept beside it,
// which mostly share its blocks, and for growth.
func (p *publication) standbyBytes() int64 {
	return max(p.built.DAG.Bytes*int64(min(p.keep(), 4)+1), standbyFloor)
}

// fits is how much of that a host can reserve, and never less than the site.
func fits(need, least int64, h state.Host) int64 {
	if h.MaxPinBytes > 0 {
		need = min(need, h.MaxPinBytes)
	}
	return max(need, least)
}
