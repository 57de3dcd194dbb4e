package state_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
)

// twoMachines are records of one sequence, the one that wins last.
func twoMachines(t testing.TB, s naming.Signer, seq uint64) [2]naming.Record {
	a, b := namingtest.Record(t, s, seq, "machine one", farAway), namingtest.Record(t, s, seq, "machine two", farAway)
	if a.Compare(b) > 0 {
		a, b = b, a
	}
	return [2]naming.Record{a, b}
}

func TestTwoMachinesThatSignedOneSequenceAreTold(t *testing.T) {
	for what, first := range map[string]int{"the loser comes first": 0, "the winner comes first": 1} {
		db := fresh(t)
		s := namingtest.Signer(t, "a")
		if err := db.PutSite(t.Context(), state.Site{Name: s.Name(), Alias: "blog"}); err != nil {
			t.Fatal(err)
		}
		recs := twoMachines(t, s, 5)
		acceptAll(t, db, recs[first])
		for range 3 { // the other keeps coming
			if err := db.Accept(t.Context(), recs[1-first]); (first == 1) != errors.Is(err, naming.ErrOlder) {
				t.Fatalf("%s: %v", what, err)
			}
		}
		got, err := db.Rivals(t.Context(), s.Name())
		if err != nil || len(got) != 1 || got[0].Lost.Compare(recs[0]) != 0 || got[0].Won.Compare(recs[1]) != 0 || got[0].At.IsZero() {
			t.Fatalf("%s: rivals %+v, %v", what, got, err)
		}
		ev, err := db.LastEvidence(t.Context(), s.Name(), state.EvidenceRival)
		if err != nil || len(ev) != 1 || ev[0].OK || !strings.HasPrefix(ev[0].Detail, "sequence 5 was signed twice: "+recs[1].Value()) {
			t.Fatalf("%s: evidence %+v, %v", what, ev, err)
		}
	}
}

func TestAThiefsRecordOfTheSameSequenceIsTold(t *testing.T) {
	db := fresh(t)
	s := namingtest.Signer(t, "a")
	if err := db.PutSite(t.Context(), state.Site{Name: s.Name(), Alias: "blog"}); err != nil {
		t.Fatal(err)
	}
	statement := naming.Statement{Value: "/ipfs/" + namingtest.CID("x").String(), Sequence: 4, ValidUntil: farAway.AddDate(-1, 0, 0), Recovery: naming.Commitment{1}}
	acceptAll(t, db, sign(t, s, statement))
	statement.Recovery, statement.ValidUntil = naming.Commitment{2}, farAway
	if err := db.Accept(t.Context(), sign(t, s, statement)); !errors.Is(err, naming.ErrRecovery) {
		t.Fatalf("got %v, want ErrRecovery", err)
	}
	got, err := db.Rivals(t.Context(), s.Name())
	if err != nil || len(got) != 1 {
		t.Fatalf("%d rivals, %v", len(got), err)
	}
	if got[0].Lost.Recovery() != statement.Recovery {
		t.Errorf("the thief's record is said to have won, and is refused by all who know the site")
	}
}

func TestOnlyRivalsOfOurSitesAreKeptAndNoNumberOfThem(t *testing.T) {
	db := fresh(t)
	s, stranger := namingtest.Signer(t, "a"), namingtest.Signer(t, "b")
	if err := db.PutSite(t.Context(), state.Site{Name: s.Name(), Alias: "blog"}); err != nil {
		t.Fatal(err)
	}
	for _, r := range twoMachines(t, stranger, 1) {
		acceptAll(t, db, r)
	}
	acceptAll(t, db, namingtest.Record(t, s, 1, "one", farAway), namingtest.Record(t, s, 2, "two", farAway))
	if got, err := db.Rivals(t.Context(), s.Name()); err != nil || len(got) != 0 {
		t.Errorf("a site that goes on has rivals: %v, %v", got, err)
	}
	for i := range 40 {
		if err := db.Accept(t.Context(), namingtest.Record(t, s, 2, fmt.Sprint(i), farAway)); err != nil && !errors.Is(err, naming.ErrOlder) {
			t.Fatal(err)
		}
	}
	if got, err := db.Rivals(t.Context(), s.Name()); err != nil || len(got) != 32 {
		t.Errorf("%d rivals, %v; want 32", len(got), err)
	}
	if got, err := db.Rivals(t.Context(), stranger.Name()); err != nil || len(got) != 0 {
		t.Errorf("rivals of a stranger: %v, %v", got, err)
	}
}

func TestARivalsPublishLeavesTheEvidenceAndNothingElse(t *testing.T) {
	db := fresh(t)
	s := namingtest.Signer(t, "a")
	recs := twoMachines(t, s, 5)
	site := state.Site{Name: s.Name(), Alias: "blog", Number: 1}
	row := state.ReleaseRow{Site: s.Name(), Number: 1, CID: namingtest.CID("release 1")}
	if err := db.PutPublished(t.Context(), site, row, recs[1]); err != nil {
		t.Fatal(err)
	}
	site.Number, row.Number, row.CID = 2, 2, namingtest.CID("release 2")
	if err := db.PutPublished(t.Context(), site, row, recs[0]); !errors.Is(err, naming.ErrOlder) {
		t.Fatalf("got %v, want ErrOlder", err)
	}
	if got, err := db.SiteByName(t.Context(), s.Name()); err != nil || got.Number != 1 {
		t.Errorf("the site is at release %d, %v", got.Number, err)
	}
	if got, err := db.Releases(t.Context(), s.Name()); err != nil || len(got) != 1 {
		t.Errorf("%d releases, %v", len(got), err)
	}
	if got, err := db.Rivals(t.Context(), s.Name()); err != nil || len(got) != 1 {
		t.Errorf("%d rivals, %v", len(got), err)
	}
}

func TestARecordThatIsDamagedHereKeepsItsFloorAndItsCommitment(t *testing.T) {
	db := fresh(t)
	s := namingtest.Signer(t, "a")
	st := naming.Statement{Value: "/ipfs/" + namingtest.CID("x").String(), Sequence: 4, ValidUntil: farAway, Recovery: naming.Commitment{1}}
	good := sign(t, s, st)
	acceptAll(t, db, good)
	if err := db.Exec(t.Context(), `UPDATE records SET bytes = x'00'`); err != nil {
		t.Fatal(err)
	}
	thief := st
	thief.Sequence, thief.Recovery = 5, naming.Commitment{2}
	if err := db.Accept(t.Context(), sign(t, s, thief)); !errors.Is(err, naming.ErrRecovery) {
		t.Errorf("another commitment: %v, want ErrRecovery", err)
	}
	older := st
	older.Sequence = 3
	if err := db.Accept(t.Context(), sign(t, s, older)); !errors.Is(err, naming.ErrOlder) {
		t.Errorf("an older record: %v, want ErrOlder", err)
	}
	acceptAll(t, db, good)
	if got, err := db.Best(t.Context(), s.Name()); err != nil || got.Compare(good) != 0 {
		t.Errorf("the good record again: %v", err)
	}
}
