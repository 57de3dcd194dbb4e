package gateway

import (
	"strings"
	"testing"
)

func TestSharedCookiesAreThoseThatThePublicSuffixListDoesNotForbid(t *testing.T) {
	for host, want := range map[string]string{
		"localhost":       "ipfs.localhost ipns.localhost",
		"sites.example":   "ipfs.sites.example ipns.sites.example",
		"dweb.link":       "",              // *.dweb.link is on the list
		"w3s.link":        "ipns.w3s.link", // only its /ipfs/ half is
		"sites.github.io": "ipfs.sites.github.io ipns.sites.github.io",
	} {
		if got := strings.Join(SharedCookies(host), " "); got != want {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
	}
}
