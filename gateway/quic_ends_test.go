package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// dialQUIC opens a connection on which nothing is asked.
func dialQUIC(t *testing.T, addr string, roots *x509.CertPool) (*quic.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return quic.DialAddr(ctx, addr, &tls.Config{RootCAs: roots, ServerName: "example.com", NextProtos: []string{"h3"}}, nil)
}

func TestRequestsThatComeTooLateMayBeSentElsewhere(t *testing.T) {
	t.Parallel()
	begun, release := make(chan bool, 1), make(chan bool)
	var asked atomic.Int32
	h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if asked.Add(1) == 1 {
			begun <- true
			<-release
		}
	})
	addr, roots, stop := overQUIC(t, h, func(s *quicServer) { s.grace = time.Minute })
	conn, err := dialQUIC(t, addr, roots)
	must(t, err)
	client := (&http3.Transport{}).NewClientConn(conn)
	ask := func() error {
		r, err := http.NewRequest("GET", "https://example.com/", nil)
		must(t, err)
		_, err = client.RoundTrip(r)
		return err
	}
	done, stopped := make(chan error, 1), make(chan bool)
	go func() { done <- ask() }()
	<-begun
	go func() { stop(); close(stopped) }()
	for err = ask(); err == nil; err = ask() { // until it begins to end
	}
	var rejected *http3.Error
	if !errors.As(err, &rejected) || rejected.ErrorCode != http3.ErrCodeRequestRejected {
		t.Errorf("a request after the end began: %v", err)
	}
	var refused *quic.TransportError
	if _, err := dialQUIC(t, addr, roots); !errors.As(err, &refused) || refused.ErrorCode != quic.ConnectionRefused {
		t.Errorf("a connection after the end began: %v", err)
	}
	close(release)
	must(t, <-done)
	<-stopped
}

func TestAHandshakeThatStallsHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	addr, roots, stop := overQUIC(t, http.NotFoundHandler(), func(s *quicServer) { s.headers, s.grace = time.Hour, time.Millisecond })
	halfway, release, done := make(chan bool), make(chan bool), make(chan bool)
	go func() {
		defer close(done)
		c, err := quic.DialAddr(context.Background(), addr, &tls.Config{
			RootCAs: roots, ServerName: "example.com", NextProtos: []string{"h3"},
			VerifyConnection: func(tls.ConnectionState) error { close(halfway); <-release; return nil },
		}, nil)
		if err == nil { // it has not heard yet
			_ = c.CloseWithError(0, "")
		}
	}()
	<-halfway
	stop()
	close(release)
	<-done
}

// TestRequestsThatAreTakenBackAreStillCounted, or a client that resets each stream at once would
// have any number answered (in HTTP/2 that was CVE-2023-44487).
func TestRequestsThatAreTakenBackAreStillCounted(t *testing.T) {
	t.Parallel()
	var open, most atomic.Int32
	begun, release := make(chan bool, 8), make(chan bool)
	h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		now := open.Add(1)
		for was := most.Load(); now > was && !most.CompareAndSwap(was, now); was = most.Load() {
		}
		begun <- true
		<-release
		open.Add(-1)
	})
	addr, roots, _ := overQUIC(t, h, func(s *quicServer) { s.streams = 4 })
	conn, err := dialQUIC(t, addr, roots)
	must(t, err)
	header := []byte{0x01, 0x0e, 0, 0, 0xd1, 0xd7, 0xc1, 0x50, 7, 'e', 'x', 'a', 'm', 'p', 'l', 'e'} // GET https://example/
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ask := func() error {
		str, err := conn.OpenStreamSync(ctx)
		if err != nil {
			return err
		}
		if _, err = str.Write(header); err != nil {
			return err
		}
		str.CancelRead(quic.StreamErrorCode(http3.ErrCodeRequestCanceled))
		return str.Close()
	}
	asked := make(chan error, 8)
	go func() {
		for range cap(asked) {
			asked <- ask()
		}
	}()
	for range 4 {
		<-begun
	}
	for range 3 { // meanwhile there would be time enough for more
		c, err := dialQUIC(t, addr, roots)
		must(t, err)
		must(t, c.CloseWithError(0, ""))
	}
	close(release)
	for range cap(asked) {
		must(t, <-asked)
	}
	if most.Load() != 4 {
		t.Errorf("%d requests at a time of 4", most.Load())
	}
}

func TestOneClientLeavesQUICConnectionsToOthers(t *testing.T) {
	t.Parallel()
	addr, roots, _ := overQUIC(t, http.NotFoundHandler(), func(s *quicServer) { s.crowd.share = 3 })
	var conns []*quic.Conn
	for range 3 {
		c, err := dialQUIC(t, addr, roots)
		must(t, err)
		conns = append(conns, c)
	}
	if _, err := dialQUIC(t, addr, roots); err == nil {
		t.Error("a fourth connection of three")
	}
	must(t, conns[0].CloseWithError(0, ""))
	for { // the server hears of it soon
		if c, err := dialQUIC(t, addr, roots); err == nil {
			must(t, c.CloseWithError(0, ""))
			return
		}
	}
}

func TestAClientThatMovesIsKnownByWhereItIs(t *testing.T) {
	t.Parallel()
	from := make(chan netip.Addr, 2)
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { from <- clientAddr(r, nil) })
	addr, roots, _ := overQUIC(t, h, nil)
	at := func(ip string) *quic.Transport {
		udp, err := net.ListenPacket("udp", ip+":0")
		if err != nil {
			t.Skip("one loopback address: ", err) // darwin
		}
		tr := &quic.Transport{Conn: udp}
		t.Cleanup(func() { tr.Close(); udp.Close() })
		return tr
	}
	to, err := net.ResolveUDPAddr("udp", addr)
	must(t, err)
	conn, err := at("127.0.0.1").Dial(t.Context(), to, &tls.Config{RootCAs: roots, ServerName: "example.com", NextProtos: []string{"h3"}}, nil)
	must(t, err)
	client := (&http3.Transport{}).NewClientConn(conn)
	ask := func() netip.Addr {
		r, err := http.NewRequest("GET", "https://example.com/", nil)
		must(t, err)
		_, err = client.RoundTrip(r)
		must(t, err)
		return <-from
	}
	if a := ask(); a.String() != "127.0.0.1" {
		t.Fatalf("asked by %s", a)
	}
	path, err := conn.AddPath(at("127.0.0.2"))
	must(t, err)
	must(t, path.Probe(t.Context()))
	must(t, path.Switch())
	ask() // which tells the server
	if a := ask(); a.String() != "127.0.0.2" {
		t.Errorf("asked by %s after it moved", a)
	}
}

func TestEarlyDataIsRefused(t *testing.T) {
	t.Parallel()
	var early atomic.Int32
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if !r.TLS.HandshakeComplete {
			early.Add(1)
		}
	})
	addr, roots, _ := overQUIC(t, h, nil)
	sessions := tls.NewLRUClientSessionCache(1)
	for i := range 2 {
		tr := &http3.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "example.com", ClientSessionCache: sessions},
			Dial: func(ctx context.Context, _ string, tc *tls.Config, qc *quic.Config) (*quic.Conn, error) {
				return quic.DialAddrEarly(ctx, addr, tc, qc)
			},
		}
		r, err := http.NewRequest(http3.MethodGet0RTT, "https://example.com/", nil)
		must(t, err)
		resp, err := tr.RoundTrip(r)
		if err != nil && i == 1 {
			resp, err = tr.RoundTrip(r) // what was sent early was refused
		}
		must(t, err)
		_, err = io.ReadAll(resp.Body)
		must(t, err)
		must(t, tr.Close())
	}
	if early.Load() != 0 {
		t.Error("a request was answered that anybody may have sent again")
	}
}

func TestAPanicOverHTTP3IsLogged(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	addr, roots, stop := overQUIC(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a mistake") }), func(s *quicServer) {
		s.log = slog.New(slog.NewTextHandler(&log, nil))
	})
	if _, err := clientOverQUIC(t, addr, roots, nil).Get("https://blog.localhost/"); err == nil {
		t.Error("an answer")
	}
	stop()
	if !strings.Contains(log.String(), "a mistake") {
		t.Errorf("%q", log.String())
	}
}
