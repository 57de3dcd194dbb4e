package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/replicate"
)

// parted is an orphan each of whose hosts has a machine of its own, with a reader's gateway that hadn't seen it before.
type parted struct {
	*orphan
	net  *network
	gate *node
	held map[*node]bool // to whom the author gave a copy
}

func newParted(t *testing.T) *parted {
	w := newWorld(t, 10)
	o := &parted{orphan: &orphan{world: w}, net: newNetwork(t), held: make(map[*node]bool)}
	o.client = o.net.client
	w.enter = o.net.enter
	for _, name := range []string{"alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi"} {
		o.hosts = append(o.hosts, o.host(name))
	}
	o.gate = o.gateway("gate")

	at := o.net.join("author")
	w.configure("author", "[p2p]\nallow_private = true\nlisten = [\"/ip4/"+at+"/tcp/0\"]\n")
	for _, h := range o.hosts {
		var tok struct{ Token string }
		w.must(&tok, h.home, "token", "create", "author")
		w.tokens[h.Pins] = tok.Token
		w.must(nil, "author", "host", "add", h.Pins, "--token", tok.Token, "--label", "operator="+h.home)
	}
	o.site = w.manyPages(500)
	w.must(&o.pub, "author", "publish", o.site.dir, "--site", "blog", "--copies", fmt.Sprint(wanted), "--availability", "none")
	for _, h := range o.hosts {
		o.held[h] = slices.Contains(o.pub.proved(), h.home)
	}
	if got := o.pub.proved(); len(got) != wanted {
		t.Fatalf("proved by %v, want %d hosts", got, wanted)
	}
	o.forget("author")
	return o
}

// host starts a host on a machine of its own.
func (o *parted) host(name string) *node {
	at := o.net.join(name)
	o.configure(name, hasty)
	args := []string{"--host", "--name", name, "--pins", at + ":8088", "--p2p", "/ip4/" + at + "/tcp/4001"}
	return o.serve(name, append(args, o.knowing()...)...)
}

// gateway starts a reader's gateway on a machine of its own.
func (o *parted) gateway(name string) *node {
	at := o.net.join(name)
	args := []string{"--gateway", "127.0.0.1:8080", "--p2p", "/ip4/" + at + "/tcp/4001"}
	return o.serve(name, append(args, o.knowing()...)...)
}

func (o *parted) knowing() (args []string) {
	for _, h := range o.hosts {
		args = append(args, "--peer", h.Addrs[0])
	}
	return args
}

// reading is a reader who never stops, and what went wrong for him.
type reading struct {
	stop chan struct{}
	done sync.WaitGroup

	mu     sync.Mutex
	pages  int
	failed []string
}

// read has somebody read page after page through a gateway until the test, or end, ends it.
func (o *parted) read(gate *node) *reading {
	r := &reading{stop: make(chan struct{})}
	hc, base := o.net.client(gate.home), origin(gate.Gateway, o.pub.Name+".ipns")
	pages := slices.Sorted(maps.Keys(o.site.files))
	tick := time.NewTicker(120 * time.Millisecond)
	r.done.Go(func() {
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-tick.C:
			case <-r.stop:
				return
			}
			page := pages[i%len(pages)]
			status, got, err := fetch(hc, pageURL(base, page), "")
			r.mu.Lock()
			r.pages++
			if err != nil || status != http.StatusOK || !bytes.Equal(got, o.site.files[page]) {
				r.failed = append(r.failed, fmt.Sprintf("%s: status %d, %d bytes, %v: %.200s", page, status, len(got), err, got))
			}
			r.mu.Unlock()
		}
	})
	o.t.Cleanup(r.end)
	return r
}

func (r *reading) end() {
	select {
	case <-r.stop:
	default:
		close(r.stop)
	}
	r.done.Wait()
}

// served fails the test if a page did not come, or came wrong.
func (r *reading) served(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.failed) > 0 || r.pages == 0 {
		t.Fatalf("%d of %d pages failed: %s", len(r.failed), r.pages, strings.Join(r.failed, "\n"))
	}
}

func TestASiteIsServedThroughoutWhileItsHostsDieComeBackAndAreCutInTwo(t *testing.T) {
	t.Parallel()
	o := newParted(t)
	reader := o.read(o.gate)
	t.Log("published and the author gone")

	// All to whom the author gave it die, one after the other.
	var dead []*node
	for _, h := range o.hosts {
		if !o.held[h] {
			continue
		}
		h.Kill()
		dead = append(dead, h)
		o.until("the copies are back without "+h.home, func() bool { return o.holds(wanted, o.hosts) })
		reader.served(t)
		t.Logf("%s is replaced", h.home)
	}
	// While a standby fetches another one may lose patience, not all of them.
	takes := o.count(replicate.EventTookOver)
	if takes < len(dead) || takes > 2*len(dead) {
		t.Errorf("%d hosts took over for %d that died", takes, len(dead))
	}
	t.Logf("%d hosts took over for %d that died", takes, len(dead))

	// They come back with what they had. The surplus goes, and never more than that.
	for _, h := range dead {
		h.start()
	}
	o.until("the surplus is gone", func() bool {
		o.neverBelow(wanted)
		return o.holds(wanted, o.hosts)
	})
	for _, h := range o.hosts {
		if r, err := o.report(h); err != nil || r.Holds.IsZero() == o.held[h] {
			t.Errorf("%s holds since %v (%v), but by the roster %t", h.home, r.Holds, err, o.held[h])
		}
	}
	reader.served(t)
	t.Log("the dead are back and the surplus is gone")

	o.cutInTwo()
	reader.served(t)
	t.Log("the network was cut in two and is whole again")

	reader.end()
	late := o.gateway("late")
	hc, base := o.net.client("late"), origin(late.Gateway, o.pub.Name+".ipns")
	for page, want := range o.site.files {
		if status, got, err := fetch(hc, pageURL(base, page), ""); err != nil || status != http.StatusOK || !bytes.Equal(got, want) {
			t.Fatalf("%s: status %d, %v", page, status, err)
		}
	}
	t.Logf("%d pages were read meanwhile", reader.pages)
}

// neverBelow fails if fewer hold the site than are wanted. The hosts are asked one after the other, so that
// only what is so twice in a row is so.
func (o *parted) neverBelow(n int) {
	o.t.Helper()
	for range 2 {
		if got, all := o.holders(o.hosts); !all || len(got) >= n {
			return
		}
	}
	o.t.Fatalf("fewer than %d hold the site", n)
}

// cutInTwo parts the network so that both sides have holders, until each has all copies of its own, and mends it.
func (o *parted) cutInTwo() {
	t := o.t
	t.Helper()
	tookBefore, letGoBefore, gotBefore := o.count(replicate.EventTookOver), o.count(replicate.EventLetGo), o.ingress()
	var sides [2][]*node // the gateway's, and the other: with one holder and half of the standbys
	var away []string
	seen := map[bool]int{}
	for _, h := range o.hosts {
		side := 0
		if seen[o.held[h]]++; o.held[h] && seen[true] == 1 || !o.held[h] && seen[false] <= (len(o.hosts)-wanted)/2 {
			side = 1
			away = append(away, h.home)
		}
		sides[side] = append(sides[side], h)
	}
	most := 0
	look := func() {
		if got, all := o.holders(o.hosts); all {
			most = max(most, len(got))
		}
	}
	o.net.part(away...)
	o.until("each side has its copies", func() bool {
		look()
		return o.holds(wanted, sides[0]) && o.holds(wanted, sides[1])
	})
	o.net.mend()
	o.until("the surplus of the cut is gone", func() bool {
		look()
		o.neverBelow(wanted)
		return o.holds(wanted, o.hosts)
	})
	if most > 2*wanted {
		t.Errorf("%d copies while the network was cut in two, want at most %d", most, 2*wanted)
	}
	took, letGo := o.count(replicate.EventTookOver)-tookBefore, o.count(replicate.EventLetGo)-letGoBefore
	if took < wanted || took > 2*wanted || letGo > took {
		t.Errorf("%d took over and %d let go for a cut that took %d copies to either side", took, letGo, wanted)
	}
	t.Logf("%d copies at the most while it was cut, for which %d took over; %d let go after", most, took, letGo)
	if got := o.ingress() - gotBefore; got > int64(took+1)*2*o.pub.Bytes {
		t.Errorf("%d bytes were fetched for %d copies of %d", got, took, o.pub.Bytes)
	}
}

// ingress is how many bytes all hosts have fetched today.
func (o *parted) ingress() (n int64) {
	o.t.Helper()
	for _, h := range o.hosts {
		var u struct {
			Ingress struct{ Bytes int64 } `json:"ingress_today"`
		}
		r := o.try(h.home, "operator", "usage")
		if err := json.Unmarshal(r.out, &u); r.code != 0 || err != nil {
			o.t.Fatalf("usage of %s: exit code %d, %v: %s%s", h.home, r.code, err, r.out, r.stderr)
		}
		n += u.Ingress.Bytes
	}
	return n
}
