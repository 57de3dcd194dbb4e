package node

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/holdfast-sites/holdfast/gateway"
)

// Diagnosis is one thing that Doctor looked at.
type Diagnosis struct {
	Check   string `json:"check"`  // "cookies", "origins", "psk", "disk", "address", "certificate", "site", "host", "network", "clock", "domain"
	About   string `json:"about"`  // a host, a site, a file, or a setting
	Fine    bool   `json:"fine"`   // there is nothing to do
	Broken  bool   `json:"broken"` // it doesn't work, or soon won't; neither: it is less safe than it seems
	Message string `json:"message"`
	Advice  string `json:"advice,omitempty"` // what to do; empty where it is fine, or can't be helped
}

// Doctor looks a configuration over for what works and is still not as safe as
// its owner may believe. It asks nobody, and changes nothing.
func Doctor(cfg Config) []Diagnosis {
	out := []Diagnosis{}
	if cfg.Gateway.Listen != "" || len(cfg.Gateway.Hosts) > 0 {
		out = append(out, cookies("localhost"))
		for _, host := range slices.Sorted(maps.Keys(cfg.Gateway.Hosts)) {
			if host != "localhost" {
				out = append(out, gatewayHost(host, cfg.Gateway.Hosts[host]))
			}
		}
		if open(cfg.Gateway.Listen) && len(cfg.Gateway.Hosts) == 0 {
			out = append(out, Diagnosis{
				Check: "origins", About: "gateway.listen",
				Message: cfg.Gateway.Listen + " is open to other machines, which see all sites on one origin: scripts run there without storage, cookies or workers",
				Advice:  `give the gateway a host name of its own: [gateway.hosts."NAME"] with subdomains = true`,
			})
		}
	}
	if cfg.P2P.PSKFile != "" {
		out = append(out, psk(cfg))
	}
	return out
}

// gatewayHost is what isolates the sites on a host from each other.
func gatewayHost(host string, h GatewayHost) Diagnosis {
	switch {
	case h.trustless():
		return Diagnosis{Check: "origins", About: host, Fine: true, Message: "serves blocks, CARs and records only, which no browser runs"}
	case !h.Subdomains:
		return Diagnosis{
			Check: "origins", About: host,
			Message: "all sites share one origin: scripts run there without storage, cookies or workers",
			Advice:  fmt.Sprintf("[gateway.hosts.%q] with subdomains = true, and DNS and a certificate for *.ipns.%s and *.ipfs.%s", host, host, host),
		}
	default:
		return cookies(host)
	}
}

// cookies tells whether the sites under a host can set cookies for each other.
func cookies(host string) Diagnosis {
	d := Diagnosis{Check: "cookies", About: host}
	shared := gateway.SharedCookies(host)
	switch {
	case len(shared) == 0:
		d.Fine, d.Message = true, "is on the Public Suffix List: browsers keep the cookies of its sites apart"
	case host == "localhost":
		d.Message = "a site at NAME.ipns.localhost can set a cookie for ipns.localhost, which other sites there get"
		d.Advice = "open sites of this machine at their alias, http://ALIAS.localhost, where browsers refuse that; it is the address that publish prints"
	default:
		d.Message = fmt.Sprintf("a site there can set cookies for %s, which all its other sites get", strings.Join(shared, " and "))
		d.Advice = fmt.Sprintf("ask for %s to be put on the Public Suffix List, https://publicsuffix.org/submit/; until then, sites with logins belong on domains of their own", strings.Join(shared, " and "))
	}
	return d
}

// psk is what a private network's key does not cover.
func psk(cfg Config) Diagnosis {
	d := Diagnosis{Check: "psk", About: "p2p.psk_file", Fine: true, Message: "connections between peers need the key; QUIC does without them"}
	var plain []string
	for setting, listen := range map[string]string{"gateway.listen": cfg.Gateway.Listen, "pins.listen": cfg.Pins.Listen} {
		if open(listen) {
			plain = append(plain, setting)
		}
	}
	if len(plain) > 0 {
		slices.Sort(plain)
		d.Fine, d.Message = false, "the key protects connections between peers only; "+strings.Join(plain, " and ")+" speak HTTP to whoever reaches them"
		d.Advice = "listen on 127.0.0.1, or keep others away with a firewall"
	}
	return d
}

// open tells whether an address of ours can be reached from other machines.
func open(listen string) bool {
	if listen == "" {
		return false
	}
	host, _, _ := strings.Cut(listen, ":")
	if a, err := netip.ParseAddrPort(listen); err == nil {
		return !a.Addr().IsLoopback()
	}
	return host != "localhost"
}
