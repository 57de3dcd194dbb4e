package naming_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
)

func routingServer(t *testing.T, h http.HandlerFunc) *naming.RoutingClient {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return naming.NewRoutingClient("host alice", s.URL+"/base/", s.Client())
}

func TestTheRoutingClientPutsAndGetsTheVeryBytes(t *testing.T) {
	rec := namingtest.Record(t, namingtest.Signer(t, "a"), 1, "x", farFuture)
	var stored []byte
	c := routingServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/base/routing/v1/ipns/"+rec.Name().String() {
			t.Errorf("asked for %s", r.URL.Path)
		}
		switch r.Method {
		case http.MethodPut:
			if got := r.Header.Get("Content-Type"); got != naming.MediaType {
				t.Errorf("PUT with content type %q", got)
			}
			stored, _ = io.ReadAll(r.Body)
		case http.MethodGet:
			if got := r.Header.Get("Accept"); got != naming.MediaType {
				t.Errorf("GET accepts %q", got)
			}
			w.Header().Set("Content-Type", naming.MediaType)
			_, _ = w.Write(stored)
		}
	})
	if err := c.Put(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	raw, err := c.Fetch(t.Context(), rec.Name())
	if err != nil || !bytes.Equal(raw, rec.Bytes()) {
		t.Fatalf("Fetch gives %d bytes, %v", len(raw), err)
	}
	if c.String() != "host alice" {
		t.Errorf("it calls itself %q", c)
	}
}

func TestWhatARoutingServerMayAnswer(t *testing.T) {
	rec := namingtest.Record(t, namingtest.Signer(t, "a"), 1, "x", farFuture)
	answer := func(status int, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("Location", "http://127.0.0.1:1/elsewhere")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	for _, c := range []struct {
		what     string
		handler  http.HandlerFunc
		get, put error // errAny for any, nil for none
		says     string
	}{
		{"none, the old way", answer(404, "text/plain", "no"), naming.ErrNotFound, errAny, ""},
		{"none, the new way", answer(200, "text/plain", "no record"), naming.ErrNotFound, nil, ""},
		{"a login page", answer(200, "text/html; charset=utf-8", "<html>"), naming.ErrNotFound, nil, ""},
		{"a record too large", answer(200, naming.MediaType, strings.Repeat("x", naming.MaxRecordSize+1)), naming.ErrTooLarge, nil, ""},
		{"a redirect", answer(302, "text/plain", ""), errAny, errAny, "status 302"},
		{"an error with escapes", answer(500, "text/plain", "\x1b[2Jdown"), errAny, errAny, `\x1b[2Jdown`},
		{"a long error", answer(503, "text/plain", strings.Repeat("x", 1<<20)), errAny, errAny, "status 503"},
		{"older than its own", answer(409, "text/plain", "sequence 3 is known"), errAny, naming.ErrOlder, "sequence 3"},
	} {
		client := routingServer(t, c.handler)
		_, err := client.Fetch(t.Context(), rec.Name())
		checkAnswer(t, c.what+", GET", err, c.get, c.says)
		err = client.Put(t.Context(), rec)
		checkAnswer(t, c.what+", PUT", err, c.put, c.says)
	}
}

var errAny = errors.New("any error")

func checkAnswer(t *testing.T, what string, err, want error, says string) {
	t.Helper()
	switch {
	case want == nil && err != nil, want != nil && err == nil, want != nil && want != errAny && !errors.Is(err, want):
		t.Errorf("%s: %v, want %v", what, err, want)
	case want == errAny && errors.Is(err, naming.ErrNotFound) && says != "":
		t.Errorf("%s: %v is said to be not found", what, err)
	case err != nil && want == errAny && (!strings.Contains(err.Error(), says) || len(err.Error()) > 1000 || !strings.Contains(err.Error(), "/base")):
		t.Errorf("%s: the error %.200q doesn't name %q and the base", what, err, says)
	}
}

func TestARoutingServerThatHangsIsLeftWhenTheContextEnds(t *testing.T) {
	asked := make(chan struct{})
	c := routingServer(t, func(w http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if _, err := c.Fetch(ctx, namingtest.Signer(t, "a").Name()); !errors.Is(err, context.Canceled) {
		t.Fatalf("Fetch: %v, want context.Canceled", err)
	}
}

func TestABaseThatIsNoneFailsAndIsNotQuoted(t *testing.T) {
	rec := namingtest.Record(t, namingtest.Signer(t, "a"), 1, "x", farFuture)
	for _, base := range []string{"", "ftp://h/s3cret", "http://", "http://u:s3cret@h/", "http://h/?token=s3cret", "http://h/#s3cret", "http://s3cret\x7f", "/s3cret", "http://[s3cret"} {
		c := naming.NewRoutingClient("host alice", base, nil)
		_, getErr := c.Fetch(t.Context(), rec.Name())
		for _, err := range []error{getErr, c.Put(t.Context(), rec)} {
			if err == nil || strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), "host alice") {
				t.Errorf("base %q: %v", base, err)
			}
		}
	}
}

func TestResolveAndRelayOverHTTP(t *testing.T) {
	s := namingtest.Signer(t, "a")
	rec := namingtest.Record(t, s, 3, "x", time.Now().Add(time.Hour))
	stored := make(chan []byte, 1)
	host := routingServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			raw, _ := io.ReadAll(r.Body)
			stored <- raw
			return
		}
		select {
		case raw := <-stored:
			w.Header().Set("Content-Type", naming.MediaType)
			_, _ = w.Write(raw)
		default:
			http.NotFound(w, r)
		}
	})
	reader := naming.NewResolver(naming.ResolverConfig{Records: kept(t), Sources: func(naming.Name) []naming.Source { return []naming.Source{host} }})
	t.Cleanup(reader.Close)
	if _, _, err := reader.ResolveFresh(t.Context(), s.Name()); !errors.Is(err, naming.ErrNotFound) {
		t.Fatalf("before the put: %v", err)
	}
	put := make(chan error, 1)
	relay := naming.NewRelay(naming.RelayConfig{
		Names:   func(context.Context) ([]naming.Name, error) { return []naming.Name{s.Name()}, nil },
		Records: kept(t, rec), Sinks: func(naming.Name) []naming.Sink { return []naming.Sink{host} },
		OnPut: func(p naming.Put) { put <- p.Err },
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- relay.Serve(ctx) }()
	if err := <-put; err != nil {
		t.Fatal(err)
	}
	cancel()
	<-done
	wantRecord(t, reader, rec, "host alice")
}
