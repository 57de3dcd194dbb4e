package replicate

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/ipld/go-ipld-prime/datamodel"
	"github.com/ipld/go-ipld-prime/fluent/qp"
	cidlink "github.com/ipld/go-ipld-prime/linking/cid"
	mh "github.com/multiformats/go-multihash"
	"github.com/multiformats/go-varint"
	"lukechampine.com/blake3"

	"github.com/holdfast-sites/holdfast/merkle"
)

// plainDigest is the digest written down as docs/formats.md says it, without
// the walk: change may falsify a block's bytes.
func plainDigest(t testing.TB, tr tree, c AuditChallenge, change func(cid.Cid, []byte) []byte) [32]byte {
	key := c.key()
	h := blake3.New(32, key[:])
	seen := make(map[cid.Cid]bool)
	var visit func(cid.Cid)
	visit = func(c cid.Cid) {
		if seen[c] {
			return
		}
		seen[c] = true
		b := tr.blocks[c]
		data := change(c, b.RawData())
		h.Write(varint.ToUvarint(uint64(len(c.Bytes()))))
		h.Write(c.Bytes())
		h.Write(varint.ToUvarint(uint64(len(data))))
		h.Write(data)
		links, err := merkle.Links(b)
		if err != nil {
			t.Error(err)
		}
		for _, l := range links {
			visit(l)
		}
	}
	for _, r := range c.Roots {
		visit(r)
	}
	return [32]byte(h.Sum(nil))
}

func asItIs(_ cid.Cid, data []byte) []byte { return data }

func sampleChallenge(s *auditScene) AuditChallenge {
	return goldenChallenge(s.tree)
}

func goldenChallenge(tr tree) AuditChallenge {
	c := AuditChallenge{
		Site: siteNumber(100), Roots: []cid.Cid{tr.first, tr.second}, Epoch: testTime,
		Verifier: idNumber(1), Prover: idNumber(2), Deadline: testTime.Add(10 * time.Minute),
	}
	for i := range c.Nonce {
		c.Nonce[i] = byte(i)
	}
	return c
}

func numberedCID(t testing.TB, n int) cid.Cid {
	t.Helper()
	sum, err := mh.Sum([]byte(fmt.Sprint(n)), mh.SHA2_256, -1)
	if err != nil {
		t.Fatal(err)
	}
	return cid.NewCidV1(cid.Raw, sum)
}

func TestTheAuditFormatIsTheGoldenOne(t *testing.T) {
	tr := newTree(t)
	c := goldenChallenge(tr)
	raw, err := c.encode(keyNumber(1))
	if err != nil {
		t.Fatal(err)
	}
	digest, count, err := AuditDigest(t.Context(), tr.store(), c)
	if err != nil {
		t.Fatal(err)
	}
	if digest != plainDigest(t, tr, c, asItIs) {
		t.Fatal("the digest is not the one that the format describes")
	}
	if count.Blocks != 7 {
		t.Fatalf("%d blocks were hashed, want each of 7 once", count.Blocks)
	}
	var out strings.Builder
	key := c.key()
	fmt.Fprintf(&out, "key %x\ndigest %x\nchallenge %x\n", key, digest, raw)
	hash := challengeHash(raw)
	for _, a := range []auditAnswer{
		{challenge: hash, verdict: answerProof, digest: digest},
		{challenge: hash, verdict: answerNotHeld, missing: tr.second},
		{challenge: hash, verdict: answerBusy, until: testTime.Add(time.Hour)},
		{challenge: hash, verdict: answerRefused},
	} {
		signed, err := a.encode(keyNumber(2))
		if err != nil {
			t.Fatal(err)
		}
		back, err := parseAnswer(signed, c, raw)
		if err != nil || back != a {
			t.Fatalf("%+v came back as %+v, %v", a, back, err)
		}
		fmt.Fprintf(&out, "%s %x\n", a.verdict, signed)
	}
	golden(t, "audit.golden", out.String())

	back, err := ParseAuditChallenge(raw)
	if err != nil || fmt.Sprint(back) != fmt.Sprint(c) {
		t.Fatalf("%+v came back as %+v, %v", c, back, err)
	}
}

func TestEveryPartOfAChallengeIsInItsKey(t *testing.T) {
	tr := newTree(t)
	seen := map[[32]byte]string{}
	for name, change := range map[string]func(*AuditChallenge){
		"itself":           func(*AuditChallenge) {},
		"site":             func(c *AuditChallenge) { c.Site = siteNumber(101) },
		"fewer roots":      func(c *AuditChallenge) { c.Roots = c.Roots[:1] },
		"order of roots":   func(c *AuditChallenge) { c.Roots = []cid.Cid{tr.second, tr.first} },
		"epoch":            func(c *AuditChallenge) { c.Epoch = c.Epoch.Add(time.Second) },
		"nonce":            func(c *AuditChallenge) { c.Nonce[31] ^= 1 },
		"verifier":         func(c *AuditChallenge) { c.Verifier = idNumber(3) },
		"prover":           func(c *AuditChallenge) { c.Prover = idNumber(3) },
		"swapped identity": func(c *AuditChallenge) { c.Verifier, c.Prover = c.Prover, c.Verifier },
	} {
		c := goldenChallenge(tr)
		change(&c)
		if other, taken := seen[c.key()]; taken {
			t.Errorf("%q has the key of %q", name, other)
		}
		seen[c.key()] = name
	}
}

// resigned is a challenge whose map was changed before it was signed.
func resigned(t *testing.T, c AuditChallenge, change func(m map[string]qp.Assemble)) []byte {
	t.Helper()
	var roots []qp.Assemble
	for _, r := range c.Roots {
		roots = append(roots, qp.Link(cidlink.Link{Cid: r}))
	}
	m := map[string]qp.Assemble{
		"version": qp.Int(1), "site": qp.String(c.Site.String()), "roots": listOf(roots...),
		"epoch": qp.Int(c.Epoch.Unix()), "nonce": qp.Bytes(c.Nonce[:]), "verifier": qp.String(c.Verifier.String()),
		"prover": qp.String(c.Prover.String()), "deadline": qp.Int(c.Deadline.Unix()),
	}
	change(m)
	raw, err := signMap(keyNumber(1), challengeContext, func(ma datamodel.MapAssembler) {
		for k, v := range m {
			qp.MapEntry(ma, k, v)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func listOf(all ...qp.Assemble) qp.Assemble {
	return qp.List(int64(len(all)), func(l datamodel.ListAssembler) {
		for _, a := range all {
			qp.ListEntry(l, a)
		}
	})
}

func TestChallengesAreCheckedFieldByField(t *testing.T) {
	tr := newTree(t)
	c := goldenChallenge(tr)
	link := qp.Link(cidlink.Link{Cid: tr.first})
	var many []qp.Assemble
	for i := range maxAuditRoots + 1 {
		many = append(many, qp.Link(cidlink.Link{Cid: numberedCID(t, i)}))
	}
	for name, test := range map[string]struct {
		change func(m map[string]qp.Assemble)
		want   error
	}{
		"as it is":             {func(map[string]qp.Assemble) {}, nil},
		"a field of later":     {func(m map[string]qp.Assemble) { m["colour"] = qp.String("red") }, nil},
		"a critical known one": {func(m map[string]qp.Assemble) { m["crit"] = listOf(qp.String("roots")) }, nil},
		"64 roots":             {func(m map[string]qp.Assemble) { m["roots"] = listOf(many[:maxAuditRoots]...) }, nil},
		"65 roots":             {func(m map[string]qp.Assemble) { m["roots"] = listOf(many...) }, merkle.ErrMalformed},
		"no roots":             {func(m map[string]qp.Assemble) { m["roots"] = listOf() }, merkle.ErrMalformed},
		"a root twice":         {func(m map[string]qp.Assemble) { m["roots"] = listOf(link, link) }, merkle.ErrMalformed},
		"a root that is text":  {func(m map[string]qp.Assemble) { m["roots"] = listOf(qp.String(tr.first.String())) }, merkle.ErrMalformed},
		"a critical later one": {func(m map[string]qp.Assemble) { m["crit"] = listOf(qp.String("colour")) }, merkle.ErrUnsupported},
		"version 2":            {func(m map[string]qp.Assemble) { m["version"] = qp.Int(2) }, merkle.ErrUnsupported},
		"no version":           {func(m map[string]qp.Assemble) { delete(m, "version") }, merkle.ErrMalformed},
		"no nonce":             {func(m map[string]qp.Assemble) { delete(m, "nonce") }, merkle.ErrMalformed},
		"short nonce":          {func(m map[string]qp.Assemble) { m["nonce"] = qp.Bytes(make([]byte, 31)) }, merkle.ErrMalformed},
		"another spelling":     {func(m map[string]qp.Assemble) { m["site"] = qp.String(c.Site.Peer().String()) }, merkle.ErrMalformed},
		"no peer id":           {func(m map[string]qp.Assemble) { m["prover"] = qp.String("alice") }, merkle.ErrMalformed},
		"deadline at epoch":    {func(m map[string]qp.Assemble) { m["deadline"] = qp.Int(c.Epoch.Unix()) }, merkle.ErrMalformed},
		"epoch past year 9999": {func(m map[string]qp.Assemble) { m["epoch"] = qp.Int(maxUnix + 1) }, merkle.ErrMalformed},
		"negative epoch":       {func(m map[string]qp.Assemble) { m["epoch"] = qp.Int(-1) }, merkle.ErrMalformed},
		"signed by another":    {func(m map[string]qp.Assemble) { m["verifier"] = qp.String(idNumber(3).String()) }, ErrSignature},
	} {
		raw := resigned(t, c, test.change)
		if _, err := ParseAuditChallenge(raw); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
	}
}

func TestMessagesHaveOneEncodingOnly(t *testing.T) {
	raw, err := goldenChallenge(newTree(t)).encode(keyNumber(1))
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"empty":             {},
		"bytes after it":    append(bytes.Clone(raw), 0),
		"indefinite length": append(append([]byte{0xbf}, raw[1:]...), 0xff),
		"a longer length":   append([]byte{0xb8, raw[0] & 0x1f}, raw[1:]...),
		"a list":            {0x80},
		"a claim of 2^40":   {0xbb, 0, 0, 1, 0, 0, 0, 0, 0},
		"deep nesting":      bytes.Repeat([]byte{0xa1, 0x61, 'a'}, 20_000),
		"too large":         make([]byte, maxMessage+1),
	} {
		if _, err := ParseAuditChallenge(bad); !errors.Is(err, merkle.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMessagesAreBoundedOnTheWire(t *testing.T) {
	var wire bytes.Buffer
	if err := writeMessage(&wire, make([]byte, maxMessage)); err != nil {
		t.Fatal(err)
	}
	if raw, err := readMessage(bufio.NewReader(&wire)); err != nil || len(raw) != maxMessage {
		t.Fatalf("the largest message: %d bytes, %v", len(raw), err)
	}
	if err := writeMessage(&wire, make([]byte, maxMessage+1)); err == nil {
		t.Fatal("a message over the limit was written")
	}
	for name, bad := range map[string][]byte{
		"over the limit": varint.ToUvarint(maxMessage + 1),
		"not minimal":    {0x81, 0x00, 0x00},
		"11 bytes":       bytes.Repeat([]byte{0xff}, 11),
		"cut":            {5, 1, 2},
		"empty":          {},
	} {
		if _, err := readMessage(bufio.NewReader(bytes.NewReader(bad))); err == nil {
			t.Errorf("%s: was read", name)
		}
	}
}

func TestADigestNeedsEveryBlock(t *testing.T) {
	tr := newTree(t)
	c := goldenChallenge(tr)
	for want := range tr.blocks {
		m := tr.store()
		delete(m.blocks, want)
		if _, _, err := AuditDigest(context.Background(), m, c); err == nil {
			t.Errorf("without %s there still is a digest", want)
		}
	}
}

func TestTheRateForgetsWhatIsFullAgainAndStaysBounded(t *testing.T) {
	r := newAuditRate(0, 0)
	now := testTime
	for i := range maxRateEntries {
		if _, ok := r.take(keyOf(idNumber(1), []cid.Cid{numberedCID(t, i)}), now); !ok {
			t.Fatalf("the %dth root set was put off", i)
		}
	}
	one := keyOf(idNumber(1), []cid.Cid{numberedCID(t, maxRateEntries)})
	if until, ok := r.take(one, now); ok || !until.After(now) {
		t.Fatal("the table grows without bound")
	}
	now = now.Add(AuditInterval)
	if _, ok := r.take(one, now); !ok || len(r.full) != 1 {
		t.Fatalf("an hour later: %v, %d entries", ok, len(r.full))
	}
}

func FuzzAuditMessages(f *testing.F) {
	tr := newTree(f)
	c := goldenChallenge(tr)
	raw, err := c.encode(keyNumber(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	for _, a := range []auditAnswer{
		{challenge: challengeHash(raw), verdict: answerNotHeld, missing: tr.first},
		{challenge: challengeHash(raw), verdict: answerProof},
	} {
		signed, err := a.encode(keyNumber(2))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(signed)
	}
	x, _ := hex.DecodeString("bb7fffffffffffffff")
	f.Add(x)
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := ParseAuditChallenge(b); err == nil {
			if len(c.Roots) == 0 || c.Site.IsZero() || c.Verifier == "" || c.Prover == "" {
				t.Fatalf("accepted %+v", c)
			}
		} else if !errors.Is(err, merkle.ErrMalformed) && !errors.Is(err, merkle.ErrUnsupported) {
			t.Fatalf("error of no kind: %v", err)
		}
		if a, err := parseAnswer(b, c, raw); err == nil && a.challenge != challengeHash(raw) {
			t.Fatalf("accepted %+v", a)
		}
		readMessage(bufio.NewReader(bytes.NewReader(b)))
	})
}
