package node

import (
	"context"
	"time"

	"github.com/holdfast-sites/holdfast/internal/control"
	"github.com/holdfast-sites/holdfast/replicate"
)

// PinsRequest selects pins of all tenants.
type PinsRequest struct {
	Failing bool   `json:"failing,omitempty"` // only those that failed, or whose last try did
	Tenant  string `json:"tenant,omitempty"`  // only this one's: label or id
}

// PinLine is a pin for who runs the host.
type PinLine struct {
	ID       string     `json:"id"`
	Tenant   string     `json:"tenant"`
	Label    string     `json:"label"` // of the tenant
	Name     string     `json:"name"`  // as the tenant calls it
	Site     string     `json:"site"`  // the name that it follows or belongs to; empty: none
	Role     string     `json:"role"`  // of a name pin: holder, standby; else empty
	CID      string     `json:"cid"`
	Root     string     `json:"root"` // of a name pin, the name's current one; empty: not known yet
	Status   string     `json:"status"`
	Bytes    int64      `json:"bytes"` // kept for it, each block once
	Reserved int64      `json:"reserved_bytes"`
	Done     int64      `json:"bytes_done"` // of the fetch in hand, or of the last one
	Error    string     `json:"error"`
	Sources  string     `json:"sources"`
	NextTry  *time.Time `json:"next_try"` // where something failed: when it is tried again; null: never
	Created  time.Time  `json:"created"`
}

// PinList is the list, as an object.
type PinList struct {
	Pins []PinLine `json:"pins"`
}

// operatorPins lists the pins of all tenants, the newest first.
func (n *Node) operatorPins(ctx context.Context, req PinsRequest) (PinList, error) {
	accs, err := n.state.Accounts(ctx)
	if err != nil {
		return PinList{}, err
	}
	labels, wanted := map[string]string{}, map[string]bool{}
	for _, a := range accs {
		labels[a.Tenant] = a.Label
		if a.Tenant == req.Tenant || a.Label == req.Tenant {
			wanted[a.Tenant] = true
		}
	}
	if req.Tenant != "" && len(wanted) == 0 {
		return PinList{}, control.Errorf(control.NotFound, "no tenant %q; `holdfast operator usage` shows them", req.Tenant)
	}
	out := PinList{Pins: []PinLine{}}
	err = n.eachPin(ctx, func(row replicate.PinRow) {
		if req.Tenant != "" && !wanted[row.Tenant] || req.Failing && row.LastError == "" && row.Status != replicate.Failed {
			return
		}
		out.Pins = append(out.Pins, pinLine(row, labels[row.Tenant]))
	})
	return out, err
}

func pinLine(row replicate.PinRow, label string) PinLine {
	terms, _ := row.Pin.Terms() // was checked when it came
	l := PinLine{
		ID: row.ID, Tenant: row.Tenant, Label: label, Name: row.Pin.Name, CID: row.Pin.CID.String(), Status: string(row.Status),
		Bytes: row.Held, Reserved: row.Reserved, Done: row.Done.Bytes, Error: row.LastError, Sources: row.Sources, Created: row.Created,
	}
	if !terms.Site.IsZero() {
		l.Site = terms.Site.String()
	}
	if !terms.Follow.IsZero() {
		l.Role = replicate.RoleHolder
		if terms.Standby {
			l.Role = replicate.RoleStandby
		}
	}
	if row.Root.Defined() {
		l.Root = row.Root.String()
	}
	if row.LastError != "" {
		l.NextTry = timeOrNil(row.Due)
	}
	return l
}

// eachPin goes over all pins, the newest first.
func (n *Node) eachPin(ctx context.Context, do func(replicate.PinRow)) error {
	seen := map[string]bool{}
	for before := (time.Time{}); ; {
		rows, _, err := n.state.ListPins(ctx, "", replicate.Query{Before: before, Status: everyStatus, Limit: replicate.MaxQueryLimit})
		if err != nil {
			return err
		}
		fresh := false
		for _, row := range rows {
			if !seen[row.ID] {
				seen[row.ID], fresh = true, true
				do(row)
			}
			// Pins of two tenants may be of the same time.
			before = row.Created.Add(time.Microsecond)
		}
		if !fresh {
			return nil
		}
	}
}
