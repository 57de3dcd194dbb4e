package replicate

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
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
)

const (
	leaseTime   = time.Minute      // how long a dead worker's row waits for another
	beatTime    = 2 * time.Second  // how often progress is written
	syncTime    = 10 * time.Second // how much of a fetch a kill may cost
	longestWait = time.Minute      // how often a loop looks without being told
	firstRetry  = time.Second
	longestTry  = 10 * time.Minute
	lastErrors  = 1000 // bytes of a last_error
	lastWrites  = 10 * time.Second
)

var (
	errRemoved = errors.New("the pin was removed")
	errStalled = errors.New("nothing came")
)

// job is one row in this process's hands.
type job struct {
	id     string
	follow naming.Name
	cancel context.CancelCauseFunc
	done   merkle.Count // guarded by Service.mu
	poked  bool         // likewise: FollowNow was called meanwhile
	leased bool         // likewise: the row was leased once more, for nobody
}

// Serve works on what is due until ctx ends, and returns nil then. It waits for
// the work in hand to stop, which is taken up by the next Serve.
func (s *Service) Serve(ctx context.Context) error {
	// What was in hand when this process last died need not wait for the lease to run out.
	if err := s.cfg.Pins.GiveBack(ctx, "", s.cfg.Identity); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer s.closeSessions()
	g, ctx := errgroup.WithContext(ctx)
	for _, w := range []Work{WorkNew, WorkStanding} {
		workers := s.cfg.Workers
		if w == WorkStanding {
			workers *= 4 // most of it is waiting for a name to resolve
		}
		g.Go(func() error { s.loop(ctx, w, workers); return nil })
	}
	return g.Wait()
}

// loop hands due rows of one kind to so many workers.
func (s *Service) loop(ctx context.Context, w Work, workers int) {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, workers)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		if w == WorkStanding {
			s.dueNames(ctx)
		}
		row, err := s.cfg.Pins.LeaseNext(ctx, w, s.lease())
		if err == nil {
			wg.Go(func() {
				defer s.rouse(w)
				defer func() { <-slots }()
				s.work(ctx, row)
			})
			continue
		}
		<-slots
		timer := time.NewTimer(s.pause(ctx, w, err))
		select {
		case <-ctx.Done():
		case <-s.wake[w]:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// pause is how long to wait after LeaseNext gave err.
func (s *Service) pause(ctx context.Context, w Work, err error) time.Duration {
	if !errors.Is(err, ErrNotFound) {
		if ctx.Err() == nil {
			s.log.Error("pin store", "err", err)
		}
		return time.Second
	}
	next, err := s.cfg.Pins.NextDue(ctx, w)
	if err != nil || next.IsZero() {
		return longestWait
	}
	return min(max(next.Sub(s.cfg.Now()), 10*time.Millisecond), longestWait)
}

// dueNames passes on what FollowNow was told.
func (s *Service) dueNames(ctx context.Context) {
	s.mu.Lock()
	names := s.poked
	s.poked = make(map[naming.Name]struct{})
	s.mu.Unlock()
	since := s.cfg.Now().Add(-time.Hour) // ahead of the names whose turn it is by the timer
	for n := range names {
		if err := s.cfg.Pins.DueName(ctx, n, since); err != nil && ctx.Err() == nil {
			s.log.Error("pin store", "err", err)
		}
	}
}

func (s *Service) lease() Lease {
	now := s.cfg.Now()
	return Lease{By: s.cfg.Identity, Now: now, Until: now.Add(leaseTime)}
}

// work does what is due for a leased row, and gives it back.
func (s *Service) work(ctx context.Context, row PinRow) {
	ctx, cancel := context.WithCancelCause(ctx)
	terms, _ := row.Pin.Terms() // was checked when it came
	j := &job{id: row.ID, follow: terms.Follow, cancel: cancel}
	s.mu.Lock()
	if busy := s.jobs[row.ID]; busy != nil {
		// Our own lease ran out, or the job has given the row back and is about
		// to end: it frees the lease that we got.
		busy.leased = true
		s.mu.Unlock()
		cancel(nil)
		return
	}
	s.jobs[row.ID] = j
	s.mu.Unlock()
	var beat sync.WaitGroup
	if !row.Removed {
		beat.Go(func() { s.heartbeat(ctx, j) })
	}

	var err error
	switch {
	case row.Removed:
		err = s.erase(ctx, row)
	case !row.Status.Ended():
		err = s.fetchNew(ctx, j, row, terms)
	case row.Status == Pinned && !terms.Follow.IsZero():
		err = s.follow(ctx, j, row, terms)
	}
	cause := context.Cause(ctx)
	cancel(nil)
	beat.Wait()
	s.mu.Lock()
	delete(s.jobs, row.ID)
	poked, leased := j.poked, j.leased
	s.mu.Unlock()

	if err != nil {
		s.unfinished(ctx, row, err, cause)
	}
	if leased {
		s.giveBack(ctx, row.ID)
	}
	if poked {
		s.FollowNow(j.follow)
	}
	s.rouse(WorkStanding) // a row that was removed or replaced, or a new name pin
}

// unfinished gives a row back whose state could not be written: we are being stopped, the pin was
// removed, or the store fails. In the last case the lease is left to run out.
func (s *Service) unfinished(ctx context.Context, row PinRow, err, cause error) {
	if cause == nil && !errors.Is(err, ErrLeased) {
		s.log.Error("pin", "id", row.ID, "err", err)
		return
	}
	s.giveBack(ctx, row.ID)
}

func (s *Service) giveBack(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWrites)
	defer cancel()
	if err := s.cfg.Pins.GiveBack(ctx, id, s.cfg.Identity); err != nil {
		s.log.Error("pin store", "err", err)
	}
}

// heartbeat writes progress, makes durable what has come, and keeps the lease;
// losing it ends the job.
func (s *Service) heartbeat(ctx context.Context, j *job) {
	t := time.NewTicker(beatTime)
	defer t.Stop()
	var written, synced merkle.Count
	renewedAt := s.cfg.Now()
	syncedAt := renewedAt
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		s.mu.Lock()
		done, sess := j.done, s.sessions[j.id]
		s.mu.Unlock()
		l := s.lease()
		if sess != nil && done != synced && l.Now.Sub(syncedAt) >= syncTime {
			// An error here comes again with Keep, where it counts.
			if err := sess.Sync(ctx); err == nil {
				synced, syncedAt = done, l.Now
			}
		}
		if done == written && l.Now.Sub(renewedAt) < leaseTime/4 {
			continue
		}
		err := s.cfg.Pins.RenewLease(ctx, j.id, l, done)
		switch {
		case err == nil:
			written, renewedAt = done, l.Now
		case errors.Is(err, ErrLeased) || l.Now.Sub(renewedAt) > leaseTime:
			j.cancel(err)
			return
		}
	}
}

// erase releases everything that a removed pin kept, and forgets the row.
func (s *Service) erase(ctx context.Context, row PinRow) error {
	s.endSession(row.ID)
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
	return s.cfg.Pins.ForgetPin(ctx, row.ID, s.cfg.Identity)
}

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
	n, err := s.hold(ctx, j, row, root, s.limit(terms))
	if err != nil {
		return s.failed(ctx, row, err)
	}
	row.Status, row.Done, row.Kept = Pinned, n, []cid.Cid{root}
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
func (s *Service) failed(ctx context.Context, row PinRow, why error) error {
	if ctx.Err() != nil {
		return why
	}
	now := s.cfg.Now()
	if row.Attempts == 0 {
		row.Failing = now
	}
	row.Attempts++
	row.LastError = errorText(why)
	row.Done = s.progress(row)
	if permanent(why) || now.Sub(row.Failing) >= s.cfg.GiveUpAfter {
		row.Status, row.Due = Failed, time.Time{}
	} else {
		row.Due = now.Add(backoff(row.Attempts))
	}
	s.log.Warn("pin failed", "id", row.ID, "cid", row.Pin.CID, "attempt", row.Attempts, "final", row.Status == Failed, "err", why)
	if err := s.save(ctx, row, true); err != nil {
		return err
	}
	if row.Status == Failed {
		s.endSession(row.ID) // the space comes back with the next collection
	}
	return nil
}

// permanent tells whether trying again can't help.
func permanent(err error) bool {
	for _, e := range []error{merkle.ErrLimit, merkle.ErrMalformed, merkle.ErrUnsupported, blockstore.ErrRefused, ErrQuota} {
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
	if cids == nil {
		if cids, err = s.fetch(ctx, j, sess, row, root, merkle.Limits{MaxBytes: limit}); err != nil {
			return nil, merkle.Count{}, err
		}
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
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
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

// progress is what the job in hand has done.
func (s *Service) progress(row PinRow) merkle.Count {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j := s.jobs[row.ID]; j != nil && j.done.Blocks > 0 {
		return j.done
	}
	return row.Done
}

// limit is how many unique bytes a pin may take; 0: any number.
func (s *Service) limit(t PinTerms) int64 {
	if t.MaxBytes > 0 && (s.cfg.MaxPinBytes <= 0 || t.MaxBytes < s.cfg.MaxPinBytes) {
		return t.MaxBytes
	}
	return s.cfg.MaxPinBytes
}

func (s *Service) save(ctx context.Context, row PinRow, giveBack bool) error {
	return s.cfg.Pins.SavePin(ctx, row, s.cfg.Identity, giveBack)
}

func (s *Service) onPinned(ctx context.Context, row PinRow) {
	if s.cfg.OnPinned != nil {
		s.cfg.OnPinned(ctx, row)
	}
}

// session is the pin's add session, which stays open between tries, so that
// what has come is not collected meanwhile.
func (s *Service) session(ctx context.Context, id string) (blockstore.Session, error) {
	s.mu.Lock()
	sess := s.sessions[id]
	s.mu.Unlock()
	if sess != nil {
		return sess, nil
	}
	sess, err := s.cfg.Blocks.Begin(ctx, Owner(id))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.sessions[id] = sess
	s.mu.Unlock()
	return sess, nil
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
