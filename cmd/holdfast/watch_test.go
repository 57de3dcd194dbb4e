package main

import (
	"path/filepath"
	"testing"
)

func TestAWatchThatCantMeanAnythingIsRefused(t *testing.T) {
	u := newUser(t)
	dir := u.site("site")
	u.fails(2, "--dry-run", "publish", dir, "--watch", "--dry-run")
	u.fails(2, "--no-wait", "publish", dir, "--watch", "--no-wait")
	u.fails(2, "--dry-run", "up", dir, "--watch", "--dry-run")
	u.fails(3, "no such file", "publish", u.path("none"), "--watch", "--copies", "0", "--network", "offline")
	// A failure of the first publish that has nothing to do with the folder ends it.
	u.fails(5, "no host is known", "publish", dir, "--watch", "--network", "offline")
	u.home = filepath.Join(dir, "home")
	u.fails(2, "inside the folder", "publish", dir, "--watch", "--copies", "0", "--network", "offline")
}
