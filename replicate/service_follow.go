package replicate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/naming"
)

const (
	maxSmallBlock = 64 << 10         // bytes of a release or policy block
	resolveTime   = time.Minute      // how long looking up one name may take
	policyTime    = 10 * time.Second // how long a policy may keep back the root that it comes with
)

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
	// What an earlier run left, and what has had its time, goes whatever becomes of the name.
	err := s.settle(ctx, &row, terms)
	var to target
	if err == nil {
		to, err = s.lookUp(ctx, terms.Follow)
	}
	if err == nil && to.sequence >= row.Sequence {
		err = s.comeTo(ctx, j, &row, terms, to)
	}
	return s.followed(ctx, row, terms, to, err)
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
	return target{root: root, sequence: outer.Sequence(), release: inner.Release(), policy: naming.Governing(chain).Policy()}, nil
}

// comeTo takes up what is new in where the name points: first the policy, which
// says what may stay beside a new root, and the release when what is not wanted any more has gone. It saves the
// row whenever a crash must not forget something, and leaves the last save to the caller.
func (s *Service) comeTo(ctx context.Context, j *job, row *PinRow, terms PinTerms, to target) error {
	policy := s.takePolicy(ctx, row, to.policy)
	if err := s.advance(ctx, j, row, terms, to); err != nil {
		return err
	}
	if err := s.settle(ctx, row, terms); err != nil {
		return err
	}
	if err := s.noteHolds(ctx, row, terms); err != nil {
		return err
	}
	return errors.Join(policy, s.takeRelease(ctx, row, terms, to.release))
}

// advance makes the root that the name points at the current one, unless it is not this pin's turn to hold it.
func (s *Service) advance(ctx context.Context, j *job, row *PinRow, terms PinTerms, to target) error {
	switch {
	case waits(*row, terms):
		row.Sequence = to.sequence
	case sameBlock(to.root, row.Root) && !s.lost(ctx, row.Root):
		row.Sequence = to.sequence
	case sameBlock(to.root, row.Refused) && !s.roomAgain(ctx, *row):
		return nil // with the error that it got
	default:
		return s.switchTo(ctx, j, row, terms, to)
	}
	return nil
}

// takeRelease keeps the release that the records name; the earlier ones stay kept. They are small and many: what
// is over the pin's limit with the one that comes is not kept.
func (s *Service) takeRelease(ctx context.Context, row *PinRow, terms PinTerms, release cid.Cid) error {
	if !release.Defined() || release == row.Release {
		return nil
	}
	if err := s.holdSmall(ctx, *row, release); err != nil {
		return fmt.Errorf("release: %w", err)
	}
	if limit := s.limit(*row, terms); limit > 0 {
		u, err := s.cfg.Blocks.Usage(ctx, Owner(row.ID))
		if err == nil && u.Bytes > limit {
			err = fmt.Errorf("%w: with it the pin has %d bytes, more than %d", ErrQuota, u.Bytes, limit)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("release: %w", err), s.cfg.Blocks.Release(ctx, Owner(row.ID), asBytes(release)))
		}
	}
	row.Release = release
	return nil
}

// lost tells whether a root that the row has is not kept any more: the store was
// damaged, or is an older one than the row.
func (s *Service) lost(ctx context.Context, root cid.Cid) bool {
	held, err := keeps(ctx, s.cfg.Blocks, root)
	if err != nil {
		s.log.Error("block store", "err", err)
	}
	return err == nil && !held
}

// takePolicy makes the block that the record names the policy by which is kept
// from here on.
func (s *Service) takePolicy(ctx context.Context, row *PinRow, policy cid.Cid) error {
	if !policy.Defined() || policy == row.Policy {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, policyTime)
	defer cancel()
	if err := s.holdSmall(ctx, *row, policy); err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	if row.Policy.Defined() {
		row.Dropping = append(row.Dropping, asBytes(row.Policy))
	}
	row.Policy = policy
	row.Refused = cid.Undef // there may be room for it now
	return nil
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
	if err := s.cfg.Admission.Denied(terms.Follow, to.root); err != nil {
		return err
	}
	k := s.keeping(ctx, *row, terms)
	sess, err := s.session(ctx, row.ID)
	if err != nil {
		return err
	}
	cids, n, err := s.gather(ctx, j, sess, *row, to.root, k.limit)
	row.Sources = s.sourcesOf(*row)
	if err != nil {
		return err
	}
	now := s.cfg.Now()
	kept, err := s.fit(ctx, wanted(*row, to.root, k.roots(now, now)), row.Pin.CID, cids, k.limit)
	if err != nil {
		return err
	}
	if err := sess.Keep(ctx, Owner(row.ID), to.root, slices.Values(cids)); err != nil {
		return err
	}
	if err := s.bookRoot(ctx, row, terms, to.root); err != nil {
		return err
	}
	row.keepOnly(kept)
	row.Root, row.Sequence, row.Switched, row.Done = to.root, to.sequence, now, n
	row.Fetching, row.Refused, row.RefusedNeed = cid.Undef, cid.Undef, 0
	if err := s.save(ctx, *row, false); err != nil {
		return err
	}
	s.log.Info("switched", "id", row.ID, "name", terms.Follow, "root", to.root, "sequence", to.sequence)
	s.onPinned(ctx, *row)
	return nil
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

// followed writes how following went, and when the name is looked up next.
func (s *Service) followed(ctx context.Context, row PinRow, terms PinTerms, to target, err error) error {
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
			row.RefusedNeed = needOf(err)
		}
	}
	again = again && !errors.Is(err, ErrQuota) && !errors.Is(err, ErrBudget)
	if !again {
		if err := s.balance(ctx, &row, terms); err != nil {
			return err
		}
	}
	if end := s.keeping(ctx, row, terms).graceEnd(row, now); !end.IsZero() && end.Before(row.Due) {
		row.Due = end
	}
	if err := s.save(ctx, row, true); err != nil {
		return err
	}
	if !again { // else what has come stays shielded for the next try
		s.endSession(row.ID)
	}
	return nil
}
