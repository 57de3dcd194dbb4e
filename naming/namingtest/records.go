// Package namingtest checks that an implementation of naming.Records keeps that interface's contract. It is for
// tests only.
package namingtest

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/holdfast-sites/holdfast/naming"
)

// Signer is a signer whose key depends on the seed alone.
func Signer(t testing.TB, seed string) naming.Signer {
	t.Helper()
	sum := sha256.Sum256([]byte(seed))
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(sum[:]))
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	ring, err := naming.OpenKeyring(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Import("test", strings.NewReader(string(text))); err != nil {
		t.Fatal(err)
	}
	s, err := ring.Signer("test")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// CID is the CIDv1 of a raw block that holds text.
func CID(text string) cid.Cid {
	h, err := mh.Sum([]byte(text), mh.SHA2_256, -1)
	if err != nil {
		panic(err) // SHA2-256 is always there
	}
	return cid.NewCidV1(cid.Raw, h)
}

// Record signs a record of sequence seq for the block that holds text, which lives until end.
func Record(t testing.TB, s naming.Signer, seq uint64, text string, end time.Time) naming.Record {
	t.Helper()
	r, err := s.Sign(naming.Statement{Value: "/ipfs/" + CID(text).String(), Sequence: seq, ValidUntil: end})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// RunRecords checks the contract of naming.Records. open gives an empty one each time, and cleans up by t.
func RunRecords(t *testing.T, open func(t *testing.T) naming.Records) {
	end := time.Now().Add(24 * time.Hour).UTC().Truncate(time.Second)
	run := func(name string, f func(t *testing.T, r naming.Records)) {
		t.Run(name, func(t *testing.T) { f(t, open(t)) })
	}
	run("AnUnknownNameIsNotFound", func(t *testing.T, r naming.Records) {
		if _, err := r.Best(t.Context(), Signer(t, "nobody").Name()); !errors.Is(err, naming.ErrNotFound) {
			t.Fatalf("Best of an unknown name: %v, want ErrNotFound", err)
		}
	})
	run("TheBestRecordComesBackByteForByte", func(t *testing.T, r naming.Records) {
		rec := withMetadata(t, Signer(t, "a"), end)
		accept(t, r, rec)
		wantBest(t, r, rec)
		got, _ := r.Best(t.Context(), rec.Name())
		if got.Release() != rec.Release() || got.Policy() != rec.Policy() || got.Value() != rec.Value() {
			t.Fatal("the record kept reads differently from the record accepted")
		}
	})
	run("AHigherSequenceWins", func(t *testing.T, r naming.Records) {
		s := Signer(t, "a")
		accept(t, r, Record(t, s, 1, "one", end))
		two := Record(t, s, 2, "two", end.Add(-time.Hour))
		accept(t, r, two)
		wantBest(t, r, two)
	})
	run("TheFloorIsNeverLowered", func(t *testing.T, r naming.Records) {
		s := Signer(t, "a")
		high := Record(t, s, naming.MaxSequence, "high", end)
		accept(t, r, high)
		wantOlder(t, r, Record(t, s, 1, "low", end.Add(time.Hour)), naming.MaxSequence)
		wantOlder(t, r, Record(t, s, naming.MaxSequence-1, "nearly", end.Add(time.Hour)), naming.MaxSequence)
		wantBest(t, r, high)
	})
	run("TheSameRecordAgainIsNoError", func(t *testing.T, r naming.Records) {
		rec := Record(t, Signer(t, "a"), 5, "five", end)
		accept(t, r, rec)
		accept(t, r, rec)
		wantBest(t, r, rec)
	})
	run("AnExpiredRecordIsAcceptedAndKeepsTheFloor", func(t *testing.T, r naming.Records) {
		s := Signer(t, "a")
		dead := Record(t, s, 7, "dead", time.Now().Add(-time.Hour))
		accept(t, r, dead)
		wantOlder(t, r, Record(t, s, 6, "alive", end), 7)
		wantBest(t, r, dead)
		next := Record(t, s, 8, "next", end)
		accept(t, r, next)
		wantBest(t, r, next)
	})
	run("EqualSequencesConvergeInEveryOrder", func(t *testing.T, _ naming.Records) { testConverge(t, open, end) })
	run("NamesDoNotMix", func(t *testing.T, r naming.Records) {
		a, b := Record(t, Signer(t, "a"), 9, "a", end), Record(t, Signer(t, "b"), 1, "b", end)
		accept(t, r, a)
		accept(t, r, b)
		wantBest(t, r, a)
		wantBest(t, r, b)
	})
	run("ConcurrentAcceptsKeepTheBest", func(t *testing.T, r naming.Records) { testConcurrent(t, r, end) })
	run("ACancelledAcceptIsAnError", func(t *testing.T, r naming.Records) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		rec := Record(t, Signer(t, "a"), 1, "one", end)
		if err := r.Accept(ctx, rec); !errors.Is(err, context.Canceled) {
			t.Fatalf("Accept with an ended context: %v, want context.Canceled", err)
		}
		if _, err := r.Best(t.Context(), rec.Name()); !errors.Is(err, naming.ErrNotFound) {
			t.Fatalf("Best after a cancelled Accept: %v, want ErrNotFound", err)
		}
	})
	runRecovery(t, open, end)
}

// RunDurable checks what outlives the process. open opens the Records kept in dir, empty at first, and close ends
// its use.
func RunDurable(t *testing.T, open func(t *testing.T, dir string) (r naming.Records, close func())) {
	end := time.Now().Add(24 * time.Hour).UTC().Truncate(time.Second)
	dir := t.TempDir()
	s := Signer(t, "a")
	kept := withMetadata(t, s, end)
	dead := Record(t, Signer(t, "b"), 40, "dead", time.Now().Add(-time.Hour))
	committed := Committed(t, Signer(t, "c"), Recovery(t, "c"), 1, end)
	forgotten := Committed(t, Signer(t, "d"), Recovery(t, "d"), 1, time.Now().Add(-time.Hour))
	moved := Last(t, Signer(t, "e"), Recovery(t, "e"), Signer(t, "f").Name())

	r, closeIt := open(t, dir)
	for _, rec := range []naming.Record{kept, dead, committed, forgotten, moved} {
		accept(t, r, rec)
	}
	closeIt()

	r, closeIt = open(t, dir)
	defer closeIt()
	wantBest(t, r, kept)
	wantOlder(t, r, Record(t, s, kept.Sequence()-1, "older", end), kept.Sequence())
	wantBest(t, r, dead)
	wantOlder(t, r, Record(t, Signer(t, "b"), 39, "alive", end), 40)
	for _, theft := range thefts(t, Signer(t, "c"), end) {
		wantBreach(t, r, theft)
	}
	for _, theft := range thefts(t, Signer(t, "d"), end) {
		wantBreach(t, r, theft)
	}
	wantOlder(t, r, Committed(t, Signer(t, "e"), Recovery(t, "e"), naming.MaxSequence-1, end), naming.MaxSequence)
	for _, rec := range []naming.Record{committed, forgotten, moved} {
		wantBest(t, r, rec)
	}
}

// testConverge feeds two publishers' records of one sequence in every order: all stores must end with the same.
func testConverge(t *testing.T, open func(t *testing.T) naming.Records, end time.Time) {
	s := Signer(t, "a")
	recs := []naming.Record{
		Record(t, s, 3, "machine one", end),
		Record(t, s, 3, "machine two", end),
		Record(t, s, 3, "machine three", end.Add(-time.Minute)),
	}
	want := recs[0]
	if recs[1].Compare(want) > 0 {
		want = recs[1]
	}
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			r := open(t)
			for _, i := range order {
				if err := r.Accept(t.Context(), recs[i]); err != nil && !errors.Is(err, naming.ErrOlder) {
					t.Fatal(err)
				}
			}
			wantBest(t, r, want)
		})
	}
}

func testConcurrent(t *testing.T, r naming.Records, end time.Time) {
	s := Signer(t, "a")
	recs := make([]naming.Record, 24)
	for i := range recs {
		recs[i] = Record(t, s, uint64(1+i/2), fmt.Sprint("record ", i), end)
	}
	want := recs[22]
	if recs[23].Compare(want) > 0 {
		want = recs[23]
	}
	rand.Shuffle(len(recs), func(i, j int) { recs[i], recs[j] = recs[j], recs[i] })
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			var floor naming.Record
			for i := w; i < len(recs); i += 4 {
				if err := r.Accept(t.Context(), recs[i]); err != nil && !errors.Is(err, naming.ErrOlder) {
					t.Errorf("Accept: %v", err)
				}
				best, err := r.Best(t.Context(), s.Name())
				if err != nil || best.Compare(floor) < 0 || best.Compare(recs[i]) < 0 {
					t.Errorf("the best record went backwards (%v)", err)
					return
				}
				floor = best
			}
		})
	}
	all.Wait()
	wantBest(t, r, want)
}

func withMetadata(t *testing.T, s naming.Signer, end time.Time) naming.Record {
	t.Helper()
	r, err := s.Sign(naming.Statement{
		Value: "/ipfs/" + CID("root").String(), Sequence: 12, TTL: 5 * time.Minute, ValidUntil: end,
		Release: CID("release"), Policy: CID("policy"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func accept(t *testing.T, r naming.Records, rec naming.Record) {
	t.Helper()
	if err := r.Accept(t.Context(), rec); err != nil {
		t.Fatalf("Accept of sequence %d: %v", rec.Sequence(), err)
	}
}

func wantBest(t *testing.T, r naming.Records, want naming.Record) {
	t.Helper()
	got, err := r.Best(t.Context(), want.Name())
	if err != nil {
		t.Fatalf("Best: %v", err)
	}
	if got.Compare(want) != 0 || got.Name() != want.Name() {
		t.Fatalf("Best is sequence %d of %s (%s), want %d (%s)", got.Sequence(), got.Name(), got.Value(), want.Sequence(), want.Value())
	}
}

func wantOlder(t *testing.T, r naming.Records, rec naming.Record, floor uint64) {
	t.Helper()
	err := r.Accept(t.Context(), rec)
	var older *naming.OlderError
	if !errors.As(err, &older) || !errors.Is(err, naming.ErrOlder) {
		t.Fatalf("Accept of sequence %d: %v, want an OlderError", rec.Sequence(), err)
	}
	if older.Name != rec.Name() || older.Offered != rec.Sequence() || older.Floor != floor {
		t.Fatalf("the OlderError says %+v, want sequence %d against %d", *older, rec.Sequence(), floor)
	}
}
