package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
)

// lossy is a store in front of which something happens to some blocks.
type lossy struct {
	blockstore.Getter
	happens func(ctx context.Context, c cid.Cid) error // nil: nothing
}

func (l *lossy) Get(ctx context.Context, c cid.Cid) (blockstore.Block, error) {
	if l.happens != nil {
		if err := l.happens(ctx, c); err != nil {
			return blockstore.Block{}, err
		}
	}
	return l.Getter.Get(ctx, c)
}

// askedError is what a network fetch fails with: it knows whom it asked.
type askedError struct{ peers []string }

func (e *askedError) Error() string   { return "no peer sent it" }
func (e *askedError) Asked() []string { return e.peers }

func newLossyWorld(t *testing.T, timeout time.Duration) (*world, *lossy) {
	l := &lossy{}
	w := newWorld(t, func(c *Config) {
		l.Getter = c.Blocks
		c.Blocks = l
		c.RetrievalTimeout = timeout
	})
	return w, l
}

// failure asks as a program and gives the error of the answer.
func (w *world) failure(url string) (int, Failure) {
	w.t.Helper()
	r := w.get(url, "Accept", "application/json")
	var f Failure
	if err := json.Unmarshal([]byte(r.body), &f); err != nil {
		w.t.Fatalf("%s: %d %q: %v", url, r.StatusCode, r.body, err)
	}
	if f.Status != r.StatusCode {
		w.t.Errorf("%s: the body says %d, the answer is %d", url, f.Status, r.StatusCode)
	}
	return r.StatusCode, f
}

func TestUnavailableBlockIs504ThatNamesRootPeersAndStep(t *testing.T) {
	for path, step := range map[string]Step{"": StepRoot, "plain": StepPath, "plain/file.txt": StepBlock} {
		// A gateway of its own for each: folders that one has read it need not read again.
		w, l := newLossyWorld(t, time.Minute)
		root := w.build(blog)
		name := w.publish("blog", root)
		w.sites.holders = []string{"host alice"}
		missing, err := merkle.Resolve(t.Context(), w.store, root, path)
		must(t, err)
		l.happens = func(_ context.Context, c cid.Cid) error {
			if !c.Equals(missing) {
				return nil
			}
			return &blockstore.BlockError{CID: c, Kind: blockstore.ErrUnavailable, Err: errors.Join(&askedError{[]string{"12D3KooWbob: no"}}, context.DeadlineExceeded)}
		}
		status, f := w.failure("http://blog.localhost/plain/file.txt")
		if status != 504 || f.Kind != KindUnavailable || f.Step != step || f.Root != root.String() || f.Name != name.String() || f.Path != "/plain/file.txt" || f.Block != missing.String() {
			t.Errorf("%s: %d %+v", step, status, f)
		}
		if strings.Join(f.Asked, ";") != "12D3KooWbob: no" || strings.Join(f.Holders, ";") != "host alice" {
			t.Errorf("%s: asked %q, holders %q", step, f.Asked, f.Holders)
		}
		r := w.get("http://blog.localhost/plain/file.txt", "Accept", "text/html,*/*")
		r.want(t, 504, "")
		for _, s := range []string{root.String(), name.String(), "12D3KooWbob", "host alice", "plain/file.txt"} {
			if !strings.Contains(r.body, s) {
				t.Errorf("%s: the page does not name %q", step, s)
			}
		}
		r.wantHeader(t, "Cache-Control", "no-store")
	}
}

func TestBlockThatIsNotFoundIsNeverAMissingPath(t *testing.T) {
	w, l := newLossyWorld(t, time.Minute)
	files := map[string]string{"404.html": "lost", "index.html": "x", "sub/f": "f", "_redirects": "/sub/* /index.html 200"}
	root := w.build(files)
	w.publish("blog", root)
	for _, path := range []string{"", "sub", "sub/f", "_redirects"} {
		c, err := merkle.Resolve(t.Context(), w.store, root, path)
		must(t, err)
		l.happens = func(_ context.Context, got cid.Cid) error {
			if got.Equals(c) {
				return &blockstore.BlockError{CID: got, Kind: blockstore.ErrNotFound}
			}
			return nil
		}
		for _, ask := range []string{"/sub/f", "/sub/g"} {
			if path == "sub/f" && ask == "/sub/g" || path == "_redirects" && ask == "/sub/f" {
				continue // that block is not on the way
			}
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				if r := w.do(method, "http://blog.localhost"+ask); r.StatusCode != 504 {
					t.Errorf("without %q: %s %s is %d: %s", path, method, ask, r.StatusCode, r.body)
				}
			}
		}
	}
}

func TestErrorsOfTheStoreAreOursAndNameNoFileOfTheOperators(t *testing.T) {
	const file = "/home/alice/private/draft.txt"
	for _, c := range []struct {
		name   string
		cause  error
		status int
	}{
		{"a disk that fails", &blockstore.BlockError{Kind: blockstore.ErrUnavailable, Err: &fs.PathError{Op: "read", Path: file, Err: syscall.EIO}}, 500},
		{"a file in place that may not be read", &blockstore.BlockError{Kind: blockstore.ErrUnavailable, Err: fmt.Errorf("%q: %w", file, &fs.PathError{Op: "open", Path: file, Err: fs.ErrPermission})}, 500},
		{"a file in place that has gone", &blockstore.BlockError{Kind: blockstore.ErrNotFound, Err: fmt.Errorf("moved: %q: %w", file, &fs.PathError{Op: "open", Path: file, Err: fs.ErrNotExist})}, 504},
		{"a block that is damaged", &blockstore.BlockError{Kind: blockstore.ErrCorrupt, Err: errors.New("12 bytes of " + file + " are gone")}, 502},
	} {
		w, l := newLossyWorld(t, time.Minute)
		files := map[string]string{"sub/f": "f", "_redirects": "/a /b"}
		root := w.build(files)
		w.publish("blog", root)
		for _, path := range []string{"", "sub", "sub/f", "_redirects"} {
			broken, err := merkle.Resolve(t.Context(), w.store, root, path)
			must(t, err)
			l.happens = func(_ context.Context, got cid.Cid) error {
				if got.Equals(broken) {
					return c.cause
				}
				return nil
			}
			ask := "http://blog.localhost/sub/f"
			if path == "_redirects" {
				ask = "http://blog.localhost/nothing"
			}
			for _, accept := range []string{"", "text/html", "application/json", "application/vnd.ipld.raw"} {
				r := w.get(ask, "Accept", accept)
				if (accept == "" || accept == "text/html") && r.StatusCode != c.status || r.StatusCode < 400 || strings.Contains(r.body, "alice") {
					t.Errorf("%s, at %q, as %q: %d, want %d: %s", c.name, path, accept, r.StatusCode, c.status, r.body)
				}
			}
		}
	}
}

func TestABlockThatCannotBeReadHereIsHadFromOthers(t *testing.T) {
	store := blockstore.NewMemory()
	w := newWorld(t, func(c *Config) {
		c.Local = &lossy{Getter: store, happens: func(context.Context, cid.Cid) error {
			return &blockstore.BlockError{Kind: blockstore.ErrUnavailable, Err: &fs.PathError{Op: "read", Path: "/x", Err: syscall.EIO}}
		}}
	})
	w.get("http://127.0.0.1/ipfs/"+w.build(blog).String()+"/").want(t, 200, blog["index.html"])
}

func TestWrongBytesAre502AndRefusedBlocksAre422(t *testing.T) {
	w, l := newLossyWorld(t, time.Minute)
	w.publish("blog", w.build(blog))
	for kind, want := range map[error]int{blockstore.ErrCorrupt: 502, blockstore.ErrRefused: 422, blockstore.ErrUnavailable: 504} {
		l.happens = func(_ context.Context, c cid.Cid) error { return &blockstore.BlockError{CID: c, Kind: kind} }
		if status, f := w.failure("http://blog.localhost/"); status != want || f.Step != StepRoot {
			t.Errorf("%v: %d %+v", kind, status, f)
		}
	}
}

func TestMalformedContentIs422(t *testing.T) {
	w := newWorld(t, nil)
	c, err := cid.V1Builder{Codec: cid.DagProtobuf, MhType: 0x12}.Sum([]byte("\xff\xff no protobuf"))
	must(t, err)
	b, err := blockstore.CheckBlock(c, []byte("\xff\xff no protobuf"))
	must(t, err)
	s, err := w.store.Begin(t.Context(), "")
	must(t, err)
	defer s.Close()
	_, err = s.Put(t.Context(), b)
	must(t, err)
	for _, path := range []string{"/", "/x", "/x/y"} {
		if status, f := w.failure("http://127.0.0.1/ipfs/" + c.String() + path); status != 422 || f.Kind != KindMalformed {
			t.Errorf("%s: %d %+v", path, status, f)
		}
	}
}

func TestResponseThatBreaksOffIsNoWholeResponse(t *testing.T) {
	w, l := newLossyWorld(t, 300*time.Millisecond)
	root := w.build(blog)
	w.publish("blog", root)
	big, err := merkle.Resolve(t.Context(), w.store, root, "big.bin")
	must(t, err)
	b, err := w.store.Get(t.Context(), big)
	must(t, err)
	links, err := merkle.Links(b)
	must(t, err)
	last := links[len(links)-1]
	l.happens = func(ctx context.Context, c cid.Cid) error {
		if !c.Equals(last) {
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	}
	for _, ask := range []string{"http://blog.localhost/big.bin", "http://127.0.0.1/ipfs/" + root.String() + "?format=car", "http://127.0.0.1/ipfs/" + root.String() + "?format=car&car-dups=y", "http://127.0.0.1/ipfs/" + root.String() + "?format=tar"} {
		r, err := w.try(http.MethodGet, ask)
		if err == nil {
			t.Errorf("%s: a clean end after %d bytes, status %d", ask, len(r.body), r.StatusCode)
		}
		if ask == "http://blog.localhost/big.bin" && !strings.HasPrefix(blog["big.bin"], r.body) {
			t.Errorf("bytes were sent that are not the file's")
		}
	}
	// What does not need the block is served whole.
	w.get("http://blog.localhost/big.bin", "Range", "bytes=0-99").want(t, 206, blog["big.bin"][:100])
}

// fixedNames answers every name alike.
type fixedNames struct{ err error }

func (n fixedNames) Follow(ctx context.Context, name naming.Name) ([]naming.Resolution, cid.Cid, error) {
	if n.err == nil {
		<-ctx.Done()
		return nil, cid.Undef, errors.Join(naming.ErrUnavailable, ctx.Err())
	}
	return nil, cid.Undef, n.err
}

func TestNameFailuresNameTheirStep(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		kind   Kind
	}{
		{&naming.ResolveError{Kind: naming.ErrNotFound, Answers: []naming.Answer{{Source: "host bob", Err: naming.ErrNotFound}}}, 404, KindNotFound},
		{&naming.ResolveError{Kind: naming.ErrUnavailable, Answers: []naming.Answer{{Source: "host bob", Err: errors.New("connection refused")}}}, 504, KindUnavailable},
		{&naming.ResolveError{Kind: naming.ErrExpired, Answers: []naming.Answer{{Source: "host bob", Err: naming.ErrExpired}}}, 502, KindUntrusted},
		{&naming.ResolveError{Kind: naming.ErrOlder, Answers: []naming.Answer{{Source: "host bob", Err: naming.ErrOlder}}}, 502, KindUntrusted},
		{naming.ErrSignature, 502, KindUntrusted},
		{naming.ErrLoop, 502, KindUntrusted},
		{nil, 504, KindUnavailable}, // hangs
	} {
		w := newWorld(t, func(cfg *Config) { cfg.Names, cfg.RetrievalTimeout = fixedNames{c.err}, 300*time.Millisecond })
		name := w.publish("blog", w.build(blog))
		for _, url := range []string{"http://blog.localhost/x", "http://127.0.0.1/ipns/" + name.String() + "/x"} {
			status, f := w.failure(url)
			if status != c.status || f.Kind != c.kind || f.Step != StepRecord || f.Name != name.String() {
				t.Errorf("%v: %d %+v", c.err, status, f)
			}
			var re *naming.ResolveError
			if errors.As(c.err, &re) && (len(f.Asked) != 1 || !strings.HasPrefix(f.Asked[0], "host bob: ")) {
				t.Errorf("%v: asked %q", c.err, f.Asked)
			}
		}
	}
}

func TestErrorsAreTextJSONOrHTMLAndEscaped(t *testing.T) {
	w := newWorld(t, nil)
	for accept, contentType := range map[string]string{
		"":                                  "text/plain; charset=utf-8",
		"*/*":                               "text/plain; charset=utf-8",
		"application/json":                  "application/problem+json",
		"application/problem+json":          "application/problem+json",
		"text/html;q=0.5, application/json": "application/problem+json",
		"text/html;q=0, */*":                "text/plain; charset=utf-8",
		"text/html,application/xml":         "text/html; charset=utf-8",
		"application/json, text/html":       "text/html; charset=utf-8",
	} {
		r := w.get("http://127.0.0.1/ipns/nonsense/%3Cscript%3E%1b%5b31m%E2%80%AE", "Accept", accept)
		r.want(t, 400, "")
		r.wantHeader(t, "Content-Type", contentType)
		r.wantHeader(t, "X-Content-Type-Options", "nosniff")
		r.wantHeader(t, "Etag", "")
		html, json := strings.HasPrefix(contentType, "text/html"), contentType == "application/problem+json"
		if html && strings.Contains(r.body, "<script>") || strings.Contains(r.body, "\x1b") || !json && strings.Contains(r.body, "\u202e") {
			t.Errorf("%q: not escaped: %q", accept, r.body)
		}
	}
}

func TestOnlyIfCachedAsksNobody(t *testing.T) {
	w, l := newLossyWorld(t, time.Minute)
	root := w.build(blog)
	l.happens = func(_ context.Context, c cid.Cid) error {
		return &blockstore.BlockError{CID: c, Kind: blockstore.ErrUnavailable}
	}
	w.get("http://127.0.0.1/ipfs/"+root.String()+"/docs/", "Cache-Control", "only-if-cached").want(t, 412, "")
	l.happens = nil
	w.get("http://127.0.0.1/ipfs/"+root.String()+"/docs/", "Cache-Control", "only-if-cached").want(t, 200, "")
}
