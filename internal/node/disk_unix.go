//go:build unix

package node

import "golang.org/x/sys/unix"

// diskSpace is how much may still be written where the home is, and how large that disk is; zeros where it is
// not known.
func diskSpace(dir string) (free, total int64) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0
	}
	return int64(st.Bavail) * int64(st.Bsize), int64(st.Blocks) * int64(st.Bsize)
}
