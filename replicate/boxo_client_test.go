package replicate_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	boxo "github.com/ipfs/boxo/pinning/remote/client"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/holdfast-sites/holdfast/naming/namingtest"
	"github.com/holdfast-sites/holdfast/replicate"
)

// TestKubosClientPinsListsReplacesAndDeletes is the whole life of a pin by the client that Kubo and IPFS Cluster have,
// every answer of ours held to the specification as well.
func TestKubosClientPinsListsReplacesAndDeletes(t *testing.T) {
	a := newAPI(t)
	a.serve()
	ctx := t.Context()
	c := boxo.NewClient(a.url, a.token)
	v1, v2 := a.site("v1", 3, 100), a.site("v2", 3, 100)
	origin, err := ma.NewMultiaddr(someAddr)
	if err != nil {
		t.Fatal(err)
	}
	meta := map[string]string{"app": "kubo"}

	st, err := c.Add(ctx, v1, boxo.PinOpts.WithName("site"), boxo.PinOpts.WithOrigins(origin), boxo.PinOpts.AddMeta(meta))
	if err != nil {
		t.Fatal(err)
	}
	id, p := st.GetRequestId(), st.GetPin()
	if p.GetCid() != v1 || p.GetName() != "site" || !maps.Equal(p.GetMeta(), meta) || !slices.Equal(p.GetOrigins(), []string{someAddr}) {
		t.Errorf("added %s", st)
	}
	if d := st.GetDelegates(); len(d) != 1 || d[0].String() != someAddr {
		t.Errorf("delegates %v", d)
	}
	a.waitStatus(id, replicate.Pinned)
	if st, err = c.GetStatusByID(ctx, id); err != nil || st.GetStatus() != boxo.StatusPinned || st.GetInfo()[replicate.InfoBytes] == "" {
		t.Errorf("get: %v, %v", st, err)
	}
	next, err := c.Replace(ctx, id, v2, boxo.PinOpts.WithName("site"))
	if err != nil || next.GetRequestId() == id {
		t.Fatalf("replace: %v, %v", next, err)
	}
	a.waitGone(id)
	list, err := c.LsSync(ctx, boxo.PinOpts.FilterName("site"))
	if err != nil || len(list) != 1 || list[0].GetRequestId() != next.GetRequestId() || list[0].GetPin().GetCid() != v2 {
		t.Errorf("list after the replace: %v, %v", list, err)
	}
	if err := c.DeleteByID(ctx, next.GetRequestId()); err != nil {
		t.Errorf("delete: %v", err)
	}
	if _, err := c.GetStatusByID(ctx, next.GetRequestId()); err == nil {
		t.Error("it is there after it was deleted")
	}
	if err := c.DeleteByID(ctx, next.GetRequestId()); err == nil {
		t.Error("it was deleted twice")
	}
}

func TestKubosClientFindsAndPages(t *testing.T) {
	a := newAPI(t)
	ctx := t.Context()
	c := boxo.NewClient(a.url, a.token)
	const all = 23
	for i := range all { // as fast as can be: times must differ even so
		if _, err := c.Add(ctx, namingtest.CID(fmt.Sprint(i%4)), boxo.PinOpts.WithName(fmt.Sprint("pin ", i))); err != nil {
			t.Fatal(err)
		}
	}
	queued := boxo.PinOpts.FilterStatus(boxo.StatusQueued)
	list, err := c.LsSync(ctx, queued)
	if err != nil || len(list) != all {
		t.Fatalf("%d of %d, %v", len(list), all, err)
	}
	for i, st := range list {
		if want := fmt.Sprint("pin ", all-1-i); st.GetPin().GetName() != want {
			t.Errorf("%d is %s, want %s", i, st.GetPin().GetName(), want)
		}
	}
	batch, count, err := c.LsBatchSync(ctx, queued, boxo.PinOpts.Limit(5))
	if err != nil || len(batch) != 5 || count != all {
		t.Errorf("a batch of 5: %d of %d, %v", len(batch), count, err)
	}
	mid := list[10].GetCreated()
	for what, f := range map[string]struct {
		option boxo.LsOption
		want   int
	}{
		"nothing is pinned": {boxo.PinOpts.FilterStatus(boxo.StatusPinned), 0},
		"all statuses":      {boxo.PinOpts.FilterStatus(boxo.StatusQueued, boxo.StatusPinning, boxo.StatusPinned, boxo.StatusFailed), all},
		"before":            {boxo.PinOpts.FilterBefore(mid), all - 11},
		"after":             {boxo.PinOpts.FilterAfter(mid), 10},
		"one CID":           {boxo.PinOpts.FilterCIDs(namingtest.CID("3")), 5},
		"two CIDs":          {boxo.PinOpts.FilterCIDs(namingtest.CID("0"), namingtest.CID("3")), 11},
		"a name":            {boxo.PinOpts.FilterName("pin 7"), 1},
		"no such name":      {boxo.PinOpts.FilterName("PIN 7"), 0},
	} {
		options := []boxo.LsOption{f.option}
		if what != "nothing is pinned" && what != "all statuses" {
			options = append(options, queued)
		}
		if got, err := c.LsSync(ctx, options...); err != nil || len(got) != f.want {
			t.Errorf("%s: %d, %v; want %d", what, len(got), err, f.want)
		}
	}
	// It writes the filter in a way of its own, which nobody can read: refused, so that nobody takes all pins for those that match.
	if got, err := c.LsSync(ctx, queued, boxo.PinOpts.LsMeta(map[string]string{"app": "x"})); err == nil {
		t.Errorf("a filter that can't be understood gave %d pins", len(got))
	}
}

func TestKubosClientUnderstandsErrors(t *testing.T) {
	a := newAPI(t)
	_, other := a.newTenant("other")
	id := a.add(replicate.Pin{CID: namingtest.CID("x")})
	for what, c := range map[string]*boxo.Client{
		"no such token":  boxo.NewClient(a.url, "hft_nobody"),
		"another tenant": boxo.NewClient(a.url, other),
	} {
		st, err := c.GetStatusByID(t.Context(), id)
		if err == nil {
			t.Errorf("%s sees %v", what, st)
		}
	}
	list, err := boxo.NewClient(a.url, other).LsSync(t.Context(), boxo.PinOpts.FilterStatus(boxo.StatusQueued))
	if err != nil || len(list) != 0 {
		t.Errorf("another tenant lists %v, %v", list, err)
	}
	if _, err := boxo.NewClient(a.url, "hft_nobody").LsSync(t.Context(), boxo.PinOpts.FilterBefore(time.Now())); err == nil {
		t.Errorf("a list without a token: %v", err)
	}
}
