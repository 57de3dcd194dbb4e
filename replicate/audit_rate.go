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
	mu   sync.Mutex
	full map[rateKey]time.Time // when the bucket will be full again
}

type rateKey struct {
	verifier peer.ID
	roots    [32]byte
}

func newAuditRate() *auditRate { return &auditRate{full: make(map[rateKey]time.Time)} }

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
	next := full.Add(AuditInterval)
	if earliest := next.Add(-AuditBurst * AuditInterval); earliest.After(now) {
		return earliest, false
	}
	if _, known := r.full[k]; !known && len(r.full) >= maxRateEntries {
		r.forget(now)
		if len(r.full) >= maxRateEntries {
			return now.Add(AuditInterval), false
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
