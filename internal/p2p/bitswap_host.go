package p2p

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/ipfs/boxo/bitswap/server"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

const (
	// swapStall is how long a peer may take none of what it asked for. boxo waits by size, up to two minutes, and
	// as long one of its workers serves nobody else.
	swapStall = 15 * time.Second
	// swapQuantum is the bytes that it has to take in that time.
	swapQuantum = 32 << 10
	// swapWorkers is how many messages are being sent at once, so that some peers that stall leave
	// most of them to the others.
	swapWorkers = 64
)

// swapHost is the host as bitswap sees it. It makes up for two things that boxo lets strangers do: to keep a worker busy by
// reading nothing, and to leave wants behind that are remembered for ever, since messages that are
// worked on after their sender is gone count for a peer that nobody will say is gone.
type swapHost struct {
	host.Host
	server atomic.Pointer[server.Server] // nil until bitswap runs
}

func newSwapHost(h host.Host) *swapHost {
	s := &swapHost{Host: h}
	h.Network().Notify(&network.NotifyBundle{DisconnectedF: func(_ network.Network, c network.Conn) { s.forget(c.RemotePeer()) }})
	return s
}

// forget has bitswap forget the wants of a peer that is gone. It may be told so twice.
func (s *swapHost) forget(id peer.ID) {
	if b := s.server.Load(); b != nil && s.Network().Connectedness(id) != network.Connected {
		b.PeerDisconnected(id)
	}
}

// SetStreamHandler implements host.Host.
func (s *swapHost) SetStreamHandler(p protocol.ID, handle network.StreamHandler) {
	s.Host.SetStreamHandler(p, func(in network.Stream) {
		defer s.forget(in.Conn().RemotePeer())
		handle(in)
	})
}

// NewStream implements host.Host.
func (s *swapHost) NewStream(ctx context.Context, id peer.ID, ps ...protocol.ID) (network.Stream, error) {
	out, err := s.Host.NewStream(ctx, id, ps...)
	if err != nil {
		return nil, err
	}
	return &swapStream{Stream: out}, nil
}

// swapStream ends with its connection when the peer takes nothing for swapStall: its other streams wait in vain too.
type swapStream struct {
	network.Stream
	deadline time.Time // as set by bitswap; zero: none
}

// SetWriteDeadline implements network.Stream.
func (s *swapStream) SetWriteDeadline(t time.Time) error {
	s.deadline = t
	return s.Stream.SetWriteDeadline(t)
}

// Write implements network.Stream.
func (s *swapStream) Write(p []byte) (n int, err error) {
	for n < len(p) {
		stall := time.Now().Add(swapStall)
		last := !s.deadline.IsZero() && s.deadline.Before(stall)
		if last {
			stall = s.deadline
		}
		if err := s.Stream.SetWriteDeadline(stall); err != nil {
			return n, err
		}
		m, err := s.Stream.Write(p[n:min(len(p), n+swapQuantum)])
		n += m
		if err != nil {
			if !last && !time.Now().Before(stall) {
				_ = s.Conn().Close() // it is of no use, and may be gone already
			}
			return n, err
		}
	}
	return n, nil
}
