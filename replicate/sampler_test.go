package replicate_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	mh "github.com/multiformats/go-multihash"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
	"github.com/holdfast-sites/holdfast/replicate"
)

// prover answers for raw blocks of a store, and does what the test wants for some of them.
type prover struct {
	store blockstore.Store
	odd   func(w http.ResponseWriter, c cid.Cid) (done bool) // may be nil

	mu    sync.Mutex
	asked []cid.Cid
}

func (p *prover) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, err := cid.Decode(strings.TrimPrefix(r.URL.Path, "/ipfs/"))
	if err != nil || r.URL.Query().Get("format") != "raw" {
		http.Error(w, "not a question of a sampler's", http.StatusBadRequest)
		return
	}
	p.mu.Lock()
	p.asked = append(p.asked, c)
	p.mu.Unlock()
	if p.odd != nil && p.odd(w, c) {
		return
	}
	b, err := p.store.Get(r.Context(), c)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	_, _ = w.Write(b.RawData())
}

// sampled is a store with a folder of n files of 1000 bytes each, and its blocks in walk order.
func sampled(t *testing.T, n int) (store blockstore.Store, root cid.Cid, cids []cid.Cid) {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		text := strings.Repeat(fmt.Sprintf("%08d", i), 125)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%04d", i)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	store = blockstore.NewMemory()
	sess, err := store.Begin(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer sess.Close()
	built, err := merkle.Build(t.Context(), sess, dir, merkle.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := sess.Keep(t.Context(), "test", built.Root, slices.Values(built.CIDs)); err != nil {
		t.Fatal(err)
	}
	return store, built.Root, built.CIDs
}

func (p *prover) serve(t *testing.T) replicate.SampleSource {
	t.Helper()
	s := httptest.NewServer(p)
	t.Cleanup(s.Close)
	return replicate.SampleSource{HTTP: s.Client(), Base: s.URL}
}

// inTurn picks as if the numbers came from a wheel that goes on by the golden ratio.
func inTurn() func(uint64) uint64 {
	n := uint32(0)
	return func(below uint64) uint64 {
		n += 0x9E37_79B9
		return uint64(n) * below >> 32
	}
}

func TestWhoHoldsTheSiteProvesItByRandomLeaves(t *testing.T) {
	store, root, cids := sampled(t, 50)
	p := &prover{store: store}
	site := namingtest.Signer(t, "site").Name()
	res, err := replicate.Sampler{Leaves: 20, Pick: inTurn()}.Sample(t.Context(), p.serve(t), site, root)
	if err != nil || res.Verdict != replicate.Proved || res.Site != site || !slices.Equal(res.Roots, []cid.Cid{root}) {
		t.Fatalf("%+v, %v", res, err)
	}
	seen := map[cid.Cid]bool{}
	for _, c := range p.asked {
		if seen[c] || !slices.Contains(cids, c) {
			t.Errorf("%s was asked for twice, or is not of the site", c)
		}
		seen[c] = true
	}
	if len(seen) < 10 {
		t.Errorf("only %d blocks were asked for", len(seen))
	}
}

// Whoever has let go of a site has its blocks until they are collected. If that counted, two
// who have let go would take each other for holders, and neither would ever take over again.
func TestWhoHasLetGoOfTheSiteDoesNotHoldItThoughItsBlocksAreThere(t *testing.T) {
	store, root, _ := sampled(t, 50)
	if err := store.Release(t.Context(), "test", root); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(replicate.IfKept(store, &prover{store: store}, slog.New(slog.DiscardHandler)))
	t.Cleanup(s.Close)
	ask := func(header string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/ipfs/"+root.String()+"?format=raw", nil)
		if err != nil {
			t.Fatal(err)
		}
		if header != "" {
			req.Header.Set(replicate.KeptHeader, header)
		}
		resp, err := s.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if got := ask(""); got != http.StatusOK {
		t.Fatalf("the blocks are gone already: status %d", got)
	}
	if got := ask("no CID"); got != http.StatusBadRequest {
		t.Errorf("status %d for a header that names no root", got)
	}
	site := namingtest.Signer(t, "site").Name()
	res, err := replicate.Sampler{}.Sample(t.Context(), replicate.SampleSource{HTTP: s.Client(), Base: s.URL}, site, root)
	if err != nil || res.Verdict != replicate.NotHeld {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestAMissingBlockIsFoundWhenItIsChosen(t *testing.T) {
	store, root, cids := sampled(t, 30)
	gone := cids[len(cids)-1]
	p := &prover{store: store, odd: func(w http.ResponseWriter, c cid.Cid) bool {
		if c == gone {
			w.WriteHeader(http.StatusNotFound)
		}
		return c == gone
	}}
	n := uint64(0)
	eachInTurn := func(below uint64) uint64 { n += below/30 - 1; return n % below }
	res, err := replicate.Sampler{Leaves: 200, Pick: eachInTurn}.Sample(t.Context(), p.serve(t), namingtest.Signer(t, "site").Name(), root)
	if err != nil || res.Verdict != replicate.NotHeld || res.Missing != gone {
		t.Fatalf("%+v, %v", res, err)
	}
}

func TestWhatASourceDoesInPlaceOfShowingABlockIsItsVerdict(t *testing.T) {
	store, root, _ := sampled(t, 3)
	site := namingtest.Signer(t, "site").Name()
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	status := func(code int, header ...string) func(http.ResponseWriter, cid.Cid) bool {
		return func(w http.ResponseWriter, _ cid.Cid) bool {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
			return true
		}
	}
	for what, tt := range map[string]struct {
		odd  func(http.ResponseWriter, cid.Cid) bool
		want replicate.Verdict
	}{
		"nothing there":      {status(404), replicate.NotHeld},
		"another's trouble":  {status(504), replicate.NotHeld},
		"not for us":         {status(403), replicate.Refused},
		"too many questions": {status(429, "Retry-After", "90"), replicate.Busy},
		"an error":           {status(500), replicate.Missed},
		"sent elsewhere":     {status(302, "Location", "http://127.0.0.1:1/"), replicate.Missed},
		"other bytes":        {func(w http.ResponseWriter, _ cid.Cid) bool { w.Write([]byte("<html>")); return true }, replicate.Missed},
		"too many bytes": {func(w http.ResponseWriter, _ cid.Cid) bool {
			w.Write(bytes.Repeat([]byte("x"), blockstore.MaxBlockSize+1))
			return true
		}, replicate.Missed},
	} {
		p := &prover{store: store, odd: tt.odd}
		res, err := replicate.Sampler{Now: func() time.Time { return at }}.Sample(t.Context(), p.serve(t), site, root)
		if err != nil || res.Verdict != tt.want {
			t.Errorf("%s: %s (%s), %v, want %s", what, res.Verdict, res.Detail, err, tt.want)
		}
		if res.Verdict == replicate.Busy && !res.Until.Equal(at.Add(90*time.Second)) {
			t.Errorf("busy until %s", res.Until)
		}
		if len(p.asked) != 1 {
			t.Errorf("%s: asked %d times", what, len(p.asked))
		}
	}
}

func TestSilenceIsDowntimeUnlessTheHostLives(t *testing.T) {
	_, root, _ := sampled(t, 1)
	site := namingtest.Signer(t, "site").Name()
	nobody := errors.New("nobody there")
	hc := &http.Client{Transport: transport(func(*http.Request) (*http.Response, error) { return nil, nobody })}
	from := replicate.SampleSource{HTTP: hc, Base: "http://peer"}
	for _, tt := range []struct {
		alive func(context.Context) error
		want  replicate.Verdict
	}{
		{nil, replicate.Unreachable},
		{func(context.Context) error { return nobody }, replicate.Unreachable},
		{func(context.Context) error { return nil }, replicate.Missed},
	} {
		from.Alive = tt.alive
		res, err := replicate.Sampler{}.Sample(t.Context(), from, site, root)
		if err != nil || res.Verdict != tt.want {
			t.Errorf("%s, %v, want %s", res.Verdict, err, tt.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (replicate.Sampler{}).Sample(ctx, from, site, root); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := (replicate.Sampler{}).Sample(t.Context(), replicate.SampleSource{Base: "ftp://x"}, site, root); !errors.Is(err, replicate.ErrInvalid) {
		t.Errorf("a base that is none: %v", err)
	}
}

// What links declare steers the walk, and keeps it from nothing: sizes that are 0, or would overflow.
func TestSizesThatLieKeepNoLeafFromBeingChosen(t *testing.T) {
	leaves := []string{"first", "second", "third"}
	sizes := []uint64{0, 1<<63 - 1, 1<<63 - 1}
	store := blockstore.NewMemory()
	sess, err := store.Begin(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer sess.Close()
	root := lyingFolder(t, sess, leaves, sizes)
	found := map[cid.Cid]bool{}
	for i := range uint64(3) {
		p := &prover{store: store}
		pick := func(below uint64) uint64 { return []uint64{0, 1, below - 1}[i] }
		res, err := replicate.Sampler{Leaves: 1, Pick: pick}.Sample(t.Context(), p.serve(t), namingtest.Signer(t, "site").Name(), root)
		if err != nil || res.Verdict != replicate.Proved {
			t.Fatalf("%+v, %v", res, err)
		}
		found[p.asked[len(p.asked)-1]] = true
	}
	if len(found) != len(leaves) {
		t.Errorf("%d of %d leaves were reached", len(found), len(leaves))
	}
}

// transport is a function as a RoundTripper.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// lyingFolder puts a folder of raw leaves whose links declare what they like.
func lyingFolder(t *testing.T, sess blockstore.Session, leaves []string, sizes []uint64) cid.Cid {
	t.Helper()
	folder := merkledag.NodeWithData([]byte{8, 1}) // a UnixFS directory
	put := func(p cid.Prefix, data []byte) cid.Cid {
		b, err := blockstore.NewBlock(p, data)
		if err == nil {
			_, err = sess.Put(t.Context(), b)
		}
		if err != nil {
			t.Fatal(err)
		}
		return b.Cid()
	}
	for i, text := range leaves {
		c := put(cid.Prefix{Version: 1, Codec: cid.Raw, MhType: mh.SHA2_256, MhLength: -1}, []byte(text))
		if err := folder.AddRawLink(string(rune('a'+i)), &ipld.Link{Cid: c, Size: sizes[i]}); err != nil {
			t.Fatal(err)
		}
	}
	return put(cid.Prefix{Version: 1, Codec: cid.DagProtobuf, MhType: mh.SHA2_256, MhLength: -1}, folder.RawData())
}
