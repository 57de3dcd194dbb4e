package naming_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
)

func TestNextFollowsTheBestRecord(t *testing.T) {
	s := namingtest.Signer(t, "a")
	best := namingtest.Record(t, s, 7, "x", farFuture)
	for _, c := range []struct {
		what           string
		best           naming.Record
		sequence, want uint64
		end, wantEnd   time.Time
	}{
		{"the first record", naming.Record{}, 0, 1, farFuture, farFuture},
		{"a longer life", best, 0, 8, farFuture.Add(time.Hour), farFuture.Add(time.Hour)},
		{"a shorter life is lengthened", best, 0, 8, farFuture.Add(-time.Hour), farFuture},
		{"no life given", best, 0, 8, time.Time{}, farFuture},
		{"a lower sequence is raised", best, 7, 8, farFuture, farFuture},
		{"a higher sequence stays", best, 20, 20, farFuture, farFuture},
	} {
		got, err := naming.Next(c.best, naming.Statement{Sequence: c.sequence, ValidUntil: c.end})
		if err != nil || got.Sequence != c.want || !got.ValidUntil.Equal(c.wantEnd) {
			t.Errorf("%s: sequence %d until %s, %v; want %d until %s", c.what, got.Sequence, got.ValidUntil, err, c.want, c.wantEnd)
		}
	}
}

func TestWhatNextAllowsBeatsItsPredecessor(t *testing.T) {
	s := namingtest.Signer(t, "a")
	best := namingtest.Record(t, s, 1, "x", farFuture)
	for range 3 {
		st, err := naming.Next(best, naming.Statement{Value: "/ipfs/bafkqaaa", ValidUntil: beforeFuture})
		if err != nil {
			t.Fatal(err)
		}
		next, err := s.Sign(st)
		if err != nil {
			t.Fatal(err)
		}
		if next.Compare(best) <= 0 {
			t.Fatalf("sequence %d doesn't beat %d", next.Sequence(), best.Sequence())
		}
		best = next
	}
}

func TestNothingFollowsTheLastSequence(t *testing.T) {
	last := namingtest.Record(t, namingtest.Signer(t, "a"), naming.MaxSequence, "x", farFuture)
	_, err := naming.Next(last, naming.Statement{ValidUntil: farFuture})
	if !errors.Is(err, naming.ErrInvalidRecord) || !strings.Contains(err.Error(), "last sequence") {
		t.Fatalf("Next after the last sequence: %v", err)
	}
	before := namingtest.Record(t, namingtest.Signer(t, "a"), naming.MaxSequence-1, "x", farFuture)
	if _, err := naming.Next(before, naming.Statement{ValidUntil: farFuture}); !errors.Is(err, naming.ErrInvalidRecord) {
		t.Fatalf("the last sequence is for moving the site, not for a release: %v", err)
	}
}

func TestStatementsThatAreNotSigned(t *testing.T) {
	s := namingtest.Signer(t, "a")
	good := naming.Statement{Value: "/ipfs/bafkqaaa", Sequence: 1, ValidUntil: farFuture}
	for what, change := range map[string]func(*naming.Statement){
		"no value":                func(st *naming.Statement) { st.Value = "" },
		"a value with dots":       func(st *naming.Statement) { st.Value = "/ipfs/bafkqaaa/../x" },
		"no end":                  func(st *naming.Statement) { st.ValidUntil = time.Time{} },
		"an end in year 10000":    func(st *naming.Statement) { st.ValidUntil = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"a sequence of 2^63":      func(st *naming.Statement) { st.Sequence = 1 << 63 },
		"a negative TTL":          func(st *naming.Statement) { st.TTL = -time.Second },
		"a value of 10 kilobytes": func(st *naming.Statement) { st.Value += "/" + strings.Repeat("x", 10<<10) },
	} {
		st := good
		change(&st)
		if r, err := s.Sign(st); !errors.Is(err, naming.ErrInvalidRecord) || !r.IsZero() {
			t.Errorf("%s: %v, want ErrInvalidRecord", what, err)
		}
	}
	r, err := s.Sign(good)
	if err != nil || r.TTL() != naming.DefaultTTL {
		t.Errorf("a plain statement: %v, TTL %s", err, r.TTL())
	}
}

func TestASignerPrintsItsNameOnly(t *testing.T) {
	s := namingtest.Signer(t, "a")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(verb, s); got != "signer of "+s.Name().String() {
			t.Errorf("%s prints %q", verb, got)
		}
	}
}

func TestNextNeverTakesOverTheRecoveryKeyOfAThief(t *testing.T) {
	s, own := namingtest.Signer(t, "a"), namingtest.Recovery(t, "a").Commitment()
	theft := namingtest.Committed(t, s, namingtest.Recovery(t, "thief"), 7, farFuture)
	if st, err := naming.Next(theft, naming.Statement{ValidUntil: farFuture, Recovery: own}); !errors.Is(err, naming.ErrRecovery) {
		t.Errorf("on top of a thief's record: %+v, %v", st, err)
	}
	bare := namingtest.Record(t, s, 7, "x", farFuture)
	if st, err := naming.Next(bare, naming.Statement{ValidUntil: farFuture, Recovery: own}); err != nil || st.Recovery != own {
		t.Errorf("on top of a record without a commitment: %+v, %v", st, err)
	}
	kept := namingtest.Committed(t, s, namingtest.Recovery(t, "a"), 7, farFuture)
	if st, err := naming.Next(kept, naming.Statement{ValidUntil: farFuture}); err != nil || st.Recovery != own {
		t.Errorf("by a key that knows of none: %+v, %v", st, err)
	}
}

func TestAThiefWhoLeavesTheCommitmentOutDoesNotBarTheLastRecord(t *testing.T) {
	ring, err := naming.OpenKeyring(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ring.New("blog"); err != nil {
		t.Fatal(err)
	}
	seed, err := ring.Seed("blog")
	if err != nil {
		t.Fatal(err)
	}
	recovery, err := seed.Recovery()
	if err != nil {
		t.Fatal(err)
	}
	s, err := ring.Signer("blog")
	if err != nil {
		t.Fatal(err)
	}
	to := namingtest.Signer(t, "new").Name()
	last, err := naming.SignLast(s, recovery, namingtest.Record(t, s, 100, "his", farFuture), to)
	if err != nil || !last.IsLast() {
		t.Fatalf("on top of a record without a commitment: %v", err)
	}
	if _, err := naming.SignLast(s, namingtest.Recovery(t, "thief"), namingtest.Record(t, s, 100, "his", farFuture), to); !errors.Is(err, naming.ErrRecovery) {
		t.Errorf("with another recovery key: %v", err)
	}
}
