package namingtest

import (
	"bytes"
	"testing"

	ipnspb "github.com/ipfs/boxo/ipns/pb"

	"github.com/holdfast-sites/holdfast/naming"
)

// Fault is bytes that are no record of a name, and what must be said of them.
type Fault struct {
	Row  string // what is wrong with them
	Raw  []byte
	Kind error  // a sentinel of naming
	Says string // part of the error's text
}

// Faults is one of each kind of record that must be refused wherever it comes in, as records of Signer(seed).
func Faults(t testing.TB, seed string) []Fault {
	t.Helper()
	key := Key(t, seed)
	change := func(f func(*Forgery)) []byte { x := Honest(); f(&x); return x.Raw(t, key) }
	envelope := func(f func(*ipnspb.IpnsRecord)) []byte { return change(func(x *Forgery) { x.Envelope = f }) }
	value := func(v string) []byte { return change(func(x *Forgery) { x.Value = v }) }
	validity := func(v string) []byte { return change(func(x *Forgery) { x.Validity = v }) }
	return []Fault{
		{"the signature is absent", envelope(func(pb *ipnspb.IpnsRecord) { pb.SignatureV1, pb.SignatureV2 = nil, nil }), naming.ErrSignature, "signature"},
		{"the signature is wrong", envelope(func(pb *ipnspb.IpnsRecord) { pb.SignatureV2[9] ^= 1 }), naming.ErrSignature, "signature"},
		{"signed by another key", Honest().Raw(t, Key(t, "not "+seed)), naming.ErrSignature, "signature"},
		{"V1 and V2 disagree", envelope(func(pb *ipnspb.IpnsRecord) { pb.Value = []byte("/ipfs/bafkqabtimvwgy3yk") }), naming.ErrInvalidRecord, "Value"},
		{"expired", validity("2020-01-02T03:04:05Z"), naming.ErrExpired, "2020-01-02T03:04:05Z, and the clock here says"},
		{"junk date", validity("tomorrow"), naming.ErrInvalidRecord, "validity"},
		{"year 10000", validity("9999-12-31T23:59:59-01:00"), naming.ErrInvalidRecord, "10000"},
		{"10 241 bytes", Sized(t, seed, naming.MaxRecordSize+1), naming.ErrTooLarge, "larger than 10240 bytes"},
		{"the value is empty", value(""), naming.ErrInvalidRecord, "empty"},
		{"the value is text", value("hello"), naming.ErrInvalidRecord, "hello"},
		{"the value holds ..", value("/ipfs/bafkqaaa/../bafkqabtimvwgy3yk"), naming.ErrInvalidRecord, "dot segment"},
		{"the value holds CR LF", value("/ipfs/bafkqaaa\r\nSet-Cookie: a=b"), naming.ErrInvalidRecord, "control"},
		{"a last record with another recovery key's word", thiefsProof(t, seed), naming.ErrRecovery, "recovery key"},
		{"nothing", nil, naming.ErrInvalidRecord, "missing"},
		{"HTML", []byte("<!doctype html><title>502</title>"), naming.ErrInvalidRecord, "invalid record"},
	}
}

// Sized is an honest record of Signer(seed) with so many bytes, at least 400.
func Sized(t testing.TB, seed string, size int) []byte {
	t.Helper()
	key, f := Key(t, seed), Honest()
	f.Extra = map[string]any{"_pad": []byte{}}
	pad := size - len(f.Raw(t, key)) - 3 // the lengths in CBOR and protobuf get longer, too
	f.Extra["_pad"] = bytes.Repeat([]byte{7}, pad)
	raw := f.Raw(t, key)
	if len(raw) != size {
		t.Fatalf("the padding makes %d bytes, not %d", len(raw), size)
	}
	return raw
}

// thiefsProof is a last record that carries the site's commitment, and the proof of another recovery key.
func thiefsProof(t testing.TB, seed string) []byte {
	t.Helper()
	ours := Recovery(t, seed).Commitment()
	f := Honest()
	f.Value, f.Sequence = naming.Namespace+Signer(t, "thief").Name().String(), naming.MaxSequence
	f.Extra = map[string]any{
		"_holdfast_recovery": ours[:], "_holdfast_recovery_key": bytes.Repeat([]byte{1}, 32), "_holdfast_recovery_sig": bytes.Repeat([]byte{2}, 64),
	}
	return f.Raw(t, Key(t, seed))
}
