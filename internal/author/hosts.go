package author

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// HostInfo is a host as the author knows it, without its token.
type HostInfo struct {
	ID       string            `json:"id"`             // a peer id; of a pinning service its URL
	Kind     string            `json:"kind,omitempty"` // KindPinning; empty: a host
	Name     string            `json:"name"`
	URL      string            `json:"url"`
	Label    map[string]string `json:"label"`
	Addrs    []string          `json:"addrs,omitempty"`
	Gateways []string          `json:"gateways,omitempty"`
	Free     int64             `json:"free_bytes"`    // room for us
	MaxPin   int64             `json:"max_pin_bytes"` // 0: no limit known
	Quota    int64             `json:"quota_bytes"`   // what our token is good for in all; 0: no limit known
	Until    *time.Time        `json:"until"`         // when token or terms end
	Uptime   int               `json:"uptime"`        // low estimate, millionths; 500000 before it was observed
	Looks    int               `json:"looks"`         // that the estimate rests on
	Seen     *time.Time        `json:"seen"`          // when it last described itself
	Draining bool              `json:"draining"`      // it wants to be empty
	Leaving  bool              `json:"leaving"`       // we want to leave it
	Out      bool              `json:"convicted"`     // of false proofs: it is never used again
	Software string            `json:"software,omitempty"`
	Holds    []string          `json:"holds"`     // the sites whose copies are there
	StandsBy []string          `json:"stands_by"` // and those that it would take over
	Warning  string            `json:"warning,omitempty"`
	Warnings []string          `json:"warnings,omitempty"`
}

// HostRequest adds a host: by an invite, or by URL and token.
type HostRequest struct {
	Where  string            `json:"where"` // invite, base URL, or multiaddr ending in /p2p/ID
	Token  string            `json:"token,omitempty"`
	Name   string            `json:"name,omitempty"` // how to call it; default: what it calls itself
	Labels map[string]string `json:"labels,omitempty"`
	// Pinning says that it is no host of this network, and speaks the Pinning Service API only.
	Pinning  bool     `json:"pinning,omitempty"`
	Gateways []string `json:"gateways,omitempty"` // base URLs at which random leaves of such a one can be asked for
}

const (
	hostDeadline = 20 * time.Second
	hostsTurn    = "the list of hosts" // as a key of turns no alias
	invitePrefix = "hfi1"              // docs/formats.md
)

// AddHost asks the host who it is, tries the token, and remembers both.
func (a *Author) AddHost(ctx context.Context, req HostRequest) (HostInfo, error) {
	if req.Pinning {
		return a.addService(ctx, req)
	}
	ctx, cancel := context.WithTimeout(ctx, hostDeadline)
	defer cancel()
	want, err := a.hostOf(req)
	if err != nil {
		return HostInfo{}, err
	}
	base, hc := a.face(want)
	desc, err := replicate.FetchHostDescription(ctx, hc, base, a.Now())
	if err != nil {
		if !errors.Is(err, replicate.ErrUnavailable) {
			err = fmt.Errorf("%w: %v", replicate.ErrUnavailable, err)
		}
		return HostInfo{}, fmt.Errorf("%s does not answer as a host: %w", place(want), err)
	}
	if want.ID != "" && want.ID != desc.Peer {
		return HostInfo{}, fmt.Errorf("%w: the invite is for %s, but %s answers there", naming.ErrInvalidRecord, want.ID, desc.Peer)
	}
	if want.ID == "" {
		want.ID = desc.Peer
	}
	if _, err := replicate.NewClient(base, want.Token, hc).List(ctx, replicate.Query{Limit: 1}); err != nil {
		return HostInfo{}, fmt.Errorf("the token does not work: %w", err)
	}
	want.Addrs = desc.Addrs
	said(&want, desc, a.Now())
	a.askTenant(ctx, &want)
	taken, err := a.rememberHost(ctx, req, &want, desc.Name)
	if err != nil {
		return HostInfo{}, err
	}
	info := hostInfo(want)
	info.Warning = plainWarning(want.URL)
	if taken != "" {
		info.Warnings = append(info.Warnings, taken)
	}
	return info, nil
}

// rememberHost writes a host down that has answered, in place of what was known of it, one host at a time: no two get one
// name. The warning is nameHost's.
func (a *Author) rememberHost(ctx context.Context, req HostRequest, want *state.Host, itself string) (warning string, err error) {
	done, err := a.turns.take(ctx, hostsTurn)
	if err != nil {
		return "", err
	}
	defer done()
	want.Labels, want.AddedAt = req.Labels, a.Now()
	if before, err := a.State.Host(ctx, want.ID); err == nil { // it gets a new token, or another address
		want.AddedAt = before.AddedAt
		if len(want.Labels) == 0 {
			want.Labels = before.Labels
		}
		want.Name = cmp.Or(req.Name, before.Name)
	}
	want.Name = cmp.Or(want.Name, itself, want.ID.String())
	warning, err = a.nameHost(ctx, want, req.Name != "")
	if err != nil {
		return "", err
	}
	if err := checkLabels(want.Labels); err != nil {
		return "", err
	}
	return warning, a.State.PutHost(ctx, *want)
}

// nameHost sees to it that no two hosts go by one name, under which neither could be named: one that was asked for is
// refused, one that the host calls itself gets the end of its id. The warning says so.
func (a *Author) nameHost(ctx context.Context, h *state.Host, asked bool) (warning string, err error) {
	hosts, err := a.State.Hosts(ctx)
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(hosts, func(o state.Host) bool { return o.Name == h.Name && o.ID != h.ID })
	if i < 0 {
		return "", nil
	}
	if asked {
		return "", usagef("a host of yours is called %q already (%s): choose another --name", h.Name, hosts[i].ID)
	}
	was, id := h.Name, h.ID.String()
	h.Name += "-" + id[len(id)-6:]
	warning = fmt.Sprintf("a host of yours is called %q already, so that this one is called %q here (--name says otherwise)", was, h.Name)
	if hosts[i].URL != "" && hosts[i].URL == h.URL {
		warning += fmt.Sprintf("; both are at %s: if it has lost its identity, `holdfast host remove %s`", h.URL, was)
	}
	return warning, nil
}

// place is how to speak of a host that is being added: never by the invite, which is a secret.
func place(h state.Host) string {
	if h.URL != "" {
		return h.URL
	}
	return h.ID.String()
}

// hostOf reads what the request says about the host.
func (a *Author) hostOf(req HostRequest) (state.Host, error) {
	h := state.Host{Name: req.Name, Token: req.Token}
	where := strings.TrimSpace(req.Where)
	if len(where) > len(invitePrefix) && strings.EqualFold(where[:len(invitePrefix)], invitePrefix) {
		inv, err := replicate.ParseInvite(where)
		if err != nil {
			return h, usagef("%v", err)
		}
		if h.Token != "" {
			return h, usagef("an invite carries its token; leave --token out")
		}
		if h.Name == "" {
			h.Name = inv.Name
		}
		h.ID, h.Token, where = inv.Peer, inv.Token, inv.Base
	}
	if h.Token == "" {
		return h, usagef("a token is needed: --token T, from the host's operator (`holdfast token create LABEL`)")
	}
	if strings.HasPrefix(where, "/") {
		m, err := ma.NewMultiaddr(where)
		if err != nil {
			return h, usagef("%v", err)
		}
		ai, err := peer.AddrInfoFromP2pAddr(m)
		if err != nil {
			return h, usagef("%s: %v", where, err)
		}
		if a.Network == nil {
			return h, fmt.Errorf("%w: the network is offline", ErrUnreachable)
		}
		h.ID, h.Addrs = ai.ID, []string{where}
		return h, nil
	}
	if !strings.Contains(where, "://") && strings.ContainsAny(where, ".:") { // a damaged invite must not be looked up
		where = "http://" + where
	}
	u, err := url.Parse(where)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return h, usagef("a host is given by an invite (hfi1…), an http(s) URL or a multiaddr ending in /p2p/ID")
	}
	if u.User != nil {
		return h, usagef("the URL of %s carries a password; the host's token goes into --token", u.Host)
	}
	h.URL = strings.TrimSuffix(u.String(), "/")
	return h, nil
}

// plainWarning says that a token crosses a network unencrypted.
func plainWarning(base string) string {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" || u.Hostname() == "localhost" {
		return ""
	}
	if ip := net.ParseIP(u.Hostname()); ip != nil && ip.IsLoopback() {
		return ""
	}
	return "the token travels unencrypted over http; ask the host for an https URL or an invite with a multiaddr"
}

func hostInfo(h state.Host) HostInfo {
	info := HostInfo{
		ID: h.ID.String(), Name: h.Name, URL: h.URL, Label: h.Labels, Addrs: h.Addrs, Gateways: h.Gateways,
		Free: h.FreeBytes, MaxPin: h.MaxPinBytes, Quota: h.Quota, Until: timePtr(h.Until),
		Uptime: h.Presence.Uptime(), Looks: h.Presence.Up + h.Presence.Down, Seen: timePtr(h.SeenAt),
		Draining: h.Draining, Leaving: h.Leaving, Out: h.Trial.Convicted(), Software: h.Software, Holds: []string{}, StandsBy: []string{},
	}
	if info.Label == nil {
		info.Label = map[string]string{}
	}
	return info
}

// ListHosts lists the hosts that were added.
func (a *Author) ListHosts(ctx context.Context) ([]HostInfo, error) {
	hosts, err := a.State.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	out := []HostInfo{}
	for _, h := range hosts {
		info := hostInfo(h)
		if err := a.addHeld(ctx, h.ID, &info); err != nil {
			return nil, err
		}
		out = append(out, info)
	}
	services, err := a.listServices(ctx)
	return append(out, services...), err
}

// addHeld says which sites a host holds and stands by for.
func (a *Author) addHeld(ctx context.Context, id peer.ID, info *HostInfo) error {
	holdings, err := a.State.HeldBy(ctx, id)
	if err != nil {
		return err
	}
	for _, h := range holdings {
		site := h.Site.String()
		if s, err := a.State.SiteByName(ctx, h.Site); err == nil {
			site = s.Alias
		}
		switch {
		case h.NamePin != "" || !h.StandbyHolds.IsZero():
			info.Holds = append(info.Holds, site)
		case h.StandbyPin != "":
			info.StandsBy = append(info.StandsBy, site)
		}
	}
	return nil
}

// hostNamed finds a host by name, id or URL.
func (a *Author) hostNamed(ctx context.Context, which string) (state.Host, error) {
	h, err := a.State.HostByName(ctx, which)
	switch {
	case errors.Is(err, state.ErrNotFound):
		err = fmt.Errorf("%w: no host %q; `holdfast host list` shows them", state.ErrNotFound, which)
	case errors.Is(err, state.ErrConflict):
		err = usagef("several hosts are called %q: name the one by its id, from `holdfast host list`", which)
	}
	return h, err
}

// RemoveHost forgets a host, and says which sites are short of copies then. Its pins stay where they are: forgetting is for
// hosts that are gone, and LeaveHost for those that can still be asked.
func (a *Author) RemoveHost(ctx context.Context, which string) (HostInfo, error) {
	h, err := a.hostNamed(ctx, which)
	if errors.Is(err, state.ErrNotFound) {
		return a.removeService(ctx, which)
	}
	if err != nil {
		return HostInfo{}, err
	}
	info := hostInfo(h)
	if err := a.addHeld(ctx, h.ID, &info); err != nil {
		return info, err
	}
	if info.Warnings, err = a.costOf(ctx, h); err != nil {
		return info, err
	}
	return info, a.State.RemoveHost(ctx, h.ID)
}

// costOf says which sites are left with fewer copies than are wanted of them when a host is gone.
func (a *Author) costOf(ctx context.Context, h state.Host) (out []string, err error) {
	sites, err := a.State.Sites(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range sites {
		holdings, err := a.State.Holdings(ctx, s.Name)
		if err != nil {
			return nil, err
		}
		left, lost := 0, false
		for _, hold := range holdings {
			switch {
			case hold.NamePin == "" && hold.StandbyHolds.IsZero():
			case hold.Host == h.ID:
				lost = true
			case hold.State == Proved:
				left++
			}
		}
		if _, copies := wantedOf(s); lost && left < copies {
			out = append(out, fmt.Sprintf("%s is left with %d proved copies of the %d that are wanted; `holdfast plan %s` shows what helps", s.Alias, left, copies, s.Alias))
		}
	}
	return out, nil
}

// HostAddrs are the hosts as peers to dial.
func (a *Author) HostAddrs(ctx context.Context) ([]peer.AddrInfo, error) {
	hosts, err := a.State.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	var out []peer.AddrInfo
	for _, h := range hosts {
		if ai, err := addrInfo(h); err == nil && len(ai.Addrs) > 0 {
			out = append(out, ai)
		}
	}
	return out, nil
}

// HostRouting is a host as a place to ask for records.
type HostRouting struct {
	ID     peer.ID
	Client *naming.RoutingClient
}

// HostRouting is the hosts as places to ask for records, in the order in which they were added.
func (a *Author) HostRouting() (out []HostRouting) {
	hosts, err := a.State.Hosts(context.Background())
	if err != nil {
		a.Log.Warn("list hosts", "err", err)
	}
	for _, h := range hosts {
		base, hc := a.face(h)
		out = append(out, HostRouting{h.ID, naming.NewRoutingClient(h.Name, base, hc)})
	}
	return out
}
