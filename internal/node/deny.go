package node

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/holdfast-sites/holdfast/internal/control"
	"github.com/holdfast-sites/holdfast/naming/deny"
)

// deniedEvery is how often it is looked whether a denylist has changed.
const deniedEvery = 2 * time.Second

// openDenied reads the denylists: the home's, and the one that [admission] names.
func (n *Node) openDenied() (err error) {
	n.denied, err = deny.Open(n.denyConfig())
	return err
}

func (n *Node) denyConfig() deny.Config {
	cfg := deny.Config{Dir: filepath.Join(n.cfg.Home, "denylists")}
	if f := n.cfg.Admission.Denylist; f != "" {
		cfg.Files = []string{f}
	}
	return cfg
}

func (n *Node) watchDenied(ctx context.Context) error {
	return n.denied.Watch(ctx, deniedEvery, func(err error) {
		if err != nil {
			n.log.Error("what is denied is as it was", "err", err)
			return
		}
		n.log.Info("denylists read again", "rules", n.denied.Rules())
	})
}

// DenyRequest is about one path, CID, name or domain.
type DenyRequest struct {
	Item   string `json:"item"`
	Status int    `json:"status,omitempty"` // of HTTP answers: 410 (also where it is 0) or 451
	Reason string `json:"reason,omitempty"` // told to readers
}

// Denial says whether something is denied, and by what.
type Denial struct {
	Item   string `json:"item"`
	Denied bool   `json:"denied"`
	Status int    `json:"status,omitempty"`
	Reason string `json:"reason,omitempty"`
	Rule   string `json:"rule,omitempty"` // file and line
}

// DenyLists is what is denied here.
type DenyLists struct {
	Files []string `json:"files"`
	Rules int      `json:"rules"` // in all of them
	Local []string `json:"local"` // the lines that `deny add` wrote
}

// lists are the node's, or, in a command that opened no more than records, those of the home.
func (n *Node) lists() (*deny.Lists, error) {
	if n.denied != nil {
		return n.denied, nil
	}
	return deny.Open(n.denyConfig())
}

func (n *Node) denyAdd(_ context.Context, req DenyRequest) (Denial, error) {
	l, err := n.lists()
	if err != nil {
		return Denial{}, err
	}
	item, err := deny.Item(req.Item)
	if err == nil {
		err = l.Add(item, req.Status, req.Reason)
	}
	if err != nil {
		return Denial{}, control.Errorf(control.Usage, "%v", err)
	}
	return denial(l, item), nil
}

func (n *Node) denyRemove(_ context.Context, req DenyRequest) (Denial, error) {
	l, err := n.lists()
	if err != nil {
		return Denial{}, err
	}
	item, err := deny.Item(req.Item)
	if err == nil {
		err = l.Remove(item)
	}
	if errors.Is(err, deny.ErrNotListed) {
		return Denial{}, control.Errorf(control.NotFound, "%v", err)
	}
	if err != nil {
		return Denial{}, control.Errorf(control.Usage, "%v", err)
	}
	return denial(l, item), nil
}

func (n *Node) denyCheck(_ context.Context, req DenyRequest) (Denial, error) {
	l, err := n.lists()
	if err != nil {
		return Denial{}, err
	}
	item, err := deny.Item(req.Item)
	if err != nil {
		return Denial{}, control.Errorf(control.Usage, "%v", err)
	}
	return denial(l, item), nil
}

func (n *Node) denyList(context.Context, struct{}) (DenyLists, error) {
	l, err := n.lists()
	if err != nil {
		return DenyLists{}, err
	}
	out := DenyLists{Files: append([]string{}, l.Files()...), Rules: l.Rules()}
	local, err := l.Local()
	out.Local = append([]string{}, local...)
	return out, err
}

func denial(l *deny.Lists, item string) Denial {
	d := Denial{Item: item}
	var e *deny.Error
	if errors.As(l.Listed(item), &e) {
		d.Denied, d.Status, d.Reason, d.Rule = true, e.Status, e.Rule.Reason, e.Rule.String()
	}
	return d
}
