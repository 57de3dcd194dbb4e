package node

import (
	"context"

	"github.com/holdfast-sites/holdfast/replicate"
)

// TenantUsage is what one tenant's pins take here. Blocks that several of the
// pins have count once.
type TenantUsage struct {
	ID          string `json:"id"`
	Label       string `json:"label"`
	Pins        int    `json:"pins"`
	Roots       int    `json:"roots"`
	Blocks      int64  `json:"blocks"`
	Bytes       int64  `json:"bytes"`
	UniqueBytes int64  `json:"unique_bytes"` // nobody else keeps them: what would come back without the tenant
}

// HostUsage is what this host's blocks take, and for whom.
type HostUsage struct {
	Bytes   int64         `json:"bytes"`      // kept, by anybody, each block once
	Disk    int64         `json:"disk_bytes"` // with the index, and what is not collected yet
	Tenants []TenantUsage `json:"tenants"`
}

// usage tells what each tenant takes, those of revoked tokens too.
func (n *Node) usage(ctx context.Context, _ struct{}) (HostUsage, error) {
	tokens, err := n.state.Tokens(ctx)
	if err != nil {
		return HostUsage{}, err
	}
	pins, err := n.state.PinsByTenant(ctx)
	if err != nil {
		return HostUsage{}, err
	}
	groups := make(map[string][]string, len(pins))
	for tenant, ids := range pins {
		for _, id := range ids {
			groups[tenant] = append(groups[tenant], replicate.Owner(id))
		}
	}
	used, err := n.store.GroupUsage(ctx, groups)
	if err != nil {
		return HostUsage{}, err
	}
	kept, err := n.store.Usage(ctx, "")
	if err != nil {
		return HostUsage{}, err
	}
	out := HostUsage{Bytes: kept.Bytes, Tenants: []TenantUsage{}}
	if out.Disk, err = n.store.Size(ctx); err != nil {
		return HostUsage{}, err
	}
	add := func(id, label string) {
		u := used[id]
		out.Tenants = append(out.Tenants, TenantUsage{
			ID: id, Label: label, Pins: len(pins[id]), Roots: u.Roots, Blocks: u.Blocks, Bytes: u.Bytes, UniqueBytes: u.UniqueBytes,
		})
		delete(pins, id)
	}
	for _, t := range tokens {
		add(t.ID, t.Label)
	}
	for id := range pins {
		add(id, "")
	}
	return out, nil
}
