package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	gopath "path"
	"strings"
)

// notFoundPage is the file that a site answers a missing path with; the one
// nearest to the path counts.
const notFoundPage = "404.html"

// serveMissing answers for a path that is not there. Where the site has an origin
// of its own: with the page that the path means, or by the site's rules. Then by
// what was there until a moment ago, with the page of an application that knows its paths
// itself, and with the nearest 404 page. The result is as for serve.
func (c *content) serveMissing(w *pacedWriter, r *http.Request, o origin) (sent bool, status int, text string) {
	if o.isolated() {
		d, err := c.dressOf(r.Context(), traceOf(r.Context()).site())
		if err != nil {
			return c.failRules(r, err)
		}
		if matched, sent, status, text := c.serveClean(w, r, o, d.options); matched {
			return sent, status, text
		}
		if matched, sent, status, text := c.serveRules(w, r, o); matched {
			return sent, status, text
		}
	}
	if c.serveEarlier(w, r, o) {
		return true, 0, ""
	}
	c.standIn(w, r)
	if o.isolated() && looksLikePage(r.URL.Path) && c.has(r, "/"+fallbackPage) {
		a := newAttempt(w, r)
		a.standsIn = true
		if a, ok := c.attempt(a, r, o, o.prefix+"/"+fallbackPage); ok || a.status != http.StatusNotFound {
			return ok, a.status, string(a.text)
		}
	}
	return c.serveNotFound(w, r, o)
}

// serveNotFound answers with the nearest 404 page. The result is as for serve.
func (c *content) serveNotFound(w *pacedWriter, r *http.Request, o origin) (sent bool, status int, text string) {
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

// standIn lets the answer to a path that is not there be kept, unless it is that to a request of
// another kind: for a format, or for the part of a page that was there a moment ago.
func (c *content) standIn(w *pacedWriter, r *http.Request) {
	if plain(r) && (c.grace.earlier == nil || !wantsPart(r, r.URL.Path)) {
		w.keep.stand(standsForMissing)
	}
}

// contentPrefix is "/ipfs/<cid>" of "/ipfs/<cid>/a/b".
func contentPrefix(path string) string {
	parts := strings.SplitN(path, "/", 4)
	return strings.Join(parts[:min(3, len(parts))], "/")
}

// nearest404 looks for a 404 page in the path's folder and those above it. It
// goes down, and no further than there are folders: a path can be much longer than a site is deep.
func (c *content) nearest404(r *http.Request) (page string, ok bool) {
	t := traceOf(r.Context())
	s := t.snapshot()
	if !s.root.Defined() {
		return "", false
	}
	within := strings.TrimSuffix(gopath.Dir(s.path), "/") + "/"
	at := 1 // behind the slash of the folder that is looked at
	folder, err := c.lookUp(r.Context(), s.root, strings.TrimPrefix(s.base, "/"))
	for err == nil {
		if _, err := c.lookUp(r.Context(), folder, notFoundPage); err == nil {
			page = within[:at] + notFoundPage
		}
		name, _, more := strings.Cut(within[at:], "/")
		if !more {
			break
		}
		folder, err = c.lookUp(r.Context(), folder, name)
		at += len(name) + 1
	}
	t.set(func(t *trace) { t.failed = nil }) // a page that can't be had is none
	return page, page != ""
}

// errRules says that the site's rules file can't be carried out.
var errRules = errors.New("the site's " + rulesFile + " file can't be used")

// failRules answers for a site whose rules can't be carried out.
func (c *content) failRules(r *http.Request, err error) (sent bool, status int, text string) {
	traceOf(r.Context()).fail(r.Context(), stepFailure{step: StepRules, err: fmt.Errorf("%w: %w", errRules, err)})
	return false, http.StatusInternalServerError, ""
}

// serveRules carries out the first rule that matches. It reports whether one
// did (or the rules are broken); the rest is as for serve.
func (c *content) serveRules(w *pacedWriter, r *http.Request, o origin) (matched, sent bool, status int, text string) {
	t := traceOf(r.Context())
	s := t.snapshot()
	rules, err := c.redirectsOf(r.Context(), t.site())
	if err != nil {
		sent, status, text = c.failRules(r, err)
		return true, sent, status, text
	}
	rule, m, ok := rules.match(s.path)
	switch {
	case !ok, rule.leadsBack(s.path, m):
		return false, false, 0, ""
	case rule.all && c.serveEarlier(w, r, o):
		return true, true, 0, ""
	case rule.status >= 300 && rule.status < 400:
		moved(w, rule.status, rule.to.location(m, r.URL.RawQuery), o.mutable())
		return true, true, 0, ""
	}
	c.standIn(w, r)
	a := newAttempt(w, r)
	if a.standsIn = rule.status == http.StatusOK; !a.standsIn {
		a.as, a.tagged = rule.status, true
	}
	page, err := c.rulePage(r, rule.to.contentPath(m))
	if err != nil {
		sent, status, text = c.failRules(r, err)
		return true, sent, status, text
	}
	a, ok = c.attempt(a, r, o, o.prefix+page)
	switch {
	case ok || a.status != http.StatusNotFound:
		return true, ok, a.status, string(a.text)
	case rule.status == http.StatusNotFound:
		sent, status, text = c.serveNotFound(w, r, o)
		return true, sent, status, text
	case rule.status != http.StatusOK:
		return true, false, rule.status, "" // its page is missing: ours
	case t.snapshot().failed != nil:
		return true, false, a.status, string(a.text)
	}
	return false, false, 0, "" // the target is missing too: the 404 page
}

// rulePage is the file that the target of a rewrite means: the index of a folder,
// or a page without its extension. There is no redirect on the way to it: readers
// are to stay where they are.
func (c *content) rulePage(r *http.Request, path string) (string, error) {
	if strings.HasSuffix(path, ".html") {
		return path, nil
	}
	if index := gopath.Join(path, indexPage); c.has(r, index) {
		return index, nil
	}
	d, err := c.dressOf(r.Context(), traceOf(r.Context()).site())
	if err != nil {
		return "", err
	}
	if page, ok := cleanPage(path); ok && d.options.CleanURLs != CleanOff && c.has(r, page) && !c.isFile(r, path) {
		return page, nil
	}
	return path, nil
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
