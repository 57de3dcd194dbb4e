package blockstore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// checkedFile is a table of the index, opened for reading, in which pebble
// never gets to see a damaged block. It would find the damage itself, but then
// it looks for a flipped bit by trying, which takes long, and its background work
// comes back to the same block without a pause. So the same checksum is computed
// here first.
//
// Pebble reads these files a block at a time (data, one byte of compression, and four
// of checksum), and otherwise only their end.
type checkedFile struct {
	vfs.File
	name    string
	size    int64
	log     *slog.Logger
	hurried <-chan struct{}
	told    atomic.Bool
}

const (
	blockTrailer = 5
	// Background work that meets damage is tried again at once, for ever.
	damagePause = 10 * time.Millisecond
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func isChecked(name string) bool { return strings.HasSuffix(name, ".sst") }

// Open implements vfs.FS.
func (g *guardFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := g.FS.Open(name, opts...)
	if err != nil || !isChecked(name) {
		return f, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &checkedFile{File: f, name: name, size: info.Size(), log: g.log, hurried: g.hurried}, nil
}

// ReadAt implements io.ReaderAt.
func (f *checkedFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	if err != nil || off+int64(n) >= f.size || n < blockTrailer {
		return n, err
	}
	body, sum := p[:n-4], binary.LittleEndian.Uint32(p[n-4:n])
	c := crc32.Checksum(body, castagnoli)
	if (c>>15|c<<17)+0xa282ead8 == sum { // RocksDB's masking
		return n, nil
	}
	if !f.told.Swap(true) {
		f.log.Error("blockstore: damaged file", "path", f.name, "offset", off, "length", n)
	}
	select {
	case <-f.hurried:
	case <-time.After(damagePause):
	}
	return 0, fmt.Errorf("%w: %s is damaged within %d bytes at %d", ErrCorrupt, f.name, n, off)
}
