package p2p

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/blockstore"
)

func TestOthersAreToldTheAnnouncedAddresses(t *testing.T) {
	const outside = "/ip4/127.0.0.1/tcp/4999"
	one := open(t, func(c *Config) { c.Announce = []string{outside} })
	if got := one.Addrs(); len(got) != 1 || got[0] != outside+"/p2p/"+one.ID().String() {
		t.Errorf("announced: %v", got)
	}
	if got := one.Listening(); len(got) == 0 || got[0] == outside {
		t.Errorf("listened on: %v", got)
	}
	two := open(t)
	real := peer.AddrInfo{ID: one.ID(), Addrs: one.Host().Network().ListenAddresses()}
	if err := two.Connect(deadline(t, time.Minute), []peer.AddrInfo{real}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the announced address reaches the other side", func() bool {
		for _, a := range two.Host().Peerstore().Addrs(one.ID()) {
			if a.String() == outside {
				return true
			}
		}
		return false
	})
}

func TestAnAnnouncedAddressThatCanNotBeOneIsRefused(t *testing.T) {
	for _, a := range []string{"", "example.org:4001", "/ip4/300.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/1/p2p/" + alice} {
		_, err := Open(t.Context(), Config{Identity: newKey(t), Store: blockstore.NewMemory(), Announce: []string{a}})
		if !errors.Is(err, ErrConfig) {
			t.Errorf("%q: %v", a, err)
		}
	}
}

// What failed in the background a moment ago must not fail what a user asks for now.
func TestAPeerOfOursIsDialledAnewAfterAFailure(t *testing.T) {
	var dials atomic.Int32
	one := open(t)
	two := open(t, func(c *Config) {
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if dials.Add(1) == 1 {
				return nil, errors.New("the cable is out")
			}
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}
	})
	two.Trust(info(t, one))
	for dials.Load() == 0 {
		if err := two.Connect(deadline(t, time.Minute), []peer.AddrInfo{info(t, one)}); err == nil {
			t.Fatal("connected without a cable")
		}
	}
	if err := two.Connect(deadline(t, time.Minute), []peer.AddrInfo{info(t, one)}); err != nil {
		t.Errorf("the second time: %v", err)
	}
}
