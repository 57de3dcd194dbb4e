package author

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// KindPinning is the kind, in HostInfo, of a pinning service that is no host: it keeps copies, proves nothing and follows no name.
const KindPinning = "pinning"

// maxServiceGateways is how many gateways one service may have.
const maxServiceGateways = 8

// addService tries the token of a pinning service, and remembers both.
func (a *Author) addService(ctx context.Context, req HostRequest) (HostInfo, error) {
	h, err := a.hostOf(req)
	if err != nil {
		return HostInfo{}, err
	}
	if h.URL == "" || strings.HasPrefix(strings.TrimSpace(req.Where), invitePrefix) {
		return HostInfo{}, usagef("a pinning service is given by its URL; an invite or a multiaddr is a host's, and needs no --pinning")
	}
	s := state.Service{URL: h.URL, Name: h.Name, Token: h.Token, Labels: req.Labels, Gateways: req.Gateways, AddedAt: a.Now(), SeenAt: a.Now()}
	if s.Name == "" {
		u, _ := url.Parse(s.URL) // hostOf has read it
		s.Name = u.Host
	}
	if len(s.Gateways) > maxServiceGateways {
		return HostInfo{}, usagef("a pinning service has at most %d gateways", maxServiceGateways)
	}
	for i, g := range s.Gateways {
		if u, err := url.Parse(g); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.User != nil {
			return HostInfo{}, usagef("--gateway is the base URL of a gateway, like https://gateway.example, not %q", g)
		}
		s.Gateways[i] = strings.TrimRight(g, "/")
	}
	if err := checkLabels(s.Labels); err != nil {
		return HostInfo{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, hostDeadline)
	defer cancel()
	if _, err := a.service(s).List(ctx, replicate.Query{Limit: 1}); err != nil {
		return HostInfo{}, fmt.Errorf("%s does not answer as a pinning service that takes this token: %w", s.URL, err)
	}
	if before, err := a.State.ServiceByName(ctx, s.URL); err == nil { // it gets a new token, or other gateways
		s.AddedAt = before.AddedAt
	}
	if err := a.State.PutService(ctx, s); err != nil {
		return HostInfo{}, err
	}
	info := serviceInfo(s)
	info.Warning = plainWarning(s.URL)
	if len(s.Gateways) == 0 {
		info.Warning = strings.TrimPrefix(info.Warning+"; what it keeps can't even be sampled: name a gateway of it with --gateway URL", "; ")
	}
	return info, nil
}

// service is the client of a pinning service. Its content is asked for at its gateways, never here.
func (a *Author) service(s state.Service) *replicate.Client {
	hc := *a.HTTP
	hc.Timeout = a.RequestTimeout
	return replicate.NewClient(s.URL, s.Token, &hc)
}

func serviceInfo(s state.Service) HostInfo {
	info := HostInfo{ID: s.URL, Kind: KindPinning, Name: s.Name, URL: s.URL, Label: s.Labels, Gateways: s.Gateways, Leaving: s.Leaving, Seen: timePtr(s.SeenAt), Holds: []string{}, StandsBy: []string{}}
	if info.Label == nil {
		info.Label = map[string]string{}
	}
	return info
}

// listServices is the pinning services, as hosts are listed.
func (a *Author) listServices(ctx context.Context) ([]HostInfo, error) {
	services, err := a.State.Services(ctx)
	if err != nil {
		return nil, err
	}
	pins, err := a.State.ServicePins(ctx, naming.Name{})
	if err != nil {
		return nil, err
	}
	var out []HostInfo
	for _, s := range services {
		info := serviceInfo(s)
		for _, p := range pins {
			if p.Service != s.URL || p.Status != replicate.Pinned {
				continue
			}
			if site, err := a.State.SiteByName(ctx, p.Site); err == nil && site.Root.Equals(p.Root) {
				info.Holds = append(info.Holds, site.Alias)
			}
		}
		out = append(out, info)
	}
	return out, nil
}

// removeService forgets a pinning service. Its pins stay there: forgetting is for those that are gone.
func (a *Author) removeService(ctx context.Context, which string) (HostInfo, error) {
	s, err := a.serviceNamed(ctx, which)
	if err != nil {
		return HostInfo{}, err
	}
	return serviceInfo(s), a.State.RemoveService(ctx, s.URL)
}

func (a *Author) serviceNamed(ctx context.Context, which string) (state.Service, error) {
	s, err := a.State.ServiceByName(ctx, which)
	if errors.Is(err, state.ErrNotFound) {
		err = fmt.Errorf("%w: no host %q; `holdfast host list` shows them", state.ErrNotFound, which)
	}
	return s, err
}

// labelService is LabelHost for a pinning service.
func (a *Author) labelService(ctx context.Context, req LabelRequest) (HostInfo, error) {
	s, err := a.serviceNamed(ctx, req.Host)
	if err != nil {
		return HostInfo{}, err
	}
	labels := make(map[string]string)
	maps.Copy(labels, s.Labels)
	maps.Copy(labels, req.Labels)
	maps.DeleteFunc(labels, func(_, v string) bool { return v == "" })
	if err := checkLabels(labels); err != nil {
		return HostInfo{}, err
	}
	s.Labels = labels
	return serviceInfo(s), a.State.PutService(ctx, s)
}

// leaveService takes all of our pins back from a pinning service and forgets it. It never counted as a copy, so nothing
// has to come first. What it does not take back now is left for the next call: the error says so.
func (a *Author) leaveService(ctx context.Context, req LeaveRequest) (Left, error) {
	out := Left{Sites: []AppliedSite{}}
	s, err := a.serviceNamed(ctx, req.Host)
	if err != nil {
		return out, err
	}
	s.Leaving = !req.Stay
	out.Host = serviceInfo(s)
	if err := a.State.PutService(ctx, s); err != nil || req.Stay {
		return out, err
	}
	pins, err := a.State.ServicePins(ctx, naming.Name{})
	if err != nil {
		return out, err
	}
	for _, p := range pins {
		if p.Service != s.URL {
			continue
		}
		if err := a.thirdParty(s).takeBack(ctx, p); err != nil {
			return out, fmt.Errorf("%s still has pins of ours; run it again, or `holdfast host remove %s` forgets it all the same: %w", s.Name, s.Name, err)
		}
	}
	err = a.State.RemoveService(ctx, s.URL)
	out.Gone = err == nil
	return out, err
}

// ThirdParty is how a pinning service stands with a site. It never counts as a copy: what it says is not proved by anything.
type ThirdParty struct {
	ID     string            `json:"id"` // its URL: it is no peer
	Name   string            `json:"name"`
	Label  map[string]string `json:"label"`
	Root   string            `json:"root"`             // of the pin that State is about; empty where there is none
	State  replicate.Status  `json:"state"`            // what it says: queued, pinning, pinned, failed
	Behind bool              `json:"behind,omitempty"` // Root is a release before the newest
	Proved bool              `json:"proved"`           // always false
	// Sampled is what random leaves showed that were asked for at its gateways, which may have had them from elsewhere; empty: not asked.
	Sampled   replicate.Verdict `json:"sampled,omitempty"`
	SampledAt *time.Time        `json:"sampled_at"`
	Detail    string            `json:"detail,omitempty"`
	AskedAt   *time.Time        `json:"asked_at"` // when it last said State
	NextTry   *time.Time        `json:"next_try"`
	Error     string            `json:"error,omitempty"`
}

// ThirdParties is what is known of a site at the pinning services, by their order. Nobody is asked.
func (a *Author) ThirdParties(ctx context.Context, site naming.Name) ([]ThirdParty, error) {
	services, err := a.State.Services(ctx)
	if err != nil || len(services) == 0 {
		return nil, err
	}
	pins, err := a.State.ServicePins(ctx, site)
	if err != nil {
		return nil, err
	}
	newest, err := a.newestRoot(ctx, site)
	if err != nil {
		return nil, err
	}
	var out []ThirdParty
	for _, s := range services {
		t := ThirdParty{ID: s.URL, Name: s.Name, Label: s.Labels, State: replicate.Queued}
		if t.Label == nil {
			t.Label = map[string]string{}
		}
		if p, ok := bestPin(pins, s.URL, newest); ok {
			t.Root, t.State, t.Behind = cidString(p.Root), p.Status, !p.Root.Equals(newest)
			t.Sampled, t.SampledAt, t.Detail = p.Sampled, timePtr(p.SampledAt), p.Detail
			t.AskedAt, t.Error = timePtr(p.AskedAt), p.Error
			if p.Error != "" {
				t.NextTry = timePtr(p.Due)
			}
		}
		out = append(out, t)
	}
	return out, nil
}

// bestPin is the pin at a service that is worth most: of the newest root where that is pinned, else of another that
// is, else of the newest.
func bestPin(pins []state.ServicePin, service string, newest cid.Cid) (best state.ServicePin, ok bool) {
	worth := func(p state.ServicePin) int {
		switch isNewest, isPinned := p.Root.Equals(newest), p.Status == replicate.Pinned; {
		case isNewest && isPinned:
			return 3
		case isPinned:
			return 2
		case isNewest:
			return 1
		}
		return 0
	}
	for _, p := range pins {
		if p.Service == service && (!ok || worth(p) > worth(best)) {
			best, ok = p, true
		}
	}
	return best, ok
}

// newestRoot is what this machine published last for a site; undefined for nothing.
func (a *Author) newestRoot(ctx context.Context, site naming.Name) (cid.Cid, error) {
	s, err := a.State.SiteByName(ctx, site)
	if errors.Is(err, state.ErrNotFound) {
		return cid.Undef, nil
	}
	return s.Root, err
}
