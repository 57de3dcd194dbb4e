package replicate

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// service answers as a function does, without a network: so that time can be a test's own.
type service func(*http.Request) *http.Response

// RoundTrip implements http.RoundTripper.
func (s service) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body)
	}
	return s(r), nil
}

func says(code int, body string, header ...string) *http.Response {
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: code, Status: http.StatusText(code), Header: h, Body: io.NopCloser(strings.NewReader(body))}
}

const pinnedAnswer = `{"requestid":"1","status":"pinned","created":"2026-11-22T10:00:00Z","pin":{"cid":"bafkqaaa"},"delegates":[]}`

func clientOf(s service) *Client {
	return NewClient("http://service.example", "secret-token", &http.Client{Transport: s})
}

func TestTheClientComesBackWhenABusyServiceSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, calls := time.Now(), 0
		c := clientOf(func(*http.Request) *http.Response {
			if calls++; calls < 3 {
				return says(http.StatusTooManyRequests, "", "Retry-After", "4")
			}
			return says(http.StatusOK, pinnedAnswer)
		})
		if _, err := c.Get(t.Context(), "1"); err != nil || calls != 3 {
			t.Fatalf("%v after %d calls", err, calls)
		}
		if took := time.Since(began); took != 8*time.Second {
			t.Errorf("it waited %s", took)
		}
	})
}

func TestAServiceCanNotMakeTheClientWaitForAYear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, calls := time.Now(), 0
		c := clientOf(func(*http.Request) *http.Response {
			calls++
			return says(http.StatusTooManyRequests, "slow down, secret-token", "Retry-After", "31536000")
		})
		_, err := c.Get(t.Context(), "1")
		var busy *BusyError
		if !errors.As(err, &busy) || !errors.Is(err, ErrUnavailable) || busy.After != longestAfter {
			t.Fatalf("%#v", err)
		}
		if calls != 1 || time.Since(began) != 0 {
			t.Errorf("%d calls in %s", calls, time.Since(began))
		}
		if strings.Contains(err.Error(), "secret-token") {
			t.Error("the token is shown")
		}
	})
}

func TestAPinIsNotAskedForTwiceWhereTheFirstMayHaveCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for code, want := range map[int]int{http.StatusServiceUnavailable: 1, http.StatusTooManyRequests: busyTries} {
			calls := 0
			c := clientOf(func(*http.Request) *http.Response {
				calls++
				return says(code, "", "Retry-After", "1")
			})
			if _, err := c.Add(t.Context(), Pin{CID: emptyCID}); !errors.As(err, new(*BusyError)) || calls != want {
				t.Errorf("%d: %v after %d calls, not %d", code, err, calls, want)
			}
		}
	})
}

func TestWaitHasPatienceWithAServiceThatIsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		c := clientOf(func(*http.Request) *http.Response {
			if time.Since(began) < 5*time.Minute {
				return says(http.StatusServiceUnavailable, "", "Retry-After", "86400")
			}
			return says(http.StatusOK, pinnedAnswer)
		})
		if st, err := c.Wait(t.Context(), "1", time.Second, nil); err != nil || st.Status != Pinned {
			t.Fatal(st.Status, err)
		}
		if took := time.Since(began); took != 5*time.Minute {
			t.Errorf("it looked after %s", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		began = time.Now()
		if _, err := c.Wait(ctx, "1", time.Second, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
	})
}

func TestRetryAfterIsSecondsOrADateAndBounded(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"": defaultPause, "0": 0, "7": 7 * time.Second, " 7 ": 7 * time.Second, "007": 7 * time.Second,
		"86400": longestAfter, "86401": longestAfter, "99999999999999999999999": longestAfter,
		"-1": defaultPause, "1.5": defaultPause, "soon": defaultPause,
		"Sun, 22 Nov 2026 10:00:30 GMT": 30 * time.Second,
		"Sun, 22 Nov 2026 09:00:00 GMT": 0,
		"Mon, 22 Nov 2027 10:00:00 GMT": longestAfter,
	} {
		if got, said := retryAfter(header, now); got != want || said != (want != defaultPause) {
			t.Errorf("%q: %s, %v", header, got, said)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"", "1", "86401", "Sun, 22 Nov 2026 10:00:30 GMT", "99999999999999999999999"} {
		f.Add(s)
	}
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, header string) {
		if d, _ := retryAfter(header, now); d < 0 || d > longestAfter {
			t.Fatalf("%q makes us wait %s", header, d)
		}
	})
}

func TestACountOfOnePageDoesNotEndTheList(t *testing.T) {
	made := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	c := clientOf(func(r *http.Request) *http.Response {
		q, err := ParseQuery(r.URL.RawQuery)
		if err != nil {
			return says(http.StatusBadRequest, "")
		}
		var page []string
		for i := range 25 { // a pin every two seconds, newest first
			at := made.Add(time.Duration(-2*i) * time.Second)
			if (q.Before.IsZero() || at.Before(q.Before)) && len(page) < q.Limit {
				page = append(page, strings.Replace(strings.Replace(pinnedAnswer, `"1"`, `"`+at.Format("150405")+`"`, 1),
					"2026-11-22T10:00:00Z", at.Format(time.RFC3339), 1))
			}
		}
		return says(http.StatusOK, `{"count":1,"results":[`+strings.Join(page, ",")+`]}`)
	})
	got := 0
	for _, err := range c.All(t.Context(), Query{Limit: 10}) {
		if err != nil {
			t.Fatal(err)
		}
		got++
	}
	if got != 25 {
		t.Errorf("%d of 25 pins were listed", got)
	}
}
