package author

import (
	"context"
	"errors"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/merkle"
)

// errUnchanged ends a publish that has nothing to publish. It is no failure.
var errUnchanged = errors.New("the folder is as it was published")

// compare ends a publish with OnlyChanged where the folder is as we published
// it last, and else counts the files that differ.
func (a *Author) compare(ctx context.Context, p *publication) error {
	if !p.req.OnlyChanged {
		return nil
	}
	site, err := a.State.SiteByName(ctx, p.name)
	if errors.Is(err, state.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if site.Root.Equals(p.built.Root) {
		return errUnchanged
	}
	var n int64
	for _, err := range merkle.Diff(ctx, a.Store, site.Root, p.built.Root) {
		if err != nil {
			return ctx.Err() // the number is only for people
		}
		n++
	}
	p.changed = n
	return nil
}
