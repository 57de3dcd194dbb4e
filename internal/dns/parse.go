package dns

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// ErrResolver says that a text names no resolver.
var ErrResolver = errors.New("invalid DNS resolver")

// System names the resolver that the operating system is configured with.
const System = "system"

// Options of Parse. The zero value is right outside of tests.
type Options struct {
	// HTTP carries questions to resolvers over HTTPS. Nil: http.DefaultTransport.
	HTTP http.RoundTripper
	// ResolvConf is where "system" finds its servers. Empty: /etc/resolv.conf.
	ResolvConf string
}

// Parse reads "system", "https://HOST/PATH" (RFC 8484), or "udp://IP" with a port if it isn't 53; a plain IP is the
// latter. It asks nobody. ErrResolver.
func Parse(spec string, o Options) (Resolver, error) {
	switch {
	case spec == System:
		if o.ResolvConf == "" {
			o.ResolvConf = resolvConf
		}
		return &system{file: o.ResolvConf, native: native{net.DefaultResolver}}, nil
	case strings.HasPrefix(spec, "https://"), strings.HasPrefix(spec, "http://"):
		if err := parseHTTPS(spec); err != nil {
			return nil, err
		}
		return &remote{name: spec, exchange: askHTTPS(spec, o.HTTP)}, nil
	}
	server, err := parseServer(strings.TrimPrefix(spec, "udp://"))
	if err != nil {
		return nil, fmt.Errorf("%w: %q is neither system, https://HOST/PATH nor udp://IP", ErrResolver, spec)
	}
	return &remote{name: "udp://" + server, exchange: askServers([]string{server})}, nil
}

// parseServer gives "IP:port". A server is no name: who should say where that is?
func parseServer(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"), "53"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return "", err
	}
	a, err := netip.ParseAddrPort(net.JoinHostPort(ip.String(), port))
	if err != nil || a.Port() == 0 {
		return "", fmt.Errorf("no port: %q", port)
	}
	return a.String(), nil
}
