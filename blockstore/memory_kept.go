package blockstore

import (
	"context"
	"iter"
	"maps"
	"slices"

	"github.com/ipfs/go-cid"
)

// Release implements [Store].
func (m *memory) Release(ctx context.Context, owner string, root cid.Cid) error {
	if err := checkOwner(owner); err != nil {
		return err
	}
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.running.leave()
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.roots[root]; r != nil {
		delete(r.owners, owner)
		if len(r.owners) == 0 {
			delete(m.roots, root)
		}
	}
	return nil
}

// keptBy is what the owner keeps, "" being everybody. The caller holds mu.
func (m *memory) keptBy(owner string) iter.Seq2[cid.Cid, *memoryRoot] {
	return func(yield func(cid.Cid, *memoryRoot) bool) {
		for root, r := range m.roots {
			if _, ok := r.owners[owner]; (ok || owner == "") && !yield(root, r) {
				return
			}
		}
	}
}

// Kept implements [Store].
func (m *memory) Kept(ctx context.Context, owner string) ([]cid.Cid, error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.running.leave()
	m.mu.RLock()
	defer m.mu.RUnlock()
	var roots []cid.Cid
	for root := range m.keptBy(owner) {
		roots = append(roots, root)
	}
	return roots, nil
}

// KeptCIDs implements [Store].
func (m *memory) KeptCIDs(ctx context.Context, root cid.Cid) iter.Seq2[cid.Cid, error] {
	return func(yield func(cid.Cid, error) bool) {
		if err := m.enter(ctx); err != nil {
			yield(cid.Undef, err)
			return
		}
		defer m.running.leave()
		m.mu.RLock()
		r := m.roots[root]
		var cids []cid.Cid
		if r != nil {
			cids = slices.Collect(maps.Keys(r.cids))
		}
		m.mu.RUnlock()
		if r == nil {
			yield(cid.Undef, notFound(root))
			return
		}
		for _, c := range cids {
			if err := ctx.Err(); err != nil {
				yield(cid.Undef, err)
				return
			}
			if !yield(c, nil) {
				return
			}
		}
	}
}

// Usage implements [Store].
func (m *memory) Usage(ctx context.Context, owner string) (Usage, error) {
	if err := m.enter(ctx); err != nil {
		return Usage{}, err
	}
	defer m.running.leave()
	return m.usage(func(_ cid.Cid, r *memoryRoot) (mine, others bool) {
		if owner == "" {
			return true, false
		}
		_, mine = r.owners[owner]
		return mine, !mine || len(r.owners) > 1
	}), nil
}

// GroupUsage implements [Store].
func (m *memory) GroupUsage(ctx context.Context, groups map[string][]string) (map[string]Usage, error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.running.leave()
	all := make(map[string]Usage, len(groups))
	for name, owners := range groups {
		all[name] = m.usage(func(_ cid.Cid, r *memoryRoot) (mine, others bool) {
			for owner := range r.owners {
				if slices.Contains(owners, owner) {
					mine = true
				} else {
					others = true
				}
			}
			return mine, others
		})
	}
	return all, nil
}

// RootUsage implements [Store].
func (m *memory) RootUsage(ctx context.Context, root cid.Cid) (Usage, error) {
	if err := m.enter(ctx); err != nil {
		return Usage{}, err
	}
	defer m.running.leave()
	u := m.usage(func(c cid.Cid, _ *memoryRoot) (mine, others bool) { return c == root, c != root })
	if u.Roots == 0 {
		return Usage{}, notFound(root)
	}
	return u, nil
}

// usage counts the blocks under the roots that which says are mine, and which of
// them are not in a root that somebody else keeps.
func (m *memory) usage(which func(cid.Cid, *memoryRoot) (mine, others bool)) (u Usage) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	mine, others := map[string]struct{}{}, map[string]struct{}{}
	for root, r := range m.roots {
		isMine, isOthers := which(root, r)
		if isMine {
			u.Roots++
		}
		for c := range r.cids {
			if isMine {
				mine[hashString(c)] = struct{}{}
			}
			if isOthers {
				others[hashString(c)] = struct{}{}
			}
		}
	}
	for h := range mine {
		data, ok := m.blocks[h]
		if !ok {
			continue // it lies in its CID
		}
		u.Blocks++
		u.Bytes += int64(len(data))
		if _, shared := others[h]; !shared {
			u.UniqueBytes += int64(len(data))
		}
	}
	return u
}

// Collect implements [Store]. Writers wait for it.
func (m *memory) Collect(ctx context.Context, opts CollectOptions) (Collected, error) {
	if err := m.enter(ctx); err != nil {
		return Collected{}, err
	}
	defer m.running.leave()
	m.mu.Lock()
	defer m.mu.Unlock()
	needed := map[string]struct{}{}
	for _, r := range m.roots {
		for c := range r.cids {
			needed[string(c.Hash())] = struct{}{}
		}
	}
	for _, shielded := range m.sessions {
		maps.Copy(needed, shielded)
	}
	var freed Collected
	for h, data := range m.blocks {
		if _, ok := needed[h]; ok {
			continue
		}
		freed.Blocks++
		freed.Bytes += int64(len(data))
		if !opts.DryRun {
			freed.Disk += int64(len(data))
			delete(m.blocks, h)
		}
	}
	return freed, nil
}
