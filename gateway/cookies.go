package gateway

import "golang.org/x/net/publicsuffix"

// SharedCookies is the domains for which a site on a gateway host with
// subdomains can set cookies that the other sites there get, too: a browser
// refuses that only for domains on the Public Suffix List, by the edition that
// this program was built with. Nil where there are none. The host is a name without port.
func SharedCookies(host string) (shared []string) {
	for _, ns := range []string{"ipfs", "ipns"} {
		parent := ns + "." + host
		if suffix, _ := publicsuffix.PublicSuffix("site." + parent); suffix != parent {
			shared = append(shared, parent)
		}
	}
	return shared
}
