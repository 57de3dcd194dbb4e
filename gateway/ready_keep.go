package gateway

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// maxReadyBody is how large a file is kept whole, in bytes. Of a larger one the header is.
const maxReadyBody = 256 << 10

// keeping is what is noted of an answer while it goes out, so that it can be
// given again. A nil keeping notes nothing.
type keeping struct {
	origin     origin
	kind       originKind
	host, path string // as the client spelled them
	generation uint64

	found    bool // what the host stands for is known
	stands   standIn
	allowed  bool // a whole file, which is a function of root, path and Accept-Encoding
	lifetime string
	modified time.Time
	stable   bool

	status    int
	header    []field
	body      []byte
	size      int64  // of the file; more than maxReadyBody: the body is not noted
	whenWhole func() // keeps the answer, whose body is noted to its end; nil: that is done

	whole []byte // the file where it is one block: nobody changes that, so it need not be copied
}

// standIn says what an answer has to do with the path that was asked for.
type standIn uint8

const (
	standsForItself  standIn = iota
	standsForPage            // a page by the name without its extension
	standsForMissing         // a page for whatever is not there: 404.html, 200.html, a rule
)

// bind says that it is known what the host, or the beginning of the path, stands for.
func (k *keeping) bind() {
	if k != nil {
		k.found = true
	}
}

// stand says that what goes out is at another path of the site, and that nothing
// but root and path decides so.
func (k *keeping) stand(s standIn) {
	if k != nil {
		k.found, k.stands = true, s
	}
}

// mayStand tells whether an answer at a path other than that which was asked for may be kept.
func (k *keeping) mayStand() bool { return k != nil && k.stands != standsForItself }

// allow says that what goes out next is a whole file of size bytes. lifetime
// is the Cache-Control that it has been given, which will be another next time. whole is the file
// where it is one block that has been read, else nil.
func (k *keeping) allow(lifetime string, modified time.Time, stable bool, size int64, whole []byte) {
	if k != nil {
		k.allowed, k.lifetime, k.modified, k.stable, k.size, k.whole = true, lifetime, modified, stable, size, whole
	}
}

// forbid says that what goes out is not what the next one is to get, or not what was allowed.
func (k *keeping) forbid() {
	if k != nil {
		k.allowed, k.whole = false, nil
	}
}

// start notes the header.
func (k *keeping) start(status int, h http.Header) {
	if k == nil || !k.allowed {
		return
	}
	unsure := k.size > maxReadyBody && h["Content-Encoding"] != nil // how long that is
	if status != http.StatusOK && k.stands != standsForMissing || h["Set-Cookie"] != nil || !variesByEncoding(h["Vary"]) || unsure {
		k.allowed = false
		return
	}
	k.status = status
	k.header = make([]field, 0, len(h))
	for key, values := range h {
		if len(values) > 0 && !slices.Contains(perRequest, key) {
			k.header = append(k.header, field{key, slices.Clip(values)})
		}
	}
}

// add notes a part of a body of length bytes (-1: not known), before it is sent. With its end the
// answer is ready: on a busy machine the client that has it asks for the next
// page at once, and is served before those whose turn it is, for as long as there is something left to do.
func (k *keeping) add(p []byte, length int64) {
	if k == nil || k.header == nil || k.size > maxReadyBody {
		return
	}
	k.note(p)
	if int64(len(k.body)) == length && k.whenWhole != nil {
		k.whenWhole()
		k.whenWhole = nil
	}
}

func (k *keeping) note(p []byte) {
	if at := len(k.body); len(p) > 0 && at < len(k.whole) && &p[0] == &k.whole[at] {
		k.body = k.whole[:at+len(p)]
		return
	}
	if k.body == nil {
		k.body = make([]byte, 0, max(len(p), int(k.size)))
	}
	k.body = append(k.body, p...)
}

// variesByEncoding tells whether an answer depends on no other header than Accept-Encoding,
// and on whether a format is asked for by Accept: then it is not made ready.
func variesByEncoding(vary []string) bool {
	for _, v := range vary {
		for f := range strings.SplitSeq(v, ",") {
			if f = strings.TrimSpace(f); f != "" && !strings.EqualFold(f, "Accept-Encoding") && !strings.EqualFold(f, "Accept") {
				return false
			}
		}
	}
	return true
}

// perRequest are the headers that are made anew for each answer.
var perRequest = []string{"Age", "Alt-Svc", "Connection", "Content-Length", "Date", "Server-Timing"}

// notIn304 are headers that say something about a body; the rest comes with a 304 too.
var notIn304 = []string{"Accept-Ranges", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Type", "Last-Modified", "X-Ipfs-Roots"}

// answer is what was noted.
func (k *keeping) answer(now time.Time) *answer {
	a := &answer{status: k.status, missing: k.stands == standsForMissing, body: k.body, size: int64(len(k.body)), modified: k.modified, generation: k.generation}
	if k.size > maxReadyBody {
		a.headOnly, a.size = true, k.size
	}
	a.header, a.header304 = make([]field, 0, len(k.header)), make([]field, 0, len(k.header))
	coded := slices.ContainsFunc(k.header, func(f field) bool { return f.key == "Content-Encoding" })
	for _, f := range k.header {
		switch f.key {
		case "Cache-Control":
			if a.ownLifetime = f.values[0] != k.lifetime || len(f.values) > 1; !a.ownLifetime {
				continue
			}
			if !k.stable { // it may have been cut to what the record's life left
				a.until = now.Add(ownLifetimeTime)
			}
		case "Last-Modified":
			if k.modified.IsZero() {
				a.dated = true
				continue
			}
		case "Etag":
			a.etag = f.values[0]
		case "Accept-Ranges":
			a.ranges = f.values[0] == "bytes" && !coded
		case "Vary":
			a.varies = hasVary(f.values, "Accept-Encoding")
		}
		a.header = append(a.header, f)
		if !slices.Contains(notIn304, f.key) {
			a.header304 = append(a.header304, f)
		}
		a.weight += int64(len(f.key) + 40)
		for _, v := range f.values {
			a.weight += int64(len(v) + 16)
		}
	}
	a.weight += int64(cap(a.body))
	return a
}
