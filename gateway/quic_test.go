package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// overQUIC serves h by HTTP/3 on loopback. stop ends the server, and waits for it.
func overQUIC(t *testing.T, h http.Handler, change func(*quicServer)) (addr string, roots *x509.CertPool, stop func()) {
	t.Helper()
	pairs := httptest.NewUnstartedServer(nil)
	pairs.StartTLS()
	defer pairs.Close()
	roots = x509.NewCertPool()
	roots.AddCert(pairs.Certificate())
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	s := newQUICServer(nil)
	if change != nil {
		change(s)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.serve(ctx, conn, &tls.Config{Certificates: pairs.TLS.Certificates}, h) }()
	stopped := false
	stop = func() {
		cancel()
		if !stopped {
			stopped = true
			must(t, <-ended)
		}
	}
	t.Cleanup(stop)
	return conn.LocalAddr().String(), roots, stop
}

// clientOverQUIC is a client that finds every name at the address.
func clientOverQUIC(t *testing.T, addr string, roots *x509.CertPool, cfg *quic.Config) *http.Client {
	t.Helper()
	tr := &http3.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots}, QUICConfig: cfg,
		Dial: func(ctx context.Context, _ string, tc *tls.Config, qc *quic.Config) (*quic.Conn, error) {
			tc.ServerName = "example.com"
			return quic.DialAddr(ctx, addr, tc, qc)
		},
	}
	t.Cleanup(func() { tr.Close() })
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func TestASiteIsTheSameOverHTTP3(t *testing.T) {
	large := strings.Repeat("0123456789abcdef", 50_000)
	w := newWorld(t, nil)
	w.publish("blog", w.build(map[string]string{"index.html": "hello", "large.bin": large, "404.html": "not here"}))
	addr, roots, _ := overQUIC(t, w.handler, nil)
	client := clientOverQUIC(t, addr, roots, nil)
	ask := func(method, path string, header ...string) (*http.Response, string) {
		t.Helper()
		r, err := http.NewRequest(method, "https://blog.localhost"+path, nil)
		must(t, err)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		resp, err := client.Do(r)
		must(t, err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		must(t, err)
		return resp, string(b)
	}
	for range 2 { // the second time from what is ready
		for _, c := range []struct {
			method, path string
			header       []string
			status       int
			body         string
		}{
			{"GET", "/", nil, 200, "hello"},
			{"HEAD", "/", nil, 200, ""},
			{"GET", "/large.bin", nil, 200, large},
			{"GET", "/large.bin", []string{"Range", "bytes=400000-400003"}, 206, large[400000:400004]},
			{"GET", "/none", nil, 404, "not here"},
			{"OPTIONS", "/", nil, 204, ""},
			{"DELETE", "/", nil, 405, ""},
		} {
			resp, body := ask(c.method, c.path, c.header...)
			if resp.StatusCode != c.status || resp.ProtoMajor != 3 || c.status < 400 && body != c.body || resp.Header.Get("Alt-Svc") != "" {
				t.Errorf("%s %s: %s %s, %d bytes", c.method, c.path, resp.Proto, resp.Status, len(body))
			}
		}
	}
	first, _ := ask("GET", "/")
	if again, _ := ask("GET", "/", "If-None-Match", first.Header.Get("Etag")); again.StatusCode != 304 {
		t.Errorf("asked with the entity tag: %s", again.Status)
	}
	r, err := http.NewRequest("GET", "https://blog.localhost/", strings.NewReader("a body"))
	must(t, err)
	r.ContentLength = -1
	if resp, err := client.Do(r); err != nil || resp.StatusCode != 400 {
		t.Errorf("GET with a body: %v, %v", resp, err)
	}
}

func TestClientsOverHTTP3AreKnownByTheirAddress(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Clients = ClientLimits{Requests: 0.001, Burst: 2} })
	w.publish("blog", w.build(blog))
	elsewhere := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		r.RemoteAddr = strings.Replace(r.RemoteAddr, "127.0.0.1", "192.0.2.7", 1) // loopback has no limits
		w.handler.ServeHTTP(rw, r)
	})
	addr, roots, _ := overQUIC(t, elsewhere, nil)
	client := clientOverQUIC(t, addr, roots, nil)
	for i, want := range []int{200, 200, 429} {
		resp, err := client.Get("https://blog.localhost/")
		must(t, err)
		resp.Body.Close()
		if resp.StatusCode != want || (want == 429) != (resp.Header.Get("Retry-After") != "") {
			t.Errorf("request %d: %s, %v", i+1, resp.Status, resp.Header)
		}
	}
}

// TestAClientThatNeverEndsItsHeaderIsLeft also over HTTP/3, where the library would wait for ever.
func TestAClientThatNeverEndsItsHeaderIsLeftOverHTTP3(t *testing.T) {
	addr, roots, _ := overQUIC(t, http.NotFoundHandler(), func(s *quicServer) { s.headers = 50 * time.Millisecond })
	for name, sent := range map[string][]byte{
		"nothing":       nil,
		"half a header": {0x01, 0x20, 0x00, 0x00},
	} {
		conn, err := quic.DialAddr(t.Context(), addr, &tls.Config{RootCAs: roots, ServerName: "example.com", NextProtos: []string{"h3"}}, nil)
		must(t, err)
		str, err := conn.OpenStreamSync(t.Context())
		must(t, err)
		if sent == nil {
			sent = []byte{0x01} // or the server would not know of the stream
		}
		_, err = str.Write(sent)
		must(t, err)
		must(t, str.SetReadDeadline(time.Now().Add(time.Minute)))
		var gone *quic.StreamError
		if _, err := io.ReadAll(str); !errors.As(err, &gone) || gone.ErrorCode != quic.StreamErrorCode(http3.ErrCodeRequestIncomplete) {
			t.Errorf("%s: %v", name, err)
		}
		_ = conn.CloseWithError(0, "")
	}
}

func TestAReaderThatTakesNothingIsCutOverHTTP3(t *testing.T) {
	failed, begun := make(chan error, 1), make(chan bool)
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-begun
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(50 * time.Millisecond)) // as pacedWriter does
		for {
			if _, err := w.Write(make([]byte, maxHanded)); err != nil {
				failed <- err
				return
			}
		}
	})
	addr, roots, _ := overQUIC(t, h, nil)
	resp, err := clientOverQUIC(t, addr, roots, &quic.Config{MaxStreamReceiveWindow: 16 << 10, InitialStreamReceiveWindow: 16 << 10}).Get("https://blog.localhost/")
	must(t, err)
	defer resp.Body.Close()
	close(begun)
	if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

func TestADownloadOverHTTP3EndsBeforeTheServerDoes(t *testing.T) {
	begun, release := make(chan bool), make(chan bool)
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, 10_000))
		_ = http.NewResponseController(w).Flush()
		close(begun)
		<-release
		_, _ = w.Write(bytes.Repeat([]byte{1}, 500_000))
	})
	addr, roots, stop := overQUIC(t, h, func(s *quicServer) { s.grace = time.Minute })
	client := clientOverQUIC(t, addr, roots, nil)
	resp, err := client.Get("https://blog.localhost/")
	must(t, err)
	defer resp.Body.Close()
	<-begun
	stopped := make(chan bool)
	go func() { stop(); close(stopped) }()
	close(release)
	if b, err := io.ReadAll(resp.Body); err != nil || len(b) != 510_000 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	<-stopped
	if _, err := clientOverQUIC(t, addr, roots, &quic.Config{HandshakeIdleTimeout: 100 * time.Millisecond}).Get("https://blog.localhost/"); err == nil {
		t.Error("the server has ended and answers")
	}
}

func TestADownloadThatTakesTooLongIsCutWhenTheServerEnds(t *testing.T) {
	begun, ended := make(chan bool), make(chan bool)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
		close(ended)
	})
	addr, roots, stop := overQUIC(t, h, func(s *quicServer) { s.grace = time.Millisecond })
	client := clientOverQUIC(t, addr, roots, nil)
	done := make(chan error, 1)
	go func() { _, err := client.Get("https://blog.localhost/"); done <- err }()
	<-begun
	stop()
	<-ended
	if err := <-done; err == nil {
		t.Error("an answer that was cut passed for a whole one")
	}
}

func TestSoManyQUICConnectionsAndNoMore(t *testing.T) {
	addr, roots, _ := overQUIC(t, http.NotFoundHandler(), func(s *quicServer) { s.crowd.most = 2 })
	dial := func() (*quic.Conn, error) {
		return quic.DialAddr(t.Context(), addr, &tls.Config{RootCAs: roots, ServerName: "example.com", NextProtos: []string{"h3"}}, nil)
	}
	one, err := dial()
	must(t, err)
	_, err = dial()
	must(t, err)
	if _, err := dial(); err == nil {
		t.Error("a third connection of two")
	}
	must(t, one.CloseWithError(0, ""))
	for { // the server hears of it soon
		if c, err := dial(); err == nil {
			must(t, c.CloseWithError(0, ""))
			return
		}
	}
}

func TestClientsOverTCPHearOfHTTP3(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("blog", w.build(blog))
	h := WithAltSvc(w.handler, 8443)
	for range 3 {
		for protocol, want := range map[int]string{1: `h3=":8443"; ma=86400`, 2: `h3=":8443"; ma=86400`, 3: ""} {
			r, out := httptest.NewRequest("GET", "http://blog.localhost/", nil), httptest.NewRecorder()
			r.ProtoMajor = protocol
			h.ServeHTTP(out, r)
			if got := out.Header().Get("Alt-Svc"); out.Code != 200 || got != want {
				t.Errorf("HTTP/%d: %d, Alt-Svc %q, want %q", protocol, out.Code, got, want)
			}
		}
	}
}
