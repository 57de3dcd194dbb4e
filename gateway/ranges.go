package gateway

import (
	"fmt"
	"io"
	"math"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
)

// Bounds of a request for several ranges; beyond them it gets the whole.
const (
	maxRanges     = 16
	maxRangeBytes = 4 << 10 // of the header's value
)

// byteRange is one range as a client writes it: "5-9", "5-" (last is -1), "-3" (first is -1, last the length).
type byteRange struct{ first, last int64 }

// parseRanges reads the value of a Range header. Not ok where it is malformed, in
// another unit, or of more ranges than are worked on; a range that ends before it
// begins is malformed.
//
// Source: RFC 9110, 14.1.2
func parseRanges(value string) (ranges []byteRange, ok bool) {
	spec, ok := strings.CutPrefix(value, "bytes=")
	if !ok || len(value) > maxRangeBytes {
		return nil, false
	}
	for part := range strings.SplitSeq(spec, ",") {
		part = strings.Trim(part, " \t")
		if part == "" {
			continue
		}
		first, last, dash := strings.Cut(part, "-")
		from, err1 := parsePosition(first)
		to, err2 := parsePosition(last)
		r := byteRange{int64(from), int64(to)}
		if first == "" {
			r.first = -1
		}
		if last == "" {
			r.last = -1
		}
		if !dash || err1 != nil || err2 != nil || first == "" && last == "" || first != "" && last != "" && r.first > r.last || len(ranges) == maxRanges {
			return nil, false
		}
		ranges = append(ranges, r)
	}
	return ranges, len(ranges) > 0
}

// parsePosition reads digits, and nothing but digits; nothing is 0.
func parsePosition(s string) (uint64, error) {
	if s == "" {
		return 0, nil
	}
	return strconv.ParseUint(s, 10, 63)
}

// normalizeRange drops a Range header that is malformed, as RFC 9110 allows: boxo
// answers it with an error. The suffix of length 0, which nothing can satisfy,
// becomes a range past any end.
func normalizeRange(h http.Header) {
	asked := h.Values("Range")
	if len(asked) == 0 {
		return
	}
	ranges, ok := parseRanges(asked[0])
	switch {
	case len(asked) > 1 || !ok || len(ranges) > 1:
		h.Del("Range")
	case ranges[0] == byteRange{-1, 0}:
		h.Set("Range", fmt.Sprintf("bytes=%d-", int64(math.MaxInt64)))
	}
}

// wholeRange makes of a range that reaches back too far one of all there is, and
// drops any other.
func wholeRange(h http.Header) {
	if ranges, ok := parseRanges(h.Get("Range")); ok && len(ranges) == 1 && ranges[0].first < 0 {
		h.Set("Range", "bytes=0-")
		return
	}
	h.Del("Range")
}

// within is what a range means for content of a size: from first to last, both
// included. Not ok where there is nothing of it.
func (r byteRange) within(size int64) (byteRange, bool) {
	switch {
	case r.first < 0: // the last so many bytes
		n := min(r.last, size)
		return byteRange{size - n, size - 1}, n > 0
	case r.first >= size:
		return byteRange{}, false
	case r.last < 0 || r.last >= size:
		r.last = size - 1
	}
	return r, true
}

// String is the range as boxo takes it. Of a range within a size.
func (r byteRange) String() string { return fmt.Sprintf("bytes=%d-%d", r.first, r.last) }

func (r byteRange) size() int64 { return r.last - r.first + 1 }

// serveRanges answers a request for several ranges with one part for each, whatever
// the content is. It reports false where that doesn't pay or can't be: then the
// header asks for one range or none, and the request is for others to answer.
func (c *content) serveRanges(w *pacedWriter, r *http.Request, o origin, path string) bool {
	value := r.Header.Get("Range")
	if !strings.Contains(value, ",") {
		return false
	}
	asked, ok := parseRanges(value)
	r.Header.Del("Range")
	if !ok || r.Method != http.MethodGet {
		return false
	}
	whole, size, ok := c.probe(w, r, o, path)
	if !ok || !rangesApply(r, whole) {
		return false
	}
	var ranges []byteRange
	var sum int64
	for _, a := range asked {
		if within, ok := a.within(size); ok {
			ranges, sum = append(ranges, within), sum+within.size()
		}
	}
	switch {
	case len(ranges) == 0: // of none there is anything
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-", size))
		return false
	case len(ranges) == 1:
		r.Header.Set("Range", ranges[0].String())
		return false
	case sum >= size: // the whole is shorter
		return false
	}
	c.sendParts(w, r, o, path, whole, size, ranges)
	return true
}

// probe asks for the header of the whole, and its size. Not ok where it is not just there.
func (c *content) probe(w *pacedWriter, r *http.Request, o origin, path string) (http.Header, int64, bool) {
	head := r.Clone(r.Context())
	head.Method = http.MethodHead
	for _, k := range []string{"Accept-Encoding", "If-Range"} {
		head.Header.Del(k)
	}
	p := &part{header: w.Header().Clone()}
	if _, ok := c.try(p.paced(w), head, o, path, 0); !ok || p.status != http.StatusOK {
		return nil, 0, false
	}
	size, err := strconv.ParseInt(p.header.Get("Content-Length"), 10, 64)
	return p.header, size, err == nil && p.header.Get("Content-Encoding") == "" && p.header.Get("Accept-Ranges") != "none"
}

// rangesApply tells whether If-Range lets a part stand for what the client has.
func rangesApply(r *http.Request, whole http.Header) bool {
	have := r.Header.Get("If-Range")
	return have == "" || strings.HasPrefix(have, `"`) && have == whole.Get("Etag") || have == whole.Get("Last-Modified")
}

// sendParts sends ranges that are within the size.
func (c *content) sendParts(w *pacedWriter, r *http.Request, o origin, path string, whole http.Header, size int64, ranges []byteRange) {
	counted := new(countingWriter)
	parts := multipart.NewWriter(counted)
	kind := whole.Get("Content-Type")
	boundary := parts.Boundary()
	for _, rg := range ranges {
		_, _ = parts.CreatePart(partHeader(kind, rg, size))
		*counted += countingWriter(rg.size())
	}
	_ = parts.Close()

	h := w.Header()
	clear(h)
	for k, v := range whole {
		h[k] = v
	}
	h.Set("Content-Type", "multipart/byteranges; boundary="+boundary)
	h.Set("Content-Length", strconv.FormatInt(int64(*counted), 10))
	w.WriteHeader(http.StatusPartialContent)

	parts = multipart.NewWriter(w)
	_ = parts.SetBoundary(boundary)
	for _, rg := range ranges {
		body, err := parts.CreatePart(partHeader(kind, rg, size))
		if err == nil {
			err = c.sendPart(w, r, o, path, rg, body)
		}
		if err != nil {
			w.broken = true
			return
		}
	}
	w.broken = parts.Close() != nil || w.broken
}

func partHeader(kind string, r byteRange, size int64) textproto.MIMEHeader {
	return textproto.MIMEHeader{"Content-Type": {kind}, "Content-Range": {fmt.Sprintf("bytes %d-%d/%d", r.first, r.last, size)}}
}

// sendPart copies one range of the content into a part's body.
func (c *content) sendPart(w *pacedWriter, r *http.Request, o origin, path string, rg byteRange, body io.Writer) error {
	one := r.Clone(r.Context())
	for _, k := range []string{"Accept-Encoding", "If-Range", "If-None-Match", "If-Modified-Since"} {
		one.Header.Del(k)
	}
	one.Header.Set("Range", rg.String())
	p := &part{header: make(http.Header), body: body}
	pw := p.paced(w)
	if _, ok := c.try(pw, one, o, path, 0); !ok || p.status != http.StatusPartialContent || pw.written != rg.size() || pw.broken {
		return fmt.Errorf("range %s: status %d, %d bytes", rg, p.status, pw.written)
	}
	return nil
}

// part is where one answer goes that is only a part of the one that is sent. The
// zero value of body drops what comes.
type part struct {
	header http.Header
	status int
	body   io.Writer
}

func (p *part) Header() http.Header { return p.header }

func (p *part) WriteHeader(status int) {
	if p.status == 0 {
		p.status = status
	}
}

func (p *part) Write(b []byte) (int, error) {
	if p.body == nil {
		return len(b), nil
	}
	return p.body.Write(b)
}

// paced makes a part look like a whole answer, on the clock of that.
func (p *part) paced(w *pacedWriter) *pacedWriter {
	return &pacedWriter{ResponseWriter: p, timeout: w.timeout, stall: w.stall, timer: w.timer, length: -1}
}

// countingWriter counts bytes.
type countingWriter int64

func (c *countingWriter) Write(b []byte) (int, error) {
	*c += countingWriter(len(b))
	return len(b), nil
}
