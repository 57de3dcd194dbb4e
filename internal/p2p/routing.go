package p2p

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
)

const (
	// maxGuests bounds the records that are held for names nobody here follows.
	maxGuests = 1024
	// maxLookups bounds the searches that callers of the routing API can have running.
	maxLookups = 32
	// maxChecks bounds the records that are checked at once, and checkWait how long one waits for its turn.
	maxChecks = 16
	checkWait = 5 * time.Second
)

// RoutingOptions connects the routing API to the rest of a node. The zero value serves what Config.Records
// holds, and takes records into a small cache only.
type RoutingOptions struct {
	// Accept tells whether a name is followed here, so that its records are
	// worth keeping in Config.Records. It is asked at each request. nil: none is.
	Accept func(naming.Name) bool
	// Lookup finds a record; nil looks nowhere. It must not ask other hosts'
	// routing APIs: two hosts that ask each other would never stop.
	Lookup func(context.Context, naming.Name) (naming.Record, error)
	// Accepted is told of every record that Config.Records has taken and did not have; may be
	// nil. It does not hear of those for names that nobody follows.
	Accepted func(naming.Record)
	// Confirm is called before a followed name's record is handed out, unless only what is kept was asked for: it may
	// ask others for a better one, and put that into Config.Records. May be nil.
	Confirm func(context.Context, naming.Name)
	Now     func() time.Time // nil: time.Now
}

// RoutingHandler serves the Delegated Routing V1 API under /routing/v1: GET and
// PUT ipns/{name}, GET providers/{cid}, GET peers/{id}. A record is kept only
// when its signature is good, it has not expired, and it may follow what was seen.
//
// The statuses are the specification's. Where that leaves a choice:
//   - A GET that finds nothing gets 404, which all clients understand; since IPIP-513 the
//     specification prefers 200 with another content type, which older ones take for a broken record.
//   - A PUT of a record that is older than the one kept gets 409, one of more than 10 240 bytes 413.
//   - Whoever asks too much gets 429 with Retry-After (see the limits in routing_limits.go), and 503 where
//     all are together too much.
//
// Source: https://specs.ipfs.tech/routing/http-routing-v1/
func (n *Node) RoutingHandler(opts RoutingOptions) http.Handler {
	if opts.Accept == nil {
		opts.Accept = func(naming.Name) bool { return false }
	}
	if opts.Accepted == nil {
		opts.Accepted = func(naming.Record) {}
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	h := &routingHandler{
		node: n, opts: opts, guests: newGuests(maxGuests), remotes: newRemotes(opts.Now),
		lookups: make(chan struct{}, maxLookups), checks: make(chan struct{}, maxChecks),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /routing/v1/ipns/{name}", h.getRecord)
	mux.HandleFunc("PUT /routing/v1/ipns/{name}", h.putRecord)
	mux.HandleFunc("GET /routing/v1/providers/{cid}", h.getProviders)
	mux.HandleFunc("GET /routing/v1/peers/{id}", h.getPeers)
	for _, known := range []string{"ipns/{name}", "providers/{cid}", "providers", "peers/{id}", "peers"} {
		mux.HandleFunc("/routing/v1/"+known, func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "this method is not supported", http.StatusNotImplemented)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "there is no such path", http.StatusBadRequest)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The API is for scripts of any origin: it knows no cookies, and nothing here is secret.
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("Access-Control-Allow-Methods", "GET, HEAD, PUT, OPTIONS")
		w.Header().Set("Access-Control-Allow-Headers", "Accept, Content-Type, If-None-Match")
		w.Header().Set("Access-Control-Expose-Headers", "Etag, Retry-After")
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
	remotes *remotes
	lookups chan struct{}
	checks  chan struct{}
}

// errBusy says that too many others ask at once.
var errBusy = errors.New("too much is asked at once")

// refuse answers with the status that an error has; kinds that have none are the fault of this side.
func (h *routingHandler) refuse(w http.ResponseWriter, err error) {
	var wait *waitError
	status := http.StatusInternalServerError
	switch {
	case errors.As(err, &wait):
		w.Header().Set("Retry-After", strconv.Itoa(wait.seconds()))
		status = http.StatusTooManyRequests
	case errors.Is(err, errBusy):
		w.Header().Set("Retry-After", "5")
		status = http.StatusServiceUnavailable
	case errors.Is(err, naming.ErrOlder):
		status = http.StatusConflict
	case errors.Is(err, naming.ErrTooLarge):
		status = http.StatusRequestEntityTooLarge
	case errors.Is(err, naming.ErrInvalidRecord), errors.Is(err, naming.ErrInvalidName):
		status = http.StatusBadRequest
	case errors.Is(err, context.Canceled): // nobody waits for an answer any more
		status = http.StatusServiceUnavailable
	default:
		h.node.log.Error("routing", "err", err)
		err = errors.New("this node failed")
	}
	http.Error(w, err.Error(), status)
}

// accepts tells whether the request takes the media type. No Accept header takes everything.
func accepts(r *http.Request, mediaType string) bool {
	headers := r.Header.Values("Accept")
	if len(headers) == 0 {
		return true
	}
	family, _, _ := strings.Cut(mediaType, "/")
	for part := range strings.SplitSeq(strings.Join(headers, ","), ",") {
		t, params, err := mime.ParseMediaType(part)
		if err != nil || t != mediaType && t != "*/*" && t != family+"/*" {
			continue
		}
		if q, err := strconv.ParseFloat(params["q"], 64); err != nil || q > 0 {
			return true
		}
	}
	return false
}
