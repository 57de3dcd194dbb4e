package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/ipfs/boxo/ipld/merkledag"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/gateway"
	"github.com/holdfast-sites/holdfast/internal/p2p"
	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// The environment of a role: its own folder, and for a corrupter what it serves and where that can be had.
const (
	roleEnv   = "HOLDFAST_TEST_ROLE"
	homeEnv   = "HOLDFAST_TEST_HOME"
	rootEnv   = "HOLDFAST_TEST_ROOT"
	sourceEnv = "HOLDFAST_TEST_SOURCE"
)

// roleReady is the line by which a role tells where it is.
type roleReady struct {
	ready
	Token string `json:"token"` // of an author at the liars
}

// play is what this test binary does when it is started as another process.
func play(role string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	home := os.Getenv(homeEnv)
	switch role {
	case "hollow": // says pinned and lacks one block of every site; asked for a proof it says what it finds out
		err = playHost(ctx, home, lies{fetch: hollowly})
	case "forger": // makes that block up instead, and signs that
		err = playHost(ctx, home, lies{fetch: hollowly, prove: func(s blockstore.Store) blockstore.Getter { return inventor{s} }})
	case "turncoat":
		err = playHost(ctx, home, turncoat(home))
	case "corrupter":
		err = playCorrupter(ctx, home, os.Getenv(rootEnv), os.Getenv(sourceEnv))
	default:
		err = fmt.Errorf("unknown role %q", role)
	}
	if err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, role+":", err)
		return 1
	}
	return 0
}

// lies is in what a host is not as others are. Nil: it is.
type lies struct {
	fetch func(replicate.Fetcher, blockstore.Store) replicate.Fetcher // how it gets what it pins
	show  func(blockstore.Store) blockstore.Store                     // what peers get
	prove func(blockstore.Store) blockstore.Getter                    // what proofs are computed from; else what is shown
}

// playHost is a host of the program's own parts: it takes pins and follows names as others do, but for its lies.
func playHost(ctx context.Context, home string, l lies) error {
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
	shown := blockstore.Store(store)
	if l.show != nil {
		shown = l.show(store)
	}
	proved := blockstore.Getter(shown)
	if l.prove != nil {
		proved = l.prove(shown)
	}
	n, err := openPeer(ctx, p2p.Config{Identity: key, Server: true, Store: shown, Records: db})
	if err != nil {
		return err
	}
	defer n.Close()
	fetcher := replicate.Fetcher(n)
	if l.fetch != nil {
		fetcher = l.fetch(n, store)
	}
	names := naming.NewResolver(naming.ResolverConfig{Records: db})
	defer names.Close()
	service, err := replicate.NewService(replicate.ServiceConfig{
		Pins: db, Tokens: db, Blocks: store, Fetcher: fetcher, TenantAddrs: n.TenantAddrs, Delegates: n.Addrs, Names: names,
	})
	if err != nil {
		return err
	}
	auditor := replicate.NewAuditor(replicate.AuditorConfig{
		Host: n.Host(), Key: key, Blocks: proved, Burst: 1000,
		Holds:   func(context.Context, cid.Cid) (bool, error) { return true, nil },
		Allowed: func(context.Context, peer.ID, naming.Name, []cid.Cid) bool { return true },
	})
	_, token, err := replicate.CreateToken(ctx, db, "author", replicate.Scope{})
	if err != nil {
		return err
	}
	mux := hostHandler(ctx, n, service, db, names)
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

// hostHandler is a host's pin service, and its routing, which takes the records of the names that it follows.
func hostHandler(ctx context.Context, n *p2p.Node, service *replicate.Service, db *state.DB, names *naming.Resolver) *http.ServeMux {
	mux := http.NewServeMux()
	pins := replicate.NewHandler(service, replicate.HandlerConfig{})
	mux.Handle("/pins", pins)
	mux.Handle("/pins/", pins)
	mux.Handle("/routing/v1/", n.RoutingHandler(p2p.RoutingOptions{
		Accept: func(name naming.Name) bool { ok, err := db.Followed(ctx, name); return ok && err == nil },
		Accepted: func(r naming.Record) {
			names.Accepted(r)
			service.FollowNow(r.Name())
		},
	}))
	return mux
}

func openPeer(ctx context.Context, cfg p2p.Config) (*p2p.Node, error) {
	cfg.Network, cfg.Listen, cfg.AllowPrivate = p2p.Private, []string{"/ip4/127.0.0.1/tcp/0"}, true
	return p2p.Open(ctx, cfg)
}

func tellReady(ctx context.Context, n *p2p.Node, pins, token string) error {
	line := roleReady{ready{Event: "ready", Pins: pins, Peer: n.ID().String(), Addrs: n.Addrs()}, token}
	if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// hollow is a Fetcher that fetches everything, throws one leaf away and says that all is there.
type hollow struct {
	replicate.Fetcher
	store blockstore.Store
}

func hollowly(f replicate.Fetcher, store blockstore.Store) replicate.Fetcher {
	return &hollow{f, store}
}

func (h *hollow) Fetch(ctx context.Context, into blockstore.Session, roots []cid.Cid, from []peer.AddrInfo,
	limits merkle.Limits, progress func(merkle.Count)) ([]cid.Cid, error) {
	all, err := h.store.Begin(ctx, "")
	if err != nil {
		return nil, err
	}
	defer all.Close()
	cids, err := h.Fetcher.Fetch(ctx, all, roots, from, limits, progress)
	if err != nil {
		return nil, err
	}
	last := len(cids) - 1
	for cids[last].Type() != cid.Raw {
		last--
	}
	lacking := cids[last]
	cids = append(cids[:last:last], cids[last+1:]...)
	if _, err := into.Shield(ctx, cids); err != nil {
		return nil, err
	}
	if err := all.Close(); err != nil {
		return nil, err
	}
	if _, err := h.store.Collect(ctx, blockstore.CollectOptions{SessionGrace: -1}); err != nil {
		return nil, err
	}
	if infos, err := h.store.Stat(ctx, []cid.Cid{lacking}); err != nil || infos[0].Present {
		return nil, fmt.Errorf("%s is still there (%v)", lacking, err)
	}
	return cids, nil
}

// inventor makes up the blocks that it lacks.
type inventor struct{ blockstore.Getter }

func (i inventor) Get(ctx context.Context, c cid.Cid) (blockstore.Block, error) {
	b, err := i.Getter.Get(ctx, c)
	if err == nil {
		return b, nil
	}
	made, err := blocks.NewBlockWithCid([]byte("trust me"), c)
	if err != nil {
		return b, err
	}
	node, err := merkledag.DecodeRawBlock(made)
	if err != nil {
		return b, err
	}
	return blockstore.BlockOf(node)
}

// playCorrupter is a peer that has a whole site, gives nothing over bitswap,
// and turns a byte around in whatever it sends over HTTP.
func playCorrupter(ctx context.Context, home, root, source string) error {
	c, err := cid.Decode(root)
	if err != nil {
		return err
	}
	from, err := peer.AddrInfoFromString(source)
	if err != nil {
		return err
	}
	held := blockstore.NewMemory()
	defer held.Close()
	if err := fetchInto(ctx, held, c, *from); err != nil {
		return err
	}
	key, err := p2p.LoadIdentity(filepath.Join(home, "identity.key"))
	if err != nil {
		return err
	}
	empty := blockstore.NewMemory()
	defer empty.Close()
	n, err := openPeer(ctx, p2p.Config{Identity: key, Server: true, Store: empty})
	if err != nil {
		return err
	}
	defer n.Close()
	whole := gateway.NewTrustless(held, nil, nil)
	n.SetHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at := 0
		if r.URL.Query().Get("format") == "car" {
			at = 100_000 // in the middle of a leaf
		}
		whole.ServeHTTP(&turning{ResponseWriter: w, left: at}, r)
	}))
	return tellReady(ctx, n, "", "")
}

// fetchInto gets a site honestly, under an identity that is thrown away.
func fetchInto(ctx context.Context, store blockstore.Store, root cid.Cid, from peer.AddrInfo) error {
	dir, err := os.MkdirTemp("", "hf")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	key, err := p2p.LoadIdentity(filepath.Join(dir, "identity.key"))
	if err != nil {
		return err
	}
	n, err := openPeer(ctx, p2p.Config{Identity: key, Store: store, IdleTimeout: 20 * time.Second})
	if err != nil {
		return err
	}
	defer n.Close()
	s, err := store.Begin(ctx, "")
	if err != nil {
		return err
	}
	defer s.Close()
	cids, err := n.Fetch(ctx, s, []cid.Cid{root}, []peer.AddrInfo{from}, merkle.Limits{}, nil)
	if err != nil {
		return err
	}
	return s.Keep(ctx, "corrupter", root, func(yield func(cid.Cid) bool) {
		for _, c := range cids {
			if !yield(c) {
				return
			}
		}
	})
}

// turning turns around the byte that comes after the left ones.
type turning struct {
	http.ResponseWriter
	left int
	done bool
}

func (t *turning) Write(p []byte) (int, error) {
	if t.done || t.left >= len(p) {
		t.left -= len(p)
		return t.ResponseWriter.Write(p)
	}
	q := append([]byte{}, p...)
	q[t.left] ^= 0xff
	t.done = true
	return t.ResponseWriter.Write(q)
}

// Unwrap lets the handler flush.
func (t *turning) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// role starts another process of this test binary. It ends with the test.
func (w *world) role(role, home string, env ...string) (*node, roleReady) {
	w.t.Helper()
	if err := os.MkdirAll(w.home(home), 0o700); err != nil {
		w.t.Fatal(err)
	}
	n := &node{w: w, home: home}
	cmd := w.self(append(env, roleEnv+"="+role, homeEnv+"="+w.home(home))...)
	line := n.startCommand(cmd)
	var r roleReady
	if err := json.Unmarshal(line, &r); err != nil {
		w.t.Fatal(err)
	}
	r.ready = n.ready
	return n, r
}
