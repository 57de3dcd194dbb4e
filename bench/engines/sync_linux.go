package engines

import (
	"os"

	"golang.org/x/sys/unix"
)

// dataSync makes a file's bytes durable, and of what describes it only what
// reading them needs.
func dataSync(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }

// writeBehind lets the disk begin with bytes that a barrier will wait for. It
// promises nothing.
func writeBehind(f *os.File, off, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
}
