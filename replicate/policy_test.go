package replicate

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/ipld/go-ipld-prime/datamodel"
	"github.com/ipld/go-ipld-prime/fluent/qp"
	cidlink "github.com/ipld/go-ipld-prime/linking/cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
)

func samplePolicy() Policy {
	return Policy{
		Copies: 3, Availability: 999_900, Keep: 2, MaxBytes: 500_000_000,
		Expires: testTime.AddDate(1, 0, 0),
		Roster: []Member{
			{
				ID: idNumber(2), URL: "https://alice.example/hf",
				Addrs:  []string{"/ip4/203.0.113.7/tcp/4001", "/dns4/alice.example/udp/4001/quic-v1"},
				Labels: map[string]string{"operator": "alice", "region": "EU"},
			},
			{ID: idNumber(3)},
		},
	}
}

func TestThePolicyFormatIsTheGoldenOne(t *testing.T) {
	p := samplePolicy()
	b, err := EncodePolicy(p)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "policy.golden", fmt.Sprintf("%s\n%x\n", b.Cid(), b.RawData()))
	back, err := DecodePolicy(b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back, p) {
		t.Fatalf("%+v came back as %+v", p, back)
	}
	links, err := merkle.Links(b)
	if err != nil || len(links) != 0 {
		t.Fatalf("a policy has no links: %v, %v", links, err)
	}
	m := &blockMap{blocks: map[cid.Cid]blockstore.Block{b.Cid(): b}}
	if back, err := ReadPolicy(t.Context(), m, b.Cid()); err != nil || !reflect.DeepEqual(back, p) {
		t.Fatalf("%+v, %v", back, err)
	}
	if _, err := ReadPolicy(t.Context(), &blockMap{}, b.Cid()); !errors.Is(err, blockstore.ErrNotFound) {
		t.Fatal(err)
	}
}

func TestAPolicyThatBreaksALimitIsNotWritten(t *testing.T) {
	long := strings.Repeat("x", 300)
	for name, change := range map[string]func(*Policy){
		"copies 65":           func(p *Policy) { p.Copies = 65 },
		"copies -1":           func(p *Policy) { p.Copies = -1 },
		"availability over 1": func(p *Policy) { p.Availability = 1_000_001 },
		"keep 65":             func(p *Policy) { p.Keep = 65 },
		"grace below zero":    func(p *Policy) { p.Grace = -time.Second },
		"grace over a year":   func(p *Policy) { p.Grace = MaxGrace + time.Second },
		"grace of a split":    func(p *Policy) { p.Grace = 1500 * time.Millisecond },
		"negative bytes":      func(p *Policy) { p.MaxBytes = -1 },
		"no expiry":           func(p *Policy) { p.Expires = time.Time{} },
		"year 10000":          func(p *Policy) { p.Expires = time.Unix(maxUnix+1, 0) },
		"roster of 65":        func(p *Policy) { p.Roster = members(65) },
		"a host twice":        func(p *Policy) { p.Roster = append(p.Roster, p.Roster[0]) },
		"a host without id":   func(p *Policy) { p.Roster[0].ID = "" },
		"17 addresses": func(p *Policy) {
			p.Roster[0].Addrs = strings.Split(strings.Repeat("/ip4/127.0.0.1/tcp/1 ", 17), " ")[:17]
		},
		"a long address":      func(p *Policy) { p.Roster[0].Addrs = []string{"/dns4/" + long} },
		"no multiaddr":        func(p *Policy) { p.Roster[0].Addrs = []string{"127.0.0.1:4001"} },
		"address with own id": func(p *Policy) { p.Roster[0].Addrs = []string{"/ip4/127.0.0.1/tcp/1/p2p/" + idNumber(2).String()} },
		"a long URL":          func(p *Policy) { p.Roster[0].URL = "http://a/" + long + long },
		"a URL of no server":  func(p *Policy) { p.Roster[0].URL = "javascript:alert(1)" },
		"a URL with password": func(p *Policy) { p.Roster[0].URL = "http://u:p@a/" },
		"a URL with a query":  func(p *Policy) { p.Roster[0].URL = "http://a/?x" },
		"nine labels":         func(p *Policy) { p.Roster[0].Labels = labels(9) },
		"a long label":        func(p *Policy) { p.Roster[0].Labels = map[string]string{"operator": long} },
		"an empty key":        func(p *Policy) { p.Roster[0].Labels = map[string]string{"": "x"} },
		"not UTF-8":           func(p *Policy) { p.Roster[0].Labels = map[string]string{"operator": "\xff"} },
		"65 critical fields":  func(p *Policy) { p.Crit = make([]string, 65) },
		"over 64 KiB": func(p *Policy) {
			p.Roster = members(64)
			for i := range p.Roster {
				p.Roster[i].URL = "http://a/" + long
				p.Roster[i].Addrs = []string{"/dns4/" + long[:240], "/dns4/" + long[:240], "/dns4/" + long[:240]}
			}
		},
	} {
		p := samplePolicy()
		change(&p)
		if _, err := EncodePolicy(p); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAPolicyAtItsLimitsIsRead(t *testing.T) {
	for name, change := range map[string]func(*Policy){
		"most":         func(p *Policy) { p.Copies, p.Keep, p.Availability, p.MaxBytes = 64, 64, 1_000_000, 1<<63-1 },
		"least":        func(p *Policy) { p.Copies, p.Keep, p.Availability, p.MaxBytes, p.Roster = 0, 1, 0, 0, nil },
		"times":        func(p *Policy) { p.Expires = time.Unix(maxUnix, 0).UTC() },
		"roster of 64": func(p *Policy) { p.Roster = members(64) },
		"relay address": func(p *Policy) {
			p.Roster[0].Addrs = []string{"/ip4/203.0.113.7/tcp/1/p2p/" + idNumber(9).String() + "/p2p-circuit"}
		},
		"eight labels":         func(p *Policy) { p.Roster[0].Labels = labels(8) },
		"a known critical one": func(p *Policy) { p.Crit = []string{"maxBytes"} },
	} {
		p := samplePolicy()
		change(&p)
		b, err := EncodePolicy(p)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if back, err := DecodePolicy(b); err != nil || !reflect.DeepEqual(back, p) {
			t.Errorf("%s: %+v came back as %+v, %v", name, p, back, err)
		}
	}
	p := samplePolicy()
	p.Keep = 0
	b, err := EncodePolicy(p)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := DecodePolicy(b); err != nil || back.Keep != DefaultKeep {
		t.Fatalf("keep %d, %v", back.Keep, err)
	}
}

func TestPoliciesOfLaterVersionsAreRefusedOrReadAsTheyAskFor(t *testing.T) {
	p := samplePolicy()
	p.Crit = []string{"repair"}
	b, err := EncodePolicy(p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodePolicy(b); !errors.Is(err, merkle.ErrUnsupported) || !strings.Contains(err.Error(), "repair") {
		t.Errorf("a critical field that is not known: %v", err)
	}
	for name, test := range map[string]struct {
		change func(m map[string]qp.Assemble)
		want   error
	}{
		"as it is":       {func(map[string]qp.Assemble) {}, nil},
		"an extra field": {func(m map[string]qp.Assemble) { m["repair"] = qp.Float(1.5) }, nil},
		"version 2":      {func(m map[string]qp.Assemble) { m["version"] = qp.Int(2) }, merkle.ErrUnsupported},
		"version text":   {func(m map[string]qp.Assemble) { m["version"] = qp.String("1") }, merkle.ErrMalformed},
		"keep 0":         {func(m map[string]qp.Assemble) { m["keep"] = qp.Int(0) }, merkle.ErrMalformed},
		"grace negative": {func(m map[string]qp.Assemble) { m["grace"] = qp.Int(-1) }, merkle.ErrMalformed},
		"grace too long": {func(m map[string]qp.Assemble) { m["grace"] = qp.Int(31536001) }, merkle.ErrMalformed},
		"no grace":       {func(m map[string]qp.Assemble) { delete(m, "grace") }, merkle.ErrMalformed},
		"no crit":        {func(m map[string]qp.Assemble) { delete(m, "crit") }, merkle.ErrMalformed},
		"copies a float": {func(m map[string]qp.Assemble) { m["copies"] = qp.Float(3) }, merkle.ErrMalformed},
		"roster a map":   {func(m map[string]qp.Assemble) { m["roster"] = m["version"] }, merkle.ErrMalformed},
		"host a text":    {func(m map[string]qp.Assemble) { m["roster"] = listOf(qp.String("alice")) }, merkle.ErrMalformed},
		"host incomplete": {func(m map[string]qp.Assemble) {
			m["roster"] = listOf(qp.Map(1, func(ma datamodel.MapAssembler) { qp.MapEntry(ma, "id", qp.String(idNumber(2).String())) }))
		}, merkle.ErrMalformed},
	} {
		raw := policyMap(t, test.change)
		b, err := blockstore.NewBlock(policyPrefix, raw)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodePolicy(b); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
	}
}

func policyMap(t *testing.T, change func(m map[string]qp.Assemble)) []byte {
	t.Helper()
	m := map[string]qp.Assemble{
		"version": qp.Int(1), "copies": qp.Int(3), "availability": qp.Int(0), "keep": qp.Int(2), "grace": qp.Int(60),
		"maxBytes": qp.Int(0), "expires": qp.Int(testTime.Unix()), "roster": listOf(), "crit": listOf(),
	}
	change(m)
	raw, err := encodeMap(func(ma datamodel.MapAssembler) {
		for k, v := range m {
			qp.MapEntry(ma, k, v)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestAPolicyIsABlockOfItsKindOnly(t *testing.T) {
	good, err := EncodePolicy(samplePolicy())
	if err != nil {
		t.Fatal(err)
	}
	link, err := encodeMap(func(m datamodel.MapAssembler) { qp.MapEntry(m, "x", qp.Link(cidlink.Link{Cid: good.Cid()})) })
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		prefix cid.Prefix
		data   []byte
	}{
		"raw codec":    {cid.Prefix{Version: 1, Codec: cid.Raw, MhType: mh.SHA2_256, MhLength: 32}, good.RawData()},
		"another hash": {cid.Prefix{Version: 1, Codec: cid.DagCBOR, MhType: mh.SHA2_512, MhLength: 64}, good.RawData()},
		"no policy":    {policyPrefix, link},
		"empty":        {policyPrefix, nil},
		"padded":       {policyPrefix, append(append([]byte{}, good.RawData()...), 0)},
		"too large":    {policyPrefix, make([]byte, maxMessage+1)},
	} {
		b, err := blockstore.NewBlock(c.prefix, c.data)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodePolicy(b); !errors.Is(err, merkle.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := DecodePolicy(blockstore.Block{}); !errors.Is(err, merkle.ErrMalformed) {
		t.Errorf("no block: %v", err)
	}
}

func TestAMemberIsDialledWhereThisProgramCan(t *testing.T) {
	m := Member{ID: idNumber(2), Addrs: []string{"/ip4/203.0.113.7/tcp/4001", "/carrier-pigeon/7"}}
	info, err := m.AddrInfo()
	if err != nil || info.ID != m.ID || len(info.Addrs) != 1 {
		t.Fatalf("%v, %v", info, err)
	}
	m.Addrs = m.Addrs[1:]
	if _, err := m.AddrInfo(); !errors.Is(err, merkle.ErrMalformed) {
		t.Fatal(err)
	}
	if info, err := (Member{ID: idNumber(2)}).AddrInfo(); err != nil || len(info.Addrs) != 0 {
		t.Fatalf("%v, %v", info, err)
	}
	// One transport of the future must not cost the whole policy.
	p := samplePolicy()
	p.Roster[0].Addrs = []string{"/carrier-pigeon/7"}
	if b, err := EncodePolicy(p); err != nil {
		t.Fatal(err)
	} else if _, err := DecodePolicy(b); err != nil {
		t.Fatal(err)
	}
}

func members(n int) []Member {
	var all []Member
	for i := range n {
		all = append(all, Member{ID: idNumber(byte(i))})
	}
	return all
}

func labels(n int) map[string]string {
	m := make(map[string]string)
	for i := range n {
		m[fmt.Sprint("label", i)] = "x"
	}
	return m
}

func FuzzDecodePolicy(f *testing.F) {
	for _, p := range []Policy{samplePolicy(), {Expires: testTime}} {
		b, err := EncodePolicy(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b.RawData())
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > blockstore.MaxBlockSize {
			return
		}
		b, err := blockstore.NewBlock(policyPrefix, raw)
		if err != nil {
			t.Fatal(err)
		}
		p, err := DecodePolicy(b)
		if err != nil {
			if !errors.Is(err, merkle.ErrMalformed) && !errors.Is(err, merkle.ErrUnsupported) {
				t.Fatalf("error of no kind: %v", err)
			}
			return
		}
		again, err := EncodePolicy(p)
		if err != nil {
			t.Fatalf("%+v was read and can't be written: %v", p, err)
		}
		if back, err := DecodePolicy(again); err != nil || !reflect.DeepEqual(back, p) {
			t.Fatalf("%+v came back as %+v, %v", p, back, err)
		}
	})
}
