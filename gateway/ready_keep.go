package gateway

import (
	"maps"
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

	found    bool // a file was found; what the host stands for is known
	allowed  bool // a whole file, which is a function of root, path and Accept-Encoding
	lifetime string
	modified time.Time
	stable   bool

	header http.Header
	body   []byte
	size   int64 // of the file; more than maxReadyBody: the body is not noted
}

// bind says that there is a file at the path.
func (k *keeping) bind() {
	if k != nil {
		k.found = true
	}
}

// allow says that what goes out next is a whole file of size bytes. lifetime
// is the Cache-Control that it has been given, which will be another next time.
func (k *keeping) allow(lifetime string, modified time.Time, stable bool, size int64) {
	if k != nil {
		k.allowed, k.lifetime, k.modified, k.stable, k.size = true, lifetime, modified, stable, size
	}
}

// forbid says that what goes out is not what the next one is to get.
func (k *keeping) forbid() {
	if k != nil {
		k.allowed = false
	}
}

// start notes the header.
func (k *keeping) start(status int, h http.Header) {
	if k == nil || !k.allowed {
		return
	}
	unsure := k.size > maxReadyBody && h["Content-Encoding"] != nil // how long that is
	if status != http.StatusOK || h["Set-Cookie"] != nil || !variesByEncoding(h["Vary"]) || unsure {
		k.allowed = false
		return
	}
	k.header = maps.Clone(h)
}

// add notes a part of the body.
func (k *keeping) add(p []byte) {
	if k == nil || k.header == nil || k.size > maxReadyBody {
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
	a := &answer{body: k.body, size: int64(len(k.body)), modified: k.modified, generation: k.generation}
	if k.size > maxReadyBody {
		a.headOnly, a.size = true, k.size
	}
	for _, key := range slices.Sorted(maps.Keys(k.header)) {
		values := k.header[key]
		if len(values) == 0 || slices.Contains(perRequest, key) {
			continue
		}
		switch key {
		case "Cache-Control":
			if a.ownLifetime = values[0] != k.lifetime || len(values) > 1; !a.ownLifetime {
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
			a.etag = values[0]
		case "Accept-Ranges":
			a.ranges = values[0] == "bytes" && k.header["Content-Encoding"] == nil
		case "Vary":
			a.varies = hasVary(k.header, "Accept-Encoding")
		}
		f := field{key, slices.Clip(values)}
		a.header = append(a.header, f)
		if !slices.Contains(notIn304, key) {
			a.header304 = append(a.header304, f)
		}
		a.weight += uint32(len(key) + 40)
		for _, v := range values {
			a.weight += uint32(len(v) + 16)
		}
	}
	a.weight += uint32(cap(a.body)) + entryWeight
	return a
}
