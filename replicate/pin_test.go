package replicate_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/naming/namingtest"
	"github.com/holdfast-sites/holdfast/replicate"
)

func TestATokenIsKeptAsItsHashOnly(t *testing.T) {
	h := newPinHost(t)
	tok, secret, err := replicate.CreateToken(t.Context(), h.db, "laptop", replicate.Scope{})
	if err != nil || !strings.HasPrefix(secret, "hft_") || len(secret) < 40 {
		t.Fatalf("%q, %v", secret, err)
	}
	if s := fmt.Sprintf("%+v", tok); strings.Contains(s, secret) {
		t.Fatal("the token holds its secret")
	}
	who, err := replicate.Authenticate(t.Context(), h.db, secret, time.Now())
	if err != nil || who.ID != tok.ID || who.Label != "laptop" {
		t.Fatalf("%+v, %v", who, err)
	}
	all, err := h.db.Tokens(t.Context())
	if err != nil || len(all) != 2 || all[1].Used.IsZero() {
		t.Fatalf("tokens: %+v, %v; want the last one used", all, err)
	}
	if all[1].Used = (time.Time{}); !reflect.DeepEqual(all[1], tok) {
		t.Fatalf("token %+v, want %+v", all[1], tok)
	}
	if err := h.db.RevokeToken(t.Context(), tok.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := replicate.Authenticate(t.Context(), h.db, secret, time.Now()); !errors.Is(err, replicate.ErrUnauthorized) {
		t.Fatalf("a revoked token: %v, want ErrUnauthorized", err)
	}
	if err := h.db.RevokeToken(t.Context(), tok.ID); !errors.Is(err, replicate.ErrNoToken) {
		t.Fatalf("revoking it twice: %v, want ErrNoToken", err)
	}
	if _, _, err := replicate.CreateToken(t.Context(), h.db, strings.Repeat("a", 256), replicate.Scope{}); !errors.Is(err, replicate.ErrInvalid) {
		t.Fatalf("a label of 256: %v, want ErrInvalid", err)
	}
}

// Whatever is accepted as a pin is within the limits, and comes back the same.
func FuzzParsePin(f *testing.F) {
	c := namingtest.CID("x").String()
	for _, s := range []string{
		`{"cid":"` + c + `"}`,
		`{"cid":"` + c + `","name":"a","origins":["` + someAddr + `"],"meta":{"a":"b"}}`,
		`{"cid":"QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG","meta":{"holdfast.keep":"3","holdfast.role":"standby","holdfast.max_bytes":"7"}}`,
		`{"cid":"` + c + `","meta":{"holdfast.name":"12D3KooWGtMbxbqRhFWAxtrrPzVQGQLmqyhSTQMq3vTbfCyGP3W2","holdfast.auditor":"` + somePeer + `"}}`,
		`null`, `{}`, `{"cid":""}`, "{\"cid\":\"" + c + "\",\"name\":\"\xff\"}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := replicate.ParsePin(b)
		if err != nil {
			if !errors.Is(err, replicate.ErrInvalid) {
				t.Fatalf("%v is no ErrInvalid", err)
			}
			return
		}
		if len(p.Origins) > replicate.MaxOrigins || len(p.Meta) > replicate.MaxMetaKeys || len(p.Name) > 4*replicate.MaxPinName {
			t.Fatalf("over the limits: %+v", p)
		}
		if _, err := p.Terms(); err != nil {
			t.Fatalf("accepted, and its terms can't be read: %v", err)
		}
		out, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		again, err := replicate.ParsePin(out)
		if err != nil || !again.CID.Equals(p.CID) || again.Name != p.Name {
			t.Fatalf("%s came back as %+v, %v", out, again, err)
		}
	})
}

// Whatever is accepted as a query can be asked of a store.
func FuzzParseQuery(f *testing.F) {
	for _, s := range []string{
		"", "limit=5", "cid=" + namingtest.CID("x").String() + "&status=queued,pinned&match=ipartial&name=a%25",
		"before=2020-07-27T17:32:28Z&after=0001-01-01T00:00:00.000000001Z", "meta=%7B%22a%22%3A%22b%22%7D",
		"meta[a]=b&meta%5Bc%5D=d", "meta[]=", "meta[a]=1&meta[a]=2", "meta[a",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := replicate.ParseQuery(raw)
		if err != nil {
			if !errors.Is(err, replicate.ErrInvalid) {
				t.Fatalf("%v is no ErrInvalid", err)
			}
			return
		}
		if q.Limit < 0 || q.Limit > replicate.MaxQueryLimit || len(q.CIDs) > replicate.MaxQueryCIDs {
			t.Fatalf("over the limits: %+v", q)
		}
	})
}
