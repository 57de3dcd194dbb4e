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
	"github.com/holdfast-sites/holdfast/naming"
)

// maxSmallBlock is the largest release or policy block, in bytes.
const maxSmallBlock = 64 << 10

// resolveTime is how long looking up one name may take.
const resolveTime = time.Minute

// target is where a name points.
type target struct {
	root     cid.Cid
	sequence uint64  // of the outermost record
	release  cid.Cid // undefined where the records name none
	policy   cid.Cid
}

// follow brings a name pin to where its name points now: the new root is held
// whole before the row says so, and only then the roots beyond keep go. The
// error is one that kept the row from being written.
func (s *Service) follow(ctx context.Context, j *job, row PinRow, terms PinTerms) error {
	if s.cfg.Names == nil {
		row.Due = time.Time{}
		return s.save(ctx, row, true)
	}
	err := s.dropUnwanted(ctx, &row) // what an earlier run left
	var to target
	if err == nil {
		to, err = s.lookUp(ctx, terms.Follow)
	}
	if err == nil && to.sequence >= row.Sequence {
		err = s.advance(ctx, j, &row, terms, to)
		if err == nil {
			err = s.dropUnwanted(ctx, &row)
		}
	}
	return s.followed(ctx, row, to, err)
}

// lookUp resolves a name through its indirections.
func (s *Service) lookUp(ctx context.Context, n naming.Name) (target, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()
	chain, root, err := s.cfg.Names.Follow(ctx, n)
	if err != nil {
		return target{}, err
	}
	if len(chain) == 0 || !root.Defined() {
		return target{}, fmt.Errorf("%s: %w", n, naming.ErrNotFound)
	}
	outer, inner := chain[0].Record, chain[len(chain)-1].Record
	return target{root: root, sequence: outer.Sequence(), release: inner.Release(), policy: outer.Policy()}, nil
}

// advance takes up what is new in where the name points. It saves the row
// whenever a crash must not forget something, and leaves the last save to the caller.
func (s *Service) advance(ctx context.Context, j *job, row *PinRow, terms PinTerms, to target) error {
	switch {
	case terms.Standby: // holds the policy until its turn comes
		row.Sequence = to.sequence
	case sameBlock(to.root, row.Root):
		row.Sequence = to.sequence
	case sameBlock(to.root, row.Refused):
		return nil // with the error that it got
	default:
		if err := s.switchTo(ctx, j, row, terms, to); err != nil {
			return err
		}
	}
	var errs []error
	if to.release.Defined() && to.release != row.Release {
		if err := s.holdSmall(ctx, *row, to.release); err != nil {
			errs = append(errs, fmt.Errorf("release: %w", err))
		} else {
			row.Release = to.release // the earlier ones stay kept
		}
	}
	if to.policy.Defined() && to.policy != row.Policy {
		if err := s.holdSmall(ctx, *row, to.policy); err != nil {
			errs = append(errs, fmt.Errorf("policy: %w", err))
		} else {
			if row.Policy.Defined() {
				row.Dropping = append(row.Dropping, asBytes(row.Policy))
			}
			row.Policy = to.policy
		}
	}
	return errors.Join(errs...)
}

// switchTo makes the new root the current one.
func (s *Service) switchTo(ctx context.Context, j *job, row *PinRow, terms PinTerms, to target) error {
	if row.Fetching.Defined() && row.Fetching != to.root && !slices.Contains(row.Kept, row.Fetching) {
		row.Dropping = append(row.Dropping, row.Fetching)
	}
	row.Fetching = to.root
	if err := s.save(ctx, *row, false); err != nil {
		return err
	}
	limit := s.limit(terms)
	sess, err := s.session(ctx, row.ID)
	if err != nil {
		return err
	}
	cids, n, err := s.gather(ctx, j, sess, *row, to.root, limit)
	if err != nil {
		return err
	}
	kept, err := s.fit(ctx, *row, to.root, cids, terms.Keep, limit)
	if err != nil {
		return err
	}
	if err := sess.Keep(ctx, Owner(row.ID), to.root, slices.Values(cids)); err != nil {
		return err
	}
	for _, c := range row.Kept {
		if !slices.Contains(kept, c) {
			row.Dropping = append(row.Dropping, c)
		}
	}
	row.Root, row.Sequence, row.Kept, row.Done = to.root, to.sequence, kept, n
	row.Fetching, row.Refused = cid.Undef, cid.Undef
	if err := s.save(ctx, *row, false); err != nil {
		return err
	}
	s.log.Info("switched", "id", row.ID, "name", terms.Follow, "root", to.root, "sequence", to.sequence)
	s.onPinned(ctx, *row)
	return nil
}

// fit is the roots to keep once there is a new one, newest first: the pin's own
// CID, and of the others the newest, as many as keep and limit allow. ErrQuota
// where the new one and the pin's own CID alone are more than limit.
func (s *Service) fit(ctx context.Context, row PinRow, root cid.Cid, cids []cid.Cid, keep int, limit int64) ([]cid.Cid, error) {
	own := row.Pin.CID
	seen := make(map[string]struct{}, len(cids))
	total, err := s.measure(ctx, seen, cids)
	if err != nil {
		return nil, err
	}
	add := func(c cid.Cid) error {
		if limit <= 0 || sameBlock(c, root) {
			return nil
		}
		more, err := s.keptCIDs(ctx, c)
		if err != nil {
			return err
		}
		n, err := s.measure(ctx, seen, more)
		total.Bytes += n.Bytes
		return err
	}
	if err := add(own); err != nil {
		return nil, err
	}
	if limit > 0 && total.Bytes > limit {
		return nil, fmt.Errorf("%s: %w: with the pin's own CID it is %d bytes, more than %d", root, ErrQuota, total.Bytes, limit)
	}
	kept := []cid.Cid{root}
	full, ownListed := false, sameBlock(own, root)
	for _, c := range row.Kept {
		switch {
		case sameBlock(c, root):
		case sameBlock(c, own):
			kept = append(kept, c)
			ownListed = true
		case len(kept) < keep && !full:
			if err := add(c); err != nil {
				return nil, err
			}
			if full = limit > 0 && total.Bytes > limit; !full {
				kept = append(kept, c)
			}
		}
	}
	if !ownListed {
		kept = append(kept, own)
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

// asBytes names a block without its links. A release links to its predecessor:
// fetched or kept as what it is, it would pull all history; and kept under its
// own CID it would pass for a whole DAG.
func asBytes(c cid.Cid) cid.Cid { return cid.NewCidV1(cid.Raw, c.Hash()) }

// holdSmall fetches and keeps one block that a record names.
func (s *Service) holdSmall(ctx context.Context, row PinRow, c cid.Cid) error {
	if err := blockstore.CheckCID(c); err != nil {
		return err
	}
	_, err := s.hold(ctx, nil, row, asBytes(c), maxSmallBlock)
	return err
}

// dropUnwanted releases what the row says is no longer wanted.
func (s *Service) dropUnwanted(ctx context.Context, row *PinRow) error {
	for _, c := range row.Dropping {
		if err := s.cfg.Blocks.Release(ctx, Owner(row.ID), c); err != nil {
			return err
		}
	}
	row.Dropping = nil
	return nil
}

// followed writes how following went, and when the name is looked up next.
func (s *Service) followed(ctx context.Context, row PinRow, to target, err error) error {
	if err != nil && (ctx.Err() != nil || errors.Is(err, ErrLeased)) {
		return err
	}
	now := s.cfg.Now()
	row.Due = now.Add(jittered(s.cfg.FollowInterval))
	again := false
	switch {
	case err == nil:
		if !row.Refused.Defined() || !sameBlock(row.Refused, to.root) {
			row.LastError = ""
		}
		row.Attempts, row.Failing = 0, time.Time{}
	case errors.Is(err, naming.ErrNotFound) && row.Sequence == 0:
		// Not published yet: a name pin comes before the name's first record.
		row.Attempts, row.Failing = 0, time.Time{}
	default:
		s.log.Warn("following a name", "id", row.ID, "root", to.root, "err", err)
		row.LastError = errorText(err)
		if row.Attempts == 0 {
			row.Failing = now
		}
		row.Attempts++
		if again = !permanent(err); again {
			if soon := now.Add(backoff(row.Attempts)); soon.Before(row.Due) {
				row.Due = soon
			}
		} else if row.Fetching.Defined() {
			row.Refused, row.Fetching = row.Fetching, cid.Undef
		}
	}
	if err := s.save(ctx, row, true); err != nil {
		return err
	}
	if !again { // else what has come stays shielded for the next try
		s.endSession(row.ID)
	}
	return nil
}
