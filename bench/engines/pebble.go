//go:build unix

package engines

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	blocks "github.com/ipfs/go-block-format"
	mh "github.com/multiformats/go-multihash"
)

const (
	tableSize    = 8 << 20
	maxFlushing  = 3       // tables that may wait to be written
	commitSize   = 1 << 20 // bytes; pebble keeps a batch of half a table or more as a table of its own
	separateFrom = 1 << 10 // bytes; larger values lie in files of their own
)

// tables is a pebble database without a log: the barrier flushes. Nothing is
// lost by that, since whoever puts a block can put it again until the barrier.
type tables struct {
	dir      string
	db       *pebble.DB
	gathered int // bytes that were applied since the last rotation
	flushing []<-chan struct{}
}

func openPebble(dir string) (Engine, error) { return openTables(dir) }

func openTables(dir string) (*tables, error) {
	o := baseOptions()
	o.DisableWAL = true
	o.MemTableSize = tableSize
	o.MemTableStopWritesThreshold = 1 << 20 // apply has a bound of its own
	o.L0StopWritesThreshold = 1 << 20
	o.Experimental.ValueSeparationPolicy = func() pebble.ValueSeparationPolicy {
		// Compactions never rewrite values: blocks are read in the order of no key.
		return pebble.ValueSeparationPolicy{
			Enabled: true, MinimumSize: separateFrom, MaxBlobReferenceDepth: 1 << 20, TargetGarbageRatio: 1,
		}
	}
	db, err := pebble.Open(dir, o)
	return &tables{dir: dir, db: db}, err
}

// baseOptions are what all databases here have in common.
func baseOptions() *pebble.Options {
	o := &pebble.Options{
		FormatMajorVersion:    pebble.FormatValueSeparation,
		Logger:                quiet{},
		CacheSize:             16 << 20,
		MaxOpenFiles:          500,
		L0CompactionThreshold: 4,
	}
	for i := range o.Levels {
		o.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return o
}

// quiet is a logger that says nothing until it has to end the process.
type quiet struct{}

func (quiet) Infof(string, ...any)              {}
func (quiet) Errorf(string, ...any)             {}
func (quiet) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func (t *tables) Put(blks []blocks.Block) error {
	return t.change(func(it *pebble.Iterator, batch *pebble.Batch) error {
		for _, b := range blks {
			if it.SeekPrefixGE(b.Cid().Hash()) {
				continue
			}
			if err := errors.Join(it.Error(), batch.Set(b.Cid().Hash(), b.RawData(), nil)); err != nil {
				return err
			}
			if batch.Len() >= commitSize {
				if err := t.apply(batch); err != nil {
					return err
				}
				batch.Reset()
			}
		}
		return nil
	})
}

// change applies what fill puts into a batch. The iterator finds what was there before.
func (t *tables) change(fill func(*pebble.Iterator, *pebble.Batch) error) error {
	it, err := t.db.NewIter(&pebble.IterOptions{UseL6Filters: true})
	if err != nil {
		return err
	}
	defer it.Close()
	batch := t.db.NewBatch()
	defer batch.Close()
	if err := fill(it, batch); err != nil {
		return err
	}
	return t.apply(batch)
}

func (t *tables) apply(b *pebble.Batch) error {
	for len(t.flushing) >= maxFlushing {
		<-t.flushing[0]
		t.flushing = t.flushing[1:]
	}
	if b.Empty() {
		return nil
	}
	t.gathered += b.Len()
	if err := t.db.Apply(b, pebble.NoSync); err != nil || t.gathered < tableSize*7/8 {
		return err
	}
	flushed, err := t.db.AsyncFlush()
	t.flushing, t.gathered = append(t.flushing, flushed), 0
	return err
}

func (t *tables) Sync() error {
	t.flushing, t.gathered = nil, 0
	return t.db.Flush() // returns when the tables before it are on disk, too
}

func (t *tables) Get(h mh.Multihash) ([]byte, error) {
	v, closer, err := t.db.Get(h)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	return append([]byte(nil), v...), closer.Close()
}

func (t *tables) Delete(hs []mh.Multihash) error {
	return t.change(func(it *pebble.Iterator, batch *pebble.Batch) error {
		for _, h := range hs {
			if !it.SeekPrefixGE(h) {
				if err := it.Error(); err != nil {
					return err
				}
				continue
			}
			v := it.LazyValue()
			if err := batch.DeleteSized(h, uint32(v.Len()), nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// Reclaim moves what is left in files that are mostly garbage to new ones, and
// has the engine drop what was deleted or moved.
func (t *tables) Reclaim() error {
	if err := t.Sync(); err != nil {
		return err
	}
	moving, err := t.moving()
	if err != nil {
		return err
	}
	batch := t.db.NewBatch()
	defer batch.Close()
	for i, h := range moving {
		v, err := t.Get(h)
		if err == nil {
			err = batch.Set(h, v, nil)
		}
		if err == nil && (batch.Len() >= commitSize || i == len(moving)-1) {
			err = t.apply(batch)
			batch.Reset()
		}
		if err != nil {
			return err
		}
	}
	if err := t.Sync(); err != nil {
		return err
	}
	return t.db.Compact(nowhere, []byte{0}, []byte{0xff}, false)
}

// moving is the blocks that lie in files which are worth rewriting.
func (t *tables) moving() (moving []mh.Multihash, err error) {
	it, err := t.db.NewIter(nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	live := map[uint64]int64{}
	in := map[uint64][]mh.Multihash{}
	for ok := it.First(); ok; ok = it.Next() {
		v := it.LazyValue()
		if v.Fetcher == nil {
			continue // it lies in the index
		}
		file := uint64(v.Fetcher.BlobFileID)
		live[file] += int64(v.Len())
		in[file] = append(in[file], append(mh.Multihash(nil), it.Key()...))
	}
	for file, hs := range in {
		info, err := os.Stat(filepath.Join(t.dir, fmt.Sprintf("%06d.blob", file)))
		if err != nil {
			return nil, err
		}
		if float64(live[file]) < float64(info.Size())*(1-mostGarbage) {
			moving = append(moving, hs...)
		}
	}
	return moving, it.Error()
}

func (t *tables) Close() error { return errors.Join(t.Sync(), t.db.Close()) }
