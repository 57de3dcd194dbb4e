package main

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestAPreviewShowsAFolderUntilItIsEnded(t *testing.T) {
	u := newUser(t)
	dir := u.site("site")
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan int, 1)
	go func() {
		defer w.Close()
		done <- run(ctx, []string{"--home", u.home, "preview", dir, "--listen", "127.0.0.1:0", "--alias", "draft"}, &env{
			in: strings.NewReader(""), out: w, err: io.Discard, getenv: func(string) string { return "" },
		})
	}()
	line := make([]byte, 100)
	n, err := r.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, r)
	url := strings.TrimSpace(string(line[:n]))
	host, ok := strings.CutPrefix(url, "http://draft.localhost:")
	if !ok {
		t.Fatalf("%q", url)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:"+host, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "draft.localhost"
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("status %d", resp.StatusCode)
	}
	cancel()
	if code := <-done; code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestAPreviewThatCantMeanAnythingIsRefused(t *testing.T) {
	u := newUser(t)
	dir := u.site("site")
	u.fails(2, "--alias", "preview", dir, "--alias", "My Site", "--listen", "127.0.0.1:0")
	u.fails(2, "DIR", "preview")
	u.fails(3, "no such file", "preview", u.path("none"), "--listen", "127.0.0.1:0")
	u.home = dir
	u.fails(2, "inside the", "preview", dir, "--listen", "127.0.0.1:0")
}
