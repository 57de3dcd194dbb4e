package author

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ipfs/go-cid"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-sites/holdfast/internal/author/preflight"
)

// PreflightError says that a site was refused for what the preflight found in it.
type PreflightError struct{ Report preflight.Report }

// shownFindings is how many findings of a kind people are told unasked.
const shownFindings = 10

func (e *PreflightError) Error() string {
	return fmt.Sprintf("the preflight found %d flaws, and --strict was asked for: nothing was signed or kept\n%s",
		e.Report.Total, strings.TrimSuffix(e.Report.Text(shownFindings), "\n"))
}

// Details is what a program may act on.
func (e *PreflightError) Details() map[string]any { return map[string]any{"preflight": e.Report} }

// preflight is steps 2 and 3: the durable barrier, and meanwhile what would surprise the site's
// readers, said before anybody else holds it.
func (a *Author) preflight(ctx context.Context, p *publication) error {
	if p.req.Root != "" { // readers have seen it
		return p.session.Sync(ctx)
	}
	group, gctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.session.Sync(gctx) })
	group.Go(func() (err error) {
		p.findings, err = a.check(gctx, p.built.Root, a.memory(p), p.req.Strict, p.report)
		return err
	})
	return group.Wait()
}

// memory is the file that keeps what the last preflight of the site found.
func (a *Author) memory(p *publication) string {
	if a.Cache == "" {
		return ""
	}
	return filepath.Join(a.Cache, "preflight-"+p.name.String())
}

// check looks at everything under a root, or, where memory names a file with
// what an earlier check found, at what has changed since. *PreflightError
// where it finds anything and must not.
func (a *Author) check(ctx context.Context, root cid.Cid, memory string, strict bool, report func(Event)) (preflight.Report, error) {
	rules, err := a.rules(ctx, root)
	if err != nil {
		return preflight.Report{}, err
	}
	o := preflight.Options{Answers: rules.Answers, CleanURLs: rules.CleanURLs, Known: rules.Known, Progress: patiently(report)}
	if memory != "" {
		o.Before = preflight.Load(memory)
	}
	found, err := preflight.Check(ctx, a.Store, root, o)
	if err != nil {
		return preflight.Report{}, err
	}
	if memory != "" && found != o.Before {
		if err := found.Save(memory); err != nil {
			a.Log.Debug("the preflight's findings are not remembered", "err", err)
		}
	}
	r := found.Report()
	if strict && r.Total > 0 {
		return r, &PreflightError{r}
	}
	return r, nil
}

// patiently reports the progress of a check that takes longer than people
// wait without wondering, some times a second.
func patiently(report func(Event)) func(done, total int64) {
	const every = 100 * time.Millisecond
	var next atomic.Int64
	next.Store(time.Now().Add(time.Second).UnixNano())
	return func(done, total int64) {
		now, due := time.Now(), next.Load()
		if now.UnixNano() >= due && next.CompareAndSwap(due, now.Add(every).UnixNano()) {
			report(Event{Step: "check", Done: done, Total: total})
		}
	}
}
