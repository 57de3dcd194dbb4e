package replicate_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// copier is a Fetcher whose only source is another store.
type copier struct {
	source blockstore.Store

	mu     sync.Mutex
	down   bool                                                            // nobody answers
	gate   func(ctx context.Context, into blockstore.Session, n int) error // before the nth block of a fetch, from 0
	copied []cid.Cid                                                       // what was not present, in order
	roots  []cid.Cid                                                       // what was asked for, in order
	from   []peer.AddrInfo                                                 // of the last fetch
}

func (f *copier) Fetch(ctx context.Context, into blockstore.Session, roots []cid.Cid, from []peer.AddrInfo,
	limits merkle.Limits, progress func(merkle.Count)) ([]cid.Cid, error) {
	f.mu.Lock()
	gate, down := f.gate, f.down
	f.roots = append(f.roots, roots...)
	f.from = from
	f.mu.Unlock()
	if down {
		return nil, fmt.Errorf("%s: %w: nobody answered", roots[0], blockstore.ErrUnavailable)
	}
	var cids []cid.Cid
	var n merkle.Count
	for b, err := range merkle.Walk(ctx, f.source, roots, merkle.WalkOptions{Limits: limits, Prefetch: 1}) {
		if errors.Is(err, blockstore.ErrNotFound) {
			return nil, fmt.Errorf("%w: %w", blockstore.ErrUnavailable, err)
		}
		if err != nil {
			return nil, err
		}
		if gate != nil {
			if err := gate(ctx, into, len(cids)); err != nil {
				return nil, err
			}
		}
		added, err := into.Put(ctx, b)
		if err != nil {
			return nil, err
		}
		if added.Blocks > 0 {
			f.mu.Lock()
			f.copied = append(f.copied, b.Cid())
			f.mu.Unlock()
		}
		cids = append(cids, b.Cid())
		n.Blocks++
		n.Bytes += int64(b.Size())
		progress(n)
	}
	return cids, nil
}

func (f *copier) set(change func(*copier)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *copier) asked() []cid.Cid {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.roots)
}

// pinHost is a pin service with real parts, and the store of an author beside it.
type pinHost struct {
	t       *testing.T
	db      *state.DB
	blocks  blockstore.Store
	author  blockstore.Store
	fetcher *copier
	names   *naming.Resolver
	service *replicate.Service
	tenant  replicate.Tenant
	token   string
}

func newPinHost(t *testing.T, change ...func(*replicate.ServiceConfig)) *pinHost {
	t.Helper()
	db, err := state.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	h := &pinHost{t: t, db: db, blocks: blockstore.NewMemory(), author: blockstore.NewMemory()}
	h.fetcher = &copier{source: h.author}
	h.names = newResolver(db)
	h.tenant, h.token = h.newTenant("author")
	h.build(change...)
	return h
}

// emptyNetwork is a source that answers, and has nothing.
type emptyNetwork struct{}

func (emptyNetwork) String() string { return "an empty network" }

func (emptyNetwork) Fetch(context.Context, naming.Name) ([]byte, error) {
	return nil, naming.ErrNotFound
}

func newResolver(records naming.Records) *naming.Resolver {
	return naming.NewResolver(naming.ResolverConfig{
		Records: records,
		Sources: func(naming.Name) []naming.Source { return []naming.Source{emptyNetwork{}} },
	})
}

// build makes the service anew over what is there, as after a restart.
func (h *pinHost) build(change ...func(*replicate.ServiceConfig)) {
	h.t.Helper()
	cfg := replicate.ServiceConfig{
		Pins: h.db, Tokens: h.db, Blocks: h.blocks, Fetcher: h.fetcher, Names: h.names,
		Delegates: func() []string { return []string{someAddr} },
	}
	for _, f := range change {
		f(&cfg)
	}
	var err error
	if h.service, err = replicate.NewService(cfg); err != nil {
		h.t.Fatal(err)
	}
}

func (h *pinHost) newTenant(label string) (replicate.Tenant, string) {
	h.t.Helper()
	tok, secret, err := replicate.CreateToken(h.t.Context(), h.db, label, replicate.Scope{})
	if err != nil {
		h.t.Fatal(err)
	}
	return replicate.Tenant{ID: tok.ID, Label: label}, secret
}

// serve runs the service until stop is called, or the test ends.
func (h *pinHost) serve() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	service := h.service
	go func() {
		defer close(done)
		if err := service.Serve(ctx); err != nil {
			h.t.Errorf("Serve: %v", err)
		}
	}()
	stop = func() { cancel(); <-done }
	h.t.Cleanup(stop)
	return stop
}

// folder puts a folder of these files into the author's store.
func (h *pinHost) folder(files map[string]string) cid.Cid {
	h.t.Helper()
	dir, err := os.MkdirTemp(h.t.TempDir(), "site")
	if err != nil {
		h.t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			h.t.Fatal(err)
		}
	}
	sess, err := h.author.Begin(h.t.Context(), "")
	if err != nil {
		h.t.Fatal(err)
	}
	defer sess.Close()
	built, err := merkle.Build(h.t.Context(), sess, dir, merkle.BuildOptions{})
	if err != nil {
		h.t.Fatal(err)
	}
	return built.Root
}

// site is a folder of n files of size bytes each, which differs by version in its first file only.
func (h *pinHost) site(version string, n, size int) cid.Cid {
	files := map[string]string{}
	for i := range n {
		files[fmt.Sprintf("page%d.html", i)] = strings.Repeat(fmt.Sprintf("page %d ", i), size)[:size]
	}
	files["page0.html"] = strings.Repeat(version+" ", size)[:size]
	return h.folder(files)
}

// block puts one block into the author's store.
func (h *pinHost) block(codec uint64, data string) cid.Cid {
	h.t.Helper()
	b, err := blockstore.NewBlock(cid.Prefix{Version: 1, Codec: codec, MhType: mh.SHA2_256, MhLength: -1}, []byte(data))
	if err != nil {
		h.t.Fatal(err)
	}
	h.put(b)
	return b.Cid()
}

func (h *pinHost) put(b blockstore.Block) {
	h.t.Helper()
	sess, err := h.author.Begin(h.t.Context(), "")
	if err != nil {
		h.t.Fatal(err)
	}
	defer sess.Close()
	if _, err := sess.Put(h.t.Context(), b); err != nil {
		h.t.Fatal(err)
	}
}

func (h *pinHost) add(p replicate.Pin) string {
	h.t.Helper()
	st, err := h.service.Add(h.t.Context(), h.tenant, p)
	if err != nil {
		h.t.Fatal(err)
	}
	return st.RequestID
}

func (h *pinHost) status(id string) replicate.PinStatus {
	h.t.Helper()
	st, err := h.service.Get(h.t.Context(), h.tenant, id)
	if err != nil {
		h.t.Fatal(err)
	}
	return st
}

// wait polls until the pin is as done wants it.
func (h *pinHost) wait(id, what string, done func(replicate.PinStatus) bool) replicate.PinStatus {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	for {
		st := h.status(id)
		if done(st) {
			return st
		}
		select {
		case <-ctx.Done():
			h.t.Fatalf("never %s: %s %v", what, st.Status, st.Info)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (h *pinHost) waitStatus(id string, want replicate.Status) replicate.PinStatus {
	h.t.Helper()
	return h.wait(id, string(want), func(st replicate.PinStatus) bool { return st.Status == want })
}

// waitGone polls until nothing is kept for a pin, which its tenant can't see.
func (h *pinHost) waitGone(id string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	for {
		_, err := h.service.Get(h.t.Context(), h.tenant, id)
		if errors.Is(err, replicate.ErrNotFound) && len(h.kept(id)) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			h.t.Fatalf("pin %s never went: %v, keeps %v", id, err, h.kept(id))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// kept is the roots that the host's store keeps for a pin, sorted.
func (h *pinHost) kept(id string) []cid.Cid {
	h.t.Helper()
	got, err := h.blocks.Kept(h.t.Context(), replicate.Owner(id))
	if err != nil {
		h.t.Fatal(err)
	}
	return sorted(got...)
}

func (h *pinHost) wantKept(id string, want ...cid.Cid) {
	h.t.Helper()
	if got := h.kept(id); !slices.Equal(got, sorted(want...)) {
		h.t.Fatalf("kept %v\nwant %v", got, sorted(want...))
	}
}

func sorted(cs ...cid.Cid) []cid.Cid {
	cs = slices.Clone(cs)
	slices.SortFunc(cs, func(a, b cid.Cid) int { return strings.Compare(a.KeyString(), b.KeyString()) })
	return cs
}

// wantWhole fails unless everything under root is at the host.
func (h *pinHost) wantWhole(root cid.Cid) {
	h.t.Helper()
	rep, err := merkle.Verify(h.t.Context(), h.blocks, root, merkle.WalkOptions{})
	if err != nil || len(rep.Missing)+len(rep.Corrupt) > 0 {
		h.t.Fatalf("%s is not whole: %v, missing %v, corrupt %v", root, err, rep.Missing, rep.Corrupt)
	}
}

func (h *pinHost) collect() {
	h.t.Helper()
	if _, err := h.blocks.Collect(h.t.Context(), blockstore.CollectOptions{}); err != nil {
		h.t.Fatal(err)
	}
}

// publish signs a statement and hands it to the host, as a PUT of the record does.
func (h *pinHost) publish(s naming.Signer, st naming.Statement) {
	h.t.Helper()
	st.ValidUntil = time.Now().Add(24 * time.Hour)
	rec, err := s.Sign(st)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := h.db.Accept(h.t.Context(), rec); err != nil {
		h.t.Fatal(err)
	}
	h.names.Accepted(rec)
	h.service.FollowNow(s.Name())
}

func toRoot(root cid.Cid, seq uint64) naming.Statement {
	return naming.Statement{Value: "/ipfs/" + root.String(), Sequence: seq}
}

// namePin is a pin that follows the signer's name.
func namePin(s naming.Signer, root cid.Cid, meta ...string) replicate.Pin {
	m := map[string]string{replicate.MetaName: s.Name().String()}
	for i := 0; i < len(meta); i += 2 {
		m[meta[i]] = meta[i+1]
	}
	return replicate.Pin{CID: root, Name: "site", Meta: m}
}

// at tells whether a name pin has come to a root and sequence.
func at(root cid.Cid, seq int) func(replicate.PinStatus) bool {
	return func(st replicate.PinStatus) bool {
		return st.Info[replicate.InfoRoot] == root.String() && st.Info[replicate.InfoSequence] == fmt.Sprint(seq) &&
			st.Status == replicate.Pinned
	}
}

const somePeer = "12D3KooWGtMbxbqRhFWAxtrrPzVQGQLmqyhSTQMq3vTbfCyGP3W2"

const someAddr = "/ip4/203.0.113.7/tcp/4001/p2p/" + somePeer

func withMeta(p replicate.Pin, key, value string) replicate.Pin {
	p.Meta = maps.Clone(p.Meta)
	if p.Meta == nil {
		p.Meta = map[string]string{}
	}
	p.Meta[key] = value
	return p
}
