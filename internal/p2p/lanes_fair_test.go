package p2p

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/boxo/retrieval"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/blockstore"
)

type sends = func(context.Context, blockstore.Block, func(int)) (blockstore.Block, error)

// failsAfter has nothing, and takes its time to say so.
func failsAfter(d time.Duration) sends {
	return func(context.Context, blockstore.Block, func(int)) (blockstore.Block, error) {
		time.Sleep(d)
		return blockstore.Block{}, errors.New("answered 404 Not Found")
	}
}

func TestAHolderThatIsAskedSecondHasAsMuchTimeAsTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSomeLanes(t, map[peer.ID]sends{"lacks": failsAfter(laneQuiet - time.Millisecond), "has": after(laneQuiet - time.Millisecond)})
		s.lane("has").asked = 1 // the other is next
		if !s.fetch(t.Context(), 0) {
			t.Error("the leaf was not waited for")
		}
		if rest := s.lane("has").rest; !rest.IsZero() {
			t.Error("the second holder is said to have stalled")
		}
	})
}

func TestAHolderThatWasSlowOnceIsTriedAgainLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var slow sync.Mutex
		pause := 900 * time.Millisecond
		s := newSomeLanes(t, map[peer.ID]sends{
			"steady": after(10 * time.Millisecond),
			"once slow": func(ctx context.Context, b blockstore.Block, came func(int)) (blockstore.Block, error) {
				slow.Lock()
				d := pause
				slow.Unlock()
				return after(d)(ctx, b, came)
			},
		})
		for i := range 20 {
			s.fetch(t.Context(), i)
		}
		slow.Lock()
		pause = time.Millisecond
		slow.Unlock()
		before := s.times("once slow")
		time.Sleep(laneForget)
		for i := range 20 {
			s.fetch(t.Context(), i)
		}
		if before == 0 || s.times("once slow") < before+10 {
			t.Errorf("asked %d times while slow, and %d since it is the faster one", before, s.times("once slow")-before)
		}
	})
}

func TestHoldersThatTrickleLeaveTimeForBitswap(t *testing.T) {
	trickles := func(ctx context.Context, _ blockstore.Block, came func(int)) (blockstore.Block, error) {
		for {
			select {
			case <-time.After(laneQuiet / 2):
				came(1)
			case <-ctx.Done():
				return blockstore.Block{}, ctx.Err()
			}
		}
	}
	synctest.Test(t, func(t *testing.T) {
		peers := map[peer.ID]sends{}
		for i := range 3 * laneTries {
			peers[peer.ID(fmt.Sprint(i))] = trickles
		}
		s := newSomeLanes(t, peers)
		began := time.Now()
		if s.fetch(t.Context(), 0) {
			t.Error("a block came from nobody")
		}
		if took := time.Since(began); took > laneWhole {
			t.Errorf("bitswap's turn came after %v", took)
		}
	})
}

func TestABlockThatManyReadersWantIsSentOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSomeLanes(t, map[peer.ID]sends{"a": after(100 * time.Millisecond), "b": after(100 * time.Millisecond)})
		var readers sync.WaitGroup
		for range 50 {
			readers.Go(func() {
				if !s.fetch(t.Context(), 0) {
					t.Error("the leaf did not come")
				}
			})
		}
		readers.Wait()
		if n := s.times("a") + s.times("b"); n != 1 {
			t.Errorf("asked %d times", n)
		}
		if len(s.flights) != 0 {
			t.Errorf("%d are still under way", len(s.flights))
		}
	})
}

func TestAReaderWhoLeavesTakesTheBlockFromNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSomeLanes(t, map[peer.ID]sends{"a": after(500 * time.Millisecond), "b": after(500 * time.Millisecond)})
		first, leave := context.WithCancel(t.Context())
		var readers sync.WaitGroup
		readers.Go(func() {
			if s.fetch(first, 0) {
				t.Error("a block came after the reader had left")
			}
		})
		synctest.Wait()
		for range 5 {
			readers.Go(func() {
				if !s.fetch(t.Context(), 0) {
					t.Error("the leaf did not come")
				}
			})
		}
		synctest.Wait()
		leave()
		readers.Wait()
		if n := s.times("a") + s.times("b"); n != 2 {
			t.Errorf("asked %d times", n)
		}
	})
}

func TestPeersThatAreNotHereTakeNobodysPlace(t *testing.T) {
	d := makeDAG(t, maxLaneRoots, 5)
	l := newLanes(func(id peer.ID) bool { return len(id) < 3 }, nil) // the others are in rosters only
	liar, root := peer.ID("x"), d.root
	l.believe(root, []peer.ID{liar, "y"})
	l.take(root, map[peer.ID]bool{"y": true})
	l.ended(root, liar, blockstore.ErrCorrupt)
	for i, b := range d.blocks {
		for j := range 3 {
			l.believe(b.Cid(), []peer.ID{peer.ID(fmt.Sprint("away", i, j))})
		}
		l.take(b.Cid(), nil)
	}
	if len(l.peers) != 1 || !l.lane(liar).rest.After(time.Now()) {
		t.Errorf("%d peers are remembered; the liar rests until %v", len(l.peers), l.lane(liar).rest)
	}
	for i := range 2 * maxLaneRoots { // and those that are here don't have it forgotten
		l.lane(peer.ID(fmt.Sprint(i)))
	}
	if !l.lane(liar).rest.After(time.Now()) {
		t.Error("who lied is asked again")
	}
}

// stuck says that it was asked, and nothing more.
func stuck(asked chan<- struct{}, release <-chan struct{}) http.Handler {
	return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
}

func TestAHolderThatNeverAnswersKeepsNoReaderWaiting(t *testing.T) {
	silent, holder, third, reader := open(t), open(t), open(t), open(t)
	d := makeDAG(t, 12, 8)
	put(t, holder, d.blocks...)
	put(t, third, d.blocks...)
	asked, release := make(chan struct{}, len(d.blocks)), make(chan struct{})
	t.Cleanup(func() { close(release) })
	silent.SetHTTP(stuck(asked, release))
	holder.SetHTTP(serveRaw(holder, nil))
	third.SetHTTP(serveRaw(third, nil))
	connect(t, reader, silent, holder, third)
	reader.Believe(d.root, []peer.AddrInfo{info(t, silent), info(t, holder), info(t, third)})
	ctx, state := retrieval.ContextWithState(deadline(t, 20*time.Second))
	state.SetRootCID(d.root)
	for _, b := range d.blocks {
		if got, err := reader.Blocks().Get(ctx, b.Cid()); err != nil || got.Cid() != b.Cid() {
			t.Fatalf("%s: %v", b.Cid(), err)
		}
	}
	if len(asked) != 1 {
		t.Errorf("who never answers was asked %d times", len(asked))
	}
}
