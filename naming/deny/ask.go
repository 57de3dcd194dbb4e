package deny

import (
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
)

// verdict is the last rule for a path below a key, or nil.
func verdict(chain *rule, path string) *rule {
	for r := chain; r != nil; r = r.older {
		if r.matches(path) {
			return r
		}
	}
	return nil
}

// block is the rule for what is at a path below a CID.
func (t *table) block(c cid.Cid, path string) *rule {
	found := verdict(t.blocks[string(c.Hash())], path)
	if len(t.double) == 0 {
		return found
	}
	found = t.hashed(found, c.Hash().B58String(), path, false)
	if t.legacy {
		found = t.hashed(found, cid.NewCidV1(c.Type(), c.Hash()).String(), path, true)
	}
	return found
}

// name is the rule for what is at a path below a name or domain. One for the
// name alone counts for all that is below it: without the name there is no way to it.
func (t *table) name(id, path string) *rule {
	key, ok := nameKey(id)
	if !ok {
		return nil
	}
	found := verdict(t.names[key], path)
	if alone := verdict(t.names[key], ""); alone != nil && alone.later(found) {
		found = alone
	}
	if len(t.double) == 0 {
		return found
	}
	if h, err := multihash.Cast([]byte(key)); err == nil {
		found = t.hashed(found, h.B58String(), path, false)
		if t.legacy {
			found = t.hashed(found, cid.NewCidV1(cid.Libp2pKey, h).String(), path, true)
		}
		return found
	}
	found = t.hashed(found, "/ipns/"+key, path, false)
	if t.legacy {
		found = t.hashed(found, key, path, true)
	}
	return found
}

// hashed looks a text up by its double hash. The legacy form has a slash also
// where there is no path, and is of SHA-256 only.
func (t *table) hashed(found *rule, key, path string, legacy bool) *rule {
	if path != "" || legacy {
		key += "/" + path
	}
	for code := range t.hashes {
		if !legacy {
			found = t.lookUp(found, key, code)
		}
	}
	if legacy {
		found = t.lookUp(found, key, multihash.SHA2_256)
	}
	return found
}

func (t *table) lookUp(found *rule, text string, code uint64) *rule {
	h, err := multihash.Sum([]byte(text), code, -1)
	if err != nil {
		return found
	}
	if r := t.double[string(h)]; r != nil && r.later(found) {
		return r
	}
	return found
}

// below is a rule that denies something further down than a path below a key, or nil.
func below(chain *rule, path string) *rule {
	for r := chain; r != nil; r = r.older {
		if !r.allow && r.path != "" && (path == "" || strings.HasPrefix(r.path, path+"/")) {
			if v := verdict(chain, r.path); v == r {
				return r
			}
		}
	}
	return nil
}
