package author

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
	"github.com/holdfast-sites/holdfast/replicate"
)

var testNow = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// keeperOf is an author with a site and a pinning service, of whom nobody is asked.
func keeperOf(t *testing.T, pins ...state.ServicePin) (*Author, state.Site) {
	t.Helper()
	db, err := state.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	site := state.Site{Name: namingtest.Signer(t, "site").Name(), Alias: "blog", Root: namingtest.CID("new"), PublishedAt: testNow}
	if err := db.PutSite(t.Context(), site); err != nil {
		t.Fatal(err)
	}
	s := state.Service{URL: "https://api.example/psa", Name: "cloud", Labels: map[string]string{"operator": "cloud"}, AddedAt: testNow}
	if err := db.PutService(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	for _, p := range pins {
		p.Service, p.Site = s.URL, site.Name
		if err := db.PutServicePin(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	return New(Config{State: db, Now: func() time.Time { return testNow }}), site
}

func TestAPinningServiceIsInAPlanWhatItIsAndNoMore(t *testing.T) {
	newest, before := namingtest.CID("new"), namingtest.CID("before")
	pinned := func(root cid.Cid, sampled replicate.Verdict, attempts int) state.ServicePin {
		return state.ServicePin{Root: root, Status: replicate.Pinned, Sampled: sampled, Attempts: attempts}
	}
	for name, c := range map[string]struct {
		pins             []state.ServicePin
		holds, reachable bool
	}{
		"not asked yet":       {nil, false, true},
		"says pinned":         {[]state.ServicePin{pinned(newest, "", 0)}, true, true},
		"the release before":  {[]state.ServicePin{pinned(before, "", 0), {Root: newest, Status: replicate.Pinning}}, true, true},
		"still at it":         {[]state.ServicePin{{Root: newest, Status: replicate.Queued}}, false, true},
		"sampled":             {[]state.ServicePin{pinned(newest, replicate.Proved, 0)}, true, true},
		"sampled and lacking": {[]state.ServicePin{pinned(newest, replicate.NotHeld, 0)}, false, true},
		"a gateway was down":  {[]state.ServicePin{pinned(newest, replicate.Unreachable, 0)}, true, true},
		"silent for long":     {[]state.ServicePin{pinned(newest, "", manyFailures)}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			a, site := keeperOf(t, c.pins...)
			got, err := a.thirdPartyObservations(t.Context(), site.Name, site.Root)
			if err != nil || len(got) != 1 {
				t.Fatal(got, err)
			}
			o := got[0]
			if !o.Unproved || o.Holds != c.holds || o.Reachable != c.reachable || o.Name != "cloud" || o.Labels["operator"] != "cloud" {
				t.Errorf("%+v", o)
			}
			if id, err := peer.Decode(o.Host.String()); err == nil {
				t.Errorf("it passes for the peer %s", id)
			}
			_, err = replicate.Plan(replicate.Desired{Site: site.Name, Root: site.Root, Copies: 1}, got, testNow)
			if !errors.Is(err, replicate.ErrTooFewHosts) {
				t.Errorf("a plan counts it as a copy: %v", err)
			}
		})
	}
}

func TestANameThatNobodyPutsAgainIsFoundForTwoDays(t *testing.T) {
	a, site := keeperOf(t)
	ctx := t.Context()
	found := func(wanted, relaying int, want time.Time) {
		t.Helper()
		if got, err := a.nameFoundUntil(ctx, site, wanted, relaying); err != nil || !got.Equal(want) {
			t.Errorf("%d of %d relay: %s, %v; want %s", relaying, wanted, got, err, want)
		}
	}
	found(3, 3, time.Time{})
	found(1, 2, time.Time{})
	found(3, 2, testNow.Add(48*time.Hour))
	found(0, 0, testNow.Add(48*time.Hour))
	later := testNow.Add(time.Hour)
	if err := a.State.NotePut(ctx, naming.Put{Name: site.Name, Sink: "the DHT", Sequence: 1, At: later}); err != nil {
		t.Fatal(err)
	}
	found(3, 0, later.Add(48*time.Hour))
	if err := a.State.NotePut(ctx, naming.Put{Name: site.Name, Sink: "the DHT", Sequence: 1, At: later.Add(time.Hour), Err: errors.New("nobody there")}); err != nil {
		t.Fatal(err)
	}
	found(3, 0, later.Add(48*time.Hour)) // a failed put is none
}

func TestAServiceThatFailsIsAskedEverMoreSeldom(t *testing.T) {
	fails := errors.New("500")
	for attempts, want := range map[int]time.Duration{1: time.Minute, 2: 2 * time.Minute, 5: 16 * time.Minute, 10: 6 * time.Hour, 1000: 6 * time.Hour} {
		if got := askAgain(attempts, fails); got != want {
			t.Errorf("after %d failures: %s, want %s", attempts, got, want)
		}
	}
	if got := askAgain(1, &replicate.BusyError{After: 24 * time.Hour, Err: fails}); got != 24*time.Hour {
		t.Errorf("one that wants a day: %s", got)
	}
}
