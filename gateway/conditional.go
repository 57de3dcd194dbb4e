package gateway

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// unconditional tells whether a request has none of the rare conditions, which
// are boxo's to judge.
func unconditional(h http.Header) bool {
	return h["If-Match"] == nil && h["If-Unmodified-Since"] == nil
}

// notModified tells whether the client has what it asks for already
// (https://www.rfc-editor.org/rfc/rfc9110#section-13.2.2). etag is as it is
// sent; modified is zero where there is no such time.
func notModified(h http.Header, etag string, modified time.Time) bool {
	if tags := h["If-None-Match"]; len(tags) > 0 && tags[0] != "" {
		for _, list := range tags {
			if listsETag(list, etag) {
				return true
			}
		}
		return false
	}
	since := h["If-Modified-Since"]
	if len(since) == 0 || modified.IsZero() {
		return false
	}
	t, err := http.ParseTime(since[0])
	return err == nil && !modified.Truncate(time.Second).After(t)
}

// listsETag compares weakly with each entity tag of a list; "*" is any. What
// comes after something malformed does not count.
func listsETag(list, etag string) bool {
	opaque := strings.TrimPrefix(etag, "W/")
	for {
		list = strings.TrimLeft(list, " \t,")
		if strings.HasPrefix(list, "*") {
			return true
		}
		list = strings.TrimPrefix(list, "W/")
		if list == "" || list[0] != '"' {
			return false
		}
		end := strings.IndexByte(list[1:], '"')
		if end < 0 || strings.ContainsFunc(list[1:end+1], notInETag) {
			return false
		}
		if list[:end+2] == opaque {
			return true
		}
		list = list[end+2:]
	}
}

func notInETag(c rune) bool { return c <= ' ' || c == 0x7f }

// span is the part of a file that a request asks for: the bytes [from, to).
type span struct{ from, to int64 }

func (s span) length() int64 { return s.to - s.from }

// errUnsatisfiable says that a range lies beyond the end of the file.
var errUnsatisfiable = errors.New("the range begins behind the end of the file")

// spanOf is what a request wants of size bytes; partial where that is said by a
// Range header that counts. One that is malformed, asks for several ranges or is for an older version does
// not, as RFC 9110 allows.
func spanOf(h http.Header, etag string, modified time.Time, size int64) (s span, partial bool, err error) {
	whole := span{0, size}
	asked := h["Range"]
	if len(asked) != 1 || asked[0] == "" || !sameVersion(h, etag, modified) {
		return whole, false, nil
	}
	spec, ok := strings.CutPrefix(asked[0], "bytes=")
	first, last, dash := strings.Cut(strings.TrimSpace(spec), "-")
	from, err1 := parsePosition(first)
	to, err2 := parsePosition(last)
	switch {
	case !ok, !dash, err1 != nil, err2 != nil, first == "" && last == "", first != "" && last != "" && from > to:
		return whole, false, nil
	case size == 0 && !(first == "" && to == 0): // whoever limits each answer gets all of an empty one
		return whole, false, nil
	case first == "" && to == 0, first != "" && from >= uint64(size):
		return span{}, true, errUnsatisfiable
	case first == "":
		return span{size - int64(min(to, uint64(size))), size}, true, nil
	case last == "":
		return span{int64(from), size}, true, nil
	}
	return span{int64(from), int64(min(to, uint64(size)-1)) + 1}, true, nil
}

// sameVersion tells whether If-Range, where it is there, names this version.
func sameVersion(h http.Header, etag string, modified time.Time) bool {
	cond := h["If-Range"]
	if len(cond) == 0 || cond[0] == "" {
		return true
	}
	if strings.HasPrefix(cond[0], `"`) {
		return cond[0] == etag
	}
	t, err := http.ParseTime(cond[0])
	return err == nil && !modified.IsZero() && t.Unix() == modified.Unix()
}

// contentRange is the header that goes with a partial answer.
func (s span) contentRange(size int64) string {
	b := make([]byte, 0, 64)
	b = append(b, "bytes "...)
	b = strconv.AppendInt(b, s.from, 10)
	b = append(b, '-')
	b = strconv.AppendInt(b, s.to-1, 10)
	b = append(b, '/')
	return string(strconv.AppendInt(b, size, 10))
}
