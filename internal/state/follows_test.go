package state_test

import (
	"errors"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
	"github.com/holdfast-sites/holdfast/replicate"
)

func TestACopyThatIsFollowedIsRememberedAndCanBeChanged(t *testing.T) {
	db := fresh(t)
	ctx, n := t.Context(), namingtest.Signer(t, "liked").Name()
	if _, err := db.FollowOf(ctx, n); !errors.Is(err, state.ErrNotFound) {
		t.Fatal(err)
	}
	for _, step := range []struct {
		do    func() error
		keep  int
		quota int64
	}{
		{func() error { return db.FollowCopy(ctx, n, 2, 500) }, 2, 500},
		{func() error { return db.Follow(ctx, n) }, 2, 500}, // the record is followed already
		{func() error { return db.FollowCopy(ctx, n, 1, 0) }, 1, 0},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		f, err := db.FollowOf(ctx, n)
		if err != nil || f.Keep != step.keep || f.Quota != step.quota || f.Added.IsZero() {
			t.Errorf("%+v, %v", f, err)
		}
	}
	if err := db.Unfollow(ctx, n); err != nil {
		t.Fatal(err)
	}
	if all, err := db.Follows(ctx); err != nil || len(all) != 0 {
		t.Error(all, err)
	}
}

func TestAPinsTermsChangeOnlyInTheHandsOfWhoHasLeasedIt(t *testing.T) {
	db := fresh(t)
	ctx, n := t.Context(), namingtest.Signer(t, "liked").Name()
	now := time.Now()
	row, err := db.AddPin(ctx, replicate.PinRow{
		ID: "p", Tenant: replicate.LocalTenant.ID, Pin: replicate.FollowPin(n, 2, 500), Created: now, Status: replicate.Pinned, Due: now,
	}, replicate.Room{})
	if err != nil {
		t.Fatal(err)
	}
	meta := replicate.FollowPin(n, 1, 900).Meta
	if err := db.ReplacePinMeta(ctx, row, "us", meta); !errors.Is(err, replicate.ErrLeased) {
		t.Fatalf("without a lease: %v", err)
	}
	lease := replicate.Lease{By: "us", Now: now, Until: now.Add(time.Minute)}
	if row, err = db.LeasePin(ctx, "p", lease); err != nil {
		t.Fatal(err)
	}
	if err := db.ReplacePinMeta(ctx, row, "us", meta); err != nil {
		t.Fatal(err)
	}
	if err := db.ReplacePinMeta(ctx, row, "us", map[string]string{}); !errors.Is(err, replicate.ErrLeased) {
		t.Errorf("it follows another name now: %v", err)
	}
	pins, err := db.TenantPins(ctx, replicate.LocalTenant.ID)
	if err != nil || len(pins) != 1 {
		t.Fatal(pins, err)
	}
	if terms, err := pins[0].Pin.Terms(); err != nil || terms.Keep != 1 || terms.MaxBytes != 900 || terms.Follow != n {
		t.Errorf("%+v, %v", terms, err)
	}
}
