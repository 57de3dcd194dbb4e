package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-sites/holdfast/gateway"
)

func TestMistakesInTheGatewaysTablesNameTheKey(t *testing.T) {
	for want, c := range map[string]GatewayConfig{
		"gateway.trusted_proxies":            {TrustedProxies: []string{"proxy.example"}},
		"gateway.limits.bytes_per_second":    {Limits: GatewayLimits{Bytes: 1000}},
		"gateway.limits.requests_per_second": {Limits: GatewayLimits{Requests: -1}},
		"gateway.access_log.format":          {AccessLog: GatewayAccessLog{Format: "json"}},
		"gateway.retrieval_bytes":            {RetrievalBytes: -5},
	} {
		if err := c.guard(&gateway.Config{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	var cfg gateway.Config
	c := GatewayConfig{TrustedProxies: []string{"10.0.0.0/8", "192.0.2.1", "::1"}, Limits: GatewayLimits{Requests: 5}}
	if err := c.guard(&cfg); err != nil || len(cfg.TrustedProxies) != 3 || cfg.TrustedProxies[1].Bits() != 32 || cfg.Clients.Requests != 5 {
		t.Errorf("%+v, %v", cfg, err)
	}
}

func TestALogThatWasMovedAwayIsBegunAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	l, err := openLogFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	write := func(s string) {
		if _, err := l.Write([]byte(s)); err != nil {
			t.Error(err)
		}
	}
	write("one\n")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Skip(err) // not where an open file can't be moved
	}
	write("two\n")
	write("three\n")
	for p, want := range map[string]string{path + ".1": "one\n", path: "two\nthree\n"} {
		if b, err := os.ReadFile(p); string(b) != want {
			t.Errorf("%s: %q, %v", p, b, err)
		}
	}
}
