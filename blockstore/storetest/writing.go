package storetest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/ipfs/go-cid"
)

func putCountsOnlyWhatIsNew(t *testing.T, s blockstore.Store) {
	blks := Blocks(t, 1, 4, 100)
	sess := begin(t, s, "")
	if a := put(t, sess, blks[0], blks[1], blks[0]); a != (blockstore.Added{Blocks: 2, Bytes: 200}) {
		t.Errorf("first: %+v", a)
	}
	if a := put(t, begin(t, s, ""), blks...); a != (blockstore.Added{Blocks: 2, Bytes: 200}) {
		t.Errorf("second: %+v", a)
	}
	if a := put(t, sess); a != (blockstore.Added{}) {
		t.Errorf("nothing: %+v", a)
	}
}

func putKeepsNoReference(t *testing.T, s blockstore.Store) {
	data := []byte(strings.Repeat("reused buffer ", 200))
	b := Raw(t, data)
	want := string(data)
	add(t, s, b)
	clear(data)
	got, err := s.Get(t.Context(), b.Cid())
	if err != nil || string(got.RawData()) != want {
		t.Errorf("Get: %v", err)
	}
}

func sessionsHaveOneHolder(t *testing.T, s blockstore.Store) {
	sess := begin(t, s, "import")
	if sess.ID() != "import" {
		t.Errorf("ID = %q", sess.ID())
	}
	if _, err := s.Begin(t.Context(), "import"); !errors.Is(err, blockstore.ErrSessionOpen) {
		t.Errorf("second Begin: %v", err)
	}
	if a, b := begin(t, s, ""), begin(t, s, ""); a.ID() == "" || a.ID() == b.ID() {
		t.Errorf("fresh ids %q and %q", a.ID(), b.ID())
	}
	for range 2 {
		if err := sess.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	b := Raw(t, []byte("late"))
	_, err1 := sess.Put(t.Context(), b)
	_, err2 := sess.Shield(t.Context(), []cid.Cid{b.Cid()})
	for _, err := range []error{err1, err2, sess.Sync(t.Context()), sess.Keep(t.Context(), "o", b.Cid(), All(b))} {
		if !errors.Is(err, blockstore.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
	begin(t, s, "import")
}

func keepRefusesMissing(t *testing.T, s blockstore.Store) {
	blks := Blocks(t, 1, 5, 100)
	sess := begin(t, s, "")
	put(t, sess, blks[0], blks[1], blks[3], blks[4])
	err := sess.Keep(t.Context(), "owner", blks[0].Cid(), All(blks...))
	isBlockError(t, err, blockstore.ErrNotFound, blks[2].Cid())
	if roots, err := s.Kept(t.Context(), ""); err != nil || len(roots) != 0 {
		t.Errorf("kept even so: %v, %v", roots, err)
	}
	for _, err := range s.KeptCIDs(t.Context(), blks[0].Cid()) {
		isBlockError(t, err, blockstore.ErrNotFound, blks[0].Cid())
	}
	put(t, sess, blks[2])
	for range 2 { // keeping what is kept is no error
		if err := sess.Keep(t.Context(), "owner", blks[0].Cid(), All(blks...)); err != nil {
			t.Fatal(err)
		}
	}
	if got := keptCIDs(t, s, blks[0].Cid()); !slices.Equal(got, sorted(CIDs(blks))) {
		t.Errorf("KeptCIDs = %v", got)
	}
}

func keptCIDs(t *testing.T, s blockstore.Store, root cid.Cid) []cid.Cid {
	t.Helper()
	var cids []cid.Cid
	for c, err := range s.KeptCIDs(t.Context(), root) {
		if err != nil {
			t.Fatalf("KeptCIDs: %v", err)
		}
		cids = append(cids, c)
	}
	return sorted(cids)
}

func sorted(cids []cid.Cid) []cid.Cid {
	return slices.SortedFunc(slices.Values(cids), func(a, b cid.Cid) int { return strings.Compare(a.KeyString(), b.KeyString()) })
}

func keepRefusesNonsense(t *testing.T, s blockstore.Store) {
	blks := Blocks(t, 1, 3, 100)
	sess := begin(t, s, "")
	put(t, sess, blks...)
	for what, err := range map[string]error{
		"no owner":          sess.Keep(t.Context(), "", blks[0].Cid(), All(blks...)),
		"a long owner":      sess.Keep(t.Context(), strings.Repeat("x", blockstore.MaxName+1), blks[0].Cid(), All(blks...)),
		"no root":           sess.Keep(t.Context(), "owner", cid.Undef, All(blks...)),
		"a DAG without it":  sess.Keep(t.Context(), "owner", blks[0].Cid(), All(blks[1:]...)),
		"an undefined CID":  sess.Keep(t.Context(), "owner", blks[0].Cid(), slices.Values([]cid.Cid{blks[0].Cid(), {}})),
		"release of nobody": s.Release(t.Context(), "", blks[0].Cid()),
	} {
		if !errors.Is(err, blockstore.ErrRefused) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := s.Begin(t.Context(), strings.Repeat("x", blockstore.MaxName+1)); !errors.Is(err, blockstore.ErrRefused) {
		t.Errorf("a long session id: %v", err)
	}
	if roots, err := s.Kept(t.Context(), ""); err != nil || len(roots) != 0 {
		t.Errorf("kept even so: %v, %v", roots, err)
	}
}

func twoOwners(t *testing.T, s blockstore.Store) {
	blks := Blocks(t, 1, 20, 100)
	root := blks[0].Cid()
	keep(t, s, "ann", blks...)
	keep(t, s, "bob", blks...)
	for _, owner := range []string{"", "ann", "bob"} {
		if roots, err := s.Kept(t.Context(), owner); err != nil || !slices.Equal(roots, []cid.Cid{root}) {
			t.Errorf("Kept(%q) = %v, %v", owner, roots, err)
		}
	}
	if got := keptCIDs(t, s, root); !slices.Equal(got, sorted(CIDs(blks))) {
		t.Errorf("KeptCIDs has %d of %d", len(got), len(blks))
	}
	for range 2 {
		if err := s.Release(t.Context(), "ann", root); err != nil {
			t.Fatal(err)
		}
	}
	if c := collect(t, s, blockstore.CollectOptions{}); c.Blocks != 0 {
		t.Errorf("freed %+v that bob keeps", c)
	}
	has(t, s, blks, always)
	if roots, err := s.Kept(t.Context(), "ann"); err != nil || len(roots) != 0 {
		t.Errorf("ann still keeps %v, %v", roots, err)
	}
	if err := s.Release(t.Context(), "bob", root); err != nil {
		t.Fatal(err)
	}
	for _, err := range s.KeptCIDs(t.Context(), root) {
		isBlockError(t, err, blockstore.ErrNotFound, root)
	}
	if c := collect(t, s, blockstore.CollectOptions{}); c.Blocks != 20 || c.Bytes != 2000 {
		t.Errorf("freed %+v", c)
	}
	has(t, s, blks, never)
}

func oddNames(t *testing.T, s blockstore.Store) {
	names := []string{"a", "ab", "a\x00b", "\x00", "\xff\xff", "é/|\n", strings.Repeat("n", blockstore.MaxName)}
	blks := Blocks(t, 1, len(names), 50)
	for i, n := range names {
		keep(t, s, n, blks[i])
		if got := begin(t, s, n).ID(); got != n {
			t.Errorf("session %q has id %q", n, got)
		}
	}
	for i, n := range names {
		if roots, err := s.Kept(t.Context(), n); err != nil || !slices.Equal(roots, CIDs(blks[i:i+1])) {
			t.Errorf("Kept(%q) = %v, %v", n, roots, err)
		}
	}
}

func usage(t *testing.T, s blockstore.Store) {
	blks := Blocks(t, 1, 6, 100)
	keep(t, s, "ann", blks[0], blks[2], blks[3])
	keep(t, s, "ann", blks[1], blks[2], blks[3], blks[4])
	keep(t, s, "bob", blks[5], blks[2])
	for owner, want := range map[string]blockstore.Usage{
		"ann":    {Roots: 2, Blocks: 5, Bytes: 500, UniqueBytes: 400},
		"bob":    {Roots: 1, Blocks: 2, Bytes: 200, UniqueBytes: 100},
		"nobody": {},
		"":       {Roots: 3, Blocks: 6, Bytes: 600, UniqueBytes: 600},
	} {
		if u, err := s.Usage(t.Context(), owner); err != nil || u != want {
			t.Errorf("Usage(%q) = %+v, %v, want %+v", owner, u, err, want)
		}
	}
	groups, err := s.GroupUsage(t.Context(), map[string][]string{"both": {"ann", "bob"}, "one": {"bob", "nobody"}, "none": nil})
	if err != nil || !maps.Equal(groups, map[string]blockstore.Usage{
		"both": {Roots: 3, Blocks: 6, Bytes: 600, UniqueBytes: 600},
		"one":  {Roots: 1, Blocks: 2, Bytes: 200, UniqueBytes: 100},
		"none": {},
	}) {
		t.Errorf("GroupUsage = %+v, %v", groups, err)
	}
	for root, want := range map[int]blockstore.Usage{
		0: {Roots: 1, Blocks: 3, Bytes: 300, UniqueBytes: 100},
		1: {Roots: 1, Blocks: 4, Bytes: 400, UniqueBytes: 200},
		5: {Roots: 1, Blocks: 2, Bytes: 200, UniqueBytes: 100},
	} {
		if u, err := s.RootUsage(t.Context(), blks[root].Cid()); err != nil || u != want {
			t.Errorf("RootUsage(%d) = %+v, %v, want %+v", root, u, err, want)
		}
	}
	if _, err := s.RootUsage(t.Context(), blks[2].Cid()); !errors.Is(err, blockstore.ErrNotFound) {
		t.Errorf("RootUsage of what is no root: %v", err)
	}
	// What ann alone kept is bob's alone when ann lets go of it.
	for _, i := range []int{0, 1} {
		if err := s.Release(t.Context(), "ann", blks[i].Cid()); err != nil {
			t.Fatal(err)
		}
	}
	if u, err := s.Usage(t.Context(), "bob"); err != nil || u != (blockstore.Usage{Roots: 1, Blocks: 2, Bytes: 200, UniqueBytes: 200}) {
		t.Errorf("Usage(bob) = %+v, %v", u, err)
	}
	if u, err := s.Usage(t.Context(), "ann"); err != nil || u != (blockstore.Usage{}) {
		t.Errorf("Usage(ann) = %+v, %v", u, err)
	}
}

func concurrentWriters(t *testing.T, s blockstore.Store) {
	blks := Blocks(t, 1, 400, 3000)
	const writers = 4
	var (
		wg    sync.WaitGroup
		added [writers]blockstore.Added
		errs  [writers]error
	)
	for w := range writers {
		sess := begin(t, s, name(w))
		wg.Go(func() {
			for i := 0; i < len(blks) && errs[w] == nil; i += 20 {
				at := (i + w*100) % len(blks)
				var a blockstore.Added
				a, errs[w] = sess.Put(t.Context(), blks[at:at+20]...)
				added[w].Blocks += a.Blocks
				added[w].Bytes += a.Bytes
			}
			if errs[w] == nil {
				errs[w] = sess.Keep(t.Context(), name(w), blks[0].Cid(), All(blks...))
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	var total blockstore.Added
	for _, a := range added {
		total.Blocks += a.Blocks
		total.Bytes += a.Bytes
	}
	if total != (blockstore.Added{Blocks: 400, Bytes: 400 * 3000}) {
		t.Errorf("together they added %+v", total)
	}
	has(t, s, blks, always)
}

func cancelled(t *testing.T, s blockstore.Store) {
	blks := Blocks(t, 1, 10, 100)
	keep(t, s, "owner", blks...)
	sess := begin(t, s, "")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	// A sequence that is running when the context ends stops soon.
	for e, err := range s.Enumerate(ctx, "") {
		if err == nil {
			cancel()
		} else if !errors.Is(err, context.Canceled) {
			t.Errorf("Enumerate: %v, %+v", err, e)
		}
	}
	new := Blocks(t, 2, 1, 100)
	root := blks[0].Cid()
	for what, call := range map[string]func() error{
		"Get":       func() error { _, err := s.Get(ctx, root); return err },
		"GetMany":   func() error { return last(s.GetMany(ctx, CIDs(blks))) },
		"Stat":      func() error { _, err := s.Stat(ctx, CIDs(blks)); return err },
		"Enumerate": func() error { return last(s.Enumerate(ctx, "")) },
		"Begin":     func() error { _, err := s.Begin(ctx, ""); return err },
		"Release":   func() error { return s.Release(ctx, "owner", root) },
		"Kept":      func() error { _, err := s.Kept(ctx, ""); return err },
		"KeptCIDs":  func() error { return last(s.KeptCIDs(ctx, root)) },
		"Usage":     func() error { _, err := s.Usage(ctx, "owner"); return err },
		"Collect":   func() error { _, err := s.Collect(ctx, blockstore.CollectOptions{}); return err },
		"Size":      func() error { _, err := s.Size(ctx); return err },
		"Put":       func() error { _, err := sess.Put(ctx, new...); return err },
		"Shield":    func() error { _, err := sess.Shield(ctx, CIDs(blks)); return err },
		"Sync":      func() error { return sess.Sync(ctx) },
		"Keep":      func() error { return sess.Keep(ctx, "other", root, All(blks...)) },
	} {
		if err := call(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", what, err)
		}
	}
	has(t, s, new, never)
	has(t, s, blks, always)
	if roots, err := s.Kept(t.Context(), "other"); err != nil || len(roots) != 0 {
		t.Errorf("Kept = %v, %v", roots, err)
	}
}

func last[T any](seq func(func(T, error) bool)) error {
	var err error
	for _, err = range seq {
	}
	return err
}

func closed(t *testing.T, s blockstore.Store) {
	blks := Blocks(t, 1, 3, 100)
	keep(t, s, "owner", blks...)
	sess := begin(t, s, "")
	ctx := t.Context()
	// Close waits for what is running; what is running may go on calling, and is told.
	closed := make(chan error, 1)
	for _, err := range s.KeptCIDs(ctx, blks[0].Cid()) {
		if err != nil {
			t.Fatal(err)
		}
		go func() { closed <- s.Close() }()
		for err == nil {
			_, err = s.Get(ctx, blks[1].Cid())
		}
		if !errors.Is(err, blockstore.ErrClosed) {
			t.Errorf("Get while closing: %v", err)
		}
		select {
		case err := <-closed:
			t.Errorf("Close did not wait: %v", err)
		default:
		}
		break
	}
	if err := <-closed; err != nil {
		t.Errorf("Close: %v", err)
	}
	for what, call := range map[string]func() error{
		"Get":       func() error { _, err := s.Get(ctx, blks[0].Cid()); return err },
		"Stat":      func() error { _, err := s.Stat(ctx, CIDs(blks)); return err },
		"Enumerate": func() error { return last(s.Enumerate(ctx, "")) },
		"Begin":     func() error { _, err := s.Begin(ctx, ""); return err },
		"KeptCIDs":  func() error { return last(s.KeptCIDs(ctx, blks[0].Cid())) },
		"Collect":   func() error { _, err := s.Collect(ctx, blockstore.CollectOptions{}); return err },
		"Put":       func() error { _, err := sess.Put(ctx, blks...); return err },
		"Sync":      func() error { return sess.Sync(ctx) },
	} {
		if err := call(); !errors.Is(err, blockstore.ErrClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}
