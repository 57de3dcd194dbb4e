package replicate

import (
	"fmt"
	"slices"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/deny"
)

// AdmissionConfig is what a host's operator lets in. The zero value is everything.
type AdmissionConfig struct {
	Allow        []naming.Name // sites; nil: any, and pins without one
	MaxSiteBytes int64         // unique bytes under one root; 0: no limit
	Denied       *deny.Lists   // nil: nothing
}

// Admission decides which pins a host takes. A nil Admission takes all. Safe for concurrent use.
type Admission struct{ cfg AdmissionConfig }

// NewAdmission makes one of what the operator says.
func NewAdmission(cfg AdmissionConfig) *Admission { return &Admission{cfg} }

// ErrDenied says that the operator doesn't want something here. It is an ErrForbidden.
var ErrDenied = fmt.Errorf("%w: denied by the operator of this host", ErrForbidden)

// Admit refuses a pin of a site that the operator doesn't take, or that is denied. ErrForbidden.
func (a *Admission) Admit(root cid.Cid, terms PinTerms) error {
	if a == nil {
		return nil
	}
	if err := a.Denied(terms.Site, root); err != nil {
		return err
	}
	switch {
	case len(a.cfg.Allow) == 0 || !terms.Site.IsZero() && slices.Contains(a.cfg.Allow, terms.Site):
		return nil
	case terms.Site.IsZero():
		return fmt.Errorf("%w: this host takes certain sites only: say which by %s or %s", ErrForbidden, MetaName, MetaSite)
	}
	return fmt.Errorf("%w: this host doesn't take %s", ErrForbidden, terms.Site)
}

// Denied is ErrDenied where the site or one of the roots is denied. The zero name is no site.
func (a *Admission) Denied(site naming.Name, roots ...cid.Cid) error {
	if a == nil {
		return nil
	}
	if !site.IsZero() {
		if err := a.cfg.Denied.Name(site); err != nil {
			return fmt.Errorf("%w: %v", ErrDenied, err)
		}
	}
	for _, c := range roots {
		if !c.Defined() {
			continue
		}
		if err := a.cfg.Denied.CID(c); err != nil {
			return fmt.Errorf("%w: %v", ErrDenied, err)
		}
	}
	return nil
}

// MaxSiteBytes is how many unique bytes one root may have; 0: no limit.
func (a *Admission) MaxSiteBytes() int64 {
	if a == nil {
		return 0
	}
	return a.cfg.MaxSiteBytes
}
