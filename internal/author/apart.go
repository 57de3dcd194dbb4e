package author

import (
	"os"
	"path/filepath"
)

// Apart refuses to build what lies in the home, or has the home in it, as a
// home folder has: everybody could read the keys and the tokens then. Ignore
// files make no difference, since a line missing there must not cost a key. A path
// or home that isn't there passes. Errors: ErrUsage.
func Apart(path, home string) error {
	for _, secret := range []string{home, filepath.Join(home, "keys")} { // keys may be a link to another place
		if within(secret, path) {
			return usagef("the home %s is inside the folder %s: everybody could read your keys; choose another folder, or another --home", home, path)
		}
		if within(path, secret) {
			return usagef("%s is inside the home %s: everybody could read your keys; choose another folder, or another --home", path, home)
		}
	}
	return nil
}

// apart is Apart from the home of this Author.
func (a *Author) apart(path string) error {
	if a.Home == "" {
		return nil
	}
	return Apart(path, a.Home)
}

// within says whether path is dir or lies below it, by what is on the disk:
// neither links nor the case of letters can hide it.
func within(path, dir string) bool {
	top, err := os.Stat(dir)
	if err != nil {
		return false
	}
	at, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false
	}
	for {
		if here, err := os.Stat(at); err == nil && os.SameFile(here, top) {
			return true
		}
		up := filepath.Dir(at)
		if up == at {
			return false
		}
		at = up
	}
}
