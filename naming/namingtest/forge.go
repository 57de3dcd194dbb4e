package namingtest

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
	"google.golang.org/protobuf/proto"
)

// Forgery is a record in its parts, to be signed truly however wrong they are.
type Forgery struct {
	Value        string
	Validity     string
	ValidityType int64
	Sequence     int64
	TTL          int64                          // nanoseconds
	Extra        map[string]any                 // metadata: string, int64 or []byte
	Data         []byte                         // in place of the CBOR of all that, where set
	Envelope     func(pb *ipnspb.IpnsRecord)    // changes after signing; may be nil
	Sign         func(data []byte) (sig []byte) // in place of the key's, where set
	V2Only       bool
}

// FarFuture is when an Honest record ends.
var FarFuture = time.Date(2090, 1, 2, 3, 4, 5, 0, time.UTC)

// Honest is a forgery that is none.
func Honest() Forgery {
	return Forgery{Value: "/ipfs/bafkqaaa", Validity: FarFuture.Format(time.RFC3339Nano), Sequence: 1, TTL: int64(time.Minute)}
}

// Key is the private key of Signer(seed).
func Key(t testing.TB, seed string) crypto.PrivKey {
	t.Helper()
	sum := sha256.Sum256([]byte(seed))
	key, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(sum[:]))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// CBOR is the data that is signed.
func (f Forgery) CBOR(t testing.TB) []byte {
	t.Helper()
	if f.Data != nil {
		return f.Data
	}
	n, err := qp.BuildMap(basicnode.Prototype.Map, -1, func(m datamodel.MapAssembler) {
		for k, v := range f.Extra {
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
		qp.MapEntry(m, "TTL", qp.Int(f.TTL))
		qp.MapEntry(m, "Value", qp.Bytes([]byte(f.Value)))
		qp.MapEntry(m, "Sequence", qp.Int(f.Sequence))
		qp.MapEntry(m, "Validity", qp.Bytes([]byte(f.Validity)))
		qp.MapEntry(m, "ValidityType", qp.Int(f.ValidityType))
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

// Raw signs the parts with key.
func (f Forgery) Raw(t testing.TB, key crypto.PrivKey) []byte {
	t.Helper()
	pb := &ipnspb.IpnsRecord{Data: f.CBOR(t)}
	sign := f.Sign
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
	if !f.V2Only {
		kind := ipnspb.IpnsRecord_ValidityType(f.ValidityType)
		seq, ttl := uint64(f.Sequence), uint64(f.TTL)
		pb.Value, pb.Validity, pb.ValidityType, pb.Sequence, pb.Ttl = []byte(f.Value), []byte(f.Validity), &kind, &seq, &ttl
		pb.SignatureV1 = sign(append(append(append([]byte{}, pb.Value...), pb.Validity...), "0"...))
	}
	if f.Envelope != nil {
		f.Envelope(pb)
	}
	raw, err := proto.Marshal(pb)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
