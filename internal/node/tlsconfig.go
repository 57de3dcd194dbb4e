package node

import (
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
)

// GatewayTLS is the [gateway.tls] table. Without listen nobody is asked for anything.
type GatewayTLS struct {
	Listen     string    `toml:"listen"`      // "0.0.0.0:443"; empty: no TLS
	Names      []string  `toml:"names"`       // to have certificates for; "*.example.org" needs dns_hook
	OnDemand   bool      `toml:"on_demand"`   // for domains, too, whose DNSLink leads to a site that is kept here
	PerHour    int       `toml:"per_hour"`    // certificates on demand; default 10
	Email      string    `toml:"email"`       // whom the authority may write to
	CA         string    `toml:"ca"`          // ACME directory; default: Let's Encrypt, whose terms are thereby accepted
	CARoots    string    `toml:"ca_roots"`    // PEM file: whom to trust in place of the system's roots when talking to ca
	DNSHook    []string  `toml:"dns_hook"`    // command that gets "add" or "remove", a TXT record's name, and its value
	Files      []TLSPair `toml:"files"`       // certificates that you have
	NoRedirect bool      `toml:"no_redirect"` // go on serving pages on gateway.listen
	HTTP3      bool      `toml:"http3"`       // speak HTTP/3, too, on the UDP port of the same number

	// For tests; 0: certmagic's, 10 minutes and the last third.
	renewLook time.Duration // between two looks for what is to be renewed
	renewPart float64       // of a certificate's life, at its end, in which it is
}

// TLSPair is a certificate chain with its key, as PEM files.
type TLSPair struct {
	Cert string `toml:"cert"`
	Key  string `toml:"key"`
}

// check names the key that is wrong.
func (c GatewayTLS) check() error {
	switch {
	case c.Listen == "" && (len(c.Names) > 0 || c.OnDemand || len(c.Files) > 0 || c.HTTP3):
		return fmt.Errorf(`gateway.tls.listen is missing; "0.0.0.0:443" is usual`)
	case c.Listen != "" && len(c.Names) == 0 && !c.OnDemand && len(c.Files) == 0:
		return fmt.Errorf("gateway.tls: there is nothing to have a certificate for; set names, on_demand or files")
	case c.PerHour < 0:
		return fmt.Errorf("gateway.tls.per_hour is negative")
	}
	for _, name := range c.Names {
		domain, wild := strings.CutPrefix(name, "*.")
		if _, err := naming.ParseDomain(domain); err != nil {
			return fmt.Errorf("gateway.tls.names: %w", err)
		}
		if wild && len(c.DNSHook) == 0 {
			return fmt.Errorf("gateway.tls.names: %s needs gateway.tls.dns_hook: authorities give wildcards by DNS only", name)
		}
	}
	return nil
}

func (c GatewayTLS) perHour() int {
	if c.PerHour == 0 {
		return 10
	}
	return c.PerHour
}

// roots is nil where the system's are to be trusted.
func (c GatewayTLS) roots() (*x509.CertPool, error) {
	if c.CARoots == "" {
		return nil, nil
	}
	b, err := os.ReadFile(c.CARoots)
	if err != nil {
		return nil, fmt.Errorf("gateway.tls.ca_roots: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("gateway.tls.ca_roots: no certificate in %s", c.CARoots)
	}
	return pool, nil
}

// portOf is a listener's, and whether only this machine reaches it.
func portOf(ln net.Listener) (port int, loopback bool) {
	a, ok := ln.Addr().(*net.TCPAddr)
	if !ok {
		return 0, true
	}
	return a.Port, a.IP.IsLoopback()
}
