package gateway

import "strings"

// withoutDots resolves the dot segments of an unescaped path, which clients do
// themselves unless the dots or slashes were escaped ("a%2F..%2Fb"). Not ok where
// there is nothing to do, and where they would lead above what the path begins with:
// the site, or the CID or name of a content path. Such a path stays as it is, to be refused.
//
// Source: https://specs.ipfs.tech/http-gateways/path-gateway/
func withoutDots(path string) (clean string, ok bool) {
	if !strings.Contains(path, "/.") {
		return path, false
	}
	floor := 1 // the empty segment before the first slash
	if _, id, _ := splitNamespace(path); id != "" {
		floor = 3
	}
	var kept []string
	dots := false
	segments := strings.Split(path, "/")
	for i, s := range segments {
		last := i == len(segments)-1
		switch s {
		case ".", "..":
			dots = true
			if s == ".." {
				if len(kept) <= floor {
					return path, false
				}
				kept = kept[:len(kept)-1]
			} else if len(kept) < floor {
				return path, false
			}
			if last {
				kept = append(kept, "") // what remains is a folder
			}
		default:
			kept = append(kept, s)
		}
	}
	return strings.Join(kept, "/"), dots
}
