package replicate

import (
	"context"
	"fmt"
)

// admit says what this host and the tenant's token allow a pin: its limit in bytes, 0 where the host's holds.
func (s *Service) admit(ctx context.Context, t Tenant, p Pin, terms PinTerms, replaces string) (limit int64, err error) {
	if t.ID == LocalTenant.ID { // the operator's own
		return 0, s.cfg.Admission.Denied(terms.Site, p.CID)
	}
	if err := t.Scope.covers(terms); err != nil {
		return 0, err
	}
	if err := s.cfg.Admission.Admit(p.CID, terms); err != nil {
		return 0, err
	}
	if err := s.draining(ctx, t, terms, replaces); err != nil {
		return 0, err
	}
	if m := t.Scope.MaxPinBytes; m > 0 && terms.MaxBytes > m {
		return 0, fmt.Errorf("%w: %s is %d, this token's limit for a pin is %d", ErrQuota, MetaMaxBytes, terms.MaxBytes, m)
	}
	return t.Scope.MaxPinBytes, nil
}

// draining refuses new pins of a host that wants to be empty. What takes the place of a pin of the same site is
// not new: an author who takes something back must be able to.
func (s *Service) draining(ctx context.Context, t Tenant, terms PinTerms, replaces string) error {
	if s.cfg.Draining == nil {
		return nil
	}
	if on, err := s.cfg.Draining(ctx); err != nil || !on {
		return err
	}
	if replaces != "" && !terms.Site.IsZero() {
		old, err := s.cfg.Pins.GetPin(ctx, t.ID, replaces)
		if err != nil {
			return err
		}
		if was, err := old.Pin.Terms(); err == nil && was.Site == terms.Site {
			return nil
		}
	}
	return ErrDraining
}
