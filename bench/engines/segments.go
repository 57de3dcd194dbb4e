//go:build unix

package engines

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"
	blocks "github.com/ipfs/go-block-format"
	mh "github.com/multiformats/go-multihash"
	"github.com/multiformats/go-varint"
)

// segmentSize is where a segment ends, give or take a block.
const segmentSize = 128 << 20

// carHeader is that of a CARv1 whose only root is bafkqaaa, the CID that is
// its own empty content: a CAR has to have a root, and a segment has none.
var carHeader = append([]byte{25}, "\xa2\x65roots\x81\xd8\x2a\x45\x00\x01\x55\x00\x00\x67version\x01"...)

// segments appends blocks to CAR files; a database knows where each lies. It
// learns it only when the bytes are on disk, so that what it names is there.
//
//	b multihash -> place
//	s segment   -> bytes of it that are durable, 8 bytes; what comes after them is cut off on opening
//
// Numbers are big-endian.
type segments struct {
	dir     string
	index   *pebble.DB
	files   map[uint32]*segment
	current *segment
	pending map[string]place // not yet in the index
	made    bool             // a segment was made since the last barrier
	buf     []byte           // for append
}

// segment is one file. Nothing in it is ever changed.
type segment struct {
	number uint32
	file   *os.File
	end    int64 // bytes
}

// place is where a block's bytes lie.
type place struct{ segment, offset, length uint32 }

func (p place) encode() []byte {
	v := binary.BigEndian.AppendUint32(nil, p.segment)
	v = binary.BigEndian.AppendUint32(v, p.offset)
	return binary.BigEndian.AppendUint32(v, p.length)
}

func decodePlace(v []byte) (place, error) {
	if len(v) != 12 {
		return place{}, fmt.Errorf("the index has a place of %d bytes", len(v))
	}
	return place{binary.BigEndian.Uint32(v), binary.BigEndian.Uint32(v[4:]), binary.BigEndian.Uint32(v[8:])}, nil
}

func blockKey(h mh.Multihash) []byte { return append([]byte{'b'}, h...) }

func segmentKey(n uint32) []byte { return binary.BigEndian.AppendUint32([]byte{'s'}, n) }

func openSegments(dir string) (_ Engine, err error) {
	s := &segments{dir: dir, files: map[uint32]*segment{}, pending: map[string]place{}}
	o := baseOptions()
	o.MemTableSize = 1 << 20 // room for the log is taken in advance, by this measure
	if s.index, err = pebble.Open(filepath.Join(dir, "index"), o); err != nil {
		return nil, err
	}
	if err := s.openFiles(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// openFiles takes away what no barrier has acknowledged: the end of a segment, or all of it.
func (s *segments) openFiles() error {
	names, err := filepath.Glob(filepath.Join(s.dir, "*.car"))
	if err != nil {
		return err
	}
	for _, name := range names {
		var n uint32
		if _, err := fmt.Sscanf(filepath.Base(name), "%d.car", &n); err != nil {
			return err
		}
		v, closer, err := s.index.Get(segmentKey(n))
		if errors.Is(err, pebble.ErrNotFound) {
			if err := os.Remove(name); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		end := int64(binary.BigEndian.Uint64(v))
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err := errors.Join(err, closer.Close()); err != nil {
			return err
		}
		seg := &segment{number: n, file: f, end: end}
		s.files[n] = seg
		if err := f.Truncate(end); err != nil {
			return err
		}
		if s.current == nil || n > s.current.number {
			s.current = seg
		}
	}
	return nil
}

func (s *segments) path(n uint32) string { return filepath.Join(s.dir, fmt.Sprintf("%08d.car", n)) }

// roll begins a segment. What the full one holds goes to disk and into the
// index, which bounds what is pending.
func (s *segments) roll() error {
	if err := s.Sync(); err != nil {
		return err
	}
	var n uint32 = 1
	if s.current != nil {
		n = s.current.number + 1
	}
	f, err := os.OpenFile(s.path(n), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(carHeader, 0); err != nil {
		return errors.Join(err, f.Close())
	}
	s.current = &segment{number: n, file: f, end: int64(len(carHeader))}
	s.files[n], s.made = s.current, true
	return nil
}

func (s *segments) Put(blks []blocks.Block) error {
	it, err := s.index.NewIter(&pebble.IterOptions{UseL6Filters: true})
	if err != nil {
		return err
	}
	defer it.Close()
	absent := make([]blocks.Block, 0, len(blks))
	seen := make(map[string]bool, len(blks))
	for _, b := range blks {
		h := b.Cid().Hash()
		_, pending := s.pending[string(h)]
		if pending || seen[string(h)] || it.SeekPrefixGE(blockKey(h)) {
			continue
		}
		if err := it.Error(); err != nil {
			return err
		}
		seen[string(h)] = true
		absent = append(absent, b)
	}
	return s.append(absent)
}

// append writes blocks, whether or not they are there, with one call to the system.
func (s *segments) append(blks []blocks.Block) error {
	if len(blks) == 0 {
		return nil
	}
	if s.current == nil || s.current.end >= segmentSize {
		if err := s.roll(); err != nil {
			return err
		}
	}
	buf := s.buf[:0]
	for _, b := range blks {
		id, data := b.Cid().Bytes(), b.RawData()
		buf = append(append(buf, varint.ToUvarint(uint64(len(id)+len(data)))...), id...)
		s.pending[string(b.Cid().Hash())] = place{s.current.number, uint32(s.current.end) + uint32(len(buf)), uint32(len(data))}
		buf = append(buf, data...)
	}
	s.buf = buf
	if _, err := s.current.file.WriteAt(buf, s.current.end); err != nil {
		return err
	}
	writeBehind(s.current.file, s.current.end, int64(len(buf)))
	s.current.end += int64(len(buf))
	return nil
}

func (s *segments) Sync() error {
	if len(s.pending) == 0 {
		return nil
	}
	if err := dataSync(s.current.file); err != nil { // full ones were synced when it began
		return err
	}
	if s.made {
		if err := syncPath(s.dir); err != nil {
			return err
		}
		s.made = false
	}
	batch := s.index.NewBatch()
	defer batch.Close()
	for h, p := range s.pending {
		if err := batch.Set(blockKey(mh.Multihash(h)), p.encode(), nil); err != nil {
			return err
		}
	}
	end := binary.BigEndian.AppendUint64(nil, uint64(s.current.end))
	if err := errors.Join(batch.Set(segmentKey(s.current.number), end, nil), batch.Commit(pebble.Sync)); err != nil {
		return err
	}
	clear(s.pending)
	return nil
}

func (s *segments) Get(h mh.Multihash) ([]byte, error) {
	p, err := s.find(h)
	if err != nil {
		return nil, err
	}
	seg := s.files[p.segment]
	if seg == nil {
		return nil, fmt.Errorf("the index names segment %d, which is not there", p.segment)
	}
	data := make([]byte, p.length)
	_, err = seg.file.ReadAt(data, int64(p.offset))
	return data, err
}

func (s *segments) find(h mh.Multihash) (place, error) {
	if p, ok := s.pending[string(h)]; ok {
		return p, nil
	}
	v, closer, err := s.index.Get(blockKey(h))
	if errors.Is(err, pebble.ErrNotFound) {
		return place{}, errNotFound
	}
	if err != nil {
		return place{}, err
	}
	p, err := decodePlace(v)
	return p, errors.Join(err, closer.Close())
}

func (s *segments) Delete(hs []mh.Multihash) error {
	if err := s.Sync(); err != nil {
		return err
	}
	batch := s.index.NewBatch()
	defer batch.Close()
	for _, h := range hs {
		if err := batch.Delete(blockKey(h), nil); err != nil {
			return err
		}
	}
	return batch.Commit(pebble.NoSync) // Reclaim is the barrier
}

func (s *segments) Close() error {
	errs := []error{s.Sync()}
	for _, seg := range s.files {
		errs = append(errs, seg.file.Close())
	}
	return errors.Join(append(errs, s.index.Close())...)
}
