package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/time/rate"
)

// Limits of ServeQUIC. Connections cost no file descriptor, so they are counted;
// requests have hardly any body, so the windows are small.
const (
	maxQUICConnections = 16 << 10
	maxQUICStreams     = 128 // of one connection
	quicStreamWindow   = 64 << 10
	quicWindow         = 512 << 10
	quicUnproven       = 256                    // connections a second whose address need not be proven first
	quicLinger         = 500 * time.Millisecond // for what was handed over last, since to close a connection is to drop that
	altSvcAge          = 24 * time.Hour
)

// errCrowded refuses a connection.
var errCrowded = errors.New("too many connections")

// WithAltSvc is h, which also tells clients over TCP that HTTP/3 is spoken on the UDP port.
func WithAltSvc(h http.Handler, port int) http.Handler {
	value := []string{`h3=":` + strconv.Itoa(port) + `"; ma=` + strconv.Itoa(int(altSvcAge/time.Second))}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor < 3 {
			w.Header()["Alt-Svc"] = value
		}
		h.ServeHTTP(w, r)
	})
}

// ServeQUIC answers HTTP/3 on conn until ctx ends, then lets running requests end for up to
// three seconds and cuts the rest. It closes conn. Early data (0-RTT) is refused. A nil log
// discards. The error is nil when ctx ended it.
func ServeQUIC(ctx context.Context, conn net.PacketConn, secure *tls.Config, h http.Handler, log *slog.Logger) error {
	return (&quicServer{headers: headerTimeout, grace: shutdownTime, most: maxQUICConnections, log: log}).serve(ctx, conn, secure, h)
}

// quicServer accepts connections and their streams itself: the library's own loop waits for
// a request's header for ever.
type quicServer struct {
	headers time.Duration // for a request's header
	grace   time.Duration
	most    int64 // connections
	log     *slog.Logger

	http  http3.Server
	open  atomic.Int64   // connections
	conns sync.WaitGroup // goroutines of connections
}

func (s *quicServer) serve(ctx context.Context, conn net.PacketConn, secure *tls.Config, h http.Handler) error {
	defer conn.Close()
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.http.Handler, s.http.MaxHeaderBytes, s.http.IdleTimeout = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.answer(w, r, h) }), maxHeaderBytes, idleTimeout
	unproven := rate.NewLimiter(quicUnproven, quicUnproven)
	transport := &quic.Transport{
		Conn: conn, ConnContext: s.admit,
		VerifySourceAddress: func(net.Addr) bool { return !unproven.Allow() },
	}
	defer transport.Close()
	ln, err := transport.Listen(http3.ConfigureTLSConfig(secure), &quic.Config{
		HandshakeIdleTimeout: headerTimeout, MaxIdleTimeout: idleTimeout, MaxIncomingStreams: maxQUICStreams, MaxIncomingUniStreams: 8,
		InitialStreamReceiveWindow: quicStreamWindow, MaxStreamReceiveWindow: quicStreamWindow,
		InitialConnectionReceiveWindow: quicWindow, MaxConnectionReceiveWindow: quicWindow,
	})
	if err != nil {
		return err
	}
	defer ln.Close()
	cutting, cut := context.WithCancel(context.WithoutCancel(ctx)) // ends what is left after the grace
	defer s.conns.Wait()
	defer cut()
	for {
		c, err := ln.Accept(ctx)
		switch {
		case err == nil:
			s.conns.Go(func() { s.connection(ctx, cutting, c) })
		case ctx.Err() != nil:
			s.drain()
			return nil
		default:
			return err
		}
	}
}

// admit counts a connection.
func (s *quicServer) admit(ctx context.Context, _ *quic.ClientInfo) (context.Context, error) {
	if s.open.Add(1) > s.most {
		s.open.Add(-1)
		return nil, errCrowded
	}
	context.AfterFunc(ctx, func() { s.open.Add(-1) })
	return ctx, nil
}

// drain waits for running requests, but not for ever.
func (s *quicServer) drain() {
	ended := make(chan struct{})
	go func() { // ends with the connections, which the caller cuts
		defer close(ended)
		s.conns.Wait()
	}()
	limit := time.NewTimer(s.grace)
	defer limit.Stop()
	select {
	case <-ended:
	case <-limit.C:
	}
}

// connection answers requests until the client goes, or ctx ends and those that run have
// ended, or cutting ends.
func (s *quicServer) connection(ctx, cutting context.Context, c *quic.Conn) {
	raw, err := s.http.NewRawServerConn(c)
	if err != nil {
		s.log.Debug("http/3", "err", err)
		_ = c.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeInternalError), "")
		return
	}
	var requests, others sync.WaitGroup
	others.Go(func() {
		for {
			str, err := c.AcceptUniStream(c.Context())
			if err != nil {
				return
			}
			others.Go(func() { raw.HandleUnidirectionalStream(str) })
		}
	})
	end := func() { _ = raw.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "") }
	stop := context.AfterFunc(cutting, end)
	defer stop()
	for {
		str, err := c.AcceptStream(ctx)
		if err != nil {
			break
		}
		_ = str.SetReadDeadline(time.Now().Add(s.headers)) // until answer has all of it
		requests.Go(func() { raw.HandleRequestStream(str) })
	}
	requests.Wait()
	linger := time.NewTimer(quicLinger)
	defer linger.Stop()
	select {
	case <-linger.C:
	case <-c.Context().Done():
	}
	end()
	others.Wait() // the client's control stream ends with the connection
}

// answer is called with a request's header. In HTTP/3 only the stream's end tells that there is no body; it comes
// with the header, or as late as that may.
func (s *quicServer) answer(w http.ResponseWriter, r *http.Request, h http.Handler) {
	if r.ContentLength < 0 && r.Method != http.MethodConnect {
		body := bufio.NewReaderSize(r.Body, 16)
		switch _, err := body.Peek(1); {
		case err == io.EOF:
			r.ContentLength, r.Body = 0, http.NoBody
		case err != nil:
			panic(http.ErrAbortHandler)
		default:
			r.Body = bodyOf{body, r.Body}
		}
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	h.ServeHTTP(w, r)
}

// bodyOf reads from one, and closes another.
type bodyOf struct {
	io.Reader
	io.Closer
}
