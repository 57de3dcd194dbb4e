package p2p

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/ipfs/boxo/routing/http/filters"
	"github.com/ipfs/boxo/routing/http/types"
	"github.com/ipfs/boxo/routing/http/types/iter"
	"github.com/ipfs/go-cid"
	kbucket "github.com/libp2p/go-libp2p-kbucket"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/routing"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// findTimeout bounds a search on behalf of a caller of the routing API.
const findTimeout = 10 * time.Second

const (
	jsonType   = "application/json"
	ndjsonType = "application/x-ndjson"
)

func (h *routingHandler) getProviders(w http.ResponseWriter, r *http.Request) {
	c, err := cid.Decode(r.PathValue("cid"))
	if err == nil {
		err = blockstore.CheckCID(c)
	}
	if err != nil {
		http.Error(w, "not a CID: "+err.Error(), http.StatusBadRequest)
		return
	}
	h.answer(w, r, "Providers", func(ctx context.Context, found func(peer.AddrInfo)) error {
		return h.node.providers(ctx, c, found)
	})
}

func (h *routingHandler) getPeers(w http.ResponseWriter, r *http.Request) {
	id, err := peer.Decode(r.PathValue("id"))
	if err != nil {
		http.Error(w, "not a peer ID: "+err.Error(), http.StatusBadRequest)
		return
	}
	h.answer(w, r, "Peers", func(ctx context.Context, found func(peer.AddrInfo)) error {
		return h.node.findPeer(ctx, id, found)
	})
}

// answer runs a search, and writes what it finds: as JSON at its end, or as NDJSON as it comes.
func (h *routingHandler) answer(w http.ResponseWriter, r *http.Request, field string, search func(context.Context, func(peer.AddrInfo)) error) {
	stream := r.Header.Get("Accept") != "" && accepts(r, ndjsonType) && !accepts(r, jsonType)
	if !stream && !accepts(r, jsonType) {
		http.Error(w, "only "+jsonType+" and "+ndjsonType+" are served here", http.StatusNotAcceptable)
		return
	}
	if err := h.remotes.mayLookUp(remoteOf(r)); err != nil {
		h.refuse(w, err)
		return
	}
	select {
	case h.lookups <- struct{}{}:
		defer func() { <-h.lookups }()
	default:
		h.refuse(w, errBusy)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), findTimeout)
	defer cancel()
	enc, records := json.NewEncoder(w), []*types.PeerRecord{}
	err := search(ctx, func(ai peer.AddrInfo) {
		rec := h.record(r, ai)
		switch {
		case rec == nil:
		case stream:
			searched(w, ndjsonType)
			enc.Encode(rec)
			http.NewResponseController(w).Flush()
		default:
			records = append(records, rec)
		}
	})
	switch {
	case err != nil: // before anything was found
		h.node.log.Debug("routing: search", "err", err)
		http.Error(w, "the search failed", http.StatusInternalServerError)
	case stream:
		searched(w, ndjsonType)
	default:
		searched(w, jsonType)
		enc.Encode(map[string][]*types.PeerRecord{field: records})
	}
}

// searched sets the header of an answer, which may have gone out already.
func searched(w http.ResponseWriter, mediaType string) {
	w.Header().Set("Vary", "Accept")
	w.Header().Set("Cache-Control", "public, max-age=15")
	w.Header().Set("Content-Type", mediaType)
}

// record is the one of a peer, after the filters of IPIP-484 that the query asks for; nil where they leave nothing of it.
func (h *routingHandler) record(r *http.Request, ai peer.AddrInfo) *types.PeerRecord {
	rec := &types.PeerRecord{Schema: types.SchemaPeer, ID: &ai.ID, Protocols: []string{"transport-bitswap"}}
	for _, a := range ai.Addrs {
		// To the public, addresses of the inside are noise at best.
		public := h.node.cfg.Network == Public && !h.node.cfg.AllowPrivate
		if len(rec.Addrs) < MaxTenantAddrs && (!public || mayName(a, false)) {
			rec.Addrs = append(rec.Addrs, types.Multiaddr{Multiaddr: a})
		}
	}
	addrs, protocols := filters.ParseFilter(r.URL.Query().Get("filter-addrs")), filters.ParseFilter(r.URL.Query().Get("filter-protocols"))
	if len(addrs) == 0 && len(protocols) == 0 {
		return rec
	}
	one := iter.FromSlice([]iter.Result[*types.PeerRecord]{{Val: rec}})
	kept, err := iter.ReadAllResults(filters.ApplyFiltersToPeerRecordIter(one, addrs, protocols))
	if err != nil || len(kept) == 0 {
		return nil
	}
	return kept[0]
}

// providers finds this node, when it has the block, and whoever the network knows.
func (n *Node) providers(ctx context.Context, c cid.Cid, found func(peer.AddrInfo)) error {
	local, err := n.cfg.Store.Stat(ctx, []cid.Cid{c})
	if err != nil || n.host == nil {
		return err
	}
	if local[0].Present {
		found(peer.AddrInfo{ID: n.id, Addrs: n.host.Addrs()})
	}
	for ai := range n.find.FindProvidersAsync(ctx, c, maxProviders) {
		if ai.ID != n.id {
			found(ai)
		}
	}
	return nil
}

func (n *Node) findPeer(ctx context.Context, id peer.ID, found func(peer.AddrInfo)) error {
	if n.host == nil {
		return nil
	}
	if id == n.id {
		found(peer.AddrInfo{ID: n.id, Addrs: n.host.Addrs()})
		return nil
	}
	if addrs := n.host.Peerstore().Addrs(id); len(addrs) > 0 {
		found(peer.AddrInfo{ID: id, Addrs: addrs})
		return nil
	}
	ai, err := n.dht.FindPeer(ctx, id)
	if errors.Is(err, routing.ErrNotFound) || errors.Is(err, kbucket.ErrLookupFailure) {
		return nil
	}
	if err == nil {
		found(ai)
	}
	return err
}
