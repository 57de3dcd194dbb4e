package node_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/internal/node"
)

func writeConfig(t *testing.T, text string) (home string) {
	t.Helper()
	home = t.TempDir()
	if err := os.WriteFile(filepath.Join(home, "config.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return home
}

func TestConfigSaysWhatItSays(t *testing.T) {
	c, err := node.LoadConfig(writeConfig(t, `
network = "public"
peers = ["/ip4/127.0.0.1/tcp/1/p2p/x"]
host = true
[p2p]
listen = ["/ip4/127.0.0.1/tcp/0"]
allow_private = true
[gateway]
listen = "127.0.0.1:0"
retrieval_timeout = "90s"
[gateway.hosts."sites.example"]
subdomains = true
[gateway.dnslink]
"example.org" = "/ipns/k51"
[pins]
name = "alice"
max_pin_bytes = 5
[publish]
copies = 0
lifetime = "48h"
`))
	if err != nil {
		t.Fatal(err)
	}
	if c.Network != "public" || len(c.Peers) != 1 || !c.Host || !c.P2P.AllowPrivate || c.Gateway.Listen != "127.0.0.1:0" ||
		time.Duration(c.Gateway.RetrievalTimeout) != 90*time.Second || !c.Gateway.Hosts["sites.example"].Subdomains ||
		c.Gateway.DNSLink["example.org"] != "/ipns/k51" || c.Pins.Name != "alice" || c.Pins.MaxPinBytes != 5 ||
		c.Publish.Copies == nil || *c.Publish.Copies != 0 || time.Duration(c.Publish.Lifetime) != 48*time.Hour {
		t.Errorf("%+v", c)
	}
}

func TestConfigThatIsMissingOrEmptyIsTheZeroConfig(t *testing.T) {
	for _, home := range []string{t.TempDir(), filepath.Join(t.TempDir(), "none"), writeConfig(t, ""), writeConfig(t, "# nothing\n")} {
		c, err := node.LoadConfig(home)
		if err != nil || c.Home != home || c.Network != "" || c.Host || c.Publish.Copies != nil {
			t.Errorf("%+v, %v", c, err)
		}
	}
}

func TestDurationsMayBeDaysAndYears(t *testing.T) {
	for text, want := range map[string]time.Duration{"90d": 90 * 24 * time.Hour, "1y": 365 * 24 * time.Hour, "1h30m": 90 * time.Minute, "0": 0, "0d": 0} {
		if got, err := node.ParseDuration(text); err != nil || time.Duration(got) != want {
			t.Errorf("%q: %v, %v", text, time.Duration(got), err)
		}
	}
	for _, text := range []string{"", "d", "-3d", "1.5d", "1d2h", "4294967295y", "300y", "99999999999999999999d", "soon", "-1h"} {
		if got, err := node.ParseDuration(text); err == nil {
			t.Errorf("%q: %v", text, time.Duration(got))
		}
	}
}

func TestConfigMistakesAreNamed(t *testing.T) {
	for text, want := range map[string]string{
		"netwrok = \"x\"":                                  "netwrok; is netwrok meant to be network?",
		"[gatewy]\nlisten = \"x\"":                         "meant to be gateway",
		"[gateway.tls]\nhttp_3 = true":                     "meant to be gateway.tls.http3?",
		"[gateway.hosts.\"a.b\"]\nsubdomain = true":        `meant to be gateway.hosts.a.b.subdomains?`,
		"[gateway]\n" + strings.Repeat("x", 9999) + " = 1": "unknown settings",
		"[gateway]\nlisen = \"x\"\n[pinz]\na = 1":          "gateway.lisen, pinz",
		"home = \"/x\"":                                    "home",
		"network = 3":                                      "config.toml",
		"network = [":                                      "config.toml",
		"[gateway]\nretrieval_timeout = \"soon\"":          "soon",
		"[publish]\nlifetime = \"-1h\"":                    "negative",
		"peers = \"not a list\"":                           "peers",
		"# " + strings.Repeat("x", 1<<20) + "\nx = 1":      "larger than",
	} {
		if _, err := node.LoadConfig(writeConfig(t, text)); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "config.toml") {
			t.Errorf("%.60q: %v", text, err)
		}
	}
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, "config.toml"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := node.LoadConfig(home); err == nil || errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder: %v", err)
	}
}

func FuzzLoadConfig(f *testing.F) {
	f.Add("network = \"public\"\n[gateway.hosts.\"a\"]\npaths = [\"/x\"]")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := node.LoadConfig(writeConfig(t, text))
		if err == nil && (c.Gateway.RetrievalTimeout < 0 || c.Publish.Lifetime < 0) {
			t.Errorf("%+v", c)
		}
	})
}
