package naming_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	ipnspb "github.com/ipfs/boxo/ipns/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"google.golang.org/protobuf/proto"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
)

var update = flag.Bool("update", false, "write the golden files anew")

var beforeFuture = farFuture.Add(-time.Hour)

// The bytes that we sign are a format: who changes them notices here.
func TestGoldenRecord(t *testing.T) {
	s := namingtest.Signer(t, "golden")
	want := naming.Statement{
		Value: "/ipfs/" + namingtest.CID("root").String(), Sequence: 42, TTL: 90 * time.Second, ValidUntil: farFuture,
		Release: namingtest.CID("release"), Policy: namingtest.CID("policy"),
	}
	file := filepath.Join("testdata", "golden.ipns-record")
	made, err := s.Sign(want)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(file, made.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(raw, made.Bytes()) {
		t.Error("signing the same statement gives other bytes than before")
	}
	if len(raw) > 600 {
		t.Errorf("a record with release and policy has %d bytes", len(raw))
	}
	r, err := naming.OpenRecord(s.Name(), raw, beforeFuture)
	if err != nil {
		t.Fatal(err)
	}
	root, ok := r.Root()
	if !ok || root != namingtest.CID("root") || r.Value() != want.Value || r.Name() != s.Name() ||
		r.Sequence() != 42 || r.TTL() != want.TTL || !r.ValidUntil().Equal(farFuture) ||
		r.Release() != want.Release || r.Policy() != want.Policy {
		t.Errorf("the record reads as %s %d %s %s %s %s", r.Value(), r.Sequence(), r.TTL(), r.ValidUntil(), r.Release(), r.Policy())
	}
}

func TestRecordsThatMustBeRefused(t *testing.T) {
	key, other := testKey(t, "a"), testKey(t, "b")
	change := func(f func(*forgery)) []byte { x := honest(); f(&x); return x.Raw(t, key) }
	envelope := func(f func(*ipnspb.IpnsRecord)) []byte { return change(func(x *forgery) { x.Envelope = f }) }
	value := func(v string) []byte { return change(func(x *forgery) { x.Value = v }) }
	validity := func(v string) []byte { return change(func(x *forgery) { x.Validity = v }) }
	data := func(hex string) []byte { return change(func(x *forgery) { x.Data = []byte(hex) }) }
	name := nameOfKey(t, key).String()
	for _, c := range []struct {
		what string
		raw  []byte
		kind error
		says string
	}{
		{"nothing", nil, naming.ErrInvalidRecord, "missing"},
		{"junk", []byte("junk junk junk"), naming.ErrInvalidRecord, ""},
		{"HTML", []byte("<!doctype html><title>502</title>"), naming.ErrInvalidRecord, ""},

		{"no V2 signature", envelope(func(pb *ipnspb.IpnsRecord) { pb.SignatureV2 = nil }), naming.ErrSignature, ""},
		{"no signature at all", envelope(func(pb *ipnspb.IpnsRecord) { pb.SignatureV1, pb.SignatureV2 = nil, nil }), naming.ErrSignature, ""},
		{"a V1 record", envelope(func(pb *ipnspb.IpnsRecord) { pb.Data, pb.SignatureV2 = nil, nil }), naming.ErrInvalidRecord, "data"},
		{"a flipped bit in the signature", envelope(func(pb *ipnspb.IpnsRecord) { pb.SignatureV2[9] ^= 1 }), naming.ErrSignature, ""},
		{"a cut signature", envelope(func(pb *ipnspb.IpnsRecord) { pb.SignatureV2 = pb.SignatureV2[:63] }), naming.ErrSignature, ""},
		{"a flipped bit in the data", envelope(func(pb *ipnspb.IpnsRecord) { pb.Data[len(pb.Data)-1] ^= 1 }), naming.ErrInvalidRecord, ""},
		{"another key's signature", honest().Raw(t, other), naming.ErrSignature, ""},
		{"another key, brought along", func() []byte {
			x := honest()
			x.Envelope = func(pb *ipnspb.IpnsRecord) { pb.PubKey, _ = crypto.MarshalPublicKey(other.GetPublic()) }
			return x.Raw(t, other)
		}(), naming.ErrSignature, ""},
		{"a broken key brought along", envelope(func(pb *ipnspb.IpnsRecord) { pb.PubKey = []byte("key") }), naming.ErrSignature, ""},

		{"V1 has another value", envelope(func(pb *ipnspb.IpnsRecord) { pb.Value = []byte("/ipfs/bafkqabtimvwgy3yk") }), naming.ErrInvalidRecord, "Value"},
		{"V1 has another sequence", envelope(func(pb *ipnspb.IpnsRecord) { *pb.Sequence = 2 }), naming.ErrInvalidRecord, "Sequence"},
		{"V1 has another end", envelope(func(pb *ipnspb.IpnsRecord) { pb.Validity = []byte("2091-01-02T03:04:05Z") }), naming.ErrInvalidRecord, "Validity"},
		{"V1 has another TTL", envelope(func(pb *ipnspb.IpnsRecord) { *pb.Ttl = 1 }), naming.ErrInvalidRecord, "TTL"},
		{"V1 lacks the value", envelope(func(pb *ipnspb.IpnsRecord) { pb.Value = nil }), naming.ErrInvalidRecord, "Value"},

		{"expired", validity("2020-01-02T03:04:05Z"), naming.ErrExpired, "2020-01-02T03:04:05Z"},
		{"a junk date", validity("tomorrow"), naming.ErrInvalidRecord, "validity"},
		{"an empty date", validity(""), naming.ErrInvalidRecord, "validity"},
		{"an impossible date", validity("2090-02-30T00:00:00Z"), naming.ErrInvalidRecord, "validity"},
		{"year 10000", validity("10000-01-01T00:00:00Z"), naming.ErrInvalidRecord, "validity"},
		{"year 10000 in UTC", validity("9999-12-31T23:59:59-01:00"), naming.ErrInvalidRecord, "10000"},
		{"another kind of end", change(func(x *forgery) { x.ValidityType = 1 }), naming.ErrInvalidRecord, "validity"},

		{"a sequence of 2^63", change(func(x *forgery) { x.Sequence = -1 << 63 }), naming.ErrInvalidRecord, "sequence"},
		{"a negative sequence", change(func(x *forgery) { x.Sequence = -1 }), naming.ErrInvalidRecord, "sequence"},
		{"a negative TTL", change(func(x *forgery) { x.TTL = -1 }), naming.ErrInvalidRecord, "TTL"},
		{"a negative TTL of the dead", change(func(x *forgery) { x.TTL, x.Validity = -1, "2020-01-02T03:04:05Z" }), naming.ErrInvalidRecord, "TTL"},

		{"an empty value", value(""), naming.ErrInvalidRecord, "empty"},
		{"a text", value("hello"), naming.ErrInvalidRecord, "hello"},
		{"a bare CID as text", value("bafkqaaa"), naming.ErrInvalidRecord, "bafkqaaa"},
		{"a URL", value("https://example.org/"), naming.ErrInvalidRecord, "example.org"},
		{"only a namespace", value("/ipfs/"), naming.ErrInvalidRecord, "short"},
		{"no CID", value("/ipfs/blog"), naming.ErrInvalidRecord, "blog"},
		{"a name under ipfs", value("/ipfs/" + name), naming.ErrInvalidRecord, "/ipns/"},
		{"a domain", value("/ipns/example.org"), naming.ErrInvalidRecord, "example.org"},
		{"another namespace", value("/ipld/bafkqaaa"), naming.ErrInvalidRecord, "neither"},
		{"dot dot", value("/ipfs/bafkqaaa/../bafkqabtimvwgy3yk"), naming.ErrInvalidRecord, "dot segment"},
		{"dot dot out of the namespace", value("/ipfs/../ipns/" + name), naming.ErrInvalidRecord, "dot segment"},
		{"an empty segment", value("/ipfs//bafkqaaa"), naming.ErrInvalidRecord, "empty"},
		{"CR LF", value("/ipfs/bafkqaaa\r\nSet-Cookie: a=b"), naming.ErrInvalidRecord, "control"},
		{"NUL", value("/ipfs/bafkqaaa/a\x00b"), naming.ErrInvalidRecord, "control"},
		{"no UTF-8", value("/ipfs/bafkqaaa/\xff"), naming.ErrInvalidRecord, "UTF-8"},

		{"a release that is no CID", change(func(x *forgery) { x.Extra = map[string]any{"_holdfast_release": []byte{1, 2, 3}} }), naming.ErrInvalidRecord, "_holdfast_release"},
		{"a release as text", change(func(x *forgery) { x.Extra = map[string]any{"_holdfast_release": "bafkqaaa"} }), naming.ErrInvalidRecord, "_holdfast_release"},
		{"an empty policy", change(func(x *forgery) { x.Extra = map[string]any{"_holdfast_policy": []byte{}} }), naming.ErrInvalidRecord, "_holdfast_policy"},

		{"CBOR that claims 2^62 entries", data("\xbb\x40\x00\x00\x00\x00\x00\x00\x00"), naming.ErrInvalidRecord, ""},
		{"CBOR that claims 2^40 bytes", data("\xa1\x41V\x5b\x00\x00\x01\x00\x00\x00\x00\x00"), naming.ErrInvalidRecord, ""},
		{"CBOR nested deep", data("\xa1\x61a" + strings.Repeat("\x81", 9000)), naming.ErrInvalidRecord, ""},
		{"CBOR with a key twice", data("\xa2\x61a\x01\x61a\x02"), naming.ErrInvalidRecord, ""},
		{"CBOR that is no map", data("\x01"), naming.ErrInvalidRecord, ""},
		{"CBOR without our fields", data("\xa0"), naming.ErrInvalidRecord, ""},
	} {
		r, err := naming.OpenRecord(nameOfKey(t, key), c.raw, time.Now())
		if !errors.Is(err, c.kind) || !errors.Is(err, naming.ErrInvalidRecord) || !r.IsZero() {
			t.Errorf("%s: %v, want %v", c.what, err, c.kind)
		} else if !strings.Contains(err.Error(), c.says) || strings.ContainsAny(err.Error(), "\r\x00") {
			t.Errorf("%s: the error %q doesn't name %q", c.what, err, c.says)
		}
	}
}

func TestARecordOf10240BytesIsTheLargest(t *testing.T) {
	name := namingtest.Signer(t, "a").Name()
	largest := namingtest.Sized(t, "a", naming.MaxRecordSize)
	if r, err := naming.OpenRecord(name, largest, beforeFuture); err != nil || !bytes.Equal(r.Bytes(), largest) {
		t.Errorf("%d bytes: %v", len(largest), err)
	}
	if _, err := naming.OpenRecord(name, namingtest.Sized(t, "a", naming.MaxRecordSize+1), beforeFuture); !errors.Is(err, naming.ErrTooLarge) {
		t.Errorf("a byte more: %v, want ErrTooLarge", err)
	}
}

func TestRecordsThatMustBeAccepted(t *testing.T) {
	key := testKey(t, "a")
	target := namingtest.Signer(t, "b").Name()
	bin := namingtest.CID("binary")
	for _, c := range []struct {
		what, value, shown string
		root, target       bool
		v2Only             bool
		sequence           int64
	}{
		{what: "a root", value: "/ipfs/bafkqaaa", root: true},
		{what: "a root, V2 only", value: "/ipfs/bafkqaaa", root: true, v2Only: true},
		{what: "a root with a slash", value: "/ipfs/bafkqaaa/", shown: "/ipfs/bafkqaaa", root: true},
		{what: "a CIDv0", value: "/ipfs/QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn", root: true},
		{what: "a binary CID", value: string(bin.Bytes()), shown: "/ipfs/" + bin.String(), root: true},
		{what: "a path below a root", value: "/ipfs/bafkqaaa/docs/höhe"},
		{what: "a name", value: "/ipns/" + target.String(), target: true},
		{what: "a name in base58", value: "/ipns/" + target.Peer().String(), target: true},
		{what: "a path below a name", value: "/ipns/" + target.String() + "/docs"},
		{what: "sequence 0", value: "/ipfs/bafkqaaa", root: true, sequence: 0},
		{what: "the last sequence", value: "/ipfs/bafkqaaa", root: true, sequence: 1<<63 - 1},
	} {
		f := honest()
		f.Value, f.V2Only, f.Sequence = c.value, c.v2Only, c.sequence
		r, err := naming.OpenRecord(nameOfKey(t, key), f.Raw(t, key), beforeFuture)
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		if c.shown == "" {
			c.shown = c.value
		}
		_, isRoot := r.Root()
		to, isTarget := r.Target()
		if r.Value() != c.shown || isRoot != c.root || isTarget != c.target || (isTarget && to != target) {
			t.Errorf("%s: reads as %q, root %v, target %v %s", c.what, r.Value(), isRoot, isTarget, to)
		}
	}
}

func TestAnRSARecordBringsItsKey(t *testing.T) {
	key, _, err := crypto.GenerateRSAKeyPair(2048, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f := honest()
	if _, err := naming.OpenRecord(nameOfKey(t, key), f.Raw(t, key), beforeFuture); !errors.Is(err, naming.ErrSignature) {
		t.Errorf("without its key: %v, want ErrSignature", err)
	}
	f.Envelope = func(pb *ipnspb.IpnsRecord) { pb.PubKey, _ = crypto.MarshalPublicKey(key.GetPublic()) }
	if _, err := naming.OpenRecord(nameOfKey(t, key), f.Raw(t, key), beforeFuture); err != nil {
		t.Errorf("with its key: %v", err)
	}
}

func TestAWrongClockIsNamedWhereARecordSeemsExpired(t *testing.T) {
	s := namingtest.Signer(t, "a")
	r := namingtest.Record(t, s, 1, "x", farFuture)
	if _, err := naming.OpenRecord(s.Name(), r.Bytes(), farFuture); err != nil {
		t.Errorf("at its last moment: %v", err)
	}
	_, err := naming.OpenRecord(s.Name(), r.Bytes(), farFuture.Add(24*time.Hour))
	if !errors.Is(err, naming.ErrExpired) || !strings.Contains(err.Error(), "clock here says 2090-01-03T03:04:05Z") {
		t.Errorf("a day late: %v", err)
	}
	if stored, err := naming.OpenStored(s.Name(), r.Bytes()); err != nil || !stored.Expired(farFuture.Add(time.Nanosecond)) {
		t.Errorf("a stored record can't be opened after its end: %v", err)
	}
}

func TestARecordIsKeptByteForByteWithMetadataThatWeDoNotKnow(t *testing.T) {
	key := testKey(t, "a")
	f := honest()
	f.Extra = map[string]any{"_other": "tool", "_n": int64(7), "plain": []byte{1}}
	raw := f.Raw(t, key)
	given := slices.Clone(raw)
	r, err := naming.OpenRecord(nameOfKey(t, key), given, beforeFuture)
	if err != nil {
		t.Fatal(err)
	}
	clear(given)
	clear(r.Bytes())
	if !bytes.Equal(r.Bytes(), raw) {
		t.Fatal("the record's bytes changed")
	}
	if r.Release().Defined() || r.Policy().Defined() {
		t.Fatal("a release or policy from nowhere")
	}
}

func TestCompareIsTheOrderOfTheSpecification(t *testing.T) {
	s := namingtest.Signer(t, "a")
	rising := []naming.Record{
		{},
		namingtest.Record(t, s, 1, "x", farFuture.Add(time.Hour)),
		namingtest.Record(t, s, 2, "x", farFuture.Add(-time.Hour)),
		namingtest.Record(t, s, 2, "x", farFuture),
		namingtest.Record(t, s, 2, "y", farFuture),
		namingtest.Record(t, s, naming.MaxSequence, "x", farFuture.Add(-time.Hour)),
	}
	if bytes.Compare(rising[3].Bytes(), rising[4].Bytes()) > 0 {
		rising[3], rising[4] = rising[4], rising[3]
	}
	for i, a := range rising {
		for j, b := range rising {
			if got, want := a.Compare(b), compareInts(i, j); got != want {
				t.Errorf("Compare of %d and %d is %d, want %d", i, j, got, want)
			}
		}
	}
}

func compareInts(a, b int) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func FuzzOpenRecord(f *testing.F) {
	key := testKey(f, "a")
	name := nameOfKey(f, key)
	x := honest()
	f.Add(x.Raw(f, key))
	x.V2Only, x.Extra = true, map[string]any{"_holdfast_release": namingtest.CID("r").Bytes()}
	f.Add(x.Raw(f, key))
	f.Add([]byte("\x4a\x01\xa0"))
	for _, raw := range lastRecords(f, "a") {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := naming.OpenStored(name, raw)
		if err != nil {
			if !errors.Is(err, naming.ErrInvalidRecord) {
				t.Fatalf("%v is no ErrInvalidRecord", err)
			}
			return
		}
		if !bytes.Equal(r.Bytes(), raw) || r.Sequence() > naming.MaxSequence || r.TTL() < 0 {
			t.Fatalf("a record that reads as %d %s", r.Sequence(), r.TTL())
		}
		if to, ok := r.Target(); r.IsLast() && (!ok || to != namingtest.Signer(t, "new").Name()) {
			t.Fatalf("a last record that leads to %q", r.Value())
		}
	})
}

// lastRecords is a true last record of Signer(seed), which leads to Signer("new"), and some that are nearly ones.
func lastRecords(t testing.TB, seed string) [][]byte {
	s, key := namingtest.Signer(t, seed), namingtest.Recovery(t, seed)
	last := namingtest.Last(t, s, key, namingtest.Signer(t, "new").Name()).Bytes()
	flipped, cut := bytes.Clone(last), bytes.Clone(last)
	flipped[len(flipped)/2] ^= 1
	return [][]byte{last, flipped, cut[:len(cut)-64], namingtest.PlainLast(t, s, namingtest.Signer(t, "new").Name()).Bytes()}
}

// FuzzRecordData signs whatever data there is, so that the fuzzer gets past the signature.
func FuzzRecordData(f *testing.F) {
	key := testKey(f, "a")
	name := nameOfKey(f, key)
	f.Add(honest().CBOR(f))
	f.Add([]byte("\xa2\x61a\x01\x61a\x02"))
	f.Add([]byte("\xbb\x40\x00\x00\x00\x00\x00\x00\x00"))
	for _, raw := range lastRecords(f, "a") {
		var pb ipnspb.IpnsRecord
		if proto.Unmarshal(raw, &pb) == nil {
			f.Add(pb.Data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		x := forgery{Data: append([]byte{}, data...), V2Only: true}
		r, err := naming.OpenStored(name, x.Raw(t, key))
		if err != nil {
			if !errors.Is(err, naming.ErrInvalidRecord) {
				t.Fatalf("%v is no ErrInvalidRecord", err)
			}
			return
		}
		_, isRoot := r.Root()
		_, isTarget := r.Target()
		if (isRoot && isTarget) || strings.Contains(r.Value(), "..") && strings.Contains(r.Value(), "/../") || strings.ContainsAny(r.Value(), "\r\n") {
			t.Fatalf("a value that reads as %q", r.Value())
		}
	})
}
