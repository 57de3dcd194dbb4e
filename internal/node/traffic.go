package node

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/internal/p2p"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// openTraffic begins to count what comes and goes. It comes before the network is joined, which asks what it may send.
func (n *Node) openTraffic(ctx context.Context) (err error) {
	byBitswap := func() int64 {
		if n.p2p == nil {
			return 0
		}
		return n.p2p.Sent()
	}
	n.traffic, err = replicate.NewTrafficMeter(ctx, replicate.TrafficConfig{
		Store: n.state, Budgets: replicate.Traffic{Ingress: n.cfg.Pins.IngressPerDay, Egress: n.cfg.Pins.EgressPerDay},
		Sent: []func() int64{byBitswap}, Log: n.log,
	})
	n.friends = &friends{look: n.isFriend, now: time.Now, known: make(map[peer.ID]friend)}
	return err
}

// counted counts what a handler sends.
func counted(h http.Handler, m *replicate.TrafficMeter) http.Handler {
	if m == nil {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(&countingWriter{w, m}, r) })
}

type countingWriter struct {
	http.ResponseWriter
	meter *replicate.TrafficMeter
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.meter.AddEgress(int64(n))
	return n, err
}

// Unwrap is for http.ResponseController.
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// forPeers serves blocks to peers over libp2p: never what is denied, and while the day's budget is spent only to
// those with whom this node has to do.
func (n *Node) forPeers(blocks http.Handler) http.Handler {
	h := counted(blocks, n.traffic)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := p2p.RemotePeer(r)
		root, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/ipfs/"), "/")
		if c, err := cid.Decode(root); err == nil && len(root) < 1<<10 && n.admission.Denied(naming.Name{}, c) != nil {
			http.Error(w, "the operator of this host doesn't serve that", http.StatusUnavailableForLegalReasons)
			return
		}
		if n.refuses(id) {
			at := time.Now().UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)
			w.Header().Set("Retry-After", strconv.Itoa(int(time.Until(at)/time.Second)+1))
			http.Error(w, "this host has sent what it sends in a day; it goes on at "+at.Format(time.RFC3339), http.StatusTooManyRequests)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// servesBlock tells whether a peer gets a block by bitswap. It is asked for every want.
func (n *Node) servesBlock(id peer.ID, c cid.Cid) bool {
	return n.admission.Denied(naming.Name{}, c) == nil && !n.refuses(id)
}

// refuses tells whether a peer has to wait for tomorrow's budget.
func (n *Node) refuses(id peer.ID) bool {
	return n.traffic.Budgets().Egress > 0 && n.traffic.Egress() != nil && !n.friends.has(id)
}

// friends remembers who is no stranger, so that few wants cost a look into the records.
type friends struct {
	ready atomic.Bool // the node is whole, and can look; until then nobody is a stranger
	look  func(context.Context, peer.ID) bool
	now   func() time.Time

	mu    sync.Mutex
	known map[peer.ID]friend
}

type friend struct {
	is    bool
	until time.Time
}

const (
	friendTime = time.Minute // how long an answer holds
	friendLook = time.Second // how long finding it may take
	maxFriends = 10_000      // answers that are remembered
)

func (f *friends) has(id peer.ID) bool {
	if !f.ready.Load() {
		return true
	}
	now := f.now()
	f.mu.Lock()
	got, ok := f.known[id]
	f.mu.Unlock()
	if ok && now.Before(got.until) {
		return got.is
	}
	ctx, cancel := context.WithTimeout(context.Background(), friendLook)
	defer cancel()
	is := f.look(ctx, id)
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.known) >= maxFriends {
		clear(f.known)
	}
	f.known[id] = friend{is, now.Add(friendTime)}
	return is
}

// isFriend tells whether a peer is in a roster of a site that is kept here, the node of a tenant, one of our own
// hosts, or a peer of the config.
func (n *Node) isFriend(ctx context.Context, id peer.ID) bool {
	for _, ai := range n.named {
		if ai.ID == id {
			return true
		}
	}
	if _, err := n.state.Host(ctx, id); err == nil {
		return true
	}
	if rows, err := n.state.AuditorPins(ctx, id); err == nil && len(rows) > 0 {
		return true
	}
	names, err := n.state.FollowedNames(ctx)
	if err != nil {
		return false
	}
	for _, name := range names {
		for _, ai := range n.rosters(name) {
			if ai.ID == id {
				return true
			}
		}
	}
	return false
}
