package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
)

// maxFilename bounds the ?filename= parameter, in bytes, since it comes back in a header.
const maxFilename = 512

// maxRoutingBody bounds what is sent to /routing/v1/, in bytes.
const maxRoutingBody = 64 << 10

// bodyTime bounds how long a client may take to send a body.
const bodyTime = 30 * time.Second

// transaction is one request and its answer.
type transaction struct {
	w       *pacedWriter
	r       *http.Request
	ctx     context.Context
	stop    func()
	spelled string // the host as the client wrote it
	here    bool   // the client is on this machine
}

// begin starts a request's clock and trace.
func begin(w http.ResponseWriter, r *http.Request, timeout time.Duration) *transaction {
	if hasBody(r) {
		// Not http.Server.ReadTimeout, which would also end long downloads.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime))
	}
	pw, ctx, stop := pace(w, r.Context(), timeout)
	t := &trace{started: time.Now()}
	pw.timing = t.timing
	ctx = withTrace(ctx, t)
	return &transaction{w: pw, r: r.WithContext(ctx), ctx: ctx, stop: stop}
}

// end cuts the connection where an orderly end would pass off half an answer as a whole one.
func (x *transaction) end() {
	incomplete := x.w.incomplete(x.r, traceOf(x.ctx).broken() || timedOut(x.ctx))
	x.stop()
	if incomplete {
		panic(http.ErrAbortHandler)
	}
}

func hasBody(r *http.Request) bool { return r.ContentLength != 0 || len(r.TransferEncoding) > 0 }

// ServeHTTP implements http.Handler.
func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v, refused := g.guard.arrive(w, r)
	defer v.leave()
	if refused == nil {
		if v.status, v.sent = g.ready.serve(v.w, r); v.status != 0 {
			return
		}
	}
	x := begin(v.w, cleanRequest(r, g.cfg.TrustedProxies), g.cfg.RetrievalTimeout)
	defer x.end()
	v.out, x.here = x.w, v.here
	if refused == nil {
		refused = v.sit(x)
	}
	if refused != nil {
		g.fail(x, *refused)
		return
	}
	h, err := parseHost(x.r.Host)
	if err != nil {
		g.fail(x, badRequest(err.Error()))
		return
	}
	x.spelled, x.r.Host = x.r.Host, h.String()
	p := locate(g.hosts, h)
	if p.kind == placeGateway || p.kind == placeUnknown {
		if g.cfg.Routing != nil && strings.HasPrefix(x.r.URL.Path, "/routing/v1/") && g.domainOf(x, h, p) == "" {
			x.r.Body, x.r.RemoteAddr = http.MaxBytesReader(x.w, x.r.Body, maxRoutingBody), v.remote()
			g.cfg.Routing.ServeHTTP(x.w, x.r)
			return
		}
	}
	if x.r.Method == http.MethodConnect && g.tunnel(x, h, p) {
		return
	}
	if f := checkRequest(x.r); f != nil {
		g.fail(x, *f)
		return
	}
	g.route(x, h, p)
}

// route finds the origin that the host stands for.
func (g *gateway) route(x *transaction, h host, p place) {
	switch p.kind {
	case placeAlias:
		n, ok := naming.Name{}, false
		if g.cfg.Sites != nil {
			n, ok = g.cfg.Sites.ByAlias(x.ctx, p.id)
		}
		traceOf(x.ctx).set(func(t *trace) { t.alias, t.path = p.id, x.r.URL.Path })
		if !ok {
			g.fail(x, Failure{Status: http.StatusNotFound, Kind: KindNotFound, Step: StepName, Alias: p.id, Message: "no site of that alias is known here"})
			return
		}
		g.serveContent(x, origin{prefix: "/ipns/" + g.content.backend.spelled.text(n), gateway: p.parent}, false)
	case placeID:
		g.serveID(x, p)
	case placeGateway:
		if ns, _, _ := splitNamespace(x.r.URL.Path); ns == "" && p.config.TrustlessOnly {
			g.fail(x, Failure{Status: http.StatusNotFound, Kind: KindNotFound, Step: StepRequest, Message: "this host serves blocks, CARs and records under /ipfs/ and /ipns/, and no pages"})
			return
		}
		g.serveGateway(x, h, p)
	case placeUnknown:
		if domain := g.domainOf(x, h, p); domain != "" {
			g.serveContent(x, origin{prefix: "/ipns/" + domain, gateway: h, dnslink: true}, true)
			return
		}
		g.serveGateway(x, h, p)
	default:
		if domain := g.domainOf(x, h, p); domain != "" {
			g.serveContent(x, origin{prefix: "/ipns/" + domain, gateway: h, dnslink: true}, true)
			return
		}
		g.fail(x, Failure{Status: http.StatusNotFound, Kind: KindNotFound, Step: StepName, Message: "this gateway has nothing under that host name"})
	}
}

// domainOf is the host's name where it is a domain with a DNSLink, or might be
// one if DNS could be asked; else empty.
func (g *gateway) domainOf(x *transaction, h host, p place) string {
	if !p.mayBeDomain(h) || g.cfg.DNSLinks == nil {
		return ""
	}
	_, _, err := g.cfg.DNSLinks.Resolve(x.ctx, h.name)
	ns, _, _ := splitNamespace(x.r.URL.Path)
	if errors.Is(err, naming.ErrNotFound) || err != nil && ns != "" {
		return ""
	}
	return h.name
}

// serveContent answers with content on an origin, or with an error page.
func (g *gateway) serveContent(x *transaction, o origin, cors bool) {
	if cors {
		applyCORS(x.w.Header())
	}
	if x.r.Method == http.MethodOptions {
		x.w.Header().Set("Allow", allowed)
		x.w.WriteHeader(http.StatusNoContent)
		return
	}
	traceOf(x.ctx).set(func(t *trace) { t.whole, t.page = asksWhole(x.r), webRequest(x.r) })
	if g.denies(x, o.prefix+x.r.URL.Path) {
		return
	}
	x.w.keep = &keeping{origin: o, kind: kindOf(o, cors), host: x.spelled, path: x.r.URL.Path, generation: g.ready.upToDate()}
	encodings := x.r.Header["Accept-Encoding"]
	x.w.keep.whenWhole = func() {
		if t := traceOf(x.ctx).snapshot(); t.failed == nil {
			g.ready.keep(x.w.keep, t, encodings)
		}
	}
	sent, status, text := g.content.serve(x.w, x.r, o)
	if !sent {
		g.fail(x, failureOf(x.ctx, status, text))
		return
	}
	if x.w.keep.whenWhole != nil && !x.w.incomplete(x.r, false) {
		x.w.keep.whenWhole()
	}
}

// allowed are the methods outside of /routing/v1/.
const allowed = "GET, HEAD, OPTIONS"

// applyCORS lets scripts of any origin read content, as the path gateway
// specification asks.
func applyCORS(h http.Header) {
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Methods", allowed)
	h.Set("Access-Control-Allow-Headers", "Content-Type, Range, User-Agent, X-Requested-With")
	h.Set("Access-Control-Expose-Headers", "Content-Length, Content-Range, Ipfs-Uri, X-Chunked-Output, X-Ipfs-Roots, X-Stream-Output")
}

// cleanRequest copies r without what only a trusted proxy may say, and with a
// request URI that agrees with the path (a client may send an absolute one).
func cleanRequest(r *http.Request, trusted []netip.Prefix) *http.Request {
	r2 := r.Clone(r.Context())
	for k := range r2.Header {
		if k == "Forwarded" || strings.HasPrefix(k, "X-Forwarded-") || strings.HasPrefix(k, "X-Original-") || k == "X-Rewrite-Url" || k == "X-Real-Ip" {
			delete(r2.Header, k)
		}
	}
	secure := r.TLS != nil
	if fromProxy(r.RemoteAddr, trusted) {
		if h := forwarded(r.Header["X-Forwarded-Host"]); h != "" {
			r2.Host = h
		}
		secure = secure || strings.EqualFold(forwarded(r.Header["X-Forwarded-Proto"]), "https")
	}
	r2.URL = &url.URL{Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
	if path, ok := withoutDots(r.URL.Path); ok {
		r2.URL.Path, r2.URL.RawPath = path, ""
	}
	if r2.URL.Path == "" {
		r2.URL.Path = "/"
	}
	r2.RequestURI = r2.URL.RequestURI()
	if secure {
		r2.Header.Set("X-Forwarded-Proto", "https") // how boxo and schemeOf are told
	}
	return r2
}

// forwarded is what the proxy that speaks to us says in a header that each proxy on
// the way may have added to: the last item. What stands before it anybody may have written.
func forwarded(values []string) string {
	if len(values) == 0 {
		return ""
	}
	_, last := cutLast(values[len(values)-1])
	return last
}

func fromProxy(remote string, trusted []netip.Prefix) bool {
	a, err := netip.ParseAddrPort(remote)
	return err == nil && isTrusted(a.Addr().Unmap().WithZone(""), trusted)
}

// schemeOf is how the client reached us; cleanRequest has seen to the header.
func schemeOf(r *http.Request) string {
	if r.Header.Get("X-Forwarded-Proto") == "https" {
		return "https"
	}
	return "http"
}

func badRequest(why string) Failure {
	return Failure{Status: http.StatusBadRequest, Kind: KindBadRequest, Step: StepRequest, Message: why}
}

// checkRequest refuses what has no meaning here or two meanings elsewhere.
func checkRequest(r *http.Request) *Failure {
	refuse := func(status int, why string) *Failure {
		f := badRequest(why)
		f.Status = status
		return &f
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
	default:
		return refuse(http.StatusMethodNotAllowed, "method "+r.Method+" is not allowed")
	}
	if hasBody(r) {
		return refuse(http.StatusBadRequest, "a body is not expected")
	}
	if !strings.HasPrefix(r.URL.Path, "/") || strings.IndexByte(r.URL.Path, 0) >= 0 {
		return refuse(http.StatusBadRequest, "malformed path")
	}
	for seg := range strings.SplitSeq(r.URL.Path, "/") {
		if seg == "." || seg == ".." {
			return refuse(http.StatusBadRequest, "the path holds a dot segment")
		}
	}
	if hasParam(r.URL.RawQuery, "filename") {
		q, _ := url.ParseQuery(r.URL.RawQuery)
		if name := q.Get("filename"); len(name) > maxFilename || strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c == 0x7f }) {
			return refuse(http.StatusBadRequest, "malformed filename parameter")
		}
	}
	return nil
}

// fail answers with an error page and counts it.
func (g *gateway) fail(x *transaction, f Failure) {
	g.errors.WithLabelValues(string(f.Kind), string(f.Step)).Inc()
	f.SitePage = g.aboutURL(x.r, f)
	x.answerError(g.holders, g.log, f)
}

// holders asks for the believed holders of a site, briefly: the request's own time may be up.
func (g *gateway) holders(ctx context.Context, n naming.Name) []string {
	if g.cfg.Sites == nil || n.IsZero() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	return g.cfg.Sites.Holders(ctx, n)
}

// answerError writes f in the form that the client asked for.
func (x *transaction) answerError(holders func(context.Context, naming.Name) []string, log *slog.Logger, f Failure) {
	if x.w.status != 0 {
		x.w.broken = true
		return
	}
	if f.Status < 400 {
		f.Status, f.Kind = http.StatusInternalServerError, KindInternal
	}
	if holders != nil && (f.Kind == KindUnavailable || f.Kind == KindUntrusted) {
		f.Holders = holders(x.ctx, traceOf(x.ctx).snapshot().name)
	}
	log.LogAttrs(x.ctx, slog.LevelDebug, "error answer", slog.Int("status", f.Status), slog.String("kind", string(f.Kind)),
		slog.String("step", string(f.Step)), slog.String("host", fmt.Sprintf("%.260q", x.r.Host)),
		slog.String("path", fmt.Sprintf("%.1000q", x.r.URL.Path)), slog.String("why", fmt.Sprintf("%.1000q", f.Message)))
	logPanic(x.ctx, log)
	if x.ctx.Err() != nil && !timedOut(x.ctx) {
		panic(http.ErrAbortHandler) // the client has left
	}
	if f.Kind == KindBusy && x.w.Header().Get("Retry-After") == "" {
		x.w.Header().Set("Retry-After", "1")
	}
	if hasBody(x.r) && x.r.ProtoMajor == 1 {
		x.w.Header().Set("Connection", "close") // the body is not waited for
	}
	writeFailure(x.w, x.r, f)
}
