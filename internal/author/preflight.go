package author

import (
	"context"
	"errors"

	"github.com/holdfast-sites/holdfast/merkle"
)

// maxRules is the size, in bytes, up to which gateways read a _redirects file
// (https://specs.ipfs.tech/http-gateways/web-redirects-file/).
const maxRules = 64 << 10

// preflight is step 3: what would surprise the site's readers, said before
// anybody else holds it.
func (a *Author) preflight(ctx context.Context, p *publication) error {
	if _, err := merkle.Resolve(ctx, a.Store, p.built.Root, "index.html"); err != nil {
		p.warn("there is no index.html at the top: readers will see a list of files")
	}
	c, err := merkle.Resolve(ctx, a.Store, p.built.Root, "_redirects")
	if err != nil {
		return nil // no rules, or the root is one file
	}
	f, err := merkle.OpenFile(ctx, a.Store, c)
	if err != nil {
		return &merkle.PathError{Path: "_redirects", CID: c, Err: errors.New("must be a file")}
	}
	defer f.Close()
	text, err := readUpTo(f, maxRules+1)
	if err != nil {
		return err
	}
	if len(text) > maxRules {
		return &merkle.PathError{Path: "_redirects", CID: c, Err: errors.New("is larger than 65536 bytes, which no gateway reads")}
	}
	if err := a.Rules(text); err != nil {
		return &merkle.PathError{Path: "_redirects", CID: c, Err: err}
	}
	return nil
}
