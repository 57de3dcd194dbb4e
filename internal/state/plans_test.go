package state_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
)

func TestTheLastPlansAreKept(t *testing.T) {
	db := fresh(t)
	for i := range 20 {
		p := state.ShownPlan{Digest: fmt.Sprintf("%02d", i), At: start.Add(time.Duration(i) * time.Second), Plan: []byte(`{}`)}
		if err := db.PutPlan(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	plans, err := db.Plans(t.Context())
	if err != nil || len(plans) != 16 || plans[0].Digest != "19" || plans[15].Digest != "04" {
		t.Errorf("%d plans, %v", len(plans), err)
	}
}

func TestABudgetCountsWhatWasMovedSince(t *testing.T) {
	db := fresh(t)
	site := namingtest.Signer(t, "s").Name()
	for h := range 60 {
		if err := db.AddMove(t.Context(), site, start.Add(time.Duration(h)*time.Hour), 10); err != nil {
			t.Fatal(err)
		}
	}
	last := start.Add(59 * time.Hour)
	if n, err := db.Moved(t.Context(), site, last.Add(-23*time.Hour)); err != nil || n != 240 {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := db.Moved(t.Context(), site, start); err != nil || n != 490 { // two days are remembered
		t.Errorf("%d, %v", n, err)
	}
}

func TestWhatAHostSaysLeavesWhatIsOurs(t *testing.T) {
	db := fresh(t)
	h := state.Host{
		ID: namingtest.Signer(t, "a").Name().Peer(), Name: "alice", URL: "http://a", Token: "secret", Labels: map[string]string{"region": "EU"}, AddedAt: start,
	}
	if err := errors.Join(db.PutHost(t.Context(), h), db.LeaveHost(t.Context(), h.ID, true), db.SawHost(t.Context(), h.ID, start, true)); err != nil {
		t.Fatal(err)
	}
	said := state.Host{ID: h.ID, Name: "mallory", Token: "other", FreeBytes: 7, Draining: true, Until: start.Add(time.Hour), SeenAt: start}
	if err := db.DescribedHost(t.Context(), said); err != nil {
		t.Fatal(err)
	}
	if err := db.PutHost(t.Context(), h); err != nil { // as when it is added again
		t.Fatal(err)
	}
	if err := db.DescribedHost(t.Context(), said); err != nil {
		t.Fatal(err)
	}
	got, err := db.Host(t.Context(), h.ID)
	if err != nil || got.Name != "alice" || got.Token != "secret" || got.Labels["region"] != "EU" || !got.Leaving || got.Presence.Up != 1 {
		t.Errorf("%#v %v", got, err)
	}
	if got.FreeBytes != 7 || !got.Draining || !got.Until.Equal(said.Until) {
		t.Errorf("%+v", got)
	}
	nobody := namingtest.Signer(t, "n").Name().Peer()
	if err := db.SawHost(t.Context(), nobody, start, true); err != nil {
		t.Errorf("a look at a host that was removed: %v", err)
	}
	if err := db.LabelHost(t.Context(), nobody, nil); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("labels of nobody: %v", err)
	}
}
