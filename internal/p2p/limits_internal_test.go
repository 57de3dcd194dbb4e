package p2p

import (
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
)

func TestOnlyStrangersAreLimitedInHowOftenTheyConnect(t *testing.T) {
	const often = 100
	for _, c := range []struct {
		private bool
		addr    string
		all     bool
	}{
		{true, "/ip4/10.77.0.1/tcp/4001", true},
		{true, "/ip6/fd00::1/tcp/4001", true},
		{true, "/ip4/127.0.0.1/tcp/4001", true},
		{true, "/ip4/203.0.113.1/tcp/4001", false},
		{true, "/ip6/2001:db8::1/tcp/4001", false},
		{false, "/ip4/10.77.0.1/tcp/4001", false},
		{false, "/ip4/127.0.0.1/tcp/4001", true},
	} {
		m, err := resourceManager(c.private)
		if err != nil {
			t.Fatal(err)
		}
		opened := 0
		for range often {
			scope, err := m.OpenConnection(network.DirInbound, false, ma.StringCast(c.addr))
			if err != nil {
				continue
			}
			opened++
			scope.Done()
		}
		if (opened == often) != c.all || opened == 0 {
			t.Errorf("private networks dialled %t, %s: %d of %d connections", c.private, c.addr, opened, often)
		}
		m.Close()
	}
}
