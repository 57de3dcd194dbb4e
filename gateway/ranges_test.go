package gateway

import (
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
)

// parts reads a multipart answer: the Content-Range and the bytes of each part.
func (r reply) parts(t *testing.T) (ranges, bodies []string) {
	t.Helper()
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/byteranges" {
		t.Fatalf("Content-Type %q", r.Header.Get("Content-Type"))
	}
	for m := multipart.NewReader(strings.NewReader(r.body), params["boundary"]); ; {
		p, err := m.NextPart()
		if err == io.EOF {
			return ranges, bodies
		}
		must(t, err)
		body, err := io.ReadAll(p)
		must(t, err)
		ranges, bodies = append(ranges, p.Header.Get("Content-Range")), append(bodies, string(body))
	}
}

func TestSeveralRangesComeInOneAnswer(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("blog", w.build(blog))
	big := blog["big.bin"]
	whole := w.get("http://blog.localhost/big.bin")
	r := w.get("http://blog.localhost/big.bin", "Range", "bytes=1048570-1048589, -5,0-9", "If-Range", whole.Header.Get("Etag"))
	r.want(t, http.StatusPartialContent, "")
	r.wantHeader(t, "Content-Length", fmt.Sprint(len(r.body)))
	r.wantHeader(t, "Etag", whole.Header.Get("Etag"))
	if cc := r.Header.Get("Cache-Control"); !strings.HasPrefix(cc, "public, max-age=5") { // a second may have passed
		t.Errorf("Cache-Control %q", cc)
	}
	ranges, bodies := r.parts(t)
	for i, want := range []struct{ rg, body string }{
		{"bytes 1048570-1048589/3200000", big[1048570:1048590]},
		{"bytes 3199995-3199999/3200000", big[3199995:]},
		{"bytes 0-9/3200000", big[:10]},
	} {
		if ranges[i] != want.rg || bodies[i] != want.body {
			t.Errorf("part %d: %s %q, want %s %q", i, ranges[i], bodies[i], want.rg, want.body)
		}
	}
}

func TestSeveralRangesOfAnOlderVersionAreTheWhole(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("blog", w.build(blog))
	for _, have := range []string{`"other"`, `W/"other"`, "Sun, 06 Nov 1994 08:49:37 GMT"} {
		w.get("http://blog.localhost/plain/file.txt", "Range", "bytes=0-1,3-4", "If-Range", have).want(t, 200, blog["plain/file.txt"])
	}
}

func TestSeveralRangesOfWhatIsMissingAre404(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("blog", w.build(blog))
	w.get("http://blog.localhost/nothing.txt", "Range", "bytes=0-1,3-4").want(t, 404, "no such page")
}

func TestSeveralRangesOfAKnownVersionAreNotSent(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("blog", w.build(blog))
	tag := w.get("http://blog.localhost/plain/file.txt").Header.Get("Etag")
	w.get("http://blog.localhost/plain/file.txt", "Range", "bytes=0-1,3-4", "If-None-Match", tag).want(t, 304, "")
}

func FuzzParseRanges(f *testing.F) {
	for _, s := range []string{"bytes=0-9", "bytes=-5", "bytes=5-", "bytes=0-0,1-1, 2-", "bytes=9-1", "bytes=--1", "bytes=+1-2", "chars=1-2", "bytes=", "bytes=,", "bytes=9223372036854775807-"} {
		f.Add(s, int64(10))
	}
	f.Fuzz(func(t *testing.T, value string, size int64) {
		ranges, ok := parseRanges(value)
		if ok != (len(ranges) > 0) || len(ranges) > maxRanges {
			t.Fatalf("%q: %v, %v", value, ranges, ok)
		}
		if size < 0 {
			return
		}
		for _, r := range ranges {
			in, ok := r.within(size)
			if ok && (in.first < 0 || in.last < in.first || in.last >= size || in.size() <= 0) {
				t.Fatalf("%q of %d bytes: %v", value, size, in)
			}
			if again, fine := parseRanges(in.String()); ok && (!fine || again[0] != in) {
				t.Fatalf("%v is written %s and read %v", in, in, again)
			}
		}
		h := http.Header{"Range": {value}}
		normalizeRange(h)
		if left := h.Get("Range"); left != "" {
			if _, ok := parseRanges(left); !ok || strings.Contains(strings.Trim(left, ","), ",") && len(ranges) > 1 {
				t.Fatalf("%q leaves %q", value, left)
			}
		}
	})
}
