package gateway

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/naming"
)

// countedBlocks counts what is read.
type countedBlocks struct {
	blockstore.Getter
	reads atomic.Int64
}

func (c *countedBlocks) Get(ctx context.Context, id cid.Cid) (blockstore.Block, error) {
	c.reads.Add(1)
	return c.Getter.Get(ctx, id)
}

// changingNames is a Names of one root that counts how often it is asked.
type changingNames struct {
	mu      sync.Mutex
	root    cid.Cid
	ttl     time.Duration
	changes uint64
	asked   int
	record  naming.Record
}

func (n *changingNames) Follow(context.Context, naming.Name) ([]naming.Resolution, cid.Cid, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	return []naming.Resolution{{Record: n.record, Fresh: n.ttl}}, n.root, nil
}

func (n *changingNames) Changes() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.changes
}

// ask sends a request to a handler without a connection between; header holds pairs.
func ask(h http.Handler, method, url string, header ...string) *http.Response {
	r := httptest.NewRequest(method, url, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func TestAHotPageReadsNoBlockAndAsksNoName(t *testing.T) {
	blocks := &countedBlocks{}
	w := newWorld(t, func(c *Config) { blocks.Getter = c.Blocks; c.Blocks = blocks })
	w.publish("blog", w.build(blog))
	w.get("http://blog.localhost/docs/").want(t, 200, blog["docs/index.html"])
	before := blocks.reads.Load()
	etag := ""
	for range 5 {
		r := w.get("http://blog.localhost/docs/")
		r.want(t, 200, blog["docs/index.html"])
		etag = r.Header.Get("Etag")
		w.get("http://blog.localhost/docs/", "If-None-Match", `"x", `+etag).want(t, 304, "")
		w.get("http://blog.localhost/docs/", "Range", "bytes=1-2").want(t, 206, "h1")
		w.do(http.MethodHead, "http://blog.localhost/docs/").want(t, 200, "")
		w.get("http://blog.localhost/docs/?utm=1").want(t, 200, blog["docs/index.html"])
	}
	if n := blocks.reads.Load() - before; n != 0 {
		t.Errorf("%d blocks were read for pages that were ready", n)
	}
}

func TestANewReleaseShowsAtOnceThoughTheOldOneIsReady(t *testing.T) {
	w := newWorld(t, nil)
	for i := range 20 {
		page := fmt.Sprintf("release %d", i)
		name := w.publish("blog", w.build(map[string]string{"index.html": page}))
		for _, url := range []string{"http://blog.localhost/", "http://" + name.String() + ".ipns.localhost/", "http://127.0.0.1/ipns/" + name.String() + "/"} {
			for range 3 {
				w.get(url).want(t, 200, page)
			}
		}
	}
}

func TestReadyPagesSayHowLongTheyMayBeKeptNow(t *testing.T) {
	w := newWorld(t, nil)
	one, two := w.build(map[string]string{"index.html": "one"}), w.build(map[string]string{"index.html": "two"})
	name := w.publish("blog", one)
	res, err := w.resolver.Resolve(t.Context(), name)
	must(t, err)
	record, blocks := res.Record, w.store
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(record.ValidUntil().Add(-time.Hour))) // the bubble's clock begins in the past
		names := &changingNames{root: one, ttl: 5 * time.Minute, record: record}
		h, err := New(Config{Blocks: blocks, Names: names})
		must(t, err)
		url := "http://" + name.String() + ".ipns.localhost/"
		want := func(lifetime string, asked int) {
			t.Helper()
			r := ask(h, http.MethodGet, url)
			if got := r.Header.Get("Cache-Control"); r.StatusCode != 200 || got != lifetime || names.asked != asked {
				t.Errorf("status %d, Cache-Control %q, names asked %d times; want %q, %d", r.StatusCode, got, names.asked, lifetime, asked)
			}
			if at, err := http.ParseTime(r.Header.Get("Last-Modified")); err != nil || !at.Equal(time.Now().UTC().Truncate(time.Second)) {
				t.Errorf("Last-Modified %v, want now", at)
			}
		}
		want("public, max-age=300", 1)
		time.Sleep(bindingTime * 9 / 10)
		want("public, max-age=299", 1)
		time.Sleep(bindingTime)
		names.ttl = 400 * time.Millisecond
		want("public, max-age=0", 2)
		time.Sleep(500 * time.Millisecond)
		names.ttl = 0 // it is being asked for again
		want("no-cache", 3)
		want("no-cache", 3)
		names.mu.Lock()
		names.root, names.changes = two, 1
		names.mu.Unlock()
		want("no-cache", 4)
		time.Sleep(time.Hour - 3*time.Second)
		want("no-cache", 5)
	})
}

func TestWhatReadyAnswersDependOnIsNeverMixedUp(t *testing.T) {
	w := newWorld(t, nil)
	root := w.build(blog)
	name := w.publish("blog", root)
	other := w.publish("other", root) // the same content under another name
	for range 3 {
		for host, cors := range map[string]string{"blog.localhost": "", name.String() + ".ipns.localhost": "*", other.String() + ".ipns.localhost": "*", root.String() + ".ipfs.localhost": "*"} {
			r := w.get("http://" + host + "/style.css")
			r.want(t, 200, blog["style.css"])
			r.wantHeader(t, "Access-Control-Allow-Origin", cors)
			r.wantHeader(t, "Content-Security-Policy", "")
			switch id, _, _ := strings.Cut(host, "."); id {
			case "blog":
				r.wantHeader(t, "Ipfs-Uri", "ipns://"+name.String()+"/style.css")
			case root.String():
				r.wantHeader(t, "Ipfs-Uri", "ipfs://"+id+"/style.css")
				r.wantHeader(t, "Cache-Control", immutable)
			default:
				r.wantHeader(t, "Ipfs-Uri", "ipns://"+id+"/style.css")
			}
		}
		r := w.get("http://127.0.0.1/ipfs/" + root.String() + "/style.css")
		r.want(t, 200, blog["style.css"])
		r.wantHeader(t, "Content-Security-Policy", sandbox)
		w.get("http://127.0.0.1/style.css").want(t, 404, "")
		w.get("http://localhost/style.css").want(t, 404, "")
		w.get("http://blog.localhost/style.css", "Accept", "application/vnd.ipld.raw").wantHeader(t, "Content-Type", "application/vnd.ipld.raw")
		w.do(http.MethodPost, "http://blog.localhost/style.css").want(t, 405, "")
	}
}

func TestKeptAnswersStayWithinTheirBytes(t *testing.T) {
	const most = 1 << 20
	w := newWorld(t, func(c *Config) { c.ReadyBytes = most })
	files := map[string]string{}
	for i := range 400 {
		files[fmt.Sprintf("%d.html", i)] = strings.Repeat(fmt.Sprint(i), 10_000)
	}
	w.publish("blog", w.build(files))
	g := w.gateway()
	for range 2 {
		for name, page := range files {
			w.get("http://blog.localhost/"+name).want(t, 200, page)
			if n := g.ready.answers.WeightedSize(); n > most/shareOfAnswers {
				t.Fatalf("%d bytes are kept, more than %d", n, most/shareOfAnswers)
			}
		}
	}
	if g.ready.answers.EstimatedSize() == 0 {
		t.Error("nothing was kept")
	}
}

func TestNothingIsReadyOnceWhatIsDeniedHasChanged(t *testing.T) {
	blocks := &countedBlocks{}
	w := newWorld(t, func(c *Config) { blocks.Getter = c.Blocks; c.Blocks = blocks })
	w.publish("blog", w.build(blog))
	generation := uint64(0)
	g := w.gateway()
	g.ready.generation = func() uint64 { return generation }
	h := http.Handler(g)
	url := "http://blog.localhost/style.css"
	ask(h, http.MethodGet, url)
	read := blocks.reads.Load()
	ask(h, http.MethodGet, url)
	if blocks.reads.Load() != read {
		t.Fatal("the answer was not ready")
	}
	generation++
	ask(h, http.MethodGet, url)
	if blocks.reads.Load() == read {
		t.Error("an answer was given from before the change")
	}
}

func TestOnlyWholeAnswersThatAnybodyMayGetAreKept(t *testing.T) {
	for _, c := range []struct {
		what   string
		header http.Header
		status int
		kept   bool
	}{
		{"plain", http.Header{"Etag": {`"x"`}}, 200, true},
		{"encoded", http.Header{"Vary": {"accept-encoding"}, "Content-Encoding": {"br"}}, 200, true},
		{"by another header", http.Header{"Vary": {"Accept-Encoding, Sec-Fetch-Dest"}}, 200, false},
		{"with a cookie", http.Header{"Set-Cookie": {"a=b"}}, 200, false},
		{"an error", http.Header{}, 404, false},
	} {
		k := &keeping{}
		k.allow("no-cache", time.Time{}, false, 1, nil)
		k.start(c.status, c.header)
		if k.add([]byte("x"), 1); (k.header != nil) != c.kept {
			t.Errorf("%s: kept %t", c.what, k.header != nil)
		}
	}
}
