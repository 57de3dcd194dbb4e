package naming

import (
	"bytes"
	"errors"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
)

func FuzzImportKey(f *testing.F) {
	key, _, err := crypto.GenerateEd25519Key(bytes.NewReader(bytes.Repeat([]byte{7}, 32)))
	if err != nil {
		f.Fatal(err)
	}
	text, err := encodeKey(key)
	if err != nil {
		f.Fatal(err)
	}
	proto, err := crypto.MarshalPrivateKey(key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(proto)
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		key, err := parseKey(data)
		if err != nil {
			if !errors.Is(err, ErrInvalidKey) {
				t.Fatalf("%v is no ErrInvalidKey", err)
			}
			return
		}
		text, err := encodeKey(key)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseKey(text)
		if err != nil || !again.Equals(key) {
			t.Fatalf("a key that was read and written is another: %v", err)
		}
	})
}

func FuzzDNSLink(f *testing.F) {
	for _, s := range []string{
		"dnslink=/ipfs/bafkqaaa", "dnslink=/ipns/example.org/docs", "dnslink=/ipns/k51qzi5uqu5dgr4lhxvtexugszmm4s7cfrk2bnr2vmzkdnp58gzmyzs2rrvub0", "v=spf1", "dnslink=/ipns/../x",
	} {
		f.Add(s, "")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		link, err := chooseDNSLink([]string{a, b})
		if err != nil {
			if !errors.Is(err, ErrInvalidName) && !errors.Is(err, ErrNotFound) {
				t.Fatalf("%v is neither ErrInvalidName nor ErrNotFound", err)
			}
			return
		}
		if link.domain != "" {
			if d, err := parseDomain(link.domain); err != nil || d != link.domain {
				t.Fatalf("%q links to the domain %q, %v", a, link.domain, err)
			}
			link.path = "/ipfs/bafkqaaa" + link.path
		}
		if p, err := parseContentPath([]byte(link.path)); err != nil || p.text != link.path {
			t.Fatalf("%q links to %q, %v", a, link.path, err)
		}
	})
}
