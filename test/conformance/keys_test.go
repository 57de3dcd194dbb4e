package conformance

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ipfs/boxo/ipns"
	"github.com/ipfs/boxo/path"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multibase"
)

// key is a name with its record, signed by other people's code.
type key struct {
	name   string // base36
	peer   string // base58: 12D3Koo… or Qm…
	record []byte // nil: none is put
}

// recordLife is for how long the records are valid, recordTTL for how long they may be kept.
const (
	recordLife = 24 * time.Hour
	recordTTL  = 10 * time.Minute
)

func newKeys(t *testing.T, f *fixtures) map[string]key {
	keys := map[string]key{
		"cache":   newKey(t, crypto.Ed25519, "/ipfs/"+f.cache["root"].cid.String()),
		"subpath": newKey(t, crypto.Ed25519, "/ipfs/"+f.cache["root"].cid.String()+"/root2"),
		"hello":   newKey(t, crypto.Ed25519, "/ipfs/"+f.hello.cid.String()),
		"rsa":     newKey(t, crypto.RSA, "/ipfs/"+f.hello.cid.String()),
		"json":    newKey(t, crypto.Ed25519, "/ipfs/"+f.walked["json"].cid.String()),
		"cbor":    newKey(t, crypto.Ed25519, "/ipfs/"+f.walked["cbor"].cid.String()),
		"v2":      newKey(t, crypto.Ed25519, "/ipfs/"+f.hello.cid.String(), ipns.WithV1Compatibility(false)),
		"unknown": newKey(t, crypto.Ed25519, "/ipfs/"+f.hello.cid.String()),
	}
	k := keys["unknown"]
	k.record = nil
	keys["unknown"] = k
	return keys
}

func newKey(t *testing.T, kind int, value string, opts ...ipns.Option) key {
	t.Helper()
	private, public, err := crypto.GenerateKeyPairWithReader(kind, 2048, rand.Reader)
	must(t, err)
	id, err := peer.IDFromPublicKey(public)
	must(t, err)
	name, err := peer.ToCid(id).StringOfBase(multibase.Base36)
	must(t, err)
	to, err := path.NewPath(value)
	must(t, err)
	rec, err := ipns.NewRecord(private, to, 1, time.Now().Add(recordLife), recordTTL, opts...)
	must(t, err)
	raw, err := ipns.MarshalRecord(rec)
	must(t, err)
	return key{name: name, peer: id.String(), record: raw}
}

// as is the name as a CID of another codec or base.
func (k key) as(t *testing.T, codec uint64, base multibase.Encoding) string {
	t.Helper()
	c, err := cid.Decode(k.name)
	must(t, err)
	s, err := cid.NewCidV1(codec, c.Hash()).StringOfBase(base)
	must(t, err)
	return s
}

// records writes the records and gives their paths by name.
func (f *fixtures) records(t *testing.T, dir string) map[string]string {
	must(t, os.MkdirAll(dir, 0o700))
	out := make(map[string]string)
	for _, k := range f.keys {
		if k.record == nil {
			continue
		}
		out[k.name] = filepath.Join(dir, k.name+".ipns-record")
		must(t, os.WriteFile(out[k.name], k.record, 0o600))
	}
	return out
}
