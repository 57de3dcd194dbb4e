package blockstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/go-cid"
)

// Usage implements [Store].
func (d *disk) Usage(ctx context.Context, owner string) (Usage, error) {
	if err := d.enter(ctx); err != nil {
		return Usage{}, err
	}
	defer d.running.leave()
	view := d.db.NewSnapshot()
	defer view.Close()
	number := uint64(everybody)
	if owner != "" {
		if err := readNumbers(view, numberKey(owner), &number); err != nil || number == everybody {
			return Usage{}, err
		}
	}
	t, err := readTally(view, uint32(number))
	u := Usage{Roots: int(t.roots), Blocks: int64(t.blocks), Bytes: int64(t.bytes), UniqueBytes: int64(t.uniqueBytes)}
	if err == nil && owner == "" {
		var roots []cid.Cid
		roots, err = keptBy(view, "")
		u.Roots = len(roots)
	}
	return u, err
}

// GroupUsage implements [Store].
func (d *disk) GroupUsage(ctx context.Context, groups map[string][]string) (map[string]Usage, error) {
	if err := d.enter(ctx); err != nil {
		return nil, err
	}
	defer d.running.leave()
	view := d.db.NewSnapshot()
	defer view.Close()
	g := grouping{of: map[uint32][]*Usage{}}
	out := map[string]*Usage{}
	for name, owners := range groups {
		u := &Usage{}
		out[name] = u
		roots := map[cid.Cid]struct{}{}
		for _, owner := range owners {
			var number uint64
			if err := readNumbers(view, numberKey(owner), &number); err != nil {
				return nil, err
			}
			if number != everybody {
				g.of[uint32(number)] = append(g.of[uint32(number)], u)
			}
			kept, err := keptBy(view, owner)
			if err != nil {
				return nil, err
			}
			for _, root := range kept {
				roots[root] = struct{}{}
			}
		}
		u.Roots = len(roots)
	}
	if err := g.count(ctx, view); err != nil {
		return nil, err
	}
	all := make(map[string]Usage, len(out))
	for name, u := range out {
		all[name] = *u
	}
	return all, nil
}

// grouping goes over all counts once. They are in the order of the blocks, as is
// the index of where these are, which knows their sizes.
type grouping struct {
	of   map[uint32][]*Usage // the groups that an owner is in
	here map[*Usage]int      // groups of the block at hand, and how many of its owners are in each
	all  int                 // owners of the block at hand
}

func (g *grouping) count(ctx context.Context, view pebble.Reader) (err error) {
	blocks, err := newClimber(view, kindBlock)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, blocks.close()) }()
	g.here = map[*Usage]int{}
	var hash []byte
	n := 0
	err = scan(view, []byte{kindCount}, func(rest, _ []byte) error {
		if len(rest) < 4 {
			return fmt.Errorf("%w: the index has a count under %x", ErrCorrupt, rest)
		}
		if n++; n%page == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		h, owner := rest[:len(rest)-4], binary.BigEndian.Uint32(rest[len(rest)-4:])
		if !bytes.Equal(h, hash) {
			if err := g.finish(blocks, hash); err != nil {
				return err
			}
			hash = append(hash[:0], h...)
		}
		g.all++
		for _, u := range g.of[owner] {
			g.here[u]++
		}
		return nil
	})
	if err != nil {
		return err
	}
	return g.finish(blocks, hash)
}

// finish books one block with its groups.
func (g *grouping) finish(blocks *climber, hash []byte) error {
	defer func() { clear(g.here); g.all = 0 }()
	if len(g.here) == 0 {
		return nil
	}
	key := blockKey(nil, string(hash))
	if !blocks.to(key) || !bytes.Equal(blocks.it.Key(), key) {
		return errors.Join(blocks.it.Error(), fmt.Errorf("%w: a kept block %x is not in the index", ErrCorrupt, hash))
	}
	v, err := blocks.it.ValueAndErr()
	if err != nil {
		return indexError(err)
	}
	p, err := parsePlace(v)
	if err != nil {
		return err
	}
	for u, owners := range g.here {
		u.Blocks++
		u.Bytes += p.size
		if owners == g.all {
			u.UniqueBytes += p.size
		}
	}
	return nil
}

// RootUsage implements [Store].
func (d *disk) RootUsage(ctx context.Context, root cid.Cid) (Usage, error) {
	if err := d.enter(ctx); err != nil {
		return Usage{}, err
	}
	defer d.running.leave()
	view := d.db.NewSnapshot()
	defer view.Close()
	owners, _, err := holders(view, root)
	if err != nil {
		return Usage{}, err
	}
	if len(owners) == 0 {
		return Usage{}, notFound(root)
	}
	all, err := collectList(ctx, readManifests(view, root))
	if err != nil {
		return Usage{}, err
	}
	holders := uint64(0) // lists of this root, each once for each owner who told it
	for _, owner := range owners {
		told, _, err := listsOf(view, owner, root)
		if err != nil {
			return Usage{}, err
		}
		holders += uint64(len(told))
	}
	it, err := newClimber(view, kindCount)
	if err != nil {
		return Usage{}, err
	}
	defer it.close()
	u := Usage{Roots: 1}
	var found []count
	var key []byte
	for _, k := range distinct(all) {
		if found, key, err = countsOf(it, hashString(k.cid), found[:0], key); err != nil {
			return Usage{}, err
		}
		n := uint64(0)
		for _, c := range found {
			n += c.n
		}
		u.Blocks++
		u.Bytes += k.size
		if n <= holders {
			u.UniqueBytes += k.size
		}
	}
	return u, nil
}
