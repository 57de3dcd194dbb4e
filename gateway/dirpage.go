package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	boxopath "github.com/ipfs/boxo/path"
	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/merkle"
)

// Bounds of a folder's page. Who wants more takes the CAR.
const (
	maxEntries = 5_000  // lines
	maxNames   = 50_000 // that are read, and counted
)

// listingEtag is how boxo begins the Etag of a page that it makes of a folder.
const listingEtag = `"DirIndex-`

// listingLifetime is the Cache-Control of the list of a folder that never changes; how it looks may.
const listingLifetime = "public, max-age=604800, stale-while-revalidate=2678400"

// pagesVersion changes whenever our pages do.
var pagesVersion = func() string {
	sum := sha256.Sum256([]byte(pageCSS + pageHTML))
	return hex.EncodeToString(sum[:6])
}()

// listingPage is what the listing template shows.
type listingPage struct {
	Path    string  // as it is called in the title
	Space   string  // "/ipfs/" or "/ipns/"
	Crumbs  []crumb // the path's segments
	CID     string
	Bytes   int64  // of everything below, as the links declare it
	Up      string // the folder above; empty at the root
	Public  bool   // the CIDs are looked up at a public place, since this origin is a domain's own
	Entries []listingEntry
	Total   int
	More    int  // entries that are not shown
	Some    bool // there are more than Total: not all were read
}

type crumb struct{ Name, URL string }

type listingEntry struct {
	Name, URL   string
	CID, CIDURL string
	Bytes       int64
}

// listedFolder is the folder that boxo has begun to make a page of; undefined
// where the answer is anything else.
func listedFolder(h http.Header) cid.Cid {
	etag := h.Get("Etag")
	_, id, ok := strings.Cut(strings.Trim(etag, `"`), "_CID-")
	if !ok || !strings.HasPrefix(etag, listingEtag) {
		return cid.Undef
	}
	c, err := cid.Decode(id)
	if err != nil {
		return cid.Undef
	}
	return c
}

// asksForList tells whether a request for a folder may be answered with a list of
// what is in it. Plain ones may; what else a client says of files is no matter here.
func (c *content) asksForList(r *http.Request, path string) bool {
	if !strings.HasSuffix(path, "/") || r.Method != http.MethodGet && r.Method != http.MethodHead || r.Header["Service-Worker"] != nil || !webRequest(r) {
		return false
	}
	if !strings.Contains(r.Header.Get("Cache-Control"), "only-if-cached") {
		return true
	}
	p, err := boxopath.NewPath(path)
	return err == nil && r.Method == http.MethodGet && c.backend.IsCached(r.Context(), p)
}

// beginListing has the attempt send the page of a folder. boxo would read all of
// a sharded folder to answer for any part of it, and again for a page that is thrown away.
func (c *content) beginListing(a *attempt, r *http.Request, f file) {
	folder := f.CID()
	if a.as != 0 { // a list of names is no error page
		a.refuse(http.StatusNotFound, merkle.ErrNoPath)
		return
	}
	etag, lifetime := `"`+folder.String()+`"`, lifetimeFor(f.ttl)
	if f.stable {
		lifetime = listingLifetime
	}
	a.header.Set("Cache-Control", lifetime)
	if notModified(r.Header, etag, time.Time{}) {
		a.header.Set("Etag", etag)
		a.WriteHeader(http.StatusNotModified)
		return
	}
	a.header.Set("Etag", listingEtag+pagesVersion+"_CID-"+folder.String()+`"`)
	a.header.Set("X-Ipfs-Roots", f.roots)
	a.WriteHeader(http.StatusOK)
}

// listFolder sends our page of a folder in place of the one that boxo made. It
// reports false, and nothing was sent, where the folder can't be read.
func (c *content) listFolder(a *attempt, r *http.Request, o origin, path string) bool {
	folder := a.folder
	a.folder, a.ours, a.status = cid.Undef, true, 0
	etag := listingEtag + pagesVersion + "_CID-" + folder.String() + `"`
	a.header.Set("Etag", etag)
	if strings.Contains(r.Header.Get("If-None-Match"), etag) {
		a.header.Del("Content-Type")
		a.WriteHeader(http.StatusNotModified)
		return true
	}
	a.header.Set("Content-Type", "text/html; charset=utf-8")
	a.header.Set("Content-Security-Policy", pagePolicy())
	a.header.Set("Referrer-Policy", "same-origin")
	if r.Method == http.MethodHead {
		a.WriteHeader(http.StatusOK)
		return true
	}
	entries, some, err := merkle.ReadSomeOfFolder(r.Context(), c.blocks, folder, maxNames)
	if err != nil {
		if !errors.Is(err, merkle.ErrNoPath) {
			traceOf(r.Context()).fail(r.Context(), stepFailure{step: StepBlock, block: folder, err: err})
		}
		a.status, a.held, a.text = http.StatusBadGateway, true, []byte(err.Error())
		return false
	}
	page := newListing(entries, folder, r.URL.Path, o, path)
	page.Some = some
	var b strings.Builder
	if err := pages.ExecuteTemplate(&b, "listing", page); err != nil {
		panic(err) // a mistake in page.html, which tests read
	}
	_, _ = a.Write([]byte(b.String()))
	return true
}

// newListing is the page of a folder that was asked for at asked, and is at the
// content path path. Links keep to the forms that readers know from other gateways.
func newListing(entries []merkle.Entry, folder cid.Cid, asked string, o origin, path string) listingPage {
	base := "" // of links to other content
	if o.isolated() {
		base = "//" + o.gateway.String()
	}
	segments := strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
	p := listingPage{Path: "/" + strings.Join(segments, "/"), Space: "/" + segments[0] + "/", CID: folder.String(), Public: o.dnslink, Total: len(entries)}
	to := base + "/" + segments[0]
	for i, s := range segments[1:] {
		if o.dnslink && i == 0 {
			to = base + "/"
		} else {
			to = strings.TrimSuffix(to, "/") + "/" + url.PathEscape(s)
		}
		p.Crumbs = append(p.Crumbs, crumb{s, to})
	}
	here := (&url.URL{Path: strings.TrimSuffix(asked, "/") + "/"}).EscapedPath()
	here = localPath(here)
	if len(segments) > 2 {
		p.Up = here + ".."
	}
	for i, e := range entries {
		p.Bytes += e.Size
		if i >= maxEntries {
			p.More++
			continue
		}
		name := url.PathEscape(e.Name)
		line := listingEntry{Name: e.Name, URL: here + name, CID: e.CID.String(), Bytes: e.Size}
		// The name is escaped once more, as other gateways do it and their tests want it.
		line.CIDURL = base + "/ipfs/" + line.CID + "?filename=" + url.QueryEscape(name)
		if o.dnslink {
			line.CIDURL = "https://cid.ipfs.tech/#" + line.CID
		}
		p.Entries = append(p.Entries, line)
	}
	return p
}
