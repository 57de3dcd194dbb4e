package author_test

import (
	"fmt"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/state"
)

func TestPublishesAtOnceOfANewSiteMakeOneKeyAndForgetNothingThatWasWanted(t *testing.T) {
	a := startAuthor(t)
	requests := []author.PublishRequest{{Keep: 3}, {Lifetime: 48 * time.Hour}, {MaxCopies: 7}, {BytesPerDay: 1 << 30}}
	var asking sync.WaitGroup
	for i, req := range requests {
		req.Alias, req.Alone, req.Dir = "blog", true, a.folder(fmt.Sprint("blog", i), "index.html", fmt.Sprint("page ", i))
		asking.Go(func() {
			if err := a.call.Call(t.Context(), "publish", req, nil, nil); err != nil {
				t.Error(err)
			}
		})
	}
	asking.Wait()
	a.stop()
	db, err := state.Open(t.Context(), filepath.Join(a.dir, "home", "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	site, err := db.SiteByAlias(t.Context(), "blog")
	want := author.Wants{Keep: 3, Lifetime: 48 * time.Hour, MaxCopies: 7, BytesPerDay: 1 << 30}
	if err != nil || !reflect.DeepEqual(site.Wants, want) || site.Number != 4 {
		t.Errorf("%+v, %v; want release 4, and of its copies %+v", site, err, want)
	}
}

func TestLabelsThatAreGivenAtOnceAreAllThere(t *testing.T) {
	a := newAlone(t)
	id, err := peer.Decode("12D3KooWGRUoG1rVKgDKbQkS2pUoXSv8xgyHbCyGe7TpsoHoNk3V")
	if err == nil {
		err = a.state.PutHost(t.Context(), state.Host{ID: id, Name: "alice", URL: "https://alice.example"})
	}
	if err != nil {
		t.Fatal(err)
	}
	var giving sync.WaitGroup
	for i := range 8 {
		giving.Go(func() {
			req := author.LabelRequest{Host: "alice", Labels: map[string]string{fmt.Sprint("label", i): "yes"}}
			if _, err := a.LabelHost(t.Context(), req); err != nil {
				t.Error(err)
			}
		})
	}
	giving.Wait()
	if h, err := a.state.Host(t.Context(), id); err != nil || len(h.Labels) != 8 {
		t.Errorf("%v, %v", h.Labels, err)
	}
}
