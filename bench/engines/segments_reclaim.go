//go:build unix

package engines

import (
	"bufio"
	"errors"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipld/go-car/v2"
	"github.com/multiformats/go-varint"
)

// Reclaim appends what is left of segments that are mostly garbage to new ones
// and removes the old ones. A kill on the way leaves a block in two places at
// worst, of which the index names one.
func (s *segments) Reclaim() error {
	if err := errors.Join(s.Sync(), s.index.LogData(nil, pebble.Sync)); err != nil {
		return err // deletions don't wait for the disk
	}
	sparse, err := s.sparse()
	if err != nil || len(sparse) == 0 {
		return err
	}
	if err := s.roll(); err != nil {
		return err
	}
	for _, seg := range sparse {
		if err := s.move(seg); err != nil {
			return err
		}
	}
	if err := s.Sync(); err != nil {
		return err
	}
	return s.drop(sparse)
}

// sparse is the segments that are worth rewriting.
func (s *segments) sparse() (sparse []*segment, err error) {
	it, err := s.index.NewIter(&pebble.IterOptions{LowerBound: []byte{'b'}, UpperBound: []byte{'c'}})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	live := map[uint32]int64{}
	for ok := it.First(); ok; ok = it.Next() {
		p, err := decodePlace(it.Value())
		if err != nil {
			return nil, err
		}
		live[p.segment] += int64(p.length)
	}
	for n, seg := range s.files {
		if float64(live[n]) < float64(seg.end)*(1-mostGarbage) {
			sparse = append(sparse, seg)
		}
	}
	return sparse, it.Error()
}

// move appends what the index still names in a segment.
func (s *segments) move(seg *segment) error {
	r, err := car.NewBlockReader(bufio.NewReaderSize(io.NewSectionReader(seg.file, 0, seg.end), 1<<20), car.WithTrustedCAR(true))
	if err != nil {
		return err
	}
	var batch []blocks.Block
	size := 0
	at := int64(len(carHeader))
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			return s.append(batch)
		}
		if err != nil {
			return err
		}
		section := len(b.Cid().Bytes()) + len(b.RawData())
		at += int64(varint.UvarintSize(uint64(section)) + section)
		p, err := s.find(b.Cid().Hash())
		if errors.Is(err, errNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if p.segment != seg.number || int64(p.offset+p.length) != at {
			continue // it was deleted and put again
		}
		batch, size = append(batch, b), size+section
		if size >= batchBytes {
			if err := s.append(batch); err != nil {
				return err
			}
			batch, size = batch[:0], 0
		}
	}
}

// drop forgets segments that nothing points into, and then removes them.
func (s *segments) drop(gone []*segment) error {
	batch := s.index.NewBatch()
	defer batch.Close()
	for _, seg := range gone {
		if err := batch.Delete(segmentKey(seg.number), nil); err != nil {
			return err
		}
	}
	if err := batch.Commit(pebble.Sync); err != nil {
		return err
	}
	for _, seg := range gone {
		delete(s.files, seg.number)
		if err := errors.Join(seg.file.Close(), os.Remove(s.path(seg.number))); err != nil {
			return err
		}
	}
	return errors.Join(syncPath(s.dir), s.index.Compact(nowhere, []byte{0}, []byte{0xff}, false))
}
