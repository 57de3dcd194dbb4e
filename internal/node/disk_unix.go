//go:build unix

package node

import "golang.org/x/sys/unix"

// freeBytes is how much may still be written where the home is; 0 where it is
// not known.
func freeBytes(dir string) int64 {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0
	}
	return int64(st.Bavail) * int64(st.Bsize)
}
