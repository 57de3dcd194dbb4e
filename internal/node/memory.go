package node

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Go keeps as much memory again as is in use, so that collections are rare. While
// requests come in that is well spent. A node that has come to rest (a thousand
// connections wait, and ask nothing) gives it back to the system.

const (
	restInterval = 2 * time.Second
	restAllocs   = 8 << 20  // bytes that are allocated in an interval: with less the node is at rest
	restSlack    = 16 << 20 // bytes that must be there to be given back, for it to be worth a collection
	restSettled  = 3        // intervals after which what served the connections that ask nothing is no longer needed (gateway's lobby)
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
	quiet  int  // intervals
	gave   bool // nothing has happened since
}

// due tells whether the node has been at rest for an interval, and holds what it
// doesn't need; or has settled, which only a collection can tell the good of. After that it has to work before it does so again.
func (r *rest) due(now memoryUse) bool {
	worked := now.allocated-r.before.allocated >= restAllocs
	r.before = now
	if worked {
		r.quiet, r.gave = 0, false
		return false
	}
	r.quiet++
	if r.quiet != restSettled && (r.gave || now.held < now.live+restSlack) {
		return false
	}
	r.gave = true
	return true
}

// giveBack returns memory to the system whenever the node has come to rest.
func giveBack(ctx context.Context) error {
	t := time.NewTicker(restInterval)
	defer t.Stop()
	r := rest{before: readMemory()}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			if r.due(readMemory()) {
				runtime.GC() // what sync.Pools keep goes with the second one
				debug.FreeOSMemory()
				r.before = readMemory()
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
