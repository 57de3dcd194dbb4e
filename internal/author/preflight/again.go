package preflight

import (
	"hash/fnv"
	"slices"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/merkle"
)

// fewPages is up to how many pages are read one after the other, with only
// those folders that their links lead through. Above it all folders are read, which
// lets several workers share them.
const fewPages = 64

// again checks what differs from the last check. It reports false where that
// can't be told apart: then all must be read.
//
// A page that stayed the same keeps its findings, unless something came or went
// where its links lead. What came can only mend links that have a finding, so
// those are judged again. What went can break any link to it; of those
// we know only whether there are any, and if so everything is read: a list of who
// links where would be larger than the sites' own folders, and be written anew
// with each publish.
func (c *checker) again(before *Result) (bool, error) {
	if before.more != ([manyKinds]int{}) {
		return false, nil
	}
	d, ok := c.differs(before)
	if !ok {
		return false, c.ctx.Err()
	}
	for _, f := range before.findings {
		if f.Kind.ofRules() {
			continue // they are told anew
		}
		if d.came && !d.files[f.Page] && f.Target+f.Link != "" && c.judgedOtherwise(f) {
			d.files[f.Page] = true
		}
	}
	for _, f := range before.findings {
		if f.Page != "" && !d.files[f.Page] && !d.gone[f.Page] && !f.Kind.ofRules() {
			c.findings = append(c.findings, f)
		}
	}
	c.before = before.linked
	if len(d.files) > fewPages {
		if _, err := c.tree.load(); err != nil {
			return false, err
		}
	} else {
		c.Workers = 1
	}
	files := make([]file, 0, len(d.files))
	for path := range d.files {
		e := c.tree.entry(path)
		if e == nil {
			return false, c.tree.err
		}
		files = append(files, file{path, e})
	}
	if err := c.all(files); err != nil {
		return false, err
	}
	return c.more == [manyKinds]int{}, nil
}

// ofRules tells whether findings of the kind are Options.Known.
func (k Kind) ofRules() bool { return k == IgnoredField || k == IgnoredFile || k == IdleRule }

// difference is what distinguishes two roots.
type difference struct {
	files map[string]bool // to be looked at
	gone  map[string]bool
	came  bool // paths came or went
}

// differs compares the roots. False where everything must be read: the roots can't be compared, the
// rules are others, or something that is linked to is gone.
func (c *checker) differs(before *Result) (difference, bool) {
	d := difference{files: make(map[string]bool), gone: make(map[string]bool)}
	for change, err := range merkle.Diff(c.ctx, c.tree.get, before.root, c.root) {
		if err != nil || change.Path == "" || isRules(change.Path) || len(d.files)+len(d.gone) > maxKept {
			return d, false
		}
		switch change.Kind {
		case merkle.Removed:
			if _, linked := slices.BinarySearch(before.linked, digest(change.Path)); linked {
				return d, false
			}
			d.gone[change.Path], d.came = true, true
			c.withCodings(&d, change.Path)
			continue
		case merkle.Added:
			if c.tree.entry(fallbackPage) != nil {
				return d, false // it may have answered for links that have no finding
			}
			d.came = true
		}
		if change.After.Prefix().Codec == cid.Raw || change.Path[len(change.Path)-1] != '/' {
			d.files[change.Path] = true
			c.withCodings(&d, change.Path)
		}
	}
	return d, true
}

// withCodings has the files be looked at that stand for a changed one in a coding.
func (c *checker) withCodings(d *difference, path string) {
	for ext := range codings {
		if e := c.tree.entry(path + ext); e != nil {
			d.files[path+ext] = true
		}
	}
}

// judgedOtherwise says that a link's finding isn't any more what it was.
func (c *checker) judgedOtherwise(f Finding) bool {
	switch f.Kind {
	case LocalLink, LargeFile, StaleCoding:
		return false
	}
	now, ok := c.judge(f.Page, []byte(f.Target), f.Kind == RootAbsolute)
	return ok || now.Kind != f.Kind || short(now.Suggestion) != f.Suggestion
}

// digest stands for a path. That two paths have the same costs a check of everything,
// at worst.
func digest(path string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(path))
	return h.Sum64()
}

// result is what the check has found.
func (c *checker) result() *Result {
	slices.SortFunc(c.findings, compare)
	r := &Result{root: c.root, findings: c.findings, more: c.more, linked: slices.Clone(c.before)}
	for dir, f := range c.tree.folders {
		if f == nil {
			continue
		}
		for name, e := range f.entries {
			if e.linked.Load() {
				r.linked = append(r.linked, digest(join(dir, name)))
			}
		}
	}
	slices.Sort(r.linked)
	r.linked = slices.Compact(r.linked)
	return r
}

// Root is what was checked.
func (r *Result) Root() cid.Cid { return r.root }

// Report tells what was found.
func (r *Result) Report() Report {
	out := Report{Counts: make(map[Kind]int), Findings: []Finding{}}
	first := make(map[flaw]int) // where it is in Findings
	for _, f := range r.findings {
		at, known := first[f.flaw()]
		if known {
			out.Findings[at].Others++
		}
		if out.Counts[f.Kind]++; out.Counts[f.Kind] <= maxReported {
			if !known {
				first[f.flaw()] = len(out.Findings)
			}
			f.say()
			out.Findings = append(out.Findings, f)
		}
	}
	for i, n := range r.more {
		if n > 0 {
			out.Counts[kinds[i]] += n
		}
	}
	for _, n := range out.Counts {
		out.Total += n
	}
	return out
}
