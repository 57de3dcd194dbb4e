package p2p

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/boxo/routing/http/client"
	"github.com/ipfs/boxo/routing/http/contentrouter"
	"github.com/ipfs/go-cid"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/routing"
)

// maxProviders bounds how many providers of one CID are looked at.
const maxProviders = 20

// maxRecent bounds the CIDs whose providers are remembered.
const maxRecent = 256

// finder finds providers in the DHT and, on the public network, with the
// delegated routers that were configured. It remembers whom it found lately,
// so that an error can name them.
type finder struct {
	sources []routing.ContentDiscovery // the DHT first

	mu     sync.Mutex
	recent map[cid.Cid][]peer.ID
	order  []cid.Cid // of recent, oldest first
}

func newFinder(cfg Config, d *dht.IpfsDHT) (*finder, error) {
	f := &finder{sources: []routing.ContentDiscovery{patientDHT{d}}, recent: map[cid.Cid][]peer.ID{}}
	if cfg.Network != Public {
		return f, nil
	}
	for _, base := range cfg.RoutersV1 {
		c, err := client.New(base, client.WithUserAgent("holdfast"))
		if err != nil {
			return nil, err
		}
		f.sources = append(f.sources, contentrouter.NewContentRoutingClient(c))
	}
	return f, nil
}

// FindProvidersAsync implements routing.ContentDiscovery: all sources at once,
// each peer once, at most maxProviders. The channel is closed when all have answered or ctx ends.
func (f *finder) FindProvidersAsync(ctx context.Context, c cid.Cid, count int) <-chan peer.AddrInfo {
	if count <= 0 || count > maxProviders {
		count = maxProviders
	}
	return f.search(ctx, c, count)
}

// search is FindProvidersAsync with any bound. Nothing waits in the channel: a source that names very many
// does not push back the few of another one.
func (f *finder) search(ctx context.Context, c cid.Cid, count int) <-chan peer.AddrInfo {
	all := make(chan peer.AddrInfo)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, s := range f.sources {
		wg.Go(func() {
			for ai := range s.FindProvidersAsync(ctx, c, count) {
				select {
				case all <- ai:
				case <-ctx.Done():
				}
			}
		})
	}
	go func() {
		wg.Wait()
		close(all)
	}()
	out := make(chan peer.AddrInfo)
	go func() {
		defer close(out)
		defer cancel()
		seen := map[peer.ID]bool{}
		for ai := range all {
			if seen[ai.ID] || len(seen) == count {
				continue
			}
			seen[ai.ID] = true
			f.remember(c, ai.ID)
			ai.Addrs = ai.Addrs[:min(len(ai.Addrs), MaxTenantAddrs)]
			select {
			case out <- ai:
			case <-ctx.Done():
			}
			if len(seen) == count {
				cancel()
			}
		}
	}()
	return out
}

func (f *finder) remember(c cid.Cid, id peer.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ids, known := f.recent[c]
	if !known {
		f.order = append(f.order, c)
		if len(f.order) > maxRecent {
			delete(f.recent, f.order[0])
			f.order = slices.Delete(f.order, 0, 1)
		}
	}
	if !slices.Contains(ids, id) && len(ids) < maxProviders {
		f.recent[c] = append(ids, id)
	}
}

// found is the providers that were found for c lately.
func (f *finder) found(c cid.Cid) []peer.ID {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.recent[c])
}

// Providers is who says that they have everything under root, this node not among them, at most maxProviders of them, as far as they are
// found before ctx ends. Nobody has checked what they say. nil when Offline.
func (n *Node) Providers(ctx context.Context, root cid.Cid) (infos []peer.AddrInfo) {
	if n.find == nil {
		return nil
	}
	for ai := range n.find.FindProvidersAsync(ctx, root, maxProviders) {
		if ai.ID != n.id {
			infos = append(infos, ai)
		}
	}
	return infos
}

// patientDHT gives a DHT that has just connected a moment to notice it.
type patientDHT struct{ *dht.IpfsDHT }

// FindProvidersAsync implements routing.ContentDiscovery.
func (d patientDHT) FindProvidersAsync(ctx context.Context, c cid.Cid, count int) <-chan peer.AddrInfo {
	waitForPeers(ctx, d.IpfsDHT, time.Second)
	return d.IpfsDHT.FindProvidersAsync(ctx, c, count)
}
