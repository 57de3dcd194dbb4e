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
	h.answer(w, r, "Providers", func(ctx context.Context) ([]peer.AddrInfo, error) {
		return h.node.providers(ctx, c)
	})
}

func (h *routingHandler) getPeers(w http.ResponseWriter, r *http.Request) {
	id, err := peer.Decode(r.PathValue("id"))
	if err != nil {
		http.Error(w, "not a peer ID: "+err.Error(), http.StatusBadRequest)
		return
	}
	h.answer(w, r, "Peers", func(ctx context.Context) ([]peer.AddrInfo, error) {
		return h.node.findPeer(ctx, id)
	})
}

// answer runs a search, and writes what it found as JSON or NDJSON.
func (h *routingHandler) answer(w http.ResponseWriter, r *http.Request, field string, search func(context.Context) ([]peer.AddrInfo, error)) {
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
	infos, err := search(ctx)
	if err != nil {
		h.node.log.Debug("routing: search", "err", err)
		http.Error(w, "the search failed", http.StatusInternalServerError)
		return
	}
	records := h.filter(r, infos)
	w.Header().Set("Vary", "Accept")
	w.Header().Set("Cache-Control", "public, max-age=15")
	enc := json.NewEncoder(w)
	if !stream {
		w.Header().Set("Content-Type", jsonType)
		enc.Encode(map[string][]*types.PeerRecord{field: records})
		return
	}
	w.Header().Set("Content-Type", ndjsonType)
	for _, rec := range records {
		enc.Encode(rec)
	}
}

// filter makes records of the peers and applies the filters of IPIP-484 that the query asks for.
func (h *routingHandler) filter(r *http.Request, infos []peer.AddrInfo) []*types.PeerRecord {
	records := []*types.PeerRecord{}
	for _, ai := range infos {
		rec := &types.PeerRecord{Schema: types.SchemaPeer, ID: &ai.ID, Protocols: []string{"transport-bitswap"}}
		for _, a := range ai.Addrs {
			// To the public, addresses of the inside are noise at best.
			public := h.node.cfg.Network == Public && !h.node.cfg.AllowPrivate
			if len(rec.Addrs) < MaxTenantAddrs && (!public || mayName(a, false)) {
				rec.Addrs = append(rec.Addrs, types.Multiaddr{Multiaddr: a})
			}
		}
		records = append(records, rec)
	}
	addrs, protocols := filters.ParseFilter(r.URL.Query().Get("filter-addrs")), filters.ParseFilter(r.URL.Query().Get("filter-protocols"))
	if len(addrs) == 0 && len(protocols) == 0 {
		return records
	}
	results := make([]iter.Result[*types.PeerRecord], 0, len(records))
	for _, rec := range records {
		results = append(results, iter.Result[*types.PeerRecord]{Val: rec})
	}
	kept, err := iter.ReadAllResults(filters.ApplyFiltersToPeerRecordIter(iter.FromSlice(results), addrs, protocols))
	if err != nil || kept == nil {
		return []*types.PeerRecord{}
	}
	return kept
}

// providers is this node, when it has the block, and whoever the network knows.
func (n *Node) providers(ctx context.Context, c cid.Cid) ([]peer.AddrInfo, error) {
	var infos []peer.AddrInfo
	local, err := n.cfg.Store.Stat(ctx, []cid.Cid{c})
	if err != nil {
		return nil, err
	}
	if n.host == nil {
		return nil, nil
	}
	if local[0].Present {
		infos = append(infos, peer.AddrInfo{ID: n.id, Addrs: n.host.Addrs()})
	}
	for ai := range n.find.FindProvidersAsync(ctx, c, maxProviders) {
		if ai.ID != n.id {
			infos = append(infos, ai)
		}
	}
	return infos, nil
}

func (n *Node) findPeer(ctx context.Context, id peer.ID) ([]peer.AddrInfo, error) {
	if n.host == nil {
		return nil, nil
	}
	if id == n.id {
		return []peer.AddrInfo{{ID: n.id, Addrs: n.host.Addrs()}}, nil
	}
	if addrs := n.host.Peerstore().Addrs(id); len(addrs) > 0 {
		return []peer.AddrInfo{{ID: id, Addrs: addrs}}, nil
	}
	ai, err := n.dht.FindPeer(ctx, id)
	if errors.Is(err, routing.ErrNotFound) || errors.Is(err, kbucket.ErrLookupFailure) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return []peer.AddrInfo{ai}, nil
}
