package author

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
)

// Address is a parsed ADDRESS of the command line: content by CID or by name,
// and a path in it.
type Address struct {
	CID  cid.Cid     // defined for immutable addresses
	Name naming.Name // of the site otherwise
	Path string      // in the folder, without a leading slash
}

// ParseAddress understands a CID, /ipfs/…, /ipns/…, ipfs://, ipns://, a site's
// alias or name, and a domain with a DNSLink where DNS may be asked, each with a path.
func (a *Author) ParseAddress(ctx context.Context, s string) (Address, error) {
	kind, first, rest, err := splitAddress(s)
	if err != nil {
		return Address{}, err
	}
	out := Address{Path: rest}
	if kind != "ipns" {
		if c, err := cid.Decode(first); err == nil && (kind == "ipfs" || c.Type() != cid.Libp2pKey) {
			out.CID = c
			return out, nil
		} else if kind == "ipfs" {
			return out, usagef("%q is not a CID: %v", first, err)
		}
	}
	if out.Name, err = naming.ParseName(first); err == nil {
		return out, nil
	}
	site, err := a.State.SiteByAlias(ctx, first)
	if err == nil {
		out.Name = site.Name
		return out, nil
	}
	if !errors.Is(err, state.ErrNotFound) {
		return out, err
	}
	if key, err := a.Keys.Info(first); err == nil {
		out.Name = key.Name
		return out, nil
	}
	if a.DNSLink != nil && strings.Contains(first, ".") {
		target, _, err := a.DNSLink(ctx, first) // a CID or name: never another domain
		if err != nil {
			return out, err
		}
		return a.ParseAddress(ctx, strings.TrimSuffix(target+"/"+rest, "/"))
	}
	return out, fmt.Errorf("%w: %q is no CID, no name, and no site of this machine", ErrNoSite, first)
}

// splitAddress tells which namespace an address is in ("" where it doesn't
// say), its first segment, and the path behind that. URLs are unescaped, plain
// paths are taken byte for byte.
func splitAddress(s string) (kind, first, rest string, err error) {
	if !strings.Contains(s, "/") {
		s = strings.TrimSpace(s) // pasted; in a path a space may be part of a name
	}
	switch {
	case strings.HasPrefix(s, "ipfs://"), strings.HasPrefix(s, "ipns://"):
		kind, s = s[:4], s[7:]
		if s, err = url.PathUnescape(s); err != nil {
			return "", "", "", usagef("%v", err)
		}
	case strings.HasPrefix(s, "/ipfs/"), strings.HasPrefix(s, "/ipns/"):
		kind, s = s[1:5], s[6:]
	}
	first, rest, _ = strings.Cut(s, "/")
	if first == "" {
		return "", "", "", usagef("empty address")
	}
	return kind, first, strings.Trim(rest, "/"), nil
}
