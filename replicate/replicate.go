// Package replicate keeps sites on other people's machines.
//
// It holds the author's policy, the plan that follows from it, the Pinning
// Service API (server and client), the audit by which a host proves that it
// holds every byte, and the keeper that makes a host follow a name. It
// promises that a copy counts only when it passed an audit that we made
// ourselves, that a host replaces what it keeps only when the new stands
// whole, and that nothing is released below what was promised. It never
// serves readers.
package replicate

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
)

// Errors of this package; match with errors.Is.
var (
	ErrNotFound     = errors.New("no such pin")
	ErrUnauthorized = errors.New("token not accepted")
	ErrInvalid      = errors.New("invalid request")
	ErrQuota        = errors.New("quota exceeded")
	ErrUnavailable  = errors.New("host unavailable")
	ErrTooFewHosts  = errors.New("too few hosts")
	// ErrForbidden says that a token is not good for this, or that a host doesn't take it.
	ErrForbidden = errors.New("not allowed")
	// ErrDraining says that a host takes no new pins: it wants to be empty. It is an ErrForbidden.
	ErrDraining = fmt.Errorf("%w: this host is being emptied and takes no new pins", ErrForbidden)
	// ErrClock says that two machines' clocks are more than a day apart.
	ErrClock = errors.New("the clocks are more than a day apart")
)

// Count is a number of blocks and their bytes; the name that internal/state
// knows it by.
type Count = merkle.Count

// Fetcher makes everything under roots present in the session's store, every
// block verified, from the given sources and whoever else it finds. It takes
// up where an earlier call was interrupted. What is present already is
// shielded, not fetched. It neither syncs nor keeps.
//
// Where the session is a SourceWatcher, it is told who gave what. Progress is called often with what is present so far. The CIDs of the result
// are everything under the roots, unique, in walk order. Errors: blockstore.ErrUnavailable (naming
// who was asked and what each said), merkle.ErrLimit, merkle.ErrMalformed.
type Fetcher interface {
	Fetch(ctx context.Context, into blockstore.Session, roots []cid.Cid, from []peer.AddrInfo,
		limits merkle.Limits, progress func(merkle.Count)) ([]cid.Cid, error)
}
