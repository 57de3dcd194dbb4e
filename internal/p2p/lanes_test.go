package p2p

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/boxo/retrieval"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// someLanes is peers that send blocks as the test says; asked counts.
type someLanes struct {
	*lanes
	root  cid.Cid
	leafs []blockstore.Block

	mu    sync.Mutex
	asked map[peer.ID]int
}

func newSomeLanes(t *testing.T, peers map[peer.ID]func(ctx context.Context, b blockstore.Block, came func(int)) (blockstore.Block, error)) *someLanes {
	d := makeDAG(t, 60, 1)
	s := &someLanes{root: d.root, asked: map[peer.ID]int{}}
	byCID := map[cid.Cid]blockstore.Block{}
	for _, b := range d.blocks {
		if b.Cid().Type() == cid.Raw {
			s.leafs, byCID[b.Cid()] = append(s.leafs, b), b
		}
	}
	s.lanes = newLanes(func(peer.ID) bool { return true }, func(ctx context.Context, id peer.ID, c cid.Cid, came func(int)) (blockstore.Block, error) {
		s.mu.Lock()
		s.asked[id]++
		s.mu.Unlock()
		return peers[id](ctx, byCID[c], came)
	})
	for id := range peers {
		s.believe(s.root, []peer.ID{id})
	}
	return s
}

func (s *someLanes) fetch(ctx context.Context, i int) bool {
	b, ok := s.get(ctx, s.root, s.leafs[i].Cid(), &answers{})
	return ok && b.Cid() == s.leafs[i].Cid()
}

func (s *someLanes) times(id peer.ID) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[id]
}

// after sends a block after a time.
func after(d time.Duration) func(context.Context, blockstore.Block, func(int)) (blockstore.Block, error) {
	return func(ctx context.Context, b blockstore.Block, came func(int)) (blockstore.Block, error) {
		select {
		case <-time.After(d):
			came(b.Size())
			return b, nil
		case <-ctx.Done():
			return blockstore.Block{}, ctx.Err()
		}
	}
}

func TestEachHolderSendsAsMuchAsItCan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSomeLanes(t, map[peer.ID]func(context.Context, blockstore.Block, func(int)) (blockstore.Block, error){
			"fast": after(100 * time.Millisecond), "fast too": after(100 * time.Millisecond), "slow": after(900 * time.Millisecond),
		})
		var readers sync.WaitGroup
		next := make(chan int)
		for range 6 {
			readers.Go(func() {
				for i := range next {
					if !s.fetch(t.Context(), i) {
						t.Errorf("leaf %d did not come", i)
					}
				}
			})
		}
		for i := range 50 {
			next <- i
		}
		close(next)
		readers.Wait()
		fast, too, slow := s.times("fast"), s.times("fast too"), s.times("slow")
		if slow == 0 || fast < 3*slow || too < 3*slow || fast+too+slow != 50 {
			t.Errorf("asked: %d, %d, %d", fast, too, slow)
		}
	})
}

func TestAHolderThatStallsCostsASecondAndOnce(t *testing.T) {
	never := func(ctx context.Context, _ blockstore.Block, _ func(int)) (blockstore.Block, error) {
		<-ctx.Done()
		return blockstore.Block{}, ctx.Err()
	}
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
	for name, c := range map[string]struct {
		bad   func(context.Context, blockstore.Block, func(int)) (blockstore.Block, error)
		costs time.Duration
	}{"silent": {never, laneQuiet}, "trickling": {trickles, lanePatience * laneQuiet}} {
		synctest.Test(t, func(t *testing.T) {
			s := newSomeLanes(t, map[peer.ID]func(context.Context, blockstore.Block, func(int)) (blockstore.Block, error){
				"bad": c.bad, "good": after(time.Millisecond),
			})
			began := time.Now()
			for i := range 20 {
				if !s.fetch(t.Context(), i) {
					t.Fatalf("%s: leaf %d did not come", name, i)
				}
			}
			if took := time.Since(began); s.times("bad") != 1 || took > c.costs+time.Second/2 {
				t.Errorf("%s: asked %d times, all took %v", name, s.times("bad"), took)
			}
			time.Sleep(laneRest)
			for i := range 20 {
				s.fetch(t.Context(), i)
			}
			if n := s.times("bad"); n > 2 {
				t.Errorf("%s: asked %d times after its rest", name, n)
			}
		})
	}
}

func TestAHolderThatLacksOrLiesIsNotAskedAgain(t *testing.T) {
	fails := func(err error) func(context.Context, blockstore.Block, func(int)) (blockstore.Block, error) {
		return func(context.Context, blockstore.Block, func(int)) (blockstore.Block, error) {
			return blockstore.Block{}, err
		}
	}
	for name, err := range map[string]error{"lacks": errors.New("answered 404"), "lies": fmt.Errorf("x: %w", blockstore.ErrCorrupt)} {
		synctest.Test(t, func(t *testing.T) {
			s := newSomeLanes(t, map[peer.ID]func(context.Context, blockstore.Block, func(int)) (blockstore.Block, error){
				"bad": fails(err), "good": after(time.Millisecond), "also good": after(time.Millisecond),
			})
			for i := range 30 {
				if !s.fetch(t.Context(), i) {
					t.Fatalf("leaf %d did not come", i)
				}
				s.believe(s.root, []peer.ID{"bad"}) // somebody's record says so again
			}
			if s.times("bad") != 1 {
				t.Errorf("%s: asked %d times", name, s.times("bad"))
			}
			s.watch(s.root, s.leafs[0].Cid())
			s.has("bad", s.leafs[0].Cid()) // it says itself that it has something
			for i := range 30 {
				s.fetch(t.Context(), i)
			}
			if n := s.times("bad"); n != map[string]int{"lacks": 2, "lies": 1}[name] {
				t.Errorf("%s: asked %d times after its word", name, n)
			}
		})
	}
}

func TestLeavesAreLeftToBitswapWhereThereIsNoChoice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := newSomeLanes(t, map[peer.ID]func(context.Context, blockstore.Block, func(int)) (blockstore.Block, error){"only": after(0)})
		if one.fetch(t.Context(), 0) || one.times("only") != 0 {
			t.Error("one holder was asked")
		}
		never := func(ctx context.Context, _ blockstore.Block, _ func(int)) (blockstore.Block, error) {
			<-ctx.Done()
			return blockstore.Block{}, ctx.Err()
		}
		s := newSomeLanes(t, map[peer.ID]func(context.Context, blockstore.Block, func(int)) (blockstore.Block, error){"a": never, "b": never})
		if s.fetch(t.Context(), 0) {
			t.Error("a block came from nobody")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if s.fetch(ctx, 0) {
			t.Error("a block came after the reader had left")
		}
	})
}

func TestWhatIsKnownOfHoldersIsBounded(t *testing.T) {
	d := makeDAG(t, maxLaneBlocks+500, 3)
	l := newLanes(func(peer.ID) bool { return true }, nil)
	for i, b := range d.blocks {
		for j := range 3 * maxLanePeers {
			if i < 10 || j < 3 {
				l.believe(b.Cid(), []peer.ID{peer.ID(fmt.Sprint(i, j))})
			}
		}
		l.ended(b.Cid(), l.take(b.Cid(), nil), nil)
		l.watch(d.root, b.Cid())
	}
	for _, words := range l.roots {
		if len(words) > maxLanePeers {
			t.Errorf("%d peers of one root", len(words))
		}
	}
	if len(l.roots) > maxLaneRoots || len(l.blocks) > maxLaneBlocks || len(l.peers) > maxLaneRoots+maxLanePeers {
		t.Errorf("%d roots, %d blocks, %d peers", len(l.roots), len(l.blocks), len(l.peers))
	}
}

// serveRaw serves single blocks as hosts do; change may turn them around.
func serveRaw(n *Node, change func(b []byte) []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := cid.Decode(strings.TrimPrefix(r.URL.Path, "/ipfs/"))
		if err != nil || r.URL.RawQuery != "format=raw" {
			http.Error(w, "?", http.StatusBadRequest)
			return
		}
		b, err := n.cfg.Store.Get(r.Context(), c)
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		data := b.RawData()
		if change != nil {
			data = change(append([]byte{}, data...))
		}
		_, _ = w.Write(data)
	})
}

func TestEachWrongBlockIsFetchedAgainFromSomebodyElse(t *testing.T) {
	for name, change := range map[string]func([]byte) []byte{
		"a byte is another": func(b []byte) []byte { b[0] ^= 1; return b },
		"cut short":         func(b []byte) []byte { return b[:len(b)/2] },
		"without end":       func(b []byte) []byte { return make([]byte, blockstore.MaxBlockSize+100) },
		"nothing":           func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			liar, holder, reader := open(t), open(t), open(t)
			d := makeDAG(t, 40, 6)
			put(t, liar, d.blocks...)
			put(t, holder, d.blocks...)
			liar.SetHTTP(serveRaw(liar, change))
			holder.SetHTTP(serveRaw(holder, nil))
			connect(t, reader, liar, holder)
			reader.Believe(d.root, []peer.AddrInfo{info(t, liar), info(t, holder)})
			ctx, state := retrieval.ContextWithState(deadline(t, time.Minute))
			state.SetRootCID(d.root)
			for _, b := range d.blocks {
				got, err := reader.Blocks().Get(ctx, b.Cid())
				if err != nil || string(got.RawData()) != string(b.RawData()) {
					t.Fatalf("%s: %v", b.Cid(), err)
				}
			}
			words, l := map[peer.ID]word{}, reader.blocks.lanes
			l.mu.Lock()
			for id, w := range l.roots[d.root] {
				words[id] = w
			}
			rest := l.lane(liar.id).rest
			l.mu.Unlock()
			if !rest.After(time.Now().Add(laneRest)) || words[holder.id].lacks {
				t.Errorf("the liar rests until %v; %v", rest, words)
			}
		})
	}
}
