//go:build unix

package engines

import (
	"bufio"
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"sync"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/ipld/go-car/v2"
	"github.com/multiformats/go-varint"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
)

// A Put of the work takes as much as one of a build.
const (
	batchBytes  = 4 << 20
	batchBlocks = 1024
)

// Record builds a folder and writes its blocks to a CAR file, each once and in
// the order in which the build put them, so that all engines get the same ones
// and none pays for reading and hashing the folder.
func Record(ctx context.Context, dir, file string) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r := &recorder{w: bufio.NewWriterSize(f, 1<<20), seen: map[string]bool{}}
	if _, err := r.w.Write(carHeader); err != nil {
		return err
	}
	// One worker: the order is that of the folder, and so the same each time.
	if _, err := merkle.Build(ctx, r, dir, merkle.BuildOptions{Workers: 1}); err != nil {
		return err
	}
	return r.w.Flush()
}

// recorder is a session that writes down what is put.
type recorder struct {
	blockstore.Session // nil: a build needs no more than what is below
	mu                 sync.Mutex
	w                  *bufio.Writer
	seen               map[string]bool // multihashes
}

func (r *recorder) Put(_ context.Context, blks ...blockstore.Block) (added blockstore.Added, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range blks {
		if r.seen[string(b.Cid().Hash())] {
			continue
		}
		r.seen[string(b.Cid().Hash())] = true
		id := b.Cid().Bytes()
		for _, p := range [][]byte{varint.ToUvarint(uint64(len(id) + b.Size())), id, b.RawData()} {
			if _, err := r.w.Write(p); err != nil {
				return added, err
			}
		}
		added.Blocks++
		added.Bytes += int64(b.Size())
	}
	return added, nil
}

func (r *recorder) Shield(_ context.Context, cids []cid.Cid) ([]blockstore.Info, error) {
	infos := make([]blockstore.Info, len(cids))
	for i, c := range cids {
		infos[i].CID = c
	}
	return infos, nil
}

// batches reads a recorded stream.
func batches(file string) iter.Seq2[[]blocks.Block, error] {
	return func(yield func([]blocks.Block, error) bool) {
		err := reading(file, func(r *car.BlockReader) error {
			for {
				batch, err := nextBatch(r)
				if len(batch) > 0 && !yield(batch, nil) {
					return io.EOF
				}
				if err != nil {
					return err
				}
			}
		})
		if err != nil {
			yield(nil, err)
		}
	}
}

func nextBatch(r *car.BlockReader) (batch []blocks.Block, err error) {
	for size := 0; size < batchBytes && len(batch) < batchBlocks; {
		b, err := r.Next()
		if err != nil {
			return batch, err
		}
		batch, size = append(batch, b), size+len(b.RawData())
	}
	return batch, nil
}

// list is the CIDs of a stream and the bytes of its blocks.
func list(file string) (cids []cid.Cid, bytes int64, err error) {
	err = reading(file, func(r *car.BlockReader) error {
		for {
			b, err := r.SkipNext()
			if err != nil {
				return err
			}
			cids, bytes = append(cids, b.Cid), bytes+int64(b.Size)
		}
	})
	return cids, bytes, err
}

// reading lets do read the CAR file until it returns io.EOF.
func reading(file string, do func(*car.BlockReader) error) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := car.NewBlockReader(bufio.NewReaderSize(f, 1<<20), car.WithTrustedCAR(true))
	if err == nil {
		err = do(r)
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
