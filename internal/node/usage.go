package node

import (
	"context"
	"time"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/replicate"
)

// TenantUsage is what one tenant's pins take here. Blocks that several of the
// pins have count once.
type TenantUsage struct {
	ID          string `json:"id"`
	Label       string `json:"label"`
	Revoked     bool   `json:"revoked"` // its token is gone, its pins are not
	Pins        int    `json:"pins"`
	Failing     int    `json:"failing"` // of the pins
	Roots       int    `json:"roots"`
	Blocks      int64  `json:"blocks"`
	Bytes       int64  `json:"bytes"`
	UniqueBytes int64  `json:"unique_bytes"`   // nobody else keeps them: what would come back without the tenant
	Reserved    int64  `json:"reserved_bytes"` // promised beyond bytes
	Quota       int64  `json:"quota_bytes"`    // of both together; 0: no limit
}

// DayTraffic is what came or went this UTC day.
type DayTraffic struct {
	Bytes  int64 `json:"bytes"`
	Budget int64 `json:"budget_bytes"` // 0: no limit
}

// HostUsage is what this host's blocks take, and for whom.
type HostUsage struct {
	Bytes    int64         `json:"bytes"`          // kept, by anybody, each block once
	Reserved int64         `json:"reserved_bytes"` // promised to pins beyond that
	Disk     int64         `json:"disk_bytes"`     // with the index, and what is not collected yet
	Capacity int64         `json:"capacity_bytes"` // of bytes and reserved_bytes; 0: what the disk has
	Free     int64         `json:"free_bytes"`     // for new pins
	Ingress  DayTraffic    `json:"ingress_today"`
	Egress   DayTraffic    `json:"egress_today"`
	Draining *time.Time    `json:"draining_since"` // null: it takes new pins
	Tenants  []TenantUsage `json:"tenants"`
	Balance  []PeerBalance `json:"balance"`
	Failing  []PinLine     `json:"failing"` // pins, the newest first; at most 100
}

// maxFailing bounds the failing pins that usage names; "operator pins" has all.
const maxFailing = 100

// usage tells what each tenant takes, those of revoked tokens too.
func (n *Node) usage(ctx context.Context, _ struct{}) (HostUsage, error) {
	tokens, err := n.state.Tokens(ctx)
	if err != nil {
		return HostUsage{}, err
	}
	used, err := n.usedBy(ctx)
	if err != nil {
		return HostUsage{}, err
	}
	out, err := n.hostUsage(ctx)
	if err != nil {
		return HostUsage{}, err
	}
	failing, err := n.operatorPins(ctx, PinsRequest{Failing: true})
	if err != nil {
		return HostUsage{}, err
	}
	failed := map[string]int{}
	for _, p := range failing.Pins {
		failed[p.Tenant]++
	}
	out.Failing = failing.Pins[:min(len(failing.Pins), maxFailing)]
	accs, err := n.state.Accounts(ctx)
	if err != nil {
		return HostUsage{}, err
	}
	live := map[string]bool{replicate.LocalTenant.ID: true}
	for _, t := range tokens {
		live[t.ID] = true
	}
	for _, a := range accs {
		u := used[a.Tenant]
		out.Tenants = append(out.Tenants, TenantUsage{
			ID: a.Tenant, Label: a.Label, Revoked: !live[a.Tenant], Pins: a.Pins, Failing: failed[a.Tenant],
			Roots: u.Roots, Blocks: u.Blocks, Bytes: u.Bytes, UniqueBytes: u.UniqueBytes, Reserved: a.Reserved, Quota: a.Quota,
		})
	}
	out.Balance, err = n.balances(ctx, tokens, used)
	return out, err
}

// usedBy is what each tenant's pins keep together.
func (n *Node) usedBy(ctx context.Context) (map[string]blockstore.Usage, error) {
	pins, err := n.state.PinsByTenant(ctx)
	if err != nil {
		return nil, err
	}
	groups := make(map[string][]string, len(pins))
	for tenant, ids := range pins {
		for _, id := range ids {
			groups[tenant] = append(groups[tenant], replicate.Owner(id))
		}
	}
	return n.store.GroupUsage(ctx, groups)
}

// hostUsage is the part of usage that is nobody's in particular.
func (n *Node) hostUsage(ctx context.Context) (HostUsage, error) {
	out := HostUsage{Tenants: []TenantUsage{}, Capacity: n.cfg.Pins.Capacity}
	kept, err := n.store.Usage(ctx, "")
	if err != nil {
		return out, err
	}
	host, err := n.state.Account(ctx, "")
	if err != nil {
		return out, err
	}
	if out.Disk, err = n.store.Size(ctx); err != nil {
		return out, err
	}
	since, err := n.drainingSince(ctx)
	if err != nil {
		return out, err
	}
	today := n.traffic.Today()
	if n.traffic == nil { // no host runs here
		if today, err = n.state.Traffic(ctx, time.Now()); err != nil {
			return out, err
		}
	}
	room := replicate.Room{Capacity: n.cfg.Pins.Capacity, Used: kept.Bytes, Free: n.freeDisk()}
	out.Bytes, out.Reserved, out.Free, out.Draining = kept.Bytes, host.Reserved, room.FreeBeside(host), timeOrNil(since)
	out.Ingress = DayTraffic{today.Ingress, n.cfg.Pins.IngressPerDay}
	out.Egress = DayTraffic{today.Egress, n.cfg.Pins.EgressPerDay}
	return out, nil
}
