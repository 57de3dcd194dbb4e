package author

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/replicate"
)

// aHostAt is a host that describes itself by its own clock.
func aHostAt(t *testing.T, name string, clock time.Time) state.Host {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(replicate.NewHostHandler(func(context.Context) (replicate.HostDescription, error) {
		return replicate.HostDescription{Peer: id, Time: clock, Name: name, Addrs: []string{"/ip4/127.0.0.1/tcp/4001/p2p/" + id.String()}}, nil
	}, key))
	t.Cleanup(srv.Close)
	return state.Host{ID: id, Name: name, URL: srv.URL, AddedAt: clock}
}

func TestNothingIsSignedByAClockThatAllHostsContradict(t *testing.T) {
	db, err := state.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	a := New(Config{State: db, Now: func() time.Time { return now }})
	late, later, right := aHostAt(t, "late", now.Add(25*time.Hour)), aHostAt(t, "later", now.Add(48*time.Hour)), aHostAt(t, "right", now)

	_, err = a.refresh(t.Context(), []state.Host{late, later})
	if !errors.Is(err, replicate.ErrClock) {
		t.Fatalf("where all hosts say that it is another day: %v", err)
	}
	for _, want := range []string{"2026-05-01T12:00:00Z", "set this machine's clock"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q lacks %q", err, want)
		}
	}
	// One host's clock says nothing about ours where another agrees; it is planned with as it was.
	hosts, err := a.refresh(t.Context(), []state.Host{late, right})
	if err != nil || len(hosts) != 2 || !hosts[1].SeenAt.Equal(now) || !hosts[0].SeenAt.IsZero() {
		t.Errorf("%+v, %v", hosts, err)
	}
}
