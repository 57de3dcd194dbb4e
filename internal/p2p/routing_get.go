package p2p

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
)

// defaultMaxAge is for how long a record without a TTL may be cached (the specification's).
const defaultMaxAge = time.Minute

func (h *routingHandler) getRecord(w http.ResponseWriter, r *http.Request) {
	name, err := naming.ParseName(r.PathValue("name"))
	if err != nil {
		h.refuse(w, err)
		return
	}
	w.Header().Set("Vary", "Accept")
	if !accepts(r, naming.MediaType) {
		http.Error(w, "only records are served here: retry with Accept: "+naming.MediaType, http.StatusNotAcceptable)
		return
	}
	rec, err := h.best(r, name)
	now := h.opts.Now()
	switch {
	case err != nil:
		h.refuse(w, err)
		return
	case rec.IsZero():
		notFound(w, "no record is known here")
		return
	case rec.Expired(now):
		// An older one that has not expired is not served instead: names never go back.
		notFound(w, "the newest record has expired")
		return
	}
	raw := rec.Bytes()
	sum := sha256.Sum256(raw)
	w.Header().Set("Content-Type", naming.MediaType)
	w.Header().Set("Content-Disposition", `attachment; filename="`+name.String()+`.ipns-record"`)
	w.Header().Set("Cache-Control", cacheControl(rec, now))
	w.Header().Set("Expires", rec.ValidUntil().UTC().Format(http.TimeFormat))
	w.Header().Set("Last-Modified", now.UTC().Format(http.TimeFormat)) // of the resolution
	w.Header().Set("Etag", `"`+base64.RawURLEncoding.EncodeToString(sum[:16])+`"`)
	// Without a time, only the tag counts: a record may change within a second.
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(raw))
}

// best is the best record that can be found, which may have expired; zero where there is none. Of a name that is
// followed here that is what is kept, as long as it lives: the node sees to its being the newest. For other names
// others are asked.
func (h *routingHandler) best(r *http.Request, name naming.Name) (naming.Record, error) {
	followed := h.opts.Accept(name)
	if followed && h.opts.Confirm != nil && !onlyKept(r) {
		h.opts.Confirm(r.Context(), name)
	}
	known, err := h.known(r.Context(), name)
	if err != nil || onlyKept(r) {
		return known, err
	}
	alive := !known.IsZero() && !known.Expired(h.opts.Now())
	if h.opts.Lookup == nil || followed && alive {
		return known, nil
	}
	found, err := h.lookUp(r, name)
	if err != nil {
		if alive { // better than nothing
			return known, nil
		}
		return known, err
	}
	if found.IsZero() || found.Compare(known) <= 0 || found.MayFollow(known) != nil {
		return known, nil
	}
	// It is a floor for whoever asks next, also of a name that nobody follows: that search may end at somebody who is behind.
	kept, err := h.keep(r.Context(), found, remoteOf(r))
	switch {
	case errors.Is(err, naming.ErrOlder), errors.Is(err, naming.ErrRecovery): // a better one came meanwhile
		return h.known(r.Context(), name)
	case err != nil:
		return known, err
	case kept:
		h.opts.Accepted(found)
	}
	return found, nil
}

// known is the best record here; zero where there is none.
func (h *routingHandler) known(ctx context.Context, name naming.Name) (best naming.Record, err error) {
	if records := h.node.cfg.Records; records != nil {
		if best, err = records.Best(ctx, name); err != nil && !errors.Is(err, naming.ErrNotFound) {
			return best, err
		}
	}
	if guest, ok := h.guests.get(name); ok && guest.Compare(best) > 0 && guest.MayFollow(best) == nil {
		best = guest
	}
	return best, nil
}

// lookUp asks the network, within what the caller may ask and what all may; zero where it has none, or could not be
// asked.
func (h *routingHandler) lookUp(r *http.Request, name naming.Name) (naming.Record, error) {
	if err := h.remotes.mayLookUp(remoteOf(r)); err != nil {
		return naming.Record{}, err
	}
	select {
	case h.lookups <- struct{}{}:
		defer func() { <-h.lookups }()
	default:
		return naming.Record{}, errBusy
	}
	rec, err := h.opts.Lookup(r.Context(), name)
	if err != nil && !errors.Is(err, naming.ErrNotFound) {
		h.node.log.Debug("routing: lookup", "name", name, "err", err)
	}
	if err != nil {
		return naming.Record{}, nil
	}
	return rec, nil
}

// cacheControl lets a record be cached for its TTL, and as long as it lives where nobody answers. The specification
// would have caches serve it while they ask for all of that time, too: then a reader who comes once a month would see what was
// there a month ago.
func cacheControl(rec naming.Record, now time.Time) string {
	age := rec.TTL()
	if age == 0 {
		age = defaultMaxAge
	}
	life := rec.ValidUntil().Sub(now)
	seconds := func(d time.Duration) int64 { return int64(min(d, life) / time.Second) }
	return fmt.Sprintf("public, max-age=%d, stale-while-revalidate=%d, stale-if-error=%d", seconds(age), seconds(age), seconds(life))
}

// notFound is 404 with a short life: the record may come any moment.
func notFound(w http.ResponseWriter, why string) {
	w.Header().Set("Cache-Control", "public, max-age=5")
	http.Error(w, why, http.StatusNotFound)
}

// onlyKept tells whether nobody else is to be asked: hosts ask each other so, and would never stop otherwise.
func onlyKept(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Cache-Control"), "only-if-cached")
}
