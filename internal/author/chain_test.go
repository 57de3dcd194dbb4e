package author

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
)

// chained is an Author that has whatever releases a test makes, of the site "mine".
type chained struct {
	*Author
	t    *testing.T
	name naming.Name
	seq  uint64
}

func newChained(t *testing.T) *chained {
	a, _, name := reader(t)
	a.Resolver = naming.NewResolver(naming.ResolverConfig{Records: a.State})
	return &chained{Author: a, t: t, name: name}
}

var chainStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// add puts a release into the store, complete but for what the test gives.
func (c *chained) add(r merkle.Release) cid.Cid {
	c.t.Helper()
	if !r.Root.Defined() {
		r.Root = namingtest.CID(fmt.Sprint("root ", r.Number))
	}
	if r.Time.IsZero() {
		r.Time = chainStart.Add(time.Duration(r.Number) * time.Hour)
	}
	r.Tool = "test/1"
	b, err := merkle.EncodeRelease(r)
	if err != nil {
		c.t.Fatal(err)
	}
	s, err := c.Store.Begin(c.t.Context(), "")
	if err != nil {
		c.t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Put(c.t.Context(), b); err != nil {
		c.t.Fatal(err)
	}
	return b.Cid()
}

// chain makes n good releases and gives the newest.
func (c *chained) chain(n uint64) (head cid.Cid) {
	for i := range n {
		head = c.add(merkle.Release{Number: i + 1, Previous: head})
	}
	return head
}

// sign publishes a record of the site.
func (c *chained) sign(root, release cid.Cid) {
	c.t.Helper()
	signer, err := c.Keys.Signer("mine")
	if err != nil {
		c.t.Fatal(err)
	}
	c.seq++
	rec, err := signer.Sign(naming.Statement{
		Value: "/ipfs/" + root.String(), Release: release, Sequence: c.seq, ValidUntil: time.Now().Add(time.Hour), Recovery: signer.Recovery(),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.State.Accept(c.t.Context(), rec); err != nil {
		c.t.Fatal(err)
	}
	c.Resolver.Accepted(rec)
}

func (c *chained) verify() (VerifiedHistory, error) {
	return c.VerifyHistory(c.t.Context(), HistoryRequest{Site: c.name.String()}, func(Event) {})
}

func TestAWholeHistoryIsVerifiedToItsStart(t *testing.T) {
	c := newChained(t)
	head := c.chain(2500)
	c.sign(namingtest.CID("root 2500"), head)
	told := 0
	v, err := c.VerifyHistory(t.Context(), HistoryRequest{Site: c.name.String()}, func(Event) { told++ })
	if err != nil || v.Releases != 2500 || len(v.Warnings) != 0 || !v.Since.Equal(chainStart.Add(time.Hour)) || v.Release != head.String() {
		t.Fatalf("%+v, %v", v, err)
	}
	if told == 0 {
		t.Error("nothing was told on the way")
	}
}

func TestABrokenHistoryIsNamedAtItsFirstBreak(t *testing.T) {
	good := func(c *chained) cid.Cid { return c.chain(3) }
	root := func(n int) cid.Cid { return namingtest.CID(fmt.Sprint("root ", n)) }
	for name, tc := range map[string]struct {
		head   func(c *chained) cid.Cid
		root   cid.Cid
		kind   error
		number uint64
		says   string
	}{
		"another root than the record's": {good, root(2), merkle.ErrMalformed, 3, "the signed record leads to"},
		"a release that is not there": {func(c *chained) cid.Cid {
			return c.add(merkle.Release{Number: 5, Previous: c.add(merkle.Release{Number: 4, Previous: namingtest.CID("lost")})})
		}, root(5), blockstore.ErrUnavailable, 3, "nobody"},
		"a number left out": {func(c *chained) cid.Cid { return c.add(merkle.Release{Number: 5, Previous: c.chain(3)}) },
			root(5), merkle.ErrMalformed, 4, "it says that it is release 3"},
		"a number that does not grow": {func(c *chained) cid.Cid { return c.add(merkle.Release{Number: 3, Previous: c.chain(3)}) },
			root(3), merkle.ErrMalformed, 2, "it says that it is release 3"},
		"no start": {func(c *chained) cid.Cid { return c.add(merkle.Release{Number: 2}) },
			root(2), merkle.ErrMalformed, 1, "names none before it"},
		"a block that is no release": {func(c *chained) cid.Cid { return c.add(merkle.Release{Number: 2, Previous: c.junk()}) },
			root(2), merkle.ErrMalformed, 1, "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newChained(t)
			c.sign(tc.root, tc.head(c))
			_, err := c.verify()
			var broken *ChainError
			if !errors.As(err, &broken) || !errors.Is(err, tc.kind) || broken.Number != tc.number || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("%v, want release %d, %v, %q", err, tc.number, tc.kind, tc.says)
			}
			if tc.number < 3 && tc.kind == merkle.ErrMalformed { // the plain list goes as far as it can, and says so
				r, err := c.History(t.Context(), HistoryRequest{Site: c.name.String()})
				if err != nil || r.Gap == nil || r.Gap.Number != tc.number || len(r.Releases) != 1 || !r.Releases[0].Current {
					t.Errorf("%+v, %v", r, err)
				}
			}
		})
	}
}

// junk is a block of 64 KiB that is no release.
func (c *chained) junk() cid.Cid {
	b, err := blockstore.NewBlock(cid.Prefix{Version: 1, Codec: cid.DagCBOR, MhType: 0x12, MhLength: -1}, []byte(strings.Repeat("x", 64<<10)))
	if err != nil {
		c.t.Fatal(err)
	}
	s, err := c.Store.Begin(c.t.Context(), "")
	if err != nil {
		c.t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Put(c.t.Context(), b); err != nil {
		c.t.Fatal(err)
	}
	return b.Cid()
}

func TestClocksThatRanBackwardsAreAWarningAndFewWords(t *testing.T) {
	c := newChained(t)
	var head cid.Cid
	for i := range uint64(50) {
		head = c.add(merkle.Release{Number: i + 1, Previous: head, Time: chainStart.Add(-time.Duration(i) * time.Hour)})
	}
	c.sign(namingtest.CID("root 50"), head)
	v, err := c.verify()
	if err != nil || v.Releases != 50 || len(v.Warnings) != maxChainWarnings+1 {
		t.Fatalf("%d warnings, %v", len(v.Warnings), err)
	}
	if !strings.Contains(v.Warnings[0], "release 50") || !strings.Contains(v.Warnings[0], "release 49") || !strings.Contains(v.Warnings[maxChainWarnings], "29 more") {
		t.Errorf("%q", v.Warnings)
	}
}

func TestAHistoryWithoutEndIsNotFollowedForEver(t *testing.T) {
	c := newChained(t)
	head, n := c.chain(30), 0
	var last error
	for _, err := range c.releasesUpTo(t.Context(), head, 10) {
		n++
		last = err
	}
	var broken *ChainError
	if !errors.As(last, &broken) || !errors.Is(last, merkle.ErrLimit) || broken.Number != 20 || n != 11 {
		t.Errorf("after %d: %v", n, last)
	}
}

func TestAHistoryGoesOnBehindAGapWithWhatWasWrittenDown(t *testing.T) {
	c := newChained(t)
	lost := namingtest.CID("lost")
	head := c.add(merkle.Release{Number: 4, Previous: lost, Message: "four"})
	c.sign(namingtest.CID("root 4"), head)
	for n := range uint64(3) {
		row := state.ReleaseRow{Site: c.name, Number: n + 1, CID: namingtest.CID(fmt.Sprint("release ", n+1)), Root: namingtest.CID(fmt.Sprint("root ", n+1)), Sequence: n + 1, Time: chainStart}
		if err := c.State.PutRelease(context.Background(), row); err != nil {
			t.Fatal(err)
		}
	}
	r, err := c.History(t.Context(), HistoryRequest{Site: c.name.String(), Limit: 3})
	if err != nil || len(r.Releases) != 3 || r.Gap == nil || r.Gap.Number != 3 || r.Gap.Release != lost.String() {
		t.Fatalf("%+v, %v", r, err)
	}
	for i, want := range []HistoryEntry{{Number: 4, Current: true}, {Number: 3, Noted: true}, {Number: 2, Noted: true}} {
		if got := r.Releases[i]; got.Number != want.Number || got.Current != want.Current || got.Noted != want.Noted {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	h, err := c.headOf(t.Context(), c.name)
	if err != nil {
		t.Fatal(err)
	}
	for number, want := range map[int64]uint64{4: 4, 3: 3, 1: 1, -1: 3, -3: 1} {
		if got, err := c.numbered(t.Context(), h, number); err != nil || got.Number != want || got.Root != namingtest.CID(fmt.Sprint("root ", want)) {
			t.Errorf("release %d: %+v, %v", number, got, err)
		}
	}
	for _, number := range []int64{5, -4, 1 << 62, -1 << 62} {
		if got, err := c.numbered(t.Context(), h, number); err == nil {
			t.Errorf("release %d: %+v", number, got)
		}
	}
}

func TestARecordByAnotherToolHasNoHistory(t *testing.T) {
	c := newChained(t)
	c.sign(namingtest.CID("root"), cid.Undef)
	if _, err := c.verify(); !errors.Is(err, naming.ErrNotFound) || !strings.Contains(err.Error(), "another tool") {
		t.Error(err)
	}
}
