package gateway

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// fit has an attempt at a content path answer as the site wants it, for requests
// of browsers and the like; the trustless formats are what they are.
func (c *content) fit(a *attempt, r *http.Request, o origin, path string) {
	if !webRequest(r) {
		return
	}
	a.packer = c.packer
	a.dress = func(a *attempt) bool { return c.dressUp(a, r, o, path) }
}

// dressUp gives a good answer its type and, on an origin of the site's own, what
// the site says of it. It reports false where the answer is held back: then it isn't to
// be had (a.status says why), or a.moved or a.instead says where it is.
func (c *content) dressUp(a *attempt, r *http.Request, o origin, path string) bool {
	asked := o.isolated() && a.as == 0 && path == o.prefix+r.URL.Path
	var d dress
	if o.isolated() {
		t := traceOf(r.Context())
		var err error
		if d, err = c.dressOf(r.Context(), t.site()); err != nil {
			t.fail(r.Context(), stepFailure{step: StepRules, err: err})
			a.status = http.StatusBadGateway
			return false
		}
		listing := isListing(a.header)
		if listing && d.options.NoListing || asked && (listing || a.status == http.StatusMovedPermanently) && c.showsPage(r, d.options) {
			a.status = http.StatusNotFound
			return false
		}
	}
	if a.status >= 300 && a.status != http.StatusNotModified {
		return a.sibling == 0 // which is a folder, then
	}
	if asked {
		to, ok := c.withoutSlash(r)
		if !ok {
			to, ok = c.canonical(r, d.options)
		}
		if ok {
			a.moved = to
			return false
		}
	}
	c.setType(a, r, o, path)
	if o.isolated() {
		a.header.Set("X-Content-Type-Options", "nosniff")
		c.applyHeaders(a, r, o, d.headers)
	}
	return !c.hasSibling(a, r, o, path)
}

// isListing tells a list of a folder, boxo's or ours, by its entity tag.
func isListing(h http.Header) bool { return strings.HasPrefix(h.Get("Etag"), listingEtag) }

// setType names the type of what was read at a content path. A filename that the
// client makes up decides about what has no name. On an origin of its own a site's
// file has one: a link to notes.txt?filename=x.html must not make it a page there.
func (c *content) setType(a *attempt, r *http.Request, o origin, path string) {
	name, found := path, a.header.Get("Content-Type") // which is right for a path with a slash at its end: an index page's, or a file's
	if hasParam(r.URL.RawQuery, "filename") {
		if strings.Trim(r.URL.Path, "/") == "" || !o.isolated() {
			name = r.URL.Query().Get("filename")
		} else if f, err := c.findFile(r, path); err == nil {
			if found, err = c.typeOf(r.Context(), f); err != nil {
				found = "application/octet-stream"
			}
		}
	}
	if a.sibling == 0 { // else that of the plain content is known
		a.kind = contentType(name, found)
	}
	if a.status != http.StatusNotModified {
		a.header.Set("Content-Type", a.kind)
	}
	if a.sibling != 0 {
		addVary(a.header, "Accept-Encoding")
		a.header.Set("Content-Encoding", a.sibling.String())
		a.header.Del("Accept-Ranges")
	}
}

// ownOfListing are the fields without which the list of a folder, which is a page of
// ours, would not be shown as one, whatever the site says of the files in it.
var ownOfListing = []string{"Content-Security-Policy", "Content-Type", "Content-Disposition"}

// applyHeaders puts the site's own fields over ours. What it says about caching counts
// up to the end of the record that says what the site is, and not for an error: next time there may be a page. Nor may
// it have a page that stands in for what is missing kept for longer than the name's TTL: browsers would
// take it for the script that the next release has there.
func (c *content) applyHeaders(a *attempt, r *http.Request, o origin, hs Headers) {
	if len(hs.rules) == 0 {
		return
	}
	ours := a.header.Clone()
	hs.apply(r.URL.Path, a.header)
	restore := func(field string) {
		if delete(a.header, field); ours[field] != nil {
			a.header[field] = ours[field]
		}
	}
	if isListing(a.header) {
		for _, field := range ownOfListing {
			restore(field)
		}
	}
	if a.as != 0 || a.standsIn && a.fresh != nil && outlives(a.header.Get("Cache-Control"), a.fresh()) {
		restore("Cache-Control")
	}
	if cc := a.header.Get("Cache-Control"); cc != ours.Get("Cache-Control") && o.mutable() {
		if rec := traceOf(r.Context()).snapshot().record.Record; !rec.IsZero() {
			a.header.Set("Cache-Control", capAge(cc, time.Until(rec.ValidUntil())))
		}
	}
	if t := a.header.Get("Content-Type"); t != "" {
		a.kind = t
	}
}

// hasSibling tells whether the site has the content in a coding that the client
// takes, beside it, and says so in a.instead.
func (c *content) hasSibling(a *attempt, r *http.Request, o origin, path string) bool {
	if a.accepts == 0 || a.ranged || a.plain || a.sibling != 0 || a.adjust != nil || a.status == http.StatusNotModified || isListing(a.header) || !compressible(a.kind) {
		return false
	}
	if n, err := strconv.Atoi(a.header.Get("Content-Length")); err != nil || n < minCompress {
		return false
	}
	prefix := o.prefix
	if !o.isolated() {
		prefix = contentPrefix(path)
	}
	file := strings.TrimPrefix(path, prefix)
	if strings.HasSuffix(file, "/") {
		file += indexPage
	}
	for _, coding := range siblingCodings {
		if a.accepts&coding != 0 && c.has(r, file+coding.extension()) {
			a.instead, a.sibling = prefix+file+coding.extension(), coding
			return true
		}
	}
	return false
}

// insteadOf goes on where an attempt was held back: there may be another way to the same content.
func (c *content) insteadOf(a *attempt, r *http.Request, o origin, path string) (*attempt, bool) {
	switch {
	case a.moved != "":
		moved(a.out, http.StatusMovedPermanently, a.moved, a.mutable)
		return a, true
	case a.instead == "":
		return a, false
	}
	again := func() *attempt {
		b := newAttempt(a.out, r)
		b.as, b.tagged, b.direct, b.standsIn = a.as, a.tagged, a.direct, a.standsIn
		return b
	}
	b := again()
	b.sibling, b.kind = a.sibling, a.kind
	b.adjust = func(h http.Header) { // it is the same content, at the same path
		for _, k := range []string{"Ipfs-Uri", "Content-Disposition"} {
			h.Del(k)
			if v := a.header.Values(k); len(v) > 0 {
				h[http.CanonicalHeaderKey(k)] = slices.Clone(v)
			}
		}
	}
	if b, ok := c.attempt(b, r, o, a.instead); ok {
		return b, true
	}
	// It is a folder, or can't be had: the plain content was there a moment ago.
	traceOf(r.Context()).set(func(t *trace) { t.failed = nil })
	b = again()
	b.plain = true
	return c.attempt(b, r, o, path)
}
