package gateway

import (
	"bufio"
	"errors"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	boxopath "github.com/ipfs/boxo/path"
	"github.com/ipfs/boxo/path/resolver"
	"github.com/ipfs/go-cid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming/deny"
)

const (
	carContentType = carMediaType + "; version=1; order=dfs; dups=n"
	immutable      = "public, max-age=29030400, immutable"
)

// carBuffer is how much of a CAR is gathered before it is written, in bytes.
const carBuffer = 256 << 10

// serveCAR streams a whole DAG without boxo's node by node traversal, which is
// several times slower. It reports false for anything but the plain case: the
// rest is boxo's.
func (c *content) serveCAR(w *pacedWriter, r *http.Request, path string) bool {
	root, ok := wholeCAR(r, path)
	if !ok {
		return false
	}
	h := w.Header()
	etag := `W/"` + root.String() + `.car"`
	if notModified(r.Header, etag, time.Time{}) {
		h.Set("Etag", etag)
		h.Set("Cache-Control", immutable)
		w.WriteHeader(http.StatusNotModified)
		return true
	}
	h.Set("Content-Type", carContentType)
	h.Set("Content-Disposition", `attachment; filename="`+root.String()+`.car"`)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Accept-Ranges", "none")
	h.Set("Etag", etag)
	h.Set("Cache-Control", immutable)
	h.Set("X-Ipfs-Roots", root.String())
	h.Set("Ipfs-Uri", "ipfs://"+cid.NewCidV1(root.Type(), root.Hash()).String())
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusOK)
		return true
	}
	w.WriteHeader(http.StatusOK)
	buf := bufio.NewWriterSize(w, carBuffer)
	_, err := merkle.WriteCAR(r.Context(), c.blocks, buf, root, merkle.WalkOptions{})
	if err == nil {
		err = buf.Flush()
	}
	w.broken = w.broken || err != nil
	return true
}

// scoped has a request for some bytes of an entity ask for that entity, which boxo
// wants to be told: else it sends all that is below it, every byte.
//
// Source: https://specs.ipfs.tech/http-gateways/trustless-gateway/#entity-bytes-request-query-parameter
func scoped(r *http.Request) *http.Request {
	if !hasParam(r.URL.RawQuery, "entity-bytes") || hasParam(r.URL.RawQuery, "dag-scope") {
		return r
	}
	r2 := r.Clone(r.Context())
	r2.URL.RawQuery += "&dag-scope=entity"
	return r2
}

// nothingAt is the status for a CAR that is asked for on a path that is known to
// lead nowhere, or to what is denied; else 0. boxo would send what is on the way, and end as if that were all.
func (c *content) nothingAt(r *http.Request, path string) (status int) {
	if splitDepth(path) < 3 {
		return 0
	}
	p, err := boxopath.NewPath(path)
	if err != nil {
		return 0
	}
	ip, _, _, err := c.backend.ResolveMutable(r.Context(), p)
	if err != nil {
		return 0
	}
	_, err = c.backend.ResolvePath(r.Context(), ip)
	var noLink *resolver.ErrNoLink
	switch failed := traceOf(r.Context()).snapshot().failed; {
	case errors.As(err, &noLink):
		return http.StatusNotFound
	case failed != nil && errors.Is(failed.err, deny.ErrDenied):
		return http.StatusGone
	}
	return 0
}

// wholeCAR recognises a request for everything under a CID, in depth-first
// order and without duplicates.
func wholeCAR(r *http.Request, path string) (cid.Cid, bool) {
	if !strings.HasPrefix(path, "/ipfs/") || splitDepth(path) != 2 {
		return cid.Undef, false
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return cid.Undef, false
	}
	params, asked, plain := acceptedCAR(r)
	if !plain {
		return cid.Undef, false
	}
	for key, values := range q {
		name, known := map[string]string{"format": "", "dag-scope": "", "car-version": "version", "car-order": "order", "car-dups": "dups"}[key]
		if !known || len(values) != 1 {
			return cid.Undef, false
		}
		if name != "" && values[0] != "" {
			params[name] = values[0]
		}
	}
	if f := q.Get("format"); f != "" && f != "car" || f == "" && !asked {
		return cid.Undef, false
	}
	if q.Has("dag-scope") && q.Get("dag-scope") != "all" {
		return cid.Undef, false
	}
	if v := params["version"]; v != "" && v != "1" {
		return cid.Undef, false
	}
	if o := params["order"]; o != "" && o != "dfs" && o != "unk" {
		return cid.Undef, false
	}
	if d := params["dups"]; d != "" && d != "n" {
		return cid.Undef, false
	}
	root, err := cid.Decode(strings.Split(path, "/")[2])
	return root, err == nil
}

// acceptedCAR tells whether Accept asks for a CAR and nothing else, and with which
// parameters. It is not plain where a CAR is one of several types: which of them
// counts, and whether ?format= leaves its parameters to it, is boxo's to say.
func acceptedCAR(r *http.Request) (params map[string]string, asked, plain bool) {
	accept := strings.TrimSpace(strings.Join(r.Header.Values("Accept"), ","))
	if !strings.Contains(strings.ToLower(accept), carMediaType) {
		return map[string]string{}, false, true
	}
	t, params, err := mime.ParseMediaType(accept)
	asked = err == nil && t == carMediaType && strings.HasPrefix(accept, carMediaType) && !strings.Contains(accept, ",")
	return params, asked, asked
}

// NewTrustless is what a node serves to other nodes: blocks and CARs under
// /ipfs/, nothing else, for any Host. Whoever asks checks what it gets. A block
// that g does not find is 404. What is denied is 410 or 451, by the path that was asked for or by a
// block's CID: whoever asks for a block by its CID alone says nothing of paths that lead to it.
// A nil log discards.
func NewTrustless(g blockstore.Getter, denied *deny.Lists, log *slog.Logger) http.Handler {
	cfg := Config{Blocks: g, Denied: denied, Log: log, Metrics: prometheus.NewRegistry()}.withDefaults().inTurn()
	c, err := newContent(cfg, nil, true)
	if err != nil {
		panic(err) // only boxo's options can fail, and ours don't
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = cleanRequest(r, nil)
		x := begin(w, r, cfg.RetrievalTimeout)
		defer x.end()
		if err := checkRequest(x.r); err != nil {
			x.answerError(nil, cfg.Log, *err)
			return
		}
		if !strings.HasPrefix(x.r.URL.Path, "/ipfs/") {
			x.answerError(nil, cfg.Log, Failure{Status: http.StatusNotFound, Kind: KindNotFound, Step: StepRequest, Message: "blocks and CARs are under /ipfs/"})
			return
		}
		traceOf(x.ctx).set(func(t *trace) { t.whole = asksWhole(x.r) })
		if err := c.backend.mayServe(x.ctx, x.r.URL.Path); err != nil {
			x.answerError(nil, cfg.Log, failureOf(x.ctx, http.StatusGone, ""))
			return
		}
		if sent, status, text := c.serve(x.w, x.r, origin{}); !sent {
			f := failureOf(x.ctx, status, text)
			if failed := traceOf(x.ctx).snapshot().failed; failed != nil && errors.Is(failed.err, blockstore.ErrNotFound) && !timedOut(x.ctx) {
				f.Status, f.Kind = http.StatusNotFound, KindNotFound // this node was asked what it has, not what there is
			}
			x.answerError(nil, cfg.Log, f)
		}
	})
}
