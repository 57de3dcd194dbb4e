package p2p

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
)

func (h *routingHandler) putRecord(w http.ResponseWriter, r *http.Request) {
	name, err := naming.ParseName(r.PathValue("name"))
	if err != nil {
		h.refuse(w, err)
		return
	}
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != naming.MediaType {
		http.Error(w, "only records are taken here: retry with Content-Type: "+naming.MediaType, http.StatusNotAcceptable)
		return
	}
	from := remoteOf(r)
	if err := h.remotes.mayPut(from, h.opts.Accept(name)); err != nil {
		h.refuse(w, err)
		return
	}
	rec, err := h.readRecord(w, r, name)
	if err != nil {
		h.refuse(w, err)
		return
	}
	if news, err := h.keep(r.Context(), rec, from); err != nil {
		h.refuse(w, err)
	} else if news {
		h.opts.Accepted(rec)
	}
	// Without an error, the status is 200.
}

// readRecord reads and checks a body.
func (h *routingHandler) readRecord(w http.ResponseWriter, r *http.Request, name naming.Name) (naming.Record, error) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, naming.MaxRecordSize))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return naming.Record{}, naming.ErrTooLarge
	}
	if err != nil {
		return naming.Record{}, fmt.Errorf("%w: it could not be read", naming.ErrInvalidRecord)
	}
	wait := time.NewTimer(checkWait)
	defer wait.Stop()
	select {
	case h.checks <- struct{}{}:
		defer func() { <-h.checks }()
	case <-wait.C:
		return naming.Record{}, errBusy
	case <-r.Context().Done():
		return naming.Record{}, errBusy
	}
	return naming.OpenRecord(name, raw, h.opts.Now())
}

// keep puts the record where it belongs, and tells whether that is Config.Records and it was not there yet: hosts put
// the same record to each other again and again, and must not make more of that each time.
// A name that was followed once has a floor still, and stays there. from is the remote it came from.
func (h *routingHandler) keep(ctx context.Context, rec naming.Record, from string) (news bool, err error) {
	records := h.node.cfg.Records
	if records == nil {
		return false, h.guests.accept(rec, from)
	}
	before, err := records.Best(ctx, rec.Name())
	if err != nil && !errors.Is(err, naming.ErrNotFound) {
		return false, err
	}
	if known := err == nil; !known && !h.opts.Accept(rec.Name()) {
		return false, h.guests.accept(rec, from)
	}
	if guest, ok := h.guests.take(rec.Name()); ok {
		// It came before the name was followed, and is a floor even so.
		if err := records.Accept(ctx, guest); err != nil && !errors.Is(err, naming.ErrOlder) && !errors.Is(err, naming.ErrRecovery) {
			return false, err
		}
	}
	if err := records.Accept(ctx, rec); err != nil {
		return false, err
	}
	return rec.Compare(before) != 0, nil
}
