package naming_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	ipnspb "github.com/ipfs/boxo/ipns/pb"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
)

// interopAnswer is what test/interop/ipns.mjs prints.
type interopAnswer struct {
	Checked []struct {
		Error, Value, Sequence, TTL, Validity string
	}
	Selected int
	Made     [][]byte
	Key      []byte
	Name     []byte // its routing key
}

// askJS runs npm's ipns over our records. Where it isn't installed the test skips, or fails if
// HOLDFAST_TEST_ALL is set.
func askJS(t *testing.T, name naming.Name, records [][]byte, value string) interopAnswer {
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
	in, err := json.Marshal(map[string]any{"routingKey": name.RoutingKey(), "records": records, "value": value})
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
	s := namingtest.Signer(t, "interop")
	end := time.Now().Add(24 * time.Hour).UTC().Truncate(time.Millisecond)
	full, err := s.Sign(naming.Statement{
		Value: "/ipfs/" + namingtest.CID("root").String(), Sequence: naming.MaxSequence, TTL: 90 * time.Second, ValidUntil: end,
		Release: namingtest.CID("release"), Policy: namingtest.CID("policy"),
	})
	if err != nil {
		t.Fatal(err)
	}
	good := []naming.Record{
		namingtest.Record(t, s, 1, "one", end.Add(time.Hour)), full,
		points(t, naming.Namespace+namingtest.Signer(t, "deploy").Name().String(), s)[0],
	}
	dead := namingtest.Record(t, s, 3, "dead", time.Now().Add(-time.Hour))
	forged := honest()
	forged.envelope = func(pb *ipnspb.IpnsRecord) { pb.SignatureV2[3] ^= 1 }
	records := [][]byte{good[0].Bytes(), good[1].Bytes(), good[2].Bytes(), dead.Bytes(), forged.raw(t, testKey(t, "interop"))}

	got := askJS(t, s.Name(), records, full.Value())
	for i, r := range good {
		c := got.Checked[i]
		validity, err := time.Parse(time.RFC3339Nano, c.Validity)
		if c.Error != "" || c.Value != r.Value() || c.Sequence != strconv.FormatUint(r.Sequence(), 10) ||
			c.TTL != strconv.FormatInt(int64(r.TTL()), 10) || err != nil || !validity.Equal(r.ValidUntil()) {
			t.Errorf("our record %d, %s, reads there as %+v", i, r.Value(), c)
		}
	}
	for i := len(good); i < len(records); i++ {
		if got.Checked[i].Error == "" {
			t.Errorf("record %d, which we refuse, is taken there", i)
		}
	}
	if got.Selected != 1 {
		t.Errorf("record %d is selected there, we take 1", got.Selected)
	}

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
		if r.Value() != full.Value() || r.Sequence() != 7 || r.TTL() != 90*time.Second || !bytes.Equal(r.Bytes(), raw) {
			t.Errorf("their record %d reads here as %s %d %s", i, r.Value(), r.Sequence(), r.TTL())
		}
	}
}
