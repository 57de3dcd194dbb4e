package node

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/upkeep"
	"github.com/holdfast-sites/holdfast/replicate"
)

// What the methods "gc" and "verify" take and give.
type (
	CollectRequest = upkeep.CollectRequest
	Collected      = upkeep.Collected
	VerifyRequest  = upkeep.VerifyRequest
	Finding        = upkeep.Finding
	Rebuilt        = upkeep.Rebuilt
	Verified       struct {
		upkeep.Report
		// Caches are the folders of which a build would have believed what is
		// not so. What was remembered of them is forgotten.
		Caches []author.LyingCache `json:"caches"`
	}
)

// IndexError says that the index of the blocks is damaged. RebuildIndex makes it anew.
type IndexError struct{ Err error }

func (e *IndexError) Error() string {
	return "the index of the blocks is damaged; `holdfast verify --fix`, with no node running, makes it anew: " + e.Err.Error()
}

// Unwrap is what is wrong with it.
func (e *IndexError) Unwrap() error { return e.Err }

// Details is what a program may act on.
func (e *IndexError) Details() map[string]any { return map[string]any{"index": "damaged"} }

// blocksDir is the block store of a home.
func blocksDir(home string) string { return filepath.Join(home, "blocks") }

// RebuildIndex makes the index of a home's blocks anew; command is as for Open.
// ErrHeld where somebody has the home open.
func RebuildIndex(ctx context.Context, cfg Config, command string) (Rebuilt, error) {
	lock, err := lockHome(cfg.Home, command)
	if err != nil {
		return Rebuilt{}, err
	}
	defer lock.release()
	r, err := blockstore.RebuildIndex(ctx, blocksDir(cfg.Home), blockstore.DiskOptions{Log: cfg.Log})
	return Rebuilt{Blocks: r.Blocks, Bytes: r.Bytes, Roots: r.Roots, Old: r.Old}, err
}

// openStore opens the block store, and hands it to its caretaker.
func (n *Node) openStore(ctx context.Context) (err error) {
	n.store, err = blockstore.OpenDisk(ctx, blocksDir(n.cfg.Home), blockstore.DiskOptions{Log: n.log})
	if errors.Is(err, blockstore.ErrCorrupt) {
		return &IndexError{err}
	}
	if err != nil {
		return err
	}
	n.care = upkeep.New(upkeep.Config{
		Store: n.store, Owners: n.owners, Log: n.log,
		Patience: time.Duration(n.cfg.Timeouts.Stall), CollectEvery: time.Duration(n.cfg.Store.CollectEvery),
		Network: func() upkeep.Network {
			if n.p2p == nil {
				return nil
			}
			return n.p2p
		},
	})
	return nil
}

// collect is `holdfast gc`.
func (n *Node) collect(ctx context.Context, req CollectRequest, report func(author.Event)) (Collected, error) {
	return n.care.Collect(ctx, req, asEvents(report))
}

// collectForAuthor gives back what a flow has just released.
func (n *Node) collectForAuthor(ctx context.Context) error {
	_, err := n.care.Collect(ctx, upkeep.CollectRequest{}, func(upkeep.Event) {})
	return err
}

// verify is `holdfast verify`: the blocks, and then what builds remember.
func (n *Node) verify(ctx context.Context, req VerifyRequest, report func(author.Event)) (Verified, error) {
	r, err := n.care.Verify(ctx, req, asEvents(report))
	if errors.Is(err, upkeep.ErrIndex) {
		return Verified{}, &IndexError{err}
	}
	if err != nil {
		return Verified{}, err
	}
	caches, err := n.author.CheckCaches(ctx, report)
	return Verified{Report: r, Caches: caches}, err
}

func asEvents(report func(author.Event)) func(upkeep.Event) {
	return func(e upkeep.Event) {
		report(author.Event{Step: e.Step, Message: e.Message, Done: e.Done, Total: e.Total})
	}
}

// owners is everybody who keeps roots here: the author's sites and imports, and
// the pins of tenants.
func (n *Node) owners(ctx context.Context) ([]upkeep.Owner, error) {
	mine, err := n.author.Owners(ctx)
	if err != nil {
		return nil, err
	}
	var out []upkeep.Owner
	for _, o := range mine {
		out = append(out, upkeep.Owner(o))
	}
	err = n.eachPin(ctx, func(row replicate.PinRow) { out = append(out, n.pinOwner(row)) })
	return out, err
}

var everyStatus = []replicate.Status{replicate.Queued, replicate.Pinning, replicate.Pinned, replicate.Failed}

// pinOwner is a tenant's pin as an owner of blocks.
func (n *Node) pinOwner(row replicate.PinRow) upkeep.Owner {
	return upkeep.Owner{
		ID: replicate.Owner(row.ID), Label: "pin " + row.ID + " " + strconv.Quote(row.Pin.Name),
		Advice: "pins: with `--peer` name a node that has the blocks, and run it again; or have the tenant publish, or pin, once more",
		Sources: func(ctx context.Context) (from []peer.AddrInfo) {
			if n.p2p == nil {
				return nil
			}
			from = append(from, n.named...)
			if terms, err := row.Pin.Terms(); err == nil && !terms.Site.IsZero() {
				from = append(from, n.author.Holders(ctx, terms.Site)...)
			}
			if origins, err := n.p2p.TenantAddrs(row.Pin.Origins); err == nil {
				from = append(from, origins...)
			}
			return from
		},
	}
}
