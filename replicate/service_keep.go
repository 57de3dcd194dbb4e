package replicate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
)

// keeping is how much of a name stays at a host.
type keeping struct {
	keep  int           // roots; the pin's own CID stays in any case
	grace time.Duration // for which the root before the current one stays, too
	limit int64         // unique bytes; 0: any number
}

// keeping is what the site's policy says, where it is here and in force, within
// the limits of the pin; else what the pin's meta says.
func (s *Service) keeping(ctx context.Context, row PinRow, terms PinTerms) keeping {
	k := keeping{keep: terms.Keep, limit: s.limit(row, terms)}
	if !row.Policy.Defined() {
		return k
	}
	p, err := ReadPolicy(ctx, s.cfg.Blocks, row.Policy)
	switch {
	case errors.Is(err, merkle.ErrMalformed) || errors.Is(err, merkle.ErrUnsupported):
		s.log.Debug("the policy does not count", "id", row.ID, "err", err)
		return k
	case err != nil: // that it can't be read just now must not cost a root
		s.log.Warn("the policy can't be read", "id", row.ID, "err", err)
		k.keep = MaxKeep
		return k
	case !s.cfg.Now().Before(p.Expires):
		return k
	}
	k.keep, k.grace = p.Keep, p.Grace
	if row.Tenant == LocalTenant.ID { // a gift, as large as its giver said
		k.keep = min(k.keep, terms.Keep)
	}
	if p.MaxBytes > 0 && (k.limit <= 0 || p.MaxBytes < k.limit) {
		k.limit = p.MaxBytes
	}
	return k
}

// roots is how many are kept of a name that was switched at that time.
func (k keeping) roots(switched, now time.Time) int {
	if k.grace > 0 && now.Before(switched.Add(k.grace)) {
		return max(k.keep, 2)
	}
	return k.keep
}

// graceEnd is when a root has to go that is there only for pages that are open
// in browsers; zero where there is none.
func (k keeping) graceEnd(row PinRow, now time.Time) time.Time {
	n := k.roots(row.Switched, now)
	if n == k.keep || len(wanted(row, row.Root, n)) == len(wanted(row, row.Root, k.keep)) {
		return time.Time{}
	}
	return row.Switched.Add(k.grace)
}

// wanted is which roots stay where root is the current one, newest first: n with
// root itself, and the pin's own CID, whatever n is.
func wanted(row PinRow, root cid.Cid, n int) []cid.Cid {
	kept, own := []cid.Cid{root}, sameBlock(row.Pin.CID, root)
	for _, c := range row.Kept {
		switch {
		case sameBlock(c, root):
		case sameBlock(c, row.Pin.CID):
			kept, own = append(kept, c), true
		case len(kept) < n:
			kept = append(kept, c)
		}
	}
	if !own {
		kept = append(kept, row.Pin.CID)
	}
	return kept
}

// keepOnly makes kept the roots that are kept, and notes which have to go.
func (r *PinRow) keepOnly(kept []cid.Cid) {
	for _, c := range r.Kept {
		if !slices.Contains(kept, c) {
			r.Dropping = append(r.Dropping, c)
		}
	}
	r.Kept = kept
}

// settle releases what an earlier run left, and the roots for which there is no
// reason any more: the policy keeps fewer now, or their grace is over.
func (s *Service) settle(ctx context.Context, row *PinRow, terms PinTerms) error {
	k := s.keeping(ctx, *row, terms)
	if row.Root.Defined() || row.Fetching.Defined() && waits(*row, terms) {
		before := len(row.Dropping)
		if waits(*row, terms) {
			row.standBack()
		} else {
			row.keepOnly(wanted(*row, row.Root, k.roots(row.Switched, s.cfg.Now())))
		}
		if len(row.Dropping) > before {
			if err := s.save(ctx, *row, false); err != nil {
				return err
			}
		}
	}
	for _, c := range row.Dropping {
		if err := s.cfg.Blocks.Release(ctx, Owner(row.ID), c); err != nil {
			return err
		}
	}
	if len(row.Dropping) > 0 {
		s.takenBack(k)
	}
	row.Dropping = nil
	return nil
}

// takenBack passes on that roots were released of a site that keeps nothing but its newest release.
func (s *Service) takenBack(k keeping) {
	if k.keep == 1 && k.grace == 0 && s.cfg.OnTakenBack != nil {
		s.cfg.OnTakenBack()
	}
}

// fit leaves out of the wanted roots, of which the first is the current one, what
// has no room within limit, from the oldest on. own, the pin's CID, stays in any
// case; cids is what is under the current root. ErrQuota where these two alone are more than limit.
func (s *Service) fit(ctx context.Context, wanted []cid.Cid, own cid.Cid, cids []cid.Cid, limit int64) ([]cid.Cid, error) {
	if limit <= 0 {
		return wanted, nil
	}
	root := wanted[0]
	seen := make(map[string]struct{}, len(cids))
	total, err := s.measure(ctx, seen, cids)
	if err != nil {
		return nil, err
	}
	add := func(c cid.Cid) error {
		more, err := s.keptCIDs(ctx, c)
		if err != nil {
			return err
		}
		n, err := s.measure(ctx, seen, more)
		total.Bytes += n.Bytes
		return err
	}
	if !sameBlock(own, root) {
		if err := add(own); err != nil {
			return nil, err
		}
	}
	if total.Bytes > limit {
		return nil, fmt.Errorf("%s: %w: with the pin's own CID it is %d bytes, more than %d", root, ErrQuota, total.Bytes, limit)
	}
	kept, full := []cid.Cid{root}, false
	for _, c := range wanted[1:] {
		if !sameBlock(c, own) && !full {
			if err := add(c); err != nil {
				return nil, err
			}
			full = total.Bytes > limit
		}
		if sameBlock(c, own) || !full {
			kept = append(kept, c)
		}
	}
	return kept, nil
}

// keptCIDs is everything kept under a root. Empty where nobody keeps it.
func (s *Service) keptCIDs(ctx context.Context, root cid.Cid) ([]cid.Cid, error) {
	var cids []cid.Cid
	for c, err := range s.cfg.Blocks.KeptCIDs(ctx, root) {
		if errors.Is(err, blockstore.ErrNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		cids = append(cids, c)
	}
	return cids, nil
}

// measure counts the blocks that are not in seen yet, and adds them to it.
func (s *Service) measure(ctx context.Context, seen map[string]struct{}, cids []cid.Cid) (merkle.Count, error) {
	var n merkle.Count
	for batch := range slices.Chunk(cids, statBatch) {
		infos, err := s.cfg.Blocks.Stat(ctx, batch)
		if err != nil {
			return n, err
		}
		for _, i := range infos {
			key := string(i.CID.Hash())
			if _, ok := seen[key]; ok {
				continue
			}
			seen[key] = struct{}{}
			n.Blocks++
			n.Bytes += i.Size
		}
	}
	return n, nil
}
