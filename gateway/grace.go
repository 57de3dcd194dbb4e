package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	gopath "path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming/deny"
)

// A page that is open in a browser asks for its parts when it needs them, and the
// site's newest release may not have them any more. For the grace that the site's
// policy states, they come from the release before. Pages never do: whoever asks for one wants the newest.

const (
	earlierTime   = 2 * time.Second // for the first bytes of such a part; nobody may have it any more
	earlierMaxAge = time.Minute     // for which browsers may keep it
	earlierRetry  = time.Minute     // before a root is tried again that could not be had
	maxUnhad      = 1024            // such roots that are remembered
)

// grace finds the parts of pages that are older than their site.
type grace struct {
	earlier Earlier // nil: never
	now     func() time.Time

	mu    sync.Mutex
	unhad map[cid.Cid]time.Time // root → when it may be tried again
}

// serveEarlier answers for a missing path with the file that the release before
// had there. It reports whether it did; if not, nothing was sent.
func (c *content) serveEarlier(w *pacedWriter, r *http.Request, o origin) bool {
	t := traceOf(r.Context())
	s := t.snapshot()
	if c.grace.earlier == nil || s.name.IsZero() || !s.root.Defined() {
		return false
	}
	for _, field := range [...]string{"Accept", "Sec-Fetch-Dest", "Sec-Fetch-Mode"} {
		addVary(w.Header(), field) // a navigation to it gets another answer
	}
	if !wantsPart(r, s.path) {
		return false
	}
	before, until, ok := c.grace.before(r.Context(), s)
	if !ok {
		return false
	}
	path := s.base + s.path
	err := checkPath(r.Context(), c.backend.denied, "/ipfs/"+before.String()+path)
	if err == nil {
		err = c.haveFile(r.Context(), before, path)
	}
	t.set(func(t *trace) { t.failed = nil }) // that it is not in the newest release remains true
	if err != nil {
		c.grace.note(before, err)
		return false
	}
	a := newAttempt(w, r)
	c.fit(a, r, o, "/ipfs/"+before.String()+path)
	a.adjust = func(h http.Header) {
		left := max(min(until.Sub(c.grace.now()), earlierMaxAge), 0)
		h.Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int64(left/time.Second)))
	}
	r2 := r.Clone(r.Context())
	plainTags(r2.Header, a.accepts)
	c.run(a, r2, o, "/ipfs/"+before.String()+path)
	if !a.held && a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	a.finish()
	if a.held {
		t.set(func(t *trace) { t.failed = nil })
	}
	return !a.held
}

// before asks what the site showed before, where that may still be shown.
func (g *grace) before(ctx context.Context, s *trace) (cid.Cid, time.Time, bool) {
	ctx, cancel := context.WithTimeout(ctx, earlierTime)
	defer cancel()
	before, until, ok := g.earlier.Before(ctx, s.name, s.root)
	now := g.now()
	if !ok || before.Equals(s.root) || !now.Before(until) {
		return cid.Undef, time.Time{}, false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return before, until, !now.Before(g.unhad[before])
}

// note remembers a root that can't be read, so that not every missing path
// waits for it.
func (g *grace) note(root cid.Cid, why error) {
	if errors.Is(why, merkle.ErrNoPath) || errors.Is(why, context.Canceled) || errors.Is(why, deny.ErrDenied) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.unhad == nil || len(g.unhad) >= maxUnhad {
		g.unhad = make(map[cid.Cid]time.Time)
	}
	g.unhad[root] = g.now().Add(earlierRetry)
}

// haveFile tells whether there is a file at the path, and its first bytes are to be had.
func (c *content) haveFile(ctx context.Context, root cid.Cid, path string) error {
	ctx, cancel := context.WithTimeout(ctx, earlierTime)
	defer cancel()
	id, err := merkle.Resolve(ctx, c.blocks, root, path)
	if err != nil {
		return err
	}
	f, err := merkle.OpenFile(ctx, c.blocks, id)
	if err != nil {
		return err
	}
	defer f.Close()
	var first [1]byte
	if _, err := f.Read(first[:]); err != nil && err != io.EOF {
		return err
	}
	return nil
}

// whole are the Sec-Fetch-Dest of what is more than a part of a page. A service
// worker outlives the page, and has to go when it was removed.
var whole = []string{"document", "iframe", "frame", "fencedframe", "embed", "object", "serviceworker"}

// wantsPart tells whether the request is for a part of a page: as the browser
// says (https://www.w3.org/TR/fetch-metadata/), or, where it says nothing, by the path. Whoever
// asks for HTML goes to a page, even if it is a script that puts it in the place of another.
func wantsPart(r *http.Request, path string) bool {
	if strings.Contains(strings.Join(r.Header.Values("Accept"), ","), "text/html") {
		return false
	}
	dest, mode := r.Header.Get("Sec-Fetch-Dest"), r.Header.Get("Sec-Fetch-Mode")
	if dest != "" || mode != "" {
		return mode != "navigate" && !slices.Contains(whole, dest)
	}
	switch strings.ToLower(gopath.Ext(path)) {
	case "", ".", ".html", ".htm", ".xhtml":
		return false
	}
	return !strings.HasSuffix(path, "/")
}
