//go:build unix

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/internal/p2p"
	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
)

// resolved is what one way of resolving took.
type resolved struct {
	what, unit string
	took       figures
	limit      float64 // 0: there is no goal
	goal       string
}

const (
	cachedRounds = 20_000 // of the resolve that takes microseconds
	resolveGoal  = "≤ 20 ms"
)

// resolves measures the ways to a name's record: from the cache, and from a holder by somebody who has nothing yet.
func (n *namesBench) resolves(ctx context.Context) ([]resolved, error) {
	name, err := naming.ParseName(n.name)
	if err != nil {
		return nil, err
	}
	holder, err := peer.AddrInfoFromString(n.hosts[0].Addrs[0])
	if err != nil {
		return nil, err
	}
	out := []resolved{
		{what: "from the cache of a resolver", unit: "µs", limit: 50, goal: "≤ 50 µs"},
		{what: "from a holder, HTTP, new connection", unit: "ms", limit: 20, goal: resolveGoal},
		{what: "from a holder, libp2p, new connection", unit: "ms", limit: 20, goal: resolveGoal},
		{what: "from a holder, libp2p, open connection", unit: "ms", limit: 20, goal: resolveGoal},
		{what: "a page of the gateway, name in its cache", unit: "ms"},
	}
	if out[0].took, err = n.cachedResolves(ctx, name); err != nil {
		return nil, err
	}
	for round := range n.rounds + 1 {
		direct, err := n.overHTTP(ctx, name)
		if err != nil {
			return nil, err
		}
		fresh, open, err := overLibp2p(ctx, name, *holder)
		if err != nil {
			return nil, err
		}
		began := time.Now()
		if _, err := n.pages.read(ctx); err != nil {
			return nil, err
		}
		page := time.Since(began)
		if round == 0 {
			continue
		}
		for i, d := range []time.Duration{direct, fresh, open, page} {
			out[i+1].took = append(out[i+1].took, millis(d))
		}
	}
	return out, nil
}

// cachedResolves resolves, in this process, a name that was resolved before, with records in a database of its own as a node
// has them. In µs.
func (n *namesBench) cachedResolves(ctx context.Context, name naming.Name) (took figures, err error) {
	db, err := state.Open(ctx, filepath.Join(n.tmp, "cached.db"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	holder := naming.NewRoutingClient("holder", n.hosts[0].Pins, http.DefaultClient)
	r := naming.NewResolver(naming.ResolverConfig{Records: db, Sources: from(holder)})
	defer r.Close()
	for range cachedRounds + 1 {
		began := time.Now()
		res, err := r.Resolve(ctx, name)
		d := time.Since(began)
		switch {
		case err != nil:
			return nil, err
		case res.Source == naming.SourceCache:
			took = append(took, float64(d)/float64(time.Microsecond))
		}
	}
	if len(took) < cachedRounds {
		return nil, fmt.Errorf("only %d of %d resolves were from the cache", len(took), cachedRounds)
	}
	return took, nil
}

func from(s naming.Source) func(naming.Name) []naming.Source {
	return func(naming.Name) []naming.Source { return []naming.Source{s} }
}

// overHTTP is one resolve by somebody new, from the dial on.
func (n *namesBench) overHTTP(ctx context.Context, name naming.Name) (time.Duration, error) {
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	return resolveOnce(ctx, name, naming.NewRoutingClient("holder", n.hosts[0].Pins, &http.Client{Transport: transport}))
}

// overLibp2p is one resolve by a new peer, from the dial on, and then one by a new resolver over the same connection.
func overLibp2p(ctx context.Context, name naming.Name, holder peer.AddrInfo) (fresh, open time.Duration, err error) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return 0, 0, err
	}
	stranger, err := p2p.Open(ctx, p2p.Config{
		Identity: key, Network: p2p.Private, Listen: []string{loopback}, Store: blockstore.NewMemory(), CacheBytes: -1,
	})
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, stranger.Close()) }()
	stranger.Trust(holder)
	source := naming.NewRoutingClient("holder", "http://"+holder.ID.String(), stranger.HTTPClient(holder))
	if fresh, err = resolveOnce(ctx, name, source); err != nil {
		return 0, 0, err
	}
	open, err = resolveOnce(ctx, name, source)
	return fresh, open, err
}

// resolveOnce is one resolve by a resolver that has nothing, with the signature checked.
func resolveOnce(ctx context.Context, name naming.Name, source naming.Source) (time.Duration, error) {
	r := naming.NewResolver(naming.ResolverConfig{Records: naming.NewMemoryRecords(), Sources: from(source)})
	defer r.Close()
	began := time.Now()
	_, err := r.Resolve(ctx, name)
	return time.Since(began), err
}
