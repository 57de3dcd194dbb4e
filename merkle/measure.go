package merkle

import (
	"context"
	"fmt"
	"math"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// extent is how much a part of a tree takes when it is written out.
type extent struct {
	entries int64 // files, folders and symbolic links
	files   int64 // files and symbolic links
	bytes   int64 // of file content, as declared
	height  int   // folders within each other
}

// Measure counts the files under root and their bytes as declared. It reads
// folders and the tops of files only, each once. Errors: those of Extract.
func Measure(ctx context.Context, g blockstore.Getter, root cid.Cid) (Extracted, error) {
	n, err := getNode(ctx, g, root)
	if err != nil {
		return Extracted{}, err
	}
	x := &extractor{get: g, limits: Limits{}.withDefaults()}
	e, err := x.extent(ctx, n, "", 0, make(map[cid.Cid]extent))
	return Extracted{Files: e.files, Bytes: e.bytes}, err
}

// measure refuses a tree that is over the limits. It reads each folder once,
// however often the tree repeats it, so a few blocks that stand for a billion files
// are found out at once.
func (x *extractor) measure(ctx context.Context, n *fsNode) error {
	total, err := x.extent(ctx, n, "", 0, make(map[cid.Cid]extent))
	if err != nil {
		return err
	}
	switch {
	case total.entries > x.limits.MaxBlocks:
		return fmt.Errorf("%s: %w: %d files and folders are more than %d", n.cid, ErrLimit, total.entries, x.limits.MaxBlocks)
	case total.bytes > x.limits.MaxBytes:
		return fmt.Errorf("%s: %w: %d bytes are more than the %d that there is room for", n.cid, ErrLimit, total.bytes, x.limits.MaxBytes)
	}
	return nil
}

func (x *extractor) extent(ctx context.Context, n *fsNode, at string, depth int, known map[cid.Cid]extent) (extent, error) {
	if !n.isFolder() {
		return extent{entries: 1, files: 1, bytes: n.size}, nil
	}
	if depth > x.limits.MaxDepth {
		return extent{}, &PathError{Path: at, CID: n.cid, Err: fmt.Errorf("%w: more than %d folders within each other", ErrLimit, x.limits.MaxDepth)}
	}
	if e, ok := known[n.cid]; ok && depth+e.height <= x.limits.MaxDepth {
		return e, nil
	}
	entries, err := n.entries(ctx, x.get)
	if err != nil {
		return extent{}, &PathError{Path: at, CID: n.cid, Err: err}
	}
	sum := extent{entries: 1}
	for _, e := range entries {
		part, err := x.entryExtent(ctx, e, join(at, e.name), depth+1, known)
		if err != nil {
			return extent{}, err
		}
		sum.entries = addUp(sum.entries, part.entries)
		sum.files = addUp(sum.files, part.files)
		sum.bytes = addUp(sum.bytes, part.bytes)
		sum.height = max(sum.height, part.height+1)
	}
	known[n.cid] = sum
	return sum, nil
}

// entryExtent believes what a link says about the size of a raw leaf, to save
// reading it twice; writing holds the limit anyhow.
func (x *extractor) entryExtent(ctx context.Context, e dirent, at string, depth int, known map[cid.Cid]extent) (extent, error) {
	if e.cid.Prefix().Codec == cid.Raw {
		return extent{entries: 1, files: 1, bytes: int64(min(e.size, math.MaxInt64))}, nil
	}
	if ext, ok := known[e.cid]; ok && depth+ext.height <= x.limits.MaxDepth {
		return ext, nil
	}
	n, err := getNode(ctx, x.get, e.cid)
	if err != nil {
		return extent{}, &PathError{Path: at, CID: e.cid, Err: err}
	}
	return x.extent(ctx, n, at, depth, known)
}

// addUp stays at the largest number instead of overflowing.
func addUp(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
