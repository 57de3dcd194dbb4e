package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/gateway"
	"github.com/holdfast-sites/holdfast/internal/p2p"
	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// What becomes of a turncoat: the content of the file "turned" in its folder. Without the file it is honest.
const (
	turnDrop  = "drop"   // it has lost all pages, and says so when it is asked for a proof
	turnForge = "forge"  // it has lost them, and makes them up where nobody can tell but by the proof
	turnProxy = "proxy " // and a gateway's URL: it has lost them, and answers with what it gets there
)

// playTurncoat is a host of the program's own parts: it takes pins and follows names as others do, until it turns.
func playTurncoat(ctx context.Context, home string) error {
	key, err := p2p.LoadIdentity(filepath.Join(home, "identity.key"))
	if err != nil {
		return err
	}
	db, err := state.Open(ctx, filepath.Join(home, "state.db"))
	if err != nil {
		return err
	}
	defer db.Close()
	store := blockstore.NewMemory()
	defer store.Close()
	shown := turnable{Store: store, home: home}
	n, err := openPeer(ctx, p2p.Config{Identity: key, Server: true, Store: shown, Records: db})
	if err != nil {
		return err
	}
	defer n.Close()
	names := naming.NewResolver(naming.ResolverConfig{Records: db})
	defer names.Close()
	service, err := replicate.NewService(replicate.ServiceConfig{
		Pins: db, Tokens: db, Blocks: store, Fetcher: n, TenantAddrs: n.TenantAddrs, Delegates: n.Addrs, Names: names,
	})
	if err != nil {
		return err
	}
	auditor := replicate.NewAuditor(replicate.AuditorConfig{
		Host: n.Host(), Key: key, Blocks: forging{shown}, Burst: 1000,
		Holds:   func(context.Context, cid.Cid) (bool, error) { return true, nil },
		Allowed: func(context.Context, peer.ID, naming.Name, []cid.Cid) bool { return true },
	})
	_, token, err := replicate.CreateToken(ctx, db, "author", replicate.Scope{})
	if err != nil {
		return err
	}
	routing := n.RoutingHandler(p2p.RoutingOptions{
		Accept: func(name naming.Name) bool { ok, err := db.Followed(ctx, name); return ok && err == nil },
		Accepted: func(r naming.Record) {
			names.Accepted(r)
			service.FollowNow(r.Name())
		},
	})
	mux := http.NewServeMux()
	mux.Handle("/pins", replicate.NewHandler(service, replicate.HandlerConfig{}))
	mux.Handle("/pins/", replicate.NewHandler(service, replicate.HandlerConfig{}))
	mux.Handle("/routing/v1/", routing)
	mux.Handle("/ipfs/", gateway.NewTrustless(shown, nil, nil))
	mux.Handle("GET /holdfast/1/host", replicate.NewHostHandler(func(context.Context) (replicate.HostDescription, error) {
		return replicate.HostDescription{Name: filepath.Base(home), Addrs: n.Addrs(), FreeBytes: 1 << 40, MaxPinBytes: 1 << 40}, nil
	}, key))
	n.SetHTTP(mux)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	for _, serve := range []func(context.Context) error{n.Serve, service.Serve, auditor.Serve} {
		go serve(ctx) // ends with the process
	}
	go http.Serve(ln, mux)
	return tellReady(ctx, n, "http://"+ln.Addr().String(), token)
}

// turnable is the store of a host that may turn.
type turnable struct {
	blockstore.Store
	home string
}

func (t turnable) turned() string {
	b, err := os.ReadFile(filepath.Join(t.home, "turned"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		panic(err)
	}
	return string(b)
}

// Get implements blockstore.Getter.
func (t turnable) Get(ctx context.Context, c cid.Cid) (blockstore.Block, error) {
	how := t.turned()
	switch {
	case how == "" || c.Type() != cid.Raw:
		return t.Store.Get(ctx, c)
	case strings.HasPrefix(how, turnProxy):
		return getFrom(ctx, strings.TrimPrefix(how, turnProxy), c)
	}
	return blockstore.Block{}, fmt.Errorf("%w: %s", blockstore.ErrNotFound, c)
}

// getFrom gets a block from a gateway.
func getFrom(ctx context.Context, gateway string, c cid.Cid) (b blockstore.Block, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, gateway+"/ipfs/"+c.String()+"?format=raw", nil)
	if err != nil {
		return b, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return b, fmt.Errorf("%w: %w", blockstore.ErrNotFound, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil || resp.StatusCode != http.StatusOK {
		return b, fmt.Errorf("%w: %s, %v", blockstore.ErrNotFound, resp.Status, err)
	}
	return blockstore.CheckBlock(c, data)
}

// forging is what a turncoat computes its proofs from.
type forging struct{ turnable }

// Get implements blockstore.Getter.
func (f forging) Get(ctx context.Context, c cid.Cid) (blockstore.Block, error) {
	if f.turned() != turnForge {
		return f.turnable.Get(ctx, c)
	}
	return inventor{f.turnable}.Get(ctx, c)
}

// turn has a turncoat do so.
func (w *world) turn(host, how string) {
	w.t.Helper()
	w.writeFiles(host, map[string][]byte{"turned": []byte(how)})
}
