// Package merkle turns folders into Merkle DAGs of blocks and back.
//
// It promises that the same tree gives the same root on every machine, that
// children are stored before the nodes that name them, and that everything
// read back was checked. It holds the one walk that verification, export,
// transfer and audits share. It never publishes anything and knows no names.
//
// Trees are UnixFS 1.5 by the profiles of IPIP-499; releases are DAG-CBOR
// blocks described in docs/formats.md.
package merkle

import (
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"
)

// Errors of this package; match with errors.Is. Errors about a block are
// those of blockstore.
var (
	// ErrMalformed says that a node, CAR, release or path does not follow its format.
	ErrMalformed = errors.New("malformed")
	// ErrLimit says that a DAG is larger, deeper or has more blocks than was allowed.
	ErrLimit = errors.New("limit exceeded")
	// ErrNoPath says that the folder is there and the path in it is not.
	ErrNoPath = errors.New("no such path")
	// ErrUnsupported says that the data is well-formed and of a kind that can't be handled:
	// an unknown version, or a release with a critical part that is not known here.
	ErrUnsupported = errors.New("not supported")
)

// Profile names a set of UnixFS import settings (IPIP-499).
type Profile string

// The profiles that Build knows. The empty Profile means V1_2025.
const (
	V1_2025 Profile = "unixfs-v1-2025"
	V0_2015 Profile = "unixfs-v0-2015"
)

// Limits bound a walk over a DAG that somebody else made. A zero field means
// the default; a negative one means no limit.
type Limits struct {
	MaxBytes  int64 // unique bytes of blocks; default: none
	MaxBlocks int64 // unique blocks; default 64 Mi
	MaxDepth  int   // links from the root; default 256
}

// Defaults of Limits.
const (
	DefaultMaxBlocks = 64 << 20
	DefaultMaxDepth  = 256
)

// Count is a number of unique blocks and their bytes.
type Count struct {
	Blocks int64
	Bytes  int64
}

// PathError names the path in a folder or DAG that an error concerns.
type PathError struct {
	Path string
	CID  cid.Cid // undefined where it is not known
	Err  error
}

func (e *PathError) Error() string { return fmt.Sprintf("%q: %v", e.Path, e.Err) }

// Unwrap is the cause.
func (e *PathError) Unwrap() error { return e.Err }
