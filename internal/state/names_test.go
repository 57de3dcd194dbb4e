package state_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
	"github.com/holdfast-sites/holdfast/replicate"
)

// leads makes a record of the signer s that points at another name, and accepts it.
func leads(t testing.TB, db *state.DB, s naming.Signer, seq uint64, to naming.Name) {
	t.Helper()
	acceptAll(t, db, sign(t, s, naming.Statement{Value: naming.Namespace + to.String(), Sequence: seq, ValidUntil: farAway}))
}

func sign(t testing.TB, s naming.Signer, st naming.Statement) naming.Record {
	t.Helper()
	r, err := s.Sign(st)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func acceptAll(t testing.TB, db *state.DB, recs ...naming.Record) {
	t.Helper()
	for _, r := range recs {
		if err := db.Accept(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
}

// signers are as many as asked for, each with a key of its own.
func signers(t testing.TB, what string, n int) (out []naming.Signer) {
	for i := range n {
		out = append(out, namingtest.Signer(t, fmt.Sprint(what, i)))
	}
	return out
}

func wantFollowed(t testing.TB, db *state.DB, n naming.Name, want bool) {
	t.Helper()
	if got, err := db.Followed(t.Context(), n); err != nil || got != want {
		t.Errorf("followed: %t, %v; want %t", got, err, want)
	}
}

func wantNames(t testing.TB, what string, got []naming.Name, err error, want ...naming.Name) {
	t.Helper()
	byText := func(a, b naming.Name) int { return strings.Compare(a.String(), b.String()) }
	got, want = slices.Clone(got), slices.Clone(want)
	slices.SortFunc(got, byText)
	slices.SortFunc(want, byText)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%s: %v, %v\nwant %v", what, got, err, want)
	}
}

// namePin is a pin that follows n.
func namePin(t testing.TB, db *state.DB, id string, n naming.Name) {
	t.Helper()
	_, err := db.AddPin(t.Context(), replicate.PinRow{
		ID: id, Tenant: "t", Status: replicate.Queued, Created: start,
		Pin: replicate.Pin{CID: namingtest.CID(id), Meta: map[string]string{"holdfast.name": n.String()}},
	}, replicate.Room{})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSitesPinsAndFollowsAreFollowedAndNothingElse(t *testing.T) {
	db := fresh(t)
	s := signers(t, "s", 4)
	site, pinned, added, stranger := s[0].Name(), s[1].Name(), s[2].Name(), s[3].Name()
	acceptAll(t, db, namingtest.Record(t, s[3], 1, "x", farAway))
	if err := db.PutSite(t.Context(), state.Site{Name: site, Alias: "blog"}); err != nil {
		t.Fatal(err)
	}
	namePin(t, db, "p", pinned)
	for range 2 {
		if err := db.Follow(t.Context(), added); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []naming.Name{site, pinned, added} {
		wantFollowed(t, db, n, true)
		names, err := db.Followers(t.Context(), n)
		wantNames(t, "its followers", names, err, n)
	}
	for _, n := range []naming.Name{stranger, {}} {
		wantFollowed(t, db, n, false)
	}
	names, err := db.KeptNames(t.Context())
	wantNames(t, "kept", names, err, site, pinned, added)
	follows, err := db.Follows(t.Context())
	if err != nil || len(follows) != 1 || follows[0].Name != added || follows[0].Keep != 0 {
		t.Errorf("follows %v, %v", follows, err)
	}

	if err := db.RemovePin(t.Context(), "t", "p", start); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := db.Unfollow(t.Context(), added); err != nil {
			t.Fatal(err)
		}
	}
	wantFollowed(t, db, pinned, false)
	wantFollowed(t, db, added, false)
}

func TestWhatAFollowedChainReachesIsFollowed(t *testing.T) {
	db := fresh(t)
	s := signers(t, "s", 4)
	old, site, deploy, other := s[0], s[1], s[2], s[3]
	leads(t, db, old, 1, site.Name())
	leads(t, db, site, 1, deploy.Name())
	acceptAll(t, db, namingtest.Record(t, deploy, 1, "root", farAway))
	for _, who := range []naming.Name{old.Name(), other.Name()} {
		if err := db.Follow(t.Context(), who); err != nil {
			t.Fatal(err)
		}
	}
	namePin(t, db, "p", site.Name())
	wantFollowed(t, db, deploy.Name(), true)
	names, err := db.Followers(t.Context(), deploy.Name())
	wantNames(t, "followers of the deploy key", names, err, old.Name(), site.Name())
	names, err = db.KeptNames(t.Context())
	wantNames(t, "kept", names, err, old.Name(), site.Name(), deploy.Name(), other.Name())

	// Taken back: the author's next record leads elsewhere.
	acceptAll(t, db, namingtest.Record(t, site, 2, "root", farAway))
	wantFollowed(t, db, deploy.Name(), false)
	names, err = db.KeptNames(t.Context())
	wantNames(t, "kept after the deploy key was taken back", names, err, old.Name(), site.Name(), other.Name())
}

func TestAChainIsFollowedFor32RecordsAndACircleEnds(t *testing.T) {
	db := fresh(t)
	s := signers(t, "s", 34)
	for i := range s[:33] {
		leads(t, db, s[i], 1, s[i+1].Name())
	}
	leads(t, db, s[33], 1, s[0].Name())
	if err := db.Follow(t.Context(), s[0].Name()); err != nil {
		t.Fatal(err)
	}
	wantFollowed(t, db, s[31].Name(), true)
	wantFollowed(t, db, s[32].Name(), false)
	if names, err := db.KeptNames(t.Context()); err != nil || len(names) != 32 {
		t.Errorf("%d names are kept, %v; want 32", len(names), err)
	}

	self := namingtest.Signer(t, "self")
	leads(t, db, self, 1, self.Name())
	wantFollowed(t, db, self.Name(), false)
	if err := db.Follow(t.Context(), self.Name()); err != nil {
		t.Fatal(err)
	}
	names, err := db.Followers(t.Context(), self.Name())
	wantNames(t, "followers of a name that leads to itself", names, err, self.Name())
}

func TestNamesThatLeadToOneHideNoFollower(t *testing.T) {
	db := fresh(t)
	s := signers(t, "s", 2)
	leads(t, db, s[0], 1, s[1].Name())
	if err := db.Follow(t.Context(), s[0].Name()); err != nil {
		t.Fatal(err)
	}
	// Rows only: thousands of signatures would show nothing more.
	if err := db.Exec(t.Context(), `WITH RECURSIVE n (i) AS (SELECT 1 UNION SELECT i + 1 FROM n WHERE i < ?)
		INSERT INTO records (name, sequence, bytes, target) SELECT 'a' || i, 1, x'', ? FROM n`, 2*state.MaxWalk, s[1].Name().String()); err != nil {
		t.Fatal(err)
	}
	wantFollowed(t, db, s[1].Name(), true)
	names, err := db.Followers(t.Context(), s[1].Name())
	wantNames(t, "followers", names, err, s[0].Name())
}

func TestStrangersThatLeadToANameDoNotHideTheSiteThatDoes(t *testing.T) {
	db := fresh(t)
	to := namingtest.Signer(t, "to").Name()
	for _, s := range signers(t, "stranger", 40) {
		leads(t, db, s, 1, to)
	}
	site := namingtest.Signer(t, "site")
	leads(t, db, site, 1, to)
	if err := db.PutSite(t.Context(), state.Site{Name: site.Name(), Alias: "blog"}); err != nil {
		t.Fatal(err)
	}
	got, err := db.PointingAt(t.Context(), to)
	if err != nil || len(got) != 16 || got[0] != site.Name() {
		t.Errorf("%d names lead there, the first is %v, %v; want the site's", len(got), got[:1], err)
	}
}

func TestFollowersAreFoundByIndex(t *testing.T) {
	plan, err := fresh(t).Plan(t.Context(), state.LeadingQuery, "x", 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range plan {
		if strings.HasPrefix(step, "SCAN") && step != "SCAN up" && step != "SCAN CONSTANT ROW" {
			t.Errorf("a whole table is read: %s", step)
		}
	}
}

func TestRecordsOfAnOlderFileAreFollowedToo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	db := open(t, path)
	s := signers(t, "s", 2)
	leads(t, db, s[0], 1, s[1].Name())
	if err := db.Follow(t.Context(), s[0].Name()); err != nil {
		t.Fatal(err)
	}
	if err := db.Exec(t.Context(), `UPDATE records SET target = NULL`); err != nil { // as the migration leaves it
		t.Fatal(err)
	}
	db.Close()
	wantFollowed(t, open(t, path), s[1].Name(), true)
}

func TestStrangersAreBoundedAndTheLeastUsedGoFirst(t *testing.T) {
	const most = 32
	db := fresh(t)
	db.SetMaxStrangers(most)
	now := start
	db.SetNow(func() time.Time { now = now.Add(2 * time.Hour); return now })

	ours := signers(t, "ours", 4) // a site, what its chain reaches, a name pin, a follow
	leads(t, db, ours[0], 1, ours[1].Name())
	acceptAll(t, db, namingtest.Record(t, ours[1], 1, "x", farAway), namingtest.Record(t, ours[2], 1, "x", farAway), namingtest.Record(t, ours[3], 1, "x", farAway))
	if err := db.PutSite(t.Context(), state.Site{Name: ours[0].Name(), Alias: "blog"}); err != nil {
		t.Fatal(err)
	}
	namePin(t, db, "p", ours[2].Name())
	if err := db.Follow(t.Context(), ours[3].Name()); err != nil {
		t.Fatal(err)
	}

	strangers := signers(t, "stranger", 3*most)
	known := func(s naming.Signer) bool {
		_, err := db.Best(t.Context(), s.Name())
		if err != nil && !errors.Is(err, naming.ErrNotFound) {
			t.Fatal(err)
		}
		return err == nil
	}
	for i, s := range strangers {
		acceptAll(t, db, namingtest.Record(t, s, 1, "x", farAway))
		if !known(strangers[0]) { // which also uses it again and again
			t.Fatalf("a stranger in use was forgotten when the %dth came", i+1)
		}
	}
	var count int
	for i, s := range strangers {
		if known(s) {
			count++
		} else if i >= 3*most-most/2 {
			t.Errorf("the %dth of %d was forgotten before older ones", i+1, len(strangers))
		}
	}
	if count > most || count < most/2 {
		t.Errorf("%d strangers are kept, want at most %d", count, most)
	}
	for i, s := range ours {
		if !known(s) {
			t.Errorf("record %d of ours was forgotten", i)
		}
	}
}

func TestTheBoundHoldsBetweenTwoHandlesOnOneFile(t *testing.T) {
	const most = 16
	path := filepath.Join(t.TempDir(), "state.db")
	dbs := []*state.DB{open(t, path), open(t, path)}
	all := signers(t, "s", 3*most)
	for i, s := range all {
		dbs[i%2].SetMaxStrangers(most)
		acceptAll(t, dbs[i%2], namingtest.Record(t, s, 1, "x", farAway))
	}
	var count int
	for _, s := range all {
		if _, err := dbs[0].Best(t.Context(), s.Name()); err == nil {
			count++
		}
	}
	if count > most {
		t.Errorf("%d strangers are kept, want at most %d", count, most)
	}
}
