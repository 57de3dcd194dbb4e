package state_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
	"github.com/holdfast-sites/holdfast/replicate"
)

// tenantPin is a leased pin of a tenant with this quota.
func tenantPin(t *testing.T, db *state.DB, id, tenant string) {
	t.Helper()
	r := row(id)
	r.Tenant = tenant
	addPin(t, db, r)
	if _, err := db.LeasePin(t.Context(), id, lease("me", start)); err != nil {
		t.Fatal(err)
	}
}

func account(t *testing.T, db *state.DB, tenant string) replicate.Account {
	t.Helper()
	a, err := db.Account(t.Context(), tenant)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func newToken(t *testing.T, db *state.DB, scope replicate.Scope) string {
	t.Helper()
	tok, _, err := replicate.CreateToken(t.Context(), db, "label", scope)
	if err != nil {
		t.Fatal(err)
	}
	return tok.ID
}

func TestATokensScopeComesBackAsItWasGiven(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	db := open(t, path)
	scope := replicate.Scope{
		Sites: []naming.Name{namingtest.Signer(t, "a").Name(), namingtest.Signer(t, "b").Name()}, Quota: 1, MaxPinBytes: 2, Rate: 3,
		Expires: start.Add(time.Hour), Peer: namingtest.Signer(t, "p").Name().Peer(),
	}
	id := newToken(t, db, scope)
	if err := db.NoteTokenUsed(t.Context(), id, start); err != nil {
		t.Fatal(err)
	}
	db.Close()
	db = open(t, path)
	ts, err := db.Tokens(t.Context())
	if err != nil || len(ts) != 1 || !reflect.DeepEqual(ts[0].Scope, scope) || !ts[0].Used.Equal(start) {
		t.Fatalf("%+v, %v", ts, err)
	}
}

func TestClaimsOfTwoProcessesNeverOverrunAQuotaTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	dbs := []*state.DB{open(t, path), open(t, path)}
	tenant := newToken(t, dbs[0], replicate.Scope{Quota: 1000})
	for i := range 8 {
		tenantPin(t, dbs[0], fmt.Sprint(i), tenant)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			db, id, slack := dbs[i%2], fmt.Sprint(i), int64(0)
			for stored := int64(0); ; stored += 30 {
				if slack -= 30; slack >= 0 {
					continue
				}
				var err error
				c := replicate.Claim{Fresh: stored == 0, Since: stored, Need: 30, Want: 100}
				if stored > 0 {
					c.Since = 0 // what counts here is what is reserved
				}
				if slack, err = db.Reserve(t.Context(), id, "me", c, replicate.Room{}); errors.Is(err, replicate.ErrQuota) {
					return
				} else if err != nil {
					t.Error(err)
					return
				}
				if a := account(t, db, tenant); a.Reserved > 1000 {
					t.Errorf("%d are reserved of 1000", a.Reserved)
					return
				}
				if stored > 300 {
					return
				}
			}
		})
	}
	wg.Wait()
	if a := account(t, dbs[0], tenant); a.Reserved == 0 || a.Reserved > 1000 {
		t.Errorf("%d are reserved of 1000", a.Reserved)
	}
}

func TestWhatIsSettledCountsAndWhatIsReservedGoesWithItsPin(t *testing.T) {
	db := fresh(t)
	ctx := t.Context()
	tenant := newToken(t, db, replicate.Scope{Quota: 1000})
	tenantPin(t, db, "a", tenant)
	tenantPin(t, db, "b", tenant)
	if _, err := db.Reserve(ctx, "a", "me", replicate.Claim{Fresh: true, Need: 100, Want: 600}, replicate.Room{}); err != nil {
		t.Fatal(err)
	}
	if err := db.Settle(ctx, "a", "me", replicate.Settlement{Held: 300, Reserved: 200, Check: true}, replicate.Room{}); err != nil {
		t.Fatal(err)
	}
	if a := account(t, db, tenant); a.Used != 300 || a.Reserved != 200 || a.Stored != 0 || a.Exact || a.Pins != 2 || a.Free() != 500 {
		t.Errorf("%+v", a)
	}
	full := new(replicate.QuotaError)
	err := db.Settle(ctx, "b", "me", replicate.Settlement{Held: 501, Check: true}, replicate.Room{})
	if !errors.As(err, &full) || full.Exact || full.Need != 501 || full.Used != 300 || full.Reserved != 200 {
		t.Fatalf("over the quota: %v", err)
	}
	a := account(t, db, tenant)
	measured := &replicate.Measured{Version: a.Version, Used: 700, After: 700} // 101 of the 501 are a's too
	if err := db.Settle(ctx, "b", "me", replicate.Settlement{Held: 501, Check: true, Measured: measured}, replicate.Room{}); err != nil {
		t.Fatalf("what was counted: %v", err)
	}
	if err := db.Measure(ctx, tenant, *measured); !errors.Is(err, replicate.ErrStale) {
		t.Errorf("counted before the books changed: %v", err)
	}
	if a = account(t, db, tenant); a.Used != 700 || !a.Exact {
		t.Errorf("%+v", a)
	}
	if _, err := db.Reserve(ctx, "b", "somebody", replicate.Claim{Need: 1}, replicate.Room{}); !errors.Is(err, replicate.ErrLeased) {
		t.Errorf("a claim without a lease: %v", err)
	}
	if err := db.RemovePin(ctx, tenant, "a", start); err != nil {
		t.Fatal(err)
	}
	if a = account(t, db, tenant); a.Reserved != 0 || a.Used != 700 {
		t.Errorf("removed: %+v", a)
	}
	if err := db.ForgetPin(ctx, "a", "me"); err != nil {
		t.Fatal(err)
	}
	if a = account(t, db, tenant); a.Exact || a.Used != 700 {
		t.Errorf("forgotten, and nobody has counted: %+v", a)
	}
	if err := db.Measure(ctx, tenant, replicate.Measured{Version: a.Version, Used: 501}); err != nil {
		t.Fatal(err)
	}
	if err := db.RevokeToken(ctx, tenant); err != nil {
		t.Fatal(err)
	}
	if a = account(t, db, tenant); a.Used != 501 || a.Quota != 1000 || a.Label != "label" {
		t.Errorf("of a revoked token: %+v", a)
	}
}

func TestAHostsRoomIsConditionalOnItsBooks(t *testing.T) {
	db := fresh(t)
	ctx := t.Context()
	tenantPin(t, db, "a", "one")
	tenantPin(t, db, "b", "two")
	host := account(t, db, "")
	room := replicate.Room{Capacity: 1000, Used: 400, Version: host.Version}
	if slack, err := db.Reserve(ctx, "a", "me", replicate.Claim{Fresh: true, Need: 500, Want: 900}, room); err != nil || slack != 550 {
		t.Fatalf("%d, %v; want what is needed and half of what is left", slack, err)
	}
	full := new(replicate.QuotaError)
	if _, err := db.Reserve(ctx, "b", "me", replicate.Claim{Fresh: true, Need: 51}, room); !errors.As(err, &full) || full.Of != "this host" {
		t.Fatalf("over the capacity: %v", err)
	}
	if err := db.Settle(ctx, "a", "me", replicate.Settlement{Held: 100}, room); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Reserve(ctx, "b", "me", replicate.Claim{Fresh: true, Need: 51}, room); !errors.Is(err, replicate.ErrStale) {
		t.Errorf("by what was counted before: %v", err)
	}
	disk := replicate.Room{Free: 1000}
	if _, err := db.Reserve(ctx, "a", "me", replicate.Claim{Fresh: true, Need: 600}, disk); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Reserve(ctx, "b", "me", replicate.Claim{Fresh: true, Need: 401}, disk); !errors.Is(err, replicate.ErrQuota) {
		t.Errorf("what is promised on the disk is given away: %v", err)
	}
	if _, err := db.Reserve(ctx, "b", "me", replicate.Claim{Fresh: true, Need: 1}, replicate.Room{Free: -1}); !errors.Is(err, replicate.ErrQuota) {
		t.Errorf("on a full disk: %v", err)
	}
}

func TestTrafficIsAddedUpByDay(t *testing.T) {
	db := fresh(t)
	for _, at := range []time.Time{start, start.Add(time.Hour), start.Add(24 * time.Hour)} {
		if err := db.AddTraffic(t.Context(), at, replicate.Traffic{Ingress: 1, Egress: 10}); err != nil {
			t.Fatal(err)
		}
	}
	for at, want := range map[time.Time]replicate.Traffic{
		start: {Ingress: 2, Egress: 20}, start.Add(24 * time.Hour): {Ingress: 1, Egress: 10}, start.Add(-24 * time.Hour): {},
	} {
		if got, err := db.Traffic(t.Context(), at); err != nil || got != want {
			t.Errorf("%v: %+v, %v; want %+v", at, got, err, want)
		}
	}
}
