package p2p

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
	madns "github.com/multiformats/go-multiaddr-dns"
)

const (
	retryMin   = time.Second
	retryMax   = time.Minute
	lookAround = 2 * time.Second // between two looks at the kept connections
)

// Connect connects to each of the peers that is not connected yet, at the same time. Addresses
// that may not be dialled are not; a peer that is connected already needs
// none. The errors of all peers that could not be reached are joined.
func (n *Node) Connect(ctx context.Context, infos []peer.AddrInfo) error {
	if n.host == nil {
		return ErrOffline
	}
	return errors.Join(n.connectEach(ctx, infos, n.connect)...)
}

func (n *Node) connectEach(ctx context.Context, infos []peer.AddrInfo, connect func(context.Context, peer.AddrInfo) error) (errs []error) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, ai := range infos {
		wg.Go(func() {
			if err := connect(ctx, ai); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	return errs
}

func (n *Node) connect(ctx context.Context, ai peer.AddrInfo) error {
	if ai.ID == n.id {
		return nil
	}
	if n.isKept(ai.ID) {
		// A peer of ours that was away and is back is not to wait for the swarm's own backoff: ours is kinder.
		if s, ok := n.host.Network().(*swarm.Swarm); ok {
			s.Backoff().Clear(ai.ID)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.ConnectTimeout)
	defer cancel()
	// Strangers may have filled the book of addresses. Those of connected peers are taken even so.
	book := n.host.Peerstore()
	book.AddAddrs(ai.ID, ai.Addrs, peerstore.ConnectedAddrTTL)
	err := n.host.Connect(ctx, ai)
	if n.host.Network().Connectedness(ai.ID) != network.Connected {
		book.UpdateAddrs(ai.ID, peerstore.ConnectedAddrTTL, peerstore.TempAddrTTL)
	}
	if err != nil {
		return &dialError{ai.ID, err}
	}
	return nil
}

// dialError says in one line why a peer could not be reached: the swarm says it in several.
type dialError struct {
	peer peer.ID
	err  error
}

func (e *dialError) Error() string {
	var dial *swarm.DialError
	if !errors.As(e.err, &dial) || len(dial.DialErrors) == 0 {
		return fmt.Sprintf("connect to %s: %v", e.peer, e.err)
	}
	var causes []string
	for _, te := range dial.DialErrors {
		causes = append(causes, te.Cause.Error())
	}
	if dial.Skipped > 0 {
		causes = append(causes, fmt.Sprintf("and %d addresses more", dial.Skipped))
	}
	return fmt.Sprintf("connect to %s: %s", e.peer, strings.Join(causes, "; "))
}

// Unwrap is the swarm's own error.
func (e *dialError) Unwrap() error { return e.err }

// Trust adds peers that the operator named to those that Serve keeps connected. Their
// exact addresses may be dialled even when they are private.
func (n *Node) Trust(infos ...peer.AddrInfo) {
	for _, ai := range infos {
		if ai.ID == n.id {
			continue
		}
		n.gate.trust(ai.ID, ai.Addrs...)
		n.mu.Lock()
		known := n.peers[ai.ID]
		for _, a := range ai.Addrs {
			if !ma.Contains(known.Addrs, a) {
				known.Addrs = append(known.Addrs[:len(known.Addrs):len(known.Addrs)], a)
			}
		}
		known.ID = ai.ID
		n.peers[ai.ID] = known
		n.mu.Unlock()
	}
	select {
	case n.more <- struct{}{}:
	default:
	}
}

func (n *Node) trustTexts(texts []string) error {
	for _, text := range texts {
		id, addr, err := parsePeerAddr(text)
		if err != nil {
			return fmt.Errorf("%w: peer: %w", ErrConfig, err)
		}
		if addr == nil {
			return fmt.Errorf("%w: peer %s has no address", ErrConfig, text)
		}
		n.Trust(peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{addr}})
	}
	return nil
}

// trustedPeers is the peers to keep connected; on the public network the
// library's bootstrap peers seed the DHT too.
func (n *Node) trustedPeers() []peer.AddrInfo {
	n.mu.Lock()
	defer n.mu.Unlock()
	var infos []peer.AddrInfo
	for _, ai := range n.peers {
		infos = append(infos, ai)
	}
	if n.cfg.Network == Public {
		infos = append(infos, dht.GetDefaultBootstrapPeerAddrInfos()...)
	}
	return infos
}

// connectTrusted also lets the addresses be dialled that a trusted name
// stands for at the moment.
func (n *Node) connectTrusted(ctx context.Context, ai peer.AddrInfo) error {
	for _, a := range ai.Addrs {
		if madns.Matches(a) {
			resolved, err := n.dns.Resolve(ctx, a)
			if err != nil {
				continue // the dial fails with the reason
			}
			for _, r := range resolved {
				t, _ := peer.SplitAddr(r)
				n.gate.trust(ai.ID, t)
			}
		}
	}
	n.host.ConnManager().Protect(ai.ID, "kept")
	return n.connect(ctx, ai)
}

// keepConnected looks at every kept peer now and then, and reconnects the ones that are gone, each
// with its own backoff. It depends on no event: what it sees is enough.
func (n *Node) keepConnected(ctx context.Context) {
	if err := n.dht.Bootstrap(ctx); err != nil {
		n.log.Warn("dht bootstrap", "err", err)
	}
	type attempt struct {
		next  time.Time
		delay time.Duration
	}
	attempts := map[peer.ID]*attempt{}
	tick := time.NewTicker(lookAround)
	defer tick.Stop()
	for {
		var due []peer.AddrInfo
		for _, ai := range n.kept() {
			a := attempts[ai.ID]
			if a == nil {
				a = &attempt{}
				attempts[ai.ID] = a
			}
			switch {
			case n.host.Network().Connectedness(ai.ID) == network.Connected:
				*a = attempt{}
			case !time.Now().Before(a.next):
				a.delay = min(max(2*a.delay, retryMin), retryMax)
				a.next = time.Now().Add(a.delay/2 + rand.N(a.delay))
				due = append(due, ai)
			}
		}
		n.connectEach(ctx, due, func(ctx context.Context, ai peer.AddrInfo) error {
			err := n.connectTrusted(ctx, ai)
			if err != nil && ctx.Err() == nil {
				n.log.Info("peer not reached", "peer", ai.ID, "err", err)
			}
			return err
		})
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-n.more:
		}
	}
}

func (n *Node) isKept(id peer.ID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, ok := n.peers[id]
	return ok
}

// kept is the peers that the operator named.
func (n *Node) kept() []peer.AddrInfo {
	n.mu.Lock()
	defer n.mu.Unlock()
	infos := make([]peer.AddrInfo, 0, len(n.peers))
	for _, ai := range n.peers {
		infos = append(infos, ai)
	}
	return infos
}
