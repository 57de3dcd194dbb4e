package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// listen opens the sockets that the config names. Their real ports are known
// from here on.
func (n *Node) listen(ctx context.Context) (err error) {
	lc := net.ListenConfig{}
	open := func(addr, setting string) (net.Listener, error) {
		if addr == "" {
			return nil, nil
		}
		ln, err := lc.Listen(ctx, "tcp", addr)
		return ln, notListening(err, addr, setting)
	}
	if n.gatewayLn, err = open(n.cfg.Gateway.Listen, "--gateway 127.0.0.1:0"); err != nil {
		return err
	}
	if n.pinsLn, err = open(n.cfg.Pins.Listen, "--pins 127.0.0.1:0"); err != nil {
		return err
	}
	if err := n.cfg.Gateway.TLS.check(); err != nil || n.cfg.Gateway.TLS.Listen == "" {
		return err
	}
	if err := n.listenSecure(ctx); err != nil {
		return err
	}
	n.certs, err = openCerts(n.cfg.Gateway.TLS, n.cfg.Home, n.gatewayLn, n.secureLn, n.keepsDomain, n.log)
	return err
}

// freePortTries is how many ports are tried where any will do: one that is free for TCP may be taken for UDP.
const freePortTries = 20

// listenSecure listens for TLS, and for HTTP/3 at the same port of UDP.
func (n *Node) listenSecure(ctx context.Context) (err error) {
	const setting = `gateway.tls.listen = "127.0.0.1:0"`
	cfg := n.cfg.Gateway.TLS
	_, port, _ := net.SplitHostPort(cfg.Listen)
	for try := 1; ; try++ {
		if n.secureLn, err = new(net.ListenConfig).Listen(ctx, "tcp", cfg.Listen); err != nil || !cfg.HTTP3 {
			return notListening(err, cfg.Listen, setting)
		}
		addr := n.secureLn.Addr().String()
		if n.secureUDP, err = new(net.ListenConfig).ListenPacket(ctx, "udp", addr); err == nil {
			return nil
		}
		if port != "0" || try == freePortTries || !errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("gateway.tls.http3: %w", notListening(err, addr+" (UDP)", setting))
		}
		_ = n.secureLn.Close()
	}
}

// notListening says what to do about an address that can't be listened on; setting
// is how a free port is asked for.
func notListening(err error, addr, setting string) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s is taken by another program; choose another address, or a free port with %s: %w", addr, setting, err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s is for privileged programs; give this one the right (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE; else: sudo setcap cap_net_bind_service=+ep PROGRAM), or choose a port from 1024 on: %w", addr, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s is no address of this machine; 0.0.0.0 stands for all that it has: %w", addr, err)
	}
	return err
}

// gatewayURL is where this machine's gateway is, or would be.
func (n *Node) gatewayURL() string {
	if n.gatewayLn != nil {
		return "http://" + n.gatewayLn.Addr().String()
	}
	addr := n.cfg.Gateway.Listen
	if _, port, err := net.SplitHostPort(addr); err != nil || port == "0" {
		addr = DefaultGateway
	}
	return "http://" + addr
}

// DefaultGateway is where a gateway listens when nothing else is said.
const DefaultGateway = "127.0.0.1:8080"

// reachable is a listener's URL as this machine reaches it: an unspecified
// address is every interface's, loopback among them.
func reachable(a net.Addr) string {
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return "http://" + a.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}
