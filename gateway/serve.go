package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Limits of Serve.
const (
	headerTimeout  = 10 * time.Second
	idleTimeout    = 2 * time.Minute
	idleInside     = 3 * time.Second // of that, in net/http: a browser that reads a page asks again within it
	maxHeaderBytes = 64 << 10
	shutdownTime   = 3 * time.Second
)

// Serve answers HTTP/1.1 on ln until ctx ends, then lets running requests end
// for up to three seconds and cuts the rest. It closes ln. A nil log discards.
// The error is nil when ctx ended it.
func Serve(ctx context.Context, ln net.Listener, h http.Handler, log *slog.Logger) error {
	return ServeTLS(ctx, ln, nil, h, log)
}

// ServeTLS is Serve with certificates, and with HTTP/2 where secure.NextProtos
// has "h2". A nil secure is plain HTTP/1.1.
func ServeTLS(ctx context.Context, ln net.Listener, secure *tls.Config, h http.Handler, log *slog.Logger) error {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() {
		if secure == nil {
			srv.ConnContext = withJoint
			ended <- newLobby(ln, patience{idleInside, idleTimeout - idleInside}).serve(srv)
			return
		}
		srv.TLSConfig = secure
		ended <- srv.ServeTLS(ln, "", "")
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	if srv.Shutdown(grace) != nil {
		_ = srv.Close() // ends the contexts of what still runs
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
