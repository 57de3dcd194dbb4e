package merkle

import (
	"context"

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
	n, err := getNode(ctx, g, c)
	if err != nil {
		return nil, err
	}
	entries, err := n.entries(ctx, g)
	if err != nil {
		return nil, err
	}
	out := make([]Entry, len(entries))
	for i, e := range entries {
		out[i] = Entry{Name: e.name, CID: e.cid, Size: int64(min(e.size, 1<<63-1))}
	}
	return out, nil
}
