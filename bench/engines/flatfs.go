//go:build unix

package engines

import (
	"context"
	"errors"

	"github.com/ipfs/boxo/datastore/dshelp"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-datastore"
	flatfs "github.com/ipfs/go-ds-flatfs"
	mh "github.com/multiformats/go-multihash"
)

// nowhere is the context of libraries that ask for one.
var nowhere = context.Background()

// flat is go-ds-flatfs. A batch is committed at the barrier only: each commit
// syncs all of the folders that it touched, and nearly every block has one of its own.
type flat struct {
	ds    *flatfs.Datastore
	batch reader
}

// reader is a flatfs batch, from which can be read what it has gathered.
type reader interface {
	datastore.Batch
	datastore.Read
}

func openFlatfs(dir string) (Engine, error) {
	ds, err := flatfs.CreateOrOpen(dir, flatfs.NextToLast(2), true)
	return &flat{ds: ds}, err
}

func (f *flat) Put(blks []blocks.Block) error {
	if f.batch == nil {
		b, err := f.ds.Batch(nowhere)
		if err != nil {
			return err
		}
		f.batch = b.(reader)
	}
	for _, b := range blks {
		key := dshelp.MultihashToDsKey(b.Cid().Hash())
		// The batch knows its own; asked itself, it would wait for all its writes.
		switch there, err := f.ds.Has(nowhere, key); {
		case err != nil:
			return err
		case there:
			continue
		}
		if err := f.batch.Put(nowhere, key, b.RawData()); err != nil {
			return err
		}
	}
	return nil
}

func (f *flat) Sync() error {
	if f.batch == nil {
		return nil
	}
	err := f.batch.Commit(nowhere)
	f.batch = nil
	return err
}

func (f *flat) Get(h mh.Multihash) ([]byte, error) {
	var from datastore.Read = f.ds
	if f.batch != nil {
		from = f.batch
	}
	data, err := from.Get(nowhere, dshelp.MultihashToDsKey(h))
	if errors.Is(err, datastore.ErrNotFound) {
		err = errNotFound
	}
	return data, err
}

func (f *flat) Delete(hs []mh.Multihash) error {
	if err := f.Sync(); err != nil {
		return err
	}
	for _, h := range hs {
		if err := f.ds.Delete(nowhere, dshelp.MultihashToDsKey(h)); err != nil {
			return err
		}
	}
	return nil
}

// Reclaim has nothing to do: a file that was removed is gone.
func (f *flat) Reclaim() error { return f.Sync() }

func (f *flat) Close() error { return errors.Join(f.Sync(), f.ds.Close()) }
