package replicate

import (
	"context"
	"errors"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/multiformats/go-multistream"
)

// Alive pings a peer, over the connection there is or a new one to an address that h knows. It is nil when the peer
// answers anything at all before ctx ends, even that it doesn't speak the protocol, or has no room for another stream:
// a few pings at a time are all that libp2p allows one peer.
func Alive(ctx context.Context, h host.Host, id peer.ID) error {
	ctx, cancel := context.WithCancel(ctx) // or it pings on
	defer cancel()
	select {
	case res := <-ping.Ping(ctx, h, id):
		if res.Error == nil && res.RTT == 0 {
			return ctx.Err() // closed without a result
		}
		if isAnswer(res.Error) {
			return nil
		}
		return res.Error
	case <-ctx.Done():
		return ctx.Err()
	}
}

// isAnswer tells whether the other side has said itself that a stream is not to be.
func isAnswer(err error) bool {
	var unknown multistream.ErrNotSupported[protocol.ID]
	var reset *network.StreamError
	return errors.As(err, &unknown) || errors.As(err, &reset) && reset.Remote && reset.ErrorCode == network.StreamResourceLimitExceeded
}
