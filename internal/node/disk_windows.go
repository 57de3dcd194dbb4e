//go:build windows

package node

import "golang.org/x/sys/windows"

// diskSpace is how much may still be written where the home is, and how large that disk is; zeros where it is
// not known.
func diskSpace(dir string) (free, total int64) {
	p, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, 0
	}
	var left, all uint64
	if err := windows.GetDiskFreeSpaceEx(p, &left, &all, nil); err != nil {
		return 0, 0
	}
	return int64(left), int64(all)
}
