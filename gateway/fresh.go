package gateway

import (
	"time"

	"github.com/holdfast-sites/holdfast/naming"
)

// chainTTL is for how long the outcome of a resolution may be kept: no longer
// than any record of the chain is fresh, or lives.
func chainTTL(chain []naming.Resolution, now time.Time) time.Duration {
	ttl := naming.DefaultTTL
	for i, r := range chain {
		t := min(r.Fresh, r.Record.ValidUntil().Sub(now))
		if i == 0 || t < ttl {
			ttl = t
		}
	}
	return max(ttl, 0)
}
