package replicate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	callTime       = 30 * time.Second // for one call
	maxAnswerBytes = 32 << 20         // a page of 1000 pins with all their meta is less
	maxErrorBytes  = 64 << 10
	patience       = 20 * time.Second // of Wait with a host that does not answer
	leastToken     = 8                // shorter ones are not looked for in texts: they are no secret, and would be found in any word
)

// Client speaks the Pinning Service API 1.0.0 with one host. Errors:
// ErrUnauthorized (401), ErrForbidden (403 of our own hosts), ErrNotFound (404), ErrQuota (409), ErrInvalid (other 4xx, and answers that
// break the specification), ErrUnavailable (429, 5xx, redirects, and everything
// that kept an answer from coming; a BusyError where the service says when to come back). None of them contains the
// token. Safe for concurrent use.
type Client struct {
	base  string
	token string
	http  *http.Client
}

// NewClient speaks with the service at base, the URL to which /pins is
// appended. Redirects are refused: they would carry the token elsewhere. nil hc: a client of its own.
func NewClient(base, token string, hc *http.Client) *Client {
	c := http.Client{}
	if hc != nil {
		c = *hc
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{base: strings.TrimRight(base, "/"), token: token, http: &c}
}

// String is the base URL.
func (c *Client) String() string { return c.base }

// GoString is String: %#v would show the token.
func (c *Client) GoString() string { return c.String() }

// LogValue is the base URL.
func (c *Client) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Add asks for a pin.
func (c *Client) Add(ctx context.Context, p Pin) (PinStatus, error) {
	return c.one(ctx, http.MethodPost, "/pins", p)
}

// Get asks how a pin stands.
func (c *Client) Get(ctx context.Context, id string) (PinStatus, error) {
	if id == "" {
		return PinStatus{}, ErrNotFound
	}
	return c.one(ctx, http.MethodGet, "/pins/"+url.PathEscape(id), nil)
}

// Replace asks for a pin in the place of another; the answer has its new id.
func (c *Client) Replace(ctx context.Context, id string, p Pin) (PinStatus, error) {
	if id == "" {
		return PinStatus{}, ErrNotFound
	}
	return c.one(ctx, http.MethodPost, "/pins/"+url.PathEscape(id), p)
}

// Delete ends a pin.
func (c *Client) Delete(ctx context.Context, id string) error {
	if id == "" {
		return ErrNotFound
	}
	return c.call(ctx, http.MethodDelete, "/pins/"+url.PathEscape(id), nil, nil)
}

// List is one page: the newest pins that match, and how many do in all.
func (c *Client) List(ctx context.Context, q Query) (PinResults, error) {
	if err := q.Check(); err != nil {
		return PinResults{}, err
	}
	path := "/pins"
	if v := q.values(); len(v) > 0 {
		path += "?" + v.Encode()
	}
	var res PinResults
	if err := c.call(ctx, http.MethodGet, path, nil, &res); err != nil {
		return PinResults{}, err
	}
	for _, st := range res.Results {
		if err := st.check(); err != nil {
			return PinResults{}, c.errorf(ErrInvalid, "%s: %v", path, err)
		}
	}
	return res, nil
}

// All yields every pin that matches, newest first, each once; q.Limit is the
// size of a page, 0: MaxQueryLimit.
//
// The specification pages by time of creation, and services cut that time to
// what their clocks or databases know, so that several pins may share one. Each
// page therefore begins a second before the last one ended, and what was seen
// is left out. Where a second holds more than the largest page, All relies on
// the times being unique, as the specification asks.
func (c *Client) All(ctx context.Context, q Query) iter.Seq2[PinStatus, error] {
	const overlap = time.Second
	if q.Limit == 0 {
		q.Limit = MaxQueryLimit
	}
	return func(yield func(PinStatus, error) bool) {
		q := q // each use starts anew
		seen := make(map[string]bool)
		for {
			res, err := c.List(ctx, q)
			if err != nil {
				yield(PinStatus{}, err)
				return
			}
			fresh := false
			var oldest time.Time
			for _, st := range res.Results {
				if oldest.IsZero() || st.Created.Before(oldest) {
					oldest = st.Created
				}
				if seen[st.RequestID] {
					continue
				}
				seen[st.RequestID], fresh = true, true
				if !yield(st, nil) {
					return
				}
			}
			earlier := func(t time.Time) bool { return q.Before.IsZero() || t.Before(q.Before) }
			switch next := oldest.Add(overlap); {
			case len(res.Results) == 0:
				return
			case res.Count <= len(res.Results) && len(res.Results) < q.Limit:
				return // of a full page, the count may be only what some services make of it: the page's
			case fresh && earlier(next):
				q.Before = next
			case q.Limit < MaxQueryLimit:
				q.Limit = MaxQueryLimit
			case earlier(oldest):
				q.Before = oldest
			default:
				return // the service does not heed before
			}
		}
	}
}

// Wait polls until the pin is pinned or failed, which is not an error of
// Wait: see the Status. Zero every means each second. Progress, which may be nil, is called with
// each answer. A host that does not answer is asked again for 20 s: it may be
// restarting. One that is busy is asked when it said, at the latest after a minute, for as long as ctx allows.
func (c *Client) Wait(ctx context.Context, id string, every time.Duration, progress func(PinStatus)) (PinStatus, error) {
	if every <= 0 {
		every = time.Second
	}
	var silent time.Time // since when it has not answered
	for {
		asked, pause := time.Now(), every
		st, err := c.Get(ctx, id)
		var busy *BusyError
		switch {
		case err == nil:
			silent = time.Time{}
			if progress != nil {
				progress(st)
			}
			if st.Status.Ended() {
				return st, nil
			}
		case ctx.Err() != nil:
			return PinStatus{}, ctx.Err()
		case errors.As(err, &busy):
			silent, pause = time.Time{}, max(every, min(busy.After, longestPause))
		case !errors.Is(err, ErrUnavailable):
			return PinStatus{}, err
		case silent.IsZero():
			silent = asked
			fallthrough
		default:
			if time.Since(silent) >= patience {
				return PinStatus{}, err
			}
		}
		if err := sleep(ctx, time.Until(asked.Add(pause))); err != nil {
			return PinStatus{}, err
		}
	}
}

// values is the query string of a Query.
func (q Query) values() url.Values {
	v := url.Values{}
	set := func(name, val string) {
		if val != "" {
			v.Set(name, val)
		}
	}
	if len(q.CIDs) > 0 {
		s := make([]string, len(q.CIDs))
		for i, c := range q.CIDs {
			s[i] = c.String()
		}
		v.Set("cid", strings.Join(s, ","))
	}
	if len(q.Status) > 0 {
		s := make([]string, len(q.Status))
		for i, st := range q.Status {
			s[i] = string(st)
		}
		v.Set("status", strings.Join(s, ","))
	}
	set("name", q.Name)
	set("match", string(q.Match))
	if !q.Before.IsZero() {
		v.Set("before", q.Before.UTC().Format(time.RFC3339Nano))
	}
	if !q.After.IsZero() {
		v.Set("after", q.After.UTC().Format(time.RFC3339Nano))
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	if len(q.Meta) > 0 {
		b, _ := json.Marshal(q.Meta) // strings always have JSON
		v.Set("meta", string(b))
	}
	return v
}

// check refuses an answer that lacks what the specification requires.
func (st PinStatus) check() error {
	if st.RequestID == "" || !st.Pin.CID.Defined() {
		return errors.New("an answer without request id or CID")
	}
	switch st.Status {
	case Queued, Pinning, Pinned, Failed:
		return nil
	}
	return fmt.Errorf("unknown status %q", st.Status)
}

func (c *Client) one(ctx context.Context, method, path string, body any) (PinStatus, error) {
	var st PinStatus
	if err := c.call(ctx, method, path, body, &st); err != nil {
		return PinStatus{}, err
	}
	if err := st.check(); err != nil {
		return PinStatus{}, c.errorf(ErrInvalid, "%s: %v", path, err)
	}
	return st, nil
}

// call makes one request within callTime, and reads a bounded answer into to. A service that is busy is asked again
// when it said, if that is soon.
func (c *Client) call(ctx context.Context, method, path string, body, to any) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	var sent []byte
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return invalid("pin", "%v", err)
		}
		sent = b
	}
	for try := 1; ; try++ {
		err := c.try(ctx, method, path, sent, to)
		var busy *BusyError
		if !errors.As(err, &busy) || !busy.again(method, try) || sleep(ctx, busy.After) != nil {
			return err
		}
	}
}

// try is one request.
func (c *Client) try(ctx context.Context, method, path string, body []byte, to any) error {
	var r io.Reader
	if body != nil {
		r = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, r)
	if err != nil {
		return c.errorf(ErrInvalid, "%v", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unavailable(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return asBusy(resp, c.refused(resp))
	}
	if to == nil {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes+1))
	switch {
	case err != nil:
		return c.unavailable(ctx, err)
	case len(b) > maxAnswerBytes:
		return c.errorf(ErrInvalid, "%s: an answer of more than %d bytes", path, maxAnswerBytes)
	}
	if err := json.Unmarshal(b, to); err != nil {
		return c.errorf(ErrInvalid, "%s: an answer that is not the specification's: %v", path, err)
	}
	return nil
}

// unavailable keeps the context's error visible beside ErrUnavailable.
func (c *Client) unavailable(ctx context.Context, err error) error {
	if cause := ctx.Err(); cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", err, cause)
	}
	if len(c.token) >= leastToken && strings.Contains(err.Error(), c.token) {
		return c.errorf(ErrUnavailable, "%v", err)
	}
	return fmt.Errorf("%s: %w: %w", c.base, ErrUnavailable, err)
}

// refused turns an answer that is no success into an error.
func (c *Client) refused(resp *http.Response) error {
	kind := ErrInvalid
	switch code := resp.StatusCode; {
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		kind = ErrUnauthorized
	case code == http.StatusNotFound:
		kind = ErrNotFound
	case code == http.StatusConflict:
		kind = ErrQuota
	case code == http.StatusTooManyRequests, code/100 != 4:
		kind = ErrUnavailable
	}
	var f failureJSON
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBytes))
	if err != nil || json.Unmarshal(b, &f) != nil || f.Error.Reason == "" {
		return c.errorf(kind, "%s", resp.Status)
	}
	if reason := f.Error.Reason; resp.StatusCode == http.StatusForbidden && (reason == "FORBIDDEN" || reason == "DRAINING") {
		kind = ErrForbidden // of our own hosts; other services mean the token
	}
	if f.Error.Details == "" {
		return c.errorf(kind, "%s: %q", resp.Status, cut(f.Error.Reason))
	}
	return c.errorf(kind, "%q (%d %q)", strings.TrimPrefix(cut(f.Error.Details), kind.Error()+": "), resp.StatusCode, cut(f.Error.Reason))
}

// cut bounds what a host makes us show.
func cut(s string) string {
	if len(s) > lastErrors {
		s = s[:lastErrors]
	}
	return strings.ToValidUTF8(s, "")
}

// errorf is an error of this kind without the token, whatever the host wrote.
func (c *Client) errorf(kind error, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	if len(c.token) >= leastToken {
		text = strings.ReplaceAll(text, c.token, "[token]")
	}
	return fmt.Errorf("%s: %w: %s", c.base, kind, text)
}
