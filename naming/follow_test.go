package naming_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
)

// points signs a record of each signer that points at the next one, and of the last one that points at last.
func points(t *testing.T, last string, signers ...naming.Signer) []naming.Record {
	t.Helper()
	var out []naming.Record
	for i, s := range signers {
		value := last
		if i+1 < len(signers) {
			value = naming.Namespace + signers[i+1].Name().String()
		}
		r, err := s.Sign(naming.Statement{
			Value: value, Sequence: 1, ValidUntil: time.Now().Add(time.Hour),
			Release: namingtest.CID(fmt.Sprint("release ", i)), Policy: namingtest.CID(fmt.Sprint("policy ", i)),
		})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

func signers(t *testing.T, n int) []naming.Signer {
	var out []naming.Signer
	for i := range n {
		out = append(out, namingtest.Signer(t, fmt.Sprint("signer ", i)))
	}
	return out
}

func TestFollowGoesThroughADeployKey(t *testing.T) {
	root := namingtest.CID("root")
	all := signers(t, 2)
	r := resolver(t, kept(t, points(t, "/ipfs/"+root.String(), all...)...))
	chain, got, err := r.Follow(t.Context(), all[0].Name())
	if err != nil || got != root || len(chain) != 2 {
		t.Fatalf("Follow: %s by %d records, %v", got, len(chain), err)
	}
	if chain[0].Record.Policy() != namingtest.CID("policy 0") || chain[1].Record.Release() != namingtest.CID("release 1") {
		t.Error("the chain isn't outermost first")
	}
}

func TestFollowEndsAtLoopsAndAtTheThirtyThirdRecord(t *testing.T) {
	all := signers(t, 40)
	root := "/ipfs/" + namingtest.CID("root").String()
	path := func(n naming.Name) string { return naming.Namespace + n.String() }
	for _, c := range []struct {
		what string
		recs []naming.Record
		kind error
		hops int
	}{
		{"32 records", points(t, root, all[:32]...), nil, 32},
		{"33 records", points(t, root, all[:33]...), naming.ErrLoop, 32},
		{"40 records", points(t, root, all...), naming.ErrLoop, 32},
		{"a name that points at itself", points(t, path(all[0].Name()), all[0]), naming.ErrLoop, 1},
		{"two that point at each other", points(t, path(all[0].Name()), all[:2]...), naming.ErrLoop, 2},
		{"a path below a root", points(t, root+"/docs", all[0]), naming.ErrInvalidRecord, 1},
		{"nothing at its end", points(t, path(all[5].Name()), all[0]), naming.ErrUnavailable, 1},
	} {
		chain, got, err := resolver(t, kept(t, c.recs...)).Follow(t.Context(), all[0].Name())
		if !errors.Is(err, c.kind) || len(chain) != c.hops || got.Defined() != (c.kind == nil) {
			t.Errorf("%s: %s by %d records, %v; want %d records, %v", c.what, got, len(chain), err, c.hops, c.kind)
		}
	}
}
