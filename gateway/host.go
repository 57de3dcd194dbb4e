package gateway

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// host is a parsed Host header. The zero value is none.
type host struct {
	name string     // lower case, without a final dot; empty for an IP address
	ip   netip.Addr // invalid for a name
	port string     // may be empty
}

var errBadHost = errors.New("malformed Host header")

// parseHost is strict, because the host decides whose origin an answer is for:
// no user, no path, no empty or overlong label, no number that a browser would
// read as an IPv4 address in disguise.
func parseHost(s string) (host, error) {
	var h host
	if s == "" || len(s) > 260 {
		return h, errBadHost
	}
	name := s
	if rest, ok := strings.CutPrefix(s, "["); ok {
		lit, after, found := strings.Cut(rest, "]")
		ip, err := netip.ParseAddr(lit)
		if !found || err != nil || !ip.Is6() || ip.Zone() != "" {
			return h, errBadHost
		}
		h.ip, name = ip, ""
		if after == "" {
			return h, nil
		}
		s = after
	}
	if i := strings.IndexByte(s, ':'); i >= 0 {
		port := s[i+1:]
		if !validPort(port) {
			return h, errBadHost
		}
		h.port = port
		if !h.ip.IsValid() {
			name = s[:i]
		} else if i != 0 {
			return h, errBadHost
		}
	} else if h.ip.IsValid() {
		return h, errBadHost
	}
	if h.ip.IsValid() {
		return h, nil
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if ip, err := netip.ParseAddr(name); err == nil && ip.Is4() {
		h.ip = ip
		return h, nil
	}
	if !validDomain(name) {
		if slices.ContainsFunc(strings.Split(name, "."), func(l string) bool { return len(l) > maxLabel }) {
			return h, fmt.Errorf("%w: %w", errBadHost, errLongLabel)
		}
		return h, errBadHost
	}
	h.name = name
	return h, nil
}

func validPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0 && len(s) <= 5
}

func validDomain(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	labels := strings.Split(name, ".")
	for _, l := range labels {
		if l == "" || len(l) > maxLabel || l[0] == '-' || l[len(l)-1] == '-' {
			return false
		}
		for _, c := range []byte(l) {
			if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	// A last label that is a number makes the whole an IPv4 address to a browser (127.1, 0x7f.1).
	last := labels[len(labels)-1]
	_, err := strconv.ParseUint(last, 0, 64)
	return err != nil && strings.Trim(last, "0123456789") != ""
}

// String is the canonical spelling, with the port where there is one.
func (h host) String() string {
	s := h.name
	if h.ip.IsValid() {
		s = h.ip.String()
		if h.ip.Is6() {
			s = "[" + s + "]"
		}
	}
	if h.port != "" {
		s += ":" + h.port
	}
	return s
}

// loopback tells whether the host can only mean this machine.
func (h host) loopback() bool {
	return h.name == "localhost" || h.ip.IsValid() && h.ip.Unmap().IsLoopback()
}

// place is what a host name stands for on this gateway.
type place struct {
	kind   placeKind
	config HostConfig
	parent host   // of origins: the gateway host they are under
	ns     string // the label before parent; of placeID: "ipfs" or "ipns"
	id     string // placeID: CID, name or domain; placeAlias: the alias
}

type placeKind int

const (
	placeUnknown placeKind = iota // by path, or a DNSLink domain of its own
	placeGateway                  // a host of the config
	placeID                       // <id>.ipfs.<host>, <id>.ipns.<host>
	placeAlias                    // <alias>.<host>
	placeNowhere                  // under a host of the config, and nothing there
)

// locate finds the gateway host that h is, or is under.
func locate(hosts map[string]HostConfig, h host) place {
	if h.ip.IsValid() {
		return place{kind: placeUnknown}
	}
	if c, ok := hosts[h.name]; ok {
		return place{kind: placeGateway, config: c, parent: h}
	}
	labels := strings.Split(h.name, ".")
	for i := 1; i < len(labels); i++ {
		parent := host{name: strings.Join(labels[i:], "."), port: h.port}
		c, ok := hosts[parent.name]
		if !ok {
			continue
		}
		p := place{config: c, parent: parent, kind: placeNowhere, ns: labels[i-1]}
		switch ns := labels[i-1]; {
		case i >= 2 && c.Subdomains && (ns == "ipfs" || ns == "ipns") && c.serves("/"+ns):
			p.kind, p.id = placeID, strings.Join(labels[:i-1], ".")
		case i == 1 && c.Aliases && ns != "ipfs" && ns != "ipns":
			p.kind, p.id = placeAlias, ns
		case !c.Subdomains && !c.Aliases:
			p.kind = placeUnknown
		}
		return p
	}
	return place{kind: placeUnknown}
}

// mayBeDomain tells whether a host name may be a site's by its DNSLink. Under a host
// of the config that holds for what can't be an origin there, but on localhost.
func (p place) mayBeDomain(h host) bool {
	if h.name == "" || !strings.Contains(h.name, ".") {
		return false
	}
	return p.kind == placeUnknown || p.kind == placeNowhere && p.ns != "ipfs" && p.ns != "ipns" && !p.parent.loopback()
}

// serves tells whether the namespace ("/ipfs", "/ipns") is served on the host.
func (c HostConfig) serves(ns string) bool {
	return c.Paths == nil || slices.Contains(c.Paths, ns)
}

// checkHosts checks the configured hosts and adds localhost.
func checkHosts(in map[string]HostConfig) (map[string]HostConfig, error) {
	out := map[string]HostConfig{"localhost": {Subdomains: true, InlineDNSLink: true, Aliases: true}}
	for name, c := range in {
		h, err := parseHost(name)
		if err != nil || h.port != "" || h.ip.IsValid() {
			return nil, fmt.Errorf("gateway: host %q: want a domain name without port", name)
		}
		paths := make([]string, 0, len(c.Paths))
		for _, p := range c.Paths {
			p = strings.TrimSuffix(p, "/")
			if p != "/ipfs" && p != "/ipns" {
				return nil, fmt.Errorf("gateway: host %q: path %q is neither /ipfs nor /ipns", name, p)
			}
			paths = append(paths, p)
		}
		if c.Paths != nil {
			c.Paths = paths
		}
		out[h.name] = c
	}
	return out, nil
}
