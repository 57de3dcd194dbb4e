package replicate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
)

const (
	firstRetry = time.Second
	longestTry = 10 * time.Minute
	lastErrors = 1000 // bytes of a last_error
	// budgetJitter parts those who go on when a new day's budget begins.
	budgetJitter = time.Minute
)

var errStalled = errors.New("nothing came")

// fetchNew makes a pin's CID present and keeps it. The error is one that kept
// the row from being written.
func (s *Service) fetchNew(ctx context.Context, j *job, row PinRow, terms PinTerms) error {
	if row.Status == Queued {
		row.Status = Pinning
		if err := s.save(ctx, row, false); err != nil {
			return err
		}
	}
	root := row.Pin.CID
	err := s.cfg.Admission.Denied(terms.Site, root) // the list may have changed since the pin came
	var n merkle.Count
	if err == nil {
		n, err = s.hold(ctx, j, row, root, s.limit(row, terms))
	}
	if err == nil {
		err = s.inherit(ctx, &row, terms)
	}
	if err == nil {
		err = s.book(ctx, &row, terms, true)
	}
	row.Sources = s.sourcesOf(row)
	if err != nil {
		return s.failed(ctx, row, terms, err)
	}
	row.Status, row.Done = Pinned, n
	if !slices.ContainsFunc(row.Kept, func(c cid.Cid) bool { return sameBlock(c, root) }) {
		row.Kept = append(row.Kept, root)
	}
	row.Attempts, row.Failing, row.LastError, row.Due = 0, time.Time{}, "", time.Time{}
	if !terms.Follow.IsZero() && s.cfg.Names != nil {
		row.Due = s.cfg.Now()
	}
	if err := s.save(ctx, row, true); err != nil {
		return err
	}
	s.endSession(row.ID)
	s.log.Info("pinned", "id", row.ID, "cid", root, "bytes", n.Bytes)
	s.onPinned(ctx, row)
	return nil
}

// inherit keeps on what the name pin which this one takes the place of has of the same name: the releases, which
// are the site's history, and the root that it holds. It may be that they are nowhere else.
func (s *Service) inherit(ctx context.Context, row *PinRow, terms PinTerms) error {
	if row.Replaces == "" || terms.Follow.IsZero() {
		return nil
	}
	old, err := s.cfg.Pins.GetPin(ctx, row.Tenant, row.Replaces)
	if errors.Is(err, ErrNotFound) {
		return nil // deleted meanwhile
	}
	if err != nil {
		return err
	}
	if was, err := old.Pin.Terms(); err != nil || was.Follow != terms.Follow {
		return nil
	}
	if err := s.inheritReleases(ctx, *row, old); err != nil {
		return err
	}
	if !old.Root.Defined() || terms.Standby && old.Active.IsZero() {
		return nil
	}
	return s.inheritRoot(ctx, row, terms, old)
}

func (s *Service) inheritReleases(ctx context.Context, row, old PinRow) error {
	kept, err := s.cfg.Blocks.Kept(ctx, Owner(old.ID))
	if err != nil {
		return err
	}
	sess, err := s.session(ctx, row.ID)
	if err != nil {
		return err
	}
	others := append(slices.Concat(old.Kept, old.Dropping), old.Pin.CID, old.Fetching)
	if old.Policy.Defined() {
		others = append(others, asBytes(old.Policy))
	}
	for _, c := range kept {
		if c.Prefix().Codec != cid.Raw || slices.Contains(others, c) {
			continue
		}
		if err := sess.Keep(ctx, Owner(row.ID), c, slices.Values([]cid.Cid{c})); err != nil && !errors.Is(err, blockstore.ErrNotFound) {
			return err
		}
	}
	return nil
}

// inheritRoot begins with the root that the other pin holds, where there is room for it: until the name was looked up
// this pin knows of no other, and that one's goes as soon as this one is pinned.
func (s *Service) inheritRoot(ctx context.Context, row *PinRow, terms PinTerms, old PinRow) error {
	sess, err := s.session(ctx, row.ID)
	if err != nil {
		return err
	}
	cids, err := s.present(ctx, sess, old.Root)
	if err != nil || cids == nil {
		return err
	}
	if _, err := s.fit(ctx, []cid.Cid{old.Root}, row.Pin.CID, cids, s.limit(*row, terms)); errors.Is(err, ErrQuota) {
		return nil
	} else if err != nil {
		return err
	}
	if err := sess.Keep(ctx, Owner(row.ID), old.Root, slices.Values(cids)); err != nil {
		return err
	}
	row.Root, row.Sequence, row.Switched, row.Kept = old.Root, old.Sequence, old.Switched, []cid.Cid{old.Root}
	return nil
}

// hold makes everything under root present and keeps it under the pin's owner. The job may be nil.
func (s *Service) hold(ctx context.Context, j *job, row PinRow, root cid.Cid, limit int64) (merkle.Count, error) {
	sess, err := s.session(ctx, row.ID)
	if err != nil {
		return merkle.Count{}, err
	}
	cids, n, err := s.gather(ctx, j, sess, row, root, limit)
	if err != nil {
		return n, err
	}
	return n, sess.Keep(ctx, Owner(row.ID), root, slices.Values(cids))
}

// failed notes why a new pin is not there yet, and when it is tried again.
func (s *Service) failed(ctx context.Context, row PinRow, terms PinTerms, why error) error {
	if ctx.Err() != nil {
		return why
	}
	now := s.cfg.Now()
	row.LastError = errorText(why)
	row.Done = s.progress(row)
	if spent := new(BudgetError); errors.As(why, &spent) { // nobody's failure: it waits for tomorrow
		row.Status, row.Due = Queued, spent.Until.Add(rand.N(budgetJitter))
		return s.save(ctx, row, true)
	}
	if row.Attempts == 0 {
		row.Failing = now
	}
	row.Attempts++
	if permanent(why) || now.Sub(row.Failing) >= s.cfg.GiveUpAfter {
		row.Status, row.Due, row.Root, row.Kept = Failed, time.Time{}, cid.Undef, nil
		if err := s.dropAll(ctx, &row, terms); err != nil {
			return err
		}
	} else {
		row.Due = now.Add(backoff(row.Attempts))
	}
	s.log.Warn("pin failed", "id", row.ID, "cid", row.Pin.CID, "attempt", row.Attempts, "final", row.Status == Failed, "err", why)
	if err := s.save(ctx, row, true); err != nil {
		return err
	}
	if row.Status == Failed || errors.Is(why, ErrQuota) {
		s.endSession(row.ID) // the space comes back with the next collection
	}
	return nil
}

// dropAll releases whatever a pin keeps, and what was reserved for it.
func (s *Service) dropAll(ctx context.Context, row *PinRow, terms PinTerms) error {
	owner := Owner(row.ID)
	roots, err := s.cfg.Blocks.Kept(ctx, owner)
	if err != nil {
		return err
	}
	for _, c := range roots {
		if err := s.cfg.Blocks.Release(ctx, owner, c); err != nil {
			return err
		}
	}
	return s.book(ctx, row, terms, false)
}

// permanent tells whether trying again can't help.
func permanent(err error) bool {
	if full := new(QuotaError); errors.As(err, &full) {
		return !full.Waits
	}
	for _, e := range []error{merkle.ErrLimit, merkle.ErrMalformed, merkle.ErrUnsupported, blockstore.ErrRefused, ErrQuota, ErrForbidden} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func backoff(attempts int) time.Duration {
	d := longestTry
	if attempts < 11 {
		d = min(firstRetry<<(attempts-1), longestTry)
	}
	return jittered(d)
}

func errorText(err error) string {
	t := strings.ToValidUTF8(err.Error(), "\uFFFD")
	if len(t) > lastErrors {
		t = strings.ToValidUTF8(t[:lastErrors], "") + "…"
	}
	return t
}

// gather makes everything under root present and shielded, and counts it: at
// once where somebody here keeps it already, else through the fetcher. The job
// is for progress, and may be nil.
func (s *Service) gather(ctx context.Context, j *job, sess blockstore.Session, row PinRow, root cid.Cid, limit int64) ([]cid.Cid, merkle.Count, error) {
	cids, err := s.present(ctx, sess, root)
	if err != nil {
		return nil, merkle.Count{}, err
	}
	if m := s.cfg.Admission.MaxSiteBytes(); m > 0 && (limit <= 0 || m < limit) {
		limit = m
	}
	if cids == nil {
		if err := s.cfg.Traffic.Ingress(); err != nil && limit != maxSmallBlock {
			return nil, merkle.Count{}, err
		}
		if cids, err = s.fetch(ctx, j, sess, row, root, merkle.Limits{MaxBytes: limit}); err != nil {
			return nil, merkle.Count{}, err
		}
	}
	if err := s.cfg.Admission.Denied(naming.Name{}, cids...); err != nil {
		return nil, merkle.Count{}, err
	}
	n, err := s.measure(ctx, make(map[string]struct{}, len(cids)), cids)
	if err == nil && limit > 0 && n.Bytes > limit {
		err = fmt.Errorf("%s: %w: %d bytes are more than %d", root, merkle.ErrLimit, n.Bytes, limit)
	}
	return cids, n, err
}

const statBatch = 4096 // CIDs of one question to the block store

// present shields what is kept under root by anybody. nil where nobody keeps
// it, or where it went meanwhile.
func (s *Service) present(ctx context.Context, sess blockstore.Session, root cid.Cid) ([]cid.Cid, error) {
	cids, err := s.keptCIDs(ctx, root)
	if err != nil {
		return nil, err
	}
	for batch := range slices.Chunk(cids, statBatch) {
		infos, err := sess.Shield(ctx, batch)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(infos, func(i blockstore.Info) bool { return !i.Present }) {
			return nil, nil
		}
	}
	return cids, nil
}

// fetch is the fetcher with the pin's sources, progress, and an end to waiting
// for somebody who sends nothing.
func (s *Service) fetch(ctx context.Context, j *job, sess blockstore.Session, row PinRow, root cid.Cid, limits merkle.Limits) ([]cid.Cid, error) {
	var from []peer.AddrInfo
	if s.cfg.TenantAddrs != nil && len(row.Pin.Origins) > 0 {
		var err error
		if from, err = s.cfg.TenantAddrs(row.Pin.Origins); err != nil {
			s.log.Warn("origins are not used", "id", row.ID, "err", err)
		}
	}
	from = append(from, s.rosterSources(ctx, row)...)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if j != nil {
		s.mu.Lock()
		j.root, j.total = root, 0
		s.mu.Unlock()
	}
	stall := time.AfterFunc(s.cfg.StallAfter, func() { cancel(errStalled) })
	defer stall.Stop()
	var last merkle.Count
	cids, err := s.cfg.Fetcher.Fetch(ctx, sess, []cid.Cid{root}, from, limits, func(n merkle.Count) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if n == last {
			return
		}
		last = n
		if j != nil {
			j.done = n
		}
		stall.Reset(s.cfg.StallAfter)
	})
	if err != nil && errors.Is(context.Cause(ctx), errStalled) {
		return nil, fmt.Errorf("%s: %w: %w for %v", root, blockstore.ErrUnavailable, errStalled, s.cfg.StallAfter)
	}
	return cids, err
}

// limit is how many unique bytes a pin may take, by what it asks for, its tenant's token and this host; 0: any number.
func (s *Service) limit(row PinRow, t PinTerms) int64 {
	limit := s.cfg.MaxPinBytes
	for _, l := range []int64{t.MaxBytes, row.MaxBytes} {
		if l > 0 && (limit <= 0 || l < limit) {
			limit = l
		}
	}
	return limit
}

// session is the pin's add session, which stays open between tries, so that
// what has come is not collected meanwhile. It stores nothing for which there is no room.
func (s *Service) session(ctx context.Context, id string) (blockstore.Session, error) {
	s.mu.Lock()
	sess := s.sessions[id]
	s.mu.Unlock()
	if sess != nil {
		return sess, nil
	}
	plain, err := s.cfg.Blocks.Begin(ctx, Owner(id))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.jobs[id]
	sess = &metered{
		Session: plain, service: s, id: id, declared: j != nil && j.wants, sources: &sources{}, claiming: make(chan struct{}, 1),
	}
	s.sessions[id] = sess
	return sess, nil
}

// sourcesOf is who was asked by the fetch that was a moment ago; what the row says where nobody was.
func (s *Service) sourcesOf(row PinRow) string {
	s.mu.Lock()
	sess := s.sessions[row.ID]
	s.mu.Unlock()
	if sess != nil {
		if text := sess.sources.String(); text != "" {
			return text
		}
	}
	return row.Sources
}

func (s *Service) endSession(id string) {
	s.mu.Lock()
	sess := s.sessions[id]
	delete(s.sessions, id)
	s.mu.Unlock()
	if sess == nil {
		return
	}
	if err := sess.Close(); err != nil {
		s.log.Error("block store", "err", err)
	}
}

func (s *Service) closeSessions() {
	s.mu.Lock()
	ids := make([]string, 0, len(s.sessions))
	for id := range s.sessions {
		ids = append(ids, id)
	}
	s.mu.Unlock()
	for _, id := range ids {
		s.endSession(id)
	}
}
