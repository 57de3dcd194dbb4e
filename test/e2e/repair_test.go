package e2e

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// hasty makes seconds of a host's days.
const hasty = `[p2p]
allow_private = true
[repair]
call = "1s"
call_timeout = "2s"
grace = "1s"
delta = "3s"
jitter = "300ms"
fast = "6s"
proof_age = "20s"
surplus = "4s"
break = "3s"
patience_min = "4s"
patience_max = "4s"
audit_every = "4s"
audit_timeout = "4s"
audit_interval = "50ms"
audit_burst = 100
gives_per_hour = 1000
`

const (
	wanted = 3 // copies
	// repairTime is for what takes some of the hosts' days.
	repairTime = 3 * time.Minute
)

// orphan is a site whose author is gone for good, and its hosts.
type orphan struct {
	*world
	client func(home string) *http.Client // of somebody at that host's machine
	name   naming.Name
	pub    published
	site   site
	hosts  []*node           // the honest ones
	peers  map[string]string // of turncoats: peer ids
}

// configure makes a home with a config.toml.
func (w *world) configure(home, toml string) {
	w.t.Helper()
	w.writeFiles(home, map[string][]byte{"config.toml": []byte(toml)})
}

// manyPages is a site of which a reader who takes his time always finds a page that he hasn't read.
func (w *world) manyPages(n int) site {
	files := map[string][]byte{"index.html": []byte("<h1>many pages</h1>")}
	for i := range n {
		files[fmt.Sprintf("%02d/%d.html", i%20, i)] = noise(1000+i%7*500, uint64(i))
	}
	return w.writeFiles("site", files)
}

// forget takes an author away for good, and remembers which site was theirs.
func (o *orphan) forget(author string) {
	o.t.Helper()
	var err error
	if o.name, err = naming.ParseName(o.pub.Name); err != nil {
		o.t.Fatal(err)
	}
	if err := os.RemoveAll(o.home(author)); err != nil {
		o.t.Fatal(err)
	}
}

// report is what a host says of the site.
func (o *orphan) report(h *node) (replicate.SiteReport, error) {
	return replicate.FetchSiteReport(o.t.Context(), o.client(h.home), h.Pins, o.tokens[h.Pins], o.name, time.Now())
}

// holders are those who say that they hold the site, of the living among hosts; false where one of those can't be asked now.
func (o *orphan) holders(among []*node) (out []*node, all bool) {
	for _, h := range among {
		if h.Ended() {
			continue
		}
		r, err := o.report(h)
		if err != nil {
			return nil, false
		}
		if !r.Holds.IsZero() && r.Root.String() == o.pub.Root {
			out = append(out, h)
		}
	}
	return out, true
}

func (o *orphan) holds(n int, among []*node) bool {
	got, all := o.holders(among)
	return all && len(got) == n
}

// count is how often hosts have told of something.
func (o *orphan) count(kind replicate.EventKind) (n int) {
	o.t.Helper()
	for _, h := range o.hosts {
		if h.Ended() {
			continue
		}
		var r replicate.SiteReport
		until(o.t, h.home+" tells what it has seen", func() (ok bool) {
			var err error
			r, err = o.report(h)
			return err == nil
		})
		for _, e := range r.Events {
			if e.Kind == kind {
				n++
			}
		}
	}
	return n
}

// until waits for something that the hosts do, and tells what they say where it doesn't come.
func (o *orphan) until(what string, is func() bool) {
	o.t.Helper()
	end := time.Now().Add(repairTime)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for ; !is(); <-tick.C {
		if time.Now().Before(end) {
			continue
		}
		for _, h := range o.hosts {
			if !h.Ended() {
				r, err := o.report(h)
				o.t.Logf("%s (%s): holds %v, %v\n%s%s", h.home, h.Peer, r.Holds, err, memberLines(r), eventLines(r))
			}
		}
		o.t.Fatalf("not within %s: %s", repairTime, what)
	}
}

func memberLines(r replicate.SiteReport) string {
	var b strings.Builder
	for _, m := range r.Members {
		fmt.Fprintf(&b, "    %d %s seen %s held %s absent %s\n", m.Rank, m.Peer, m.Seen.Format(time.TimeOnly), m.Held.Format(time.TimeOnly), m.Absent.Format(time.TimeOnly))
	}
	return b.String()
}

func eventLines(r replicate.SiteReport) string {
	var b strings.Builder
	for _, e := range r.Events {
		fmt.Fprintf(&b, "    %s %s %s %s\n", e.At.Format(time.TimeOnly), e.Kind, e.Host, e.Detail)
	}
	return b.String()
}

// betrayed is a site that three hosts hold, turncoats among them, and for which three honest ones stand by.
func betrayed(t *testing.T, turncoats ...string) (o *orphan, backup string) {
	w := newWorld(t, 7)
	w.secretly()
	o = &orphan{world: w, client: func(string) *http.Client { return http.DefaultClient }, peers: make(map[string]string)}
	for _, name := range turncoats {
		_, r := w.role("turncoat", name)
		o.peers[name] = r.Peer
		w.add("author", r.Pins, r.Token, name)
	}
	for i, name := range []string{"alice", "bob", "carol", "dave", "erin"}[:wanted-len(turncoats)+3] {
		h := o.honest(name)
		o.hosts = append(o.hosts, h)
		var tok struct{ Token string }
		w.must(&tok, name, "token", "create", "author")
		w.add("author", h.Pins, tok.Token, name)
		if i == wanted-len(turncoats)-1 {
			o.publish() // so that those who are known by now hold the site
		}
	}
	o.publish()
	for _, name := range append(turncoats, "alice") {
		if !slices.Contains(o.pub.proved(), name) {
			t.Fatalf("proved by %v, and not by %s", o.pub.proved(), name)
		}
	}
	backup = w.home("backup")
	w.must(nil, "author", "key", "backup", "blog", "-o", backup)
	if err := os.CopyFS(w.home("saved"), os.DirFS(w.home("author"))); err != nil {
		t.Fatal(err)
	}
	o.forget("author")
	return o, backup
}

// honest starts a host that knows the others.
func (o *orphan) honest(name string) *node {
	o.configure(name, hasty)
	args := []string{"--host", "--name", name, "--pins", "127.0.0.1:0", "--gateway", "127.0.0.1:0", "--p2p", "/ip4/127.0.0.1/tcp/0"}
	for _, h := range o.hosts {
		args = append(args, "--peer", h.Addrs[0])
	}
	return o.serve(name, args...)
}

func (o *orphan) publish() {
	o.t.Helper()
	if o.site.dir == "" {
		o.site = o.manyPages(60)
	}
	o.pub = o.world.publish("author", o.site.dir, "--copies", fmt.Sprint(wanted), "--availability", "none")
}

// proof is when a host had another one prove last that it holds the site.
func (o *orphan) proof(by *node, of string) time.Time {
	r, err := o.report(by)
	if err != nil {
		return time.Time{}
	}
	i := slices.IndexFunc(r.Members, func(m replicate.ReportMember) bool { return m.Peer.String() == of && m.Held.After(m.Absent) })
	if i < 0 {
		return time.Time{}
	}
	return r.Members[i].Held
}

// siteEvents is what history --events tells.
type siteEvents struct {
	Events []struct {
		Kind, By, Detail string
		HostID           string `json:"host_id"`
	}
}

// tell tells whether something happened to one of the peers.
func (s siteEvents) tell(kind string, peers ...string) bool {
	for _, e := range s.Events {
		if e.Kind == kind && slices.Contains(peers, e.HostID) {
			return true
		}
	}
	return false
}

func TestHostsThatLieAreFoundShownAndReplaced(t *testing.T) {
	t.Parallel()
	o, backup := betrayed(t, "mallory", "nora")
	o.turn("mallory", turnForge)
	o.turn("nora", turnDrop)
	o.until("others hold it in their place", func() bool { return o.holds(wanted, o.hosts) })

	// What an author is shown whose whole home was saved.
	var shown struct {
		Sites []struct{ Repairing []string }
	}
	o.must(&shown, "saved", append([]string{"status", "blog"}, loopback...)...)
	all := fmt.Sprint(shown.Sites)
	for _, want := range []string{"mallory was convicted of false proofs", "nora holds nothing any more", "has taken over"} {
		if !strings.Contains(all, want) {
			t.Errorf("status does not say %q, but %s", want, all)
		}
	}

	// And one who has nothing but the key, on another machine.
	o.must(nil, "attic", "key", "restore", backup)
	for _, h := range o.hosts {
		o.add("attic", h.Pins, o.tokens[h.Pins], h.home)
	}
	var h siteEvents
	o.must(&h, "attic", append([]string{"history", "--events", "blog"}, loopback...)...)
	if !h.tell("convicted", o.peers["mallory"]) || !h.tell("absent", o.peers["nora"]) || !h.tell("took_over", o.hosts[1].Peer, o.hosts[2].Peer, o.hosts[3].Peer) {
		t.Errorf("an author who is back is told %+v", h.Events)
	}
	if r := o.try("attic", "status", "blog"); r.code == 0 || !strings.Contains(string(r.out)+r.stderr, "takes it up") {
		t.Errorf("status where only the key is: exit code %d, %s%s", r.code, r.out, r.stderr)
	}
	again := o.world.publish("attic", o.site.dir, "--rebase", "--copies", fmt.Sprint(wanted), "--availability", "none")
	if got := again.proved(); again.Name != o.pub.Name || len(got) != wanted || !again.Live {
		t.Errorf("published again by the one who is back: %+v", again)
	}

	gate := o.gateway("gate", o.hosts[1])
	servedWhole(t, gate.Gateway, o.pub.Name+".ipns", o.site)
}

// What is promised of a copy is that the site could be had from that host in time. A host that gets it elsewhere
// keeps that promise for as long as it can.
func TestAHostThatAnswersFromAnothersDataCountsForAsLongAsTheOtherLives(t *testing.T) {
	t.Parallel()
	o, _ := betrayed(t, "pat")
	alice, bob := o.hosts[0], o.hosts[1]
	turned := time.Now()
	o.turn("pat", turnProxy+alice.Gateway)
	pat := o.peers["pat"]
	o.until("the proxy proves itself", func() bool { return o.proof(bob, pat).After(turned) })
	if o.count(replicate.EventTookOver) != 0 {
		t.Error("somebody took over from a host that answers in time")
	}

	alice.Kill()
	o.until("both are replaced", func() bool { return o.holds(wanted, o.hosts) })
	if !o.proof(bob, pat).IsZero() {
		t.Error("the proxy still counts")
	}
	gate := o.gateway("gate", o.hosts[2])
	servedWhole(t, gate.Gateway, o.pub.Name+".ipns", o.site)
}
