package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/deny"
)

// Kind is the kind of an error answer; each has one status.
type Kind string

// The kinds.
const (
	KindBadRequest  Kind = "bad_request"       // 400 and its neighbours: the request can't be served as it stands
	KindNotFound    Kind = "not_found"         // 404: it is known that nothing is there
	KindDenied      Kind = "denied"            // 410, 451: this gateway's operator doesn't serve it
	KindGone        Kind = "gone"              // 410, 451: the site's own rules say that it was taken away
	KindMalformed   Kind = "malformed"         // 422: the content doesn't follow its format
	KindLimited     Kind = "too_many_requests" // 429: this client's share is used up
	KindRules       Kind = "rules"             // 500: the site's rules file can't be used
	KindInternal    Kind = "internal"          // 500: our fault
	KindUnsupported Kind = "not_supported"     // 501
	KindUntrusted   Kind = "untrusted"         // 502: only wrong bytes or invalid records were offered
	KindBusy        Kind = "busy"              // 503
	KindUnavailable Kind = "unavailable"       // 504: nobody answered in time
)

// statuses is the one place where kinds become statuses. A Failure that has a
// status of its own keeps it: 405 and 416 are bad requests too, and 451 is denied.
var statuses = map[Kind]int{
	KindBadRequest:  http.StatusBadRequest,
	KindNotFound:    http.StatusNotFound,
	KindDenied:      http.StatusGone,
	KindGone:        http.StatusGone,
	KindMalformed:   http.StatusUnprocessableEntity,
	KindLimited:     http.StatusTooManyRequests,
	KindRules:       http.StatusInternalServerError,
	KindInternal:    http.StatusInternalServerError,
	KindUnsupported: http.StatusNotImplemented,
	KindUntrusted:   http.StatusBadGateway,
	KindBusy:        http.StatusServiceUnavailable,
	KindUnavailable: http.StatusGatewayTimeout,
}

// Failure is an error answer. As JSON it is a problem document (RFC 9457) with
// members of our own beside "status" and "detail".
type Failure struct {
	Status  int    `json:"status"` // 0: that of Kind
	Kind    Kind   `json:"kind"`
	Message string `json:"detail"`
	Step    Step   `json:"step"`
	// What was known of the way, in order; empty where it was not reached.
	Alias    string   `json:"alias,omitempty"`
	Domain   string   `json:"domain,omitempty"`
	Name     string   `json:"name,omitempty"`
	Sequence uint64   `json:"sequence,omitempty"`
	Root     string   `json:"root,omitempty"`
	Path     string   `json:"path,omitempty"`
	Block    string   `json:"block,omitempty"`
	Asked    []string `json:"asked,omitempty"`   // who was asked, with what each said
	Holders  []string `json:"holders,omitempty"` // who is believed to hold the site
	Millis   int64    `json:"elapsed_ms"`
	// Ended is when the record of the name ended, where that is why; Root is then what it led to.
	Ended    time.Time `json:"record_ended,omitzero"`
	SitePage string    `json:"site_page,omitempty"` // URL of what this gateway knows of the site
}

// asker is an error that knows who was asked.
type asker interface{ Asked() []string }

// failureOf maps what went wrong to an answer: from the trace where it knows,
// else from boxo's status and text.
func failureOf(ctx context.Context, status int, text string) Failure {
	t := traceOf(ctx).snapshot()
	f := Failure{Status: status, Message: text, Step: StepRequest, Path: t.path, Alias: t.alias, Domain: t.domain}
	if !t.started.IsZero() {
		f.Millis = time.Since(t.started).Milliseconds()
	}
	if !t.name.IsZero() {
		f.Name = t.name.String()
	}
	if !t.record.Record.IsZero() {
		f.Sequence = t.record.Record.Sequence()
	}
	if t.root.Defined() {
		f.Root = t.root.String()
	}
	switch {
	case t.failed != nil:
		f.fromTrace(ctx, t)
	case timedOut(ctx):
		f.Status, f.Kind, f.Step = http.StatusGatewayTimeout, KindUnavailable, StepPath
		f.Message = errTimeout.Error()
	default:
		f.fromStatus()
	}
	return f
}

// fromTrace fills in what the first failed step says.
func (f *Failure) fromTrace(ctx context.Context, t *trace) {
	err := t.failed.err
	f.Step = t.failed.step
	f.Message = err.Error()
	if t.failed.block.Defined() {
		f.Block = t.failed.block.String()
	}
	var a asker
	if errors.As(err, &a) {
		f.Asked = a.Asked()
	}
	var re *naming.ResolveError
	if errors.As(err, &re) {
		for _, answer := range re.Answers {
			said := fmt.Sprintf("sequence %d", answer.Sequence)
			if answer.Err != nil {
				said = answer.Err.Error()
			}
			f.Asked = append(f.Asked, answer.Source+": "+said)
		}
		if rec := re.Expired; errors.Is(err, naming.ErrExpired) && !rec.IsZero() {
			f.Ended, f.Sequence = rec.ValidUntil(), rec.Sequence()
			if root, ok := rec.Root(); ok {
				f.Root = root.String()
			}
		}
	}
	f.Kind = classify(ctx, err)
	f.Status = statuses[f.Kind]
	if d := (*deny.Error)(nil); errors.As(err, &d) {
		f.Status = d.Status
	}
	if timedOut(ctx) && f.Kind == KindUnavailable && !strings.Contains(f.Message, errTimeout.Error()) {
		f.Message = errTimeout.Error() + ": " + f.Message
	}
}

// classify is the one place where errors become kinds.
func classify(ctx context.Context, err error) Kind {
	switch {
	case errors.Is(err, errStore):
		return KindInternal
	case errors.Is(err, errRules) && !unavailable(ctx, err) && !errors.Is(err, blockstore.ErrCorrupt):
		return KindRules
	case errors.Is(err, deny.ErrDenied):
		return KindDenied
	case errors.Is(err, errBusy):
		return KindBusy
	case errors.Is(err, errBudget):
		return KindLimited
	case errors.Is(err, blockstore.ErrCorrupt), errors.Is(err, naming.ErrInvalidRecord), errors.Is(err, naming.ErrOlder):
		return KindUntrusted
	case errors.Is(err, blockstore.ErrRefused), errors.Is(err, merkle.ErrMalformed), errors.Is(err, merkle.ErrLimit),
		errors.Is(err, merkle.ErrUnsupported), errors.Is(err, naming.ErrDNSLink):
		return KindMalformed
	case errors.Is(err, naming.ErrInvalidName):
		return KindBadRequest
	case errors.Is(err, naming.ErrNotFound), errors.Is(err, merkle.ErrNoPath):
		return KindNotFound
	case unavailable(ctx, err):
		return KindUnavailable
	default:
		return KindUntrusted
	}
}

// unavailable tells whether err says that something exists as far as anybody
// knows, and could not be had. A block that is not found is such: its CID came from a signed root.
func unavailable(ctx context.Context, err error) bool {
	return errors.Is(err, blockstore.ErrNotFound) || errors.Is(err, blockstore.ErrUnavailable) ||
		errors.Is(err, naming.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, context.Canceled) || errors.Is(err, errTimeout) || timedOut(ctx)
}

// fromStatus reads boxo's status where the trace has nothing.
func (f *Failure) fromStatus() {
	switch {
	case f.Status == http.StatusNotFound:
		f.Kind, f.Step = KindNotFound, StepPath
		f.Message = "there is nothing at this path"
	case f.Status == http.StatusRequestedRangeNotSatisfiable:
		f.Kind = KindBadRequest
	case f.Status == http.StatusNotImplemented:
		f.Kind = KindUnsupported
	case f.Status == http.StatusGone || f.Status == http.StatusUnavailableForLegalReasons:
		f.Kind, f.Step = KindGone, StepPath
		f.Message = "the site's rules say that this is gone"
	case f.Status < 500:
		f.Kind = KindBadRequest
	case f.Message == "":
		// boxo says nothing after a panic.
		f.Kind, f.Status, f.Message = KindInternal, http.StatusInternalServerError, "internal error"
	default:
		// Every block came and was right, and still it can't be read.
		f.Kind, f.Status, f.Step = KindMalformed, http.StatusUnprocessableEntity, StepPath
	}
	if f.Message == "" {
		f.Message = http.StatusText(f.Status)
	}
}
