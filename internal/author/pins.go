package author

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/replicate"
)

// temporaryPin finds the pin that an interrupted publish left, or makes it.
func (a *Author) temporaryPin(ctx context.Context, p *publication, client *replicate.Client) (replicate.PinStatus, error) {
	found, err := a.temporary(ctx, p, client, p.built.Root)
	if err != nil {
		return replicate.PinStatus{}, err
	}
	for _, s := range found {
		if s.Status != replicate.Failed {
			return s, nil
		}
	}
	return client.Add(ctx, replicate.Pin{
		CID: p.built.Root, Name: pinName(p.req.Alias), Origins: a.origins(),
		Meta: map[string]string{replicate.MetaSite: p.name.String(), replicate.MetaAuditor: a.Network.ID().String()},
	})
}

// temporary lists the pins that this machine's publishes of the site have at a
// host: those of the given roots, or all.
func (a *Author) temporary(ctx context.Context, p *publication, client *replicate.Client, roots ...cid.Cid) (out []replicate.PinStatus, err error) {
	q := replicate.Query{
		CIDs: roots, Meta: map[string]string{replicate.MetaSite: p.name.String()},
		Status: []replicate.Status{replicate.Queued, replicate.Pinning, replicate.Pinned, replicate.Failed},
	}
	for s, err := range client.All(ctx, q) {
		if err != nil {
			return nil, err
		}
		if s.Pin.Meta[replicate.MetaName] == "" && s.Pin.Meta[replicate.MetaAuditor] == a.Network.ID().String() {
			out = append(out, s)
		}
	}
	return out, nil
}

// maxOrigins is how many addresses a pin may name (Pinning Service API).
const maxOrigins = 20

// origins is where a host may dial us, should the connection that we opened not do.
func (a *Author) origins() []string {
	addrs := a.Network.Addrs()
	return addrs[:min(len(addrs), maxOrigins)]
}

func pinName(alias string) string { return "holdfast " + alias }

// abandon takes back the temporary pins of a publish that failed cleanly. One
// that was killed leaves them, and the next run takes them up, or back.
func (a *Author) abandon(ctx context.Context, p *publication) {
	if p.placed == nil || !p.record.IsZero() || ctx.Err() != nil {
		return
	}
	if rootOf(p.best).Equals(p.built.Root) {
		return // they may be what keeps the published release where a name pin has not switched yet
	}
	var wg sync.WaitGroup
	for id, host := range p.placed.hosts {
		if h := p.placed.holding(id); h.State != "" && h.TempPin != "" {
			wg.Go(func() { a.dropPins(ctx, p, host, p.built.Root) })
		}
	}
	wg.Wait()
	// Nothing has changed: the copies of what is published stand as they stood.
	for _, row := range p.placed.before {
		row.TempPin = p.placed.tempPin(row.Host)
		if err := a.State.PutHolding(ctx, row); err != nil {
			a.Log.Warn("write holding", "err", err)
		}
	}
}

// dropPins deletes temporary pins at a host: those of the given roots, or all
// that this machine's publishes of the site left there, also the ones that
// were cut off. A host that can't be reached keeps them until it is asked
// again; that costs space, not safety.
func (a *Author) dropPins(ctx context.Context, p *publication, host state.Host, roots ...cid.Cid) {
	client := a.pins(host)
	found, err := a.temporary(ctx, p, client, roots...)
	for _, s := range found {
		if derr := client.Delete(ctx, s.RequestID); derr != nil && !errors.Is(derr, replicate.ErrNotFound) {
			err = derr
		}
	}
	if err != nil {
		a.Log.Warn("temporary pin stays", "host", host.Name, "err", err)
		return
	}
	p.placed.mu.Lock()
	h := p.placed.holdings[host.ID]
	h.TempPin = ""
	row := *h
	p.placed.mu.Unlock()
	if err := a.State.PutHolding(ctx, row); err != nil {
		a.Log.Warn("write holding", "err", err)
	}
}

// pins is the client of a host's pin service.
func (a *Author) pins(h state.Host) *replicate.Client {
	base, hc := a.face(h)
	return replicate.NewClient(base, h.Token, hc)
}

// requestTime is how long one request may take that has this time of its own.
func (a *Author) requestTime(own time.Duration) time.Duration {
	if a.RequestTimeout > 0 {
		return a.RequestTimeout
	}
	return own
}

// face is how a host's HTTP services are reached: by its URL, or over libp2p
// where it has none.
func (a *Author) face(h state.Host) (base string, hc *http.Client) {
	ai, err := addrInfo(h)
	switch {
	case h.URL != "":
		c := *a.HTTP
		base, hc = h.URL, &c
	case err != nil || a.Network == nil:
		base, hc = "http://"+h.ID.String()+".invalid", &http.Client{}
	default:
		base, hc = "http://"+h.ID.String(), a.Network.HTTPClient(ai)
	}
	hc.Timeout = a.RequestTimeout
	return base, hc
}
