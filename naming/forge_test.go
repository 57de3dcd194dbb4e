package naming_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	ipnspb "github.com/ipfs/boxo/ipns/pb"
	"github.com/ipld/go-ipld-prime/codec/dagcbor"
	"github.com/ipld/go-ipld-prime/datamodel"
	"github.com/ipld/go-ipld-prime/fluent/qp"
	"github.com/ipld/go-ipld-prime/node/basicnode"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"

	"github.com/holdfast-sites/holdfast/naming"
)

// forgery is a record in its parts, to be signed truly however wrong they are.
type forgery struct {
	value        string
	validity     string
	validityType int64
	sequence     int64
	ttl          int64
	extra        map[string]any                 // string, int64 or []byte
	data         []byte                         // in place of the CBOR of all that, where set
	envelope     func(pb *ipnspb.IpnsRecord)    // changes after signing
	sign         func(data []byte) (sig []byte) // in place of the key's, where set
	v2Only       bool
}

var farFuture = time.Date(2090, 1, 2, 3, 4, 5, 0, time.UTC)

// honest is a forgery that is none.
func honest() forgery {
	return forgery{value: "/ipfs/bafkqaaa", validity: farFuture.Format(time.RFC3339Nano), sequence: 1, ttl: int64(time.Minute)}
}

func testKey(t testing.TB, seed string) crypto.PrivKey {
	t.Helper()
	sum := sha256.Sum256([]byte(seed))
	key, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(sum[:]))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func nameOfKey(t testing.TB, key crypto.PrivKey) naming.Name {
	t.Helper()
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return naming.NameOf(id)
}

func (f forgery) cbor(t testing.TB) []byte {
	t.Helper()
	if f.data != nil {
		return f.data
	}
	n, err := qp.BuildMap(basicnode.Prototype.Map, -1, func(m datamodel.MapAssembler) {
		for k, v := range f.extra {
			switch v := v.(type) {
			case string:
				qp.MapEntry(m, k, qp.String(v))
			case int64:
				qp.MapEntry(m, k, qp.Int(v))
			case []byte:
				qp.MapEntry(m, k, qp.Bytes(v))
			default:
				panic(fmt.Sprintf("%T", v))
			}
		}
		qp.MapEntry(m, "TTL", qp.Int(f.ttl))
		qp.MapEntry(m, "Value", qp.Bytes([]byte(f.value)))
		qp.MapEntry(m, "Sequence", qp.Int(f.sequence))
		qp.MapEntry(m, "Validity", qp.Bytes([]byte(f.validity)))
		qp.MapEntry(m, "ValidityType", qp.Int(f.validityType))
	})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := dagcbor.Encode(n, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// raw signs the parts with key.
func (f forgery) raw(t testing.TB, key crypto.PrivKey) []byte {
	t.Helper()
	pb := &ipnspb.IpnsRecord{Data: f.cbor(t)}
	sign := f.sign
	if sign == nil {
		sign = func(data []byte) []byte {
			sig, err := key.Sign(data)
			if err != nil {
				t.Fatal(err)
			}
			return sig
		}
	}
	pb.SignatureV2 = sign(append([]byte("ipns-signature:"), pb.Data...))
	if !f.v2Only {
		kind := ipnspb.IpnsRecord_ValidityType(f.validityType)
		seq, ttl := uint64(f.sequence), uint64(f.ttl)
		pb.Value, pb.Validity, pb.ValidityType, pb.Sequence, pb.Ttl = []byte(f.value), []byte(f.validity), &kind, &seq, &ttl
		pb.SignatureV1 = sign(append(append(append([]byte{}, pb.Value...), pb.Validity...), "0"...))
	}
	if f.envelope != nil {
		f.envelope(pb)
	}
	raw, err := proto.Marshal(pb)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
