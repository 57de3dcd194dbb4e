package conformance

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/test/world"
)

// suite is the command of the official suite, and suiteVersion the release whose
// checks the table here follows.
const (
	suite        = "gateway-conformance"
	suiteVersion = "v0.14"
)

// TestOfficialSuite runs ipfs/gateway-conformance itself where it is installed,
// with its own fixtures. It is no module that can be had from everywhere, so that
// its absence never fails: TestGateway has the same checks.
func TestOfficialSuite(t *testing.T) {
	exe, err := exec.LookPath(suite)
	if err != nil {
		t.Skipf("%s %s is not installed: go install github.com/ipfs/%s/cmd/%s@%s.0", suite, suiteVersion, suite, suite, suiteVersion)
	}
	w := world.New(t)
	dir := w.Home("fixtures")
	command(t, exe, "extract-fixtures", "--merged", "--directory", dir)
	home := w.Home("gw")
	must(t, os.MkdirAll(home, 0o700))
	must(t, os.WriteFile(filepath.Join(home, "config.toml"), []byte(config), 0o600))
	t.Setenv("IPFS_NS_MAP", suiteLinks(t, filepath.Join(dir, "dnslinks.json")))
	n := w.Serve("gw", "--gateway", "127.0.0.1:0", "--p2p", "/ip4/127.0.0.1/tcp/0")
	w.Run(nil, "gw", "import", filepath.Join(dir, "fixtures.car"))
	records, err := filepath.Glob(filepath.Join(dir, "*.ipns-record"))
	must(t, err)
	for _, path := range records {
		name, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(path), ".ipns-record"), "_")
		if !w.Try("gw", "name", "put", path, "--name", name) {
			t.Logf("%s is refused", filepath.Base(path)) // some are there to be
		}
	}
	command(t, exe, "test", "--gateway-url", strings.TrimSuffix(n.Gateway, "/"), "--subdomain-url", "http://"+public) // without --specs: all, since all are stable
}

// suiteLinks is the suite's DNSLinks as IPFS_NS_MAP.
func suiteLinks(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	var links struct {
		Domains    map[string]string `json:"domains"`
		Subdomains map[string]string `json:"subdomains"` // of the public host
	}
	must(t, json.Unmarshal(text, &links))
	var parts []string
	for domain, to := range links.Domains {
		if strings.Contains(domain, ".") { // one is a name without a dot, which is no domain here
			parts = append(parts, domain+":"+to)
		}
	}
	for label, to := range links.Subdomains {
		parts = append(parts, label+"."+public+":"+to)
	}
	return strings.Join(parts, ",")
}

func command(t *testing.T, exe string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, exe, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", exe, args, err, out)
	}
}
