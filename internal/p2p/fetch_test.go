package p2p

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
)

func ipldLink(b blockstore.Block) *ipld.Link {
	return &ipld.Link{Cid: b.Cid(), Size: uint64(b.Size())}
}

func received(t testing.TB, n *Node) uint64 {
	t.Helper()
	s, err := n.swap.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return s.BlocksReceived
}

func fetchAll(t testing.TB, n *Node, d dag, from ...peer.AddrInfo) error {
	t.Helper()
	cids, err := n.Fetch(deadline(t, 30*time.Second), session(t, n), []cid.Cid{d.root}, from, merkle.Limits{}, nil)
	if err == nil && len(cids) != len(d.blocks) {
		t.Fatalf("%d CIDs of %d blocks", len(cids), len(d.blocks))
	}
	if err == nil && (cids[0] != d.root || has(t, n, d) != len(d.blocks)) {
		t.Fatalf("fetched %d of %d blocks, first %s", has(t, n, d), len(d.blocks), cids[0])
	}
	return err
}

func TestFetchStreamsACAR(t *testing.T) {
	author, host := open(t), open(t)
	d := makeDAG(t, 2000, 1)
	put(t, author, d.blocks...)
	author.SetHTTP(serveCARs(author, nil))

	var last merkle.Count
	cids, err := host.Fetch(deadline(t, time.Minute), session(t, host), []cid.Cid{d.root},
		[]peer.AddrInfo{info(t, author)}, merkle.Limits{}, func(c merkle.Count) {
			if c.Blocks <= last.Blocks || c.Bytes < last.Bytes {
				t.Errorf("progress went from %+v to %+v", last, c)
			}
			last = c
		})
	if err != nil {
		t.Fatal(err)
	}
	if len(cids) != 2000 || has(t, host, d) != 2000 {
		t.Errorf("%d CIDs, %d blocks", len(cids), has(t, host, d))
	}
	if last != d.count() {
		t.Errorf("progress ended at %+v of %+v", last, d.count())
	}
	if n := received(t, host); n != 0 {
		t.Errorf("%d blocks came by bitswap", n)
	}
}

func TestFetchUsesBitswapWhereNobodyServesHTTP(t *testing.T) {
	author, host := open(t), open(t)
	d := makeDAG(t, 2000, 2)
	put(t, author, d.blocks...)
	if err := fetchAll(t, host, d, info(t, author)); err != nil {
		t.Fatal(err)
	}
	if n := received(t, host); n < 2000 {
		t.Errorf("%d blocks came by bitswap", n)
	}
}

func TestFetchTakesPartsFromManySources(t *testing.T) {
	one, two, host := open(t), open(t), open(t)
	d := makeDAG(t, 600, 3)
	for i, b := range d.blocks {
		put(t, []*Node{one, two}[i%2], b)
	}
	one.SetHTTP(serveCARs(one, nil))
	if err := fetchAll(t, host, d, info(t, one), info(t, two)); err != nil {
		t.Fatal(err)
	}
}

func TestFetchContinuesWhereItWasCutOff(t *testing.T) {
	author, host := open(t), open(t)
	d := makeDAG(t, 2000, 4)
	put(t, author, d.blocks...)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := host.Fetch(ctx, session(t, host), []cid.Cid{d.root}, []peer.AddrInfo{info(t, author)}, merkle.Limits{},
		func(c merkle.Count) {
			if c.Blocks == 700 {
				cancel()
			}
		})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("a cancelled fetch ended with %v", err)
	}
	there := has(t, host, d)
	if there < 700 || there == len(d.blocks) {
		t.Fatalf("%d blocks are there after the cut", there)
	}
	// Blocks that were on their way at the cut still count for the first fetch.
	var before uint64
	eventually(t, "the first transfer ends", func() bool {
		last := before
		before = received(t, host)
		return before == last
	})
	if err := fetchAll(t, host, d, info(t, author)); err != nil {
		t.Fatal(err)
	}
	// Some that the first fetch had asked for may come only now.
	if n := int(received(t, host) - before); n > len(d.blocks)-there+fetchAhead {
		t.Errorf("%d blocks came, %d were missing", n, len(d.blocks)-there)
	}
}

func TestFetchOfAnUpdateTransfersOnlyWhatChanged(t *testing.T) {
	author, host := open(t), open(t)
	old := makeDAG(t, 1000, 5)
	put(t, author, old.blocks...)
	put(t, host, old.blocks...)
	// The same nodes and one more under another root.
	extra, err := blockstore.NewBlock(rawPrefix, []byte("new"))
	if err != nil {
		t.Fatal(err)
	}
	oldRoot, err := merkle.Links(old.blocks[len(old.blocks)-1])
	if err != nil {
		t.Fatal(err)
	}
	update := rootOver(t, append(oldRoot, extra.Cid()))
	put(t, author, extra, update)
	var sent int
	author.SetHTTP(countBytes(&sent, serveCARs(author, nil)))

	d := dag{root: update.Cid(), blocks: append(append([]blockstore.Block{}, old.blocks[:len(old.blocks)-1]...), extra, update)}
	if err := fetchAll(t, host, d, info(t, author)); err != nil {
		t.Fatal(err)
	}
	if n := received(t, host); n > 2 {
		t.Errorf("%d blocks came by bitswap, 2 are new", n)
	}
}

func TestFetchPullsOverTheAuthorsConnection(t *testing.T) {
	author := open(t)
	host := open(t, func(c *Config) { c.AllowPrivate = false })
	d := makeDAG(t, 300, 6)
	put(t, author, d.blocks...)
	author.SetHTTP(serveCARs(author, nil))
	from := []peer.AddrInfo{info(t, author)}

	if err := host.Connect(deadline(t, time.Minute), from); err == nil {
		t.Fatal("the host dialled a loopback address that somebody else named")
	}
	connect(t, author, host)
	if err := fetchAll(t, host, d, peer.AddrInfo{ID: author.ID()}); err != nil {
		t.Fatal(err)
	}
	if n := received(t, host); n != 0 {
		t.Errorf("%d blocks came by bitswap instead of the CAR", n)
	}
}

// Each of these sources is bad in its own way; the good one comes after it.
func TestFetchGoesOnToTheNextSource(t *testing.T) {
	stranger := makeDAG(t, 50, 99)
	for name, tc := range map[string]struct {
		handler func(bad *Node) http.Handler
		says    string
		stall   bool
	}{
		"wrong bytes": {func(bad *Node) http.Handler {
			return serveCARs(bad, func(car []byte) []byte { car[len(car)-1] ^= 1; return car })
		}, "block corrupt", false},
		"cut in the middle of a block": {func(bad *Node) http.Handler {
			return serveCARs(bad, func(car []byte) []byte { return car[:len(car)/2] })
		}, "malformed", false},
		"ends between two blocks": {func(bad *Node) http.Handler {
			return serveCARs(bad, func(car []byte) []byte { return car[:len(car)-1024-38] })
		}, errShort.Error(), false},
		"blocks that nobody asked for": {func(bad *Node) http.Handler {
			put(t, bad, stranger.blocks...)
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.URL.Path = "/ipfs/" + stranger.root.String()
				serveCARs(bad, nil).ServeHTTP(w, r)
			})
		}, errUnasked.Error(), false},
		"hangs": {func(*Node) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", carType)
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			})
		}, errStalled.Error(), true},
		"never answers": {func(*Node) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		}, errStalled.Error(), true},
		"HTML": {func(*Node) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("<html>welcome")) })
		}, "instead of a CAR", false},
		"compressed": {func(*Node) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", carType)
				w.Header().Set("Content-Encoding", "gzip")
				w.Write([]byte("bomb"))
			})
		}, "gzip", false},
		"redirects elsewhere": {func(*Node) http.Handler {
			return http.RedirectHandler("http://169.254.169.254/latest/meta-data", http.StatusFound)
		}, "302", false},
		"endless headers": {func(*Node) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X", strings.Repeat("x", 2*httpHeaderBytes))
			})
		}, "header", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log logBuffer
			bad, good := open(t), open(t)
			host := open(t, withLog(&log), func(c *Config) {
				if tc.stall {
					c.StallTimeout = 300 * time.Millisecond
				}
			})
			d := makeDAG(t, 300, 7)
			put(t, good, d.blocks...)
			put(t, bad, d.blocks...)
			bad.SetHTTP(tc.handler(bad))
			good.SetHTTP(serveCARs(good, nil))
			if err := fetchAll(t, host, d, info(t, bad), info(t, good)); err != nil {
				t.Fatal(err)
			}
			if text := log.String(); !strings.Contains(text, bad.ID().String()) || !strings.Contains(text, tc.says) {
				t.Errorf("the log does not say that %s failed with %q:\n%s", bad.ID(), tc.says, text)
			}
			if has(t, host, stranger) != 0 {
				t.Error("blocks that do not belong to the root were kept")
			}
		})
	}
}

func TestFetchNamesWhoWasAskedForAMissingBlock(t *testing.T) {
	t.Parallel()
	author, other := open(t), open(t)
	host := open(t, func(c *Config) { c.IdleTimeout = 3 * time.Second })
	d := makeDAG(t, 300, 8)
	gone := d.blocks[150]
	put(t, author, d.blocks[:150]...)
	put(t, author, d.blocks[151:]...)
	author.SetHTTP(serveCARs(author, nil))
	nobody := peer.AddrInfo{ID: open(t).ID(), Addrs: info(t, author).Addrs} // somebody else answers there

	_, err := host.Fetch(t.Context(), session(t, host), []cid.Cid{d.root},
		[]peer.AddrInfo{nobody, info(t, author), info(t, other)}, merkle.Limits{}, nil)
	if !errors.Is(err, blockstore.ErrUnavailable) || !errors.Is(err, errIdle) {
		t.Fatalf("got %v", err)
	}
	var be *blockstore.BlockError
	if !errors.As(err, &be) || be.CID != gone.Cid() {
		t.Errorf("the error does not name the missing block %s: %v", gone.Cid(), err)
	}
	var asked interface{ Asked() []string }
	if !errors.As(err, &asked) {
		t.Fatalf("the error does not say who was asked: %v", err)
	}
	lines := strings.Join(asked.Asked(), "\n")
	for _, id := range []peer.ID{author.ID(), other.ID(), nobody.ID} {
		if !strings.Contains(lines, id.String()) {
			t.Errorf("%s is not among those asked:\n%s", id, lines)
		}
	}
	if !strings.Contains(lines, nobody.ID.String()+": not reached") {
		t.Errorf("it is not said that %s was not reached:\n%s", nobody.ID, lines)
	}
	if n := has(t, host, d); n < 200 {
		t.Errorf("only %d of the blocks that could be had were left for the next attempt", n)
	}
}

func TestFetchEndsAtItsDeadline(t *testing.T) {
	author, host := open(t), open(t)
	d := makeDAG(t, 10, 9)
	put(t, author, d.blocks[:5]...)
	connect(t, host, author)
	_, err := host.Fetch(deadline(t, 500*time.Millisecond), session(t, host), []cid.Cid{d.root},
		[]peer.AddrInfo{info(t, author)}, merkle.Limits{}, nil)
	if !errors.Is(err, blockstore.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(err.Error(), author.ID().String()) {
		t.Errorf("%s is not named: %v", author.ID(), err)
	}
}

func TestFetchStopsAtItsLimits(t *testing.T) {
	author := open(t)
	d := makeDAG(t, 300, 10)
	all := d.count()
	put(t, author, d.blocks...)
	for name, handler := range map[string]http.Handler{"stream": serveCARs(author, nil), "bitswap": nil} {
		author.SetHTTP(handler)
		for limit, limits := range map[string]merkle.Limits{
			"bytes":  {MaxBytes: all.Bytes - 1},
			"blocks": {MaxBlocks: all.Blocks - 1},
		} {
			t.Run(name+" "+limit, func(t *testing.T) {
				host := open(t)
				_, err := host.Fetch(deadline(t, time.Minute), session(t, host), []cid.Cid{d.root},
					[]peer.AddrInfo{info(t, author)}, limits, nil)
				if !errors.Is(err, merkle.ErrLimit) {
					t.Errorf("got %v", err)
				}
			})
		}
		t.Run(name+" exactly", func(t *testing.T) {
			host := open(t)
			_, err := host.Fetch(deadline(t, time.Minute), session(t, host), []cid.Cid{d.root},
				[]peer.AddrInfo{info(t, author)}, merkle.Limits{MaxBytes: all.Bytes, MaxBlocks: all.Blocks}, nil)
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFetchFindsProvidersWhenNoSourceIsGiven(t *testing.T) {
	hub, author, host := open(t), open(t), open(t)
	d := makeDAG(t, 300, 11)
	put(t, author, d.blocks...)
	author.SetHTTP(serveCARs(author, nil))
	connect(t, author, hub)
	provide(t, author, d.root)
	connect(t, host, hub)
	joined(t, host)
	if err := fetchAll(t, host, d); err != nil {
		t.Fatal(err)
	}
	if n := received(t, host); n != 0 {
		t.Errorf("%d blocks came by bitswap instead of the provider's CAR", n)
	}
}

func TestFetchOfflineTakesWhatIsThere(t *testing.T) {
	n := open(t, func(c *Config) { c.Network = Offline })
	d := makeDAG(t, 50, 12)
	put(t, n, d.blocks...)
	if err := fetchAll(t, n, d); err != nil {
		t.Fatal(err)
	}
	missing := makeDAG(t, 50, 13)
	if err := fetchAll(t, n, missing); !errors.Is(err, blockstore.ErrUnavailable) || !errors.Is(err, ErrOffline) {
		t.Errorf("got %v", err)
	}
}
