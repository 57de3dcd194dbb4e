package replicate

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	defaultPause = time.Second      // of a service that is busy and doesn't say for how long
	soon         = 10 * time.Second // a pause that a call waits for by itself
	longestPause = time.Minute      // between two looks of Wait
	longestAfter = 24 * time.Hour   // that a service can make us wait
	busyTries    = 3                // of one call
)

// BusyError says that a service wants to be asked again later: 429, or 503 with Retry-After. It is what it wraps, an
// ErrUnavailable.
type BusyError struct {
	After time.Duration // from the answer on, 0 to 24 h, whatever the service says
	Again bool          // it has not begun with the request (429)
	Err   error
}

func (e *BusyError) Error() string { return e.Err.Error() }

// Unwrap is the error without the time.
func (e *BusyError) Unwrap() error { return e.Err }

// again tells whether a call may ask once more by itself: soon, and where nothing can be done twice by that.
func (e *BusyError) again(method string, tries int) bool {
	return tries < busyTries && e.After <= soon && (e.Again || method != http.MethodPost)
}

// asBusy adds to an error when to come back, where the answer says so.
func asBusy(resp *http.Response, err error) error {
	after, said := retryAfter(resp.Header.Get("Retry-After"), time.Now())
	switch resp.StatusCode {
	case http.StatusTooManyRequests:
		return &BusyError{After: after, Again: true, Err: err}
	case http.StatusServiceUnavailable:
		if said {
			return &BusyError{After: after, Err: err}
		}
	}
	return err
}

// retryAfter reads the header (RFC 9110, 10.2.3), in seconds or as a date, and keeps it within bounds.
func retryAfter(header string, now time.Time) (after time.Duration, said bool) {
	header = strings.TrimSpace(header)
	if header == "" {
		return defaultPause, false
	}
	if at, err := http.ParseTime(header); err == nil {
		return min(max(at.Sub(now), 0), longestAfter), true
	}
	digits := strings.TrimLeft(header, "0123456789")
	if digits != "" {
		return defaultPause, false
	}
	n, err := strconv.ParseInt(header, 10, 64)
	if err != nil || n > int64(longestAfter/time.Second) { // more digits than a number has
		return longestAfter, true
	}
	return time.Duration(n) * time.Second, true
}

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < d {
		return context.DeadlineExceeded // it would end first
	}
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
