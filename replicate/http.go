package replicate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-sites/holdfast/blockstore"
)

const maxQueryBytes = 64 << 10

// MaxRequestBytes is the largest body that the pin service reads.
const MaxRequestBytes = 1 << 20

// HandlerConfig is what a handler works with; the zero value works.
type HandlerConfig struct {
	Timeout time.Duration // for one request, its body included; 0: 30 s
	Log     *slog.Logger  // nil: discards
}

type pinHandler struct {
	service *Service
	timeout time.Duration
	log     *slog.Logger
}

// NewHandler is the Pinning Service API 1.0.0 over a service, at /pins and
// /pins/{requestid}, and our own [TenantPath]. Every request needs a token of the service's Tokens, in
// the Authorization header; every failure has a JSON body with reason and details.
func NewHandler(s *Service, cfg HandlerConfig) http.Handler {
	h := &pinHandler{service: s, timeout: cfg.Timeout, log: cfg.Log}
	if h.timeout <= 0 {
		h.timeout = 30 * time.Second
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	return h
}

// ServeHTTP implements http.Handler.
func (h *pinHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), h.timeout)
	defer cancel()
	r = r.WithContext(ctx)
	// A body that trickles in ends with the request. Over libp2p there may be
	// no deadlines: there the stream's own limits hold.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(h.timeout))
	w.Header().Set("Cache-Control", "no-store")
	if err := h.route(w, r); err != nil {
		h.fail(w, r, err)
	}
}

func (h *pinHandler) route(w http.ResponseWriter, r *http.Request) error {
	tenant, err := h.admitted(r)
	if err != nil {
		return err
	}
	if r.URL.Path == TenantPath {
		return h.tenantInfo(w, r, tenant)
	}
	id, one := strings.CutPrefix(r.URL.Path, "/pins/")
	switch {
	case !one && r.URL.Path != "/pins", one && (id == "" || strings.Contains(id, "/")):
		return fmt.Errorf("%w: there is /pins and /pins/{requestid}", errNoRoute)
	case !one && r.Method == http.MethodGet:
		return h.list(w, r, tenant)
	case !one && r.Method == http.MethodPost:
		p, err := h.readPin(w, r)
		if err != nil {
			return err
		}
		st, err := h.service.Add(r.Context(), tenant, p)
		return answer(w, http.StatusAccepted, st, err)
	case one && r.Method == http.MethodGet:
		st, err := h.service.Get(r.Context(), tenant, id)
		return answer(w, http.StatusOK, st, err)
	case one && r.Method == http.MethodPost:
		if _, err := h.service.Get(r.Context(), tenant, id); err != nil {
			return err
		}
		p, err := h.readPin(w, r)
		if err != nil {
			return err
		}
		st, err := h.service.Replace(r.Context(), tenant, id, p)
		return answer(w, http.StatusAccepted, st, err)
	case one && r.Method == http.MethodDelete:
		if err := h.service.Delete(r.Context(), tenant, id); err != nil {
			return err
		}
		w.WriteHeader(http.StatusAccepted)
		return nil
	}
	allow := "GET, POST"
	if one {
		allow = "GET, POST, DELETE"
	}
	w.Header().Set("Allow", allow)
	return fmt.Errorf("%w: %s", errMethod, allow)
}

// tenant is whom the request's token belongs to. A token elsewhere than in the
// header (in the query, say) counts for nothing.
func (h *pinHandler) tenant(r *http.Request) (Tenant, error) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") || h.service.cfg.Tokens == nil {
		return Tenant{}, ErrUnauthorized
	}
	return Authenticate(r.Context(), h.service.cfg.Tokens, strings.TrimSpace(token), h.service.cfg.Now())
}

// admitted is whom a new request's token belongs to, and counts the request as one of the token's.
func (h *pinHandler) admitted(r *http.Request) (Tenant, error) {
	t, err := h.tenant(r)
	if err != nil {
		return Tenant{}, err
	}
	return t, h.service.rates.take(t.ID, t.Scope.Rate, h.service.cfg.Now())
}

func (h *pinHandler) tenantInfo(w http.ResponseWriter, r *http.Request, t Tenant) error {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", "GET")
		return fmt.Errorf("%w: GET", errMethod)
	}
	info, err := h.service.TenantInfo(r.Context(), t)
	return answer(w, http.StatusOK, info, err)
}

// readPin reads the pin that a request asks for. A body may take its time: a token that was revoked meanwhile
// is good for nothing any more.
func (h *pinHandler) readPin(w http.ResponseWriter, r *http.Request) (Pin, error) {
	p, err := readPin(w, r)
	if err == nil {
		_, err = h.tenant(r)
	}
	return p, err
}

func readPin(w http.ResponseWriter, r *http.Request) (Pin, error) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxRequestBytes))
	if err != nil {
		if errors.As(err, new(*http.MaxBytesError)) {
			return Pin{}, err
		}
		return Pin{}, invalid("body", "%v", err)
	}
	return ParsePin(b)
}

func (h *pinHandler) list(w http.ResponseWriter, r *http.Request, t Tenant) error {
	q, err := ParseQuery(r.URL.RawQuery)
	if err != nil {
		return err
	}
	res, err := h.service.List(r.Context(), t, q)
	return answer(w, http.StatusOK, res, err)
}

// ParseQuery reads the query string of GET /pins. The error is an InvalidError.
func ParseQuery(raw string) (Query, error) {
	if len(raw) > maxQueryBytes {
		return Query{}, invalid("query", "longer than %d bytes", maxQueryBytes)
	}
	v, err := url.ParseQuery(raw)
	if err != nil {
		return Query{}, invalid("query", "%v", err)
	}
	q := Query{Name: v.Get("name"), Match: Match(v.Get("match"))}
	if v.Has("limit") {
		if q.Limit, err = strconv.Atoi(v.Get("limit")); err != nil || q.Limit < 1 {
			return Query{}, invalid("limit", "must be 1 to %d", MaxQueryLimit)
		}
	}
	for name, to := range map[string]*time.Time{"before": &q.Before, "after": &q.After} {
		if !v.Has(name) {
			continue
		}
		if *to, err = time.Parse(time.RFC3339Nano, v.Get(name)); err != nil {
			return Query{}, invalid(name, "must be a time as in RFC 3339")
		}
	}
	cids := listParam(v, "cid")
	if len(cids) > MaxQueryCIDs {
		return Query{}, invalid("cid", "%d are more than %d", len(cids), MaxQueryCIDs)
	}
	for _, s := range cids {
		c, err := parseCID(s)
		if err == nil {
			err = blockstore.CheckCID(c)
		}
		if err != nil {
			return Query{}, invalid("cid", "%q: %v", cut(s), err)
		}
		q.CIDs = append(q.CIDs, c)
	}
	for _, s := range listParam(v, "status") {
		q.Status = append(q.Status, Status(s))
	}
	if q.Meta, err = metaParams(v); err != nil {
		return Query{}, err
	}
	return q, q.Check()
}

// metaParams is the parameter meta, a JSON object, and with it what clients generated for JavaScript send
// in its place: meta[key]=value. To pass over those would be to answer with what was filtered out.
func metaParams(v url.Values) (map[string]string, error) {
	var meta metaJSON
	if v.Has("meta") {
		if err := json.Unmarshal([]byte(v.Get("meta")), &meta); err != nil || meta == nil {
			return nil, invalid("meta", "must be a JSON object of strings")
		}
	}
	for name, values := range v {
		key, ok := strings.CutPrefix(name, "meta[")
		if !ok {
			continue
		}
		key, ok = strings.CutSuffix(key, "]")
		if _, twice := meta[key]; !ok || twice || len(values) != 1 {
			return nil, invalid("meta", "must be a JSON object of strings, or meta[key]=value for each key once")
		}
		if meta == nil {
			meta = metaJSON{}
		}
		meta[key] = values[0]
	}
	return meta, nil
}

// listParam is a parameter in the style "form, not exploded": a,b,c.
func listParam(v url.Values, name string) []string {
	if !v.Has(name) {
		return nil
	}
	return strings.Split(strings.Join(v[name], ","), ",")
}

// answer writes v, or returns the error for fail to write.
func answer(w http.ResponseWriter, code int, v any, err error) error {
	if err != nil {
		return err
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(b) // who asked may be gone
	return nil
}

var (
	errNoRoute = errors.New("no such address")
	errMethod  = errors.New("method not allowed")
)

type failureJSON struct {
	Error struct {
		Reason  string `json:"reason"`
		Details string `json:"details,omitempty"`
	} `json:"error"`
}

// fail writes an error in the specification's form.
func (h *pinHandler) fail(w http.ResponseWriter, r *http.Request, err error) {
	code, reason, details := http.StatusInternalServerError, "INTERNAL_SERVER_ERROR", "see the host's log"
	tooLarge, early := new(http.MaxBytesError), new(rateError)
	switch {
	case errors.Is(err, ErrExpired):
		code, reason, details = http.StatusUnauthorized, "UNAUTHORIZED", err.Error()
		w.Header().Set("WWW-Authenticate", "Bearer")
	case errors.As(err, &early):
		code, reason, details = http.StatusTooManyRequests, "TOO_MANY_REQUESTS", err.Error()
		w.Header().Set("Retry-After", strconv.FormatInt(int64(early.after/time.Second)+1, 10))
	case errors.Is(err, ErrDraining):
		code, reason, details = http.StatusForbidden, "DRAINING", err.Error()
	case errors.Is(err, ErrForbidden):
		code, reason, details = http.StatusForbidden, "FORBIDDEN", err.Error()
	case errors.Is(err, ErrUnauthorized):
		code, reason, details = http.StatusUnauthorized, "UNAUTHORIZED", "the access token is missing or not accepted; it goes into the header Authorization: Bearer"
		w.Header().Set("WWW-Authenticate", "Bearer")
	case errors.As(err, &tooLarge):
		code, reason, details = http.StatusRequestEntityTooLarge, "TOO_LARGE", fmt.Sprintf("a body may have %d bytes", tooLarge.Limit)
	case errors.Is(err, ErrInvalid):
		code, reason, details = http.StatusBadRequest, "BAD_REQUEST", err.Error()
	case errors.Is(err, ErrQuota):
		code, reason, details = http.StatusConflict, "INSUFFICIENT_FUNDS", err.Error()
	case errors.Is(err, ErrNotFound):
		code, reason, details = http.StatusNotFound, "NOT_FOUND", "there is no such pin of yours"
	case errors.Is(err, errNoRoute):
		code, reason, details = http.StatusNotFound, "NOT_FOUND", err.Error()
	case errors.Is(err, errMethod):
		code, reason, details = http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", err.Error()
	case errors.Is(err, context.DeadlineExceeded):
		code, reason, details = http.StatusServiceUnavailable, "TIMEOUT", "the host was too slow; try again"
		h.log.Error("pin API", "method", r.Method, "path", r.URL.Path, "err", err)
	default:
		h.log.Error("pin API", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	var f failureJSON
	f.Error.Reason, f.Error.Details = reason, details
	_ = answer(w, code, f, nil) // two strings always have JSON
}
