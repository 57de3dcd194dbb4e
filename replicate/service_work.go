package replicate

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
)

const (
	leaseTime   = time.Minute      // how long a dead worker's row waits for another
	beatTime    = 2 * time.Second  // how often progress is written
	syncTime    = 10 * time.Second // how much of a fetch a kill may cost
	longestWait = 10 * time.Minute // how often a loop looks without being told
	lastWrites  = 10 * time.Second
)

var errRemoved = errors.New("the pin was removed")

// job is one row in this process's hands.
type job struct {
	id     string
	follow naming.Name
	cancel context.CancelCauseFunc
	wants  bool         // its size was declared
	done   merkle.Count // guarded by Service.mu
	root   cid.Cid      // likewise: what is being fetched
	total  int64        // likewise: bytes under root as its block says; 0: not known yet, -1: can't be known
	rate   int64        // likewise: bytes a second
	gauged int64        // likewise: done.Bytes when rate was last brought up to date
	poked  bool         // likewise: FollowNow was called meanwhile
	leased bool         // likewise: the row was leased once more, for nobody
}

// Serve works on what is due until ctx ends, and returns nil then. It waits for
// the work in hand to stop, which is taken up by the next Serve.
func (s *Service) Serve(ctx context.Context) error {
	defer s.closeSessions()
	err := s.Reclaim(ctx)
	if err == nil {
		err = s.bookOld(ctx)
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { s.watchDenylist(ctx); return nil })
	for _, w := range []Work{WorkNew, WorkStanding} {
		workers := s.cfg.Workers
		if w == WorkStanding {
			workers *= 4 // most of it is waiting for a name to resolve
		}
		g.Go(func() error { s.loop(ctx, w, workers); return nil })
	}
	return g.Wait()
}

// Reclaim frees the rows that a Serve had in hand when it was cut off: they need not wait for its lease to run out.
// No other service of this identity may be at work.
func (s *Service) Reclaim(ctx context.Context) error {
	return s.cfg.Pins.GiveBack(ctx, "", s.cfg.Identity)
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
	j := &job{id: row.ID, follow: terms.Follow, cancel: cancel, wants: terms.MaxBytes > 0}
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
		s.gauge(ctx, j, done)
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
	switch terms, err := row.Pin.Terms(); {
	case row.Tenant == LocalTenant.ID: // the operator wants the room back
		s.takenBack(keeping{keep: 1})
	case err == nil && !terms.Follow.IsZero():
		s.takenBack(s.keeping(ctx, row, terms))
	}
	return s.cfg.Pins.ForgetPin(ctx, row.ID, s.cfg.Identity)
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

func (s *Service) save(ctx context.Context, row PinRow, giveBack bool) error {
	return s.cfg.Pins.SavePin(ctx, row, s.cfg.Identity, giveBack)
}

func (s *Service) onPinned(ctx context.Context, row PinRow) {
	if s.cfg.OnPinned != nil {
		s.cfg.OnPinned(ctx, row)
	}
}
