package node

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
	"github.com/holdfast-sites/holdfast/replicate"
)

func TestTheHoldersOfASiteThatHasMovedAreThoseOfItsNewName(t *testing.T) {
	dir := t.TempDir()
	n, err := Open(t.Context(), Config{
		Home: filepath.Join(dir, "home"), RuntimeDir: dir, P2P: P2PConfig{Listen: []string{"/ip4/127.0.0.1/tcp/0"}},
	}, Connected, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	holder, err := peer.Decode("12D3KooWGRUoG1rVKgDKbQkS2pUoXSv8xgyHbCyGe7TpsoHoNk3V")
	if err != nil {
		t.Fatal(err)
	}
	policy, err := replicate.EncodePolicy(replicate.Policy{
		Copies: 1, Keep: 2, Expires: namingtest.FarFuture,
		Roster: []replicate.Member{{ID: holder, Addrs: []string{"/ip4/127.0.0.1/tcp/4001"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	session, err := n.store.Begin(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	if _, err := session.Put(t.Context(), policy); err != nil {
		t.Fatal(err)
	}
	was, is := namingtest.Signer(t, "was"), namingtest.Signer(t, "is")
	now, err := is.Sign(naming.Statement{
		Value: "/ipfs/bafkqaaa", Sequence: 1, ValidUntil: time.Now().Add(time.Hour), Policy: policy.Cid(),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []naming.Record{now, namingtest.Last(t, was, namingtest.Recovery(t, "was"), is.Name())} {
		if err := n.state.Accept(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	for what, name := range map[string]naming.Name{"new": is.Name(), "old": was.Name()} {
		if got := n.rosters(name); len(got) != 1 || got[0].ID != holder {
			t.Errorf("the %s name is held by %v", what, got)
		}
	}
}
