package blockstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/go-cid"
)

// listsOf is the digests of what the owner told about root, and whether it keeps it at all.
func listsOf(r pebble.Reader, owner string, root cid.Cid) (told []list, had bool, err error) {
	v, closer, err := r.Get(ownerKey(owner, root))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, indexError(err)
	}
	defer closer.Close()
	told, err = decodeLists(v)
	return told, true, err
}

func encodeLists(told []list) (v []byte) {
	for _, l := range told {
		v = append(v, l[:]...)
	}
	return v
}

func decodeLists(v []byte) (told []list, err error) {
	if len(v)%len(list{}) != 0 {
		return nil, fmt.Errorf("%w: the index has a list of lists of %d bytes", ErrCorrupt, len(v))
	}
	for l := range slices.Chunk(v, len(list{})) {
		told = append(told, list(l))
	}
	return told, nil
}

// listsOfOthers is the lists under root that other owners told, and one of these owners.
func (d *disk) listsOfOthers(owner string, root cid.Cid) (other string, lists map[list]bool, err error) {
	holders, lists, err := holders(d.db, root, owner)
	if len(holders) > 0 {
		other = holders[0]
	}
	return other, lists, err
}

// holders is who keeps root, and the lists that they told.
func holders(r pebble.Reader, root cid.Cid, but ...string) (owners []string, lists map[list]bool, err error) {
	lists = map[list]bool{}
	err = scan(r, rootPrefix(root), func(rest, _ []byte) error {
		owner := string(rest)
		if slices.Contains(but, owner) {
			return nil
		}
		owners = append(owners, owner)
		told, _, err := listsOf(r, owner, root)
		for _, l := range told {
			lists[l] = true
		}
		return err
	})
	return owners, lists, err
}

// readAll is the entries of lists under root.
func (d *disk) readAll(ctx context.Context, root cid.Cid, lists []list) (all [][]kept, err error) {
	for _, l := range lists {
		entries, err := collectList(ctx, readManifest(d.db, root, l))
		if err != nil {
			return nil, err
		}
		all = append(all, entries)
	}
	return all, nil
}

func collectList(ctx context.Context, entries iter.Seq2[kept, error]) (all []kept, err error) {
	for k, err := range entries {
		if err != nil {
			return nil, err
		}
		if len(all)%page == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		all = append(all, k)
	}
	return all, nil
}
