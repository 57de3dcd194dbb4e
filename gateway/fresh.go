package gateway

import (
	"sync"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
)

// maxFresh bounds how many names' ages are remembered.
const maxFresh = 4096

// freshness remembers until when each name's record counts as fresh. A record
// from the resolver's cache has used up a part of its TTL already; were the
// whole TTL passed on, a browser could be late by twice of it. The zero value is ready.
type freshness struct {
	mu    sync.Mutex
	names map[naming.Name]freshRecord
}

type freshRecord struct {
	sequence uint64
	until    time.Time
}

// chainTTL is for how long the outcome of a resolution may be kept: no longer
// than any record of the chain is fresh, or lives.
func (f *freshness) chainTTL(chain []naming.Resolution, now time.Time) time.Duration {
	ttl := naming.DefaultTTL
	for i, r := range chain {
		t := min(f.remaining(r, now), r.Record.ValidUntil().Sub(now))
		if i == 0 || t < ttl {
			ttl = t
		}
	}
	return max(ttl, 0)
}

func (f *freshness) remaining(r naming.Resolution, now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	name, seq := r.Record.Name(), r.Record.Sequence()
	if known, ok := f.names[name]; ok && r.Source == naming.SourceCache && known.sequence == seq {
		return known.until.Sub(now)
	}
	if f.names == nil || len(f.names) >= maxFresh {
		f.names = map[naming.Name]freshRecord{}
	}
	f.names[name] = freshRecord{seq, now.Add(r.Record.TTL())}
	return r.Record.TTL()
}
