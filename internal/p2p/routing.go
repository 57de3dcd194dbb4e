package p2p

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
)

// maxGuests bounds the records that are held for names nobody here follows.
const maxGuests = 1024

// maxLookups bounds the searches that callers of the routing API can have running.
const maxLookups = 32

// RoutingOptions connects the routing API to the rest of a node. The zero value serves what Config.Records
// holds, and takes records into a small cache only.
type RoutingOptions struct {
	// Accept tells whether a name is followed here, so that its records are
	// worth keeping in Config.Records. nil: none is.
	Accept func(naming.Name) bool
	// Lookup finds a record; nil looks nowhere. It must not ask other hosts'
	// routing APIs: two hosts that ask each other would never stop.
	Lookup func(context.Context, naming.Name) (naming.Record, error)
	// Accepted is told of every record that Config.Records has taken; may be
	// nil. It does not hear of those for names that nobody follows.
	Accepted func(naming.Record)
	Now      func() time.Time // nil: time.Now
}

// RoutingHandler serves the Delegated Routing V1 API under /routing/v1: GET and
// PUT ipns/{name}, GET providers/{cid}, GET peers/{id}. A record is kept only
// when its signature is good, it has not expired, and nothing newer was seen.
//
// Source: https://specs.ipfs.tech/routing/http-routing-v1/
func (n *Node) RoutingHandler(opts RoutingOptions) http.Handler {
	if opts.Accept == nil {
		opts.Accept = func(naming.Name) bool { return false }
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	h := &routingHandler{
		node: n, opts: opts, guests: newGuests(maxGuests), lookups: make(chan struct{}, maxLookups),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /routing/v1/ipns/{name}", h.getRecord)
	mux.HandleFunc("PUT /routing/v1/ipns/{name}", h.putRecord)
	mux.HandleFunc("GET /routing/v1/providers/{cid}", h.getProviders)
	mux.HandleFunc("GET /routing/v1/peers/{id}", h.getPeers)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The API is for scripts of any origin: it knows no cookies, and nothing here is secret.
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("Access-Control-Allow-Methods", "GET, HEAD, PUT, OPTIONS")
		w.Header().Set("Access-Control-Allow-Headers", "Accept, Content-Type, If-None-Match")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

type routingHandler struct {
	node    *Node
	opts    RoutingOptions
	guests  *guests
	lookups chan struct{}
}

func (h *routingHandler) getRecord(w http.ResponseWriter, r *http.Request) {
	name, err := naming.ParseName(r.PathValue("name"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if !accepts(r, naming.MediaType) {
		http.Error(w, "only "+naming.MediaType+" is served here", http.StatusNotAcceptable)
		return
	}
	w.Header().Set("Vary", "Accept")
	rec, err := h.best(r.Context(), name)
	now := h.opts.Now()
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	case rec.IsZero():
		notFound(w, "no record is known here")
		return
	case rec.Expired(now):
		// An older one that has not expired is not served instead: names never go back.
		notFound(w, "the newest record has expired")
		return
	}
	raw := rec.Bytes()
	sum := sha256.Sum256(raw)
	etag := `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`
	w.Header().Set("Content-Type", naming.MediaType)
	w.Header().Set("Cache-Control", cacheControl(rec, now))
	w.Header().Set("Expires", rec.ValidUntil().UTC().Format(http.TimeFormat))
	w.Header().Set("Etag", etag)
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(raw)))
	w.Write(raw)
}

// best is the best record that can be found, which may have expired; zero where there is none.
func (h *routingHandler) best(ctx context.Context, name naming.Name) (best naming.Record, err error) {
	take := func(rec naming.Record, err error) error {
		if err != nil {
			return err
		}
		if !rec.IsZero() && (best.IsZero() || rec.Compare(best) > 0) {
			best = rec
		}
		return nil
	}
	if h.opts.Lookup != nil {
		select {
		case h.lookups <- struct{}{}:
			if err := take(h.opts.Lookup(ctx, name)); err != nil && !errors.Is(err, naming.ErrNotFound) {
				h.node.log.Debug("routing: lookup", "name", name, "err", err)
			}
			<-h.lookups
		default: // too many at once: what is known here has to do
		}
	}
	if h.node.cfg.Records != nil {
		if err := take(h.node.cfg.Records.Best(ctx, name)); err != nil && !errors.Is(err, naming.ErrNotFound) {
			return best, err
		}
	}
	if rec, ok := h.guests.get(name); ok {
		take(rec, nil)
	}
	return best, nil
}

// cacheControl lets a record be cached for its TTL, and never past its end of life.
func cacheControl(rec naming.Record, now time.Time) string {
	age := min(rec.TTL(), rec.ValidUntil().Sub(now))
	return fmt.Sprintf("public, max-age=%d", max(0, int64(age/time.Second)))
}

func (h *routingHandler) putRecord(w http.ResponseWriter, r *http.Request) {
	name, err := naming.ParseName(r.PathValue("name"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != naming.MediaType {
		http.Error(w, "a record is sent as "+naming.MediaType, http.StatusUnsupportedMediaType)
		return
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, naming.MaxRecordSize))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		http.Error(w, naming.ErrTooLarge.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	if err != nil {
		http.Error(w, "the record could not be read", http.StatusBadRequest)
		return
	}
	rec, err := naming.OpenRecord(name, raw, h.opts.Now())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	kept, err := h.keep(r.Context(), rec)
	switch {
	case errors.Is(err, naming.ErrOlder):
		http.Error(w, err.Error(), http.StatusConflict)
	case err != nil:
		h.node.log.Error("routing: keeping a record", "name", name, "err", err)
		http.Error(w, "the record could not be kept", http.StatusInternalServerError)
	case kept && h.opts.Accepted != nil:
		h.opts.Accepted(rec)
	}
	// Without an error, the status is 200.
}

// keep puts the record where it belongs, and tells whether that is
// Config.Records. A name that was followed once has a floor still, and stays there.
func (h *routingHandler) keep(ctx context.Context, rec naming.Record) (kept bool, err error) {
	records := h.node.cfg.Records
	if records == nil {
		return false, h.guests.accept(rec)
	}
	followed := h.opts.Accept(rec.Name())
	if !followed {
		_, err := records.Best(ctx, rec.Name())
		if err != nil && !errors.Is(err, naming.ErrNotFound) {
			return false, err
		}
		followed = err == nil
	}
	if followed {
		return true, records.Accept(ctx, rec)
	}
	return false, h.guests.accept(rec)
}

// notFound is 404 with a short life: the record may come any moment.
func notFound(w http.ResponseWriter, why string) {
	w.Header().Set("Cache-Control", "public, max-age=5")
	http.Error(w, why, http.StatusNotFound)
}

// accepts tells whether the request takes the media type. No Accept header takes everything.
func accepts(r *http.Request, mediaType string) bool {
	headers := r.Header.Values("Accept")
	if len(headers) == 0 {
		return true
	}
	for part := range strings.SplitSeq(strings.Join(headers, ","), ",") {
		t, _, err := mime.ParseMediaType(part)
		if err == nil && (t == mediaType || t == "*/*" || t == strings.Split(mediaType, "/")[0]+"/*") {
			return true
		}
	}
	return false
}

// guests is the records of names that nobody here follows: the last max that
// were put, in memory.
type guests struct {
	max    int
	mu     sync.Mutex
	byName map[naming.Name]*list.Element
	order  *list.List // of naming.Record, least recently put first
}

func newGuests(max int) *guests {
	return &guests{max: max, byName: map[naming.Name]*list.Element{}, order: list.New()}
}

func (g *guests) get(name naming.Name) (naming.Record, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	el, ok := g.byName[name]
	if !ok {
		return naming.Record{}, false
	}
	return el.Value.(naming.Record), true
}

// accept follows the rule of naming.Records.
func (g *guests) accept(rec naming.Record) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if el, ok := g.byName[rec.Name()]; ok {
		best := el.Value.(naming.Record)
		if rec.Compare(best) < 0 {
			return &naming.OlderError{Name: rec.Name(), Offered: rec.Sequence(), Floor: best.Sequence()}
		}
		el.Value = rec
		g.order.MoveToBack(el)
		return nil
	}
	g.byName[rec.Name()] = g.order.PushBack(rec)
	if g.order.Len() > g.max {
		delete(g.byName, g.order.Remove(g.order.Front()).(naming.Record).Name())
	}
	return nil
}
