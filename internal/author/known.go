package author

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
)

// Known is what is known here of a site that was published here, without
// asking anybody. ErrNoSite where it was not.
func (a *Author) Known(ctx context.Context, n naming.Name) (SiteStatus, error) {
	s, err := a.State.SiteByName(ctx, n)
	if errors.Is(err, state.ErrNotFound) {
		return SiteStatus{}, fmt.Errorf("%w: %s", ErrNoSite, n)
	}
	if err != nil {
		return SiteStatus{}, err
	}
	return a.siteStatus(ctx, s)
}

// CopiesOf counts the copies of a site that stand proved, and says how many are wanted at the least.
func (a *Author) CopiesOf(ctx context.Context, s state.Site) (proved, wanted int, err error) {
	_, wanted = wantedOf(s)
	holdings, err := a.State.Holdings(ctx, s.Name)
	if err != nil {
		return 0, wanted, err
	}
	for _, hold := range holdings {
		hs, err := a.stateAt(ctx, s, state.Host{ID: hold.Host}, hold)
		if err != nil {
			return 0, wanted, err
		}
		if hs.State == Proved {
			proved++
		}
	}
	return proved, wanted, nil
}
