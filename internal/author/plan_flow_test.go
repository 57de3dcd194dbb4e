package author_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/control"
	"github.com/holdfast-sites/holdfast/internal/node"
	"github.com/holdfast-sites/holdfast/replicate"
)

// joined adds a host of which the test knows the token.
func (m *machine) joined(host *machine) (token string) {
	m.t.Helper()
	token = host.token()
	ask[author.HostInfo](m, "host add", author.HostRequest{Where: host.info.Pins, Token: token})
	return token
}

func (m *machine) status(check bool) author.SiteStatus {
	m.t.Helper()
	return ask[node.Sites](m, "status", author.StatusRequest{Alias: "blog", Check: check}).Sites[0]
}

// exactly publishes one page with so many copies and no more.
func (m *machine) exactly(copies int, text string) author.Published {
	m.t.Helper()
	none := 0
	return m.publish(author.PublishRequest{Dir: m.folder("blog", "index.html", text), Alias: "blog", Copies: &copies, Availability: &none})
}

func ops(s author.SitePlan, op string) (hosts []string) {
	for _, c := range s.Changes {
		if c.Op == op {
			hosts = append(hosts, c.Host)
		}
	}
	slices.Sort(hosts)
	return hosts
}

func TestExactlyThePlanThatWasShownIsCarriedOut(t *testing.T) {
	a, h1, h2 := startAuthor(t), startHost(t, "alice"), startHost(t, "bob")
	a.joined(h1)
	a.refused(control.Usage, "no plan was looked at", "apply", author.ApplyRequest{})
	before := a.exactly(1, "one")
	if p := ask[author.Plans](a, "plan", author.PlanRequest{}); !p.Nothing || p.Digest != "" {
		t.Fatalf("there is something to do after a publish: %+v", p)
	}
	a.joined(h2)
	three, two := 3, 2
	few := ask[author.Plans](a, "plan", author.PlanRequest{Alias: "blog", Wants: author.Wants{Copies: &three}})
	if few.Nothing || few.Sites[0].Error == "" {
		t.Fatalf("three copies on two hosts: %+v", few)
	}
	shown := ask[author.Plans](a, "plan", author.PlanRequest{Alias: "blog", Wants: author.Wants{Copies: &two}})
	s := shown.Sites[0]
	if got := ops(s, author.OpHold); !slices.Equal(got, []string{"bob"}) || s.Moves == 0 || s.Moves != s.Least || s.CopiesAfter != 2 || s.AvailabilityAfter <= s.Availability {
		t.Fatalf("%+v", s)
	}
	again := ask[author.Plans](a, "plan", author.PlanRequest{Alias: "blog"})
	if again.Digest != shown.Digest {
		t.Errorf("the same plan has another digest: %s, %s", shown.Digest, again.Digest)
	}

	// What is wanted changes, or a host does: then it is another plan, and nothing is done.
	other := ask[author.Plans](a, "plan", author.PlanRequest{Alias: "blog", Wants: author.Wants{MaxCopies: 5}})
	e := a.refused(control.Conflict, "look at it again with `holdfast plan`", "apply", author.ApplyRequest{Digest: shown.Digest})
	if !strings.Contains(e.Message, "other copies are wanted of blog") {
		t.Errorf("%s", e.Message)
	}
	if st := a.status(false); st.Sequence != before.Sequence || st.Proved != 1 {
		t.Errorf("something was done all the same: %+v", st)
	}

	done := ask[author.Applied](a, "apply", author.ApplyRequest{Digest: other.Digest[:8]})
	if len(done.Sites) != 1 || done.Sites[0].Sequence != before.Sequence+1 || len(done.Sites[0].Hosts) != 2 {
		t.Fatalf("%+v", done)
	}
	if st := a.status(false); st.Proved != 2 || st.Copies != 2 || st.Number != before.Number || st.Root != before.Root || st.SafeUntil == nil {
		t.Errorf("%+v", st)
	}
	if done := ask[author.Applied](a, "apply", author.ApplyRequest{Digest: other.Digest}); !done.Nothing {
		t.Errorf("run again it does something: %+v", done)
	}
	if p := ask[author.Plans](a, "plan", author.PlanRequest{}); !p.Nothing {
		t.Errorf("there is something left to do: %+v", p)
	}
	// What was wanted is remembered: the next publish goes to both.
	if p := a.publish(author.PublishRequest{Dir: a.folder("blog", "index.html", "two"), Alias: "blog"}); p.Copies != 2 || len(p.Hosts) != 2 {
		t.Errorf("%+v", p)
	}
}

func TestStandbysReserveRoomAndFollowTheNameWithoutBeingAskedAgain(t *testing.T) {
	a, h1, h2 := startAuthor(t), startHost(t, "alice"), startHost(t, "bob")
	tokens := map[string]string{"alice": a.joined(h1), "bob": a.joined(h2)}
	p := a.exactly(1, "one")
	st := a.status(false)
	if len(st.Hosts) != 1 || len(st.Standbys) != 1 || st.Standbys[0].State != author.Waiting || st.Standbys[0].Bytes == 0 || strings.Contains(strings.Join(p.Notes, "\n"), "stand by") {
		t.Fatalf("%+v, notes %q", st, p.Notes)
	}
	host := map[string]*machine{"alice": h1, "bob": h2}[st.Standbys[0].Name]
	token := tokens[st.Standbys[0].Name]
	pin := func() replicate.PinStatus {
		t.Helper()
		following, plain := pinsAt(t, host, token)
		if len(following) != 1 || len(plain) != 0 || following[0].Pin.Meta[replicate.MetaRole] != replicate.RoleStandby {
			t.Fatalf("at the standby: %+v %+v", following, plain)
		}
		return following[0]
	}
	first := pin()
	a.exactly(1, "two")
	if again := pin(); again.RequestID != first.RequestID {
		t.Error("a publish has replaced the standby's pin")
	}
	// Then it becomes a holder, and stands by no longer.
	two := 2
	plan := ask[author.Plans](a, "plan", author.PlanRequest{Alias: "blog", Wants: author.Wants{Copies: &two}})
	ask[author.Applied](a, "apply", author.ApplyRequest{Digest: plan.Digest})
	following, plain := pinsAt(t, host, token)
	if len(following) != 1 || len(plain) != 0 || following[0].Pin.Meta[replicate.MetaRole] == replicate.RoleStandby {
		t.Errorf("at the new holder: %+v %+v", following, plain)
	}
	if st := a.status(true); len(st.Hosts) != 2 || len(st.Standbys) != 0 || st.Proved != 2 {
		t.Errorf("%+v", st)
	}
}

func TestLeavingAHostMovesItsCopiesFirst(t *testing.T) {
	a, h1, h2, h3 := startAuthor(t), startHost(t, "alice"), startHost(t, "bob"), startHost(t, "carol")
	a.joined(h1)
	token := a.joined(h2)
	a.exactly(2, "one")
	a.refused(control.Unavailable, "can't be left", "host leave", author.LeaveRequest{Host: "bob"})
	for _, h := range ask[node.Hosts](a, "host list", struct{}{}).Hosts {
		if h.Leaving || !slices.Equal(h.Holds, []string{"blog"}) {
			t.Errorf("after a leave that was refused: %+v", h)
		}
	}
	a.joined(h3)
	left := ask[author.Left](a, "host leave", author.LeaveRequest{Host: "bob"})
	if !left.Gone || len(left.Sites) != 1 || len(left.Warnings) != 0 {
		t.Fatalf("%+v", left)
	}
	if following, plain := pinsAt(t, h2, token); len(following)+len(plain) != 0 {
		t.Errorf("bob keeps %+v %+v", following, plain)
	}
	st := a.status(true)
	var names []string
	for _, h := range st.Hosts {
		names = append(names, h.Name)
	}
	slices.Sort(names)
	if st.Proved != 2 || !slices.Equal(names, []string{"alice", "carol"}) || st.SafeUntil == nil {
		t.Errorf("%+v", st)
	}
	// Forgetting one of the two says what it costs.
	gone := ask[author.HostInfo](a, "host remove", node.Address{Address: "carol"})
	if len(gone.Warnings) != 1 || !strings.Contains(gone.Warnings[0], "blog is left with 1 proved copies of the 2") {
		t.Errorf("%q", gone.Warnings)
	}
}

func TestAHolderBeyondTheFewestDoesNotKeepAPublishBack(t *testing.T) {
	a, h1, h2 := startAuthor(t), startHost(t, "alice"), startHost(t, "bob")
	a.joined(h1)
	a.joined(h2)
	h2.stop()
	one := 1
	p := a.publish(author.PublishRequest{Dir: a.folder("blog", "index.html", "x"), Alias: "blog", Copies: &one})
	if p.Copies != 1 || p.SafeUntil == nil || !strings.Contains(strings.Join(p.Warnings, "\n"), "bob got no copy") {
		t.Errorf("%+v", p)
	}
	if p.Target != author.DefaultAvailability || p.Availability <= 0 || p.Availability >= int64(p.Target)*1000 {
		t.Errorf("one new host is worth %d of %d", p.Availability, p.Target)
	}
}

func TestEventsSayWhoSaysSo(t *testing.T) {
	a, h1, h2 := startAuthor(t), startHost(t, "alice"), startHost(t, "bob")
	a.joined(h1)
	a.joined(h2)
	a.exactly(2, "one")
	h2.stop()
	a.status(true)
	ev := ask[author.SiteEvents](a, "history events", author.EventsRequest{Site: "blog"})
	kinds := make(map[string]int)
	for i, e := range ev.Events {
		kinds[e.Kind]++
		if e.By == "" || e.By == author.ThisMachine && e.ByID != "" || i > 0 && e.At.After(ev.Events[i-1].At) {
			t.Errorf("%+v", e)
		}
	}
	if kinds["published"] != 1 || kinds["proved"] != 2 {
		t.Errorf("%+v", ev.Events)
	}
	if len(ev.Reports) == 0 || ev.Reports[0].Name != "alice" || ev.Reports[0].Role != replicate.RoleHolder {
		t.Errorf("%+v", ev.Reports)
	}
}

func TestLabelsAreTheAuthors(t *testing.T) {
	a, h1 := startAuthor(t), startHost(t, "alice")
	a.joined(h1)
	label := func(l map[string]string) map[string]string {
		t.Helper()
		return ask[author.HostInfo](a, "host label", author.LabelRequest{Host: "alice", Labels: l}).Label
	}
	label(map[string]string{"operator": "al", "region": "EU"})
	if got := label(map[string]string{"region": "", "network": "AS1"}); len(got) != 2 || got["operator"] != "al" || got["network"] != "AS1" {
		t.Errorf("%v", got)
	}
	a.joined(h1) // with a new token
	if h := ask[node.Hosts](a, "host list", struct{}{}).Hosts; len(h) != 1 || len(h[0].Label) != 2 {
		t.Errorf("labels are lost when a host is added again: %+v", h)
	}
	a.refused(control.Usage, "1 to 64 bytes", "host label", author.LabelRequest{Host: "alice", Labels: map[string]string{"x": strings.Repeat("y", 65)}})
	a.refused(control.NotFound, "holdfast host list", "host label", author.LabelRequest{Host: "nobody"})
}

func TestTwoHostsNeverGoByOneName(t *testing.T) {
	a, h1, h2 := startAuthor(t), startHost(t, "alice"), startHost(t, "alice")
	a.joined(h1)
	again := a.add(h2, "")
	if !strings.HasPrefix(again.Name, "alice-") || len(again.Warnings) != 1 {
		t.Errorf("%+v", again)
	}
	a.refused(control.Usage, "choose another --name", "host add", author.HostRequest{Where: h2.info.Pins, Token: h2.token(), Name: "alice"})
	named := ask[author.HostInfo](a, "host add", author.HostRequest{Where: h2.info.Pins, Token: h2.token(), Name: "bob"})
	if renewed := a.add(h2, ""); named.Name != "bob" || renewed.Name != "bob" || len(renewed.Warnings) != 0 {
		t.Errorf("the name that we gave it is lost with a new token: %+v, %+v", named, renewed)
	}
	ask[author.HostInfo](a, "host remove", node.Address{Address: "alice"})
}

func TestAHostWhoseTokenIsRevokedGetsNothingNew(t *testing.T) {
	a, h1, h2 := startAuthor(t), startHost(t, "alice"), startHost(t, "bob")
	a.joined(h1)
	a.exactly(1, "one")
	a.joined(h2)
	ask[node.TokenInfo](h2, "token revoke", node.Address{Address: "anna"})
	two := 2
	p := ask[author.Plans](a, "plan", author.PlanRequest{Alias: "blog", Wants: author.Wants{Copies: &two}})
	if s := p.Sites[0]; p.Digest != "" || p.Nothing || !strings.Contains(s.Error, "its token or terms have ended") {
		t.Errorf("%+v", p)
	}
	a.refused(control.Unavailable, "its token or terms have ended", "apply", author.ApplyRequest{Yes: true})
	for _, h := range ask[node.Hosts](a, "host list", struct{}{}).Hosts {
		if (h.Until != nil) != (h.Name == "bob") {
			t.Errorf("%+v", h)
		}
	}
}

func TestNoPlanIsMadeFromSilence(t *testing.T) {
	a, h1 := startAuthor(t), startHost(t, "alice")
	a.joined(h1)
	a.exactly(1, "one")
	h1.stop()
	a.refused(control.Unavailable, "is this machine online?", "plan", author.PlanRequest{})
}

func TestAHostThatWasAwayIsNotTakenToHoldWhatCameMeanwhile(t *testing.T) {
	a, h1, h2, h3 := startAuthor(t), startHost(t, "alice"), startHost(t, "bob"), startHost(t, "carol")
	hosts := map[string]*machine{"alice": h1, "bob": h2, "carol": h3}
	for _, h := range hosts {
		a.joined(h)
	}
	away := a.exactly(2, "one").Hosts[0].Name
	hosts[away].stop()
	a.exactly(2, "two")
	if p := ask[author.Plans](a, "plan", author.PlanRequest{}).Sites[0]; p.Copies != 2 || p.CopiesAfter != 2 || len(p.Silent) > 0 {
		t.Errorf("%s is counted as a holder: %+v", away, p)
	}
}
