package replicate

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// errRate says that a token has made more requests than it may.
var errRate = errors.New("too many requests")

// rateError says when there may be another request.
type rateError struct {
	rate  int // requests a minute
	after time.Duration
}

func (e *rateError) Error() string {
	return fmt.Sprintf("%v: this token is good for %d a minute", errRate, e.rate)
}

func (e *rateError) Unwrap() error { return errRate }

// rates holds each token to its rate: a minute's worth at once, and then as they come back, evenly. Its zero value
// is ready to use. It is this process's own: several processes of one host let through as many times more.
type rates struct {
	mu   sync.Mutex
	full map[string]time.Time // by tenant: when it would have a whole minute's worth again
}

const maxRates = 10_000 // tenants; beyond, those who have all of theirs are forgotten

// take is one request of a tenant. A *rateError where it comes too early.
func (r *rates) take(tenant string, perMinute int, now time.Time) error {
	if perMinute <= 0 {
		return nil
	}
	each := time.Minute / time.Duration(perMinute)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.full == nil {
		r.full = make(map[string]time.Time)
	}
	if len(r.full) >= maxRates {
		for id, at := range r.full {
			if !at.After(now) {
				delete(r.full, id)
			}
		}
	}
	full := r.full[tenant]
	if full.Before(now) || full.Sub(now) > time.Minute { // more than a minute's worth was never lent: the clock went back
		full = now
	}
	full = full.Add(each)
	if wait := full.Sub(now.Add(time.Minute)); wait > 0 {
		return &rateError{perMinute, wait}
	}
	r.full[tenant] = full
	return nil
}
