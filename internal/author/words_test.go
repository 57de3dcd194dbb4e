package author

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
)

const aCID = "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq"

func testName(t testing.TB, seed byte) naming.Name {
	t.Helper()
	var s [ed25519.SeedSize]byte
	s[0] = seed
	pub := ed25519.NewKeyFromSeed(s[:]).Public().(ed25519.PublicKey)
	k, err := crypto.UnmarshalEd25519PublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPublicKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return naming.NameOf(id)
}

// reader is an Author that only knows a key and a site.
func reader(t testing.TB) (*Author, naming.Name, naming.Name) {
	t.Helper()
	db, err := state.Open(context.Background(), t.TempDir()+"/state.db")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	keys, err := naming.OpenKeyring(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	mine, err := keys.New("mine")
	if err != nil {
		t.Fatal(err)
	}
	site := testName(t, 1)
	if err := db.PutSite(context.Background(), state.Site{Name: site, Alias: "blog"}); err != nil {
		t.Fatal(err)
	}
	return New(Config{State: db, Keys: keys, Store: blockstore.NewMemory()}), site, mine.Name
}

func TestAnAddressIsUnderstoodInAllItsSpellings(t *testing.T) {
	a, site, mine := reader(t)
	other := testName(t, 2)
	c := cid.MustParse(aCID)
	for in, want := range map[string]Address{
		aCID:                              {CID: c},
		aCID + "/a/b":                     {CID: c, Path: "a/b"},
		"/ipfs/" + aCID + "/":             {CID: c},
		"ipfs://" + aCID + "/a%20b":       {CID: c, Path: "a b"},
		"/ipfs/" + aCID + "/a%20b":        {CID: c, Path: "a%20b"}, // paths are taken byte for byte
		aCID + "/a ":                      {CID: c, Path: "a "},
		" " + aCID + "\n":                 {CID: c},
		"blog":                            {Name: site},
		"blog/index.html":                 {Name: site, Path: "index.html"},
		"/ipns/blog/x":                    {Name: site, Path: "x"},
		"mine":                            {Name: mine},
		other.String():                    {Name: other},
		"/ipns/" + other.String() + "/p/": {Name: other, Path: "p"},
		"ipns://" + other.String():        {Name: other},
	} {
		got, err := a.ParseAddress(t.Context(), in)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", in, got, err, want)
		}
	}
	for in, want := range map[string]error{
		"": ErrUsage, "  ": ErrUsage, "/ipfs/": ErrUsage, "ipns://": ErrUsage, "/": ErrUsage, "/ipfs/blog": ErrUsage,
		"ipfs://%zz": ErrUsage, "nobody": ErrNoSite, "/ipns/" + aCID: ErrNoSite, "example.org/x": ErrNoSite, "../blog": ErrNoSite,
	} {
		if got, err := a.ParseAddress(t.Context(), in); !errors.Is(err, want) {
			t.Errorf("%q: %+v, %v, want %v", in, got, err, want)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	a, _, _ := reader(f)
	for _, s := range []string{aCID + "/x", "/ipns/blog/a//b", "ipfs://" + aCID + "/%2e%2e", "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnCVHR", "/ipfs/\x00/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := a.ParseAddress(t.Context(), s)
		if err != nil {
			if !errors.Is(err, ErrUsage) && !errors.Is(err, ErrNoSite) {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		if got.CID.Defined() == (got.Name != naming.Name{}) {
			t.Fatalf("%q is both or neither: %+v", s, got)
		}
		if strings.HasPrefix(got.Path, "/") || strings.HasSuffix(got.Path, "/") {
			t.Fatalf("%q: path %q", s, got.Path)
		}
	})
}

func TestSamplesSpreadOverTheWholeSite(t *testing.T) {
	var cids []cid.Cid
	for i := range 100 {
		b, err := blockstore.NewBlock(cid.MustParse(aCID).Prefix(), []byte(fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		cids = append(cids, b.Cid())
	}
	for _, n := range []int{1, lookSamples, lookSamples + 1, 100} {
		b := merkle.Built{Root: cids[n-1], CIDs: cids[:n]}
		got := samples(b)
		if len(got) > lookSamples || len(got) == 0 {
			t.Errorf("%d blocks: %d samples", n, len(got))
		}
		seen := make(map[cid.Cid]bool)
		for _, c := range got {
			seen[c] = true
		}
		if !seen[b.Root] || len(seen) != min(n, lookSamples) {
			t.Errorf("%d blocks: %v", n, got)
		}
	}
}

func TestASiteHasAnOriginOfItsOwnWhereWeKnowOne(t *testing.T) {
	n := testName(t, 1)
	for gateway, want := range map[string]string{
		"http://127.0.0.1:8080":     "http://" + n.String() + ".ipns.localhost:8080/",
		"http://localhost:80/":      "http://" + n.String() + ".ipns.localhost:80/",
		"http://localhost":          "http://" + n.String() + ".ipns.localhost/",
		"http://[::1]:8080":         "http://" + n.String() + ".ipns.localhost:8080/",
		"https://sites.example":     "https://sites.example/ipns/" + n.String() + "/",
		"https://sites.example:1/":  "https://sites.example:1/ipns/" + n.String() + "/",
		"http://127.evil.example:1": "http://127.evil.example:1/ipns/" + n.String() + "/",
	} {
		if got := siteURL(gateway, n); got != want {
			t.Errorf("%s: %s, want %s", gateway, got, want)
		}
	}
	for gateway, want := range map[string]string{
		"http://127.0.0.1:8080": "http://blog.localhost:8080/", "http://0.0.0.0:1": "http://blog.localhost:1/",
		"http://localhost": "http://blog.localhost/", "%": "http://blog.localhost/",
	} {
		a := New(Config{Gateway: func() string { return gateway }})
		if got := a.localURL("blog"); got != want {
			t.Errorf("%s: %s, want %s", gateway, got, want)
		}
	}
}

func TestAConflictTellsWhatIsNewerAndWhatToDo(t *testing.T) {
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	newer := Newer{Root: "bafynew", Release: "bafyrel", Number: 7, Sequence: 9, Time: &at, Message: "hi\x1b", Source: "alice"}
	for _, tt := range []struct {
		err  ConflictError
		want []string
		not  []string
	}{
		{ConflictError{Alias: "blog", Newer: newer}, []string{"published by another machine", "sequence 9", "release 7 of 2026-05-01", `"hi\x1b"`,
			"root bafynew", "seen at alice", "holdfast get /ipfs/bafynew", "--rebase"}, nil},
		{ConflictError{Alias: "blog", Ours: 5, Newer: newer}, []string{"newer release than this machine's (sequence 5)"}, []string{"another machine"}},
		{ConflictError{Alias: "blog", Ours: 5, Newer: newer, WantOld: cid.MustParse(aCID)}, []string{"not at " + aCID, "--rebase"}, nil},
		{ConflictError{Alias: "blog", WantOld: cid.MustParse(aCID)}, []string{"not at " + aCID, "nobody knows a release"}, []string{"/ipfs/", "sequence", "none"}},
		{ConflictError{Alias: "blog", Newer: Newer{Sequence: 3, Source: "alice"}}, []string{"another name", "sequence 3"}, []string{"/ipfs/ "}},
		{ConflictError{Alias: "blog", Newer: Newer{Root: "bafynew", Sequence: 3, Source: naming.SourceOwn}}, []string{"known to this machine"}, []string{"release 0", "seen at"}},
	} {
		got := tt.err.Error()
		for _, w := range tt.want {
			if !strings.Contains(got, w) {
				t.Errorf("%q lacks %q", got, w)
			}
		}
		for _, w := range tt.not {
			if strings.Contains(got, w) {
				t.Errorf("%q has %q", got, w)
			}
		}
		if d := tt.err.Details(); d["newer"] != tt.err.Newer || d["our_sequence"] != tt.err.Ours {
			t.Errorf("%v", d)
		}
	}
}

func TestAShortPublishNamesWhoFailedAndWhy(t *testing.T) {
	err := &ShortError{Want: 3, Got: 1, Err: errors.New("add more"), Hosts: []HostState{
		{Name: "a", State: Proved}, {Name: "b", State: Failed, Error: "lacks a block"}, {Name: "c", State: Unreachable, Error: "refused"},
	}}
	if got := err.Error(); got != "1 of 3 wanted copies proved, nothing was signed; b failed: lacks a block; c unreachable: refused; add more" {
		t.Error(got)
	}
}

func TestFlowsOfOneSiteTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tu turns
		var wg sync.WaitGroup
		working := 0
		for range 8 {
			wg.Go(func() {
				done, err := tu.take(t.Context(), "blog")
				if err != nil {
					t.Error(err)
					return
				}
				working++
				if working != 1 {
					t.Error("two at a time")
				}
				time.Sleep(time.Second)
				working--
				done()
			})
		}
		other, err := tu.take(t.Context(), "another") // waits for nobody
		if err != nil {
			t.Fatal(err)
		}
		other()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := tu.take(ctx, "blog"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting does not end with its context: %v", err)
		}
		wg.Wait()
		if len(tu.taken) != 0 {
			t.Errorf("%d turns are kept", len(tu.taken))
		}
	})
}
