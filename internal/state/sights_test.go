package state_test

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
	"github.com/holdfast-sites/holdfast/replicate"
)

func hostID(t *testing.T, label string) peer.ID {
	t.Helper()
	return namingtest.Signer(t, "host "+label).Name().Peer()
}

func TestWhatAKeeperSawOutlivesTheProcess(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "state.db"))
	site, alice := namingtest.Signer(t, "site").Name(), hostID(t, "alice")
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	var want replicate.Seen
	for i := range 5 {
		at := at.Add(time.Duration(i) * 5 * time.Minute)
		want.Look(at, i != 3, replicate.Times{})
		if err := db.Look(t.Context(), alice, at, i != 3, replicate.Times{}); err != nil {
			t.Fatal(err)
		}
	}
	sight := replicate.Sighting{Ask: at.Add(time.Hour), Gone: at.Add(time.Minute), Trial: replicate.Trial{Score: -7, Miss: at}}
	sight.Proofs = replicate.Sight{Asked: at, Since: at, Absent: at.Add(-time.Hour)}
	sight.Proofs.Held = at.Add(time.Microsecond)
	watch := replicate.Watch{Short: at, Jitter: 17 * time.Millisecond, Failing: at.Add(time.Second)}
	if err := db.Sighted(t.Context(), site, alice, func(s *replicate.Sighting) { s.Trial.Score = 1 }); err != nil {
		t.Fatal(err)
	}
	err := db.Sighted(t.Context(), site, alice, func(s *replicate.Sighting) {
		if s.Trial.Score != 1 {
			t.Errorf("the one before: %+v", s)
		}
		*s = sight
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.PutWatch(t.Context(), site, watch); err != nil {
		t.Fatal(err)
	}
	path := db.Path()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db, err = state.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if got, err := db.Presences(t.Context()); err != nil || !reflect.DeepEqual(got, map[peer.ID]replicate.Seen{alice: want}) {
		t.Errorf("%+v, %v\nwant %+v", got, err, want)
	}
	if got, err := db.Sightings(t.Context(), site); err != nil || !reflect.DeepEqual(got, map[peer.ID]replicate.Sighting{alice: sight}) {
		t.Errorf("%+v, %v\nwant %+v", got, err, sight)
	}
	if got, err := db.Watch(t.Context(), site); err != nil || got != watch {
		t.Errorf("%+v, %v", got, err)
	}
	if err := db.ForgetSite(t.Context(), site); err != nil {
		t.Fatal(err)
	}
	if left, err := db.WatchedSites(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
	if got, err := db.Watch(t.Context(), site); err != nil || got != (replicate.Watch{}) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestTheNewestEventsOfEachSiteAreKept(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "state.db"))
	noisy, quiet := namingtest.Signer(t, "noisy").Name(), namingtest.Signer(t, "quiet").Name()
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	add := func(site naming.Name, kind replicate.EventKind, n int) replicate.Event {
		e := replicate.Event{Site: site, At: at.Add(time.Duration(n) * time.Second), Kind: kind, Host: hostID(t, "alice"), Detail: fmt.Sprint(n)}
		if err := db.AddEvent(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		return e
	}
	one := add(quiet, replicate.EventLetGo, 0)
	var last replicate.Event
	for i := range replicate.MaxEvents + 10 {
		last = add(noisy, replicate.EventMissed, i)
	}
	got, err := db.Events(t.Context(), noisy, 1000)
	if err != nil || len(got) != replicate.MaxEvents || got[0] != last || got[len(got)-1].Detail != "10" {
		t.Errorf("%d events, %v", len(got), err)
	}
	if got, err := db.Events(t.Context(), quiet, 1000); err != nil || !slices.Equal(got, []replicate.Event{one}) {
		t.Errorf("%v, %v", got, err)
	}
	if n, err := db.CountEvents(t.Context(), replicate.EventLetGo, at); err != nil || n != 1 {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := db.CountEvents(t.Context(), replicate.EventLetGo, at.Add(time.Second)); err != nil || n != 0 {
		t.Errorf("%d, %v", n, err)
	}
}

func TestOnlyPinnedStandbysOfANameHaveTheirTurn(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "state.db"))
	site, other := namingtest.Signer(t, "site").Name(), namingtest.Signer(t, "other").Name()
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	lease := replicate.Lease{By: "w", Now: at, Until: at.Add(time.Minute)}
	add := func(id string, n naming.Name, role string, status replicate.Status) {
		t.Helper()
		row := replicate.PinRow{ID: id, Tenant: "t", Created: at, Status: replicate.Queued, Due: at, Pin: replicate.Pin{
			CID: namingtest.CID(id), Meta: map[string]string{replicate.MetaName: n.String(), replicate.MetaRole: role},
		}}
		addPin(t, db, row)
		row, err := db.LeasePin(t.Context(), id, lease)
		if err != nil {
			t.Fatal(err)
		}
		row.Status, row.Due = status, time.Time{}
		if err := db.SavePin(t.Context(), row, "w", true); err != nil {
			t.Fatal(err)
		}
	}
	add("standby", site, replicate.RoleStandby, replicate.Pinned)
	add("queued", site, replicate.RoleStandby, replicate.Queued)
	add("holder", site, replicate.RoleHolder, replicate.Pinned)
	add("elsewhere", other, replicate.RoleStandby, replicate.Pinned)
	for i := range 2 {
		if n, err := db.BeginTurn(t.Context(), site, at.Add(time.Duration(i)*time.Second)); err != nil || n != 1 {
			t.Fatalf("%d active, %v", n, err)
		}
	}
	turns := func() (ids []string) {
		rows, err := db.NamePins(t.Context(), naming.Name{})
		if err != nil || len(rows) != 4 {
			t.Fatalf("%d rows, %v", len(rows), err)
		}
		for _, r := range rows {
			if !r.Active.IsZero() {
				ids = append(ids, fmt.Sprint(r.ID, r.Active.Equal(at), !r.Holds.IsZero()))
			}
		}
		return ids
	}
	if got := turns(); !slices.Equal(got, []string{"standbytrue false"}) {
		t.Errorf("%v", got)
	}
	if row, err := db.LeaseNext(t.Context(), replicate.WorkStanding, lease); err != nil || row.ID != "standby" || !row.Active.Equal(at) {
		t.Errorf("%+v, %v", row, err)
	}
	for _, id := range []string{"standby", "holder"} {
		if err := db.NoteHolds(t.Context(), id, at); err != nil {
			t.Fatal(err)
		}
	}
	if got := turns(); !slices.Equal(got, []string{"standbytrue true"}) {
		t.Errorf("%v", got)
	}
	if err := db.EndTurn(t.Context(), site, at); err != nil || turns() != nil {
		t.Errorf("%v, %v", turns(), err)
	}
}
