package gateway

import (
	"context"
	"errors"
	"net/http"
	gopath "path"
	"strconv"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"golang.org/x/net/idna"

	"github.com/gabriel-vasile/mimetype"

	"github.com/holdfast-sites/holdfast/merkle"
)

// What most readers ask for, a file or the index page of a folder, is answered
// here, with the same header as boxo's handler and a twentieth of its work. Everything else,
// and all that is odd, is boxo's.

// maxIpfsURI bounds the Ipfs-Uri header, in bytes: proxies refuse longer ones.
const maxIpfsURI = 8192

// file is what serveFile found.
type file struct {
	merkle.Place
	name   string        // decides the type; empty for content without a name
	tag    string        // the CID that the ETag has: for an index page its folder's
	roots  string        // the CIDs that the path leads through
	ttl    time.Duration // of what the content's name leads to
	stable bool          // the path begins with a CID
}

// serveFile answers with the file, or the folder's index page, at a content
// path. It reports whether the request was its to answer; the answer may be an
// error that a holds back, and if not, nothing was sent.
func (c *content) serveFile(a *attempt, r *http.Request, o origin, path string) bool {
	simple := plain(r)
	if c.boxoOnly || !c.deserialized(o) || !simple && !c.asksForList(r, path) || strings.Contains(path, "//") {
		return false
	}
	f, err := c.findFile(r, path)
	if !simple && !errors.Is(err, errListing) {
		return false
	}
	a.direct = a.direct || path == o.prefix+r.URL.Path
	switch {
	case err == nil, errors.Is(err, errListing):
	case errors.Is(err, errNotOurs):
		return false
	case traceOf(r.Context()).broken():
		a.refuse(http.StatusBadGateway, err)
		return true
	case errors.Is(err, merkle.ErrNoPath):
		a.refuse(http.StatusNotFound, err)
		return true
	default:
		return false // boxo knows more kinds of content
	}
	if uri := c.ipfsURI(path); uri != "" {
		a.header.Set("Ipfs-Uri", uri)
	}
	if err != nil {
		c.beginListing(a, r, f)
		return true
	}
	if a.direct {
		a.out.keep.bind()
	}
	c.sendFile(a, r, f)
	return true
}

var (
	errNotOurs = errors.New("not a plain file")               // boxo is to answer
	errListing = errors.New("a folder without an index page") // we are, with the list of what is in it
)

// plain tells whether a request is for content as it is. What else a request
// can ask for is boxo's.
func plain(r *http.Request) bool {
	h := r.Header
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && unconditional(h) && h["Service-Worker"] == nil &&
		!strings.Contains(h.Get("Cache-Control"), "only-if-cached") && plainAccept(h["Accept"]) && plainQuery(r.URL.RawQuery)
}

// plainAccept tells whether a client did not name one of the formats that content can be had in.
func plainAccept(accept []string) bool {
	for _, a := range accept {
		if strings.Contains(a, "application/vnd.ip") || strings.Contains(a, "application/x-tar") ||
			strings.Contains(a, "application/json") || strings.Contains(a, "application/cbor") {
			return false
		}
	}
	return true
}

// formatParams are the parameters that change an answer: all else is the site's own.
var formatParams = []string{"format", "filename", "download", "go-get", "uri", "dag-scope", "entity-bytes", "car-"}

// plainQuery errs on the safe side.
func plainQuery(rawQuery string) bool {
	if rawQuery == "" {
		return true
	}
	for _, p := range formatParams {
		if strings.Contains(rawQuery, p) {
			return false
		}
	}
	return !strings.Contains(rawQuery, "%")
}

// deserialized tells whether files are served at all where the request came to.
func (c *content) deserialized(o origin) bool {
	return !c.trustless && !c.hosts[o.gateway.name].TrustlessOnly
}

// findFile walks to the end of a content path.
func (c *content) findFile(r *http.Request, path string) (file, error) {
	ctx := r.Context()
	ns, id, rest := splitNamespace(path)
	if id == "" || hasDots(rest) {
		return file{}, errNotOurs
	}
	f := file{stable: ns == "ipfs"}
	var root cid.Cid
	var base string // under the root, where the site begins
	var err error
	if f.stable {
		if root, err = cid.Decode(id); err != nil {
			return file{}, errNotOurs
		}
		err = c.backend.mayServe(ctx, path)
	} else {
		if c.backend.names == nil || !c.canonicalName(id) {
			return file{}, errNotOurs
		}
		root, base, f.ttl, err = c.backend.resolve(ctx, id, rest)
	}
	if err != nil {
		return file{}, err
	}
	at, err := c.backend.walk(ctx, root, base+rest)
	if err != nil {
		return file{}, err
	}
	f.Place, f.roots = at, at.Trail()
	f.tag = f.roots[strings.LastIndexByte(f.roots, ',')+1:]
	if rest != "/" {
		f.name = gopath.Base(path)
	}
	if at.IsFolder() {
		return c.findIndex(r, f)
	}
	if !at.IsFile() {
		return file{}, errNotOurs
	}
	return f, nil
}

// hasDots tells whether a path has a segment that means another one.
func hasDots(path string) bool {
	if !strings.Contains(path, "/.") {
		return false
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

// findIndex goes on to the folder's index page.
func (c *content) findIndex(r *http.Request, f file) (file, error) {
	if !strings.HasSuffix(r.URL.Path, "/") {
		return file{}, errNotOurs // a redirect
	}
	index, err := c.backend.walk(r.Context(), f.CID(), indexPage)
	switch {
	case errors.Is(err, merkle.ErrNoPath):
		return f, errListing
	case err == nil && !index.IsFile():
		return file{}, errNotOurs
	}
	f.Place, f.name = index, indexPage
	return f, err
}

// lookUp is merkle.Resolve with the folders that are kept.
func (c *content) lookUp(ctx context.Context, root cid.Cid, path string) (cid.Cid, error) {
	place, err := c.backend.paths.Walk(ctx, root, path)
	if err != nil {
		return cid.Undef, err
	}
	return place.CID(), nil
}

// canonicalName tells whether id is a domain, or a name in the one spelling
// that is served without a redirect.
func (c *content) canonicalName(id string) bool {
	_, text, err := c.backend.spelled.parse(id)
	return err == nil && text == id || err != nil && strings.Contains(id, ".")
}

// sendFile answers with f, or a part of it, or that the client has it.
func (c *content) sendFile(a *attempt, r *http.Request, f file) {
	h := a.header
	etag := `"` + f.tag + `"`
	h.Set("Etag", etag)
	lifetime := immutable
	if !f.stable {
		lifetime = lifetimeFor(f.ttl)
	}
	h.Set("Cache-Control", lifetime)
	modified := f.ModTime()
	if a.as == 0 && notModified(r.Header, etag, modified) {
		if t := f.typeByName(); t != "" { // it decides what the answer varies by
			h.Set("Content-Type", t)
		}
		a.WriteHeader(http.StatusNotModified)
		return
	}
	part, partial, err := spanOf(r.Header, etag, modified, f.Size())
	if err != nil {
		h.Set("Content-Range", "bytes */"+strconv.FormatInt(f.Size(), 10))
		a.refuse(http.StatusRequestedRangeNotSatisfiable, err)
		return
	}
	ctype, err := c.typeOf(r.Context(), f)
	if err != nil {
		a.refuse(http.StatusBadGateway, err)
		return
	}
	switch {
	case !modified.IsZero():
		h.Set("Last-Modified", modified.UTC().Format(http.TimeFormat))
	case !f.stable:
		h["Last-Modified"] = thisSecond.lastModified(time.Now())
	}
	h.Set("X-Ipfs-Roots", f.roots)
	h.Set("Content-Type", ctype)
	h.Set("Accept-Ranges", "bytes")
	h.Set("Content-Length", strconv.FormatInt(part.length(), 10))
	status := http.StatusOK
	if partial {
		status = http.StatusPartialContent
		h.Set("Content-Range", part.contentRange(f.Size()))
	} else if r.Method == http.MethodGet && !a.ranged && (a.direct && a.as == 0 || a.out.keep.mayStand()) {
		a.out.keep.allow(lifetime, modified, f.stable, f.Size(), f.Block())
	}
	if r.Method == http.MethodHead || part.length() == 0 {
		a.WriteHeader(status)
		return
	}
	w := &lateWriter{a: a, status: status}
	from := c.blocks
	if f.Size() > maxReadyBody {
		from = c.leaves
	}
	_, err = f.WriteRange(r.Context(), from, w, part.from, part.to)
	switch {
	case err == nil, errors.Is(err, errSent):
	case !w.begun:
		a.refuse(http.StatusBadGateway, err)
	case a.committed:
		a.out.broken = true
	}
}

// lateWriter sends the header with the first bytes: until they are there, an error
// page can take their place.
type lateWriter struct {
	a      *attempt
	status int
	begun  bool
}

func (w *lateWriter) Write(p []byte) (int, error) {
	if !w.begun {
		w.begun = true
		w.a.WriteHeader(w.status)
	}
	return w.a.Write(p)
}

// refuse makes the attempt fail as boxo would.
func (a *attempt) refuse(status int, err error) {
	a.WriteHeader(status)
	_, _ = a.Write([]byte(err.Error()))
}

// sniffed is how much of a file is looked at for its type, in bytes.
const sniffed = 3072

// typeByName is empty where the name doesn't tell. The system's own table of
// types is not asked: it says something else on each machine.
func (f file) typeByName() string { return mediaTypes[strings.ToLower(gopath.Ext(f.name))] }

// typeOf is the type of a file by its name, or else by how it begins.
func (c *content) typeOf(ctx context.Context, f file) (string, error) {
	if t := f.typeByName(); t != "" {
		return t, nil
	}
	head, err := f.Head(ctx, c.blocks, sniffed)
	if err != nil {
		return "", err
	}
	return mimetype.Detect(head).String(), nil
}

// lifetimeFor is the Cache-Control of what may be something else after ttl.
func lifetimeFor(ttl time.Duration) string {
	if ttl <= 0 {
		return "no-cache"
	}
	return "public, max-age=" + strconv.FormatInt(int64(ttl/time.Second), 10)
}

// ipfsURI is the Ipfs-Uri header of a content path: the content's root in its one
// spelling, and the rest with everything escaped that could be (IPIP-548). Empty where there is none.
func (c *content) ipfsURI(path string) string {
	parts := strings.SplitN(path, "/", 4)
	if len(parts) < 3 {
		return ""
	}
	root := parts[2]
	if parts[1] == "ipfs" {
		id, err := cid.Decode(root)
		if err != nil {
			return ""
		}
		root = cid.NewCidV1(id.Type(), id.Hash()).String()
	} else if _, text, err := c.backend.spelled.parse(root); err == nil {
		root = text
	} else if root, err = idna.Lookup.ToASCII(strings.TrimSuffix(root, ".")); err != nil || !strings.Contains(root, ".") || strings.Contains(root, "..") {
		return ""
	}
	var b strings.Builder
	b.WriteString(parts[1])
	b.WriteString("://")
	b.WriteString(root)
	if len(parts) == 4 {
		b.WriteByte('/')
		escapeUnreserved(&b, parts[3])
	}
	if b.Len() > maxIpfsURI {
		return ""
	}
	return b.String()
}

// escapeUnreserved escapes all but slashes and RFC 3986's unreserved characters.
func escapeUnreserved(b *strings.Builder, path string) {
	const hex = "0123456789ABCDEF"
	for i := range len(path) {
		switch c := path[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~/", c) >= 0:
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
}
