package author

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/replicate"
)

// refreshDeadline is short: a host that does not answer is planned with as it
// was, and found out when it is dialled.
const refreshDeadline = 3 * time.Second

// refresh asks the hosts anew where they are, how much room they have and for how long: hosts move, fill up and
// are emptied. Each look is one observation of who is up. SeenAt of those that answered is now.
// replicate.ErrClock where all that answer say that it is another day than here.
func (a *Author) refresh(ctx context.Context, hosts []state.Host) ([]state.Host, error) {
	var clock error
	errs := make([]error, len(hosts))
	qctx, cancel := context.WithTimeout(ctx, refreshDeadline)
	defer cancel()
	var wg sync.WaitGroup
	for i := range hosts {
		wg.Go(func() { errs[i] = a.askHost(qctx, &hosts[i]) })
	}
	wg.Wait()
	agree := 0
	for i, err := range errs {
		switch {
		case err == nil:
			agree++
		case errors.Is(err, replicate.ErrClock):
			clock = fmt.Errorf("%s: %w", hosts[i].Name, err)
		default:
			a.Log.Info("host does not describe itself", "host", hosts[i].Name, "err", err)
		}
	}
	a.noteLooks(context.WithoutCancel(ctx), hosts, errs, agree)
	if clock != nil && agree == 0 {
		return hosts, fmt.Errorf("what is signed now would end at another time than you mean; set this machine's clock: %w", clock)
	}
	return hosts, nil
}

// noteLooks writes down who answered. That nobody did says more about our own connection than about the hosts; so a
// lone host's silence is never counted.
func (a *Author) noteLooks(ctx context.Context, hosts []state.Host, errs []error, answered int) {
	for i, h := range hosts {
		up := errs[i] == nil
		if up {
			if err := a.State.DescribedHost(ctx, h); err != nil {
				a.Log.Warn("write host", "host", h.Name, "err", err)
			}
		}
		if errors.Is(errs[i], replicate.ErrClock) || !up && answered == 0 {
			continue
		}
		if err := a.State.SawHost(ctx, h.ID, a.Now(), up); err != nil {
			a.Log.Warn("write host", "host", h.Name, "err", err)
		}
		hosts[i].Presence.Observe(a.Now(), up)
	}
}

// askHost has one host describe itself, and say what our token is good for there.
func (a *Author) askHost(ctx context.Context, h *state.Host) error {
	base, hc := a.face(*h)
	desc, err := replicate.FetchHostDescription(ctx, hc, base, a.Now())
	if err != nil {
		return err
	}
	if desc.Peer != h.ID {
		return fmt.Errorf("%w: %s answers in its place", replicate.ErrSignature, desc.Peer)
	}
	said(h, desc, a.Now())
	if h.URL != "" { // else its address is the one by which we reach it
		h.Addrs = desc.Addrs
	}
	a.askTenant(ctx, h)
	return nil
}

// said takes up what a host says of itself.
func said(h *state.Host, d replicate.HostDescription, now time.Time) {
	h.Gateways, h.FreeBytes, h.MaxPinBytes, h.SeenAt = d.Gateways, d.FreeBytes, d.MaxPinBytes, now
	h.Quota, h.Until, h.Draining, h.Software = 0, time.Time{}, d.Draining, d.Software
	if d.Terms.Until != nil {
		h.Until = *d.Terms.Until
	}
	if most := d.Terms.MaxSiteBytes; most > 0 && (h.MaxPinBytes == 0 || most < h.MaxPinBytes) {
		h.MaxPinBytes = most
	}
}

// askTenant has the host say what our token is good for: for nothing any more where it doesn't know it, or its time is
// over. A host that doesn't say is used as it describes itself.
func (a *Author) askTenant(ctx context.Context, h *state.Host) {
	switch t, err := a.pins(*h).Tenant(ctx); {
	case err == nil:
		bound(h, t)
	case errors.Is(err, replicate.ErrUnauthorized):
		h.Until = earlierEnd(h.Until, a.Now())
		a.Log.Warn("our token is not accepted any more", "host", h.Name, "err", err)
	case !errors.Is(err, replicate.ErrNotFound): // an older host doesn't say
		a.Log.Info("host does not say what our token is good for", "host", h.Name, "err", err)
	}
}

// bound lets what a token is good for count, where it is less than what the host has.
func bound(h *state.Host, t replicate.TenantInfo) {
	h.Quota, h.Draining = t.QuotaBytes, h.Draining || t.Draining
	if free := t.Free(); free >= 0 && free < h.FreeBytes {
		h.FreeBytes = free
	}
	if t.MaxPinBytes > 0 && (h.MaxPinBytes == 0 || t.MaxPinBytes < h.MaxPinBytes) {
		h.MaxPinBytes = t.MaxPinBytes
	}
	if t.Expires != nil {
		h.Until = earlierEnd(h.Until, *t.Expires)
	}
}

// earlierEnd is the earlier of two ends, of which zero is none.
func earlierEnd(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// observation is what a plan may know of a host, beside what it holds of one site.
func (a *Author) observation(h state.Host) replicate.Observation {
	return replicate.Observation{
		Host: h.ID, Name: h.Name, Labels: h.Labels, Uptime: h.Presence.Uptime(), Quota: h.Quota, FreeBytes: h.FreeBytes,
		MaxPinBytes: h.MaxPinBytes, Until: h.Until, Draining: h.Draining || h.Leaving, Out: h.Trial.Convicted(), Reachable: true,
	}
}

// groupNetworks gives hosts without a network label of ours one by where they were observed, if another host is
// there too: they may fail together, whatever they say of themselves.
func groupNetworks(observed []replicate.Observation, hosts map[peer.ID]state.Host) {
	at := make(map[string][]int)
	for i, o := range observed {
		if n := observedNetwork(hosts[o.Host]); n != "" {
			at[n] = append(at[n], i)
		}
	}
	for n, members := range at {
		if len(members) < 2 {
			continue
		}
		for _, i := range members {
			if observed[i].Labels[replicate.LabelNetwork] == "" {
				observed[i].Labels = with(observed[i].Labels, replicate.LabelNetwork, n)
			}
		}
	}
}

// with is the labels and one more, in a map of its own.
func with(labels map[string]string, k, v string) map[string]string {
	out := make(map[string]string, len(labels)+1)
	for have, value := range labels {
		out[have] = value
	}
	out[k] = v
	return out
}

// observedNetwork is the network of the first address by which others can reach the host: /24 of IPv4, /48 of
// IPv6; "" where there is none, or only the one of this machine to itself.
func observedNetwork(h state.Host) string {
	private := ""
	for _, s := range h.Addrs {
		m, err := ma.NewMultiaddr(s)
		if err != nil {
			continue
		}
		ip, err := manet.ToIP(m)
		if err != nil {
			continue
		}
		addr, ok := netip.AddrFromSlice(ip)
		if addr = addr.Unmap(); !ok || addr.IsLoopback() || addr.IsUnspecified() || addr.IsLinkLocalUnicast() {
			continue
		}
		bits := 48
		if addr.Is4() {
			bits = 24
		}
		prefix, err := addr.Prefix(bits)
		switch {
		case err != nil:
		case !addr.IsPrivate():
			return prefix.String()
		case private == "":
			private = prefix.String()
		}
	}
	return private
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

// observeHosts is one look at every host.
func (a *Author) observeHosts(ctx context.Context) {
	if err := a.checkClock(ctx); err != nil && ctx.Err() == nil {
		a.Log.Warn("look at hosts", "err", err)
	}
}
