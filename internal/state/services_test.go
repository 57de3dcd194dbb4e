package state_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
	"github.com/holdfast-sites/holdfast/replicate"
)

func pinata() state.Service {
	return state.Service{
		URL: "https://api.example/psa", Name: "example", Token: "a-secret-token", Labels: map[string]string{"operator": "example"},
		Gateways: []string{"https://gw.example"}, AddedAt: time.UnixMicro(1e15).UTC(),
	}
}

func TestAServiceIsKeptUnderItsURLAndForgottenWithItsPins(t *testing.T) {
	db, ctx, s := fresh(t), t.Context(), pinata()
	for range 2 {
		if err := db.PutService(ctx, s); err != nil {
			t.Fatal(err)
		}
	}
	other := state.Service{URL: "https://other.example", Name: "example", AddedAt: s.AddedAt.Add(time.Second)}
	if err := db.PutService(ctx, other); err != nil {
		t.Fatal(err)
	}
	if got, err := db.ServiceByName(ctx, s.URL); err != nil || fmt.Sprint(got.Gateways, got.Labels, got.Token) != fmt.Sprint(s.Gateways, s.Labels, s.Token) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := db.ServiceByName(ctx, "example"); !errors.Is(err, state.ErrConflict) {
		t.Errorf("two of that name: %v", err)
	}
	site := namingtest.Signer(t, "site").Name()
	pin := state.ServicePin{
		Service: s.URL, Site: site, Root: namingtest.CID("root"), Request: "17", Status: replicate.Pinned, AskedAt: s.AddedAt,
		Due: s.AddedAt.Add(time.Hour), Sampled: replicate.Proved, SampledAt: s.AddedAt, Detail: "16 leaves",
	}
	for _, p := range []state.ServicePin{pin, {Service: other.URL, Site: site, Root: pin.Root, Status: replicate.Queued}} {
		if err := db.PutServicePin(ctx, p); err != nil {
			t.Fatal(err)
		}
	}
	pins, err := db.ServicePins(ctx, site)
	if err != nil || len(pins) != 2 || pins[0] != pin {
		t.Fatalf("%+v, %v", pins, err)
	}
	if err := db.RemoveService(ctx, s.URL); err != nil {
		t.Fatal(err)
	}
	if err := db.RemoveService(ctx, s.URL); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("twice: %v", err)
	}
	if pins, err = db.ServicePins(ctx, site); err != nil || len(pins) != 1 || pins[0].Service != other.URL {
		t.Fatalf("%+v, %v", pins, err)
	}
	if err := db.RemoveServicePin(ctx, pins[0]); err != nil {
		t.Fatal(err)
	}
	if pins, err = db.ServicePins(ctx, site); err != nil || len(pins) != 0 {
		t.Fatalf("%+v, %v", pins, err)
	}
}

func TestAServiceShowsItsTokenNowhereAndIsNoPeer(t *testing.T) {
	s := pinata()
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("got", "service", s)
	js, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if shown := fmt.Sprintf("%v %+v %#v %s", s, s, s, log.String()) + string(js); strings.Contains(shown, s.Token) {
		t.Errorf("the token is in %s", shown)
	}
	if id, err := peer.Decode(s.PlanID().String()); err == nil {
		t.Errorf("it passes for the peer %s", id)
	}
	if other := (state.Service{URL: s.URL + "/2"}); other.PlanID() == s.PlanID() {
		t.Error("two services are one in a plan")
	}
}
