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
