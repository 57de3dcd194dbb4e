package node

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Go collects when there is as much garbage as there is in use: of a small node, several times a second while requests come in,
// and each time some of them wait. There is no setting for the least of it, so that something must seem to be in use.
// A node that has come to rest (a thousand connections wait, and ask nothing) gives what it doesn't need back to the system.

const (
	restInterval = 2 * time.Second
	restAllocs   = 8 << 20  // bytes that are allocated in an interval: with less the node is at rest
	restSlack    = 16 << 20 // bytes that must be there to be given back, at least, for it to be worth a collection
	restSettled  = 3        // intervals after which what served the connections that ask nothing is no longer needed (gateway's lobby)
	ballastSize  = 16 << 20 // bytes that seem to be in use
)

// usage of memory, in bytes.
type memoryUse struct {
	allocated uint64 // since the process began
	held      uint64 // of the system's, for the heap
	live      uint64 // of what was held as the last collection ended
}

// rest decides when memory is given back.
type rest struct {
	before memoryUse
	left   uint64 // held when memory was last given back
	quiet  int    // intervals
}

// due tells whether the node has been at rest for an interval, and holds what it doesn't need; or has settled, which only a collection
// can tell the good of.
func (r *rest) due(now memoryUse) bool {
	worked := now.allocated-r.before.allocated >= restAllocs
	r.before = now
	if worked {
		r.quiet = 0
		return false
	}
	r.quiet++
	needed := max(now.live, r.left)
	return r.settled() || now.held >= needed+max(restSlack, needed/2)
}

func (r *rest) settled() bool { return r.quiet == restSettled }

// gave says what is left when memory was given back.
func (r *rest) gave(now memoryUse) { r.before, r.left = now, now.held }

// tendMemory returns memory to the system whenever the node has come to rest, and has it collect less often while it works.
func tendMemory(ctx context.Context) error {
	ballast := make([]byte, ballastSize) // nobody touches it, so that the system never has to provide it
	defer runtime.KeepAlive(ballast)
	t := time.NewTicker(restInterval)
	defer t.Stop()
	r := rest{before: readMemory()}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			if r.due(readMemory()) {
				if r.settled() {
					runtime.GC() // what sync.Pools keep goes with the second one
				}
				debug.FreeOSMemory()
				r.gave(readMemory())
			}
		}
	}
}

func readMemory() memoryUse {
	s := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(s)
	return memoryUse{
		allocated: s[0].Value.Uint64(), live: s[1].Value.Uint64(),
		held: s[2].Value.Uint64() + s[3].Value.Uint64() + s[4].Value.Uint64(),
	}
}
