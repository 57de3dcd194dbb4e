package merkle

import (
	"context"
	"iter"
	"maps"
	"slices"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// ChangeKind says how a path differs.
type ChangeKind string

// The kinds of change.
const (
	Added    ChangeKind = "added"
	Removed  ChangeKind = "removed"
	Modified ChangeKind = "modified"
)

// Change is one file (or symlink) that differs. A folder without entries counts
// as a file whose path ends in "/". Where the roots are files themselves, the
// path is empty.
type Change struct {
	Path          string // slash path from the root
	Kind          ChangeKind
	Before, After cid.Cid // undefined where added, removed
}

// Diff yields the files that differ between the trees under a and b, sorted by
// name within each folder. Parts whose CIDs are equal are not read, shards of
// large folders included. A file that became a folder is one removed file and
// what was added under it. The first error ends it; a *PathError names the path.
func Diff(ctx context.Context, g blockstore.Getter, a, b cid.Cid) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		d := differ{get: g, yield: func(c Change) error {
			if !yield(c, nil) {
				return errStop
			}
			return nil
		}}
		if err := d.compare(ctx, "", a, b, 0); err != nil && err != errStop {
			yield(Change{}, err)
		}
	}
}

type differ struct {
	get   blockstore.Getter
	yield func(Change) error
}

func (d *differ) node(ctx context.Context, at string, c cid.Cid, depth int) (*fsNode, error) {
	if depth > DefaultMaxDepth {
		return nil, &PathError{Path: at, CID: c, Err: ErrLimit}
	}
	n, err := getNode(ctx, d.get, c)
	if err != nil {
		return nil, &PathError{Path: at, CID: c, Err: err}
	}
	return n, nil
}

// compare reports what differs at one path; either side may be undefined.
func (d *differ) compare(ctx context.Context, at string, a, b cid.Cid, depth int) error {
	switch {
	case a.Equals(b):
		return nil
	case !b.Defined():
		return d.whole(ctx, at, a, depth, Removed)
	case !a.Defined():
		return d.whole(ctx, at, b, depth, Added)
	}
	before, err := d.node(ctx, at, a, depth)
	if err != nil {
		return err
	}
	after, err := d.node(ctx, at, b, depth)
	if err != nil {
		return err
	}
	if !before.isFolder() && !after.isFolder() {
		return d.yield(Change{Path: at, Kind: Modified, Before: a, After: b})
	}
	if !before.isFolder() || !after.isFolder() {
		if err := d.whole(ctx, at, a, depth, Removed); err != nil {
			return err
		}
		return d.whole(ctx, at, b, depth, Added)
	}
	changed := make(map[string][2]cid.Cid)
	if err := d.entries(ctx, before, after, 0, changed); err != nil {
		return &PathError{Path: at, Err: err}
	}
	for _, name := range slices.Sorted(maps.Keys(changed)) {
		pair := changed[name]
		if err := d.compare(ctx, join(at, name), pair[0], pair[1], depth+1); err != nil {
			return err
		}
	}
	return d.emptied(at, before, after)
}

// emptied reports a folder that lost its last entry, or got its first: the empty
// folder itself has come or gone.
func (d *differ) emptied(at string, before, after *fsNode) error {
	if len(before.links) == 0 && len(after.links) > 0 {
		return d.yield(Change{Path: at + "/", Kind: Removed, Before: before.cid})
	}
	if len(before.links) > 0 && len(after.links) == 0 {
		return d.yield(Change{Path: at + "/", Kind: Added, After: after.cid})
	}
	return nil
}

// whole reports every file under c as added or removed.
func (d *differ) whole(ctx context.Context, at string, c cid.Cid, depth int, kind ChangeKind) error {
	n, err := d.node(ctx, at, c, depth)
	if err != nil {
		return err
	}
	if n.isFolder() && len(n.links) > 0 {
		entries, err := n.entries(ctx, d.get)
		if err != nil {
			return &PathError{Path: at, CID: c, Err: err}
		}
		for _, e := range entries {
			if err := d.whole(ctx, join(at, e.name), e.cid, depth+1, kind); err != nil {
				return err
			}
		}
		return nil
	}
	if n.isFolder() {
		at += "/"
	}
	if kind == Added {
		return d.yield(Change{Path: at, Kind: kind, After: c})
	}
	return d.yield(Change{Path: at, Kind: kind, Before: c})
}

// entries collects the names that differ between two folders, shard by shard
// where both are sharded alike, so that equal shards are not read.
func (d *differ) entries(ctx context.Context, before, after *fsNode, used int, changed map[string][2]cid.Cid) error {
	if before.kind != kindShard || after.kind != kindShard || before.fanout != after.fanout {
		return d.lists(ctx, before, after, used, changed)
	}
	for _, n := range []*fsNode{before, after} {
		if err := n.placed(used); err != nil {
			return err
		}
	}
	type slot struct{ before, after dirent }
	slots := make(map[int]slot)
	for i, s := range before.slots {
		slots[s] = slot{before: before.slotEntry(i)}
	}
	for i, s := range after.slots {
		slots[s] = slot{before: slots[s].before, after: after.slotEntry(i)}
	}
	used += before.fanout.hashBits()
	for _, s := range slots {
		if s.before.name == s.after.name && s.before.cid.Equals(s.after.cid) {
			continue
		}
		if s.before.name == "" && s.after.name == "" && s.before.cid.Defined() && s.after.cid.Defined() {
			a, err := shardBelow(ctx, nodesOf(d.get), s.before.cid, used)
			if err != nil {
				return err
			}
			b, err := shardBelow(ctx, nodesOf(d.get), s.after.cid, used)
			if err != nil {
				return err
			}
			if err := d.entries(ctx, a, b, used, changed); err != nil {
				return err
			}
			continue
		}
		if err := d.slot(ctx, s.before, used, 0, changed); err != nil {
			return err
		}
		if err := d.slot(ctx, s.after, used, 1, changed); err != nil {
			return err
		}
	}
	return nil
}

// slot notes what one side has in a slot: nothing, an entry, or a whole shard.
func (d *differ) slot(ctx context.Context, e dirent, used, side int, changed map[string][2]cid.Cid) error {
	switch {
	case !e.cid.Defined():
	case e.name != "":
		note(changed, e, side)
	default:
		n, err := shardBelow(ctx, nodesOf(d.get), e.cid, used)
		if err != nil {
			return err
		}
		return n.shardEntries(ctx, d.get, used, noting(changed, side))
	}
	return nil
}

// lists notes both folders' entries in full.
func (d *differ) lists(ctx context.Context, before, after *fsNode, used int, changed map[string][2]cid.Cid) error {
	for side, n := range []*fsNode{before, after} {
		if n.kind == kindShard {
			if err := n.shardEntries(ctx, d.get, used, noting(changed, side)); err != nil {
				return err
			}
			continue
		}
		entries, err := n.entries(ctx, d.get)
		if err != nil {
			return err
		}
		for _, e := range entries {
			note(changed, e, side)
		}
	}
	return nil
}

// note forgets an entry again when both sides turn out to have it.
func note(changed map[string][2]cid.Cid, e dirent, side int) {
	pair := changed[e.name]
	pair[side] = e.cid
	if pair[0].Equals(pair[1]) {
		delete(changed, e.name)
		return
	}
	changed[e.name] = pair
}

// noting is note for shardEntries.
func noting(changed map[string][2]cid.Cid, side int) func(dirent) error {
	return func(e dirent) error {
		note(changed, e, side)
		return nil
	}
}

// join leaves names as they are: path.Join would tidy a name like "..".
func join(at, name string) string {
	if at == "" {
		return name
	}
	return at + "/" + name
}
