package gateway

import (
	"net"
	"net/netip"
	"sync"
)

// crowd counts connections, those of each client too. Safe for concurrent use.
type crowd struct {
	most, share int // of all, of one client

	mu      sync.Mutex
	all     int
	clients map[netip.Addr]int // those that have any
}

// enter counts one more from the address, unless that were too many. Else leave has to follow, once.
func (c *crowd) enter(from net.Addr) bool {
	key := crowdKey(from)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all >= c.most || c.clients[key] >= c.share {
		return false
	}
	if c.clients == nil {
		c.clients = map[netip.Addr]int{}
	}
	c.all++
	c.clients[key]++
	return true
}

func (c *crowd) leave(from net.Addr) {
	key := crowdKey(from)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all--
	if c.clients[key]--; c.clients[key] == 0 {
		delete(c.clients, key)
	}
}

// of is how many are the client's.
func (c *crowd) of(from net.Addr) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clients[crowdKey(from)]
}

// crowdKey is what counts as one client; the zero address is whoever has none.
func crowdKey(from net.Addr) netip.Addr {
	udp, ok := from.(*net.UDPAddr)
	if !ok || !udp.AddrPort().IsValid() {
		return netip.Addr{}
	}
	return clientKey(udp.AddrPort().Addr().Unmap().WithZone(""))
}
