//go:build unix

// Package engines keeps blocks on disk in several ways, so that the block
// store's own way can be chosen by measurement. Each engine is as small as it
// can be while it is correct, survives a kill, and is used as well as it can
// be. None is for production: one goroutine uses one at a time, and none has
// shields, owners or repair.
package engines

import (
	"errors"

	blocks "github.com/ipfs/go-block-format"
	mh "github.com/multiformats/go-multihash"
)

// Engine is blocks at rest under their multihashes.
type Engine interface {
	// Put takes those of the blocks that are not there. It looks for itself,
	// as every store has to. Nobody changes the bytes afterwards.
	Put(blks []blocks.Block) error
	// Sync is the barrier: what was put before it survives a kill and a power cut.
	Sync() error
	// Get reads a block, which the caller hashes. errNotFound where there is none.
	Get(h mh.Multihash) ([]byte, error)
	// Delete drops blocks; those that are not there are no error.
	Delete(hs []mh.Multihash) error
	// Reclaim gives back to the disk what deleted blocks occupied, and is a barrier.
	Reclaim() error
	Close() error
}

var errNotFound = errors.New("block not found")

// Kind is one way to keep blocks.
type Kind struct {
	Name    string
	About   string
	Recover string // what a person can get back with standard tools, without this program

	open    func(dir string) (Engine, error)
	salvage func(dir string) (blocks int, err error) // gets it back; nil: nothing
}

// Kinds are the contenders, in the order of the table.
var Kinds = []Kind{
	{
		Name:    "pebble",
		About:   "pebble with values from 1 KiB on in files of their own, no log, the flush is the barrier",
		Recover: "nothing without a Go program: the values' files are pebble's own format",
		open:    openPebble,
	},
	{
		Name:    "pebble+files",
		About:   "pebble for blocks under 64 KiB, a file for each larger one (write, sync, rename)",
		Recover: "the large blocks by file name (hex multihash: `sha256sum` proves them); no small file and no folder",
		open:    openMixed,
		salvage: salvageHex,
	},
	{
		Name:    "segments",
		About:   "append-only segments of 128 MiB that are CAR files, pebble as an index of them",
		Recover: "everything: each segment is a CARv1 (`ipfs dag import`, `car list`, any IPLD library)",
		open:    openSegments,
		salvage: salvageCARs,
	},
	{
		Name:    "flatfs",
		About:   "go-ds-flatfs, next-to-last/2, synced, one batch a barrier: the layout of Kubo's default",
		Recover: "everything by file name (base32 multihash), in a layout that Kubo opens",
		open:    openFlatfs,
		salvage: salvageBase32,
	},
}

func kindOf(name string) (Kind, error) {
	for _, k := range Kinds {
		if k.Name == name {
			return k, nil
		}
	}
	return Kind{}, errors.New("no engine " + name)
}

// mostGarbage is the share of a file that may be garbage before Reclaim
// rewrites it: the same for all engines that have such files.
const mostGarbage = 0.25
