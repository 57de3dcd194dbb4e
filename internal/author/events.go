package author

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// EventsRequest asks what happened to a site, newest first.
type EventsRequest struct {
	Site  string `json:"site"`            // alias or name
	Limit int    `json:"limit,omitempty"` // 0: 100; at most 10000
}

// SiteEvents is what happened to a site, newest first, as far as it is known: by what we saw ourselves, and by what
// its hosts say.
type SiteEvents struct {
	Name    string       `json:"name"`
	Events  []SiteEvent  `json:"events"`
	Reports []HostReport `json:"reports"` // by whom, without their events
}

// Events merges what we saw of a site with what its hosts tell. Each event says who says so.
func (a *Author) Events(ctx context.Context, req EventsRequest) (SiteEvents, error) {
	limit := min(req.Limit, maxHistory)
	if limit <= 0 {
		limit = defaultHistory
	}
	n, err := a.nameOf(ctx, req.Site)
	if err != nil {
		return SiteEvents{}, err
	}
	out := SiteEvents{Name: n.String(), Events: []SiteEvent{}}
	if out.Events, err = a.ownEvents(ctx, n); err != nil {
		return out, err
	}
	if err := a.askReports(ctx, n); err != nil {
		return out, err
	}
	if out.Reports, err = a.reports(ctx, n); err != nil {
		return out, err
	}
	for i, r := range out.Reports {
		for _, e := range r.Events {
			e.By = r.Name
			out.Events = append(out.Events, e)
		}
		out.Reports[i].Events = nil
	}
	slices.SortStableFunc(out.Events, func(x, y SiteEvent) int {
		return cmp.Or(y.At.Compare(x.At), cmp.Compare(x.By, y.By))
	})
	out.Events = out.Events[:min(len(out.Events), limit)]
	return out, nil
}

// ownEvents is what we did and saw: releases, and of the audits those at which something changed.
func (a *Author) ownEvents(ctx context.Context, n naming.Name) ([]SiteEvent, error) {
	names, err := a.callNames(ctx)
	if err != nil {
		return nil, err
	}
	out := []SiteEvent{}
	releases, err := a.State.Releases(ctx, n)
	if err != nil {
		return nil, err
	}
	for _, r := range releases {
		e := SiteEvent{At: r.Time, Kind: "published", By: ThisMachine, Detail: fmt.Sprintf("release %d", r.Number)}
		if r.Message != "" {
			e.Detail += ", " + r.Message
		}
		out = append(out, e)
	}
	seen, err := a.State.EvidenceOf(ctx, n)
	if err != nil {
		return nil, err
	}
	return append(out, changesIn(seen, names)...), nil
}

// changesIn is those pieces of evidence, oldest first, at which a host's standing changed.
func changesIn(seen []state.Evidence, names callNames) (out []SiteEvent) {
	type standing struct{ known, ok bool }
	was := make(map[peer.ID]standing)
	for _, e := range seen {
		switch {
		case e.Kind == state.EvidenceRival:
			out = append(out, SiteEvent{At: e.At, Kind: "rival", By: ThisMachine, Detail: e.Detail})
			continue
		case e.Kind != state.EvidenceAudit || e.Verdict == string(replicate.Busy):
			continue
		}
		if s := was[e.Host]; s.known && s.ok == e.OK {
			continue
		}
		was[e.Host] = standing{true, e.OK}
		ev := SiteEvent{At: e.At, Kind: "proved", Host: names.of(e.Host), HostID: idText(e.Host), By: ThisMachine}
		switch {
		case e.Verdict == string(replicate.Unreachable):
			ev.Kind, ev.Detail = "unreachable", e.Detail
		case !e.OK:
			ev.Kind, ev.Detail = "missed", cmp.Or(e.Detail, e.Verdict)
		}
		out = append(out, ev)
	}
	return out
}
