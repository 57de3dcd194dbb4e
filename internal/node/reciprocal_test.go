package node_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/control"
	"github.com/holdfast-sites/holdfast/internal/node"
	"github.com/holdfast-sites/holdfast/internal/testnet"
	"github.com/holdfast-sites/holdfast/replicate"
)

// ask has a peer do what has to succeed.
func ask[R any](t *testing.T, p *testnet.Peer, method string, params any) (out R) {
	t.Helper()
	if err := p.Call(method, params, &out); err != nil {
		t.Fatalf("%s of %s: %v", method, p.Name, err)
	}
	return out
}

// balanceOf is the only balance in a host's usage.
func balanceOf(t *testing.T, p *testnet.Peer) node.PeerBalance {
	t.Helper()
	u := ask[node.HostUsage](t, p, "usage", struct{}{})
	if len(u.Balance) != 1 {
		t.Fatalf("balances of %s: %+v", p.Name, u.Balance)
	}
	return u.Balance[0]
}

func TestFriendsGiveEachOtherAsMuchRoomAndSeeTheBalance(t *testing.T) {
	t.Parallel()
	net := testnet.New(t)
	alice := net.Host("alice")
	bob := net.Host("bob", alice)
	const quota = 5_000_000
	invite := ask[node.InviteResult](t, alice, "invite", node.TokenRequest{Label: "bob", Quota: quota})
	answer := ask[node.Reciprocal](t, bob, "invite reciprocal", node.ReciprocalRequest{TokenRequest: node.TokenRequest{Label: "alice"}, Invite: invite.Invite, SameQuota: true})
	if answer.Quota != quota || answer.Host.Name != "alice" {
		t.Errorf("%+v", answer)
	}
	inv, err := replicate.ParseInvite(answer.Invite)
	if err != nil || inv.Quota != quota || inv.Answers.String() != alice.Info().Peer {
		t.Errorf("%v, %v", inv, err)
	}
	if info := ask[author.HostInfo](t, alice, "host add", author.HostRequest{Where: answer.Invite}); info.Name != "bob" || info.Warning != "" {
		t.Errorf("%+v", info)
	}

	publishPage(t, net, bob, strings.Repeat("bob's page ", 500))
	if b := balanceOf(t, alice); b.Peer != bob.Info().Peer || b.Name != "bob" || b.ForThem < 5000 || b.ForUs != 0 || b.Difference != b.ForThem || fmt.Sprint(b.Labels) != "[bob]" {
		t.Errorf("alice: %+v", b)
	}
	if b := balanceOf(t, bob); b.Name != "alice" || b.ForThem != 0 || b.ForUs < 5000 || b.Difference != -b.ForUs {
		t.Errorf("bob: %+v", b)
	}
	publishPage(t, net, alice, "a page of alice's")
	if b := balanceOf(t, alice); b.ForThem < 5000 || b.ForUs <= 0 || b.Difference != b.ForThem-b.ForUs {
		t.Errorf("alice: %+v", b)
	}
}

func TestAnInviteIsAnsweredOnlyByWhomItIsFor(t *testing.T) {
	t.Parallel()
	net := testnet.New(t)
	alice := net.Host("alice")
	bob := net.Host("bob", alice)
	carol := net.Host("carol", alice)
	gate := net.Gateway("gate", alice)
	invite := ask[node.InviteResult](t, alice, "invite", node.TokenRequest{Label: "bob"}).Invite
	const small = 1000
	answer := ask[node.Reciprocal](t, bob, "invite reciprocal", node.ReciprocalRequest{TokenRequest: node.TokenRequest{Label: "alice", Quota: small}, Invite: invite})
	if answer.Quota != small {
		t.Errorf("%+v", answer)
	}
	for what, c := range map[string]struct {
		p      *testnet.Peer
		invite string
		kind   control.Kind
	}{
		"its own":             {alice, invite, control.Usage},
		"the answer":          {alice, answer.Invite, control.Usage},
		"no invite":           {bob, "hello", control.Usage},
		"with no host to use": {gate, invite, control.Unavailable},
	} {
		err := c.p.Call("invite reciprocal", node.ReciprocalRequest{Invite: c.invite}, nil)
		var ce *control.Error
		if !errors.As(err, &ce) || ce.Kind != c.kind {
			t.Errorf("%s: %v, want %s", what, err, c.kind)
		}
	}
	if info := ask[author.HostInfo](t, carol, "host add", author.HostRequest{Where: answer.Invite}); !strings.Contains(info.Warning, "another host") {
		t.Errorf("carol took up an answer to alice: %+v", info)
	}
	if u := ask[node.HostUsage](t, carol, "usage", struct{}{}); len(u.Balance) != 0 {
		t.Errorf("%+v", u.Balance)
	}
	ask[node.TokenInfo](t, alice, "token revoke", node.Address{Address: "bob"})
	if info := ask[author.HostInfo](t, alice, "host add", author.HostRequest{Where: answer.Invite}); !strings.Contains(info.Warning, "gone") {
		t.Errorf("%+v", info)
	}
	req := node.ReciprocalRequest{Invite: invite}
	if shown := fmt.Sprintf("%v %+v %#v %v", req, req, req, []node.ReciprocalRequest{req}); strings.Contains(shown, invite) {
		t.Errorf("the invite is in %s", shown)
	}
}
