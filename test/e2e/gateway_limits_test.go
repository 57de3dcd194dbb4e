package e2e

import (
	"net/http"
	"testing"
)

// TestAClientHasItsShareOfAGatewayAndNoMore: two downloads that are held to so many bytes a second
// are still under way when a third is asked for, which is one too many.
func TestAClientHasItsShareOfAGatewayAndNoMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.writeFiles("site", map[string][]byte{"index.html": []byte("hello"), "film.mp4": make([]byte, 512<<10)})
	w.must(nil, "gate", "publish", w.home("site"), "--site", "blog", "--copies", "0", "--network", "offline")
	w.configure("gate", `
[gateway]
listen = "127.0.0.1:0"
trusted_proxies = ["127.0.0.1"]
[gateway.limits]
bytes_per_second = 16384
concurrent = 2
`)
	n := w.serve("gate", "--network", "offline")
	ask := func(client, path string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.Gateway+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "blog.localhost"
		req.Header.Set("X-Forwarded-For", client)
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	one, two := ask("203.0.113.7", "/film.mp4"), ask("203.0.113.7", "/film.mp4")
	if one.StatusCode != 200 || two.StatusCode != 200 {
		t.Fatalf("%s, %s", one.Status, two.Status)
	}
	if r := ask("203.0.113.7", "/"); r.StatusCode != 429 || r.Header.Get("Retry-After") == "" {
		t.Errorf("a third at once: %s", r.Status)
	}
	if r := ask("203.0.113.8", "/"); r.StatusCode != 200 {
		t.Errorf("another client: %s", r.Status)
	}
	one.Body.Close()
	two.Body.Close()
	for ask("203.0.113.7", "/").StatusCode != 200 { // the gateway hears of it soon
		if t.Context().Err() != nil {
			t.Fatal("a client who has left its downloads is not answered any more")
		}
	}
}
