package e2e

import (
	"runtime"
	"slices"
	"sync"
)

// everybody is the nodes of all tests. Scenarios wait most of the time, for their nodes' clocks and for each
// other's answers, so that many fit beside each other. But nodes have deadlines, and share the processors.
var (
	everybody = &crowd{room: spacious}
	spacious  = 12 * runtime.NumCPU()
)

// crowd lets scenarios in while there is room for their nodes.
type crowd struct {
	mu      sync.Mutex
	room    int
	waiting []arrival // those with most nodes first: they take longest, and are never passed by smaller ones
}

type arrival struct {
	nodes int
	in    chan struct{} // closed when there is room
}

// enter waits for room, which is given back by leave. Who is in must not enter again: two who did
// would wait for each other. Who needs more room than there is comes in alone.
func (c *crowd) enter(nodes int) (leave func()) {
	c.mu.Lock()
	a := arrival{min(nodes, spacious), make(chan struct{})}
	at, _ := slices.BinarySearchFunc(c.waiting, a, func(w, a arrival) int {
		if w.nodes >= a.nodes {
			return -1
		}
		return 1
	})
	c.waiting = slices.Insert(c.waiting, at, a)
	c.admit()
	c.mu.Unlock()
	<-a.in
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.room += a.nodes
		c.admit()
	}
}

// admit is called with mu held.
func (c *crowd) admit() {
	for len(c.waiting) > 0 && c.waiting[0].nodes <= c.room {
		c.room -= c.waiting[0].nodes
		close(c.waiting[0].in)
		c.waiting = c.waiting[1:]
	}
}
