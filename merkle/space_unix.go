//go:build linux || darwin

package merkle

import (
	"math"
	"syscall"
)

// freeSpace is how many bytes may still be written where path is; -1 where that can't be told.
func freeSpace(path string) int64 {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(path, &fs); err != nil || fs.Bsize <= 0 || fs.Bavail > math.MaxInt64/uint64(fs.Bsize) {
		return -1
	}
	return int64(fs.Bavail) * int64(fs.Bsize)
}
