package state_test

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
)

var (
	start   = time.Date(2026, 11, 22, 10, 0, 0, 123456000, time.UTC)
	farAway = time.Date(2345, 6, 7, 8, 9, 10, 0, time.UTC) // past what nanoseconds in 64 bits can tell
)

func TestASiteComesBackAsItWasPut(t *testing.T) {
	db := fresh(t)
	name := namingtest.Signer(t, "a").Name()
	s := state.Site{
		Name: name, Alias: "blog", Root: namingtest.CID("root"), Release: namingtest.CID("release"), Number: 3,
		Sequence: naming.MaxSequence, Files: 4, Bytes: 5, Copies: 3, PublishedAt: start, ValidUntil: farAway,
		Live: true, LiveAt: start, Dir: "/home/me/blog",
	}
	for range 2 { // an insert, then an update
		s.Copies++
		if err := db.PutSite(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		byAlias, err := db.SiteByAlias(t.Context(), "blog")
		if err != nil || !reflect.DeepEqual(byAlias, s) {
			t.Fatalf("by alias: %+v, %v\nwant %+v", byAlias, err, s)
		}
		if byName, err := db.SiteByName(t.Context(), name); err != nil || !reflect.DeepEqual(byName, s) {
			t.Fatalf("by name: %+v, %v\nwant %+v", byName, err, s)
		}
	}
	other := state.Site{Name: namingtest.Signer(t, "b").Name(), Alias: "blog"}
	if err := db.PutSite(t.Context(), other); !errors.Is(err, state.ErrConflict) {
		t.Fatalf("a second site of that alias: %v, want ErrConflict", err)
	}
	other.Alias = "aaa"
	if err := db.PutSite(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if all, err := db.Sites(t.Context()); err != nil || len(all) != 2 || all[0].Alias != "aaa" {
		t.Fatalf("sites: %v, %v", all, err)
	}
	if _, err := db.SiteByAlias(t.Context(), "none"); !errors.Is(err, state.ErrNotFound) {
		t.Fatalf("got %v, want ErrNotFound", err)
	}
	if _, err := db.SiteByName(t.Context(), naming.Name{}); !errors.Is(err, state.ErrNotFound) {
		t.Fatalf("got %v, want ErrNotFound", err)
	}
}

func TestReleasesAreListedNewestFirst(t *testing.T) {
	db := fresh(t)
	name := namingtest.Signer(t, "a").Name()
	var want []state.ReleaseRow
	for n := uint64(1); n <= 3; n++ {
		r := state.ReleaseRow{
			Site: name, Number: n, CID: namingtest.CID(fmt.Sprint("release", n)), Root: namingtest.CID(fmt.Sprint("root", n)),
			Sequence: n + 1, Time: start.Add(time.Duration(n) * time.Hour), Message: "m", Files: 1, Bytes: 2,
		}
		for range 2 {
			if err := db.PutRelease(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		want = append([]state.ReleaseRow{r}, want...)
	}
	if got, err := db.Releases(t.Context(), name); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, %v\nwant %+v", got, err, want)
	}
}

func TestHostsAreFoundByIDNameAndURL(t *testing.T) {
	db := fresh(t)
	a := state.Host{
		ID: namingtest.Signer(t, "a").Name().Peer(), Name: "alice", URL: "http://a", Token: "secret",
		Addrs: []string{"/ip4/127.0.0.1/tcp/1"}, Labels: map[string]string{"operator": "x"}, Gateways: []string{"http://g"},
		FreeBytes: 1, MaxPinBytes: 2, AddedAt: start, SeenAt: start.Add(time.Second),
	}
	b := state.Host{ID: namingtest.Signer(t, "b").Name().Peer(), Name: "bob", URL: "http://b", AddedAt: start.Add(time.Hour)}
	for _, h := range []state.Host{b, a, a} {
		if err := db.PutHost(t.Context(), h); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{a.ID.String(), "alice", "http://a"} {
		if got, err := db.HostByName(t.Context(), key); err != nil || !reflect.DeepEqual(got, a) {
			t.Fatalf("%s: %#v, %v\nwant %#v", key, got, err, a)
		}
	}
	if hs, err := db.Hosts(t.Context()); err != nil || len(hs) != 2 || hs[0].ID != a.ID {
		t.Fatalf("hosts: %v, %v", hs, err)
	}
	b.Name = "alice"
	if err := db.PutHost(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if _, err := db.HostByName(t.Context(), "alice"); !errors.Is(err, state.ErrConflict) {
		t.Fatalf("two of that name: %v, want ErrConflict", err)
	}

	site := namingtest.Signer(t, "s").Name()
	h := state.Holding{Site: site, Host: a.ID, Root: namingtest.CID("r"), NamePin: "n", TempPin: "t", State: "proved", Error: "e", VerifiedAt: start}
	for range 2 {
		if err := db.PutHolding(t.Context(), h); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := db.Holdings(t.Context(), site); err != nil || len(got) != 1 || !reflect.DeepEqual(got[0], h) {
		t.Fatalf("holdings: %+v, %v", got, err)
	}
	if err := db.RemoveHost(t.Context(), a.ID); err != nil {
		t.Fatal(err)
	}
	if err := db.RemoveHost(t.Context(), a.ID); !errors.Is(err, state.ErrNotFound) {
		t.Fatalf("removing it twice: %v, want ErrNotFound", err)
	}
	if got, err := db.Holdings(t.Context(), site); err != nil || len(got) != 0 {
		t.Fatalf("holdings of a removed host: %+v, %v", got, err)
	}
	if err := db.RemoveHolding(t.Context(), site, b.ID); err != nil {
		t.Fatal(err)
	}
}

func TestEvidenceIsBoundedAndTheLastIsFound(t *testing.T) {
	db := fresh(t)
	site := namingtest.Signer(t, "s").Name()
	alice, bob := namingtest.Signer(t, "a").Name().Peer(), namingtest.Signer(t, "b").Name().Peer()
	add := func(e state.Evidence) {
		t.Helper()
		if err := db.AddEvidence(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	r1, r2 := namingtest.CID("r1"), namingtest.CID("r2")
	last := state.Evidence{Kind: state.EvidenceAudit, Site: site, Host: bob, Root: r2, At: start.Add(time.Hour), OK: true, Verdict: "proof", Signed: []byte{1}}
	add(state.Evidence{Kind: state.EvidenceAudit, Site: site, Host: bob, Root: r1, At: start})
	add(last)
	add(state.Evidence{Kind: state.EvidenceAudit, Site: site, Host: bob, Root: r2, At: start.Add(time.Minute)})
	add(state.Evidence{Kind: state.EvidenceFetch, Site: site, Host: bob, Root: cid.Undef, At: start.Add(2 * time.Hour)})
	got, err := db.LastEvidence(t.Context(), site, state.EvidenceAudit)
	if err != nil || len(got) != 2 || !reflect.DeepEqual(got[0], last) || got[1].Root != r1 {
		t.Fatalf("got %+v, %v", got, err)
	}
	if testing.Short() {
		return
	}
	for i := range state.MaxEvidence {
		add(state.Evidence{Kind: state.EvidenceAudit, Site: site, Host: alice, Root: namingtest.CID(fmt.Sprint(i)), At: start.Add(time.Duration(i))})
	}
	add(state.Evidence{Kind: state.EvidenceAudit, Site: site, Host: alice, Root: r1, At: start.Add(time.Hour)})
	got, err = db.LastEvidence(t.Context(), site, state.EvidenceAudit)
	if err != nil || len(got) != state.MaxEvidence+2 {
		t.Fatalf("%d pieces, %v; want %d of alice and 2 of bob", len(got), err, state.MaxEvidence)
	}
}
