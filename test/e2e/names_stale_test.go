package e2e

import (
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// numbered writes a site of one page that says which release it is.
func (w *world) numbered(number int) site {
	w.t.Helper()
	return w.writeFiles(fmt.Sprintf("site-%d", number), map[string][]byte{"index.html": fmt.Appendf(nil, "<h1>release %d</h1>", number)})
}

// copyHome copies a home whose process has ended, modes and all.
func (w *world) copyHome(from, to string) {
	w.t.Helper()
	src, dst := w.home(from), w.home(to)
	err := filepath.WalkDir(src, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, p)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(dst, rel), info.Mode().Perm())
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dst, rel), b, info.Mode().Perm())
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// goBack ends a host as a power cut would, and starts it at its addresses on an older copy of its disk.
func (w *world) goBack(h *node, older string) {
	w.t.Helper()
	h.Kill()
	if err := os.RemoveAll(w.home(h.home)); err != nil {
		w.t.Fatal(err)
	}
	w.copyHome(older, h.home)
	h.comeBack()
}

// reader is somebody who looks at a site again and again, and takes note of what was shown.
type reader struct {
	who  string
	look func() (release uint64, err error)

	mu    sync.Mutex
	seen  map[uint64]int
	last  error  // of the last look
	older string // the first look at one older than the newest
}

// watch looks until the channel is closed.
func (r *reader) watch(newest uint64, done <-chan struct{}) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		release, err := r.look()
		r.mu.Lock()
		r.last = err
		if err == nil {
			r.seen[release]++
			if release < newest && r.older == "" {
				r.older = fmt.Sprintf("release %d at %s, after %v", release, time.Now().Format("15:04:05.000"), r.seen)
			}
		}
		r.mu.Unlock()
		select {
		case <-done:
			return
		case <-tick.C:
		}
	}
}

// String is what was seen.
func (r *reader) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return fmt.Sprintf("%s: releases and how often %v, at last %v", r.who, r.seen, r.last)
}

func (r *reader) times(release uint64) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen[release]
}

// pageReader reads the page at a gateway, which may be away.
func pageReader(who, gateway, name string) *reader {
	hc, url := browser(gateway), origin(gateway, name+".ipns")+"/"
	return &reader{who: who, seen: map[uint64]int{}, look: func() (release uint64, err error) {
		status, body, err := fetch(hc, url, "")
		if err != nil {
			return 0, err
		}
		if status != http.StatusOK {
			return 0, fmt.Errorf("status %d: %.100s", status, body)
		}
		_, err = fmt.Sscanf(string(body), "<h1>release %d</h1>", &release)
		return release, err
	}}
}

// recordReader asks a host's routing API as any IPFS client does.
func recordReader(who, base, name string) *reader {
	hc := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	return &reader{who: who, seen: map[uint64]int{}, look: func() (uint64, error) {
		status, body, err := fetch(hc, base+"/routing/v1/ipns/"+name, naming.MediaType)
		if err != nil {
			return 0, err
		}
		if status != http.StatusOK {
			return 0, fmt.Errorf("status %d: %.100s", status, body)
		}
		return sequenceOf(name, body)
	}}
}

func sequenceOf(name string, raw []byte) (uint64, error) {
	n, err := naming.ParseName(name)
	if err != nil {
		return 0, err
	}
	rec, err := naming.OpenStored(n, raw)
	return rec.Sequence(), err
}

// router is a delegated router that takes every record, and remembers the sequences.
type router struct {
	*httptest.Server
	mu    sync.Mutex
	taken []uint64
}

func newRouter(t *testing.T) *router {
	r := &router{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		raw, err := io.ReadAll(req.Body)
		if req.Method != http.MethodPut || err != nil {
			http.NotFound(w, req)
			return
		}
		sequence, err := sequenceOf(path.Base(req.URL.Path), raw)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.taken = append(r.taken, sequence)
	}))
	t.Cleanup(r.Close)
	return r
}

// since is what was taken after the first n records.
func (r *router) since(n int) []uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]uint64(nil), r.taken[min(n, len(r.taken)):]...)
}

// holders starts hosts that have gateways of their own and hand records to a router, too.
func (w *world) holders(router string, names ...string) (out []*node) {
	w.t.Helper()
	for _, name := range names {
		config := fmt.Appendf(nil, "[p2p]\nrouters = [%q]\n", router)
		w.writeFiles(name, map[string][]byte{"config.toml": config})
		args := []string{"--host", "--name", name, "--pins", "127.0.0.1:0", "--gateway", "127.0.0.1:0", "--p2p", "/ip4/127.0.0.1/tcp/0"}
		for _, h := range out {
			args = append(args, "--peer", h.Addrs[0])
		}
		out = append(out, w.serve(name, args...))
	}
	return out
}

// putSince waits until a host's relay has put the name after a moment.
func (w *world) putSince(h *node, name string, since time.Time) {
	w.t.Helper()
	until(w.t, h.home+" has put the name since its start", func() bool {
		for _, p := range w.pins(h.ready) {
			at, err := time.Parse(time.RFC3339, p.Info[replicate.InfoNamePut])
			// What hosts tell is in whole seconds.
			if p.Pin.Meta[replicate.MetaName] == name && err == nil && !at.Before(since.Truncate(time.Second)) {
				return true
			}
		}
		return false
	})
}

func TestNoReaderSeesAnOlderReleaseWhereHoldersComeBackFromOldDisks(t *testing.T) {
	t.Parallel()
	for _, stale := range [][]int{{0}, {2}, {0, 1}, {1, 2}} {
		t.Run(strings.Trim(strings.ReplaceAll(fmt.Sprint(stale), " ", "and"), "[]"), func(t *testing.T) {
			t.Parallel()
			comeBackFromOldDisks(t, stale)
		})
	}
}

// comeBackFromOldDisks has the hosts of these numbers come back with what they had at release 1, when the others have
// release 3 and the author is gone.
func comeBackFromOldDisks(t *testing.T, stale []int) {
	w := newWorld(t, 7)
	took := newRouter(t)
	hosts := w.holders(took.URL, "alice", "bob", "carol")
	w.know("author", hosts...)
	name := w.publish("author", w.numbered(1).dir).Name
	for _, i := range stale {
		hosts[i].stop()
		w.copyHome(hosts[i].home, hosts[i].home+"-old")
		hosts[i].comeBack()
	}
	for number := 2; number <= 3; number++ {
		if p := w.publish("author", w.numbered(number).dir); p.Sequence != uint64(number) || len(p.proved()) != 3 {
			t.Fatalf("release %d: %+v", number, p)
		}
	}
	before := w.gateway("before", hosts...)
	if saw, err := pageReader("", before.Gateway, name).look(); saw != 3 {
		t.Fatalf("before the accident a reader sees release %d: %v", saw, err)
	}
	before.stop()
	if err := os.RemoveAll(w.home("author")); err != nil {
		t.Fatal(err)
	}

	old := hosts[stale[0]]
	alone, all := w.gateway("alone", old), w.gateway("all", hosts...)
	before.comeBack()
	readers := []*reader{
		pageReader("a gateway that knows only "+old.home, alone.Gateway, name),
		pageReader("a gateway that knows all", all.Gateway, name),
		pageReader("a gateway that had seen release 3", before.Gateway, name),
	}
	for _, i := range stale {
		readers = append(readers,
			pageReader(hosts[i].home+"'s own gateway", hosts[i].Gateway, name),
			recordReader(hosts[i].home+"'s routing API", hosts[i].Pins, name))
	}
	// Nobody looks before the accident: what was seen then would hide what comes after.
	for _, i := range stale {
		hosts[i].Kill()
	}
	done, earlier := make(chan struct{}), len(took.since(0))
	var watching sync.WaitGroup
	for _, r := range readers {
		watching.Go(func() { r.watch(3, done) })
	}
	defer watching.Wait()
	stop := sync.OnceFunc(func() { close(done) })
	defer stop()
	began := time.Now()
	for _, i := range stale {
		w.goBack(hosts[i], hosts[i].home+"-old")
	}
	late := pageReader("a gateway that was started later", w.gateway("late", old).Gateway, name)
	readers = append(readers, late)
	watching.Go(func() { late.watch(3, done) })
	for _, i := range stale {
		w.putSince(hosts[i], name, began)
	}
	for _, r := range readers {
		first := r.times(3)
		until(t, r.who+" goes on seeing release 3", func() bool { return r.times(3) >= first+30 || r.older != "" })
	}
	stop()
	watching.Wait()
	for _, r := range readers {
		t.Log(r)
		if r.older != "" {
			t.Errorf("%s saw %s", r.who, r.older)
		}
	}
	for _, sequence := range took.since(earlier) {
		if sequence != 3 {
			t.Errorf("the router was handed sequence %d after release 3", sequence)
		}
	}
	var got struct{ Sequence uint64 }
	w.must(&got, "stranger", append([]string{"name", "resolve", name, "--peer", old.Addrs[0]}, loopback...)...)
	if got.Sequence != 3 {
		t.Errorf("a stranger resolves sequence %d", got.Sequence)
	}
	for _, h := range hosts {
		if saw, err := recordReader("", h.Pins, name).look(); saw != 3 {
			t.Errorf("%s keeps release %d: %v", h.home, saw, err)
		}
	}
}
