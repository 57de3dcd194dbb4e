package blockstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// cantWrite is what whoever puts blocks is told of a file that could not be
// written: which one, and why. Of the system's errors some name it themselves.
func cantWrite(path string, err error) error {
	var named *fs.PathError
	if errors.As(err, &named) {
		path, err = named.Path, named.Err
	}
	return fmt.Errorf("blockstore can't write: %s: %w", path, err)
}

// roll begins a new segment where the active one is full, or there is none.
func (s *segments) roll() error {
	if s.active != nil && s.length < s.limit {
		return nil
	}
	id := s.nextID
	f, err := s.fs.OpenReadWrite(s.path(id), "holdfast-segment")
	if err != nil {
		return cantWrite(s.path(id), err)
	}
	s.nextID++ // whatever comes: the file may be there now
	if _, err := f.WriteAt(segmentHeader, 0); err != nil {
		return errors.Join(cantWrite(s.path(id), err), f.Close(), s.fs.Remove(s.path(id)))
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
		return cantWrite(s.path(s.active.id), err)
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
			return cantWrite(s.path(f.id), err)
		}
	}
	if !u.newFiles {
		return nil
	}
	if err := syncDir(s.fs, s.dir); err != nil {
		return cantWrite(s.dir, err)
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
