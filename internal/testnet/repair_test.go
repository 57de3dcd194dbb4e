package testnet

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/node"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// hasty is a host whose days are seconds.
func hasty(c *node.Config) {
	c.Repair = node.RepairConfig{
		Call: soon(500 * time.Millisecond), CallTimeout: soon(time.Second), Grace: soon(2 * time.Second), Delta: soon(3 * time.Second),
		Jitter: soon(200 * time.Millisecond), Fast: soon(3 * time.Second), ProofAge: soon(20 * time.Second), Surplus: soon(4 * time.Second),
		Break: soon(4 * time.Second), PatienceMin: soon(2 * time.Second), PatienceMax: soon(2 * time.Second),
		AuditEvery: soon(6 * time.Second), AuditInterval: soon(50 * time.Millisecond), GivesPerHour: 100,
	}
	c.Timeouts.Connect = soon(2 * time.Second)
	if c.Host {
		c.Gateway.Listen = "127.0.0.1:0"
	}
}

// orphaned is five hosts that keep a site whose author is gone for good.
type orphaned struct {
	*Net
	hosts []*Peer // in the order of the roster: the first three held the site when it was published, the others stand by
	pins  map[*Peer]watched
	site  site
	pub   author.Published
	name  naming.Name
}

// watched is a standby's pin, and the client whose it is.
type watched struct {
	*replicate.Client
	id, token string
}

func orphan(t *testing.T, configure ...func(*node.Config)) *orphaned {
	o, anna := cared(t, configure...)
	anna.Stop()
	if err := os.RemoveAll(anna.cfg.Home); err != nil {
		t.Fatal(err)
	}
	return o
}

// cared is the same with the author still there.
func cared(t *testing.T, configure ...func(*node.Config)) (*orphaned, *Peer) {
	long(t)
	o := &orphaned{Net: New(t), pins: map[*Peer]watched{}}
	o.Config = func(c *node.Config) {
		hasty(c)
		for _, more := range configure {
			more(c)
		}
	}
	for i := range 5 {
		o.hosts = append(o.hosts, o.Host(fmt.Sprintf("host%d", i), o.hosts...))
	}
	anna := o.Author("anna", o.hosts...)
	o.site = makeSite(o.Net, "orphan", 1<<20)
	copies, none := 3, 0
	req := author.PublishRequest{Dir: o.site.dir, Alias: "blog", Copies: &copies, Availability: &none}
	if err := anna.Call("publish", req, &o.pub); err != nil {
		t.Fatal(err)
	}
	var err error
	if o.name, err = naming.ParseName(o.pub.Name); err != nil {
		t.Fatal(err)
	}
	policy := o.policy(anna)
	for _, h := range o.hosts[3:] {
		o.standBy(h, policy)
	}
	return o, anna
}

// policy is the CID of the site's policy; the hosts are sorted by its roster.
func (o *orphaned) policy(anna *Peer) cid.Cid {
	o.t.Helper()
	var got author.NameRecord
	if err := anna.Call("name get", node.Address{Address: o.pub.Name}, &got); err != nil {
		o.t.Fatal(err)
	}
	rec, err := naming.OpenRecord(o.name, got.Record, time.Now())
	if err != nil {
		o.t.Fatal(err)
	}
	store, err := blockOf(o.hosts, rec.Policy())
	if err != nil {
		o.t.Fatal(err)
	}
	pol, err := replicate.DecodePolicy(store)
	if err != nil || pol.Copies != 3 || len(pol.Roster) != 5 {
		o.t.Fatalf("%+v, %v", pol, err)
	}
	rank := func(p *Peer) int {
		return slices.IndexFunc(pol.Roster, func(m replicate.Member) bool { return m.ID.String() == p.Info().Peer })
	}
	slices.SortFunc(o.hosts, func(a, b *Peer) int { return rank(a) - rank(b) })
	return rec.Policy()
}

// blockOf gets a block from the first host that sends it.
func blockOf(hosts []*Peer, c cid.Cid) (b blockstore.Block, err error) {
	for _, h := range hosts {
		var resp *http.Response
		if resp, err = http.Get(h.Info().Gateway + "/ipfs/" + c.String() + "?format=raw"); err != nil {
			continue
		}
		data, rerr := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err = rerr; err == nil && resp.StatusCode == http.StatusOK {
			return blockstore.CheckBlock(c, data)
		}
	}
	return b, errors.Join(err, errors.New("nobody has it"))
}

// standBy pins the policy at a host, as an author's plan does.
func (o *orphaned) standBy(h *Peer, policy cid.Cid) {
	o.t.Helper()
	var tok node.NewToken
	if err := h.Call("token create", node.Address{Address: "watcher"}, &tok); err != nil {
		o.t.Fatal(err)
	}
	c := replicate.NewClient(h.cfg.Pins.URL, tok.Token, nil)
	st, err := c.Add(o.t.Context(), replicate.Pin{CID: policy, Name: "blog", Meta: map[string]string{
		replicate.MetaName: o.pub.Name, replicate.MetaRole: replicate.RoleStandby, replicate.MetaMaxBytes: "10000000",
	}})
	if err != nil {
		o.t.Fatal(err)
	}
	o.pins[h] = watched{c, st.RequestID, tok.Token}
	o.until(h.Name+" stands by", func() bool { return o.info(h)[replicate.InfoSequence] != "" })
}

// info is what a standby says of its pin; empty where it can't be asked.
func (o *orphaned) info(h *Peer) map[string]string {
	st, err := o.pins[h].Get(o.t.Context(), o.pins[h].id)
	if err != nil {
		return nil
	}
	return st.Info
}

func (o *orphaned) holds(h *Peer) bool { return o.info(h)[replicate.InfoHolds] != "" }

// report is what a standby has seen; empty where it can't be asked.
func (o *orphaned) report(h *Peer) replicate.SiteReport {
	r, err := replicate.FetchSiteReport(o.t.Context(), nil, h.cfg.Pins.URL, o.pins[h].token, o.name, time.Now())
	if err != nil {
		return replicate.SiteReport{}
	}
	return r
}

// sees tells whether a standby has seen another member prove itself since then.
func (o *orphaned) sees(by, whom *Peer, since time.Time) bool {
	for _, m := range o.report(by).Members {
		if m.Peer.String() == whom.Info().Peer {
			return m.Held.After(since) && !m.Absent.After(m.Held)
		}
	}
	return false
}

// told tells whether a standby has told of such an event.
func (o *orphaned) told(by *Peer, kind replicate.EventKind, about *Peer) bool {
	return slices.ContainsFunc(o.report(by).Events, func(e replicate.Event) bool {
		return e.Kind == kind && e.Host.String() == about.Info().Peer
	})
}

// until waits for something that takes a host's day or two.
func (o *orphaned) until(what string, is func() bool) {
	o.t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !is(); <-tick.C {
		if time.Now().After(end) {
			for h := range o.pins {
				o.t.Logf("%s: %v\n%+v", h.Name, o.info(h), o.report(h))
			}
			o.t.Fatalf("never: %s", what)
		}
	}
}

func TestASiteOutlivesItsAuthorAndOneHolderAfterTheOther(t *testing.T) {
	t.Parallel()
	o := orphan(t)
	h := o.hosts
	o.settled()
	if o.holds(h[3]) || o.holds(h[4]) {
		t.Fatal("a standby holds the site though nobody is gone")
	}
	h[0].Stop()
	took := time.Now().Add(-time.Second) // a report's times are whole seconds
	o.until("the first standby takes over", func() bool { return o.holds(h[3]) })
	o.until("the other has it prove that", func() bool { return o.sees(h[4], h[3], took) })
	if o.holds(h[4]) {
		t.Error("the second standby took over, too")
	}

	h[0].Restart()
	o.until("the standby lets go", func() bool { return !o.holds(h[3]) && o.info(h[3]) != nil })
	if !o.told(h[3], replicate.EventTookOver, h[3]) || !o.told(h[3], replicate.EventLetGo, h[3]) || !o.told(h[3], replicate.EventBack, h[0]) {
		t.Errorf("told %+v", o.report(h[3]).Events)
	}

	h[1].Stop()
	o.until("the first standby takes over again", func() bool { return o.holds(h[3]) })
	h[2].Stop()
	o.until("and then the second", func() bool { return o.holds(h[4]) })
	h[0].Stop()
	h[3].Stop()
	// Nobody is left who had ever met the author: name and content come from the last standby.
	servesWhole(o.Gateway("gate", h[4]), o.pub, o.site)
}

func TestAHostThatAnswersAndHoldsNothingIsReplaced(t *testing.T) {
	t.Parallel()
	o := orphan(t)
	h := o.hosts
	o.settled()
	h[1].Stop()
	loseAllBut(t, h[1].cfg.Home, "identity.key")
	h[1].Restart()
	// Whoever of the two has it prove itself first.
	o.until("a standby takes over", func() bool { return o.holds(h[3]) || o.holds(h[4]) })
	for _, by := range h[3:] {
		if o.holds(by) && !o.told(by, replicate.EventAbsent, h[1]) && !o.told(by, replicate.EventGone, h[1]) {
			t.Errorf("told %+v", o.report(by).Events)
		}
	}
}

func TestAKeeperThatIsRestartedInATakeOverGoesOn(t *testing.T) {
	t.Parallel()
	o := orphan(t)
	h := o.hosts
	o.settled()
	o.Around(h[3]).Delay(100 * time.Millisecond) // so that the fetch takes a while
	h[2].Stop()
	o.until("the standby begins", func() bool { return o.told(h[3], replicate.EventTookOver, h[3]) })
	h[3].Restart()
	o.until("it goes on", func() bool { return o.holds(h[3]) })
}

// standbysSee tells whether both have had all holders prove themselves.
func (o *orphaned) standbysSee() bool {
	for _, by := range o.hosts[3:] {
		for _, of := range o.hosts[:3] {
			if !o.sees(by, of, time.Time{}) {
				return false
			}
		}
	}
	return true
}

// loseAllBut empties a home, but for one file: a disk that was replaced.
func loseAllBut(t *testing.T, home, file string) {
	t.Helper()
	entries, err := os.ReadDir(home)
	for _, e := range entries {
		if err == nil && e.Name() != file {
			err = os.RemoveAll(filepath.Join(home, e.Name()))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}
