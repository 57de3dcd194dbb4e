package merkle

import (
	"context"
	"math"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// Entry is one name in a folder.
type Entry struct {
	Name string
	CID  cid.Cid
	// Size is that of the DAG under CID in bytes, as the link declares it: for a
	// file of one raw block the file's, else a little more than what is in it.
	Size int64
}

// ReadFolder lists the folder c, sorted by name, every name once; it reads the
// folder's own blocks only. ErrNoPath where c is a file or symlink; else the
// Getter's errors, ErrMalformed or ErrUnsupported.
func ReadFolder(ctx context.Context, g blockstore.Getter, c cid.Cid) ([]Entry, error) {
	entries, _, err := ReadSomeOfFolder(ctx, g, c, math.MaxInt)
	return entries, err
}

// ReadSomeOfFolder is ReadFolder for whoever shows names to people: where the
// folder is sharded and has more than most, it reads no further and tells so. Then
// the entries are any most of them.
func ReadSomeOfFolder(ctx context.Context, g blockstore.Getter, c cid.Cid, most int) (entries []Entry, more bool, err error) {
	n, err := getNode(ctx, g, c)
	if err != nil {
		return nil, false, err
	}
	found, more, err := n.someEntries(ctx, g, most)
	if err != nil {
		return nil, false, err
	}
	entries = make([]Entry, len(found))
	for i, e := range found {
		entries[i] = Entry{Name: e.name, CID: e.cid, Size: int64(min(e.size, 1<<63-1))}
	}
	return entries, more, nil
}
