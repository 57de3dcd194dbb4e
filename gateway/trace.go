package gateway

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/naming"
)

// Step is where an answer failed.
type Step string

// The way of a request, in order.
const (
	StepRequest Step = "request" // host, method, parameters
	StepName    Step = "name"    // alias or domain → name
	StepRecord  Step = "record"  // name → record
	StepRoot    Step = "root"    // the root block
	StepPath    Step = "path"    // root → the path's block
	StepBlock   Step = "block"   // a block of the content
	StepRules   Step = "rules"   // the site's own rules file
)

// trace is what became known while one request was worked on. boxo flattens
// causes into status codes; the trace keeps them. Safe for concurrent use.
type trace struct {
	started time.Time
	seat    *seat // of the request; nil: nobody limits it

	mu      sync.Mutex
	alias   string
	domain  string
	name    naming.Name
	record  naming.Resolution
	via     []naming.Name // the name and those that it led through
	root    cid.Cid
	base    string    // path under root at which the site begins: of a DNSLink with a path
	path    string    // in the site, begins with "/"
	until   time.Time // for how long root is what the name leads to; zero: for ever
	fresh   time.Time // for how long clients may keep that; zero: for ever
	changes uint64    // of the names, before they were asked
	whole   bool      // the answer holds all that is below the path
	page    bool      // the answer may be a folder's index page
	allowed cid.Cid   // root of a path that a rule of the denylist allows
	reading bool      // the path is resolved, its content is being read
	failed  *stepFailure

	below string           // path under root to which the name's record leads
	spent [3]time.Duration // on each step of timed
}

// stepFailure is the first thing that went wrong.
type stepFailure struct {
	step  Step
	block cid.Cid
	err   error
}

type traceKey struct{}

func withTrace(ctx context.Context, t *trace) context.Context {
	return context.WithValue(ctx, traceKey{}, t)
}

// traceOf is never nil: without a trace in ctx it is one that nobody reads.
func traceOf(ctx context.Context) *trace {
	if t, ok := ctx.Value(traceKey{}).(*trace); ok {
		return t
	}
	return &trace{}
}

// errTimeout is the cause of a context that ended because retrieval took too long.
var errTimeout = errors.New("nobody answered in time")

// fail remembers the first failure, unless it is only that the client left.
func (t *trace) fail(ctx context.Context, f stepFailure) {
	if ctx.Err() != nil && !timedOut(ctx) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed == nil {
		t.failed = &f
	}
}

// timedOut tells whether our own time limit ended ctx.
func timedOut(ctx context.Context) bool {
	cause := context.Cause(ctx)
	return errors.Is(cause, errTimeout) || errors.Is(cause, context.DeadlineExceeded)
}

func (t *trace) set(f func(*trace)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(t)
}

// broken tells whether something went wrong.
func (t *trace) broken() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failed != nil
}

// site names what the request is about; its root is undefined where that isn't known.
func (t *trace) site() siteKey {
	t.mu.Lock()
	defer t.mu.Unlock()
	return siteKey{t.root, t.base}
}

func (t *trace) snapshot() *trace {
	t.mu.Lock()
	defer t.mu.Unlock()
	return &trace{
		started: t.started, alias: t.alias, domain: t.domain, name: t.name, via: t.via, record: t.record,
		root: t.root, base: t.base, below: t.below, whole: t.whole, page: t.page, allowed: t.allowed, path: t.path,
		until: t.until, fresh: t.fresh, changes: t.changes, reading: t.reading, failed: t.failed,
	}
}

// blockStep is the step that a block belongs to.
func (t *trace) blockStep(c cid.Cid) Step {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.root.Defined() && c.Equals(t.root):
		return StepRoot
	case t.reading:
		return StepBlock
	default:
		return StepPath
	}
}
