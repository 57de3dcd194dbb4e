package node_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/node"
	"github.com/holdfast-sites/holdfast/internal/testnet"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
)

// volunteerIs looks for volunteers until the only one is in that state.
func volunteerIs(t *testing.T, a *testnet.Peer, p author.Published, want string) author.Volunteer {
	t.Helper()
	name, err := naming.ParseName(p.Name)
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(time.Minute); ; {
		got, err := a.Node().Author().Volunteers(t.Context(), name, cid.MustParse(p.Root), 4)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 1 && got[0].State == want {
			return got[0]
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("volunteers %+v, want one that is %s", got, want)
		}
	}
}

// publishPage publishes a site of one page as "blog", on one host.
func publishPage(t *testing.T, net *testnet.Net, a *testnet.Peer, page string) (p author.Published) {
	t.Helper()
	dir, copies := net.Dir("site"), 1
	if err := os.WriteFile(filepath.Join(dir, "index.html"), []byte(page), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := a.Call("publish", author.PublishRequest{Dir: dir, Alias: "blog", Copies: &copies}, &p); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTheAuthorSeesAVolunteerAndWhetherTheSiteIsThere(t *testing.T) {
	t.Parallel()
	net := testnet.New(t)
	alice := net.Host("alice")
	anna := net.Author("anna", alice)
	vera := net.Gateway("vera", alice)
	p := publishPage(t, net, anna, "<h1>liked</h1>")
	one := 1
	var f node.Follow
	if err := vera.Call("follow", node.FollowRequest{Address: p.Name, Keep: &one}, &f); err != nil || f.State != node.FollowWhole {
		t.Fatalf("%+v, %v", f, err)
	}
	v := volunteerIs(t, anna, p, author.Sampled)
	if v.ID != vera.Info().Peer || v.At == nil || v.Detail == "" {
		t.Errorf("%+v, want %s", v, vera.Info().Peer)
	}
	if err := vera.Call("unfollow", node.Address{Address: p.Name}, nil); err != nil {
		t.Fatal(err)
	}
	volunteerIs(t, anna, p, author.Lacking) // the DHT remembers for longer than it is true
}

func TestOneCopyIsKeptHoweverManyAskForItAtOnce(t *testing.T) {
	t.Parallel()
	net := testnet.New(t)
	alice := net.Host("alice")
	anna := net.Author("anna", alice)
	vera := net.Gateway("vera", alice)
	p := publishPage(t, net, anna, "<h1>liked by many</h1>")
	var asking sync.WaitGroup
	for keep := range 8 {
		asking.Go(func() {
			keep := keep + 1
			if err := vera.Call("follow", node.FollowRequest{Address: p.Name, Keep: &keep}, nil); err != nil {
				t.Error(err)
			}
		})
	}
	asking.Wait()
	var used node.HostUsage
	if err := vera.Call("usage", struct{}{}, &used); err != nil || len(used.Tenants) != 1 || used.Tenants[0].Pins != 1 {
		t.Errorf("%+v, %v", used.Tenants, err)
	}
}

func TestWhatTwoAskForAtOnceOfACopyBothHolds(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.Network = "offline"
	n := open(t, cfg, node.Connected)
	keep, quota := 3, int64(5_000_000)
	var asking sync.WaitGroup
	for i := range 20 {
		name := namingtest.Signer(t, fmt.Sprint("site ", i)).Name().String()
		for _, req := range []node.FollowRequest{{Address: name, Keep: &keep}, {Address: name, Quota: &quota}} {
			asking.Go(func() {
				if err := callIn(t, n, "follow", req, nil); err != nil {
					t.Error(err)
				}
			})
		}
	}
	asking.Wait()
	var all node.Follows
	if err := callIn(t, n, "follows", struct{}{}, &all); err != nil || len(all.Follows) != 20 {
		t.Fatalf("%d follows, %v", len(all.Follows), err)
	}
	for _, f := range all.Follows {
		if f.Quota != quota || f.Keep != keep {
			t.Errorf("%+v", f)
		}
	}
}
