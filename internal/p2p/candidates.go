package p2p

import (
	"context"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Anybody can announce anybody's blocks, a thousand times over, and the one that has them may be the last of them. So
// many providers are tried, few at a time, and those that are of no use are let go of.
const (
	maxCandidates    = 2048 // providers of one CID that one search tries
	candidatesAtOnce = 32   // of one search: being dialled, or connected and not heard of
	candidatesHeld   = 64   // of one search: connected, heard of, and of no use so far
	candidateErrors  = 8    // failures that one search reports: the others who were asked are to be named too
	candidateShare   = 8    // each may take this part of IdleTimeout to be reached, and to say whether it has something
)

// candidates is one search among the providers of a CID.
type candidates struct {
	node *Node
	said *answers

	mu     sync.Mutex
	failed int
	held   []candidate // the longest first
}

type candidate struct {
	id    peer.ID
	trial *trial
}

// tryProviders connects to whoever provides c and may have what is waited for, until all have been tried or ctx ends.
// Bitswap asks new connections for what is still wanted.
func (n *Node) tryProviders(ctx context.Context, c cid.Cid, said *answers) {
	s := &candidates{node: n, said: said}
	defer s.end()
	slots := make(chan struct{}, candidatesAtOnce)
	var wg sync.WaitGroup
	defer wg.Wait()
	for ai := range n.find.search(ctx, c, maxCandidates) {
		if ai.ID == n.id || n.host.Network().Connectedness(ai.ID) == network.Connected {
			continue // is asked anyway
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		wg.Go(func() {
			defer func() { <-slots }()
			s.try(ctx, ai)
		})
	}
}

// try connects to a peer and waits until it has said whether it has something of what is waited for.
func (s *candidates) try(ctx context.Context, ai peer.AddrInfo) {
	trial := s.node.swap.waits.try(ai.ID)
	patience := s.node.cfg.IdleTimeout / candidateShare
	dctx, cancel := context.WithTimeout(ctx, patience)
	err := s.node.connect(dctx, ai)
	cancel()
	if err != nil {
		s.fail(ctx, ai.ID, err)
		s.letGo(candidate{ai.ID, trial}) // there may be a connection, of somebody who never says what it speaks
		return
	}
	word := time.NewTimer(patience)
	defer word.Stop()
	select {
	case <-trial.heard:
	case <-word.C:
	case <-ctx.Done():
	}
	s.hold(candidate{ai.ID, trial})
}

func (s *candidates) fail(ctx context.Context, id peer.ID, err error) {
	s.mu.Lock()
	s.failed++
	tell := s.failed <= candidateErrors && ctx.Err() == nil
	s.mu.Unlock()
	if tell {
		s.said.note(id, "not reached: %v", err)
	}
}

// hold keeps a connection for a while, since who lacks one block may have the next, and closes the one held longest
// where there are too many.
func (s *candidates) hold(c candidate) {
	s.mu.Lock()
	s.held = append(s.held, c)
	var oldest candidate
	if len(s.held) > candidatesHeld {
		oldest, s.held = s.held[0], s.held[1:]
	}
	s.mu.Unlock()
	if oldest.id != "" {
		s.letGo(oldest)
	}
}

// letGo closes the connection to a candidate, unless it was of use or is wanted for something else.
func (s *candidates) letGo(c candidate) {
	n := s.node
	if n.swap.waits.forget(c.id, c.trial) || n.isKept(c.id) || n.host.ConnManager().IsProtected(c.id, "") {
		return
	}
	_ = n.host.Network().ClosePeer(c.id) // it may be gone already
}

// end leaves the connections to the connection manager.
func (s *candidates) end() {
	for _, c := range s.held {
		s.node.swap.waits.forget(c.id, c.trial)
	}
}
