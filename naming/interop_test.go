package naming_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/ipfs/boxo/ipns"
	ipnspb "github.com/ipfs/boxo/ipns/pb"
	"github.com/ipfs/boxo/path"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
)

// lives is a site's records over its life, as others must take them: one with all of our metadata, a delegation, and
// the last one.
type lives struct {
	full, delegation, last naming.Record
	deploy, next           naming.Record // where the delegation and the last one lead
}

// lifeOf signs them. They are valid now.
func lifeOf(t *testing.T, seed string) lives {
	t.Helper()
	s, key := namingtest.Signer(t, seed), namingtest.Recovery(t, seed)
	deploy, next := namingtest.Signer(t, "deploy"), namingtest.Signer(t, "next")
	end := time.Now().Add(24 * time.Hour).UTC().Truncate(time.Millisecond)
	sign := func(s naming.Signer, st naming.Statement) naming.Record {
		t.Helper()
		r, err := s.Sign(st)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	return lives{
		full: sign(s, naming.Statement{
			Value: "/ipfs/" + namingtest.CID("root").String(), Sequence: naming.MaxSequence - 2, TTL: 90 * time.Second, ValidUntil: end,
			Release: namingtest.CID("release"), Policy: namingtest.CID("policy"), Recovery: key.Commitment(),
		}),
		delegation: sign(s, naming.Statement{
			Value: naming.Namespace + deploy.Name().String(), Sequence: naming.MaxSequence - 1, ValidUntil: end,
			Policy: namingtest.CID("policy"), Recovery: key.Commitment(),
		}),
		last:   namingtest.Last(t, s, key, next.Name()),
		deploy: sign(deploy, naming.Statement{Value: "/ipfs/" + namingtest.CID("by CI").String(), Sequence: 1, ValidUntil: end, Release: namingtest.CID("release")}),
		next:   sign(next, naming.Statement{Value: "/ipfs/" + namingtest.CID("moved").String(), Sequence: 1, ValidUntil: end}),
	}
}

// inOrder is the records of the site itself, each beating the one before.
func (l lives) inOrder() []naming.Record { return []naming.Record{l.full, l.delegation, l.last} }

// The record was made by a Kubo 0.42 node (ipfs name publish --lifetime=48h --ttl=17m) and fetched from its
// /routing/v1/ipns. No Kubo runs in this test.
func TestARecordMadeByKuboIsOneHere(t *testing.T) {
	name, err := naming.ParseName("k51qzi5uqu5dkdpqzhsh9vvcrli4w59y75nr6n59rc7bzgfz6zzk4zhdj6huuv")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join("testdata", "kubo-0.42.ipns-record"))
	if err != nil {
		t.Fatal(err)
	}
	end := time.Date(2026, 8, 21, 6, 9, 4, 515999502, time.UTC)
	r, err := naming.OpenRecord(name, raw, end)
	if err != nil {
		t.Fatal(err)
	}
	if r.Value() != "/ipfs/bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e" || r.Sequence() != 0 ||
		r.TTL() != 17*time.Minute || !r.ValidUntil().Equal(end) || !r.Recovery().IsZero() || r.Release().Defined() {
		t.Errorf("it reads as %s %d %s %s", r.Value(), r.Sequence(), r.TTL(), r.ValidUntil())
	}
	if _, err := naming.OpenRecord(name, raw, end.Add(1)); !errors.Is(err, naming.ErrExpired) {
		t.Errorf("after its end: %v", err)
	}
	raw[len(raw)-1] ^= 1
	if _, err := naming.OpenRecord(name, raw, end); !errors.Is(err, naming.ErrInvalidRecord) {
		t.Errorf("with a bit turned around: %v", err)
	}
}

// boxo's ipns package is the code by which Kubo makes, checks and selects records. It is also what checks signatures
// here; what this test adds is that our metadata, delegations and last records are nothing to it but records.
func TestTheCodeOfKuboTakesOurRecordsAndSelectsAsWeDo(t *testing.T) {
	l := lifeOf(t, "boxo")
	name := ipns.NameFromPeer(l.full.Name().Peer())
	var raws [][]byte
	for _, r := range l.inOrder() {
		rec, err := ipns.UnmarshalRecord(r.Bytes())
		if err != nil {
			t.Fatalf("%s: %v", r.Value(), err)
		}
		if err := ipns.ValidateWithName(rec, name); err != nil {
			t.Errorf("%s: %v", r.Value(), err)
		}
		value, verr := rec.Value()
		seq, serr := rec.Sequence()
		end, eerr := rec.Validity()
		if verr != nil || serr != nil || eerr != nil || value.String() != r.Value() || seq != r.Sequence() || !end.Equal(r.ValidUntil()) {
			t.Errorf("%s reads there as %s %d %s", r.Value(), value, seq, end)
		}
		raws = append(raws, r.Bytes())
	}
	if i, err := (ipns.Validator{}).Select(string(l.full.Name().RoutingKey()), raws); err != nil || i != len(raws)-1 {
		t.Errorf("record %d is selected, %v; we take the last", i, err)
	}
}

func TestRecordsMadeByTheCodeOfKuboAreOnesHere(t *testing.T) {
	key, end := testKey(t, "kubo"), time.Now().Add(time.Hour)
	target := namingtest.Signer(t, "target").Name()
	for _, value := range []string{"/ipfs/" + namingtest.CID("root").String(), "/ipns/" + target.String()} {
		for _, v1 := range []bool{true, false} {
			p, err := path.NewPath(value)
			if err != nil {
				t.Fatal(err)
			}
			rec, err := ipns.NewRecord(key, p, 5, end, time.Minute, ipns.WithV1Compatibility(v1))
			if err != nil {
				t.Fatal(err)
			}
			raw, err := ipns.MarshalRecord(rec)
			if err != nil {
				t.Fatal(err)
			}
			r, err := naming.OpenRecord(nameOfKey(t, key), raw, time.Now())
			if err != nil || r.Value() != value || r.Sequence() != 5 || !r.ValidUntil().Equal(end) {
				t.Errorf("%s, V1 %t: %v", value, v1, err)
			}
		}
	}
}

// interopAnswer is what test/interop/ipns.mjs prints.
type interopAnswer struct {
	Checked []struct {
		Error, Value, Sequence, TTL, Validity string
	}
	Selected int
	Followed string
	Made     [][]byte
	Key      []byte
	Name     []byte // its routing key
	Other    []byte // the routing key of the name that the last of Made points at
}

// interopQuestion is what it is asked.
type interopQuestion struct {
	RoutingKey []byte      `json:"routingKey"`
	Records    [][]byte    `json:"records"`
	Value      string      `json:"value"`
	Chain      []chainLink `json:"chain,omitempty"`
}

type chainLink struct {
	RoutingKey []byte `json:"routingKey"`
	Record     []byte `json:"record"`
}

func link(r naming.Record) chainLink { return chainLink{r.Name().RoutingKey(), r.Bytes()} }

// askJS runs npm's ipns over our records. Where it isn't installed the test skips, or fails if
// HOLDFAST_TEST_ALL is set.
func askJS(t *testing.T, question interopQuestion) interopAnswer {
	t.Helper()
	missing := t.Skip
	if os.Getenv("HOLDFAST_TEST_ALL") != "" {
		missing = t.Fatal
	}
	dir := filepath.Join("..", "test", "interop")
	node, err := exec.LookPath("node")
	if err != nil {
		missing("node is not installed: apt-get install nodejs npm (20 or later), then npm ci in test/interop")
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "ipns")); err != nil {
		missing("npm's ipns is not installed: run npm ci in test/interop")
	}
	in, err := json.Marshal(question)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), node, "ipns.mjs")
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("ipns.mjs: %v\n%s", err, &stderr)
	}
	var answer interopAnswer
	if err := json.Unmarshal(out, &answer); err != nil {
		t.Fatalf("ipns.mjs prints %q: %v", out, err)
	}
	return answer
}

func TestNPMsIPNSAgreesWithUs(t *testing.T) {
	s, l := namingtest.Signer(t, "interop"), lifeOf(t, "interop")
	good := append([]naming.Record{namingtest.Record(t, s, 1, "one", time.Now().Add(time.Hour))}, l.inOrder()...)
	forged := honest()
	forged.Envelope = func(pb *ipnspb.IpnsRecord) { pb.SignatureV2[3] ^= 1 }
	records := [][]byte{
		namingtest.Record(t, s, 3, "dead", time.Now().Add(-time.Hour)).Bytes(),
		forged.Raw(t, testKey(t, "interop")),
		namingtest.Sized(t, "interop", naming.MaxRecordSize+1),
	}
	bad := len(records)
	for _, r := range good {
		records = append(records, r.Bytes())
	}
	value := "/ipfs/" + namingtest.CID("theirs").String()
	got := askJS(t, interopQuestion{RoutingKey: s.Name().RoutingKey(), Records: records, Value: value})
	for i := range bad {
		if got.Checked[i].Error == "" {
			t.Errorf("record %d, which we refuse, is taken there", i)
		}
	}
	for i, r := range good {
		c := got.Checked[bad+i]
		validity, err := time.Parse(time.RFC3339Nano, c.Validity)
		if c.Error != "" || c.Value != r.Value() || c.Sequence != strconv.FormatUint(r.Sequence(), 10) ||
			c.TTL != strconv.FormatInt(int64(r.TTL()), 10) || err != nil || !validity.Equal(r.ValidUntil()) {
			t.Errorf("our record %d, %s, reads there as %+v", i, r.Value(), c)
		}
	}
	if got.Selected != len(records)-1 {
		t.Errorf("record %d is selected there, we take the last one", got.Selected)
	}
	wantTheirs(t, got, value)
}

// wantTheirs wants the records that they have made to be ones here.
func wantTheirs(t *testing.T, got interopAnswer, value string) {
	t.Helper()
	ring, _ := openRing(t)
	theirs, err := ring.Import("theirs", bytes.NewReader(got.Key))
	if err != nil || !bytes.Equal(theirs.Name.RoutingKey(), got.Name) {
		t.Fatalf("their key is %s here, %v", theirs.Name, err)
	}
	for i, raw := range got.Made {
		r, err := naming.OpenRecord(theirs.Name, raw, time.Now())
		if err != nil {
			t.Errorf("their record %d: %v", i, err)
			continue
		}
		to, leads := r.Target()
		fits := r.Value() == value
		if i == len(got.Made)-1 {
			fits = leads && bytes.Equal(to.RoutingKey(), got.Other)
		}
		if !fits || r.Sequence() != 7 || r.TTL() != 90*time.Second || !bytes.Equal(r.Bytes(), raw) {
			t.Errorf("their record %d reads here as %s %d %s", i, r.Value(), r.Sequence(), r.TTL())
		}
	}
}

func TestNPMsIPNSFollowsDelegationAndRotation(t *testing.T) {
	l := lifeOf(t, "interop")
	for what, c := range map[string]struct {
		chain []chainLink
		want  naming.Record
	}{
		"a delegation":  {[]chainLink{link(l.delegation), link(l.deploy)}, l.deploy},
		"a last record": {[]chainLink{link(l.last), link(l.next)}, l.next},
	} {
		got := askJS(t, interopQuestion{RoutingKey: l.full.Name().RoutingKey(), Records: [][]byte{l.full.Bytes()}, Value: l.full.Value(), Chain: c.chain})
		if got.Followed != c.want.Value() {
			t.Errorf("%s leads there to %q, want %s", what, got.Followed, c.want.Value())
		}
	}
}
