package p2p

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/retrieval"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"

	"github.com/holdfast-sites/holdfast/blockstore"
)

func rootOver(t testing.TB, links []cid.Cid) blockstore.Block {
	t.Helper()
	pb := merkledag.NodeWithData([]byte{8, 1})
	pb.SetCidBuilder(merkledag.V1CidPrefix())
	for _, c := range links {
		if err := pb.AddRawLink("", &ipld.Link{Cid: c}); err != nil {
			t.Fatal(err)
		}
	}
	b, err := blockstore.BlockOf(pb)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// countBytes counts what a handler sends.
func countBytes(n *int, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(countingWriter{w, n}, r) })
}

type countingWriter struct {
	http.ResponseWriter
	n *int
}

func (c countingWriter) Write(p []byte) (int, error) {
	*c.n += len(p)
	return c.ResponseWriter.Write(p)
}

func TestBlocksComeFromPeersAndAreNotKept(t *testing.T) {
	holder, reader := open(t), open(t)
	d := makeDAG(t, 20, 1)
	put(t, holder, d.blocks...)
	connect(t, reader, holder)
	for range 2 { // the second time from memory
		for _, b := range d.blocks {
			got, err := reader.Blocks().Get(deadline(t, time.Minute), b.Cid())
			if err != nil {
				t.Fatal(err)
			}
			if string(got.RawData()) != string(b.RawData()) || got.Cid() != b.Cid() {
				t.Errorf("%s came with other bytes", b.Cid())
			}
		}
	}
	if n := received(t, reader); n != 20 {
		t.Errorf("%d blocks were transferred", n)
	}
	if n := has(t, reader, d); n != 0 {
		t.Errorf("%d blocks were kept", n)
	}
}

func TestABlockThatNobodySendsNamesWhoWasAsked(t *testing.T) {
	holder, reader := open(t), open(t)
	connect(t, reader, holder)
	missing := makeDAG(t, 3, 2).root
	_, err := reader.Blocks().Get(deadline(t, 300*time.Millisecond), missing)
	if !errors.Is(err, blockstore.ErrUnavailable) {
		t.Fatalf("got %v", err)
	}
	var asked interface{ Asked() []string }
	if !errors.As(err, &asked) || !strings.Contains(strings.Join(asked.Asked(), "\n"), holder.ID().String()) {
		t.Errorf("the error does not name %s: %v", holder.ID(), err)
	}
}

func TestABlockHasItsOwnDeadline(t *testing.T) {
	reader := open(t, func(c *Config) { c.IdleTimeout = 100 * time.Millisecond })
	if _, err := reader.Blocks().Get(t.Context(), makeDAG(t, 3, 3).root); !errors.Is(err, blockstore.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

func TestACancelledGetIsCancelled(t *testing.T) {
	reader := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := reader.Blocks().Get(ctx, makeDAG(t, 3, 4).root); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestBlocksOfAnUnconnectedHolderAreFoundThroughTheRoot(t *testing.T) {
	hub, holder, reader := open(t), open(t), open(t)
	d := makeDAG(t, 20, 5)
	put(t, holder, d.blocks...)
	connect(t, holder, hub)
	provide(t, holder, d.root)
	connect(t, reader, hub)
	joined(t, reader)
	ctx, state := retrieval.ContextWithState(deadline(t, time.Minute))
	state.SetRootCID(d.root)
	if _, err := reader.Blocks().Get(ctx, d.blocks[0].Cid()); err != nil {
		t.Error(err)
	}
}

func TestOfflineBlocksAreTheStores(t *testing.T) {
	n := open(t, func(c *Config) { c.Network = Offline })
	d := makeDAG(t, 3, 6)
	put(t, n, d.blocks[0])
	if _, err := n.Blocks().Get(t.Context(), d.blocks[0].Cid()); err != nil {
		t.Error(err)
	}
	if _, err := n.Blocks().Get(t.Context(), d.root); !errors.Is(err, blockstore.ErrUnavailable) || !errors.Is(err, ErrOffline) {
		t.Errorf("got %v", err)
	}
}

func TestTheBlockCacheIsBounded(t *testing.T) {
	d := makeDAG(t, 100, 7)
	c := newBlockCache(10 << 10)
	for _, b := range d.blocks {
		c.add(b)
		c.add(b)
	}
	var sum int64
	for _, b := range d.blocks {
		if got, ok := c.get(b.Cid()); ok {
			sum += int64(got.Size())
		}
	}
	if sum != c.bytes || sum > 10<<10 || sum == 0 {
		t.Errorf("%d bytes are cached, %d counted", sum, c.bytes)
	}
	if _, ok := c.get(d.root); !ok {
		t.Error("the last block was forgotten first")
	}
}
