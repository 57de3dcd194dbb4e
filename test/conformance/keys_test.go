package conformance

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ipfs/boxo/ipns"
	pb "github.com/ipfs/boxo/ipns/pb"
	"github.com/ipfs/boxo/path"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multibase"
	"google.golang.org/protobuf/proto"
)

// key is a name with its record, signed by other people's code.
type key struct {
	name   string // base36
	peer   string // base58: 12D3Koo… or Qm…
	record []byte // nil: none is put
	bad    bool   // the record is to be refused
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
	// What IPIP-428 says of the two signatures of a record (https://specs.ipfs.tech/ipips/ipip-0428/).
	for name, spoil := range map[string]func(*pb.IpnsRecord){
		"broken v1": func(r *pb.IpnsRecord) { r.SignatureV1[0]++ },
		"broken v2": func(r *pb.IpnsRecord) { r.SignatureV2[0]++ },
		"v1 only":   func(r *pb.IpnsRecord) { r.SignatureV2, r.Data = nil, nil },
		"two values": func(r *pb.IpnsRecord) {
			r.Value = []byte("/ipfs/" + f.dir.cid.String())
		},
	} {
		k := newKey(t, crypto.Ed25519, "/ipfs/"+f.hello.cid.String(), ipns.WithV1Compatibility(true))
		var r pb.IpnsRecord
		must(t, proto.Unmarshal(k.record, &r))
		spoil(&r)
		raw, err := proto.Marshal(&r)
		must(t, err)
		k.record, k.bad = raw, name != "broken v1"
		keys[name] = k
	}
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

// records writes the records and gives their paths.
func (f *fixtures) records(t *testing.T, dir string) map[string]key {
	must(t, os.MkdirAll(dir, 0o700))
	out := make(map[string]key)
	for _, k := range f.keys {
		if k.record == nil {
			continue
		}
		path := filepath.Join(dir, k.name+".ipns-record")
		must(t, os.WriteFile(path, k.record, 0o600))
		out[path] = k
	}
	return out
}
