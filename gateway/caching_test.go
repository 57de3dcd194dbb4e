package gateway

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// caching is what caches go by, of an answer.
type caching struct {
	status                      int
	etag, vary, coding, lasting string
}

func (r reply) caching() caching {
	return caching{r.StatusCode, r.Header.Get("Etag"), strings.Join(r.Header.Values("Vary"), ", "), r.Header.Get("Content-Encoding"), r.Header.Get("Cache-Control")}
}

func TestCachesAreToldTheSameByAllAnswersOfAURL(t *testing.T) {
	w := newWorld(t, nil)
	root := w.build(map[string]string{"page.html": strings.Repeat("hello world ", 1000), "a.css": "b{}"})
	w.publish("blog", root)
	const raw, car = "application/vnd.ipld.raw", "application/vnd.ipld.car"
	for at, vary := range map[string]string{"http://127.0.0.1/ipfs/" + root.String(): "Accept", "http://" + root.String() + ".ipfs.localhost": ""} {
		both := strings.TrimPrefix(vary+", Accept-Encoding", ", ")
		plain := w.get(at + "/page.html").caching()
		packed := w.get(at+"/page.html", "Accept-Encoding", "br").caching()
		if plain != (caching{200, plain.etag, both, "", immutable}) || packed != (caching{200, codedTag(plain.etag, codingBrotli), both, "br", immutable}) {
			t.Errorf("%s: %+v, packed %+v", at, plain, packed)
		}
		for range 2 { // made, and ready
			for _, c := range []struct {
				why    string
				header []string
				want   caching
			}{
				{"the tag", []string{"If-None-Match", plain.etag}, caching{304, plain.etag, both, "", immutable}},
				{"one of a list, weak", []string{"If-None-Match", `"a", W/"b",W/` + plain.etag}, caching{304, plain.etag, both, "", immutable}},
				{"any", []string{"If-None-Match", "*"}, caching{304, plain.etag, both, "", immutable}},
				{"another", []string{"If-None-Match", `"a"`}, plain},
				{"no tag at all", []string{"If-None-Match", strings.Trim(plain.etag, `"`)}, plain},
				{"a tag before a time", []string{"If-None-Match", `"a"`, "If-Modified-Since", "Thu, 01 Jan 2099 00:00:00 GMT"}, plain},
				{"a time, where there is none", []string{"If-Modified-Since", "Thu, 01 Jan 2099 00:00:00 GMT"}, plain},
				{"the packed tag, packed", []string{"If-None-Match", packed.etag, "Accept-Encoding", "br"}, caching{304, packed.etag, both, "", immutable}},
				{"the packed tag, of who takes no packed ones", []string{"If-None-Match", packed.etag}, plain},
				{"a range of what is packed", []string{"Range", "bytes=0-9", "Accept-Encoding", "br"}, caching{206, plain.etag, both, "", immutable}},
				{"a range of the plain one", []string{"Range", "bytes=0-9", "If-Range", plain.etag}, caching{206, plain.etag, both, "", immutable}},
				{"a range by a weak tag", []string{"Range", "bytes=0-9", "If-Range", "W/" + plain.etag}, plain},
				{"a range of the packed one", []string{"Range", "bytes=0-9", "If-Range", packed.etag, "Accept-Encoding", "br"}, packed},
				{"a range of another", []string{"Range", "bytes=0-9", "If-Range", `"a"`}, plain},
				{"a range by a time", []string{"Range", "bytes=0-9", "If-Range", "Thu, 01 Jan 2099 00:00:00 GMT"}, plain},
				{"what is there, if it is", []string{"If-Match", plain.etag}, plain},
				{"a block", []string{"Accept", raw}, caching{200, strings.TrimSuffix(plain.etag, `"`) + `.raw"`, "Accept", "", immutable}},
			} {
				r := w.get(at+"/page.html", c.header...)
				got := r.caching()
				if got != c.want {
					t.Errorf("%s: %s: %+v, want %+v", at, c.why, got, c.want)
				}
				if date, err := http.ParseTime(r.Header.Get("Date")); err != nil || time.Since(date).Abs() > time.Minute {
					t.Errorf("%s: Date %q", c.why, r.Header.Get("Date"))
				}
				if got.status == 304 && (r.body != "" || r.Header.Get("Content-Type") != "" || r.Header.Get("Content-Encoding") != "") {
					t.Errorf("%s: a 304 with %v", c.why, r.Header)
				}
			}
		}
		if r := w.get(at+"/", "Accept", car); !hasVary(r.Header["Vary"], "Accept") || !strings.HasPrefix(r.Header.Get("Etag"), `W/"`) {
			t.Errorf("%s: a CAR with %v", at, r.Header)
		}
	}
}
