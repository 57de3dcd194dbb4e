package naming_test

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multibase"
	mh "github.com/multiformats/go-multihash"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
)

// spellings is a name in all ways that the IPNS specification allows.
func spellings(t *testing.T, id peer.ID) []string {
	c := peer.ToCid(id)
	out := []string{id.String()}
	for _, base := range []multibase.Encoding{
		multibase.Base36, multibase.Base36Upper, multibase.Base32, multibase.Base32Upper, multibase.Base58BTC,
		multibase.Base16, multibase.Base64url, multibase.Base64, multibase.Base2,
	} {
		s, err := c.StringOfBase(base)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	for _, s := range out {
		out = append(out, naming.Namespace+s)
	}
	return out
}

func TestEverySpellingOfAKeyIsTheSameName(t *testing.T) {
	_, secp, err := crypto.GenerateSecp256k1Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secpID, err := peer.IDFromPublicKey(secp)
	if err != nil {
		t.Fatal(err)
	}
	sum, _ := mh.Sum([]byte("an RSA key"), mh.SHA2_256, -1)
	for kind, id := range map[string]peer.ID{
		"ed25519": namingtest.Signer(t, "a").Name().Peer(), "secp256k1": secpID, "hashed": peer.ID(sum),
	} {
		want := naming.NameOf(id)
		for _, s := range spellings(t, id) {
			got, err := naming.ParseName(s)
			if err != nil || got != want {
				t.Errorf("%s: ParseName(%q) is %v, %v, want %v", kind, s, got, err, want)
			}
		}
		if s := want.String(); !strings.HasPrefix(s, "k") || s != strings.ToLower(s) {
			t.Errorf("%s: the name is written %q, want base36", kind, s)
		}
		if got := string(want.RoutingKey()); got != "/ipns/"+string(id) {
			t.Errorf("%s: routing key %q", kind, got)
		}
	}
}

// The example of the libp2p peer id specification.
func TestAKnownNameInBothOfItsSpellings(t *testing.T) {
	const b58, b32 = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", "bafzbeie5745rpv2m6tjyuugywy4d5ewrqgqqhfnf445he3omzpjbx5xqxe"
	one, err := naming.ParseName(b58)
	if err != nil {
		t.Fatal(err)
	}
	two, err := naming.ParseName(b32)
	if err != nil || one != two {
		t.Fatalf("%s is %s, and %s is %s, %v", b58, one, b32, two, err)
	}
}

func TestJunkIsNoName(t *testing.T) {
	good := namingtest.Signer(t, "a").Name()
	b64, _ := peer.ToCid(good.Peer()).StringOfBase(multibase.Base64)
	b32, _ := peer.ToCid(good.Peer()).StringOfBase(multibase.Base32)
	raw := namingtest.CID("content")
	short, _ := mh.Sum([]byte("x"), mh.SHA2_256, 20)
	sha512, _ := mh.Sum([]byte("x"), mh.SHA2_512, -1)
	noKey, _ := mh.Sum([]byte("not a public key"), mh.IDENTITY, -1)
	keyCID := func(h mh.Multihash) string {
		s, _ := cid.NewCidV1(cid.Libp2pKey, h).StringOfBase(multibase.Base36)
		return s
	}
	for why, s := range map[string]string{
		"empty":                 "",
		"the namespace only":    "/ipns/",
		"a domain":              "example.org",
		"an alias":              "blog",
		"content":               raw.String(),
		"content under ipfs":    "/ipfs/" + good.String(),
		"two namespaces":        "/ipns//ipns/" + good.String(),
		"a path behind it":      "/ipns/" + good.String() + "/index.html",
		"a final slash":         good.String() + "/",
		"space before":          " " + good.String(),
		"space behind":          good.String() + " ",
		"a line break":          good.String() + "\n",
		"a line break in it":    b64[:20] + "\n" + b64[20:],
		"a line break in b32":   b32[:20] + "\r\n" + b32[20:],
		"cut":                   good.String()[:50],
		"one letter more":       good.String() + "a",
		"a hash that is cut":    keyCID(short),
		"another hash":          keyCID(sha512),
		"an inlined non-key":    keyCID(noKey),
		"a base58 non-key":      noKey.B58String(),
		"too long":              strings.Repeat("k", 513),
		"a very long multibase": "k" + strings.Repeat("0", 500),
		"NUL":                   "k51\x00",
	} {
		if n, err := naming.ParseName(s); !errors.Is(err, naming.ErrInvalidName) || !n.IsZero() {
			t.Errorf("%s: ParseName(%q) is %v, %v, want ErrInvalidName", why, s, n, err)
		}
	}
}

func TestANameOfJunkDoesNotPanic(t *testing.T) {
	if s := naming.NameOf("junk").String(); s != "" {
		t.Fatalf("a name of junk is written %q", s)
	}
}

func TestNamesGoThroughJSON(t *testing.T) {
	want := map[naming.Name]naming.Name{namingtest.Signer(t, "a").Name(): namingtest.Signer(t, "b").Name()}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got map[naming.Name]naming.Name
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	for k, v := range want {
		if got[k] != v {
			t.Fatalf("%s came back as %v", text, got)
		}
	}
	var zero, back naming.Name
	text, _ = json.Marshal(zero)
	if err := json.Unmarshal(text, &back); err != nil || !back.IsZero() {
		t.Fatalf("the zero name came back as %v, %v", back, err)
	}
	if err := json.Unmarshal([]byte(`"example.org"`), &back); !errors.Is(err, naming.ErrInvalidName) {
		t.Fatalf("junk in JSON: %v, want ErrInvalidName", err)
	}
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{
		"k51qzi5uqu5dgr4lhxvtexugszmm4s7cfrk2bnr2vmzkdnp58gzmyzs2rrvub0", "/ipns/12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq",
		"QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", "bafzaajaiaejcbzdibmxyzdjbbehgvizh6g5tikvy47mshdy6gwbruvgwvd24seje", "example.org", "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := naming.ParseName(s)
		if err != nil {
			if !errors.Is(err, naming.ErrInvalidName) {
				t.Fatalf("ParseName(%q): %v is no ErrInvalidName", s, err)
			}
			return
		}
		again, err := naming.ParseName(n.String())
		if err != nil || again != n {
			t.Fatalf("%q is %s, which reads as %s, %v", s, n, again, err)
		}
	})
}
