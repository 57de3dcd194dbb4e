package gateway

import (
	"net/http"
	"net/url"
	gopath "path"
	"strings"

	"github.com/ipfs/go-cid"
)

// A page may be asked for without its extension, as other static hosts have it:
// /about is about.html. What is there under its very name comes first, but for a
// folder that has nothing to show.

const (
	indexPage    = "index.html"
	fallbackPage = "200.html" // of an application that finds its way by the path alone
)

// serveClean answers for a path that is not there with the page of that name.
// The result is as for serve; not matched where there is no such page.
func (c *content) serveClean(w *pacedWriter, r *http.Request, o origin, opts Options) (matched, sent bool, status int, text string) {
	path := r.URL.Path
	page, ok := cleanPage(path)
	if !ok || opts.CleanURLs == CleanOff || !c.has(r, page) {
		return false, false, 0, ""
	}
	if strings.HasSuffix(path, "/") {
		// Links on the page are relative to the folder that it is in.
		moved(w, http.StatusMovedPermanently, addressOf(r, strings.TrimSuffix(page, ".html")), o.mutable())
		return true, true, 0, ""
	}
	w.keep.stand(standsForPage)
	a, ok := c.try(w, r, o, o.prefix+page, 0)
	return true, ok, a.status, string(a.text)
}

// cleanPage is the file that a path without extension means.
func cleanPage(path string) (string, bool) {
	name := strings.TrimRight(path, "/")
	if name == "" || strings.HasSuffix(name, ".html") || gopath.Clean(name) != name {
		return "", false
	}
	return name + ".html", true
}

// cleanPath is the canonical form of a page's path, where it has another.
func cleanPath(path string) (string, bool) {
	dir, name := gopath.Split(path)
	switch {
	case name == indexPage:
		return dir, true
	case name == notFoundPage, name == fallbackPage, name == ".html", !strings.HasSuffix(name, ".html"):
		return "", false
	}
	return dir + strings.TrimSuffix(name, ".html"), true
}

// has tells whether there is something at a path of the site (which begins with
// a slash). What can't be had counts as not there: it isn't what was asked for.
func (c *content) has(r *http.Request, path string) bool {
	_, ok := c.find(r, path)
	return ok
}

func (c *content) find(r *http.Request, path string) (cid.Cid, bool) {
	t := traceOf(r.Context())
	s := t.snapshot()
	if !s.root.Defined() {
		return cid.Undef, false
	}
	id, err := c.lookUp(r.Context(), s.root, strings.TrimPrefix(s.base+path, "/"))
	if err != nil && s.failed == nil {
		t.set(func(t *trace) { t.failed = nil })
	}
	return id, err == nil
}

// showsPage tells whether a page is to be shown in place of the folder at a path:
// /blog of blog.html beside a folder blog that has only the posts.
func (c *content) showsPage(r *http.Request, opts Options) bool {
	page, ok := cleanPage(r.URL.Path)
	return ok && opts.CleanURLs != CleanOff && c.has(r, page) && !c.has(r, strings.TrimSuffix(page, ".html")+"/"+indexPage)
}

// canonical is where a page that was asked for with its extension is to be found
// instead, where the site wants it so. Never there where that would be something else.
func (c *content) canonical(r *http.Request, opts Options) (string, bool) {
	clean, ok := cleanPath(r.URL.Path)
	if !ok || opts.CleanURLs != CleanCanonical {
		return "", false
	}
	if !strings.HasSuffix(clean, "/") && (c.has(r, clean+"/"+indexPage) || c.isFile(r, clean)) {
		return "", false
	}
	escaped, ok := cleanPath(r.URL.EscapedPath())
	return localPath(escaped) + querySuffix(r.URL.RawQuery), ok
}

func (c *content) isFile(r *http.Request, path string) bool {
	t := traceOf(r.Context())
	s := t.snapshot()
	place, err := c.backend.paths.Walk(r.Context(), s.root, strings.TrimPrefix(s.base+path, "/"))
	if err == nil {
		place, err = c.backend.paths.Open(r.Context(), place)
	}
	if err != nil && s.failed == nil {
		t.set(func(t *trace) { t.failed = nil })
	}
	return err == nil && place.IsFile()
}

// withoutSlash is where a file is to be found that was asked for as if it were a
// folder. There its links would lead elsewhere, and what the site says of its path would not count.
func (c *content) withoutSlash(r *http.Request) (string, bool) {
	name := strings.TrimRight(r.URL.Path, "/")
	if name == "" || name == r.URL.Path || !c.isFile(r, name) {
		return "", false
	}
	return addressOf(r, name), true
}

// addressOf is another path of the site, with the request's query. It is escaped anew, since
// a slash at the end of the request's path may have been, and would be again.
func addressOf(r *http.Request, path string) string {
	to := url.URL{Path: path}
	return localPath(to.EscapedPath()) + querySuffix(r.URL.RawQuery)
}

// moved redirects. Browsers keep a permanent redirect for ever unless they are
// told otherwise, and a site may change.
func moved(w http.ResponseWriter, status int, location string, mutable bool) {
	h := w.Header()
	h.Set("Location", asciiHeader(location))
	h.Set("Content-Length", "0")
	if mutable {
		h.Set("Cache-Control", "no-cache")
	}
	w.WriteHeader(status)
}

// looksLikePage tells by its path whether a reader may have asked for a page.
func looksLikePage(path string) bool {
	switch strings.ToLower(gopath.Ext(path)) {
	case "", ".html", ".htm":
		return true
	}
	return strings.HasSuffix(path, "/")
}
