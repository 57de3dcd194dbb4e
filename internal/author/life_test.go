package author_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
)

const day = 24 * time.Hour

// alone is an author without a network, by whose clock it is now what the test says.
type alone struct {
	*author.Author
	t     *testing.T
	now   time.Time
	state *state.DB
	keys  *naming.Keyring
}

func newAlone(t *testing.T) *alone {
	t.Helper()
	a := &alone{t: t, now: time.Date(2026, 1, 10, 12, 0, 0, 0, time.UTC)}
	clock := func() time.Time { return a.now }
	var err error
	if a.state, err = state.Open(t.Context(), filepath.Join(t.TempDir(), "state.db")); err != nil {
		t.Fatal(err)
	}
	if a.keys, err = naming.OpenKeyring(filepath.Join(t.TempDir(), "keys")); err != nil {
		t.Fatal(err)
	}
	store := blockstore.NewMemory()
	resolver := naming.NewResolver(naming.ResolverConfig{Records: a.state, Now: clock})
	t.Cleanup(func() {
		resolver.Close()
		store.Close()
		if err := a.state.Close(); err != nil {
			t.Error(err)
		}
	})
	a.Author = author.New(author.Config{Store: store, State: a.state, Keys: a.keys, Resolver: resolver, Now: clock})
	return a
}

// publish publishes one page, for a lifetime or, with 0, for as long as usual.
func (a *alone) publish(life time.Duration) author.Published {
	a.t.Helper()
	dir := a.t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "index.html"), []byte("<h1>one</h1>"), 0o644); err != nil {
		a.t.Fatal(err)
	}
	p, err := a.Publish(a.t.Context(), author.PublishRequest{Dir: dir, Alias: "blog", Alone: true, Lifetime: life}, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	return p
}

// proved writes down that one copy is wanted, and that a host has proved it.
func (a *alone) proved() {
	a.t.Helper()
	s, err := a.state.SiteByAlias(a.t.Context(), "blog")
	if err != nil {
		a.t.Fatal(err)
	}
	s.Copies = 1
	if err := a.state.PutSite(a.t.Context(), s); err != nil {
		a.t.Fatal(err)
	}
	host, err := peer.Decode("12D3KooWGRUoG1rVKgDKbQkS2pUoXSv8xgyHbCyGe7TpsoHoNk3V")
	if err != nil {
		a.t.Fatal(err)
	}
	hold := state.Holding{Site: s.Name, Host: host, Root: s.Root, State: author.Proved, VerifiedAt: a.now, NamePin: "pin"}
	if err := a.state.PutHolding(a.t.Context(), hold); err != nil {
		a.t.Fatal(err)
	}
}

// status is the status of the only site there is.
func (a *alone) status() author.SiteStatus {
	a.t.Helper()
	all, err := a.Status(a.t.Context(), author.StatusRequest{}, nil)
	if err != nil || len(all) != 1 {
		a.t.Fatalf("%d sites, %v", len(all), err)
	}
	return all[0]
}

// wantEnd wants a status that names the end of the name's life, and of the promise that its copies make.
func (a *alone) wantEnd(when string, st author.SiteStatus, end time.Time) {
	a.t.Helper()
	for what, got := range map[string]*time.Time{"valid_until": st.ValidUntil, "name_life": st.NameLife.ValidUntil, "safe_until": st.SafeUntil} {
		if got == nil || !got.Equal(end) {
			a.t.Errorf("%s: %s is %v, want %s", when, what, got, end)
		}
	}
}

// wantWarnings wants one warning that holds all of the words, or none at all.
func (a *alone) wantWarnings(when string, st author.SiteStatus, words ...string) {
	a.t.Helper()
	if len(words) == 0 {
		if len(st.Warnings) > 0 {
			a.t.Errorf("%s: warned of %q", when, st.Warnings)
		}
		return
	}
	for _, w := range words {
		if len(st.Warnings) != 1 || !strings.Contains(st.Warnings[0], w) {
			a.t.Errorf("%s: the warnings are %q, want one with %q", when, st.Warnings, w)
		}
	}
}

func TestStatusSaysWhenTheNameEndsAndWarnsFromThirtyDaysBefore(t *testing.T) {
	a := newAlone(t)
	end := a.now.Add(365 * day)
	a.publish(0)
	a.proved()
	for _, tt := range []struct {
		when   string
		before time.Duration
		words  []string
	}{
		{"on the first day", 365 * day, nil},
		{"40 days before the end", 40 * day, nil},
		{"30 days and a second before the end", 30*day + time.Second, nil},
		{"30 days before the end", 30 * day, []string{"ends in 30 days"}},
		{"29 days before the end", 29 * day, []string{"ends in 29 days", "`holdfast name renew blog`"}},
		{"a day before the end", day, []string{"ends in a day", "`holdfast name renew blog`"}},
		{"an hour before the end", time.Hour, []string{"ends in less than a day"}},
		{"at the end", 0, []string{"ended on 2027-01-10"}},
		{"a week after the end", -7 * day, []string{"ended on 2027-01-10", "nobody can find the site by it", "`holdfast name renew blog`"}},
	} {
		a.now = end.Add(-tt.before)
		st := a.status()
		a.wantEnd(tt.when, st, end)
		a.wantWarnings(tt.when, st, tt.words...)
	}
}

func TestARenewalMovesTheEndAndTakesTheWarningAway(t *testing.T) {
	for when, before := range map[string]time.Duration{"29 days before the end": 29 * day, "a week after it": -7 * day} {
		t.Run(when, func(t *testing.T) {
			a := newAlone(t)
			p := a.publish(0)
			a.now = a.now.Add(365*day - before)
			if len(a.status().Warnings) != 1 {
				t.Fatalf("before the renewal: %+v", a.status())
			}
			end := a.now.Add(365 * day)
			got, err := a.Renew(t.Context(), author.RestateRequest{Alias: "blog"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got.Sequence != p.Sequence+1 || got.Value != "/ipfs/"+p.Root || got.ValidUntil == nil || !got.ValidUntil.Equal(end) {
				t.Errorf("the renewal says %+v", got)
			}
			a.proved()
			st := a.status()
			a.wantEnd("after the renewal", st, end)
			a.wantWarnings("after the renewal", st)
			if st.Root != p.Root || st.Release != p.Release || st.Number != p.Number {
				t.Errorf("a renewal is no release: %+v", st)
			}
		})
	}
}

func TestARenewalNeverShortensTheLifeThatWasPromised(t *testing.T) {
	a := newAlone(t)
	end := a.now.Add(365 * day)
	a.publish(0)
	a.now = a.now.Add(day)
	got, err := a.Renew(t.Context(), author.RestateRequest{Alias: "blog", Lifetime: 30 * day}, nil)
	if err != nil || got.ValidUntil == nil || !got.ValidUntil.Equal(end) {
		t.Errorf("%+v, %v; want the end to stay %s", got, err, end)
	}
}

// A name that was to live shortly is warned of from the first day.
func TestAShortLifeIsWarnedOfAtOnce(t *testing.T) {
	a := newAlone(t)
	end := a.now.Add(10 * day)
	a.publish(10 * day)
	a.proved()
	st := a.status()
	a.wantEnd("on the first day", st, end)
	a.wantWarnings("on the first day", st, "ends in 10 days")
}

func TestSafeUntilIsTheEarliestEndOfWhatTheCopiesRestOn(t *testing.T) {
	a := newAlone(t)
	a.publish(0)
	a.proved()
	s, err := a.state.SiteByAlias(t.Context(), "blog")
	if err != nil {
		t.Fatal(err)
	}
	holdings, err := a.state.Holdings(t.Context(), s.Name)
	if err != nil {
		t.Fatal(err)
	}
	for _, end := range []time.Time{a.now.Add(90 * day), a.now.Add(9000 * day), {}} {
		if err := a.state.PutHost(t.Context(), state.Host{ID: holdings[0].Host, Name: "alice", Until: end}); err != nil {
			t.Fatal(err)
		}
		want := a.now.Add(365 * day)
		if !end.IsZero() && end.Before(want) {
			want = end
		}
		if st := a.status(); st.SafeUntil == nil || !st.SafeUntil.Equal(want) {
			t.Errorf("a token that ends %s: safe until %v, want %s", end, st.SafeUntil, want)
		}
	}
}
