package author

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
)

// RollbackRequest asks for what an earlier release showed to be published again,
// as the newest. Dir and Root are left empty.
type RollbackRequest struct {
	PublishRequest
	// To is the release's number. Below 0 it counts back from the newest; 0 is the one before it.
	To int64 `json:"to,omitempty"`
}

// Rollback makes a new release of an old root: the chain goes on, and nothing
// of it is taken away. Holders that keep the root need nothing from us but a proof
// asked for anew; where this machine lacks it, it is fetched from them first.
//
// Errors: those of Publish; naming.ErrNotFound where there is no such release,
// blockstore.ErrUnavailable where nobody keeps it any more.
func (a *Author) Rollback(ctx context.Context, req RollbackRequest, report func(Event)) (Published, error) {
	if req.Alias == "" || req.Dir != "" || req.Root != "" {
		return Published{}, usagef("a site's alias is needed, and neither a folder nor a root")
	}
	key, err := a.Keys.Info(req.Alias)
	if err != nil {
		return Published{}, err // to make a key, as a publish does, would be no help
	}
	h, err := a.headOf(ctx, key.Name)
	if err != nil {
		return Published{}, err
	}
	if req.To == 0 {
		req.To = -1
	}
	to, err := a.numbered(ctx, h, req.To)
	if err != nil {
		return Published{}, err
	}
	if to.Root.Equals(h.root) {
		return Published{}, usagef("release %d is what %s shows now", to.Number, req.Alias)
	}
	if req.Message == "" {
		req.Message = fmt.Sprintf("rollback to release %d", to.Number)
	}
	req.Root = to.Root.String()
	out, err := a.Publish(ctx, req.PublishRequest, report)
	if errors.Is(err, errNotAdopted) {
		return out, fmt.Errorf("release %d of %s: %w", to.Number, req.Alias, err)
	}
	return out, err
}

// errNotAdopted says that a root is nowhere to be had.
var errNotAdopted = fmt.Errorf("%w: nobody who could be asked keeps all of it any more; publish it again from its folder, or bring it here with `holdfast import CAR`", blockstore.ErrUnavailable)

// adopt is build for what is in the store, or at the site's holders, already.
func (a *Author) adopt(ctx context.Context, p *publication) error {
	root, err := cid.Decode(p.req.Root)
	if err != nil {
		return usagef("%q is not a CID: %v", p.req.Root, err)
	}
	cids, err := a.whole(ctx, p.session, root)
	if err == nil && cids == nil {
		cids, err = a.bringBack(ctx, p, root)
	}
	if err != nil {
		return err
	}
	size, err := merkle.Measure(ctx, a.Store, root)
	if err != nil {
		return err
	}
	p.built = merkle.Built{Root: root, Files: size.Files, Bytes: size.Bytes, CIDs: cids, DAG: merkle.Count{Blocks: int64(len(cids))}}
	infos, err := a.Store.Stat(ctx, cids)
	if err != nil {
		return err
	}
	for _, i := range infos {
		p.built.DAG.Bytes += i.Size
	}
	if site, err := a.State.SiteByName(ctx, p.name); err == nil {
		p.req.Dir = site.Dir // the site's folder is where it was
	}
	p.report(Event{Step: "built", Message: fmt.Sprintf("%s, root %s", files(size.Files), root)})
	return nil
}

// whole shields everything under a root, children first, where all of it is here; nil
// where it is not.
func (a *Author) whole(ctx context.Context, into blockstore.Session, root cid.Cid) ([]cid.Cid, error) {
	if infos, err := into.Shield(ctx, []cid.Cid{root}); err != nil || !infos[0].Present {
		return nil, err
	}
	rep, err := merkle.Inventory(ctx, a.Store, root, merkle.WalkOptions{})
	if err != nil {
		return nil, err
	}
	infos, err := into.Shield(ctx, rep.CIDs) // from here on nothing of it goes
	if err != nil || !rep.Whole() || slices.ContainsFunc(infos, func(i blockstore.Info) bool { return !i.Present }) {
		return nil, err
	}
	return rep.CIDs, nil
}

// bringBack fetches what is missing of a root from those who keep the site.
func (a *Author) bringBack(ctx context.Context, p *publication, root cid.Cid) ([]cid.Cid, error) {
	if a.Network == nil {
		return nil, errNotAdopted
	}
	hosts, err := a.HostAddrs(ctx)
	if err != nil {
		return nil, err
	}
	from := append(append(hosts, a.Holders(ctx, p.name)...), a.Peers()...)
	cids, err := a.Network.Fetch(ctx, p.session, []cid.Cid{root}, from, merkle.Limits{}, func(c merkle.Count) {
		p.report(Event{Step: "fetch", Done: c.Bytes})
	})
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, blockstore.ErrUnavailable) || errors.Is(err, blockstore.ErrNotFound):
		return nil, fmt.Errorf("%w (%w)", errNotAdopted, err)
	}
	return cids, err
}
