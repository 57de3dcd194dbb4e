package state_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
)

// says is a source that always gives the same bytes.
type says []byte

func (s says) String() string                                     { return "replica" }
func (s says) Fetch(context.Context, naming.Name) ([]byte, error) { return s, nil }

// resolver asks sources, and keeps what it learns in db.
func resolver(t testing.TB, db *state.DB, now func() time.Time, sources ...naming.Source) *naming.Resolver {
	t.Helper()
	r := naming.NewResolver(naming.ResolverConfig{Records: db, Now: now, Sources: func(naming.Name) []naming.Source { return sources }})
	t.Cleanup(r.Close)
	return r
}

func TestNoFaultyRecordIsStored(t *testing.T) {
	db := fresh(t)
	name := namingtest.Signer(t, "a").Name()
	for _, f := range namingtest.Faults(t, "a") {
		_, _, err := resolver(t, db, time.Now, says(f.Raw)).ResolveFresh(t.Context(), name)
		if err == nil || !strings.Contains(err.Error(), f.Says) {
			t.Errorf("%s: %v, want an error that says %q", f.Row, err, f.Says)
		}
		if _, err := db.Best(t.Context(), name); !errors.Is(err, naming.ErrNotFound) {
			t.Fatalf("%s: it was stored (%v)", f.Row, err)
		}
	}
	largest := namingtest.Sized(t, "a", naming.MaxRecordSize)
	if _, _, err := resolver(t, db, time.Now, says(largest)).ResolveFresh(t.Context(), name); err != nil {
		t.Errorf("10 240 bytes: %v", err)
	}
	if best, err := db.Best(t.Context(), name); err != nil || len(best.Bytes()) != naming.MaxRecordSize {
		t.Errorf("10 240 bytes are not stored: %v", err)
	}
}

func TestAnOlderRecordIsRefusedFromASecondReplicaAfterARestartAndAfterTheNewerHasExpired(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s, now := namingtest.Signer(t, "a"), start
	older := namingtest.Record(t, s, 6, "older", farAway)
	newer := namingtest.Record(t, s, 7, "newer", start.Add(time.Hour))
	clock := func() time.Time { return now }

	db := open(t, path)
	if res, _, err := resolver(t, db, clock, says(newer.Bytes())).ResolveFresh(t.Context(), s.Name()); err != nil || res.Record.Compare(newer) != 0 {
		t.Fatalf("the newer: %v", err)
	}
	res, _, err := resolver(t, db, clock, says(older.Bytes())).ResolveFresh(t.Context(), s.Name())
	if err != nil || res.Record.Compare(newer) != 0 {
		t.Errorf("from a second replica: sequence %d, %v", res.Record.Sequence(), err)
	}
	db.Close()
	db = open(t, path)
	res, _, err = resolver(t, db, clock, says(older.Bytes())).ResolveFresh(t.Context(), s.Name())
	if err != nil || res.Record.Compare(newer) != 0 {
		t.Errorf("after a restart: sequence %d, %v", res.Record.Sequence(), err)
	}
	now = now.Add(2 * time.Hour)
	if res, _, err := resolver(t, db, clock, says(older.Bytes())).ResolveFresh(t.Context(), s.Name()); !errors.Is(err, naming.ErrOlder) {
		t.Errorf("after the newer has expired: sequence %d, %v", res.Record.Sequence(), err)
	}
	db.Close()
	db = open(t, path)
	if err := db.Accept(t.Context(), older); !errors.Is(err, naming.ErrOlder) {
		t.Errorf("after that and a restart: %v", err)
	}
}

func TestAClockADayOffIsNamedByAResolver(t *testing.T) {
	rec := namingtest.Record(t, namingtest.Signer(t, "a"), 1, "x", start)
	late := func() time.Time { return start.Add(24 * time.Hour) }
	_, _, err := resolver(t, fresh(t), late, says(rec.Bytes())).ResolveFresh(t.Context(), rec.Name())
	if !errors.Is(err, naming.ErrExpired) || !strings.Contains(err.Error(), "clock here says "+late().Format(time.RFC3339)) {
		t.Errorf("got %v", err)
	}
}

func TestAllReplicasComeToTheSameOfTwoPublishersInAnyOrder(t *testing.T) {
	s := namingtest.Signer(t, "a")
	recs := []naming.Record{namingtest.Record(t, s, 3, "base", farAway)}
	for i := range 3 { // two machines, one of them twice
		recs = append(recs, namingtest.Record(t, s, 4, fmt.Sprint("machine ", i), farAway.AddDate(0, 0, -i/2)))
	}
	want := recs[0]
	for _, r := range recs {
		if r.Compare(want) > 0 {
			want = r
		}
	}
	for _, order := range permutations(len(recs)) {
		db := fresh(t)
		for _, i := range order {
			// An older answer is none: then our own stands.
			if _, _, err := resolver(t, db, func() time.Time { return start }, says(recs[i].Bytes())).ResolveFresh(t.Context(), s.Name()); err != nil {
				t.Fatal(err)
			}
		}
		if best, err := db.Best(t.Context(), s.Name()); err != nil || best.Compare(want) != 0 {
			t.Errorf("in the order %v the replica has %s, %v; want %s", order, best.Value(), err, want.Value())
		}
	}
}

// permutations are all orders of 0..n-1.
func permutations(n int) (all [][]int) {
	if n == 0 {
		return [][]int{nil}
	}
	for _, p := range permutations(n - 1) {
		for at := range n {
			q := append(append(append([]int{}, p[:at]...), n-1), p[at:]...)
			all = append(all, q)
		}
	}
	return all
}

func TestAChainOf31And32RecordsIsFollowedAndOneOf33OrACircleIsNot(t *testing.T) {
	for _, c := range []struct {
		what   string
		length int
		circle bool
		want   error
	}{
		{"31 records", 31, false, nil}, {"32 records", 32, false, nil}, {"33 records", 33, false, naming.ErrLoop},
		{"a self-loop", 1, true, naming.ErrLoop}, {"a circle of 3", 3, true, naming.ErrLoop},
	} {
		db := fresh(t)
		s := signers(t, "s", c.length)
		for i := range s[:c.length-1] {
			leads(t, db, s[i], 1, s[i+1].Name())
		}
		if c.circle {
			leads(t, db, s[c.length-1], 1, s[0].Name())
		} else {
			acceptAll(t, db, namingtest.Record(t, s[c.length-1], 1, "root", farAway))
		}
		// Nobody else is asked: our own records are what there is.
		chain, root, err := resolver(t, db, func() time.Time { return start }).Follow(t.Context(), s[0].Name())
		if !errors.Is(err, c.want) || root.Defined() != (c.want == nil) {
			t.Errorf("%s: %s by %d records, %v; want %v", c.what, root, len(chain), err, c.want)
		}
	}
}
