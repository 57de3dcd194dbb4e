package gateway

import (
	"context"
	"errors"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/naming"
)

// followBelow is Follow for readers, who can do without a site: a record that
// points below a root, as other people's may, leads to that root, and the trace
// keeps the way from there on.
func followBelow(ctx context.Context, names Names, n naming.Name) (chain []naming.Resolution, root cid.Cid, err error) {
	chain, root, err = names.Follow(ctx, n)
	if !errors.Is(err, naming.ErrBelowRoot) || len(chain) == 0 {
		return chain, root, err
	}
	at, path, ok := chain[len(chain)-1].Record.Below()
	if !ok {
		return chain, root, err
	}
	traceOf(ctx).set(func(t *trace) { t.below = path })
	return chain, at, nil
}
