package testnet

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/node"
)

// patience is for what takes seconds on a machine that isn't busy.
const patience = 2 * time.Minute

const fileBytes = 64 << 10

// TestMain runs more tests beside each other than there are processors: they wait for clocks and for slow links.
func TestMain(m *testing.M) {
	flag.Parse()
	if at := flag.Lookup("test.parallel"); at.Value.String() == at.DefValue {
		_ = at.Value.Set(strconv.Itoa(4 * runtime.NumCPU()))
	}
	m.Run()
}

// site is a folder and what is in it, by path.
type site struct {
	dir   string
	files map[string][]byte
}

// makeSite is a few pages, and files of 64 KiB that make so many bytes, which no two marks share.
func makeSite(n *Net, mark string, size int) site {
	n.t.Helper()
	s := site{n.Dir("site " + mark), map[string][]byte{
		"index.html":   []byte("<h1>" + mark + "</h1>"),
		"docs/a b.txt": []byte("docs of " + mark),
	}}
	noise := rand.NewChaCha8([32]byte{byte(len(mark)), mark[0]})
	for i := range size / fileBytes {
		b := make([]byte, fileBytes)
		_, _ = noise.Read(b)
		s.files[fmt.Sprintf("files/%03d.bin", i)] = b
	}
	for path, b := range s.files {
		file := filepath.Join(s.dir, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			n.t.Fatal(err)
		}
		if err := os.WriteFile(file, b, 0o644); err != nil {
			n.t.Fatal(err)
		}
	}
	return s
}

// publish publishes the site as "blog", with so many copies and no more, and needs that to succeed.
func publish(a *Peer, s site, copies int) author.Published {
	a.net.t.Helper()
	var p author.Published
	if err := a.Call("publish", author.PublishRequest{Dir: s.dir, Alias: "blog", Copies: &copies, MaxCopies: copies}, &p); err != nil {
		a.net.t.Fatalf("publish: %v", err)
	}
	return p
}

// inState is the names of the hosts that a publish reported so.
func inState(p author.Published, state string) (names []string) {
	for _, h := range p.Hosts {
		if h.State == state {
			names = append(names, h.Name)
		}
	}
	slices.Sort(names)
	return names
}

// servesWhole reads every page of the site through the gateway.
func servesWhole(g *Peer, p author.Published, s site) {
	t := g.net.t
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for path, want := range s.files {
		status, got, err := g.Read(ctx, p.Name+".ipns", strings.ReplaceAll(path, " ", "%20"))
		if path == "index.html" {
			status, got, err = g.Read(ctx, p.Name+".ipns", "")
		}
		if err != nil || status != http.StatusOK || !bytes.Equal(got, want) {
			t.Errorf("%s of %s through %s: status %d, %d bytes instead of %d, %v", path, s.dir, g.Name, status, len(got), len(want), err)
		}
	}
}

func soon(d time.Duration) node.Duration { return node.Duration(d) }

// long leaves a test out with -short: it waits for timeouts or slow links.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes seconds; left out with -short")
	}
}

func TestASlowNetworkIsOnlySlow(t *testing.T) {
	t.Parallel()
	long(t)
	n := New(t)
	alice := n.Host("alice")
	bob := n.Host("bob", alice)
	anna := n.Author("anna", alice, bob)
	gate := n.Gateway("gate", alice)
	const delay = 30 * time.Millisecond
	n.Everywhere().Delay(delay)
	s := makeSite(n, "slow", 1<<20)
	began := time.Now()
	p := publish(anna, s, 2)
	if took := time.Since(began); took < 4*delay {
		t.Errorf("it took %s: the links are not slow", took)
	}
	if got := inState(p, author.Proved); !slices.Equal(got, []string{"alice", "bob"}) || !p.Live {
		t.Errorf("proved by %v, live %v, warnings %v", got, p.Live, p.Warnings)
	}
	servesWhole(gate, p, s)
}

func TestAHostCutOffInMidFetchGoesOnWhenItIsBack(t *testing.T) {
	t.Parallel()
	long(t)
	n := New(t)
	alice := n.Host("alice")
	anna := n.Author("anna", alice)
	const size = 8 << 20
	s := makeSite(n, "cut", size)
	around := n.Around(alice)
	before := around.Passed()
	cut := around.CutAfter(size / 2)
	go func() {
		<-cut
		time.AfterFunc(500*time.Millisecond, around.Mend)
	}()
	p := publish(anna, s, 1)
	select {
	case <-cut:
	default:
		t.Fatal("the cut never came")
	}
	if got := inState(p, author.Proved); !slices.Equal(got, []string{"alice"}) || !p.Live {
		t.Errorf("proved by %v, live %v, warnings %v", got, p.Live, p.Warnings)
	}
	// What had come is not fetched again; the slack is what was in flight, talk, and the look from outside.
	if passed := around.Passed() - before; passed > size+size/4 {
		t.Errorf("%d bytes passed for a site of %d", passed, size)
	}
	servesWhole(n.Gateway("gate", alice), p, s)
}

func TestASpareTakesThePlaceOfAHostThatStalls(t *testing.T) {
	t.Parallel()
	long(t)
	n := New(t)
	n.Config = func(c *node.Config) {
		c.Timeouts = node.TimeoutsConfig{Connect: soon(2 * time.Second), Request: soon(5 * time.Second), Resolve: soon(2 * time.Second)}
	}
	hosts := map[string]*Peer{"alice": n.Host("alice"), "bob": n.Host("bob"), "carol": n.Host("carol")}
	anna := n.Author("anna", hosts["alice"], hosts["bob"], hosts["carol"])
	first := publish(anna, makeSite(n, "one", 0), 2)
	holders := inState(first, author.Proved)
	if len(holders) != 2 {
		t.Fatalf("proved by %v", holders)
	}
	n.Around(hosts[holders[0]]).Stall()

	s := makeSite(n, "second", 1<<20)
	p := publish(anna, s, 2)
	proved, away := inState(p, author.Proved), inState(p, author.Unreachable)
	if len(proved) != 2 || slices.Contains(proved, holders[0]) || !slices.Contains(proved, holders[1]) {
		t.Errorf("%s stalls and %s does not; proved by %v", holders[0], holders[1], proved)
	}
	if !slices.Equal(away, holders[:1]) {
		t.Errorf("%v are reported unreachable, want %s: %+v", away, holders[0], p.Hosts)
	}
	servesWhole(n.Gateway("gate", hosts[proved[0]], hosts[proved[1]]), p, s)
}

func TestAGatewayCutOffFromOneHolderServesFromTheOther(t *testing.T) {
	t.Parallel()
	n := New(t)
	alice := n.Host("alice")
	bob := n.Host("bob", alice)
	anna := n.Author("anna", alice, bob)
	gate := n.Gateway("gate", alice, bob)
	s := makeSite(n, "parted", 2<<20)
	p := publish(anna, s, 2)
	anna.Stop()

	parted := n.Between(gate, alice)
	parted.Cut()
	was := parted.Passed()
	if was == 0 {
		t.Error("the gateway never talked with alice: there was nothing to cut")
	}
	servesWhole(gate, p, s)
	if now := parted.Passed(); now != was {
		t.Errorf("%d bytes passed over links that are cut", now-was)
	}
	// The hosts still see each other, and alice still follows the name.
	s2 := makeSite(n, "parted again", 1<<20)
	anna.Restart()
	p2 := publish(anna, s2, 2)
	if got := inState(p2, author.Proved); len(got) != 2 {
		t.Errorf("proved by %v", got)
	}
}

func TestAnAuthorWhomNobodyCanDialPublishes(t *testing.T) {
	t.Parallel()
	n := New(t)
	alice := n.Host("alice")
	bob := n.Host("bob", alice)
	anna := n.Author("anna", alice, bob)
	inbound := n.To(anna)
	inbound.Cut()
	was := inbound.Passed()
	s := makeSite(n, "nat", 2<<20)
	p := publish(anna, s, 2)
	if got := inState(p, author.Proved); len(got) != 2 || !p.Live {
		t.Errorf("proved by %v, live %v, warnings %v", got, p.Live, p.Warnings)
	}
	if now := inbound.Passed(); now != was {
		t.Errorf("%d bytes came in over links that are cut", now-was)
	}
	servesWhole(n.Gateway("gate", bob), p, s)
}

func TestARestartedPeerIsTheSameAtTheSameAddress(t *testing.T) {
	t.Parallel()
	n := New(t)
	alice := n.Host("alice")
	anna := n.Author("anna", alice)
	was := alice.Info()
	alice.Restart()
	now := alice.Info()
	if now.Peer != was.Peer || !slices.Equal(now.Addrs, was.Addrs) {
		t.Errorf("%s at %v became %s at %v", was.Peer, was.Addrs, now.Peer, now.Addrs)
	}
	if slices.Equal(now.Addrs, now.Listen) || len(now.Listen) == 0 {
		t.Errorf("it announces %v and listens on %v: no link in between", now.Addrs, now.Listen)
	}
	if p := publish(anna, makeSite(n, "again", 0), 1); len(inState(p, author.Proved)) != 1 {
		t.Errorf("after the restart: %+v", p.Hosts)
	}
}

// A net leaves nothing behind: the next test would pay for it.
func TestNothingRunsOnAfterANet(t *testing.T) {
	round := func(t *testing.T) {
		n := New(t)
		alice := n.Host("alice")
		anna := n.Author("anna", alice)
		gate := n.Gateway("gate", alice)
		s := makeSite(n, "short", 1<<20)
		servesWhole(gate, publish(anna, s, 1), s)
	}
	t.Run("to start what a process starts once", round)
	before := runtime.NumGoroutine()
	t.Run("a net", round)
	deadline := time.NewTimer(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for runtime.NumGoroutine() > before {
		select {
		case <-tick.C:
		case <-deadline.C:
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), firstLines(stacks[:runtime.Stack(stacks, true)]))
		}
	}
}

// firstLines is the functions in which goroutines stand, with how many do.
func firstLines(stacks []byte) string {
	count := map[string]int{}
	for g := range strings.SplitSeq(string(stacks), "\n\n") {
		lines := strings.Split(g, "\n")
		if i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "created by ") }); i > 0 {
			count[lines[1]+"  "+lines[i]]++
		}
	}
	var b strings.Builder
	for what, n := range count {
		fmt.Fprintf(&b, "%3d %s\n", n, what)
	}
	return b.String()
}
