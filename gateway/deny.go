package gateway

import (
	"context"
	"net/http"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/naming/deny"
)

// denies answers for a path that the operator denies, and reports whether it did.
func (g *gateway) denies(x *transaction, path string) bool {
	err := checkPath(x.ctx, g.cfg.Denied, path)
	if err != nil {
		traceOf(x.ctx).fail(x.ctx, stepFailure{step: StepRequest, err: err})
		g.fail(x, failureOf(x.ctx, http.StatusGone, ""))
	}
	return err != nil
}

// checkPath is a *deny.Error where the operator doesn't serve a content path, or
// what is shown for it: a folder's index page, or all that is below it.
func checkPath(ctx context.Context, denied *deny.Lists, path string) error {
	if denied.Empty() {
		return nil
	}
	allowed, err := denied.Path(path)
	if err != nil {
		return err
	}
	t := traceOf(ctx)
	s := t.snapshot()
	if root, _ := splitContent(path); allowed && root.Defined() {
		t.set(func(t *trace) { t.allowed = root })
	}
	if s.whole {
		return denied.Below(path)
	}
	if s.page && strings.HasSuffix(path, "/") {
		return checkPath(ctx, denied, path+indexPage)
	}
	return nil
}

// checkBlock is a *deny.Error where a block is denied, unless it is the root
// above a path that is allowed by a rule of its own.
func checkBlock(ctx context.Context, denied *deny.Lists, c cid.Cid) error {
	err := denied.CID(c)
	if err == nil {
		return nil
	}
	if a := traceOf(ctx).snapshot().allowed; a.Defined() && a.Hash().String() == c.Hash().String() {
		return nil
	}
	return err
}

// asksWhole tells whether an answer may hold what is below the path, too.
func asksWhole(r *http.Request) bool {
	switch format, _ := formatOf(r); format {
	case tarMediaType:
		return true
	case carMediaType:
		scope := scoped(r).URL.Query().Get("dag-scope")
		return scope == "" || scope == "all"
	}
	return false
}
