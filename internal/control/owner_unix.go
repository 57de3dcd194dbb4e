//go:build unix

package control

import (
	"fmt"
	"os"
	"syscall"
)

// ownedByUs refuses a runtime folder that another user made.
func ownedByUs(dir string) error {
	fi, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || !fi.IsDir() || int(st.Uid) != os.Getuid() || fi.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s must be a folder of yours with permissions 0700; set XDG_RUNTIME_DIR to one that is", dir)
	}
	return nil
}
