package testnet

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/node"
)

// follow has a node keep a copy of its own accord, and waits for what comes of it.
func follow(p *Peer, address string, keep int, quota int64) (f node.Follow) {
	p.net.t.Helper()
	if err := p.Call("follow", node.FollowRequest{Address: address, Keep: &keep, Quota: &quota}, &f); err != nil {
		p.net.t.Fatalf("%s follows: %v", p.Name, err)
	}
	return f
}

// followUntil looks at what a node follows until that is as wanted.
func followUntil(p *Peer, what string, ok func(node.Follow) bool) node.Follow {
	t := p.net.t
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); ; {
		var all node.Follows
		if err := p.Call("follows", struct{}{}, &all); err != nil {
			t.Fatal(err)
		}
		if len(all.Follows) == 1 && ok(all.Follows[0]) {
			return all.Follows[0]
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("%s: not %s: %+v", p.Name, what, all.Follows)
		}
	}
}

// keepsNothing waits until a node keeps nothing: what is being worked on just then is let go of when that ends.
func keepsNothing(p *Peer) {
	t := p.net.t
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); ; {
		var u node.HostUsage
		if err := p.Call("usage", struct{}{}, &u); err != nil {
			t.Fatal(err)
		}
		if u.Bytes == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("%s keeps %d bytes", p.Name, u.Bytes)
		}
	}
}

// helped is a host, an author who has published there, and a gateway that is nobody's host.
func helped(t *testing.T, size int) (n *Net, alice, anna, vera *Peer, p author.Published) {
	long(t)
	n = New(t)
	alice = n.Host("alice")
	anna = n.Author("anna", alice)
	vera = n.Gateway("vera", alice)
	return n, alice, anna, vera, publish(anna, makeSite(n, "first", size), 1)
}

func TestAVolunteersCopyOutlivesTheHostsAndARestart(t *testing.T) {
	t.Parallel()
	n, alice, anna, vera, p := helped(t, 1<<20)
	f := follow(vera, p.Name, 2, 0)
	if f.State != node.FollowWhole || f.Held != p.Root || f.Bytes < 1<<20 {
		t.Fatalf("%+v", f)
	}
	second := makeSite(n, "2nd", 1<<20)
	p2 := publish(anna, second, 1)
	f = followUntil(vera, "at the second release", func(f node.Follow) bool { return f.Held == p2.Root })
	if f.Bytes < 2<<20 {
		t.Errorf("of two releases it keeps %d bytes", f.Bytes)
	}
	ursula := n.Gateway("ursula", vera)
	alice.Stop()
	anna.Stop()
	vera.Restart()
	servesWhole(ursula, p2, second)
	if f = followUntil(vera, "whole", func(f node.Follow) bool { return f.State == node.FollowWhole }); f.Bytes < 2<<20 {
		t.Errorf("after a restart %+v", f)
	}
}

func TestAVolunteerKeepsWhatItHasWhereTheNewReleaseIsTooLarge(t *testing.T) {
	t.Parallel()
	n, _, anna, vera, p := helped(t, 256<<10)
	const quota = 512 << 10
	if f := follow(vera, p.Name, 2, quota); f.State != node.FollowWhole {
		t.Fatalf("%+v", f)
	}
	large := makeSite(n, "large", 1<<20)
	p2 := publish(anna, large, 1)
	f := followUntil(vera, "refused", func(f node.Follow) bool { return f.Root == p2.Root && f.LastError != "" })
	if f.State != node.FollowBehind || f.Held != p.Root || f.Bytes > quota || !strings.Contains(f.LastError, "does not fit") || f.NextTry != nil {
		t.Errorf("%+v", f)
	}
	if f = follow(vera, p.Name, 1, 2<<20); f.State != node.FollowWhole || f.Held != p2.Root {
		t.Errorf("with room for it: %+v", f)
	}
}

func TestWhoEndsACopyGetsTheSpaceBack(t *testing.T) {
	t.Parallel()
	_, _, _, vera, p := helped(t, 256<<10)
	follow(vera, p.Name, 2, 0)
	f := follow(vera, p.Name, 0, 0) // the name is followed on
	if f.State != node.FollowRecord || f.Root != p.Root {
		t.Errorf("%+v", f)
	}
	keepsNothing(vera)
	follow(vera, p.Name, 2, 0)
	if err := vera.Call("unfollow", node.Address{Address: p.Name}, nil); err != nil {
		t.Fatal(err)
	}
	keepsNothing(vera)
	var all node.Follows
	if err := vera.Call("follows", struct{}{}, &all); err != nil || len(all.Follows) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestAVolunteerIsNobodysHost(t *testing.T) {
	t.Parallel()
	_, _, anna, vera, p := helped(t, 64<<10)
	follow(vera, p.Name, 2, 0)
	if err := vera.Call("invite", node.Address{Address: "anna"}, nil); err == nil {
		t.Error("it invites authors")
	}
	req := author.HostRequest{Where: vera.Info().Addrs[0], Token: "hft_guessed"}
	if err := anna.Call("host add", req, nil); err == nil {
		t.Error("it can be added as a host")
	}
}
