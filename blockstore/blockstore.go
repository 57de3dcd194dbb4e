// Package blockstore keeps content-addressed blocks at rest.
//
// It promises that a block is never returned with bytes other than the ones
// its CID names, that what a [Session.Sync] has acknowledged survives a crash,
// and that nothing a root needs is collected while somebody keeps the root.
// It never follows links: which blocks belong to a root is told to it by the
// caller of [Session.Keep]. It never deletes a block on request either: owners
// release roots, and [Store.Collect] frees what nobody keeps.
//
// Blocks are stored under their multihash, as boxo's blockstores do, so one
// block read under two codecs is stored once.
package blockstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/ipfs/go-cid"
)

// MaxBlockSize is the largest block, in bytes, that is written or read: the
// limit that bitswap and the trustless gateway put on a block.
const MaxBlockSize = 2 << 20

// MaxIdentitySize is the largest payload, in bytes, of a CID that carries its
// content itself (multihash code "identity").
const MaxIdentitySize = 128

// The kinds of failure. Every error of this package that concerns a block
// wraps exactly one of them; match with errors.Is.
var (
	// ErrNotFound says that the store does not hold the block.
	ErrNotFound = errors.New("block not found")
	// ErrUnavailable says that the block may exist but could not be had:
	// an I/O error here, or nobody answering on a network.
	ErrUnavailable = errors.New("block unavailable")
	// ErrCorrupt says that bytes were found which are not the ones the CID names.
	ErrCorrupt = errors.New("block corrupt")
	// ErrRefused says that the block or CID breaks a limit: too large, or a hash
	// function that is unknown or too weak.
	ErrRefused = errors.New("block refused")
	// ErrClosed says that the store or session was closed.
	ErrClosed = errors.New("blockstore closed")
	// ErrSessionOpen says that a session with this id is already open.
	ErrSessionOpen = errors.New("add session is already open")
)

// BlockError names the block that an error concerns. Kind is one of the
// sentinels above; Err, which may be nil, says more.
type BlockError struct {
	CID  cid.Cid
	Kind error
	Err  error
}

func (e *BlockError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("%s: %v", e.CID, e.Kind)
	}
	return fmt.Sprintf("%s: %v: %v", e.CID, e.Kind, e.Err)
}

// Unwrap lets errors.Is see both the kind and the cause.
func (e *BlockError) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// Getter gets one block, checked against its CID.
//
// Get fails with a [BlockError] of kind ErrNotFound, ErrUnavailable,
// ErrCorrupt or ErrRefused, or with the context's error. An identity CID is answered from
// the CID itself. The block's bytes are shared: nobody may change them.
type Getter interface {
	Get(ctx context.Context, c cid.Cid) (Block, error)
}

// Info says whether a block is there and how large it is.
type Info struct {
	CID     cid.Cid
	Present bool
	Size    int64 // bytes of the block itself; 0 where it is not present
}

// Cursor is a position in an enumeration. The zero value is the beginning. It
// stays valid while blocks come and go: nothing that was there throughout is
// skipped or repeated.
type Cursor string

// Entry is one block of an enumeration and the position right after it.
type Entry struct {
	CID  cid.Cid // CIDv1, codec raw: the store knows multihashes only
	Size int64   // bytes
	Next Cursor
}

// Usage is what an owner keeps, or what is kept under a root, each block counted once.
type Usage struct {
	Roots  int
	Blocks int64
	Bytes  int64
	// UniqueBytes is the part of Bytes that nobody else keeps, that is, what
	// would be given back without this owner or root. The rest is shared.
	UniqueBytes int64
}

// Added counts what a Put had not found present.
type Added struct {
	Blocks int64
	Bytes  int64
}

// CollectOptions steers a collection. The zero value collects.
type CollectOptions struct {
	// DryRun counts what would be freed and frees nothing.
	DryRun bool
	// SessionGrace is how long the shield of a session that nobody holds open
	// any more (its process was killed) outlives its last write.
	// Zero means DefaultSessionGrace; negative means not at all.
	SessionGrace time.Duration
	// Progress is called now and then with the number of blocks looked at so far. It may be nil.
	Progress func(looked int64)
}

// DefaultSessionGrace is how long a killed writer may take to come back.
const DefaultSessionGrace = 24 * time.Hour

// Collected is what a collection freed.
type Collected struct {
	Blocks int64
	Bytes  int64 // of the blocks
	Disk   int64 // bytes on disk given back, as far as nothing was written meanwhile; 0 in a dry run
}

// Store is blocks at rest. All methods may be called concurrently, and stop
// early with the context's error when it ends.
type Store interface {
	Getter

	// GetMany yields the blocks in the order asked. The first error ends it.
	GetMany(ctx context.Context, cids []cid.Cid) iter.Seq2[Block, error]

	// Stat tells about each CID, in the order asked. It does not read the
	// blocks, so it does not notice corruption. Absence is no error.
	Stat(ctx context.Context, cids []cid.Cid) ([]Info, error)

	// Enumerate yields every block after the cursor. A sequence that ends without an error was
	// complete.
	Enumerate(ctx context.Context, after Cursor) iter.Seq2[Entry, error]

	// Begin opens the add session with this id, or resumes it with what it
	// shielded before its process was killed. An empty id makes a fresh one.
	// The caller closes it. ErrSessionOpen where somebody holds it open,
	// ErrRefused where the id is longer than MaxName.
	Begin(ctx context.Context, id string) (Session, error)

	// Release ends the owner's interest in a root, durably. It frees nothing
	// by itself; releasing what is not kept is no error.
	Release(ctx context.Context, owner string, root cid.Cid) error

	// Kept lists the roots that an owner keeps, in no order. The empty owner
	// means all owners (each root once).
	Kept(ctx context.Context, owner string) ([]cid.Cid, error)

	// KeptCIDs yields everything that was kept under root, by any owner; a CID
	// may come twice where owners told different lists. ErrNotFound where nobody
	// keeps it.
	KeptCIDs(ctx context.Context, root cid.Cid) iter.Seq2[cid.Cid, error]

	// Usage is what the owner keeps. The empty owner means all owners together.
	// It is counted when something is kept or released, not now.
	Usage(ctx context.Context, owner string) (Usage, error)

	// GroupUsage is what several owners keep together (a tenant's pins), for many
	// such groups in one pass over the counts; an owner may be in several groups.
	// UniqueBytes are of blocks that no owner outside of the group keeps.
	GroupUsage(ctx context.Context, groups map[string][]string) (map[string]Usage, error)

	// RootUsage is what is kept under a root; ErrNotFound where nobody keeps it.
	// UniqueBytes are in no other kept root.
	RootUsage(ctx context.Context, root cid.Cid) (Usage, error)

	// Collect frees the blocks that no kept root and no session needs. Reads
	// and writes go on meanwhile; what is put or shielded meanwhile stays.
	// It frees nothing at all when it can't read what is kept.
	Collect(ctx context.Context, opts CollectOptions) (Collected, error)

	// Size is the number of bytes that the store occupies on disk or in memory.
	Size(ctx context.Context) (int64, error)

	// Close waits for running calls, makes everything durable and lets go of
	// the files. Sessions must have been closed before.
	Close() error
}

// Session is one writer's work: Begin → Put… → Sync → Keep → Close. Whatever
// it put or found present is shielded from collection until it is closed.
// A session's methods may be called concurrently.
type Session interface {
	// ID is what Begin can resume the session by.
	ID() string

	// Put stores the blocks that are not there yet and shields all of them. It
	// does not make them durable. The store keeps no reference to the bytes
	// after Put returns.
	Put(ctx context.Context, blks ...Block) (Added, error)

	// Shield protects blocks that may be present already and tells which are.
	Shield(ctx context.Context, cids []cid.Cid) ([]Info, error)

	// Sync is the barrier: when it returns nil, everything that this session
	// put before the call survives a crash of the process and of the machine.
	// Where the disk refused what was put already, the session fails for good,
	// Keep too: nothing since its last good Sync is promised. Close it and put that again.
	Sync(ctx context.Context) error

	// Keep records, durably and with an implied Sync, that owner wants root, whose
	// whole DAG is cids. ErrNotFound, naming the first missing block, where one
	// of them is not present; nothing is kept then. Keeping what is kept already is no error.
	// ErrRefused where root is not among cids, or owner is empty or longer than MaxName.
	// cids may use the store; they are all read before anything is looked at.
	Keep(ctx context.Context, owner string, root cid.Cid, cids iter.Seq[cid.Cid]) error

	// Close drops the shield. Closing twice is no error.
	Close() error
}
