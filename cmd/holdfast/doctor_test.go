package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDoctorSaysWhichSitesShareCookies(t *testing.T) {
	u := newUser(t)
	if checks := u.json("doctor")["checks"].([]any); len(checks) != 1 || checks[0].(map[string]any)["check"] != "disk" {
		t.Errorf("a home without a gateway: %v", checks)
	}
	if _, err := os.Stat(u.home); err == nil {
		t.Error("the doctor made a home")
	}
	config := `[gateway]
listen = "0.0.0.0:0"
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
	u.fails(2, "--here asks nobody", "doctor", "--here", "www.example.org")
}

func TestDoctorsExitCodeTellsThatSomethingIsBroken(t *testing.T) {
	u := newUser(t)
	u.must("publish", u.site("site"), "--site", "blog", "--copies", "0", "--network", "offline", "--lifetime", "240h")
	o := u.run("doctor", "--here")
	if o.code != 1 || !strings.Contains(o.out, "bad   site        blog: its name ends on") || !strings.Contains(o.out, "holdfast name renew blog") || !strings.Contains(o.err, "one thing is broken") {
		t.Errorf("%d\n%s%s", o.code, o.out, o.err)
	}
	o = u.run("doctor", "--here", "--json")
	failure, _ := oneObject(t, o.out)["error"].(map[string]any)
	checks, _ := failure["checks"].([]any)
	if o.code != 1 || failure["kind"] != "failed" || len(checks) < 2 {
		t.Errorf("%d %s", o.code, o.out)
	}
	for _, c := range checks {
		hasExactly(t, "a check", c, "check", "about", "fine", "broken", "message")
		break
	}
	u.file("home/config.toml", "[gatewy]\nlisten = \"127.0.0.1:0\"\n")
	u.fails(2, "meant to be gateway", "doctor")
}
