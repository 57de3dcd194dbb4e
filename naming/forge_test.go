package naming_test

import (
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
)

type forgery = namingtest.Forgery

var farFuture = namingtest.FarFuture

func honest() forgery { return namingtest.Honest() }

func testKey(t testing.TB, seed string) crypto.PrivKey { return namingtest.Key(t, seed) }

func nameOfKey(t testing.TB, key crypto.PrivKey) naming.Name {
	t.Helper()
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return naming.NameOf(id)
}
