package blockstore

import (
	"context"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
)

// Values that lie in files of their own are given back a file at a time, when
// nothing in it is needed. So what is left in a file that is mostly garbage
// moves to a new one first; likewise what is in very many very small files, which
// frequent syncs leave behind.
//
// Pebble could do this in the background, but would end the process where it
// met a damaged value (see value). Here every block that moves is checked, and
// what is damaged stays where it is.
const (
	mostGarbage  = 0.25 // of a file, above which it is rewritten
	smallFile    = 1 << 20
	tooManySmall = 64
)

// reclaim moves what is worth moving, given the bytes in use in each file.
func (d *disk) reclaim(ctx context.Context, live map[uint64]int64) (moved int64, err error) {
	sparse, err := d.sparse(live)
	if err != nil || len(sparse) == 0 {
		return 0, err
	}
	var last []byte
	for {
		if err := ctx.Err(); err != nil {
			return moved, err
		}
		entries, err := d.enumeratePage(ctx, last)
		if err != nil || len(entries) == 0 {
			return moved, err
		}
		last = entries[len(entries)-1].CID.Hash()
		var batch []Block
		bytes := 0
		for i, e := range entries {
			if sparse[e.file] {
				b, err := d.Get(ctx, e.CID)
				if ctx.Err() != nil {
					return moved, ctx.Err()
				}
				if err != nil {
					d.log.Warn("blockstore: a damaged block stays where it is", "error", err)
				} else {
					batch = append(batch, b)
					bytes += b.Size()
				}
			}
			if bytes >= batchBytes || i == len(entries)-1 {
				if err := d.rewrite(ctx, batch); err != nil {
					return moved, err
				}
				moved += int64(len(batch))
				batch, bytes = nil, 0
			}
		}
	}
}

// rewrite writes blocks that are there once more. Only Collect deletes
// blocks, and it is what runs.
func (d *disk) rewrite(ctx context.Context, blks []Block) error {
	return d.commit(ctx, func(b *pebble.Batch) error {
		var key []byte
		for _, blk := range blks {
			key = blockKey(key, blk.cid.Hash())
			if err := b.Set(key, blk.data, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// sparse is the files worth rewriting. Values that are not in a file of their
// own count for file 0, which is none.
func (d *disk) sparse(live map[uint64]int64) (map[uint64]bool, error) {
	names, err := d.fs.List(d.dbDir())
	if err != nil {
		return nil, err
	}
	sparse := map[uint64]bool{}
	var small []uint64
	for _, name := range names {
		number, isBlob := strings.CutSuffix(name, ".blob")
		file, err := strconv.ParseUint(number, 10, 64)
		if !isBlob || err != nil || live[file] == 0 {
			continue // not a file of values, or all of it goes by itself
		}
		info, err := d.fs.Stat(d.fs.PathJoin(d.dbDir(), name))
		if err != nil {
			continue // gone meanwhile
		}
		if info.Size() < smallFile {
			small = append(small, file)
		}
		if float64(live[file]) < float64(info.Size())*(1-mostGarbage) {
			sparse[file] = true
		}
	}
	if len(small) >= tooManySmall {
		for _, file := range small {
			sparse[file] = true
		}
	}
	return sparse, nil
}
