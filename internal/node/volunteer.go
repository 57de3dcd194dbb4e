package node

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

const (
	copyPoll  = 200 * time.Millisecond // how often somebody who waits for a copy is told how far it is
	copyLease = 10 * time.Second       // to change a pin's terms
)

// tendsCopies tells whether this process does the work on copies: it is a node that serves.
func (n *Node) tendsCopies() bool { return n.service != nil && n.serves }

// tendCopies brings the pins of this node's own accord in line with what is followed: the wish is what lasts, and
// whatever was cut off between the two is done the next time.
func (n *Node) tendCopies(ctx context.Context) error {
	if !n.tendsCopies() {
		return nil
	}
	n.tending.Lock()
	defer n.tending.Unlock()
	wanted, err := n.state.Follows(ctx)
	if err != nil {
		return err
	}
	pins, err := n.copyPins(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range wanted {
		if f.Keep > 0 {
			errs = append(errs, n.tendCopy(ctx, pins, replicate.FollowPin(f.Name, f.Keep, f.Quota), f.Name))
		}
	}
	return errors.Join(append(errs, n.dropPins(ctx, n.service, pins))...)
}

// tendCopy brings one name's pin in line with what is wanted, and leaves in pins what goes.
func (n *Node) tendCopy(ctx context.Context, pins map[naming.Name][]replicate.PinRow, pin replicate.Pin, name naming.Name) error {
	var row replicate.PinRow
	if all := pins[name]; len(all) > 0 {
		row = all[len(all)-1]
		pins[name] = slices.DeleteFunc(all[:len(all)-1], func(r replicate.PinRow) bool { return r.ID == row.Replaces })
	}
	switch {
	case row.ID == "" || row.Status == replicate.Failed:
		return n.beginCopy(ctx, row, pin)
	case !maps.Equal(row.Pin.Meta, pin.Meta):
		return n.changeCopy(ctx, row, pin)
	}
	return nil
}

// copyPins is the pins of this node's own accord, by the name that they follow, the newest last. More than one has a name
// only while a pin takes the place of one that failed.
func (n *Node) copyPins(ctx context.Context) (map[naming.Name][]replicate.PinRow, error) {
	rows, err := n.state.TenantPins(ctx, replicate.LocalTenant.ID)
	out := make(map[naming.Name][]replicate.PinRow, len(rows))
	for _, row := range rows {
		if terms, err := row.Pin.Terms(); err == nil {
			out[terms.Follow] = append(out[terms.Follow], row)
		}
	}
	return out, err
}

// beginCopy pins what is followed; where there is a row, that has failed and is replaced.
func (n *Node) beginCopy(ctx context.Context, row replicate.PinRow, pin replicate.Pin) (err error) {
	if row.ID != "" {
		_, err = n.service.Replace(ctx, replicate.LocalTenant, row.ID, pin)
	} else {
		_, err = n.service.Add(ctx, replicate.LocalTenant, pin)
	}
	return err
}

// changeCopy gives a pin other terms in its place: one that came in its stead would let go of what is held before it has anything.
func (n *Node) changeCopy(ctx context.Context, row replicate.PinRow, pin replicate.Pin) error {
	const by = "follow"
	row, err := n.leaseCopy(ctx, row.ID, by)
	if errors.Is(err, replicate.ErrLeased) {
		return nil // it is being worked on; the next look may find it free
	}
	if err != nil {
		return err
	}
	err = n.state.ReplacePinMeta(ctx, row, by, pin.Meta)
	if terms, terr := pin.Terms(); terr == nil {
		defer n.service.FollowNow(terms.Follow)
	}
	return errors.Join(err, n.state.GiveBack(context.WithoutCancel(ctx), row.ID, by))
}

// leaseCopy waits a moment for whoever has the row: looking a name up is short, a fetch may be long.
func (n *Node) leaseCopy(ctx context.Context, id, by string) (row replicate.PinRow, err error) {
	t := time.NewTicker(copyPoll)
	defer t.Stop()
	for range 10 {
		now := time.Now()
		row, err = n.state.LeasePin(ctx, id, replicate.Lease{By: by, Now: now, Until: now.Add(copyLease)})
		if !errors.Is(err, replicate.ErrLeased) {
			break
		}
		select {
		case <-ctx.Done():
			return row, ctx.Err()
		case <-t.C:
		}
	}
	return row, err
}

// dropCopies ends the copies of names that are followed no longer, also on a home whose node doesn't run.
func (n *Node) dropCopies(ctx context.Context) error {
	n.tending.Lock()
	defer n.tending.Unlock()
	service := n.service
	if service == nil {
		if n.store == nil {
			return nil // the next node that serves does it
		}
		var err error
		if service, err = replicate.NewService(replicate.ServiceConfig{Pins: n.state, Blocks: n.store, Fetcher: noFetcher{}, Log: n.log}); err != nil {
			return err
		}
	}
	if !n.serves { // then no other process does: the store is ours
		if err := service.Reclaim(ctx); err != nil {
			return err
		}
	}
	wanted, err := n.state.Follows(ctx)
	if err != nil {
		return err
	}
	pins, err := n.copyPins(ctx)
	if err != nil {
		return err
	}
	for _, f := range wanted {
		if f.Keep > 0 {
			delete(pins, f.Name)
		}
	}
	return n.dropPins(ctx, service, pins)
}

// dropPins releases what copies kept, which a node that serves then collects.
func (n *Node) dropPins(ctx context.Context, service *replicate.Service, pins map[naming.Name][]replicate.PinRow) error {
	var errs []error
	for _, rows := range pins {
		for _, row := range rows {
			if err := service.Delete(ctx, replicate.LocalTenant, row.ID); !errors.Is(err, replicate.ErrNotFound) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// noFetcher is of a service that only lets go.
type noFetcher struct{}

// Fetch implements replicate.Fetcher.
func (noFetcher) Fetch(context.Context, blockstore.Session, []cid.Cid, []peer.AddrInfo, merkle.Limits, func(merkle.Count)) ([]cid.Cid, error) {
	return nil, blockstore.ErrUnavailable
}

// untilWhole waits until the newest release that is known of is here, or the first try has failed. What
// has begun goes on when whoever waits has gone.
func (n *Node) untilWhole(ctx context.Context, want state.Follow, report func(author.Event)) (Follow, error) {
	t := time.NewTicker(copyPoll)
	defer t.Stop()
	for {
		f, err := n.followState(ctx, want)
		if err != nil || f.Root == "" || f.State == FollowWhole || f.LastError != "" {
			return f, err
		}
		if f.Done > 0 {
			report(author.Event{Step: "fetch", Done: f.Done})
		}
		select {
		case <-ctx.Done():
			return f, ctx.Err()
		case <-t.C:
		}
	}
}

// followState is how a followed name stands here. It asks nobody.
func (n *Node) followState(ctx context.Context, f state.Follow) (Follow, error) {
	out := Follow{Name: f.Name.String(), Keep: f.Keep, Quota: f.Quota, State: FollowRecord}
	root, err := n.knownRoot(ctx, f.Name)
	if err != nil {
		return out, err
	}
	if root.Defined() {
		out.Root = root.String()
	}
	if f.Keep == 0 {
		return out, nil
	}
	out.State = FollowWaiting
	pins, err := n.copyPins(ctx)
	if err != nil {
		return out, err
	}
	if len(pins[f.Name]) == 0 {
		return out, nil
	}
	row := pins[f.Name][len(pins[f.Name])-1]
	out.LastError = row.LastError
	switch due := row.Due.UTC(); {
	case root.Defined() && row.Refused.Equals(root): // nobody tries again what doesn't fit
		out.LastError = "its newest release does not fit: " + row.LastError
	case row.Attempts > 0 && !row.Due.IsZero():
		out.NextTry = &due
	}
	if row.Root.Defined() {
		out.State, out.Held = FollowBehind, row.Root.String()
		if row.Root.Equals(root) {
			out.State = FollowWhole
		}
	}
	return out, n.copyBytes(ctx, row, &out)
}

// copyBytes adds what a copy takes here, and how far a fetch is.
func (n *Node) copyBytes(ctx context.Context, row replicate.PinRow, out *Follow) error {
	if n.store == nil {
		return nil
	}
	used, err := n.store.Usage(ctx, replicate.Owner(row.ID))
	if err != nil {
		return err
	}
	out.Bytes = used.Bytes
	if n.service == nil || out.State == FollowWhole {
		return nil
	}
	st, err := n.service.Get(ctx, replicate.LocalTenant, row.ID)
	if err != nil {
		if errors.Is(err, replicate.ErrNotFound) {
			err = nil // it was replaced meanwhile
		}
		return err
	}
	out.Done, _ = strconv.ParseInt(st.Info[replicate.InfoBytesDone], 10, 64)
	return nil
}

// knownRoot is where a name leads by the records that are kept here; undefined where that is not known.
func (n *Node) knownRoot(ctx context.Context, name naming.Name) (cid.Cid, error) {
	for range naming.MaxHops {
		rec, err := n.state.Best(ctx, name)
		if errors.Is(err, naming.ErrNotFound) {
			return cid.Undef, nil
		}
		if err != nil {
			return cid.Undef, err
		}
		if root, ok := rec.Root(); ok {
			return root, nil
		}
		next, ok := rec.Target()
		if !ok {
			break
		}
		name = next
	}
	return cid.Undef, nil
}
