package node

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/holdfast-sites/holdfast/gateway"
)

// What a preview adds to the gateway: a page that is open in a browser is
// loaded anew when the folder has changed. Nothing of it is in any gateway but a preview's.

const (
	reloadScriptPath = "/-/preview/reload.js"
	reloadEventsPath = "/-/preview/events"
	// The query says of which look at the folder the page is, so that no change between
	// the page and its first question is missed.
	reloadTag    = "\n<script src=\"" + reloadScriptPath + "?%d\"></script>\n"
	reloadScript = `new EventSource("` + reloadEventsPath + `" + new URL(document.currentScript.src).search).onmessage = () => location.reload();` + "\n"
)

// reloader tells open pages of changes.
type reloader struct {
	mu      sync.Mutex
	looks   int           // at the folder
	changed chan struct{} // closed at the next change
}

func newReloader() *reloader { return &reloader{changed: make(chan struct{})} }

func (l *reloader) signal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.looks++
	close(l.changed)
	l.changed = make(chan struct{})
}

// now is how many looks there were, and what is closed at the next.
func (l *reloader) now() (int, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.looks, l.changed
}

// wrap adds to h what open pages need, until ctx ends.
func (l *reloader) wrap(ctx context.Context, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case reloadScriptPath:
			w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
			w.Header().Set("Cache-Control", "no-store")
			fmt.Fprint(w, reloadScript)
			return
		case reloadEventsPath:
			l.events(ctx, w, r)
			return
		}
		if strings.Contains(r.Header.Get("Accept"), "text/html") { // it may get a line more than it has
			r = r.Clone(r.Context())
			for _, k := range []string{"Accept-Encoding", "If-None-Match", "If-Modified-Since", "Range"} {
				r.Header.Del(k)
			}
		}
		look, _ := l.now()
		p := &previewWriter{ResponseWriter: w, get: r.Method == http.MethodGet}
		h.ServeHTTP(p, r)
		if p.html {
			fmt.Fprintf(w, reloadTag, look)
		}
	})
}

// events is a stream (https://html.spec.whatwg.org/multipage/server-sent-events.html)
// with one message, at the next change after the look that the query names.
func (l *reloader) events(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	look, changed := l.now()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	fmt.Fprint(w, ": waiting\n\n")
	if http.NewResponseController(w).Flush() != nil {
		return
	}
	if of := r.URL.RawQuery; of != "" && of != fmt.Sprint(look) {
		fmt.Fprint(w, "data: changed\n\n")
		return
	}
	select {
	case <-ctx.Done():
	case <-r.Context().Done():
	case <-changed:
		fmt.Fprint(w, "data: changed\n\n")
	}
}

// previewWriter has nothing be kept by the browser, and leaves room behind a page.
type previewWriter struct {
	http.ResponseWriter
	get   bool
	begun bool
	html  bool // the tag follows the body
}

func (p *previewWriter) WriteHeader(status int) {
	if h := p.Header(); status >= 200 && !p.begun {
		p.begun = true
		h.Set("Cache-Control", "no-store")
		page := strings.HasPrefix(h.Get("Content-Type"), "text/html") && h.Get("Content-Encoding") == ""
		if p.html = p.get && page && (status == http.StatusOK || status >= 400); p.html {
			h.Del("Content-Length")
			h.Del("Etag")
			h.Del("Accept-Ranges")
			if gateway.OwnPage(h) { // an error, or a list of files, until the author has mended it
				h.Set("Content-Security-Policy", h.Get("Content-Security-Policy")+"; script-src 'self'; connect-src 'self'")
			}
		}
	}
	p.ResponseWriter.WriteHeader(status)
}

func (p *previewWriter) Write(b []byte) (int, error) {
	if !p.begun {
		p.WriteHeader(http.StatusOK)
	}
	return p.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (p *previewWriter) Unwrap() http.ResponseWriter { return p.ResponseWriter }
