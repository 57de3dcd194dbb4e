package p2p

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/boxo/exchange"
	blockformat "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// fakeFetcher answers with the blocks it has and lets everybody else wait.
type fakeFetcher map[cid.Cid]blockstore.Block

func (f fakeFetcher) GetBlock(ctx context.Context, c cid.Cid) (blockformat.Block, error) {
	if b, ok := f[c]; ok {
		return b, nil
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func (f fakeFetcher) GetBlocks(context.Context, []cid.Cid) (<-chan blockformat.Block, error) {
	return nil, errors.ErrUnsupported
}

func TestASessionThatHasLostAWantIsReplaced(t *testing.T) {
	d := makeDAG(t, 5, 1)
	a, b := d.blocks[0], d.blocks[1]
	synctest.Test(t, func(t *testing.T) {
		var started []context.Context
		s := &sessions{quiet: 10 * time.Second, start: func(ctx context.Context) exchange.Fetcher {
			started = append(started, ctx)
			if len(started) == 1 {
				return fakeFetcher{a.Cid(): a}
			}
			return fakeFetcher{b.Cid(): b}
		}}
		begun := time.Now()
		for _, want := range []blockstore.Block{a, b} {
			if got, err := s.get(t.Context(), want.Cid()); err != nil || got.Cid() != want.Cid() {
				t.Fatalf("%v, %v", got, err)
			}
		}
		if took := time.Since(begun); took != s.quiet || len(started) != 2 {
			t.Errorf("after %v and %d sessions", took, len(started))
		}
		if started[0].Err() == nil || started[1].Err() != nil {
			t.Error("not the old session was ended but the new one")
		}
		s.close()
		if started[1].Err() == nil {
			t.Error("a closed session goes on")
		}
		if _, err := s.get(t.Context(), b.Cid()); !errors.Is(err, blockstore.ErrClosed) {
			t.Errorf("after close: %v", err)
		}
	})
}

func TestABusySessionIsReplacedOnlyForWhoHasNoPatience(t *testing.T) {
	d := makeDAG(t, 5, 1)
	lost, busy := d.blocks[0], d.blocks[1]
	for _, patience := range []time.Duration{0, 20 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			s := &sessions{quiet: 10 * time.Second, patience: patience}
			s.start = func(context.Context) exchange.Fetcher { return fakeFetcher{busy.Cid(): busy} }
			var sessions int
			first := s.start
			s.start = func(ctx context.Context) exchange.Fetcher { sessions++; return first(ctx) }
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var others sync.WaitGroup
			others.Go(func() {
				for ctx.Err() == nil {
					s.get(ctx, busy.Cid())
					time.Sleep(time.Second)
				}
			})
			if _, err := s.get(ctx, lost.Cid()); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			if replaced := sessions > 1; replaced != (patience > 0) {
				t.Errorf("with patience %v there were %d sessions", patience, sessions)
			}
			s.close()
			others.Wait()
		})
	}
}

func TestASessionGrowsOld(t *testing.T) {
	b := makeDAG(t, 5, 1).blocks[0]
	synctest.Test(t, func(t *testing.T) {
		sessions := 0
		s := sessionsOf(&sessions, b)
		for range 10 {
			if _, err := s.get(t.Context(), b.Cid()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(s.life / 4)
		}
		if sessions != 2 {
			t.Errorf("%d sessions in two and a half lives", sessions)
		}
		s.close()
	})
}

func sessionsOf(count *int, b blockstore.Block) *sessions {
	return &sessions{life: time.Minute, quiet: time.Hour, start: func(context.Context) exchange.Fetcher {
		*count++
		return fakeFetcher{b.Cid(): b}
	}}
}
