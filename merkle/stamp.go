package merkle

import (
	"io/fs"
	"time"
)

// stamp is what the file system says about a file. While it stays the same,
// the content stays the same, but for changes within the clock's grain.
type stamp struct {
	size  int64  // bytes
	mtime int64  // nanoseconds since 1970
	ctime int64  // the same; it can't be set by hand. 0 where the system has none
	inode uint64 // 0 where the system has none, as has device
	dev   uint64
}

// clockGrain is how far apart two changes must lie to be told from each other
// by their times for certain: FAT counts in steps of two seconds.
const clockGrain = 2 * time.Second

func stampOf(info fs.FileInfo) stamp {
	s := stamp{size: info.Size(), mtime: info.ModTime().UnixNano()}
	s.system(info.Sys())
	return s
}

// sameFile says that b is the file a with the same content. A new name, owner
// or mode, which only ctime shows, makes no other content.
func (a stamp) sameFile(b stamp) bool {
	a.ctime = b.ctime
	return a == b
}

// settled says that any change since then has changed the stamp too.
func (a stamp) settled(then time.Time) bool {
	limit := then.Add(-clockGrain).UnixNano()
	return a.mtime < limit && a.ctime < limit
}
