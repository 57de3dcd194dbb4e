package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhatIsDeniedHoldsAtOnceAndIsTakenBack(t *testing.T) {
	host := serveHost(t)
	const id = "bafybeihvvulpp4evxj7x7armbqcyg6uezzuig6jp3lktpbovlqfkuqeuoq"
	if d := host.json("deny", "check", id); d["denied"] != false {
		t.Fatalf("%v", d)
	}
	if d := host.json("deny", "add", id, "--status", "451", "--reason", "by order"); d["denied"] != true || d["status"] != 451.0 || d["reason"] != "by-order" {
		t.Errorf("%v", d)
	}
	if o := host.must("deny", "check", "/ipfs/"+id+"/any/page").out; !strings.Contains(o, "denied by zz-local.deny:1") {
		t.Errorf("%s", o)
	}
	host.must("deny", "remove", id)
	host.fails(3, "not denied", "deny", "remove", id)
	// By a list that somebody else keeps.
	if err := os.WriteFile(filepath.Join(host.home, "denylists", "other.deny"), []byte("name: x\n---\n/ipns/bad.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	host.must("deny", "add", "/ipfs/"+id+"/x*")
	if d := host.json("deny", "check", "bad.example"); d["denied"] != true || d["rule"] != "other.deny:3" {
		t.Errorf("%v", d)
	}
	host.must("deny", "remove", "bad.example")
	if l := host.json("deny", "list"); len(l["files"].([]any)) != 2 || l["rules"] != 3.0 || len(l["local"].([]any)) != 2 {
		t.Errorf("%v", l)
	}
	host.fails(2, "neither a CID nor a name", "deny", "add", "nonsense")
	host.fails(2, "410 or 451", "deny", "add", id, "--status", "200")
}
