package gateway

import (
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

// ready gives answers again that were given before. A root never changes, so
// an answer is a function of root and path, and of what the client can decode;
// only for how long it may be kept is worked out each time. Bounded in bytes; safe for concurrent use.
type ready struct {
	names      Changing // nil: names are asked for each request
	trusted    []netip.Prefix
	generation func() uint64 // of what must not be served
	current    atomic.Uint64 // the generation that the caches are of
	also       func()        // what else is to be forgotten with the generation; may be nil
	bindings   *otter.Cache[bindingKey, *binding]
	answers    *answers
	missing    *answers // of pages for what is not there: any number of paths may be asked for
	graceful   bool     // what is missing may have been there a moment ago
	hits       interface{ Inc() }
}

const (
	maxBindings     = 8192
	maxEncodings    = 128         // bytes of an Accept-Encoding header; longer ones are not worth a copy each
	ownLifetimeTime = time.Minute // for which a Cache-Control that a site wrote itself is given again
	readyStall      = writeStall  // for a client to take a ready answer
	shareOfMissing  = 16          // the part of all answers that are pages for what is not there
)

// answerKey is all that an answer depends on.
type answerKey struct {
	root, base   string
	prefix, path string // the content path; prefix has the name, which is in the header
	encoding     string // Accept-Encoding, where the answer depends on it
	kind         originKind
}

// answer is a finished one. It is never changed.
type answer struct {
	status     int
	missing    bool // it is a page for what is not there
	header     []field
	header304  []field
	body       []byte
	size       int64
	headOnly   bool // the body is too large to be kept
	etag       string
	modified   time.Time // by the author; zero where that is not known
	dated      bool      // it says that it was modified now
	ranges     bool
	varies     bool // what is sent depends on Accept-Encoding
	generation uint64
	// ownLifetime says that Cache-Control is in header, and the answer to be made anew after until.
	ownLifetime bool
	until       time.Time // zero: never
	weight      int64     // bytes, beside what any entry takes
}

// field is one header, in the form that http.Header has. The values are shared.
type field struct {
	key    string
	values []string
}

// newReady keeps about most bytes.
func newReady(most int64, names Names, trusted []netip.Prefix, generation func() uint64, hits interface{ Inc() }) *ready {
	changing, _ := names.(Changing)
	return &ready{
		names: changing, trusted: trusted, generation: generation, hits: hits,
		bindings: newRemembered[bindingKey, *binding](maxBindings),
		answers:  newAnswers(most - most/shareOfMissing),
		missing:  newAnswers(most / shareOfMissing),
	}
}

// upToDate gives the generation, and drops everything that is older.
func (rd *ready) upToDate() uint64 {
	now := rd.generation()
	if was := rd.current.Load(); was != now && rd.current.CompareAndSwap(was, now) {
		rd.bindings.InvalidateAll()
		rd.answers.forget()
		rd.missing.forget()
		if rd.also != nil {
			rd.also()
		}
	}
	return now
}

func (rd *ready) changes() uint64 {
	if rd.names == nil {
		return 0
	}
	return rd.names.Changes()
}

// serve answers r if its answer is ready; it says with what status, 0 where it
// didn't, and how many bytes of the body were sent.
func (rd *ready) serve(w http.ResponseWriter, r *http.Request) (status int, sent int64) {
	if !plain(r) || hasBody(r) || strings.Contains(r.Header.Get("Range"), ",") || len(r.Header["Range"]) > 1 {
		return 0, 0
	}
	now, generation := time.Now(), rd.upToDate()
	host, path := spelledHost(r, rd.trusted), spelledPath(r)
	b := rd.bound(host, path, now)
	if b == nil {
		return 0, 0
	}
	a := rd.find(b, path, r.Header["Accept-Encoding"])
	if a == nil || a.generation != generation || !a.until.IsZero() && now.After(a.until) {
		return 0, 0
	}
	if a.missing && rd.graceful && wantsPart(r, path) {
		return 0, 0
	}
	if status, sent = a.send(w, r, b, now); status != 0 {
		rd.hits.Inc()
	}
	return status, sent
}

// bound is what the host, or the beginning of the path, stands for.
func (rd *ready) bound(host, path string, now time.Time) *binding {
	changes := rd.changes()
	for _, id := range [2]string{pathID(path), ""} {
		if b, ok := rd.bindings.GetIfPresent(bindingKey{host, id}); ok && b.valid(now, changes) {
			return b
		}
		if id == "" {
			break
		}
	}
	return nil
}

// find looks for what is sent to a client that can decode so much, and then for what is sent to all.
func (rd *ready) find(b *binding, path string, encodings []string) *answer {
	key := answerKey{root: b.root.KeyString(), base: b.base, prefix: b.prefix, path: path, kind: b.kind}
	encoding, ok := encodingKey(encodings)
	if ok {
		key.encoding = encoding
		if a := rd.at(key); a != nil {
			return a
		}
	}
	key.encoding = ""
	return rd.at(key)
}

// at may be nil.
func (rd *ready) at(key answerKey) *answer {
	if a, ok := rd.answers.GetIfPresent(key); ok {
		return a
	}
	a, _ := rd.missing.GetIfPresent(key)
	return a
}

// encodingKey tells one Accept-Encoding from another; not ok where it is too
// odd to be worth it.
func encodingKey(encodings []string) (string, bool) {
	switch {
	case len(encodings) == 0 || len(encodings) == 1 && encodings[0] == "":
		return "identity", true
	case len(encodings) == 1 && len(encodings[0]) <= maxEncodings:
		return encodings[0], true
	}
	return "", false
}

// keep takes note of an answer that has gone out whole, and of what led to it.
func (rd *ready) keep(k *keeping, t *trace, encodings []string) {
	if k == nil || !k.found || !t.root.Defined() || k.generation != rd.generation() {
		return
	}
	b := &binding{kind: k.kind, prefix: k.origin.prefix, root: t.root, base: t.base, until: t.until, fresh: t.fresh, changes: t.changes}
	id := ""
	if !k.origin.isolated() {
		id = pathID(k.path)
		b.prefix = id
	}
	if rd.names != nil || b.until.IsZero() {
		at := bindingKey{k.host, id}
		if was, ok := rd.bindings.GetIfPresent(at); !ok || !was.same(b) {
			rd.bindings.Set(at, b)
		}
	}
	if k.header == nil {
		return
	}
	a := k.answer(time.Now())
	key := answerKey{root: b.root.KeyString(), base: b.base, prefix: b.prefix, path: k.path, kind: b.kind}
	to := rd.answers
	if a.missing {
		to = rd.missing
	}
	if a.varies {
		var ok bool
		if key.encoding, ok = encodingKey(encodings); !ok {
			return
		}
	}
	to.add(key, a)
}

// send answers with a, or a part of it, or that the client has it already. The
// status is 0 where something else is to be said.
func (a *answer) send(w http.ResponseWriter, r *http.Request, b *binding, now time.Time) (status int, sent int64) {
	_ = http.NewResponseController(w).SetWriteDeadline(now.Add(readyStall))
	status = a.status
	if status == http.StatusOK && notModified(r.Header, a.etag, a.modified) {
		a.put(w.Header(), a.header304, b, now)
		w.WriteHeader(http.StatusNotModified)
		return http.StatusNotModified, 0
	}
	part := span{0, a.size}
	if status == http.StatusOK && r.Header["Range"] != nil {
		if !a.ranges { // of the plain content there are parts
			return 0, 0
		}
		p, partial, err := spanOf(r.Header, a.etag, a.modified, a.size)
		if err != nil {
			return 0, 0
		}
		if part = p; partial {
			status = http.StatusPartialContent
		}
	}
	if a.headOnly && r.Method != http.MethodHead {
		return 0, 0
	}
	h := w.Header()
	a.put(h, a.header, b, now)
	if a.dated {
		h["Last-Modified"] = thisSecond.lastModified(now)
	}
	if status == http.StatusPartialContent {
		h["Content-Range"] = []string{part.contentRange(a.size)}
	}
	h["Content-Length"] = []string{strconv.FormatInt(part.length(), 10)}
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return status, 0
	}
	joint := jointOf(r.Context())
	joint.join(int(part.length()))
	for body := a.body[part.from:part.to]; len(body) > 0; {
		n, err := w.Write(atOnce(body, joint))
		joint.part() // the header is out
		sent += int64(n)
		if err != nil {
			break // the client has left
		}
		if body = body[n:]; len(body) > 0 {
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(readyStall))
		}
	}
	return status, sent
}

func (a *answer) put(h http.Header, fields []field, b *binding, now time.Time) {
	for _, f := range fields {
		h[f.key] = f.values
	}
	if !a.ownLifetime {
		h["Cache-Control"] = b.lifetime(now)
	}
}

// spelledHost is the host that the client asked for, as it wrote it.
func spelledHost(r *http.Request, trusted []netip.Prefix) string {
	if len(trusted) > 0 && r.Header["X-Forwarded-Host"] != nil && fromProxy(r.RemoteAddr, trusted) {
		if h := forwarded(r.Header["X-Forwarded-Host"]); h != "" {
			return h
		}
	}
	return r.Host
}

func spelledPath(r *http.Request) string {
	if r.URL.Path == "" {
		return "/"
	}
	return r.URL.Path
}
