package author

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// HostInfo is a host as the author knows it, without its token.
type HostInfo struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	URL      string            `json:"url"`
	Label    map[string]string `json:"label"`
	Addrs    []string          `json:"addrs,omitempty"`
	Gateways []string          `json:"gateways,omitempty"`
	Free     int64             `json:"free_bytes"`
	Warning  string            `json:"warning,omitempty"`
}

// HostRequest adds a host: by an invite, or by URL and token.
type HostRequest struct {
	Where  string            `json:"where"` // invite, base URL, or multiaddr ending in /p2p/ID
	Token  string            `json:"token,omitempty"`
	Name   string            `json:"name,omitempty"` // how to call it; default: what it calls itself
	Labels map[string]string `json:"labels,omitempty"`
}

const (
	hostDeadline = 20 * time.Second
	invitePrefix = "hfi1" // docs/formats.md
)

// AddHost asks the host who it is, tries the token, and remembers both.
func (a *Author) AddHost(ctx context.Context, req HostRequest) (HostInfo, error) {
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
		return HostInfo{}, fmt.Errorf("the token does not work at %s: %w", place(want), err)
	}
	want.Addrs, want.Gateways, want.FreeBytes, want.MaxPinBytes = desc.Addrs, desc.Gateways, desc.FreeBytes, desc.MaxPinBytes
	if want.Name == "" {
		want.Name = desc.Name
	}
	if want.Name == "" {
		want.Name = want.ID.String()
	}
	want.Labels = req.Labels
	want.AddedAt, want.SeenAt = a.Now(), a.Now()
	if err := a.State.PutHost(ctx, want); err != nil {
		return HostInfo{}, err
	}
	info := hostInfo(want)
	info.Warning = plainWarning(want.URL)
	return info, nil
}

// place is how to speak of a host that is being added: never by the invite, which is a secret.
func place(h state.Host) string {
	if h.URL != "" {
		return h.URL
	}
	return h.ID.String()
}

// refreshDeadline is short: a host that does not answer is planned with as it
// was, and found out when it is dialled.
const refreshDeadline = 3 * time.Second

// refresh asks the hosts anew where they are and how much room they have:
// hosts move, fill up and are emptied. replicate.ErrClock where all that answer
// say that it is another day than here.
func (a *Author) refresh(ctx context.Context, hosts []state.Host) ([]state.Host, error) {
	var mu sync.Mutex
	var agree int
	var clock error
	ctx, cancel := context.WithTimeout(ctx, refreshDeadline)
	defer cancel()
	var wg sync.WaitGroup
	for i := range hosts {
		wg.Go(func() {
			h := &hosts[i]
			base, hc := a.face(*h)
			desc, err := replicate.FetchHostDescription(ctx, hc, base, a.Now())
			if errors.Is(err, replicate.ErrClock) {
				mu.Lock()
				clock = fmt.Errorf("%s: %w", h.Name, err)
				mu.Unlock()
			}
			if err != nil || desc.Peer != h.ID {
				a.Log.Info("host does not describe itself", "host", h.Name, "err", err)
				return
			}
			mu.Lock()
			agree++
			mu.Unlock()
			h.Gateways, h.FreeBytes, h.MaxPinBytes, h.SeenAt = desc.Gateways, desc.FreeBytes, desc.MaxPinBytes, a.Now()
			if h.URL != "" { // else its address is the one by which we reach it
				h.Addrs = desc.Addrs
			}
			if err := a.State.PutHost(context.WithoutCancel(ctx), *h); err != nil {
				a.Log.Warn("write host", "host", h.Name, "err", err)
			}
		})
	}
	wg.Wait()
	if clock != nil && agree == 0 {
		return hosts, fmt.Errorf("what is signed now would end at another time than you mean; set this machine's clock: %w", clock)
	}
	return hosts, nil
}

// checkClock refuses to sign by a clock that all hosts contradict.
func (a *Author) checkClock(ctx context.Context) error {
	hosts, err := a.State.Hosts(ctx)
	if err != nil || len(hosts) == 0 || a.Network == nil {
		return err
	}
	_, err = a.refresh(ctx, hosts)
	return err
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
	info := HostInfo{ID: h.ID.String(), Name: h.Name, URL: h.URL, Label: h.Labels, Addrs: h.Addrs, Gateways: h.Gateways, Free: h.FreeBytes}
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
		out = append(out, hostInfo(h))
	}
	return out, nil
}

// RemoveHost forgets a host. Its pins stay where they are until it is asked to
// drop them: forgetting is for hosts that are gone.
func (a *Author) RemoveHost(ctx context.Context, which string) (HostInfo, error) {
	h, err := a.State.HostByName(ctx, which)
	if errors.Is(err, state.ErrNotFound) {
		return HostInfo{}, fmt.Errorf("%w: no host %q; `holdfast host list` shows them", state.ErrNotFound, which)
	}
	if err != nil {
		return HostInfo{}, err
	}
	return hostInfo(h), a.State.RemoveHost(ctx, h.ID)
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
