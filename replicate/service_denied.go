package replicate

import (
	"context"
	"errors"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/naming"
)

const denylistEvery = time.Minute // how often the lists are looked at

// watchDenylist lets go of pins that come to be denied.
func (s *Service) watchDenylist(ctx context.Context) {
	if s.cfg.Admission == nil || s.cfg.Admission.cfg.Denied == nil {
		return
	}
	lists := s.cfg.Admission.cfg.Denied
	due := true // they may have changed while nobody looked
	seen := lists.Generation()
	t := time.NewTicker(denylistEvery)
	defer t.Stop()
	for {
		if _, err := lists.Reload(); err != nil {
			s.log.Error("what is denied is as it was", "err", err)
		}
		now := lists.Generation() // others may have had them read again
		due, seen = due || now != seen, now
		if due {
			done, err := s.dropDenied(ctx)
			if err != nil && ctx.Err() == nil {
				s.log.Error("denied pins", "err", err)
			}
			due = !done
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// dropDenied fails every pin that is denied. It tells whether it got hold of all of them.
func (s *Service) dropDenied(ctx context.Context) (all bool, err error) {
	all = true
	q := Query{Status: []Status{Queued, Pinning, Pinned}, Limit: MaxQueryLimit}
	seen := make(map[string]bool)
	for {
		rows, _, err := s.cfg.Pins.ListPins(ctx, "", q)
		if err != nil {
			return false, err
		}
		fresh := false
		for _, row := range rows {
			q.Before = row.Created.Add(time.Microsecond) // others may be of the same time
			if seen[row.ID] {
				continue
			}
			seen[row.ID], fresh = true, true
			if s.denied(ctx, row) == nil {
				continue
			}
			switch err := s.dropOne(ctx, row.ID); {
			case errors.Is(err, ErrLeased):
				all = false
			case err != nil && !errors.Is(err, ErrNotFound):
				return false, err
			}
		}
		if !fresh {
			return all, nil
		}
	}
}

// denied is ErrDenied where a row's site or anything that it keeps is, be it a part of something else.
func (s *Service) denied(ctx context.Context, row PinRow) error {
	terms, _ := row.Pin.Terms() // was checked when it came
	if err := s.cfg.Admission.Denied(terms.Site, append([]cid.Cid{row.Pin.CID, row.Root, row.Fetching}, row.Kept...)...); err != nil {
		return err
	}
	for _, root := range row.Kept {
		for c, err := range s.cfg.Blocks.KeptCIDs(ctx, root) {
			if err != nil {
				break // what is not kept is looked at when it is fetched
			}
			if err := s.cfg.Admission.Denied(naming.Name{}, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// dropOne fails a denied pin, and releases what it keeps.
func (s *Service) dropOne(ctx context.Context, id string) error {
	s.mu.Lock()
	if j := s.jobs[id]; j != nil {
		j.cancel(errRemoved) // and the next round gets hold of it
	}
	s.mu.Unlock()
	row, err := s.cfg.Pins.LeasePin(ctx, id, s.lease())
	if err != nil {
		return err
	}
	why := s.denied(ctx, row)
	if why == nil || row.Removed {
		s.giveBack(ctx, id)
		return nil
	}
	terms, _ := row.Pin.Terms()
	row.Status, row.LastError, row.Due = Failed, errorText(why), time.Time{}
	row.Root, row.Fetching, row.Kept, row.Dropping = cid.Undef, cid.Undef, nil, nil
	row.Release, row.Policy = cid.Undef, cid.Undef
	if err := s.dropAll(ctx, &row, terms); err != nil {
		s.giveBack(ctx, id)
		return err
	}
	if err := s.save(ctx, row, true); err != nil {
		return err
	}
	s.endSession(id)
	s.log.Warn("a pin was dropped", "id", id, "tenant", row.Tenant, "err", why)
	if s.cfg.OnTakenBack != nil {
		s.cfg.OnTakenBack() // the space, and with it the blocks, at once
	}
	return nil
}
