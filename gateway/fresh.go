package gateway

import (
	"time"

	"github.com/holdfast-sites/holdfast/naming"
)

// chainUntil is until when the outcome need not be asked for again, unless the
// names change. One that is being asked for anew (no ttl is left) is used
// meanwhile, as the resolver does, but not past its life.
func chainUntil(chain []naming.Resolution, ttl time.Duration, now time.Time) time.Time {
	d := bindingTime
	if ttl > 0 {
		d = min(d, ttl)
	}
	for _, r := range chain {
		d = min(d, r.Record.ValidUntil().Sub(now))
	}
	return now.Add(d)
}

// chainTTL is for how long the outcome of a resolution may be kept: no longer
// than any record of the chain is fresh, or lives. Where nobody signed anything
// nobody promised anything.
func chainTTL(chain []naming.Resolution, now time.Time) time.Duration {
	var ttl time.Duration
	for i, r := range chain {
		t := min(r.Fresh, r.Record.ValidUntil().Sub(now))
		if i == 0 || t < ttl {
			ttl = t
		}
	}
	return max(ttl, 0)
}
