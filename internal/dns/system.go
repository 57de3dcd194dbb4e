package dns

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"time"

	wire "github.com/miekg/dns"
)

const (
	resolvConf = "/etc/resolv.conf"
	// maxResolvConf bounds that file, in bytes, maxServers how many of its servers are asked, as in the C library.
	maxResolvConf = 64 << 10
	maxServers    = 3
	// nativeTTL stands in for a TTL where the operating system doesn't tell it.
	nativeTTL = time.Minute
)

// system asks the servers of resolv.conf, which is read for each question: a laptop changes networks. Where there is
// no such file (Windows), Go's resolver asks.
type system struct {
	file   string
	native native
}

func (s *system) String() string { return System }

// Ask implements Resolver.
func (s *system) Ask(ctx context.Context, name string, t Type) (Answer, error) {
	servers := readServers(s.file)
	if len(servers) == 0 {
		return s.native.Ask(ctx, name, t)
	}
	return (&remote{name: System, exchange: askServers(servers)}).Ask(ctx, name, t)
}

// readServers gives the servers of a resolv.conf, none where it can't be read.
func readServers(file string) (servers []string) {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxResolvConf))
	if err != nil {
		return nil
	}
	conf, err := wire.ClientConfigFromReader(bytes.NewReader(b))
	if err != nil {
		return nil
	}
	for _, s := range conf.Servers {
		if server, err := parseServer(s); err == nil && len(servers) < maxServers {
			servers = append(servers, server)
		}
	}
	return servers
}

// native asks as the operating system does. It tells neither TTLs nor aliases, and knows neither CAA nor SOA.
type native struct{ resolver *net.Resolver }

func (n native) String() string { return System }

var errNative = errors.New("this operating system's resolver can't be asked for that type")

// Ask implements Resolver.
func (n native) Ask(ctx context.Context, name string, t Type) (Answer, error) {
	name, err := fqdn(name)
	if err != nil {
		return Answer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	out := Answer{TTL: nativeTTL}
	switch t {
	case TXT:
		out.Data, err = n.resolver.LookupTXT(ctx, name)
	case A, AAAA:
		network := map[Type]string{A: "ip4", AAAA: "ip6"}[t]
		addrs, lookupErr := n.resolver.LookupNetIP(ctx, network, name)
		for _, a := range addrs {
			out.Data = append(out.Data, a.Unmap().String())
		}
		err = lookupErr
	case CNAME:
		canonical, lookupErr := n.resolver.LookupCNAME(ctx, name)
		if canonical = wire.CanonicalName(canonical); lookupErr == nil && canonical != name {
			out.Data = []string{plain(canonical)}
		}
		err = lookupErr
	default:
		err = errNative
	}
	var de *net.DNSError
	if errors.As(err, &de) && de.IsNotFound {
		return Answer{TTL: nativeTTL}, nil
	}
	if err != nil {
		return Answer{}, unavailable(n, err)
	}
	return out, nil
}
