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
	"runtime/debug"
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
	maxQUICShare       = maxQUICConnections / 16 // of one client, as ClientLimits has it
	maxQUICStreams     = 128                     // of one connection
	quicStreamWindow   = 64 << 10
	quicWindow         = 512 << 10
	quicUnproven       = 256                    // connections a second whose address need not be proven first
	quicUnprovenShare  = 16                     // likewise, and open: in another's name nobody can use up its share
	quicLinger         = 500 * time.Millisecond // for what was handed over last, since to close a connection is to drop that
	altSvcAge          = 24 * time.Hour
)

// errRefused is for a connection that is one too many, or comes too late.
var errRefused = errors.New("no more connections")

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
// three seconds and cuts the rest. It closes conn. Early data (0-RTT) is refused: anybody could send it
// again. A nil log discards. The error is nil when ctx ended it.
//
// Clients are not told by GOAWAY that it ends: the library hands nobody the control stream of a
// connection whose streams others accept (RawServerConn, v0.65 too). What comes meanwhile is
// refused as H3_REQUEST_REJECTED, after which a client may send it again elsewhere, as after GOAWAY.
func ServeQUIC(ctx context.Context, conn net.PacketConn, secure *tls.Config, h http.Handler, log *slog.Logger) error {
	return newQUICServer(log).serve(ctx, conn, secure, h)
}

// quicServer accepts connections and their streams itself: the library's own loop waits for
// a request's header for ever.
type quicServer struct {
	headers time.Duration // for a request's header
	grace   time.Duration
	streams int // requests of one connection at a time
	log     *slog.Logger
	crowd   crowd

	http   http3.Server
	ending atomic.Bool
}

func newQUICServer(log *slog.Logger) *quicServer {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &quicServer{
		headers: headerTimeout, grace: shutdownTime, streams: maxQUICStreams, log: log,
		crowd: crowd{most: maxQUICConnections, share: maxQUICShare},
	}
}

func (s *quicServer) serve(ctx context.Context, conn net.PacketConn, secure *tls.Config, h http.Handler) error {
	defer conn.Close()
	s.http.Handler, s.http.MaxHeaderBytes, s.http.IdleTimeout = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.answer(w, r, h) }), maxHeaderBytes, idleTimeout
	unproven := rate.NewLimiter(quicUnproven, quicUnproven)
	transport := &quic.Transport{
		Conn: conn, ConnContext: s.admit,
		VerifySourceAddress: func(a net.Addr) bool { return s.crowd.of(a) >= quicUnprovenShare || !unproven.Allow() },
	}
	defer transport.Close()
	ln, err := transport.Listen(http3.ConfigureTLSConfig(secure), &quic.Config{
		HandshakeIdleTimeout: headerTimeout, MaxIdleTimeout: idleTimeout, MaxIncomingStreams: int64(s.streams), MaxIncomingUniStreams: 8,
		InitialStreamReceiveWindow: quicStreamWindow, MaxStreamReceiveWindow: quicStreamWindow,
		InitialConnectionReceiveWindow: quicWindow, MaxConnectionReceiveWindow: quicWindow,
	})
	if err != nil {
		return err
	}
	defer ln.Close()
	cutting, cut := context.WithCancel(context.WithoutCancel(ctx)) // ends what is left after the grace
	var conns, others sync.WaitGroup
	defer others.Wait()
	defer conns.Wait()
	defer cut()
	for {
		c, err := ln.Accept(ctx)
		switch {
		case err == nil:
			conns.Go(func() { s.connection(ctx, cutting, c) })
		case ctx.Err() != nil:
			s.ending.Store(true)
			others.Go(func() { // what was in its handshake
				for {
					c, err := ln.Accept(cutting)
					if err != nil {
						return
					}
					closeQUIC(c, http3.ErrCodeNoError)
				}
			})
			s.drain(&conns)
			return nil
		default:
			return err
		}
	}
}

// admit counts a connection.
func (s *quicServer) admit(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	if s.ending.Load() || !s.crowd.enter(info.RemoteAddr) {
		return nil, errRefused
	}
	context.AfterFunc(ctx, func() { s.crowd.leave(info.RemoteAddr) })
	return ctx, nil
}

// drain waits for running requests, but not for ever.
func (s *quicServer) drain(conns *sync.WaitGroup) {
	ended := make(chan struct{})
	go func() { // ends with the connections, which the caller cuts
		defer close(ended)
		conns.Wait()
	}()
	limit := time.NewTimer(s.grace)
	defer limit.Stop()
	select {
	case <-ended:
	case <-limit.C:
	}
}

func closeQUIC(c *quic.Conn, why http3.ErrCode) {
	_ = c.CloseWithError(quic.ApplicationErrorCode(why), "")
}

// connection answers requests until the client goes, or ctx ends and those that run have
// ended, or cutting ends.
func (s *quicServer) connection(ctx, cutting context.Context, c *quic.Conn) {
	raw, err := s.http.NewRawServerConn(c)
	if err != nil {
		s.log.Debug("http/3", "err", err)
		closeQUIC(c, http3.ErrCodeInternalError)
		return
	}
	var others sync.WaitGroup
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
	requests := s.requests(ctx, c, raw)
	others.Go(func() { rejectStreams(c) })
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

// requests has requests answered until the client goes or ctx ends; those that run may be waited for. A stream that
// the client has reset counts for the library until its answer ends.
func (s *quicServer) requests(ctx context.Context, c *quic.Conn, raw *http3.RawServerConn) *sync.WaitGroup {
	var running sync.WaitGroup
	for {
		str, err := c.AcceptStream(ctx)
		if err != nil {
			return &running
		}
		_ = str.SetReadDeadline(time.Now().Add(s.headers)) // until answer has all of it
		running.Go(func() { raw.HandleRequestStream(str) })
	}
}

// rejectStreams tells the client, until it goes, that no more requests are answered.
func rejectStreams(c *quic.Conn) {
	for {
		str, err := c.AcceptStream(c.Context())
		if err != nil {
			return
		}
		str.CancelRead(quic.StreamErrorCode(http3.ErrCodeRequestRejected))
		str.CancelWrite(quic.StreamErrorCode(http3.ErrCodeRequestRejected))
	}
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
	defer s.logPanic()
	h.ServeHTTP(w, r)
}

// logPanic has the stream cut after a panic, as the library would, which would print it.
func (s *quicServer) logPanic() {
	switch why := recover(); why {
	case nil:
	default:
		s.log.Error("http/3: panic", "why", why, "stack", string(debug.Stack()))
		fallthrough
	case http.ErrAbortHandler:
		panic(http.ErrAbortHandler)
	}
}

// bodyOf reads from one, and closes another.
type bodyOf struct {
	io.Reader
	io.Closer
}
