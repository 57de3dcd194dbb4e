package blockstore

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
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
	fs       vfs.FS
	dir      string
	limit    int64
	readOnly bool

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

func openSegments(base vfs.FS, dir string, limit int64, readOnly bool) (*segments, error) {
	s := &segments{
		fs: base, dir: dir, limit: limit, readOnly: readOnly, nextID: 1,
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

// roll begins a new segment where the active one is full, or there is none.
func (s *segments) roll() error {
	if s.active != nil && s.length < s.limit {
		return nil
	}
	id := s.nextID
	f, err := s.fs.OpenReadWrite(s.path(id), "holdfast-segment")
	if err != nil {
		return err
	}
	s.nextID++ // whatever comes: the file may be there now
	if _, err := f.WriteAt(segmentHeader, 0); err != nil {
		return errors.Join(err, f.Close(), s.fs.Remove(s.path(id)))
	}
	s.retire()
	s.active = &segmentFile{File: f, id: id, users: 2}
	s.length = int64(len(segmentHeader))
	s.written[id], s.newFiles = s.active, true
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[id] = s.active
	s.sizes[id] = s.length
	return nil
}

// retire appends to the active segment no more.
func (s *segments) retire() {
	if s.active == nil {
		return
	}
	f := s.active
	s.active = nil
	s.done(f)
}

// resume goes on with a segment of an earlier run, all of which is known to be
// on stable storage.
func (s *segments) resume(id uint32) error {
	f, err := s.fs.OpenReadWrite(s.path(id), "holdfast-segment")
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active = &segmentFile{File: f, id: id, users: 1}
	s.files[id] = s.active
	s.length = s.sizes[id]
	return nil
}

// append writes blocks to the active segment and says where they are. Where it
// fails, none of them is anywhere, and what comes next takes their room.
func (s *segments) append(blks []Block) ([]place, error) {
	if err := s.roll(); err != nil {
		return nil, err
	}
	begin := s.length
	places, err := s.write(blks)
	if err != nil {
		s.length = begin
	}
	s.staged = s.staged[:0]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sizes[s.active.id] = s.length
	return places, err
}

func (s *segments) write(blks []Block) ([]place, error) {
	s.writing()
	places := make([]place, len(blks))
	for i, b := range blks {
		s.staged = appendSectionHead(s.staged, b)
		places[i] = place{segment: s.active.id, offset: s.length + int64(len(s.staged)), size: int64(len(b.data))}
		if len(b.data) <= gatherUpTo {
			s.staged = append(s.staged, b.data...)
			if len(s.staged) < batchBytes {
				continue
			}
		}
		if err := s.writeOut(s.staged); err != nil {
			return nil, err
		}
		s.staged = s.staged[:0]
		if len(b.data) > gatherUpTo {
			if err := s.writeOut(b.data); err != nil {
				return nil, err
			}
		}
	}
	return places, s.writeOut(s.staged)
}

// writing notes that the active segment has to be synced.
func (s *segments) writing() {
	if s.written[s.active.id] == nil {
		s.mu.Lock()
		s.active.users++
		s.mu.Unlock()
		s.written[s.active.id] = s.active
	}
}

func (s *segments) writeOut(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if _, err := s.active.WriteAt(p, s.length); err != nil {
		return err
	}
	s.length += int64(len(p))
	return nil
}

// unsynced is what has to reach stable storage so that everything appended until now is there.
type unsynced struct {
	files    []*segmentFile
	lengths  map[uint32]int64
	newFiles bool
}

// takeUnsynced hands over what sync needs. The caller has the writing turn, which sync does not need.
func (s *segments) takeUnsynced() unsynced {
	u := unsynced{lengths: map[uint32]int64{}, newFiles: s.newFiles}
	for id, f := range s.written {
		u.files = append(u.files, f)
		u.lengths[id], _ = s.size(id)
	}
	clear(s.written)
	s.newFiles = false
	return u
}

func (s *segments) give(u unsynced) {
	for _, f := range u.files {
		s.done(f)
	}
}

// sync makes it durable. It is not to be tried again: the system may have forgotten what it could not write.
func (s *segments) sync(u unsynced) error {
	defer s.give(u)
	for _, f := range u.files {
		if err := f.SyncData(); err != nil {
			return err
		}
	}
	if u.newFiles {
		return syncDir(s.fs, s.dir)
	}
	return nil
}

// abandon appends to none of the segments any more. The caller has the writing turn.
func (s *segments) abandon(u unsynced) {
	for id := range u.lengths {
		if s.active != nil && s.active.id == id {
			s.retire()
		}
		if f := s.written[id]; f != nil {
			delete(s.written, id)
			s.done(f)
		}
	}
	s.newFiles = s.newFiles || u.newFiles
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

// secure makes durable what an earlier run wrote, the segment's name too.
func (s *segments) secure(id uint32) error {
	f, err := s.fs.OpenReadWrite(s.path(id), "holdfast-segment")
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return syncDir(s.fs, s.dir)
}

// cut gives a segment a new, earlier end, durably. Not every file system that we
// run on can cut (the one in memory, of tests, can't); there it is by copying.
func (s *segments) cut(id uint32, length int64) error {
	if s.fs == vfs.Default { // without room for a copy, too
		if err := truncate(s.path(id), length); err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.sizes[id] = length
		return nil
	}
	from, err := s.open(id)
	if err != nil {
		return err
	}
	name := s.path(id) + ".new"
	to, err := s.fs.Create(name, "holdfast-segment")
	if err != nil {
		return errors.Join(err, from.Close())
	}
	err = copyRange(to, from, length)
	if err == nil {
		err = to.Sync()
	}
	if err = errors.Join(err, from.Close(), to.Close()); err != nil {
		return errors.Join(err, s.fs.Remove(name))
	}
	if err := s.fs.Rename(name, s.path(id)); err != nil {
		return err
	}
	s.mu.Lock()
	s.sizes[id] = length
	s.mu.Unlock()
	return syncDir(s.fs, s.dir)
}

// truncate cuts a file of the system's own file system, durably.
func truncate(name string, length int64) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(length), f.Sync(), f.Close())
}

func copyRange(to, from vfs.File, length int64) error {
	buf := make([]byte, min(length, 1<<20))
	for at := int64(0); at < length; {
		p := buf[:min(int64(len(buf)), length-at)]
		if _, err := from.ReadAt(p, at); err != nil {
			return err
		}
		if _, err := to.Write(p); err != nil {
			return err
		}
		at += int64(len(p))
	}
	return nil
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
