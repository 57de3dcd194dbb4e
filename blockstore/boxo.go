package blockstore

import (
	"context"
	"errors"
	"fmt"

	boxo "github.com/ipfs/boxo/blockstore"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
)

// ForBoxo makes a store usable where boxo wants its own Blockstore. Absence is
// told as boxo does, by ipld.ErrNotFound; other errors are ours.
//
// What is put is hashed, since boxo hands on blocks from anywhere, and goes
// into sess, which the caller syncs, uses to keep what it wants kept, and closes. With a nil sess
// the store can't be written through it: ErrReadOnly. Nothing is ever deleted.
func ForBoxo(s Store, sess Session) boxo.Blockstore { return &forBoxo{s, sess} }

type forBoxo struct {
	store Store
	sess  Session
}

var (
	_ boxo.Blockstore           = &forBoxo{}
	_ boxo.AllKeysChanWithErrer = &forBoxo{}
)

// boxoError adds boxo's kind of not found to ours.
func boxoError(c cid.Cid, err error) error {
	if errors.Is(err, ErrNotFound) {
		return ipld.ErrNotFound{Cid: c}
	}
	return err
}

// Get implements boxo's Blockstore.
func (f *forBoxo) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	b, err := f.store.Get(ctx, c)
	if err != nil {
		return nil, boxoError(c, err)
	}
	return b, nil
}

func (f *forBoxo) stat(ctx context.Context, c cid.Cid) (Info, error) {
	infos, err := f.store.Stat(ctx, []cid.Cid{c})
	if err != nil {
		return Info{}, boxoError(c, err)
	}
	return infos[0], nil
}

// Has implements boxo's Blockstore.
func (f *forBoxo) Has(ctx context.Context, c cid.Cid) (bool, error) {
	i, err := f.stat(ctx, c)
	return i.Present, err
}

// GetSize implements boxo's Blockstore.
func (f *forBoxo) GetSize(ctx context.Context, c cid.Cid) (int, error) {
	i, err := f.stat(ctx, c)
	if err == nil && !i.Present {
		err = ipld.ErrNotFound{Cid: c}
	}
	if err != nil {
		return -1, err
	}
	return int(i.Size), nil
}

// Put implements boxo's Blockstore.
func (f *forBoxo) Put(ctx context.Context, b blocks.Block) error {
	return f.PutMany(ctx, []blocks.Block{b})
}

// PutMany implements boxo's Blockstore.
func (f *forBoxo) PutMany(ctx context.Context, blks []blocks.Block) error {
	if f.sess == nil {
		return ErrReadOnly
	}
	checked := make([]Block, 0, len(blks))
	for _, b := range blks {
		// A Block can only be one that was hashed already.
		own, ok := b.(Block)
		if !ok {
			var err error
			if own, err = CheckBlock(b.Cid(), b.RawData()); err != nil {
				return err
			}
		}
		checked = append(checked, own)
	}
	_, err := f.sess.Put(ctx, checked...)
	return err
}

// DeleteBlock implements boxo's Blockstore by refusing.
func (f *forBoxo) DeleteBlock(_ context.Context, c cid.Cid) error {
	return fmt.Errorf("%w: nobody deletes a block; its owners release their roots", &BlockError{CID: c, Kind: ErrRefused})
}

// AllKeysChan implements boxo's Blockstore. A channel that closes early doesn't say so: prefer AllKeysChanWithErr.
func (f *forBoxo) AllKeysChan(ctx context.Context) (<-chan cid.Cid, error) {
	c, _, err := f.AllKeysChanWithErr(ctx)
	return c, err
}

// AllKeysChanWithErr implements boxo's AllKeysChanWithErrer. The goroutine
// that it starts ends with the enumeration or with ctx.
func (f *forBoxo) AllKeysChanWithErr(ctx context.Context) (<-chan cid.Cid, func() error, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	var (
		keys  = make(chan cid.Cid)
		ended = make(chan struct{})
		fault error
	)
	go func() {
		defer close(ended)
		defer close(keys)
		for e, err := range f.store.Enumerate(ctx, "") {
			if err != nil {
				fault = err
				return
			}
			select {
			case keys <- e.CID:
			case <-ctx.Done():
				fault = ctx.Err()
				return
			}
		}
	}()
	return keys, func() error { <-ended; return fault }, nil
}
