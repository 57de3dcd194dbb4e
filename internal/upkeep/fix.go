package upkeep

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
)

// fix mends what was found, and keeps again the roots whose lists are lost.
func (c *Caretaker) fix(ctx context.Context, found *findings, unlisted []blockstore.KeptRoot, owners keep, out *Report, report func(Event)) error {
	for _, f := range found.order {
		c.forgive(f.id) // somebody wants it tried now
	}
	if err := c.restore(ctx, found, unlisted, owners, report); err != nil {
		return err
	}
	if err := c.mendAll(ctx, found, report); err != nil {
		return err
	}
	for i, k := range unlisted {
		report(Event{Step: "list", Message: "everything under " + k.Root.String()})
		err := c.listAgain(ctx, owners.owner(k), k, report)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if out.Unlisted[i].Fixed = err == nil; err != nil {
			out.Unlisted[i].Why = short(err)
		}
	}
	return c.dropUnneeded(ctx, found, slices.ContainsFunc(out.Unlisted, func(u UnlistedRoot) bool { return !u.Fixed }))
}

// restore takes what the owners have at hand, which no network is needed for.
func (c *Caretaker) restore(ctx context.Context, found *findings, unlisted []blockstore.KeptRoot, owners keep, report func(Event)) error {
	who := found.owners()
	for _, k := range unlisted {
		if o := owners.owner(k); o != nil {
			who[o.ID] = o
		}
	}
	for _, o := range who {
		if o.Restore == nil {
			continue
		}
		report(Event{Step: "restore", Message: o.Label})
		if err := c.restoreOne(ctx, o); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			c.log.Info("what an owner has at hand can't be used", "owner", o.ID, "err", err)
		}
	}
	return c.lookAgain(ctx, found)
}

func (c *Caretaker) restoreOne(ctx context.Context, o *Owner) (err error) {
	s, err := c.cfg.Store.Begin(ctx, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return errors.Join(o.Restore(ctx, s), s.Sync(ctx)) // a part is better than nothing
}

// lookAgain notes which blocks are there by now.
func (c *Caretaker) lookAgain(ctx context.Context, found *findings) error {
	for batch := range slices.Chunk(found.order, 1024) {
		ids := make([]cid.Cid, len(batch))
		for i, f := range batch {
			ids[i] = f.id
		}
		infos, err := c.cfg.Store.Stat(ctx, ids)
		if err != nil {
			return err
		}
		for i, f := range batch {
			f.Fixed = infos[i].Present // in quarantine nothing is
		}
	}
	return nil
}

// hopeless is how many blocks in a row may be had from nobody before the rest is given up.
const hopeless = 8 * atOnce

// mendAll brings the blocks that are needed. What becomes of each is noted in its finding.
func (c *Caretaker) mendAll(ctx context.Context, found *findings, report func(Event)) error {
	n := c.cfg.Network()
	if n != nil {
		c.connect(ctx, n, found.owners())
	}
	var vain, mended atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for _, f := range found.order {
		if f.Fixed || len(f.Needed) == 0 {
			continue
		}
		g.Go(func() error {
			if vain.Load() >= hopeless {
				f.Why = fmt.Sprintf("not tried: nobody had any of %d others", hopeless)
				return nil
			}
			_, err := c.Mend(gctx, f.id)
			switch {
			case gctx.Err() != nil:
				return gctx.Err()
			case err != nil:
				vain.Add(1)
				f.Why = short(err)
			default:
				vain.Store(0)
				f.Fixed = true
				report(Event{Step: "mend", Message: fmt.Sprintf("%d blocks", mended.Add(1))})
			}
			return nil
		})
	}
	return g.Wait()
}

// connect makes the acquaintance of those who may have what the owners keep.
func (c *Caretaker) connect(ctx context.Context, n Network, owners map[string]*Owner) {
	var infos []peer.AddrInfo
	known := map[peer.ID]bool{}
	for _, o := range owners {
		if o.Sources == nil {
			continue
		}
		for _, ai := range o.Sources(ctx) {
			if !known[ai.ID] {
				known[ai.ID] = true
				infos = append(infos, ai)
			}
		}
	}
	if err := n.Connect(ctx, infos); err != nil && ctx.Err() == nil {
		c.log.Info("not all who may have a copy were reached", "err", err)
	}
}

// listAgain finds everything under a root, fetching what is not here, and keeps it
// for the owner who kept it before the index was lost.
func (c *Caretaker) listAgain(ctx context.Context, o *Owner, k blockstore.KeptRoot, report func(Event)) (err error) {
	s, err := c.cfg.Store.Begin(ctx, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	cids, err := c.everything(ctx, s, o, k.Root, report)
	if err != nil {
		return err
	}
	// The owner may have let go of it while we looked.
	roots, err := c.cfg.Store.Kept(ctx, k.Owner)
	if err != nil || !slices.ContainsFunc(roots, k.Root.Equals) {
		return err
	}
	return s.Keep(ctx, k.Owner, k.Root, slices.Values(cids))
}

// everything is all CIDs under a root, all of them present.
func (c *Caretaker) everything(ctx context.Context, s blockstore.Session, o *Owner, root cid.Cid, report func(Event)) ([]cid.Cid, error) {
	if o != nil && o.Partial && root.Prefix().Codec == cid.Raw {
		return c.part(ctx, root)
	}
	n := c.cfg.Network()
	if n == nil {
		return c.local(ctx, root)
	}
	var from []peer.AddrInfo
	if o != nil && o.Sources != nil {
		from = o.Sources(ctx)
	}
	return n.Fetch(ctx, s, []cid.Cid{root}, from, merkle.Limits{}, func(n merkle.Count) {
		report(Event{Step: "fetch", Done: n.Bytes})
	})
}

// local is all CIDs under a root without asking anybody.
func (c *Caretaker) local(ctx context.Context, root cid.Cid) ([]cid.Cid, error) {
	r, err := merkle.Verify(ctx, c.cfg.Store, root, merkle.WalkOptions{})
	if err != nil {
		return nil, err
	}
	if n := len(r.Missing) + len(r.Corrupt); n > 0 {
		return nil, fmt.Errorf("%w: %d blocks under it are missing or damaged, %s among them", errOffline, n, append(r.Missing, r.Corrupt...)[0])
	}
	return r.CIDs, nil
}

// part is the blocks that are there of a DAG that is kept in part, whose root is
// kept without its codec.
func (c *Caretaker) part(ctx context.Context, root cid.Cid) ([]cid.Cid, error) {
	r, err := merkle.Verify(ctx, c.cfg.Store, cid.NewCidV1(cid.DagProtobuf, root.Hash()), merkle.WalkOptions{})
	if err != nil || len(r.CIDs) == 0 {
		if _, gerr := c.cfg.Store.Get(ctx, root); gerr != nil {
			return nil, gerr
		}
		return []cid.Cid{root}, nil // it is no folder or file
	}
	return append([]cid.Cid{root}, r.CIDs...), nil
}

// dropUnneeded collects where there is damage that nobody needs mended. While
// some lists are lost nobody knows what is needed.
func (c *Caretaker) dropUnneeded(ctx context.Context, found *findings, unknown bool) error {
	unneeded := func(f *Finding) bool { return len(f.Needed) == 0 }
	if unknown || !slices.ContainsFunc(found.order, unneeded) {
		return nil
	}
	if err := c.collectNow(ctx); err != nil {
		return err
	}
	damaged, err := c.cfg.Store.(blockstore.Verifier).Damaged(ctx)
	if err != nil {
		return err
	}
	still := map[string]bool{}
	for _, d := range damaged {
		still[string(d.CID.Hash())] = true
	}
	for _, f := range found.order {
		if unneeded(f) {
			if f.Fixed = !still[string(f.id.Hash())]; !f.Fixed {
				f.Why = "work that goes on needs it, which brings it itself"
			}
		}
	}
	return nil
}
