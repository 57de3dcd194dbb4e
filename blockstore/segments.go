package blockstore

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	// A segment that has reached this size is appended to no more. Collections
	// rewrite whole segments, and a damaged end costs the copying of one.
	segmentSize = 128 << 20
	// Blocks up to this size are gathered before they are written.
	gatherUpTo = 32 << 10
	// Files that nobody reads from right now are kept open up to this number.
	maxIdleSegments = 128
)

// segments is the files that blocks lie in. Reading may go on concurrently with
// everything; whoever appends must have the store's writing turn.
type segments struct {
	fs    vfs.FS
	dir   string
	limit int64

	mu    sync.Mutex
	files map[uint32]*segmentFile // those that are open
	sizes map[uint32]int64        // bytes of every segment that is there

	// The writer's, guarded by the writing turn.
	active   *segmentFile
	length   int64  // of the active segment: where the next section goes
	staged   []byte // gathered, to be written at length
	nextID   uint32
	written  map[uint32]*segmentFile // in use, have bytes that are not known to be on stable storage
	newFiles bool                    // the directory has names that are not known to be
}

// segmentFile is an open segment. Whoever uses it counts.
type segmentFile struct {
	vfs.File
	id    uint32
	users int
	gone  bool // to be removed when the last user leaves
}

// openSegments lists the segments in dir. Only for reading there may be no such folder.
func openSegments(base vfs.FS, dir string, limit int64, readOnly bool) (*segments, error) {
	s := &segments{
		fs: base, dir: dir, limit: limit, nextID: 1,
		files: map[uint32]*segmentFile{}, sizes: map[uint32]int64{}, written: map[uint32]*segmentFile{},
	}
	names, err := base.List(dir)
	if errors.Is(err, fs.ErrNotExist) && readOnly {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		id, ok := parseSegmentName(name)
		if !ok {
			continue
		}
		info, err := base.Stat(base.PathJoin(dir, name))
		if err != nil {
			return nil, err
		}
		s.sizes[id] = info.Size()
		s.nextID = max(s.nextID, id+1)
	}
	return s, nil
}

func segmentName(id uint32) string { return fmt.Sprintf("%08d.car", id) }

func parseSegmentName(name string) (uint32, bool) {
	number, ok := strings.CutSuffix(name, ".car")
	if !ok {
		return 0, false
	}
	id, err := strconv.ParseUint(number, 10, 32)
	return uint32(id), err == nil && id > 0 && segmentName(uint32(id)) == name
}

func (s *segments) path(id uint32) string { return s.fs.PathJoin(s.dir, segmentName(id)) }

// ids is all segments, in the order in which they were begun.
func (s *segments) ids() []uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.sizes))
}

// size is a segment's bytes; false where it is not there.
func (s *segments) size(id uint32) (int64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.sizes[id]
	return n, ok
}

// total is the bytes of all segments.
func (s *segments) total() (n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, size := range s.sizes {
		n += size
	}
	return n
}

// open opens the segment for its caller alone.
func (s *segments) open(id uint32) (vfs.File, error) { return s.fs.Open(s.path(id)) }

// use opens the segment, or finds it open. The caller must call done with it.
func (s *segments) use(id uint32) (*segmentFile, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.files[id]; f != nil {
		f.users++
		return f, nil
	}
	if _, ok := s.sizes[id]; !ok {
		return nil, fmt.Errorf("segment %d: %w", id, fs.ErrNotExist)
	}
	f, err := s.open(id)
	if err != nil {
		return nil, err
	}
	s.closeIdle()
	sf := &segmentFile{File: f, id: id, users: 1}
	s.files[id] = sf
	return sf, nil
}

// closeIdle makes room for one more open file. Which one goes does not matter much: it
// costs one opening. The caller holds mu.
func (s *segments) closeIdle() {
	if len(s.files) < maxIdleSegments {
		return
	}
	for id, f := range s.files {
		if f.users == 0 {
			f.Close()
			delete(s.files, id)
			return
		}
	}
}

// done ends a use.
func (s *segments) done(f *segmentFile) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.users--; f.users == 0 && f.gone {
		f.Close()
		s.fs.Remove(s.path(f.id)) // where that fails, it is garbage when the store is opened again
	}
}

// read is the bytes at a place, unchecked.
func (s *segments) read(p place) ([]byte, error) {
	f, err := s.use(p.segment)
	if err != nil {
		return nil, err
	}
	defer s.done(f)
	data := make([]byte, p.size)
	if _, err := f.ReadAt(data, p.offset); err != nil {
		return nil, err
	}
	return data, nil
}

// remove deletes a segment. Whoever reads from it can go on, and the file goes
// when they are done: not every system deletes files that are open.
func (s *segments) remove(id uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sizes, id)
	if f := s.files[id]; f != nil {
		delete(s.files, id)
		if f.gone = true; f.users > 0 {
			return nil
		}
		f.Close()
	}
	return s.fs.Remove(s.path(id))
}

func (s *segments) close() error {
	s.retire()
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, f := range s.files {
		errs = append(errs, f.Close())
	}
	clear(s.files)
	return errors.Join(errs...)
}
