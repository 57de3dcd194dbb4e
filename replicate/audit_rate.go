package replicate

import (
	"crypto/sha256"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
)

// maxRateEntries bounds the memory of auditRate. Only allowed verifiers get an
// entry, and one that is full again is dropped, so this is far away.
const maxRateEntries = 1 << 14

// auditRate is a token bucket for each verifier and root set.
type auditRate struct {
	interval time.Duration
	burst    int

	mu   sync.Mutex
	full map[rateKey]time.Time // when the bucket will be full again
}

type rateKey struct {
	verifier peer.ID
	roots    [32]byte
}

func newAuditRate(interval time.Duration, burst int) *auditRate {
	if interval <= 0 {
		interval = AuditInterval
	}
	if burst <= 0 {
		burst = AuditBurst
	}
	return &auditRate{interval: interval, burst: burst, full: make(map[rateKey]time.Time)}
}

// keyOf is the same for any order of the roots: they are the same to read.
func keyOf(verifier peer.ID, roots []cid.Cid) rateKey {
	sorted := make([]string, len(roots))
	for i, r := range roots {
		sorted[i] = r.KeyString()
	}
	slices.Sort(sorted)
	h := sha256.New()
	for _, s := range sorted {
		h.Write([]byte(s))
	}
	return rateKey{verifier, [32]byte(h.Sum(nil))}
}

// take uses up one audit, or says when the next one may be asked for.
func (r *auditRate) take(k rateKey, now time.Time) (until time.Time, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	full := r.full[k]
	if full.Before(now) {
		full = now
	}
	next := full.Add(r.interval)
	if earliest := next.Add(-time.Duration(r.burst) * r.interval); earliest.After(now) {
		return earliest, false
	}
	if _, known := r.full[k]; !known && len(r.full) >= maxRateEntries {
		r.forget(now)
		if len(r.full) >= maxRateEntries {
			return now.Add(r.interval), false
		}
	}
	r.full[k] = next
	return time.Time{}, true
}

// forget drops the buckets that are full.
func (r *auditRate) forget(now time.Time) {
	for k, full := range r.full {
		if !full.After(now) {
			delete(r.full, k)
		}
	}
}

// auditBudget counts what is read for audits in a day (UTC). A day's count may
// be passed by the audits in hand when it is reached.
type auditBudget struct {
	limit int64 // bytes a day; 0: no limit

	mu    sync.Mutex
	day   time.Time
	bytes int64
}

// left tells whether there is something left at that time, and when there is where there isn't.
func (b *auditBudget) left(now time.Time) (until time.Time, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turn(now)
	return b.day.Add(24 * time.Hour), b.limit <= 0 || b.bytes < b.limit
}

// spend counts what was read.
func (b *auditBudget) spend(now time.Time, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turn(now)
	b.bytes += bytes
}

func (b *auditBudget) turn(now time.Time) {
	if day := now.UTC().Truncate(24 * time.Hour); !day.Equal(b.day) {
		b.day, b.bytes = day, 0
	}
}

// WithinBudget tells whether today's bytes for audits are not yet used up.
func (a *Auditor) WithinBudget() bool {
	_, ok := a.spent.left(a.cfg.Now())
	return ok
}
