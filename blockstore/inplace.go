package blockstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"

	"github.com/cockroachdb/pebble/v2"
)

// A block can stay in a file of somebody else (an author's page) instead of
// being copied. The index then names the file. The file may change at any time:
// a block of one whose size or time of modification is not what it was counts as
// absent, unless reading it shows that the bytes are the block's even so. So a
// wrong byte is never returned, and a replica can supply what the author has overwritten.
//
// Files are numbered. A number stands for a path together with the size and time that the
// file had, and is never used again:
//
//	f number -> size, time of modification (nanoseconds, zigzag), path

// Origin is where a block's bytes were read. The zero Origin is nowhere: the
// block has to be copied.
type Origin struct {
	Path    string // absolute
	Offset  int64  // of the block in the file
	Size    int64  // of the file
	ModTime int64  // of the file, Unix nanoseconds
}

// Referrer is a Session that can leave blocks where they are.
type Referrer interface {
	Session

	// PutFrom is Put, but blocks with an Origin are not copied: the store
	// remembers where they are and reads them there. What Sync promises of
	// them is that the store will know them; the file is its owner's. Get fails with ErrNotFound, naming the file, where it has
	// changed. A later Put of the same block makes a copy. len(from) must be len(blks).
	PutFrom(ctx context.Context, blks []Block, from []Origin) (Added, error)
}

var _ Referrer = (*diskSession)(nil)

// maxPath bounds the path of an Origin, in bytes.
const maxPath = 32 << 10

// origins is the files that blocks were left in. They are few beside the blocks,
// and all in memory. Changed by whoever has the writing turn.
type origins struct {
	files   map[uint32]Origin // without offset
	numbers map[Origin]uint32
	last    uint32
	asked   map[uint32]bool   // numbers given out since a collection began
	untold  map[uint32]Origin // that the index does not have yet
}

func newOrigins() origins {
	return origins{files: map[uint32]Origin{}, numbers: map[Origin]uint32{}, untold: map[uint32]Origin{}}
}

func originKey(number uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{kindOrigin}, number)
}

func (o Origin) encode() []byte {
	v := binary.AppendUvarint(nil, uint64(o.Size))
	return append(binary.AppendVarint(v, o.ModTime), o.Path...)
}

func parseOrigin(v []byte) (Origin, error) {
	size, w1 := binary.Uvarint(v)
	modified, w2 := binary.Varint(v[max(0, w1):])
	if w1 <= 0 || w2 <= 0 || size > math.MaxInt64 || len(v)-w1-w2 > maxPath {
		return Origin{}, fmt.Errorf("%w: the index has a malformed file", ErrCorrupt)
	}
	return Origin{Size: int64(size), ModTime: modified, Path: string(v[w1+w2:])}, nil
}

// loadOrigins reads the files when the store is opened.
func (d *disk) loadOrigins() error {
	return scan(d.db, []byte{kindOrigin}, func(rest, v []byte) error {
		o, err := parseOrigin(v)
		if err == nil && len(rest) != 4 {
			err = fmt.Errorf("%w: the index has a file under %x", ErrCorrupt, rest)
		}
		if err == nil {
			d.origins.add(binary.BigEndian.Uint32(rest), o)
		}
		return err
	})
}

func (o *origins) add(number uint32, file Origin) {
	o.files[number] = file
	o.numbers[file] = number
	o.last = max(o.last, number)
}

// number is what stands for the file. The caller has the writing turn.
func (d *disk) originNumber(o Origin) uint32 {
	o.Offset = 0
	d.originsMu.Lock()
	defer d.originsMu.Unlock()
	n, ok := d.origins.numbers[o]
	if !ok {
		n = d.origins.last + 1
		d.origins.add(n, o)
		d.origins.untold[n] = o
	}
	if d.origins.asked != nil {
		d.origins.asked[n] = true
	}
	return n
}

func (d *disk) originOf(number uint32) (Origin, bool) {
	d.originsMu.RLock()
	defer d.originsMu.RUnlock()
	o, ok := d.origins.files[number]
	return o, ok
}

// PutFrom implements [Referrer].
func (s *diskSession) PutFrom(ctx context.Context, blks []Block, from []Origin) (added Added, err error) {
	if len(from) != len(blks) {
		return Added{}, fmt.Errorf("%w: %d origins of %d blocks", ErrRefused, len(from), len(blks))
	}
	var copied, left []Block
	var origins []Origin
	for i, b := range blks {
		if len(from[i].Path) > maxPath {
			return Added{}, fmt.Errorf("%w: a path of %d bytes", ErrRefused, len(from[i].Path))
		}
		if _, ok := identity(b.cid); ok || from[i].Path == "" || b.Size() == 0 {
			copied = append(copied, b)
		} else {
			left, origins = append(left, b), append(origins, from[i])
		}
	}
	// Leaves first: a parent is never there before its children.
	if err := s.refer(ctx, left, origins, &added); err != nil {
		return added, err
	}
	more, err := s.Put(ctx, copied...)
	added.Blocks += more.Blocks
	added.Bytes += more.Bytes
	return added, err
}

// refer notes where blocks are that are not present.
func (s *diskSession) refer(ctx context.Context, blks []Block, from []Origin, added *Added) error {
	if len(blks) == 0 {
		return nil
	}
	if err := checkAll(blks); err != nil {
		return err
	}
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	if err := s.d.relieve(ctx); err != nil {
		return err
	}
	hashes := make([]string, len(blks))
	for i, b := range blks {
		hashes[i] = hashString(b.cid)
	}
	defer s.d.shielding(hashes)()
	if err := s.d.writing.take(ctx); err != nil {
		return err
	}
	defer s.d.writing.give()
	if _, err := s.d.health.now(); err != nil {
		return err
	}
	absent, err := s.d.absent(blks, hashes, false)
	if err != nil {
		return err
	}
	places, missing := make([]place, len(absent)), make([]string, len(absent))
	for i, n := range absent {
		places[i] = place{file: s.d.originNumber(from[n]), offset: from[n].Offset, size: int64(blks[n].Size())}
		missing[i] = hashes[n]
		added.Blocks++
		added.Bytes += places[i].size
	}
	s.d.await(missing, places)
	s.d.heal(missing)
	s.shield(hashes, func(int) int64 { return -1 }) // the file may change
	return nil
}

// errMoved says that a file is not what it was when a block was left in it.
var errMoved = errors.New("the file has changed")

// readOrigin is the bytes that are now where a block was left, unchecked.
func (d *disk) readOrigin(p place) ([]byte, error) {
	o, ok := d.originOf(p.file)
	if !ok {
		return nil, fmt.Errorf("%w: no file has the number %d", ErrCorrupt, p.file)
	}
	f, err := d.fs.FS.Open(o.Path)
	if err != nil {
		return nil, originError(o, err)
	}
	defer f.Close()
	data := make([]byte, p.size)
	if _, err := f.ReadAt(data, p.offset); err != nil {
		return nil, originError(o, err)
	}
	return data, nil
}

// originError is errMoved where the file or the part of it is gone.
func originError(o Origin, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %q, where it was left: %w", errMoved, o.Path, err)
	}
	return fmt.Errorf("%q: %w", o.Path, err)
}

// untouched tells whether a file looks as it did. asked remembers the answers
// of one call.
func (d *disk) untouched(number uint32, asked map[uint32]bool) bool {
	if known, ok := asked[number]; ok {
		return known
	}
	o, ok := d.originOf(number)
	if ok {
		info, err := d.fs.FS.Stat(o.Path)
		ok = err == nil && info.Size() == o.Size && info.ModTime().UnixNano() == o.ModTime
	}
	asked[number] = ok
	return ok
}

// watchOrigins begins to note which numbers are given out, for a collection.
func (d *disk) watchOrigins(on bool) {
	d.originsMu.Lock()
	defer d.originsMu.Unlock()
	d.origins.asked = nil
	if on {
		d.origins.asked = map[uint32]bool{}
	}
}

// forgetOrigins drops the files that a sweep found nothing in and that nobody has
// asked about since it began.
func (d *disk) forgetOrigins(ctx context.Context, used map[uint32]bool) error {
	return d.commit(ctx, func(b *pebble.Batch) error {
		d.originsMu.Lock()
		defer d.originsMu.Unlock()
		for n, o := range d.origins.files {
			if used[n] || d.origins.asked[n] || d.origins.untold[n] != (Origin{}) {
				continue
			}
			if err := b.Delete(originKey(n), nil); err != nil {
				return err
			}
			delete(d.origins.files, n)
			delete(d.origins.numbers, o)
		}
		return nil
	})
}
