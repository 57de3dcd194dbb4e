package conformance

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

// check is one request and what a specification says of its answer.
type check struct {
	name   string
	url    string // "http://host/path?query", or a path of the path gateway
	method string // "": GET
	header []string
	status int               // 0: any; from 5xx (500): any of its hundred
	want   map[string]string // header → pattern, by want's rules
	body   string            // "": any
	has    []string          // parts of the body
	hasNot []string
	see    func(*testing.T, answer) // more than that
}

// answer is one that was read to its end.
type answer struct {
	*http.Response
	body []byte
}

// anyServerError is the status of a check that allows the whole hundred.
const anyServerError = 599

// runAll makes a subtest of each check.
func (g *gateway) runAll(t *testing.T, checks []check) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) { g.run(t, c) })
	}
}

func (g *gateway) run(t *testing.T, c check) {
	t.Helper()
	method := c.method
	if method == "" {
		method = http.MethodGet
	}
	a := g.ask(t, method, c.url, c.header...)
	switch {
	case c.status == anyServerError && (a.StatusCode < 500 || a.StatusCode > 599):
		t.Errorf("status %d, want 5xx", a.StatusCode)
	case c.status != 0 && c.status != anyServerError && a.StatusCode != c.status:
		t.Errorf("status %d, want %d", a.StatusCode, c.status)
	}
	for key, want := range c.want {
		if got := a.Header.Get(key); !matches(got, want) {
			t.Errorf("%s: %q, want %s", key, got, want)
		}
	}
	if c.body != "" && string(a.body) != c.body {
		t.Errorf("body %.300q, want %.300q", a.body, c.body)
	}
	for _, part := range c.has {
		if !strings.Contains(string(a.body), part) {
			t.Errorf("body lacks %q", part)
		}
	}
	for _, part := range c.hasNot {
		if strings.Contains(string(a.body), part) {
			t.Errorf("body has %q", part)
		}
	}
	if c.see != nil {
		c.see(t, a)
	}
	if t.Failed() {
		t.Logf("%s %s\n%s %v\n%.600s", method, c.url, a.Status, a.Header, a.body)
	}
}

// matches compares a header's value: "" wants none, "~p" one that the regular
// expression matches somewhere, "!p" one that it matches nowhere, anything else itself.
func matches(got, want string) bool {
	switch {
	case strings.HasPrefix(want, "~"):
		return regexp.MustCompile(want[1:]).MatchString(got)
	case strings.HasPrefix(want, "!"):
		return !regexp.MustCompile(want[1:]).MatchString(got)
	}
	return got == want
}

// ask sends a request to the gateway, whatever host its URL names, and follows
// no redirect.
func (g *gateway) ask(t *testing.T, method, to string, header ...string) answer {
	t.Helper()
	if strings.HasPrefix(to, "/") {
		to = g.byPath + to
	}
	r, err := http.NewRequestWithContext(t.Context(), method, to, nil)
	must(t, err)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	resp, err := g.client.Do(r)
	must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	return answer{resp, body}
}

// clientTo connects to addr only.
func clientTo(t *testing.T, addr string, proxy *url.URL) *http.Client {
	tr := &http.Transport{
		DisableCompression: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		},
	}
	if proxy != nil {
		tr.Proxy = http.ProxyURL(proxy)
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{
		Transport: tr, Timeout: time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// query makes a path's query of pairs.
func query(path string, pairs ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		q.Add(pairs[i], pairs[i+1])
	}
	return path + "?" + q.Encode()
}
