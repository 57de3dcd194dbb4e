package interop

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	boxo "github.com/ipfs/boxo/pinning/remote/client"
	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/naming/namingtest"
	"github.com/holdfast-sites/holdfast/test/world"
)

// pinAnswer is what pinning.mjs prints.
type pinAnswer struct {
	Added, Pinned, Replaced pinStatus
	List                    []pinStatus
	Gone                    [][]any
	Filters                 map[string]int
	Pages                   [][]string
	Errors                  map[string][]any
}

type pinStatus struct {
	RequestID, Status string
	Created           time.Time
	Pin               struct {
		CID, Name string
		Origins   []string
		Meta      map[string]string
	}
	Delegates []string
	Info      map[string]string
}

// other is a host that keeps pins for somebody who is not an author, and the roots of two releases that
// it can get from the first host.
type other struct {
	*world.Node
	token string
	roots []string
}

func newOther(t *testing.T) (w *world.World, first *world.Node, o other) {
	t.Helper()
	w = world.New(t)
	first = w.Hosts("author", "alice")[0]
	for _, text := range []string{"one", "two"} {
		dir := w.Folder("site", map[string][]byte{"index.html": []byte(text), "same.bin": bytes.Repeat([]byte("holdfast "), 100_000)})
		o.roots = append(o.roots, w.Publish("author", "blog", dir, 1).Root)
	}
	o.Node = w.Serve("bob", "--host", "--name", "bob", "--pins", "127.0.0.1:0", "--p2p", "/ip4/127.0.0.1/tcp/0", "--peer", first.Addrs[0])
	var made struct{ Token string }
	w.Run(&made, "bob", "token", "create", "somebody")
	o.token = made.Token
	return w, first, o
}

func TestNPMsPinningClientWorksWithAHost(t *testing.T) {
	script := world.NPM(t.Context(), t, "pinning.mjs", "@ipfs-shipyard/pinning-service-client")
	_, first, bob := newOther(t)
	in := map[string]any{"url": bob.Pins, "token": bob.token, "roots": bob.roots, "origin": first.Addrs[0]}
	var absent []string
	for i := range 20 {
		absent = append(absent, namingtest.CID(fmt.Sprint("absent ", i)).String())
	}
	in["absent"] = absent
	raw, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	script.Stdin, script.Stderr = bytes.NewReader(raw), &stderr
	out, err := script.Output()
	if err != nil {
		t.Fatalf("pinning.mjs: %v\n%s", err, &stderr)
	}
	var got pinAnswer
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("pinning.mjs prints %q: %v", out, err)
	}

	for what, p := range map[string]pinStatus{"added": got.Added, "pinned": got.Pinned} {
		if p.Pin.CID != bob.roots[0] || p.Pin.Name != "Site One" || p.Pin.Meta["app"] != "npm" || p.RequestID != got.Added.RequestID ||
			!slices.Equal(p.Pin.Origins, []string{first.Addrs[0]}) || !slices.Contains(p.Delegates, bob.Addrs[0]) || p.Created.IsZero() {
			t.Errorf("%s: %+v", what, p)
		}
	}
	want := map[string]int{
		"name": 1, "name in capitals": 0, "name, any case": 1, "part of the name": 1, "part, any case": 1, "cid": 1, "another cid": 0,
		"meta": 1, "other meta": 0, "after": 1, "before": 0, "failed": 0,
	}
	for what, n := range want {
		if got.Filters[what] != n {
			t.Errorf("by %s it finds %d pins, want %d", what, got.Filters[what], n)
		}
	}
	if got.Replaced.RequestID == got.Added.RequestID || len(got.List) != 1 || got.List[0].RequestID != got.Replaced.RequestID {
		t.Errorf("replaced by %+v, and listed %+v", got.Replaced, got.List)
	}
	wantErrors(t, "what is gone", got.Gone[0], 404, "NOT_FOUND")
	wantErrors(t, "a second delete", got.Gone[1], 404, "NOT_FOUND")
	wantErrors(t, "no token", got.Errors["no token"], 401, "UNAUTHORIZED")
	wantErrors(t, "a wrong token", got.Errors["a wrong token"], 401, "UNAUTHORIZED")
	for _, what := range []string{"no CID", "limit 0", "limit 1001"} {
		wantErrors(t, what, got.Errors[what], 400, "BAD_REQUEST")
	}
	seen := map[string]int{}
	for _, name := range slices.Concat(got.Pages...) {
		seen[name]++
	}
	for i := range absent {
		if name := fmt.Sprint("absent ", i); seen[name] != 1 {
			t.Errorf("%q is on %d pages of %v, want one", name, seen[name], got.Pages)
		}
	}
}

func wantErrors(t *testing.T, what string, got []any, code int, reason string) {
	t.Helper()
	if len(got) != 3 || got[0] != float64(code) || got[1] != reason || got[2] == "" {
		t.Errorf("%s: %v, want %d %s with details", what, got, code, reason)
	}
}

func TestKubosPinningClientWorksWithAHost(t *testing.T) {
	_, _, bob := newOther(t)
	ctx := t.Context()
	c := boxo.NewClient(bob.Pins, bob.token)
	var roots []cid.Cid
	for _, r := range bob.roots {
		root, err := cid.Decode(r)
		if err != nil {
			t.Fatal(err)
		}
		roots = append(roots, root)
	}
	wait := func(id string) boxo.PinStatusGetter {
		t.Helper()
		for {
			st, err := c.GetStatusByID(ctx, id)
			if err != nil || st.GetStatus() == boxo.StatusFailed {
				t.Fatalf("%v, %v", st, err)
			}
			if st.GetStatus() == boxo.StatusPinned {
				return st
			}
			select {
			case <-ctx.Done():
				t.Fatal(ctx.Err())
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	st, err := c.Add(ctx, roots[0], boxo.PinOpts.WithName("site"))
	if err != nil {
		t.Fatal(err)
	}
	if st = wait(st.GetRequestId()); len(st.GetDelegates()) == 0 {
		t.Errorf("no delegates: %v", st)
	}
	next, err := c.Replace(ctx, st.GetRequestId(), roots[1], boxo.PinOpts.WithName("site"))
	if err != nil {
		t.Fatal(err)
	}
	wait(next.GetRequestId())
	list, err := c.LsSync(ctx)
	if err != nil || len(list) != 1 || list[0].GetRequestId() != next.GetRequestId() {
		t.Errorf("list: %v, %v", list, err)
	}
	if err := c.DeleteByID(ctx, next.GetRequestId()); err != nil {
		t.Error(err)
	}
	if list, err := c.LsSync(ctx); err != nil || len(list) != 0 {
		t.Errorf("list after the delete: %v, %v", list, err)
	}
}
