package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDoctorSaysWhichSitesShareCookies(t *testing.T) {
	u := newUser(t)
	if checks := u.json("doctor")["checks"].([]any); len(checks) != 0 {
		t.Errorf("a home without a gateway: %v", checks)
	}
	config := `[gateway]
listen = "0.0.0.0:8080"
[gateway.hosts."sites.example"]
subdomains = true
[gateway.hosts."blocks.example"]
deserialized = false
[gateway.hosts."paths.example"]
`
	if err := os.MkdirAll(u.home, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(u.home, "config.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	fine := map[string]bool{}
	for _, c := range u.json("doctor")["checks"].([]any) {
		d := c.(map[string]any)
		fine[d["check"].(string)+" "+d["about"].(string)] = d["fine"].(bool)
	}
	want := map[string]bool{"cookies localhost": false, "origins blocks.example": true, "origins paths.example": false, "cookies sites.example": false}
	for k, v := range want {
		if got, ok := fine[k]; got != v || !ok {
			t.Errorf("%s: %v (looked at: %v), want %v", k, got, ok, v)
		}
	}
	for _, text := range []string{"ipfs.sites.example and ipns.sites.example", "Public Suffix List", "http://ALIAS.localhost", "subdomains = true"} {
		if o := u.must("doctor"); !strings.Contains(o.out, text) {
			t.Errorf("people are not told %q:\n%s", text, o.out)
		}
	}
	u.fails(2, "no arguments", "doctor", "x")
}
