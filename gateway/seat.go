package gateway

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

// streamAfter is what a response may have sent, in bytes, and still count as
// being worked on: more is the client's pace, not ours.
const streamAfter = 256 << 10

// hall is where requests are: those that are worked on, and those that wait for
// others (peers, names, DNS). One in want of something that nobody has takes no
// place from those whose content is here.
type hall struct {
	work      *gate
	retrieval *gate
}

// workPatience is how long a request waits to be worked on for the first time.
const workPatience = time.Second

func newHall(work, retrievals int) *hall {
	return &hall{newGate(work, work), newGate(retrievals, 4*retrievals)}
}

// capacity is how many may be in the hall, queues included.
func (h *hall) capacity() int {
	return h.work.size + h.work.queue + h.retrieval.size + h.retrieval.queue
}

// seat is a request's place. A nil seat is that of a request which nobody
// limits: its methods do nothing. Safe for concurrent use.
type seat struct {
	hall   *hall
	client netip.Addr
	budget budget // of what is fetched for the request

	mu    sync.Mutex
	holds *gate // nil: none
	away  int   // calls that wait for others
	done  bool  // no place is needed any more
}

// sit takes a place among the requests that are worked on. errBusy, or the
// context's cause.
func (h *hall) sit(ctx context.Context, client netip.Addr) (*seat, error) {
	if !h.work.tryEnter() {
		ctx, cancel := context.WithTimeoutCause(ctx, workPatience, errBusy)
		defer cancel()
		if err := h.work.enter(ctx, client); err != nil {
			return nil, err
		}
	}
	return &seat{hall: h, client: client, holds: h.work}, nil
}

// leave gives up whatever place the seat has, for good.
func (s *seat) leave() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = true
	s.release()
}

// release needs the lock.
func (s *seat) release() {
	if s.holds != nil {
		s.holds.leave()
		s.holds = nil
	}
}

// stream gives up the place of a request that only sends what it has.
func (s *seat) stream() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = true
	if s.away == 0 {
		s.release()
	}
}

// wait moves the request to those that wait for others; back undoes it. Several
// calls of one request take one place. errBusy, or the context's cause: then
// there is nothing to undo.
func (s *seat) wait(ctx context.Context) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away == 0 {
		s.release()
		if err := s.hall.retrieval.enter(ctx, s.client); err != nil {
			return err
		}
		s.holds = s.hall.retrieval
	}
	s.away++
	return nil
}

// back returns to the requests that are worked on. It can't fail: a request that
// finds no place before its time is up ends by that.
func (s *seat) back(ctx context.Context) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away--; s.away > 0 {
		return
	}
	s.release()
	if !s.done && s.hall.work.enter(ctx, s.client) == nil {
		s.holds = s.hall.work
	}
}
