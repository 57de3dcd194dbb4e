package merkle

import (
	"context"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// Resolve walks a slash path from root through folders, sharded ones too, and
// returns what it leads to. Empty parts are skipped, names are taken byte for
// byte, symbolic links are not followed. A *PathError says at which part of
// the path it failed: of kind ErrNoPath where the name is missing, else the
// Getter's, ErrMalformed or ErrUnsupported.
func Resolve(ctx context.Context, g blockstore.Getter, root cid.Cid, path string) (cid.Cid, error) {
	at, walked := root, ""
	for name := range strings.SplitSeq(path, "/") {
		if name == "" {
			continue
		}
		n, err := getNode(ctx, g, at)
		if err != nil {
			return cid.Undef, &PathError{Path: walked, CID: at, Err: err}
		}
		walked = join(walked, name)
		e, err := n.lookup(ctx, nodesOf(g), name)
		if err != nil {
			return cid.Undef, &PathError{Path: walked, CID: at, Err: err}
		}
		at = e.cid
	}
	return at, nil
}
