package naming

import (
	"fmt"
	"strings"
)

// maxNSMap bounds what ParseNSMap reads, in bytes.
const maxNSMap = 1 << 20

// ParseNSMap reads DNSLinks that stand in for DNS, in the form of the variable IPFS_NS_MAP that other IPFS programs
// know: "example.org:/ipfs/bafy…,docs.example.org:/ipns/k51…". The result is DNSLink.Static; nil for an empty text.
// ErrInvalidName where a domain is none, ErrDNSLink where what it stands for is no content path.
func ParseNSMap(text string) (map[string]string, error) {
	if len(text) > maxNSMap {
		return nil, fmt.Errorf("%w: a map of more than %d bytes", ErrDNSLink, maxNSMap)
	}
	var links map[string]string
	for pair := range strings.SplitSeq(text, ",") {
		pair = strings.TrimSpace(pair)
		if pair == "" {
			continue
		}
		domain, link, _ := strings.Cut(pair, ":")
		name, err := ParseDomain(domain)
		if err != nil {
			return nil, err
		}
		if _, err := parseDNSLink(link); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if links == nil {
			links = make(map[string]string)
		}
		links[name] = link
	}
	return links, nil
}
