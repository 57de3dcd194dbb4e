package blockstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"iter"

	"github.com/ipfs/go-cid"
)

// Begin implements [Store].
func (m *memory) Begin(ctx context.Context, id string) (Session, error) {
	if err := checkName("session id", id); err != nil {
		return nil, err
	}
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.running.leave()
	if id == "" {
		id = rand.Text()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sessions[id] != nil {
		return nil, fmt.Errorf("%w: %q", ErrSessionOpen, id)
	}
	m.sessions[id] = map[string]struct{}{}
	return &memorySession{m: m, id: id}, nil
}

type memorySession struct {
	m      *memory
	id     string
	closed bool // guarded by m.mu
}

// ID implements [Session].
func (s *memorySession) ID() string { return s.id }

// with runs f alone, with what the session shields.
func (s *memorySession) with(ctx context.Context, f func(shielded map[string]struct{}) error) error {
	if err := s.m.enter(ctx); err != nil {
		return err
	}
	defer s.m.running.leave()
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	return f(s.m.sessions[s.id])
}

// Put implements [Session].
func (s *memorySession) Put(ctx context.Context, blks ...Block) (Added, error) {
	if err := checkAll(blks); err != nil {
		return Added{}, err
	}
	var added Added
	err := s.with(ctx, func(shielded map[string]struct{}) error {
		for _, b := range blks {
			h := string(b.cid.Hash())
			shielded[h] = struct{}{}
			if s.m.info(b.cid).Present {
				continue
			}
			s.m.blocks[h] = bytes.Clone(b.data)
			added.Blocks++
			added.Bytes += int64(b.Size())
		}
		return nil
	})
	return added, err
}

// Shield implements [Session].
func (s *memorySession) Shield(ctx context.Context, cids []cid.Cid) ([]Info, error) {
	infos := make([]Info, 0, len(cids))
	for _, c := range cids {
		if err := CheckCID(c); err != nil {
			return nil, err
		}
	}
	err := s.with(ctx, func(shielded map[string]struct{}) error {
		for _, c := range cids {
			shielded[string(c.Hash())] = struct{}{}
			infos = append(infos, s.m.info(c))
		}
		return nil
	})
	return infos, err
}

// Sync implements [Session].
func (s *memorySession) Sync(ctx context.Context) error {
	return s.with(ctx, func(map[string]struct{}) error { return nil })
}

// Keep implements [Session].
func (s *memorySession) Keep(ctx context.Context, owner string, root cid.Cid, cids iter.Seq[cid.Cid]) error {
	if err := checkOwner(owner); err != nil {
		return err
	}
	all, err := inDAG(ctx, root, cids)
	if err != nil {
		return err
	}
	return s.with(ctx, func(map[string]struct{}) error {
		for _, c := range all {
			if !s.m.info(c).Present {
				return notFound(c)
			}
		}
		r := s.m.roots[root]
		if r == nil {
			r = &memoryRoot{owners: map[string]struct{}{}, cids: map[cid.Cid]struct{}{}}
			s.m.roots[root] = r
		}
		r.owners[owner] = struct{}{}
		for _, c := range all {
			r.cids[c] = struct{}{}
		}
		return nil
	})
}

// Close implements [Session].
func (s *memorySession) Close() error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if !s.closed {
		s.closed = true
		delete(s.m.sessions, s.id)
	}
	return nil
}
