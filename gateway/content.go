package gateway

import (
	"bytes"
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	boxogw "github.com/ipfs/boxo/gateway"
	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// content answers requests for content paths: boxo's handler first, then the
// site's own rules and 404 page where the path is not there.
type content struct {
	blocks  blockstore.Getter
	backend *backend
	boxo    http.Handler
	grace   grace
	rules   siteRules
	packer  *packer
	leaves  *hotBlocks // of large files

	hosts     map[string]HostConfig
	trustless bool
	boxoOnly  bool
}

// newContent puts boxo's handler together. Its own time limit, request limit,
// host handling, rules and error pages stay off: ours take their place.
func newContent(cfg Config, hosts map[string]HostConfig, trustless bool) (*content, error) {
	g := tracedGetter{cfg.Blocks}
	b, err := newBackend(g, cfg)
	if err != nil {
		return nil, err
	}
	public := map[string]*boxogw.PublicGateway{}
	for name, h := range hosts {
		public[name] = &boxogw.PublicGateway{DeserializedResponses: !h.TrustlessOnly}
	}
	return &content{
		blocks:  g,
		backend: b,
		grace:   grace{earlier: cfg.Earlier, now: time.Now},
		rules:   newSiteRules(),
		packer:  newPacker(),
		leaves:  newHotBlocks(g, cfg.Denied, cfg.ReadyBytes/shareOfLeaves),
		hosts:   hosts, trustless: trustless, boxoOnly: cfg.boxoOnly,
		boxo: boxogw.NewHandler(boxogw.Config{
			DeserializedResponses: !trustless,
			NoDNSLink:             true,
			DisableHTMLErrors:     true,
			PublicGateways:        public,
			MetricsRegistry:       cfg.Metrics,
		}, b),
	}, nil
}

// forget drops what is kept of content: some of it may not be served any more.
func (c *content) forget() {
	c.backend.paths.Forget()
	c.leaves.kept.InvalidateAll()
	c.packer.done.InvalidateAll()
}

// origin is where an answer will be seen.
type origin struct {
	// prefix comes before the request's path to make the content path:
	// "/ipns/<name>" on a site's own origin, empty where paths are served.
	prefix string
	// gateway is the gateway host (with port) that the origin is under.
	gateway host
	dnslink bool // the origin is the domain's own
}

func (o origin) isolated() bool { return o.prefix != "" }

// mutable tells whether another release may be shown there tomorrow.
func (o origin) mutable() bool { return strings.HasPrefix(o.prefix, "/ipns/") }

// serve answers r on the origin. It reports false, with the status and text of
// boxo's error, when no answer has been sent.
func (c *content) serve(w *pacedWriter, r *http.Request, o origin) (sent bool, status int, text string) {
	path := o.prefix + r.URL.Path
	t := traceOf(r.Context())
	root, ipath := splitContent(path)
	t.set(func(t *trace) { t.root, t.path = root, ipath })

	format, err := formatOf(r)
	if err != nil {
		return false, http.StatusBadRequest, err.Error()
	}
	if format != "" { // caches must not take it for the content as it is
		addVary(w.Header(), "Accept")
	}
	if format == ipnsRecordType {
		return c.serveRecord(w, r, o, path)
	}
	if format == carMediaType {
		r = scoped(r)
		// boxo, too, begins to answer before it has the first block.
		if root.Defined() {
			if _, err := c.blocks.Get(r.Context(), root); err != nil {
				return false, http.StatusBadGateway, err.Error()
			}
		}
		if c.serveCAR(w, r, path) {
			return true, 0, ""
		}
		if status := c.nothingAt(r, path); status != 0 {
			return false, status, ""
		}
	}
	if c.serveRanges(w, r, o, path) {
		return true, 0, ""
	}
	normalizeRange(r.Header)
	a, ok := c.try(w, r, o, path, 0)
	if !ok && r.Header.Get("Range") != "" && a.status != http.StatusNotFound && a.status != http.StatusRequestedRangeNotSatisfiable && !t.broken() {
		wholeRange(r.Header) // boxo fails on a suffix that is longer than the file
		a, ok = c.try(w, r, o, path, 0)
	}
	if ok {
		return true, 0, ""
	}
	status, text = a.status, string(bytes.TrimSpace(a.text))
	if cr := a.header.Get("Content-Range"); cr != "" && status == http.StatusRequestedRangeNotSatisfiable {
		w.Header().Set("Content-Range", cr)
	}
	if status != http.StatusNotFound || t.broken() || !webRequest(r) {
		return false, status, text
	}
	return c.serveMissing(w, r, o)
}

// run hands the request to boxo under another path.
func (c *content) run(w http.ResponseWriter, r *http.Request, o origin, path string) {
	ctx := r.Context()
	ctx = context.WithValue(ctx, boxogw.OriginalPathKey, r.URL.Path)
	if o.gateway != (host{}) {
		ctx = context.WithValue(ctx, boxogw.GatewayHostnameKey, o.gateway.name)
	}
	if o.dnslink {
		ctx = context.WithValue(ctx, boxogw.DNSLinkHostnameKey, o.gateway.String())
	} else if o.isolated() {
		ctx = context.WithValue(ctx, boxogw.SubdomainHostnameKey, o.gateway.String())
	}
	r2 := r.WithContext(ctx)
	r2.URL = &url.URL{Path: path, RawQuery: r.URL.RawQuery}
	if o.isolated() || splitDepth(path) > 1 {
		r2.URL.RawQuery = withoutParam(r.URL.RawQuery, "uri") // a site's own parameter, not boxo's
	}
	c.boxo.ServeHTTP(w, r2)
}

// try serves a path of the site as the answer to r, with the given status in
// place of 200 where it is not 0. It reports whether that worked; if not, nothing was sent.
func (c *content) try(w *pacedWriter, r *http.Request, o origin, path string, status int) (*attempt, bool) {
	a := newAttempt(w, r)
	a.as = status
	return c.attempt(a, r, o, path)
}

// attempt is try with an attempt that was prepared.
func (c *content) attempt(a *attempt, r *http.Request, o origin, path string) (*attempt, bool) {
	if err := c.backend.mayServe(r.Context(), path); err != nil { // rules and missing paths may lead to another than was asked for
		a.refuse(http.StatusGone, err)
		return a, false
	}
	if a.mutable = strings.HasPrefix(path, "/ipns/"); a.mutable {
		t := traceOf(r.Context())
		a.fresh = func() time.Duration { return t.snapshot().fresh.Sub(c.backend.now()) }
	}
	a.redirect = func(loc string) string { return safeRedirect(r.URL, loc) }
	c.fit(a, r, o, path)
	r2 := r
	if a.as != 0 { // an error page is whole, and new each time
		r2 = r.Clone(r.Context())
		for _, k := range []string{"Range", "If-Range", "If-None-Match", "If-Modified-Since", "Cache-Control", "Accept"} {
			r2.Header.Del(k)
		}
		r2.URL.RawQuery = ""
	} else if a.asked != "" || a.ranged {
		r2 = r.Clone(r.Context())
		plainTags(r2.Header, a.accepts)
		a.ranged = r2.Header["Range"] != nil
	}
	if !c.serveFile(a, r2, o, path) {
		c.run(a, r2, o, path)
		if !a.held && a.status == 0 {
			a.WriteHeader(http.StatusOK)
		}
	}
	if a.folder.Defined() && !c.listFolder(a, r, o, path) {
		return a, false
	}
	a.finish()
	if a.held {
		return c.insteadOf(a, r, o, path)
	}
	return a, true
}

// splitContent cuts "/ipfs/<cid>/a/b" into the CID (undefined for a name) and "/a/b".
func splitContent(path string) (cid.Cid, string) {
	parts := strings.SplitN(path, "/", 4)
	if len(parts) < 3 {
		return cid.Undef, "/"
	}
	rest := "/"
	if len(parts) == 4 {
		rest += parts[3]
	}
	if parts[1] != "ipfs" {
		return cid.Undef, rest
	}
	c, err := cid.Decode(parts[2])
	if err != nil {
		return cid.Undef, rest
	}
	return c, rest
}

// splitDepth counts the segments of a path that are not empty.
func splitDepth(path string) int {
	return len(strings.FieldsFunc(path, func(r rune) bool { return r == '/' }))
}

// webRequest tells whether the client wants the content itself, not one of the
// formats of the trustless gateway.
func webRequest(r *http.Request) bool {
	if hasParam(r.URL.RawQuery, "format") {
		return false
	}
	for _, accept := range r.Header.Values("Accept") {
		if strings.Contains(accept, "application/vnd.ip") || strings.Contains(accept, "application/x-tar") {
			return false
		}
	}
	return true
}

func hasParam(rawQuery, key string) bool {
	if !strings.Contains(rawQuery, key) && !strings.Contains(rawQuery, "%") {
		return false
	}
	q, _ := url.ParseQuery(rawQuery)
	return q.Has(key)
}

// withoutParam removes a parameter and leaves the rest as it is written.
func withoutParam(rawQuery, key string) string {
	if !hasParam(rawQuery, key) {
		return rawQuery
	}
	var kept []string
	for part := range strings.SplitSeq(rawQuery, "&") {
		name, _, _ := strings.Cut(part, "=")
		if unescaped, err := url.QueryUnescape(name); err != nil || unescaped != key {
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, "&")
}

// safeRedirect keeps boxo's redirects on their origin, and the query as the
// client wrote it (boxo escapes it once more).
func safeRedirect(asked *url.URL, loc string) string {
	u, err := url.Parse(localPath(loc))
	if err != nil {
		return "/"
	}
	if u.Path == localPath(asked.Path)+"/" {
		u.RawQuery = asked.RawQuery
	}
	return asciiHeader(localPath(u.EscapedPath()) + querySuffix(u.RawQuery))
}

func querySuffix(rawQuery string) string {
	if rawQuery == "" {
		return ""
	}
	return "?" + rawQuery
}

// localPath makes sure that an escaped path can't be read as another origin.
func localPath(escaped string) string {
	return "/" + strings.TrimLeft(escaped, `/\`)
}

// asciiHeader escapes what must not be in a header value.
func asciiHeader(s string) string {
	var b strings.Builder
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '\\' || c == '"' {
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
