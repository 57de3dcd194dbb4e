package author_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
)

// behindHost is a host of the site that refuses its records, and shows what the test puts into shows.
func (a *alone) behindHost(site naming.Name) (shows *naming.Record) {
	a.t.Helper()
	shows = new(naming.Record)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut:
			http.Error(w, "a better one is kept here", http.StatusConflict)
		case r.Method == http.MethodGet && !shows.IsZero():
			w.Header().Set("Content-Type", naming.MediaType)
			_, _ = w.Write(shows.Bytes())
		default:
			http.NotFound(w, r)
		}
	}))
	a.t.Cleanup(s.Close)
	id, err := peer.Decode("12D3KooWGRUoG1rVKgDKbQkS2pUoXSv8xgyHbCyGe7TpsoHoNk3V")
	if err == nil {
		err = a.state.PutHost(a.t.Context(), state.Host{ID: id, Name: "alice", URL: s.URL})
	}
	if err == nil {
		err = a.state.PutHolding(a.t.Context(), state.Holding{Site: site, Host: id, NamePin: "pin"})
	}
	if err != nil {
		a.t.Fatal(err)
	}
	return shows
}

func TestAHostThatBelievesAThiefIsNoLostRace(t *testing.T) {
	a := newAlone(t)
	p := a.publish(0)
	signer, err := a.keys.Signer("blog")
	if err != nil {
		t.Fatal(err)
	}
	*a.behindHost(signer.Name()), err = signer.Sign(naming.Statement{
		Value: "/ipfs/bafkqaaa", Sequence: 100, ValidUntil: a.now.Add(day), Recovery: naming.Commitment{1, 2, 3},
	})
	if err != nil {
		t.Fatal(err)
	}
	out, err := a.Renew(t.Context(), author.RestateRequest{Alias: "blog"}, nil)
	if err != nil || out.Sequence != p.Sequence+1 || out.Told != 0 || len(out.Warnings) == 0 {
		t.Errorf("%+v, %v; want it renewed, and a warning", out, err)
	}
}

// deafSink is a place for records that takes none.
type deafSink int

func (s deafSink) String() string { return fmt.Sprint("router ", int(s)) }

func (s deafSink) Put(ctx context.Context, r naming.Record) error { return errors.New("deaf") }

func TestEachPlaceInRoutingThatTakesNothingIsAWarning(t *testing.T) {
	a := newAlone(t)
	a.publish(0)
	const routers = 32
	a.Sinks = func(naming.Name) (out []naming.Sink) {
		for i := range routers {
			out = append(out, deafSink(i))
		}
		return out
	}
	out, err := a.Renew(t.Context(), author.RestateRequest{Alias: "blog"}, nil)
	if err != nil || len(out.Warnings) != routers {
		t.Errorf("%d warnings, %v; want %d", len(out.Warnings), err, routers)
	}
}
