//go:build windows

package node

import "golang.org/x/sys/windows"

// freeBytes is how much may still be written where the home is; 0 where it is
// not known.
func freeBytes(dir string) int64 {
	p, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0
	}
	var free uint64
	if err := windows.GetDiskFreeSpaceEx(p, &free, nil, nil); err != nil {
		return 0
	}
	return int64(free)
}
