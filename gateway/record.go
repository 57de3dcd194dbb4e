package gateway

import (
	"bytes"
	"maps"
	"net/http"
	"strings"
	"time"
)

// serveRecord answers with the record of a name as boxo does, but for the entity
// tag: boxo's is none, for want of quotes, and never matches one. The result is as for serve.
func (c *content) serveRecord(w *pacedWriter, r *http.Request, o origin, path string) (sent bool, status int, text string) {
	whole := r.Clone(r.Context())
	for _, k := range []string{"If-None-Match", "If-Modified-Since", "Range"} {
		whole.Header.Del(k)
	}
	var record bytes.Buffer
	p := &part{header: w.Header().Clone(), body: &record}
	a, ok := c.try(p.paced(w), whole, o, path, 0)
	if !ok {
		return false, a.status, string(bytes.TrimSpace(a.text))
	}
	etag := `"` + strings.Trim(p.header.Get("Etag"), `"`) + `"`
	p.header.Set("Etag", etag)
	maps.Copy(w.Header(), p.header)
	if notModified(r.Header, etag, time.Time{}) {
		for _, k := range notIn304 {
			w.Header().Del(k)
		}
		w.WriteHeader(http.StatusNotModified)
		return true, 0, ""
	}
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(record.Bytes())
	return true, 0, ""
}
