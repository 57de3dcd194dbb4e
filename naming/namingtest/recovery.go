package namingtest

import (
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
)

// Recovery is a recovery key that depends on the seed alone.
func Recovery(t testing.TB, seed string) naming.RecoveryKey {
	t.Helper()
	k, err := naming.Seed(sha256.Sum256([]byte(seed))).Recovery()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Committed signs a record of sequence seq that commits to k, which lives until end.
func Committed(t testing.TB, s naming.Signer, k naming.RecoveryKey, seq uint64, end time.Time) naming.Record {
	t.Helper()
	r, err := s.Sign(naming.Statement{
		Value: "/ipfs/" + CID("root").String(), Sequence: seq, ValidUntil: end, Recovery: k.Commitment(),
		Release: CID("release"), Policy: CID("policy"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Last signs the last record of a site that has committed to k, which moves it to the name to.
func Last(t testing.TB, s naming.Signer, k naming.RecoveryKey, to naming.Name) naming.Record {
	t.Helper()
	r, err := naming.SignLast(s, k, Committed(t, s, k, 1, time.Now()), to)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// PlainLast is what whoever has the site's key alone can make of the last sequence: a record that leads to another name,
// as long as a record can live, without a commitment.
func PlainLast(t testing.TB, s naming.Signer, to naming.Name) naming.Record {
	t.Helper()
	r, err := s.Sign(naming.Statement{
		Value: naming.Namespace + to.String(), Sequence: naming.MaxSequence,
		ValidUntil: time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC),
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// thefts are what a thief of the site's key alone can sign, to move the site for good or to go on with it as his.
func thefts(t testing.TB, s naming.Signer, end time.Time) map[string]naming.Record {
	t.Helper()
	his := Signer(t, "thief").Name()
	return map[string]naming.Record{
		"LastWithHisOwnCommitment": Last(t, s, Recovery(t, "thief"), his),
		"LastWithoutACommitment":   PlainLast(t, s, his),
		"NextWithHisOwnCommitment": Committed(t, s, Recovery(t, "thief"), naming.MaxSequence-1, end),
		"NextWithoutACommitment":   Record(t, s, naming.MaxSequence-1, "his", end),
	}
}

// runRecovery checks what the interface says of commitments and last records.
func runRecovery(t *testing.T, open func(t *testing.T) naming.Records, end time.Time) {
	s, key := Signer(t, "a"), Recovery(t, "a")
	run := func(name string, f func(t *testing.T, r naming.Records)) {
		t.Run(name, func(t *testing.T) { f(t, open(t)) })
	}
	run("ACommitmentIsKept", func(t *testing.T, r naming.Records) {
		accept(t, r, Committed(t, s, key, 1, end))
		two := Committed(t, s, key, 2, end)
		accept(t, r, two)
		wantBest(t, r, two)
	})
	run("ACommitmentMayBeAdded", func(t *testing.T, r naming.Records) {
		accept(t, r, Record(t, s, 1, "one", end))
		two := Committed(t, s, key, 2, end)
		accept(t, r, two)
		wantBreach(t, r, Record(t, s, 3, "dropped", end))
		wantBest(t, r, two)
	})
	run("ACommitmentOfTheSameSequenceIsNotChanged", func(t *testing.T, r naming.Records) {
		one := Committed(t, s, key, 1, end)
		accept(t, r, one)
		wantBreach(t, r, Committed(t, s, Recovery(t, "thief"), 1, end.Add(time.Hour)))
		wantBest(t, r, one)
	})
	run("WhatIsOlderIsOlderWhateverItCommitsTo", func(t *testing.T, r naming.Records) {
		accept(t, r, Committed(t, s, key, 2, end))
		wantOlder(t, r, Committed(t, s, Recovery(t, "thief"), 1, end), 2)
	})
	run("NothingFollowsALastRecord", func(t *testing.T, r naming.Records) {
		accept(t, r, Committed(t, s, key, 1, end))
		last := Last(t, s, key, Signer(t, "new").Name())
		accept(t, r, last)
		accept(t, r, last)
		wantOlder(t, r, Committed(t, s, key, naming.MaxSequence-1, end), naming.MaxSequence)
		wantBest(t, r, last)
		for name, theft := range thefts(t, s, end) {
			if err := r.Accept(t.Context(), theft); !errors.Is(err, naming.ErrOlder) && !errors.Is(err, naming.ErrRecovery) {
				t.Errorf("%s: %v", name, err)
			}
		}
		wantBest(t, r, last)
	})
	run("ALastRecordIsAcceptedFirst", func(t *testing.T, r naming.Records) {
		last := Last(t, s, key, Signer(t, "new").Name())
		accept(t, r, last)
		wantBest(t, r, last)
	})
	for name, theft := range thefts(t, s, end) {
		run("AThiefs"+name+"IsRefused", func(t *testing.T, r naming.Records) {
			one := Committed(t, s, key, 1, end)
			accept(t, r, one)
			wantBreach(t, r, theft)
			wantBest(t, r, one)
		})
		run("AThiefs"+name+"IsRefusedWhenOursHasExpired", func(t *testing.T, r naming.Records) {
			dead := Committed(t, s, key, 1, time.Now().Add(-time.Hour))
			accept(t, r, dead)
			wantBreach(t, r, theft)
			wantBest(t, r, dead)
		})
	}
}

func wantBreach(t *testing.T, r naming.Records, rec naming.Record) {
	t.Helper()
	if err := r.Accept(t.Context(), rec); !errors.Is(err, naming.ErrRecovery) {
		t.Fatalf("Accept of sequence %d with the commitment %q: %v, want ErrRecovery", rec.Sequence(), rec.Recovery(), err)
	}
}
