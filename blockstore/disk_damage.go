package blockstore

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
)

// Damage is a block that was found to be other than its CID says, and of which
// no good copy has been put since. It is in quarantine: Get answers ErrCorrupt without reading it, Stat says that it
// is not present, so that whoever replicates brings a good copy, and Put takes that.
// A block that was left in a file that has changed since (see [Referrer]) is there, too; for
// it Get answers ErrNotFound.
type Damage struct {
	CID    cid.Cid // codec raw
	Since  time.Time
	Path   string // of the file that has changed; empty where the store itself is damaged
	Reason string
}

// kind is what Get says of the block.
func (b Damage) kind() error {
	if b.Path != "" {
		return ErrNotFound
	}
	return ErrCorrupt
}

// damage tells whether a block is in quarantine.
func (d *disk) damage(h string) (bad Damage, damaged bool) {
	v, ok := d.damaged.Load(h)
	if !ok {
		return Damage{}, false
	}
	return v.(Damage), true
}

// maxReason bounds what is kept of an error's text, in bytes.
const maxReason = 512

// quarantine remembers, beyond this process, that the bytes at p are not the block's. Where
// that can't be written down it is at least remembered in memory.
func (d *disk) quarantine(ctx context.Context, c cid.Cid, p place, reason error) {
	text := reason.Error()
	bad := Damage{CID: cid.NewCidV1(cid.Raw, c.Hash()), Since: time.Now().UTC().Truncate(time.Second), Reason: text[:min(len(text), maxReason)]}
	if o, ok := d.originOf(p.file); ok && p.segment == 0 {
		bad.Path = o.Path
	}
	if d.readOnly || p == (place{}) {
		d.damaged.Store(hashString(c), bad)
		return
	}
	err := d.commit(context.WithoutCancel(ctx), func(b *pebble.Batch) error {
		// A good copy may have come meanwhile, or a collection gone by.
		if now, err := d.place(hashString(c)); err != nil || now != p {
			return nil
		}
		d.damaged.Store(hashString(c), bad)
		return b.Set(damageKey(hashString(c)), bad.encode(), nil)
	})
	d.log.Error("blockstore: damaged block", "cid", c.String(), "place", p.String(), "error", text)
	if err != nil {
		d.damaged.Store(hashString(c), bad)
	}
}

func (b Damage) encode() []byte {
	return append(appendSized(binary.AppendUvarint(nil, uint64(b.Since.Unix())), b.Path), b.Reason...)
}

// loadDamage fills the quarantine when the store is opened.
func (d *disk) loadDamage() error {
	return scan(d.db, []byte{kindDamage}, func(rest, v []byte) error {
		since, w := binary.Uvarint(v)
		path, reason, ok := cutSized(v[max(0, w):])
		h := mh.Multihash(string(rest))
		if _, err := mh.Decode(h); err != nil || w <= 0 || !ok {
			return fmt.Errorf("%w: the index has a damaged block under %x", ErrCorrupt, rest)
		}
		d.damaged.Store(string(h), Damage{CID: cid.NewCidV1(cid.Raw, h), Since: time.Unix(int64(since), 0).UTC(), Path: path, Reason: string(reason)})
		return nil
	})
}

// Damaged implements [Verifier].
func (d *disk) Damaged(ctx context.Context) ([]Damage, error) {
	if err := d.enter(ctx); err != nil {
		return nil, err
	}
	defer d.running.leave()
	var all []Damage
	d.damaged.Range(func(_, v any) bool {
		all = append(all, v.(Damage))
		return true
	})
	return all, nil
}
