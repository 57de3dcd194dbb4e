package preflight

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/ipfs/go-cid"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// isRules tells whether a file at the site's top changes what links lead to.
func isRules(path string) bool {
	switch path {
	case "_redirects", "_headers", "_options", fallbackPage:
		return true
	}
	return false
}

// fallbackPage answers for pages that are not there, where the site has it.
const fallbackPage = "200.html"

// maxPage is how much of a page is read, in bytes.
const maxPage = 16 << 20

// Options steers Check. The zero value works.
type Options struct {
	// Answers tells what the site's rules do about a path that isn't there,
	// given with a slash before it: where answered, the path of the site that is sent
	// instead, or nothing for a redirect. nil: the site has no rules.
	Answers func(path string) (instead string, answered bool)
	// CleanURLs says that gateways find x.html as x.
	CleanURLs bool
	// Known are findings of whoever read the site's rules, to be told with the others.
	Known []Finding
	// Before is what the last check of the site found; nil: everything is read.
	Before *Result
	// Workers are how many pages are read at once; 0: GOMAXPROCS.
	Workers int
	// Progress is called often, from several goroutines, with the bytes of pages; may be nil.
	Progress func(done, total int64)
}

// Result is what is known of one root. It is not changed once Check has returned it.
type Result struct {
	root     cid.Cid
	findings []Finding      // sorted, without messages
	more     [manyKinds]int // findings that are only counted, by kind
	linked   []uint64       // sorted digests of the files that links need; may name too many
}

// Check looks at everything under root. Errors are those of reading it.
func Check(ctx context.Context, g blockstore.Getter, root cid.Cid, o Options) (*Result, error) {
	if o.Before != nil && o.Before.root.Equals(root) {
		return o.Before, nil
	}
	c, err := newChecker(ctx, g, root, o)
	if err != nil {
		return nil, err
	}
	if o.Before != nil {
		if done, err := c.again(o.Before); done || err != nil {
			return c.known(), err
		}
		// What was learnt on the way may be wrong.
		if c, err = newChecker(ctx, g, root, o); err != nil {
			return nil, err
		}
	}
	files, err := c.tree.load()
	if err != nil {
		return nil, err
	}
	if err := c.all(files); err != nil {
		return nil, err
	}
	return c.known(), nil
}

// known is the result with what was known before.
func (c *checker) known() *Result {
	for _, f := range c.Known {
		c.found(f)
	}
	return c.result()
}

// checker is one check.
type checker struct {
	Options
	ctx  context.Context
	root cid.Cid
	tree *tree

	mu       sync.Mutex
	findings []Finding
	more     [manyKinds]int
	before   []uint64 // digests that still count
	answers  map[string]answer
}

// answer is what the rules do about one path. All of a site's pages may have
// the same thousand links to a rule, and a site may have thousands of rules.
type answer struct {
	instead  string
	answered bool
}

const maxAnswers = 1 << 16 // remembered

func (c *checker) answer(target string) answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, known := c.answers[target]
	if !known {
		a.instead, a.answered = c.Answers("/" + target)
		if len(c.answers) < maxAnswers {
			c.answers[target] = a
		}
	}
	return a
}

func newChecker(ctx context.Context, g blockstore.Getter, root cid.Cid, o Options) (*checker, error) {
	t, err := newTree(ctx, g, root)
	if err != nil {
		return nil, err
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Progress == nil {
		o.Progress = func(int64, int64) {}
	}
	return &checker{Options: o, ctx: ctx, root: root, tree: t, answers: make(map[string]answer)}, nil
}

// all checks the files, several at once. The tree must be loaded, or Workers be 1.
func (c *checker) all(files []file) error {
	var pages []file
	var done atomic.Int64
	var total int64
	for _, f := range files {
		if err := errors.Join(c.size(f), c.coding(f)); err != nil {
			return err
		}
		if isPage(f.path) {
			pages = append(pages, f)
			total += f.size
		}
	}
	var next atomic.Int64
	group, ctx := errgroup.WithContext(c.ctx)
	for range c.Workers {
		group.Go(func() error {
			w := worker{checker: c, told: make(map[string]bool)}
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(pages) {
					return nil
				}
				if err := w.check(pages[i]); err != nil {
					return err
				}
				c.Progress(done.Add(pages[i].size), total)
			}
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if f := c.tree.folder(""); f != nil && f.entries["index.html"] == nil {
		c.found(Finding{Kind: NoIndex})
	}
	return c.tree.err
}

func (c *checker) size(f file) error {
	n, err := c.tree.bytes(f.entry)
	if n > MaxFile {
		c.found(Finding{Kind: LargeFile, Page: f.path, Bytes: n})
	}
	return err
}

// isPage goes by the name, as gateways do.
func isPage(path string) bool {
	i := strings.LastIndexByte(path, '.')
	if i < 0 {
		return false
	}
	switch strings.ToLower(path[i+1:]) {
	case "html", "htm", "xhtml":
		return true
	}
	return false
}

func (c *checker) found(f Finding) {
	f.Link, f.Target, f.Suggestion = short(f.Link), short(f.Target), short(f.Suggestion)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.findings) < maxKept {
		c.findings = append(c.findings, f)
	} else {
		c.more[slices.Index(kinds[:], f.Kind)]++
	}
}

func short(s string) string {
	if len(s) > maxLink {
		return strings.Clone(s[:maxLink])
	}
	return s
}

// worker checks one page at a time.
type worker struct {
	*checker
	page page
	resolver
	large []byte          // space for pages of several blocks
	told  map[string]bool // where faulty links of the page lead
}

func (w *worker) check(f file) error {
	text, err := w.tree.text(f.cid, maxPage, &w.large)
	if err != nil {
		return err
	}
	w.page.scan(text)
	w.reset(f.path, w.page.base)
	clear(w.told)
	_, name := split(f.path)
	for _, l := range w.page.links {
		target, how := w.resolve(l.ref, l.loads)
		if how == nowhere {
			continue
		}
		found, ok := Finding{Kind: LocalLink}, false
		if how != astray {
			// A 404 page stands in for any path: only references from the top are right on it.
			found, ok = w.judge(f.path, target, how == toTop && name != "404.html")
		}
		where := target // a page may link to many places in another: one is enough
		if how == astray {
			where = l.ref
		}
		if ok || w.told[string(where)] {
			continue
		}
		w.told[string(where)] = true
		found.Page, found.Link = f.path, string(l.ref)
		found.Line = 1 + bytes.Count(text[:l.pos], []byte("\n"))
		w.found(found)
	}
	return nil
}

// judge says what is wrong with a link from a page to a target, or that nothing is.
func (c *checker) judge(page string, target []byte, top bool) (Finding, bool) {
	e, in := c.tree.entryAt(target), (*folder)(nil)
	if len(target) == 0 || e != nil && e.cid.Prefix().Codec != cid.Raw {
		in = c.tree.folder(string(target))
	}
	if in != nil {
		e = in.entries["index.html"]
	}
	switch {
	case e == nil && c.page(string(target)) != nil:
		return c.clean(page, string(target)), false
	case e == nil && in != nil:
		return Finding{Kind: NoIndex, Target: string(target)}, false
	case e == nil:
		return c.missing(page, string(target))
	case !e.linked.Load():
		e.linked.Store(true)
	}
	if !top {
		return Finding{}, true
	}
	return Finding{Kind: RootAbsolute, Target: string(target), Suggestion: relative(page, string(target), in != nil)}, false
}

// page is the page that a path without extension means; nil for none.
func (c *checker) page(target string) *entry {
	if !c.CleanURLs || target == "" {
		return nil
	}
	return c.tree.entry(target + ".html")
}

// clean is the finding for a link to a page without its extension.
func (c *checker) clean(page, target string) Finding {
	c.page(target).linked.Store(true)
	return Finding{Kind: CleanURL, Target: target, Suggestion: relative(page, target+".html", false)}
}

// falls tells whether the site's fallback page answers for a path: where it may be that of a page.
func (c *checker) falls(target string) bool {
	_, name := split(target)
	return c.tree.entry(fallbackPage) != nil && (isPage(name) || !strings.Contains(name, "."))
}

// missing judges a link to what isn't there.
func (c *checker) missing(page, target string) (Finding, bool) {
	if c.Answers != nil {
		if a := c.answer(target); a.answered {
			e := c.tree.served(a.instead)
			if e == nil {
				e = c.page(strings.Trim(a.instead, "/"))
			}
			if e != nil {
				e.linked.Store(true)
			}
			if e != nil || a.instead == "" {
				return Finding{}, true
			}
		}
	}
	if c.falls(target) {
		return Finding{}, true
	}
	if have := c.tree.unfold(target); have != "" {
		return Finding{Kind: WrongCase, Target: target, Suggestion: relative(page, have, c.tree.folder(have) != nil)}, false
	}
	f := Finding{Kind: BrokenLink, Target: target}
	if have := c.tree.unfold(target + ".html"); have != "" {
		f.Suggestion = relative(page, have, false)
	}
	return f, false
}

// served is the file that is sent for a path that begins with a slash; nil for none.
func (t *tree) served(path string) *entry {
	path = strings.Trim(path, "/")
	if f := t.folder(path); f != nil {
		return f.entries["index.html"]
	}
	return t.entry(path)
}
