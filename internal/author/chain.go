package author

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
)

const (
	maxChain     = 100_000          // releases that are followed back
	releaseTime  = 10 * time.Second // for one release to be had
	holdersReach = 5 * time.Second  // for the holders to be connected to
)

// head is where a name leads, as far as it is known.
type head struct {
	name    naming.Name
	record  naming.Record // the innermost
	root    cid.Cid
	release cid.Cid // undefined where the record is another tool's
	policy  cid.Cid
}

// headOf finds the newest that is known of a name; a record that has expired,
// where there is no other.
func (a *Author) headOf(ctx context.Context, n naming.Name) (head, error) {
	chain, root, err := a.Resolver.Follow(ctx, n)
	if err == nil {
		inner := chain[len(chain)-1].Record
		return head{n, inner, root, inner.Release(), naming.Governing(chain).Policy()}, nil
	}
	if ctx.Err() != nil {
		return head{}, err
	}
	own, oerr := a.State.Best(ctx, n)
	if oerr != nil || !rootOf(own).Defined() {
		return head{}, err
	}
	return head{n, own, rootOf(own), own.Release(), own.Policy()}, nil
}

// meet connects to those who are likely to have what belongs to a site, where
// it is not all here. It fails silently: others may have it.
func (a *Author) meet(ctx context.Context, h head) {
	if a.Network == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, holdersReach)
	defer cancel()
	infos, _ := a.HostAddrs(ctx)
	infos = append(infos, a.Peers()...)
	if err := a.Network.Connect(ctx, infos); err != nil {
		a.Log.Debug("connect to hosts", "err", err)
	}
	if roster := a.roster(ctx, h.policy); len(roster) > 0 {
		if err := a.Network.Connect(ctx, roster); err != nil {
			a.Log.Debug("connect to holders", "err", err)
		}
	}
}

// release is one link of a site's chain.
type release struct {
	cid cid.Cid
	merkle.Release
}

// ChainError says where a chain of releases ends before its start.
type ChainError struct {
	Number  uint64  // of the release that can't be had or is wrong; 0: not known
	Release cid.Cid // likewise
	Err     error   // blockstore.ErrUnavailable where it can't be had, merkle.ErrMalformed where it is wrong
}

func (e *ChainError) Error() string {
	if e.Number == 0 {
		return fmt.Sprintf("release %s: %v", e.Release, e.Err)
	}
	return fmt.Sprintf("release %d (%s): %v", e.Number, e.Release, e.Err)
}

// Unwrap is the cause.
func (e *ChainError) Unwrap() error { return e.Err }

// Details is what a program may act on.
func (e *ChainError) Details() map[string]any {
	return map[string]any{"number": e.Number, "release": cidString(e.Release)}
}

// releases follows the chain back from a release, newest first, to the first
// one. Each block is what its CID says, and each number one below that of the
// release that names it; so a chain ends, and has no circles. A *ChainError ends it early.
func (a *Author) releases(ctx context.Context, from cid.Cid) iter.Seq2[release, error] {
	return a.releasesUpTo(ctx, from, maxChain)
}

func (a *Author) releasesUpTo(ctx context.Context, from cid.Cid, most int) iter.Seq2[release, error] {
	return func(yield func(release, error) bool) {
		next, number := from, uint64(0) // 0: any
		for range most {
			rel, err := a.chained(ctx, next, number)
			if err != nil {
				yield(release{}, err)
				return
			}
			if !yield(release{next, rel}, nil) || rel.Number == 1 {
				return
			}
			if next, number = rel.Previous, rel.Number-1; !next.Defined() {
				yield(release{}, &ChainError{number, next, fmt.Errorf("%w: release %d names none before it", merkle.ErrMalformed, rel.Number)})
				return
			}
		}
		yield(release{}, &ChainError{number, next, fmt.Errorf("%w: only %d releases are followed", merkle.ErrLimit, most)})
	}
}

// chained reads the release that has to have this number; 0: any.
func (a *Author) chained(ctx context.Context, c cid.Cid, number uint64) (merkle.Release, error) {
	short, cancel := context.WithTimeout(ctx, releaseTime)
	defer cancel()
	rel, err := merkle.ReadRelease(short, a.blocks(), c)
	switch {
	case ctx.Err() != nil:
		return rel, ctx.Err()
	case errors.Is(err, blockstore.ErrNotFound) || short.Err() != nil:
		return rel, &ChainError{number, c, fmt.Errorf("%w: nobody who was asked has it: %w", blockstore.ErrUnavailable, err)}
	case err != nil:
		return rel, &ChainError{number, c, err}
	case number != 0 && rel.Number != number:
		return rel, &ChainError{number, c, fmt.Errorf("%w: it says that it is release %d", merkle.ErrMalformed, rel.Number)}
	}
	return rel, nil
}

// numbered finds a release of a site by its number; below 0 it counts back from
// the newest. Where the chain does not reach so far, what was written down here at its publish counts.
func (a *Author) numbered(ctx context.Context, h head, number int64) (release, error) {
	if !h.release.Defined() {
		return release{}, errNoReleases(h)
	}
	back := -number
	var newest uint64
	var broken error
	for r, err := range a.releases(ctx, h.release) {
		if err != nil {
			broken = err
			break
		}
		newest = max(newest, r.Number)
		if number > 0 && r.Number == uint64(number) || number < 0 && newest-r.Number == uint64(back) {
			return r, nil
		}
		if number > 0 && r.Number < uint64(number) {
			break
		}
	}
	if broken == nil {
		return release{}, fmt.Errorf("%w: the newest release is %d; `holdfast history` lists them", errNoRelease(number), newest)
	}
	return a.writtenDown(ctx, h, newest, number, broken)
}

// writtenDown is a release by what this machine noted when it published it.
func (a *Author) writtenDown(ctx context.Context, h head, newest uint64, number int64, broken error) (release, error) {
	if number < 0 {
		number += int64(newest)
	}
	rows, err := a.State.Releases(ctx, h.record.Name())
	if err != nil {
		return release{}, err
	}
	for _, r := range rows {
		if newest > 0 && number > 0 && r.Number == uint64(number) {
			return release{r.CID, merkle.Release{
				Root: r.Root, Number: r.Number, Time: r.Time, Message: r.Message, Files: r.Files, Bytes: r.Bytes,
			}}, nil
		}
	}
	return release{}, broken
}

func errNoRelease(number int64) error {
	if number < 0 {
		return fmt.Errorf("%w: there is nothing %d before the newest", naming.ErrNotFound, -number)
	}
	return fmt.Errorf("%w: there is no release %d", naming.ErrNotFound, number)
}

func errNoReleases(h head) error {
	return fmt.Errorf("%w: the record of %s names no release: it was made by another tool", naming.ErrNotFound, h.name)
}
