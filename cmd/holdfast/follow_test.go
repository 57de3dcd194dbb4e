package main

import (
	"strings"
	"testing"
)

func TestAnybodyWhoServesCanKeepACopyOfASite(t *testing.T) {
	alice := serveHost(t)
	anna := newUser(t)
	anna.must("host", "add", alice.json("operator", "invite", "anna")["invite"].(string), "--p2p", loopback)
	site := anna.json("publish", anna.site("blog"), "--copies", "1", "--p2p", loopback)
	name, root := site["name"].(string), site["root"].(string)

	vera := newUser(t)
	vera.fails(2, "needs NAME", "follow", "--keep", "2")
	vera.fails(2, "--keep 0 ends the copy", "follow", name, "--stop", "--keep", "1")
	vera.fails(2, "a size like 500MB", "follow", name, "--quota", "much")
	o := vera.must("follow", name, "--keep", "2", "--peer", alice.Addrs[0], "--p2p", loopback)
	if !strings.Contains(o.out, "waiting") || !strings.Contains(o.err, "holdfast serve") {
		t.Errorf("without a node that serves: %q, %q", o.out, o.err)
	}
	node := serve(t, vera, "serve", "--gateway", "127.0.0.1:0", "--p2p", loopback, "--peer", alice.Addrs[0])
	f := node.json("follow", name, "--quota", "500MB")
	if f["state"] != "whole" || f["held"] != root || f["keep"] != 2.0 || f["quota_bytes"] != 500e6 || f["bytes"].(float64) <= 0 {
		t.Errorf("%v", f)
	}
	hasExactly(t, "follow", f, "name", "root", "keep", "quota_bytes", "state", "held", "bytes", "next_try")
	if o := node.must("follow"); !strings.Contains(o.out, name+"  "+root) || !strings.Contains(o.out, "whole") || !strings.Contains(o.out, "of 500.0 MB") {
		t.Errorf("%q", o.out)
	}
	node.fails(2, "1 to 64 releases", "follow", name, "--keep", "65")
	node.fails(2, "pins.max_pin_bytes", "follow", name, "--quota", "1TB")
	node.stop()
	if o := vera.must("follow"); !strings.Contains(o.out, "whole") {
		t.Errorf("after the node has ended: %q", o.out)
	}
	if o := vera.must("follow", name, "--stop"); !strings.Contains(o.out, "followed no longer") { // without a node, too
		t.Errorf("%q", o.out)
	}
	if o := vera.must("gc"); strings.Contains(o.out, "nothing") {
		t.Errorf("the space did not come back: %q", o.out)
	}
	if v := vera.json("operator", "usage"); v["bytes"] != 0.0 {
		t.Errorf("%v bytes are kept", v["bytes"])
	}
}

func TestFriendsExchangeInvites(t *testing.T) {
	alice := serveHost(t)
	bob := serve(t, newUser(t), "serve", "--host", "--name", "bob", "--pins", "127.0.0.1:0", "--gateway", "127.0.0.1:0", "--p2p", loopback, "--allow-private")
	invite := alice.json("operator", "invite", "bob", "--quota", "5GB")["invite"].(string)
	bob.fails(2, "invite", "operator", "invite", "alice", "--reciprocal", "hfi1nonsense")
	o := bob.must("operator", "invite", "alice", "--reciprocal", invite)
	if !strings.HasPrefix(o.out, "hfi1") || !strings.Contains(o.err, "gets 5.0 GB here") {
		t.Errorf("%q, %q", o.out, o.err)
	}
	alice.must("host", "add", strings.TrimSpace(o.out))
	bob.must("publish", bob.site("blog"), "--copies", "1")
	if o := alice.must("operator", "usage"); !strings.Contains(o.out, "give and take") || !strings.Contains(o.out, "we give ") {
		t.Errorf("%q", o.out)
	}
	if o := bob.must("operator", "usage"); !strings.Contains(o.out, "they give ") {
		t.Errorf("%q", o.out)
	}
}
