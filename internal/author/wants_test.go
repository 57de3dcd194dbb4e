package author

import (
	"errors"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

func num(n int) *int { return &n }

func TestAWantStaysUntilAnotherIsSaid(t *testing.T) {
	was := Wants{Copies: num(4), Regions: []string{"EU"}, BytesPerDay: 2e9, MaxCopies: 6, Keep: 3, Lifetime: time.Hour}
	for _, tt := range []struct {
		name string
		now  Wants
		want Wants
	}{
		{"nothing said", Wants{}, was},
		{"copies", Wants{Copies: num(2)}, Wants{Copies: num(2), Regions: []string{"EU"}, BytesPerDay: 2e9, MaxCopies: 6, Keep: 3, Lifetime: time.Hour}},
		{"undone", Wants{Regions: []string{AnyRegion}, BytesPerDay: NoBudget, MaxCopies: -1}, Wants{Copies: num(4), Keep: 3, Lifetime: time.Hour}},
		{"regions in any order", Wants{Regions: []string{"US", "EU", "US"}, MaxCopies: -1, BytesPerDay: NoBudget}, Wants{Copies: num(4), Regions: []string{"EU", "US"}, Keep: 3, Lifetime: time.Hour}},
	} {
		if got := over(tt.now, was); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
	for name, w := range map[string]Wants{
		"copies below 0": {Copies: num(-1)}, "more than a roster": {Copies: num(65)}, "the most below the least": {Copies: num(3), MaxCopies: 2},
		"always": {Availability: num(1_000_000)}, "any and one": {Regions: []string{AnyRegion, "EU"}}, "life": {Lifetime: -1}, "keep": {Keep: 65},
	} {
		if err := checkWants(w); !errors.Is(err, ErrUsage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNoCopiesAreRememberedOnlyWhileThereIsNoHost(t *testing.T) {
	db, err := state.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	name, err := naming.ParseName("k51qzi5uqu5dl716nzvdqnvfvlerkdkd5fwglpli6wfq7kxpu3r14f9f25v7cx")
	if err != nil {
		t.Fatal(err)
	}
	if err := db.PutSite(t.Context(), state.Site{Name: name, Alias: "blog", Wants: Wants{Copies: num(0), Keep: 5}}); err != nil {
		t.Fatal(err)
	}
	a := New(Config{State: db})
	for hosts, want := range map[int]*int{0: num(0), 2: nil} {
		p := &publication{req: PublishRequest{Alias: "blog"}}
		if err := a.settleWants(t.Context(), p, hosts); err != nil || !reflect.DeepEqual(p.wants.Copies, want) || p.keep() != 5 {
			t.Errorf("with %d hosts: %+v, %v", hosts, p.wants, err)
		}
	}
}

func TestAPolicyIsSignedAnewOnlyWhereItSaysSomethingElse(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	year := 365 * 24 * time.Hour
	pol := replicate.Policy{Copies: 3, Keep: 2}
	first := lastingPolicy(pol, replicate.Policy{}, now, now.Add(year))
	if !first.Expires.After(now.Add(year)) || first.Expires.After(now.Add(year+40*24*time.Hour)) {
		t.Errorf("it expires %s", first.Expires)
	}
	for days := range 30 {
		at := now.Add(time.Duration(days) * 24 * time.Hour)
		if next := lastingPolicy(pol, first, at, at.Add(year)); !next.Expires.Equal(first.Expires) {
			t.Fatalf("another policy after %d days", days)
		}
	}
	late := now.Add(60 * 24 * time.Hour)
	if next := lastingPolicy(pol, first, late, late.Add(year)); next.Expires.Before(late.Add(year)) {
		t.Error("a policy expires before the record that names it")
	}
	pol.Copies = 4
	if next := lastingPolicy(pol, first, now, now.Add(year)); next.Copies != 4 {
		t.Error("a policy that says something else was not taken")
	}
	if last := lastingPolicy(pol, first, now, time.Unix(lastSecond, 0)); last.Expires.Unix() > lastSecond {
		t.Error("a policy that no format can tell")
	}
}

func TestHostsInOneNetworkAreGroupedUnlessTheAuthorKnowsBetter(t *testing.T) {
	hosts := map[peer.ID]state.Host{
		"a": {Addrs: []string{"/ip4/127.0.0.1/tcp/1", "/ip4/192.168.1.9/tcp/1", "/ip4/203.0.113.7/udp/4001/quic-v1"}},
		"b": {Addrs: []string{"/ip4/203.0.113.200/tcp/1"}},
		"c": {Addrs: []string{"/ip4/203.0.113.1/tcp/1"}},
		"d": {Addrs: []string{"/ip6/2001:db8:1:2::1/tcp/1"}},
		"e": {Addrs: []string{"/ip6/2001:db8:1:ffff::1/tcp/1"}},
		"f": {Addrs: []string{"/ip4/127.0.0.1/tcp/1"}},
		"g": {Addrs: []string{"/ip4/127.0.0.1/tcp/2", "/dns4/x.example/tcp/1"}},
		"h": {Addrs: []string{"/ip4/198.51.100.1/tcp/1"}},
	}
	var observed []replicate.Observation
	for _, id := range []peer.ID{"a", "b", "c", "d", "e", "f", "g", "h"} {
		o := replicate.Observation{Host: id, Labels: map[string]string{"region": "EU"}}
		if id == "c" {
			o.Labels[replicate.LabelNetwork] = "AS1"
		}
		observed = append(observed, o)
	}
	groupNetworks(observed, hosts)
	want := []string{"203.0.113.0/24", "203.0.113.0/24", "AS1", "2001:db8:1::/48", "2001:db8:1::/48", "", "", ""}
	for i, o := range observed {
		if o.Labels[replicate.LabelNetwork] != want[i] || o.Labels["region"] != "EU" {
			t.Errorf("%s: %v, want %q", o.Host, o.Labels, want[i])
		}
	}
}

func TestThatNobodyAnswersSaysNothingAboutHosts(t *testing.T) {
	db, err := state.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	a := New(Config{State: db, Now: func() time.Time { return now }})
	up, gone := aHostAt(t, "up", now), aHostAt(t, "gone", now)
	gone.URL = "http://127.0.0.1:1"
	for _, h := range []state.Host{up, gone} {
		if err := db.PutHost(t.Context(), h); err != nil {
			t.Fatal(err)
		}
	}
	looks := func() (up, down int) {
		t.Helper()
		h, err := db.HostByName(t.Context(), "gone")
		if err != nil {
			t.Fatal(err)
		}
		return h.Presence.Up, h.Presence.Down
	}
	if _, err := a.refresh(t.Context(), []state.Host{gone}); err != nil {
		t.Fatal(err)
	}
	if u, d := looks(); u+d != 0 {
		t.Errorf("%d up, %d down, though it may have been us", u, d)
	}
	if _, err := a.refresh(t.Context(), []state.Host{gone, up}); err != nil {
		t.Fatal(err)
	}
	if u, d := looks(); u != 0 || d != 1 {
		t.Errorf("%d up, %d down, while another host answered", u, d)
	}
}
