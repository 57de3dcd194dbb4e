package blockstore

import (
	"context"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// OpenDiskOn opens a disk store on another file system.
func OpenDiskOn(ctx context.Context, fs vfs.FS, dir string, o DiskOptions) (Store, error) {
	d, err := openDisk(ctx, fs, dir, o)
	if err != nil {
		return nil, err
	}
	return d, nil
}

// WithSegments is o with segments of another size, in bytes.
func WithSegments(o DiskOptions, size int64) DiskOptions {
	o.segmentBytes = size
	return o
}

// RebuildIndexOn makes the index anew on another file system.
func RebuildIndexOn(ctx context.Context, fs vfs.FS, dir string) (Rebuilt, error) {
	return rebuildIndex(ctx, fs, dir, DiskOptions{})
}

// HoldKeeping keeps everybody from recording what is kept until give is called.
func HoldKeeping(s Store) (give func()) { return hold(s.(*disk).keeping) }

// HoldWriting keeps everybody from changing the index until give is called.
func HoldWriting(s Store) (give func()) { return hold(s.(*disk).writing) }

func hold(t turn) (give func()) {
	t <- struct{}{}
	return t.give
}

// Expire drops the shields of sessions that nobody has open.
func Expire(ctx context.Context, s Store) error {
	_, err := s.(*disk).expire(ctx, CollectOptions{SessionGrace: -1})
	return err
}

// CanTakeShields tells whether nobody keeps a settling from asking the sessions.
func CanTakeShields(s Store) bool {
	ok := s.(*disk).sessionsMu.TryLock()
	if ok {
		s.(*disk).sessionsMu.Unlock()
	}
	return ok
}
