package replicate

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/naming"
)

// callDue calls the members that were not called lately, one call each for all sites that we
// share, and returns without waiting for those that are slow to answer. next is when to do so again.
//
// Those that answered the last time come first, and for the others it takes no longer than until
// next: a roster of hosts that are gone must not keep those that live from being called.
func (k *Keeper) callDue(ctx context.Context) (next time.Time) {
	next = k.cfg.Now().Add(jittered(k.cfg.Times.Call))
	members, err := k.members(ctx)
	var seen map[peer.ID]Seen
	if err == nil {
		seen, err = k.cfg.Store.Presences(ctx)
	}
	if err != nil {
		if ctx.Err() == nil {
			k.log.Error("whom to call", "err", err)
		}
		return next
	}
	k.forgetHosts(ctx, members, seen)
	for _, id := range inOrder(members, seen) {
		m, calls := members[id], seen[id].Calls
		if !calls.answered() && !k.cfg.Now().Before(next) {
			break // whose turn does not come now may be earlier in the next round
		}
		// A proof of a moment ago was a call, too.
		if k.cfg.Now().Sub(calls.Tried).Abs() < k.cfg.Times.Call/2 || !k.beginCall(ctx, id) {
			continue
		}
		k.hands.Go(func() {
			err := k.call(ctx, m.info)
			k.endCall(id)
			if ctx.Err() == nil && calls.answered() != (err == nil) {
				for _, n := range m.sites {
					k.Touch(n)
				}
			}
		})
	}
	return next
}

// inOrder is the members, those first that answered the last time, else by chance.
func inOrder(members map[peer.ID]*member, seen map[peer.ID]Seen) []peer.ID {
	ids := make([]peer.ID, 0, len(members))
	for id := range members {
		ids = append(ids, id)
	}
	rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	slices.SortStableFunc(ids, func(x, y peer.ID) int {
		up := func(id peer.ID) int {
			if calls := seen[id].Calls; calls.answered() {
				return 0
			}
			return 1
		}
		return cmp.Compare(up(x), up(y))
	})
	return ids
}

// outOfSight is for how long a host is remembered that is in no roster any more.
const outOfSight = 24 * time.Hour

// forgetHosts drops what was seen of hosts that are in no roster any more: authors change
// rosters as often as they like, and nobody else would ever take them out.
func (k *Keeper) forgetHosts(ctx context.Context, members map[peer.ID]*member, seen map[peer.ID]Seen) {
	for id, s := range seen {
		if members[id] != nil || k.cfg.Now().Sub(s.Calls.Tried) < outOfSight {
			continue
		}
		if err := k.cfg.Store.ForgetHost(ctx, id); err != nil && ctx.Err() == nil {
			k.log.Error("forget a host", "err", err)
		}
	}
}

// beginCall waits for a free line, unless that member is on one already.
func (k *Keeper) beginCall(ctx context.Context, id peer.ID) bool {
	k.mu.Lock()
	_, busy := k.calling[id]
	k.mu.Unlock()
	if busy {
		return false
	}
	select {
	case k.lines <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	k.mu.Lock()
	k.calling[id] = struct{}{}
	k.mu.Unlock()
	return true
}

func (k *Keeper) endCall(id peer.ID) {
	k.mu.Lock()
	delete(k.calling, id)
	k.mu.Unlock()
	<-k.lines
}

// memberAddrs is at how many addresses a member is called, whatever the rosters say: they are other people's word.
const memberAddrs = 32

// member is a host with whom we share rosters.
type member struct {
	info  peer.AddrInfo
	sites []naming.Name
}

// members is everybody in the rosters that this host is in.
func (k *Keeper) members(ctx context.Context) (map[peer.ID]*member, error) {
	sites, err := k.cfg.Service.Standings(ctx)
	if err != nil {
		return nil, err
	}
	// In another order each time: no site has the say over where a member is called.
	rand.Shuffle(len(sites), func(i, j int) { sites[i], sites[j] = sites[j], sites[i] })
	out := make(map[peer.ID]*member)
	for _, st := range sites {
		pol, ok := k.policy(ctx, st.Policy)
		if !ok || !k.concerns(pol, st) {
			continue
		}
		for _, m := range pol.Roster {
			if m.ID == k.cfg.Self {
				continue
			}
			if out[m.ID] == nil {
				out[m.ID] = &member{info: peer.AddrInfo{ID: m.ID}}
			}
			ai, _ := m.AddrInfo() // one whose addresses can't be read may be connected all the same
			known := out[m.ID]
			for _, addr := range ai.Addrs {
				if len(known.info.Addrs) < memberAddrs && !slices.ContainsFunc(known.info.Addrs, addr.Equal) {
					known.info.Addrs = append(known.info.Addrs, addr)
				}
			}
			known.sites = append(known.sites, st.Site)
		}
	}
	return out, nil
}

// call calls one member and writes down what came of it.
func (k *Keeper) call(ctx context.Context, ai peer.AddrInfo) error {
	cctx, cancel := context.WithTimeout(ctx, k.cfg.CallTimeout)
	err := k.cfg.Caller.Call(cctx, ai)
	cancel()
	if ctx.Err() != nil {
		return ctx.Err() // it says nothing
	}
	k.counts.call(err == nil)
	k.look(ctx, ai.ID, err == nil)
	return err
}

func (k *Keeper) look(ctx context.Context, host peer.ID, up bool) {
	if err := k.cfg.Store.Look(ctx, host, k.cfg.Now(), up, k.cfg.Times); err != nil && ctx.Err() == nil {
		k.log.Error("write down a call", "err", err)
	}
}
