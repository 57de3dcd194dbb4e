package author

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestNothingIsBuiltThatHasTheKeysInIt(t *testing.T) {
	dir := t.TempDir()
	at := func(path string) string { return filepath.Join(dir, filepath.FromSlash(path)) }
	for _, path := range []string{"user/home/keys", "user/site/sub", "user/homestead", "vault", "user/linked", "vaults"} {
		if err := os.MkdirAll(at(path), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(at("user/home/identity.key"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"user-link": "user", "user/linked/keys": "vault", "user/site/away": "user/homestead"} {
		if err := os.Symlink(at(to), at(link)); err != nil {
			t.Skip(err)
		}
	}
	for _, c := range []struct {
		path, home string
		apart      bool
	}{
		{"user", "user/home", false},
		{"user/home", "user/home", false},
		{"user/home/keys", "user/home", false},
		{"user/home/identity.key", "user/home", false},
		{"user-link", "user/home", false},
		{"user", "user-link/home", false},
		{"user-link/home/keys", "user/home", false},
		{"vault", "user/linked", false},
		{".", "user/linked", false},
		{"user/site", "user/home", true},
		{"user/site", "user/linked", true},
		{"user/site/away", "user-link/home", true},
		{"user/homestead", "user/home", true},
		{"vaults", "user/linked", true},
		{"none", "user/home", true},
		{"user", "none", true},
	} {
		err := Apart(at(c.path), at(c.home))
		if (err == nil) != c.apart || err != nil && !errors.Is(err, ErrUsage) {
			t.Errorf("build %s, home %s: %v", c.path, c.home, err)
		}
	}
}
