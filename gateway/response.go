package gateway

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
)

// writeStall is how long a client may take to accept what is handed over at once.
const writeStall = 30 * time.Second

// pacedWriter bounds a response in time: until the first byte, and between
// writes, by the retrieval timeout (which ends the request's context), and in
// each write by the connection's deadline, so that a slow reader is not taken
// for a slow source.
type pacedWriter struct {
	timing func(http.Header) // the last word on the header; may be nil

	http.ResponseWriter
	timeout  time.Duration
	stall    time.Duration // writeStall
	timer    *time.Timer
	deadline time.Time
	status   int   // 0 until the header is out
	length   int64 // the Content-Length that went out, or -1
	written  int64
	broken   bool     // the response went wrong after its header
	keep     *keeping // what is noted of it; may be nil
	seat     *seat
	joint    *jointConn
}

// pace starts the clock. The returned context ends with errTimeout when time is
// up; the returned function stops the clock.
func pace(w http.ResponseWriter, ctx context.Context, timeout time.Duration) (*pacedWriter, context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	p := &pacedWriter{ResponseWriter: w, joint: jointOf(ctx), timeout: timeout, stall: writeStall, length: -1}
	p.timer = time.AfterFunc(timeout, func() { cancel(errTimeout) })
	p.extend(timeout + writeStall)
	return p, ctx, func() {
		p.timer.Stop()
		cancel(nil)
	}
}

// extend moves the connection's write deadline. Writers that have none are left alone.
func (p *pacedWriter) extend(d time.Duration) {
	deadline := time.Now().Add(d)
	if deadline.Sub(p.deadline).Abs() > d/16 { // not for each of many small writes
		p.deadline = deadline
		_ = http.NewResponseController(p.ResponseWriter).SetWriteDeadline(p.deadline)
	}
}

func (p *pacedWriter) WriteHeader(status int) {
	if status >= 100 && status < 200 {
		p.ResponseWriter.WriteHeader(status)
		return
	}
	if p.status != 0 {
		p.broken = p.broken || status >= 500 // boxo's way to say that it panicked
		return
	}
	p.status = status
	if p.timing != nil {
		p.timing(p.Header())
	}
	if n, err := strconv.ParseInt(p.Header().Get("Content-Length"), 10, 64); err == nil {
		p.length = n
	}
	p.keep.start(status, p.Header())
	p.ResponseWriter.WriteHeader(status)
}

func (p *pacedWriter) Write(b []byte) (int, error) {
	if p.status == 0 {
		p.WriteHeader(http.StatusOK)
	}
	p.timer.Stop()
	defer p.timer.Reset(p.timeout)
	sent := 0
	for {
		n, err := p.hand(atOnce(b[sent:], p.joint))
		if sent += n; err != nil || sent == len(b) {
			return sent, err
		}
	}
}

// maxHanded is what a reader may take writeStall for, in bytes.
const maxHanded = 64 << 10

// atOnce is how much of b is handed to the connection at once: all of it where the connection itself sees to it that
// the reader goes on reading, since each piece is a call of the system and wakes the reader.
func atOnce(b []byte, c *jointConn) []byte {
	if c != nil {
		return b
	}
	return b[:min(len(b), maxHanded)]
}

func (p *pacedWriter) hand(b []byte) (int, error) {
	p.extend(p.stall)
	var slow *time.Timer
	if p.seat != nil { // a client that reads slowly takes the place of none that reads
		slow = time.AfterFunc(moment, p.seat.stream)
	}
	if p.written == 0 {
		p.joint.join(len(b))
	}
	p.keep.add(b, p.length)
	n, err := p.ResponseWriter.Write(b)
	p.joint.part()
	if slow != nil {
		slow.Stop()
	}
	p.written += int64(n)
	p.broken = p.broken || err != nil
	if p.seat != nil && p.written > streamAfter {
		p.seat.stream()
		p.seat = nil
	}
	return n, err
}

// alive tells that content arrives, though none of it is sent yet.
func (p *pacedWriter) alive() {
	p.extend(p.timeout + p.stall)
	p.timer.Reset(p.timeout)
}

// Unwrap is for http.ResponseController.
func (p *pacedWriter) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// incomplete tells whether a response that has begun lacks something, so that
// the connection has to be cut: an orderly end would make it look whole.
func (p *pacedWriter) incomplete(r *http.Request, failed bool) bool {
	switch {
	case p.status == 0 || r.Method == http.MethodHead:
		return false
	case p.broken:
		return true
	case p.length >= 0:
		return p.status != http.StatusNotModified && p.written < p.length
	default:
		return failed
	}
}

// maxErrorText is how much of boxo's own error text is kept, in bytes.
const maxErrorText = 4 << 10

// attempt is one go at answering with content. It has headers of its own until
// it is known that the answer is good; boxo's error answers are held back, so
// that another attempt or an error page can take their place.
type attempt struct {
	out      *pacedWriter
	header   http.Header
	as       int                 // status to send instead of 200, for the site's error pages; 0: none
	tagged   bool                // an error page has its entity tag and its time to be kept
	redirect func(string) string // makes a Location safe; nil: leave it
	mutable  bool                // the content may change under its path
	dress    func(*attempt) bool // makes a good answer what the site wants; false: hold it back. May be nil
	adjust   func(http.Header)   // of a good answer, the last word; may be nil
	packer   *packer             // nil: the answer goes out as it is

	fresh func() time.Duration // for how long what is mutable may be kept; nil: not at all

	// What the client asked for, as far as it matters here.
	head    bool
	ranged  bool
	accepts coding
	asked   string // its If-None-Match

	folder    cid.Cid // boxo makes a page of this folder, which is thrown away
	ours      bool    // the page is ours
	status    int     // what was answered
	held      bool    // the answer was held back
	unwanted  bool    // it was good, and its bytes are not needed
	text      []byte  // of a held-back answer
	etag      string  // of the plain content
	kind      string  // its media type
	plain     bool    // no sibling is to be looked for
	standsIn  bool    // it is a page that the site shows where nothing is
	direct    bool    // it is what the path that was asked for leads to, by no rule: that may depend on more
	sibling   coding  // that of the file that is read, or is to be read instead
	instead   string  // path to try in place of a held-back answer: the same in another coding
	moved     string  // where a held-back answer is to be found
	packing   *packing
	committed bool
	sent      bool // all of it: what is still written is in it
}

func newAttempt(out *pacedWriter, r *http.Request) *attempt {
	out.keep.forbid()
	a := &attempt{out: out, header: ownHeader(out.Header()), head: r.Method == http.MethodHead, ranged: r.Header.Get("Range") != ""}
	if webRequest(r) {
		a.accepts, a.asked = acceptedCodings(r.Header), strings.Join(r.Header.Values("If-None-Match"), ",")
	}
	return a
}

// usualFields is how many fields an answer's header has, about.
const usualFields = 24

// ownHeader is a header that may be changed without changing h: values are replaced, never written into.
func ownHeader(h http.Header) http.Header {
	own := make(http.Header, usualFields)
	for k, v := range h {
		own[k] = slices.Clip(v)
	}
	return own
}

func (a *attempt) Header() http.Header { return a.header }

// WriteHeader decides about the answer, when all is known of it but its bytes.
func (a *attempt) WriteHeader(status int) {
	if a.status != 0 {
		if a.committed && !a.sent {
			a.out.WriteHeader(status)
		}
		return
	}
	a.status = status
	if status == http.StatusOK && a.as == 0 && !a.ours {
		if a.folder = listedFolder(a.header); a.folder.Defined() {
			return // listFolder has its own page
		}
	}
	if status >= 400 || a.as != 0 && status != http.StatusOK {
		a.held = true
		return
	}
	a.etag = a.header.Get("Etag")
	if a.as != 0 {
		status = a.as
		a.disown()
	}
	if loc := a.header.Get("Location"); loc != "" && a.redirect != nil {
		a.header.Set("Location", a.redirect(loc))
	}
	if a.mutable {
		// A name's content may be kept for its TTL and no moment longer.
		cc, _, _ := strings.Cut(a.header.Get("Cache-Control"), ", stale-while-revalidate")
		if cc == "" {
			cc = a.lifetime(status)
		}
		a.header.Set("Cache-Control", cc)
	}
	if a.dress != nil && !a.dress(a) {
		a.held, a.unwanted = true, true
		return
	}
	if a.adjust != nil {
		a.adjust(a.header)
	}
	if a.packer == nil || !a.encode(a.packer, status) {
		a.commit(status)
	}
}

// lifetime is the Cache-Control of an answer under a name of which nothing was
// said: boxo has none for the page of a document, and none with a 304. Redirects
// and errors are asked for each time.
func (a *attempt) lifetime(status int) string {
	if a.fresh == nil || status != http.StatusOK && status != http.StatusNotModified {
		return lifetimeFor(0)
	}
	return lifetimeFor(a.fresh())
}

// disown takes from an error page what is true of the page, not of the answer.
func (a *attempt) disown() {
	fields := []string{"Last-Modified", "Accept-Ranges", "Content-Disposition", "Ipfs-Uri"}
	if !a.tagged {
		fields = append(fields, "Etag")
	}
	for _, k := range fields {
		a.header.Del(k)
	}
}

// commit sends the header.
func (a *attempt) commit(status int) {
	dst := a.out.Header()
	clear(dst)
	for k, v := range a.header {
		dst[k] = v
	}
	a.committed = true
	a.out.WriteHeader(status)
}

// errSent ends the reading of content whose bytes are out already, or not wanted.
var errSent = errors.New("the answer is sent")

func (a *attempt) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	switch {
	case a.folder.Defined():
		return len(b), nil
	case a.unwanted:
		return 0, errSent
	case a.held:
		a.text = append(a.text, b[:min(len(b), maxErrorText-len(a.text))]...)
		return len(b), nil
	case a.packing != nil:
		a.out.alive()
		return a.packing.body.Write(b)
	case a.sent:
		return 0, errSent
	}
	return a.out.Write(b)
}
