package author

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// reportDeadline is how long all hosts together have to tell what they have seen, and maxReportsAtOnce how many are asked side by side.
const (
	reportDeadline   = 2 * time.Second
	maxReportsAtOnce = 32
)

// HostReport is what a host tells of a site: hearsay, shown as what it says and never counted.
type HostReport struct {
	ID       string      `json:"id"`
	Name     string      `json:"name"`
	At       *time.Time  `json:"at"` // when it told
	Role     string      `json:"role"`
	Holds    *time.Time  `json:"holds"` // since when it holds the site, as it says; null where it doesn't
	Root     string      `json:"root,omitempty"`
	Sequence uint64      `json:"sequence"`
	Events   []SiteEvent `json:"events,omitempty"`
}

// SiteEvent is something that happened to a site.
type SiteEvent struct {
	At     time.Time `json:"at"`
	Kind   string    `json:"kind"`           // published, proved, missed, rival, or of a host's report (docs/formats.md)
	Host   string    `json:"host,omitempty"` // whom it is about
	HostID string    `json:"host_id,omitempty"`
	By     string    `json:"by"` // who says so; ThisMachine for what we saw ourselves
	ByID   string    `json:"by_id,omitempty"`
	Detail string    `json:"detail,omitempty"`
}

// ThisMachine is the SiteEvent.By of what we saw ourselves.
const ThisMachine = "this machine"

// callNames tells how hosts are called here.
type callNames map[peer.ID]string

func (a *Author) callNames(ctx context.Context) (callNames, error) {
	hosts, err := a.State.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	names := make(callNames, len(hosts))
	for _, h := range hosts {
		names[h.ID] = h.Name
	}
	if a.Network != nil {
		names[a.Network.ID()] = ThisMachine
	}
	return names, nil
}

func (n callNames) of(id peer.ID) string {
	if id == "" {
		return ""
	}
	return cmp.Or(n[id], id.String())
}

// reports is the last report of each host about a site, by name, as they are kept.
func (a *Author) reports(ctx context.Context, n naming.Name) ([]HostReport, error) {
	names, err := a.callNames(ctx)
	if err != nil {
		return nil, err
	}
	kept, err := a.State.Reports(ctx, n)
	if err != nil {
		return nil, err
	}
	out := []HostReport{}
	for _, k := range kept {
		var r HostReport
		if err := json.Unmarshal(k.Report, &r); err != nil {
			return nil, err
		}
		r.Name = names.of(k.Host)
		out = append(out, r)
	}
	slices.SortFunc(out, func(x, y HostReport) int { return cmp.Compare(x.Name, y.Name) })
	return out, nil
}

// askReports asks the hosts that follow the sites what they have seen, all at once, and keeps what they tell. Those
// with a URL are asked also while no network is joined. Who doesn't answer is known as before.
func (a *Author) askReports(ctx context.Context, sites ...naming.Name) error {
	if a.Offline {
		return nil
	}
	names, err := a.callNames(ctx)
	if err != nil {
		return err
	}
	qctx, cancel := context.WithTimeout(ctx, reportDeadline)
	defer cancel()
	g := errgroup.Group{}
	g.SetLimit(maxReportsAtOnce)
	for _, n := range sites {
		hosts, err := a.reporters(ctx, n)
		if err != nil {
			return err
		}
		for _, h := range hosts {
			if h.URL == "" && a.Network == nil {
				continue
			}
			g.Go(func() error {
				if err := a.askReport(qctx, h, n, names); err != nil {
					a.Log.Info("host tells nothing of the site", "host", h.Name, "name", n, "err", err)
				}
				return nil
			})
		}
	}
	return g.Wait()
}

// reporters are the hosts that may have something to tell of a site: those that follow it, or all where nothing is
// known of that, as on a machine to which only the site's key was restored.
func (a *Author) reporters(ctx context.Context, n naming.Name) ([]state.Host, error) {
	hosts, err := a.keepers(ctx, &publication{name: n})
	if err != nil || len(hosts) > 0 {
		return hosts, err
	}
	return a.State.Hosts(ctx)
}

func (a *Author) askReport(ctx context.Context, h state.Host, n naming.Name, names callNames) error {
	base, hc := a.face(h)
	r, err := replicate.FetchSiteReport(ctx, hc, base, h.Token, n, a.Now())
	if err != nil {
		return err
	}
	if r.Peer != h.ID {
		return fmt.Errorf("%w: %s answers in its place", replicate.ErrSignature, r.Peer)
	}
	return a.keepReport(context.WithoutCancel(ctx), h, n, r, names)
}

// keepReport writes down what is shown of a report, and since when a standby says that it holds the site.
func (a *Author) keepReport(ctx context.Context, h state.Host, n naming.Name, r replicate.SiteReport, names callNames) error {
	out := HostReport{
		ID: h.ID.String(), At: timePtr(r.Time), Role: r.Role, Holds: timePtr(r.Holds), Root: cidString(r.Root), Sequence: r.Sequence,
	}
	for _, e := range r.Events {
		out.Events = append(out.Events, SiteEvent{
			At: e.At.UTC(), Kind: string(e.Kind), Host: names.of(e.Host), HostID: idText(e.Host), By: h.Name, ByID: h.ID.String(), Detail: e.Detail,
		})
	}
	b, err := json.Marshal(out)
	if err != nil {
		return err
	}
	if r.Role == replicate.RoleStandby {
		if err := a.State.SaidHolds(ctx, n, h.ID, r.Holds); err != nil {
			return err
		}
	}
	return a.State.PutReport(ctx, n, state.Report{Host: h.ID, At: a.Now(), Report: b})
}

func idText(id peer.ID) string {
	if id == "" {
		return ""
	}
	return id.String()
}
