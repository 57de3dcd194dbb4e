package replicate_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-sites/holdfast/naming/namingtest"
	"github.com/holdfast-sites/holdfast/replicate"
)

func TestTheClientSpeaksWithTheService(t *testing.T) {
	a := newAPI(t)
	a.serve()
	c := replicate.NewClient(a.url+"/", a.token, nil)
	ctx := t.Context()
	root := a.site("v1", 3, 100)
	st, err := c.Add(ctx, replicate.Pin{CID: root, Name: "x", Origins: []string{someAddr}, Meta: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	var seen int
	st, err = c.Wait(ctx, st.RequestID, time.Millisecond, func(replicate.PinStatus) { seen++ })
	if err != nil || st.Status != replicate.Pinned || seen == 0 || st.Pin.CID != root || st.Pin.Origins[0] != someAddr || st.Pin.Meta["a"] != "b" {
		t.Fatalf("wait: %+v, %v", st, err)
	}
	next, err := c.Replace(ctx, st.RequestID, replicate.Pin{CID: a.site("v2", 3, 100)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Wait(ctx, next.RequestID, time.Millisecond, nil); err != nil {
		t.Fatal(err)
	}
	a.waitGone(st.RequestID)
	if res, err := c.List(ctx, replicate.Query{Meta: map[string]string{"a": "b"}}); err != nil || res.Count != 0 {
		t.Errorf("list by meta: %+v, %v", res, err)
	}
	if res, err := c.List(ctx, replicate.Query{}); err != nil || res.Count != 1 || res.Results[0].RequestID != next.RequestID {
		t.Errorf("list: %+v, %v", res, err)
	}
	if err := c.Delete(ctx, next.RequestID); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"get":                       second(c.Get(ctx, next.RequestID)),
		"delete":                    c.Delete(ctx, next.RequestID),
		"replace":                   second(c.Replace(ctx, next.RequestID, replicate.Pin{CID: root})),
		"wait":                      second(c.Wait(ctx, next.RequestID, 0, nil)),
		"an id that needs escaping": second(c.Get(ctx, "../pins?limit=1#")),
		"no id":                     second(c.Get(ctx, "")),
	} {
		if !errors.Is(err, replicate.ErrNotFound) {
			t.Errorf("%s of what is gone: %v, want ErrNotFound", what, err)
		}
	}
	if _, err := c.Add(ctx, replicate.Pin{CID: root, Name: strings.Repeat("a", 256)}); !errors.Is(err, replicate.ErrInvalid) || !strings.Contains(err.Error(), "name") {
		t.Errorf("a bad pin: %v, want ErrInvalid with the service's details", err)
	}
	bad := replicate.NewClient(a.url, "hft_wrong", nil)
	if _, err := bad.List(ctx, replicate.Query{}); !errors.Is(err, replicate.ErrUnauthorized) {
		t.Errorf("a bad token: %v, want ErrUnauthorized", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestTheClientPagesThroughEverything(t *testing.T) {
	a := newAPI(t)
	c := replicate.NewClient(a.url, a.token, nil)
	const n = 45
	for i := range n {
		a.add(replicate.Pin{CID: namingtest.CID(fmt.Sprint(i))})
	}
	for _, limit := range []int{1, 7, 45, 0} {
		seen := map[string]bool{}
		last := time.Now().Add(time.Hour)
		for st, err := range c.All(t.Context(), replicate.Query{Status: []replicate.Status{replicate.Queued}, Limit: limit}) {
			if err != nil {
				t.Fatal(err)
			}
			if seen[st.RequestID] || !st.Created.Before(last) {
				t.Fatalf("limit %d: %s again or out of order", limit, st.RequestID)
			}
			seen[st.RequestID], last = true, st.Created
		}
		if len(seen) != n {
			t.Errorf("limit %d: %d pins, want %d", limit, len(seen), n)
		}
	}
}

// coarse is a service whose times are whole seconds, so that many are equal.
func coarse(n int) http.Handler {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q, err := replicate.ParseQuery(r.URL.RawQuery)
		if err != nil {
			w.WriteHeader(400)
			return
		}
		res := replicate.PinResults{}
		for i := n; i > 0; i-- {
			created := start.Add(time.Duration(i/5) * time.Second)
			if !q.Before.IsZero() && !created.Before(q.Before) {
				continue
			}
			res.Count++
			if len(res.Results) < q.Limit {
				res.Results = append(res.Results, replicate.PinStatus{
					RequestID: fmt.Sprint(i), Status: replicate.Pinned, Created: created, Pin: replicate.Pin{CID: namingtest.CID("x")},
				})
			}
		}
		json.NewEncoder(w).Encode(res)
	})
}

func TestPinsOfEqualTimesAreNotSkipped(t *testing.T) {
	srv := httptest.NewServer(coarse(100))
	defer srv.Close()
	for _, limit := range []int{1, 3, 5, 8, 100} {
		seen := map[string]bool{}
		for st, err := range replicate.NewClient(srv.URL, "t", nil).All(t.Context(), replicate.Query{Limit: limit}) {
			if err != nil {
				t.Fatal(err)
			}
			seen[st.RequestID] = true
		}
		if len(seen) != 100 {
			t.Errorf("limit %d: %d pins, want 100", limit, len(seen))
		}
	}
}

func TestPagingEndsWithAServiceThatDoesNotHeedBefore(t *testing.T) {
	var calls atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		fmt.Fprintf(w, `{"count":50,"results":[{"requestid":"a","status":"pinned","created":"2026-01-01T00:00:00Z","pin":{"cid":%q},"delegates":[]}]}`, namingtest.CID("x"))
	}))
	defer srv.Close()
	n := 0
	for _, err := range replicate.NewClient(srv.URL, "t", nil).All(t.Context(), replicate.Query{Limit: 1}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 1 || calls.Load() > 5 {
		t.Errorf("%d pins after %d calls; want one, and an end", n, calls.Load())
	}
}

func TestTheClientBoundsAndChecksWhatAHostSends(t *testing.T) {
	const token = "hft_verysecret"
	good := fmt.Sprintf(`{"requestid":"a","status":"pinned","created":"2026-01-01T00:00:00Z","pin":{"cid":%q},"delegates":[]}`, namingtest.CID("x"))
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the client followed a redirect, with %q", r.Header.Get("Authorization"))
	}))
	defer elsewhere.Close()
	for _, c := range []struct {
		what string
		h    http.HandlerFunc
		want error
	}{
		{"a good answer", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, good) }, nil},
		{"HTML", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<html>") }, replicate.ErrInvalid},
		{"nothing", func(w http.ResponseWriter, r *http.Request) {}, replicate.ErrInvalid},
		{"an empty object", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "{}") }, replicate.ErrInvalid},
		{"an unknown status", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, strings.Replace(good, "pinned", "great", 1))
		}, replicate.ErrInvalid},
		{"something endless", func(w http.ResponseWriter, r *http.Request) { io.Copy(w, io.LimitReader(zeros{}, 40<<20)) }, replicate.ErrInvalid},
		{"an endless error", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(400)
			io.Copy(w, io.LimitReader(zeros{}, 40<<20))
		}, replicate.ErrInvalid},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) }, replicate.ErrUnavailable},
		{"a redirect of a POST", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}, replicate.ErrUnavailable},
		{"401", status(401), replicate.ErrUnauthorized},
		{"404", status(404), replicate.ErrNotFound},
		{"409", status(409), replicate.ErrQuota},
		{"400", status(400), replicate.ErrInvalid},
		{"422", status(422), replicate.ErrInvalid},
		{"429", status(429), replicate.ErrUnavailable},
		{"500", status(500), replicate.ErrUnavailable},
		{"503", status(503), replicate.ErrUnavailable},
		{"an error that repeats the token", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(400)
			fmt.Fprintf(w, `{"error":{"reason":"BAD","details":"you sent %s"}}`, r.Header.Get("Authorization"))
		}, replicate.ErrInvalid},
		{"a status line that repeats the token", func(w http.ResponseWriter, r *http.Request) {
			conn, _, _ := http.NewResponseController(w).Hijack()
			fmt.Fprintf(conn, "HTTP/1.1 500 %s\r\nContent-Length: 0\r\n\r\n", token)
			conn.Close()
		}, replicate.ErrUnavailable},
		{"a broken answer that repeats the token", func(w http.ResponseWriter, r *http.Request) {
			conn, _, _ := http.NewResponseController(w).Hijack()
			fmt.Fprintf(conn, "%s\r\n\r\n", token)
			conn.Close()
		}, replicate.ErrUnavailable},
		{"a connection that ends", func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, replicate.ErrUnavailable},
	} {
		srv := httptest.NewServer(c.h)
		client := replicate.NewClient(srv.URL, token, nil)
		for verb, err := range map[string]error{
			"get": second(client.Get(t.Context(), "a")),
			"add": second(client.Add(t.Context(), replicate.Pin{CID: namingtest.CID("x")})),
		} {
			if !errors.Is(err, c.want) {
				t.Errorf("%s of %s: %v, want %v", verb, c.what, err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), token) {
				t.Errorf("%s of %s: the error shows the token: %v", verb, c.what, err)
			}
		}
		srv.Close()
	}
	gone := replicate.NewClient("http://127.0.0.1:1", token, nil)
	if _, err := gone.Get(t.Context(), "a"); !errors.Is(err, replicate.ErrUnavailable) || strings.Contains(err.Error(), token) {
		t.Errorf("nobody there: %v, want ErrUnavailable", err)
	}
	if s := fmt.Sprintf("%v %+v %#v %s", gone, gone, gone, gone); strings.Contains(s, token) {
		t.Errorf("a client shows its token: %s", s)
	}
	if _, err := replicate.NewClient("::bad::", token, nil).Get(t.Context(), "a"); err == nil || strings.Contains(err.Error(), token) {
		t.Errorf("a bad base: %v", err)
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(code)
		io.WriteString(w, `{"error":{"reason":"R","details":"D"}}`)
	}
}

// silent is a host that takes the connection and never answers.
type silent struct{ calls atomic.Int64 }

func (s *silent) RoundTrip(r *http.Request) (*http.Response, error) {
	s.calls.Add(1)
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestACallToASilentHostEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		_, err := replicate.NewClient("http://host", "t", &http.Client{Transport: &silent{}}).Get(t.Context(), "a")
		if d := time.Since(begin); d != 30*time.Second || !errors.Is(err, replicate.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %v: %v; want ErrUnavailable after 30 s", d, err)
		}
	})
}

func TestWaitEndsWithItsContextAndWithAHostThatStaysAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &silent{}
		c := replicate.NewClient("http://host", "t", &http.Client{Transport: host})
		began := time.Now()
		if _, err := c.Wait(t.Context(), "a", time.Second, nil); !errors.Is(err, replicate.ErrUnavailable) || time.Since(began) > time.Minute {
			t.Errorf("after %s: %v; want ErrUnavailable within a minute", time.Since(began), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := c.Wait(ctx, "a", time.Second, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a context that ended: %v", err)
		}
	})
}
