package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/control"
	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// What is left free on the disk whatever pins ask for: the smaller of the two.
const (
	diskReserve = 1 << 30 // bytes
	diskShare   = 20      // one part of the disk in so many
)

// freeDisk is how many bytes pins may still write: 0 where that is not known, negative where there are none.
func (n *Node) freeDisk() int64 {
	free, total := diskSpace(n.cfg.Home)
	if total == 0 {
		return 0
	}
	if free -= min(diskReserve, total/diskShare); free <= 0 {
		return -1
	}
	return free
}

// openAdmission reads the [admission] table.
func (n *Node) openAdmission() (err error) {
	cfg := replicate.AdmissionConfig{MaxSiteBytes: n.cfg.Admission.MaxSiteBytes, Denied: n.denied}
	for _, text := range n.cfg.Admission.Allow {
		name, err := naming.ParseName(text)
		if err != nil {
			return fmt.Errorf("admission.allow: %w", err)
		}
		cfg.Allow = append(cfg.Allow, name)
	}
	n.admission = replicate.NewAdmission(cfg)
	return nil
}

// metaDraining is since when the host wants to be empty, RFC 3339; empty or missing: it doesn't.
const metaDraining = "draining"

// drainingSince is since when the host takes no new pins; zero where it does.
func (n *Node) drainingSince(ctx context.Context) (time.Time, error) {
	text, err := n.state.Meta(ctx, metaDraining)
	if errors.Is(err, state.ErrNotFound) || err == nil && text == "" {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: %s: %v", state.ErrCorrupt, metaDraining, err)
	}
	return at, nil
}

func (n *Node) draining(ctx context.Context) (bool, error) {
	at, err := n.drainingSince(ctx)
	return !at.IsZero(), err
}

// DrainRequest begins to empty the host, or takes that back.
type DrainRequest struct {
	Undo bool `json:"undo,omitempty"`
	Show bool `json:"show,omitempty"` // change nothing
	Wait bool `json:"wait,omitempty"` // until it is empty
}

// Drain is how far the emptying of a host is.
type Drain struct {
	Since   *time.Time    `json:"draining_since"` // null: it isn't being emptied
	Pins    int           `json:"pins"`           // left, of tenants
	Bytes   int64         `json:"bytes"`          // that they keep, at most; what several tenants have, more than once
	Tenants []DrainTenant `json:"tenants"`        // who has some left
}

// DrainTenant is what a tenant has left on a host that is being emptied.
type DrainTenant struct {
	ID    string `json:"id"`
	Label string `json:"label"`
	Pins  int    `json:"pins"`
	Bytes int64  `json:"bytes"` // at most, unless Exact
	Exact bool   `json:"exact"`
}

const drainLook = 2 * time.Second

// drain sets or takes back the flag, which outlives the process, and tells what is left. With Wait it comes back when
// there is nothing left.
func (n *Node) drain(ctx context.Context, req DrainRequest, report func(author.Event)) (Drain, error) {
	was, err := n.drainingSince(ctx)
	if err != nil {
		return Drain{}, err
	}
	switch {
	case req.Undo && req.Wait:
		return Drain{}, control.Errorf(control.Usage, "there is nothing to wait for when the host is not emptied any more")
	case req.Show:
	case req.Undo:
		err = n.state.PutMeta(ctx, metaDraining, "")
	case was.IsZero():
		err = n.state.PutMeta(ctx, metaDraining, time.Now().UTC().Format(time.RFC3339))
	}
	if err != nil {
		return Drain{}, err
	}
	t := time.NewTicker(drainLook)
	defer t.Stop()
	for left := 0; ; {
		d, err := n.drained(ctx)
		if err != nil || !req.Wait || d.Pins == 0 {
			return d, err
		}
		if d.Pins != left {
			report(author.Event{Step: "drain", Message: fmt.Sprintf("pins left: %d, tenants: %d", d.Pins, len(d.Tenants))})
		}
		left = d.Pins
		select {
		case <-ctx.Done():
			return d, ctx.Err()
		case <-t.C:
		}
	}
}

// drained is what tenants have left here.
func (n *Node) drained(ctx context.Context) (Drain, error) {
	since, err := n.drainingSince(ctx)
	if err != nil {
		return Drain{}, err
	}
	accs, err := n.state.Accounts(ctx)
	if err != nil {
		return Drain{}, err
	}
	d := Drain{Since: timeOrNil(since), Tenants: []DrainTenant{}}
	for _, a := range accs {
		if a.Pins == 0 || a.Tenant == replicate.LocalTenant.ID {
			continue
		}
		d.Pins += a.Pins
		d.Bytes += a.Used
		d.Tenants = append(d.Tenants, DrainTenant{a.Tenant, a.Label, a.Pins, a.Used, a.Exact})
	}
	return d, nil
}
