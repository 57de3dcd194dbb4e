package gateway

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	gopath "path"
	"strings"

	redirects "github.com/ipfs/go-ipfs-redirects-file"

	"github.com/holdfast-sites/holdfast/merkle"
)

// notFoundPage is the file that a site answers a missing path with; the one
// nearest to the path counts.
const notFoundPage = "404.html"

// serveMissing answers for a path that is not there: by the site's rules where
// it has an origin of its own, then by what was there until a moment ago, then by
// the nearest 404 page. The result is as for serve.
func (c *content) serveMissing(w *pacedWriter, r *http.Request, o origin) (sent bool, status int, text string) {
	if o.isolated() {
		matched, sent, status, text := c.serveRules(w, r, o)
		if matched {
			return sent, status, text
		}
	}
	if c.serveEarlier(w, r, o) {
		return true, 0, ""
	}
	if page, ok := c.nearest404(r); ok {
		prefix := o.prefix
		if prefix == "" {
			prefix = contentPrefix(r.URL.Path)
		}
		if _, ok := c.try(w, r, o, prefix+page, http.StatusNotFound); ok {
			return true, 0, ""
		}
		// The page can't be had; that the path is not there remains true.
		traceOf(r.Context()).set(func(t *trace) { t.failed = nil })
	}
	return false, http.StatusNotFound, ""
}

// contentPrefix is "/ipfs/<cid>" of "/ipfs/<cid>/a/b".
func contentPrefix(path string) string {
	parts := strings.SplitN(path, "/", 4)
	return strings.Join(parts[:min(3, len(parts))], "/")
}

// nearest404 looks for a 404 page in the path's folder and those above it.
func (c *content) nearest404(r *http.Request) (string, bool) {
	t := traceOf(r.Context())
	s := t.snapshot()
	if !s.root.Defined() {
		return "", false
	}
	for dir := gopath.Dir(s.path); ; dir = gopath.Dir(dir) {
		page := gopath.Join(dir, notFoundPage)
		_, err := merkle.Resolve(r.Context(), c.blocks, s.root, strings.TrimPrefix(s.base+page, "/"))
		if err == nil {
			return page, true
		}
		if dir == "/" || dir == "." {
			break
		}
	}
	t.set(func(t *trace) { t.failed = nil }) // as above
	return "", false
}

// errRules says that the site's rules file can't be carried out.
var errRules = errors.New("the site's " + rulesFile + " file can't be used")

// serveRules carries out the first rule that matches. It reports whether one
// did (or the rules are broken); the rest is as for serve.
func (c *content) serveRules(w *pacedWriter, r *http.Request, o origin) (matched, sent bool, status int, text string) {
	t := traceOf(r.Context())
	s := t.snapshot()
	fail := func(err error) (bool, bool, int, string) {
		t.fail(r.Context(), stepFailure{step: StepRules, err: errors.Join(errRules, err)})
		return true, false, http.StatusInternalServerError, ""
	}
	rules, err := c.readRules(r, s)
	if err != nil {
		return fail(err)
	}
	for _, line := range rules {
		m, ok := matchRule(line.From, s.path)
		if !ok {
			continue
		}
		if catchesAll(line) && c.serveEarlier(w, r, o) {
			return true, true, 0, ""
		}
		to, err := parseTarget(line)
		if err != nil {
			return fail(err)
		}
		if line.Status >= 300 && line.Status < 400 {
			w.Header().Set("Location", to.location(m, r.URL.RawQuery))
			w.Header().Set("Content-Length", "0")
			w.WriteHeader(line.Status)
			return true, true, 0, ""
		}
		target := o.prefix + to.contentPath(m)
		if line.Status != http.StatusOK {
			a, ok := c.try(w, r, o, target, line.Status)
			if ok || a.status != http.StatusNotFound {
				return true, ok, a.status, string(a.text)
			}
			return true, false, line.Status, "" // its page is missing: ours
		}
		a, ok := c.try(w, r, o, target, 0)
		if ok || a.status != http.StatusNotFound || t.snapshot().failed != nil {
			return true, ok, a.status, string(a.text)
		}
		return false, false, 0, "" // the target is missing too: the 404 page
	}
	return false, false, 0, ""
}

// catchesAll tells whether a rule answers with some page for whatever is not
// there. That is no use to whoever wants a script, and was not written for this path.
func catchesAll(rule redirects.Rule) bool {
	return strings.HasSuffix(rule.From, "*") && (rule.Status == http.StatusOK || rule.Status == http.StatusNotFound)
}

// readRules reads the rules file at the site's root; none is no error.
func (c *content) readRules(r *http.Request, s *trace) ([]redirects.Rule, error) {
	if !s.root.Defined() {
		return nil, nil
	}
	id, err := merkle.Resolve(r.Context(), c.blocks, s.root, strings.TrimPrefix(s.base+"/"+rulesFile, "/"))
	if errors.Is(err, merkle.ErrNoPath) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	f, err := merkle.OpenFile(r.Context(), c.blocks, id)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, redirects.MaxFileSizeInBytes+1))
	if err != nil {
		return nil, err
	}
	return ParseRedirects(text)
}

// location is the Location header that a redirect rule leads to. The query of
// the request is kept; where it and the rule set the same parameter, the request's counts.
func (t target) location(m match, rawQuery string) string {
	path, query, fragment := t.expand(m)
	if query == "" {
		query = rawQuery
	} else if rawQuery != "" {
		asked, _ := url.ParseQuery(rawQuery)
		for k := range asked {
			query = withoutParam(query, k)
		}
		query = strings.TrimPrefix(query+"&"+rawQuery, "&")
	}
	loc := t.origin
	if t.origin == "" {
		path = localPath(path)
	}
	loc += path + querySuffix(query)
	if fragment != "" {
		loc += "#" + fragment
	}
	return asciiHeader(loc)
}
