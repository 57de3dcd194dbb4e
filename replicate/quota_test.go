package replicate_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
	"github.com/holdfast-sites/holdfast/replicate"
)

// limited gives the host's tenant a token of this scope.
func (h *pinHost) limited(s replicate.Scope) {
	h.t.Helper()
	h.tenant, h.token = h.scoped("limited", s)
}

func (h *pinHost) scoped(label string, s replicate.Scope) (replicate.Tenant, string) {
	h.t.Helper()
	tok, secret, err := replicate.CreateToken(h.t.Context(), h.db, label, s)
	if err != nil {
		h.t.Fatal(err)
	}
	return replicate.Tenant{ID: tok.ID, Label: label, Scope: s}, secret
}

// as does something as another tenant.
func (h *pinHost) as(t replicate.Tenant, do func()) {
	mine := h.tenant
	h.tenant = t
	defer func() { h.tenant = mine }()
	do()
}

func (h *pinHost) account() replicate.Account {
	h.t.Helper()
	a, err := h.db.Account(h.t.Context(), h.tenant.ID)
	if err != nil {
		h.t.Fatal(err)
	}
	return a
}

// uses is what the tenant's pins keep in truth.
func (h *pinHost) uses() int64 {
	h.t.Helper()
	ids, err := h.db.PinIDs(h.t.Context(), h.tenant.ID)
	if err != nil {
		h.t.Fatal(err)
	}
	var owners []string
	for _, id := range ids {
		owners = append(owners, replicate.Owner(id))
	}
	u, err := h.blocks.GroupUsage(h.t.Context(), map[string][]string{"": owners})
	if err != nil {
		h.t.Fatal(err)
	}
	return u[""].Bytes
}

// wantBooks fails unless the tenant uses so much, by the books and in truth, and has so much reserved.
func (h *pinHost) wantBooks(used, reserved int64) {
	h.t.Helper()
	if truth := h.uses(); truth != used {
		h.t.Fatalf("%d bytes are used, want %d", truth, used)
	}
	waitFor(h.t, fmt.Sprintf("%d bytes used and %d reserved", used, reserved), func() bool { // counting has its pauses
		info, err := h.service.TenantInfo(h.t.Context(), h.tenant)
		return err == nil && info.UsedBytes == used && info.ReservedBytes == reserved
	})
}

func (h *pinHost) wantEmpty() {
	h.t.Helper()
	waitFor(h.t, "the space to come back", func() bool {
		h.collect()
		n, err := h.blocks.Size(h.t.Context())
		return err == nil && n == 0
	})
}

// sizeOf is how many unique bytes a pin keeps.
func sizeOf(t *testing.T, st replicate.PinStatus) int64 {
	t.Helper()
	n, err := strconv.ParseInt(st.Info[replicate.InfoBytes], 10, 64)
	if err != nil {
		t.Fatalf("%v: %v", st.Info, err)
	}
	return n
}

func TestAQuotaReachedInMidFetchFailsThePinAndTheSpaceComesBack(t *testing.T) {
	h := newPinHost(t)
	h.limited(replicate.Scope{Quota: 10_000})
	h.serve()
	id := h.add(replicate.Pin{CID: h.site("v1", 20, 1000)})
	st := h.waitStatus(id, replicate.Failed)
	if why := st.Info[replicate.InfoLastError]; !strings.Contains(why, "quota") || !strings.Contains(why, "10000") || st.Info[replicate.InfoNextTry] != "" {
		t.Errorf("info %v; want the quota named and no next try", st.Info)
	}
	if n := len(h.fetcher.copied); n == 0 || n >= 20 {
		t.Errorf("%d blocks were stored of 21 that don't fit", n)
	}
	h.wantKept(id)
	h.wantBooks(0, 0)
	h.wantEmpty()
	h.waitStatus(h.add(replicate.Pin{CID: h.site("v1", 5, 1000)}), replicate.Pinned)
}

func TestWhatATenantsPinsShareCountsOnce(t *testing.T) {
	h := newPinHost(t)
	h.limited(replicate.Scope{Quota: 14_000})
	h.serve()
	first := h.waitStatus(h.add(replicate.Pin{CID: h.site("v1", 10, 1000)}), replicate.Pinned)
	second := h.waitStatus(h.add(replicate.Pin{CID: h.site("v2", 10, 1000)}), replicate.Pinned)
	if sum := sizeOf(t, first) + sizeOf(t, second); sum <= 14_000 {
		t.Fatalf("%d bytes fit twice", sum)
	}
	h.wantBooks(h.uses(), 0)
	if a := h.account(); a.Used > 14_000 || a.Used < 11_000 {
		t.Errorf("used %d", a.Used)
	}
}

// What somebody else keeps needs no fetch and no disk; it counts for this tenant even so.
func TestWhatIsHereForAnotherTenantCountsForThisOneToo(t *testing.T) {
	h := newPinHost(t)
	h.serve()
	root := h.site("v1", 20, 1000)
	h.waitStatus(h.add(replicate.Pin{CID: root}), replicate.Pinned)
	h.limited(replicate.Scope{Quota: 10_000})
	id := h.add(replicate.Pin{CID: root})
	if st := h.waitStatus(id, replicate.Failed); !strings.Contains(st.Info[replicate.InfoLastError], "quota") {
		t.Errorf("info %v", st.Info)
	}
	h.wantKept(id)
	h.wantBooks(0, 0)
	h.wantWhole(root)
}

func TestTwoPinsInTwoProcessesNeverOverrunAQuotaTogether(t *testing.T) {
	h := newPinHost(t)
	h.limited(replicate.Scope{Quota: 10_000})
	var inHand atomic.Int32
	both := make(chan struct{})
	h.fetcher.set(func(f *copier) {
		f.gate = func(ctx context.Context, _ blockstore.Session, n int) error {
			if n == 4 && inHand.Add(1) == 2 {
				close(both)
			}
			if n == 4 {
				<-both
			}
			return nil
		}
	})
	a := h.add(replicate.Pin{CID: h.folder(map[string]string{"1": strings.Repeat("a", 1000), "2": strings.Repeat("b", 1500), "3": strings.Repeat("c", 2000), "4": strings.Repeat("d", 2500)})})
	b := h.add(replicate.Pin{CID: h.folder(map[string]string{"1": strings.Repeat("e", 1000), "2": strings.Repeat("f", 1500), "3": strings.Repeat("g", 2000), "4": strings.Repeat("h", 2500)})})
	h.serve()
	first := h.service
	h.build(func(c *replicate.ServiceConfig) { c.Identity = "second" })
	h.serve()
	h.service = first
	ended := func(id string) bool {
		st := h.status(id)
		return st.Status.Ended() || st.Info[replicate.InfoNextTry] != ""
	}
	waitFor(t, "both to have tried", func() bool { return ended(a) && ended(b) })
	h.fetcher.set(func(f *copier) { f.gate = nil })
	var pinned int
	for _, id := range []string{a, b} {
		st := h.wait(id, "ended", func(st replicate.PinStatus) bool { return st.Status.Ended() })
		if st.Status == replicate.Pinned {
			pinned++
		} else if !strings.Contains(st.Info[replicate.InfoLastError], "quota") {
			t.Errorf("failed for another reason: %v", st.Info)
		}
	}
	if pinned != 1 {
		t.Fatalf("%d of two pins that fit one at a time are pinned", pinned)
	}
	h.wantBooks(h.uses(), 0)
}

func TestADeclaredSizeIsReservedFromTheStart(t *testing.T) {
	h := newPinHost(t)
	h.limited(replicate.Scope{Quota: 10_000})
	site := namingtest.Signer(t, "site")
	id := h.add(namePin(site, h.site("v1", 3, 1000), replicate.MetaMaxBytes, "8000"))
	h.wantBooks(0, 8000)
	if st := h.status(id); st.Info[replicate.InfoReserved] != "8000" {
		t.Errorf("info %v", st.Info)
	}
	too := namePin(namingtest.Signer(t, "other"), h.site("v2", 1, 10), replicate.MetaMaxBytes, "2001")
	if _, err := h.service.Add(t.Context(), h.tenant, too); !errors.Is(err, replicate.ErrQuota) {
		t.Fatalf("what was reserved is given away: %v", err)
	}
	h.serve()
	st := h.waitStatus(id, replicate.Pinned)
	held := sizeOf(t, st)
	h.wantBooks(held, 8000-held)
	if err := h.service.Delete(t.Context(), h.tenant, id); err != nil {
		t.Fatal(err)
	}
	h.waitGone(id)
	waitFor(t, "the row to go", func() bool { return h.account().Pins == 0 && h.account().Version > 1 })
	waitFor(t, "room for the other", func() bool { _, err := h.service.Add(t.Context(), h.tenant, too); return err == nil })
}

func TestAPinThatReplacesAnotherHasThatOnesRoom(t *testing.T) {
	h := newPinHost(t)
	h.limited(replicate.Scope{Quota: 10_000})
	h.serve()
	site := namingtest.Signer(t, "site")
	old := h.add(namePin(site, h.site("v1", 6, 1000), replicate.MetaMaxBytes, "9000"))
	h.waitStatus(old, replicate.Pinned)
	next, err := h.service.Replace(t.Context(), h.tenant, old, namePin(site, h.site("v2", 6, 1000), replicate.MetaMaxBytes, "9500"))
	if err != nil {
		t.Fatal(err)
	}
	st := h.waitStatus(next.RequestID, replicate.Pinned)
	h.waitGone(old)
	waitFor(t, "the books to be even", func() bool { return h.account().Pins == 1 })
	h.wantBooks(sizeOf(t, st), 9500-sizeOf(t, st))
}

func TestAHostsCapacityHoldsOverAllTenants(t *testing.T) {
	h := newPinHost(t, func(c *replicate.ServiceConfig) { c.Capacity = 10_000 })
	h.serve()
	h.waitStatus(h.add(replicate.Pin{CID: h.site("v1", 6, 1000)}), replicate.Pinned)
	other, _ := h.newTenant("other")
	h.as(other, func() {
		st := h.waitStatus(h.add(replicate.Pin{CID: h.folder(map[string]string{"a": strings.Repeat("x", 9000)})}), replicate.Failed)
		if !strings.Contains(st.Info[replicate.InfoLastError], "this host") {
			t.Errorf("info %v", st.Info)
		}
		h.waitStatus(h.add(replicate.Pin{CID: h.folder(map[string]string{"a": strings.Repeat("x", 2000)})}), replicate.Pinned)
		declared := withMeta(replicate.Pin{CID: h.site("v2", 1, 1)}, replicate.MetaMaxBytes, "5000")
		if _, err := h.service.Add(t.Context(), h.tenant, declared); !errors.Is(err, replicate.ErrQuota) {
			t.Errorf("a promise beyond the capacity: %v", err)
		}
	})
	free, err := h.service.FreeBytes(t.Context())
	u, uerr := h.blocks.Usage(t.Context(), "")
	if err != nil || uerr != nil || free != 10_000-u.Bytes {
		t.Errorf("free %d, %v; used %d, %v", free, err, u.Bytes, uerr)
	}
}

func TestTheDiskIsNeverFilled(t *testing.T) {
	var disk atomic.Int64
	disk.Store(5000)
	var h *pinHost
	h = newPinHost(t, func(c *replicate.ServiceConfig) {
		c.FreeDisk = func() int64 {
			size, err := h.blocks.Size(t.Context())
			if free := disk.Load() - size; free > 0 && err == nil {
				return free
			}
			return -1
		}
	})
	h.serve()
	st := h.waitStatus(h.add(replicate.Pin{CID: h.site("v1", 9, 1000)}), replicate.Failed)
	if !strings.Contains(st.Info[replicate.InfoLastError], "disk") {
		t.Errorf("info %v", st.Info)
	}
	h.wantEmpty()
	disk.Store(0)
	if _, err := h.service.Add(t.Context(), h.tenant, withMeta(replicate.Pin{CID: h.site("v1", 1, 1)}, replicate.MetaMaxBytes, "1")); !errors.Is(err, replicate.ErrQuota) {
		t.Errorf("a promise on a full disk: %v", err)
	}
	disk.Store(50_000)
	h.waitStatus(h.add(replicate.Pin{CID: h.site("v1", 9, 1000)}), replicate.Pinned)
}

func TestANamePinThatTheQuotaRefusedGoesOnOnceThereIsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPinHost(t)
		h.limited(replicate.Scope{Quota: 14_000})
		h.serve()
		site := namingtest.Signer(t, "site")
		v1, v2 := h.folder(map[string]string{"a": strings.Repeat("1", 5000)}), h.folder(map[string]string{"a": strings.Repeat("2", 6000)})
		id := h.add(namePin(site, v1))
		other := h.add(replicate.Pin{CID: h.folder(map[string]string{"a": strings.Repeat("3", 4000)})})
		h.publish(site, toRoot(v1, 1))
		time.Sleep(time.Second)
		h.publish(site, toRoot(v2, 2))
		time.Sleep(5 * time.Minute)
		st := h.status(id)
		if !at(v1, 1)(st) || !strings.Contains(st.Info[replicate.InfoLastError], "quota") {
			t.Fatalf("%s %v; want the first root, and why", st.Status, st.Info)
		}
		tries := len(h.fetcher.asked())
		h.wantWhole(v1)
		time.Sleep(time.Hour)
		if n := len(h.fetcher.asked()); n != tries {
			t.Errorf("fetched %d times more of what doesn't fit", n-tries)
		}
		if err := h.service.Delete(t.Context(), h.tenant, other); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		if st := h.status(id); !at(v2, 2)(st) || st.Info[replicate.InfoLastError] != "" {
			t.Fatalf("after there is room: %s %v", st.Status, st.Info)
		}
	})
}

func TestASiteThatOutgrowsWhatWasDeclaredStaysAsItWas(t *testing.T) {
	h := newPinHost(t)
	h.limited(replicate.Scope{Quota: 20_000})
	h.serve()
	site := namingtest.Signer(t, "site")
	v1, huge := h.site("v1", 3, 1000), h.site("huge", 60, 1000)
	id := h.add(namePin(site, v1, replicate.MetaMaxBytes, "8000"))
	h.publish(site, toRoot(v1, 1))
	h.wait(id, "at the first root", at(v1, 1))
	h.publish(site, toRoot(huge, 2))
	st := h.wait(id, "refused", func(st replicate.PinStatus) bool { return st.Info[replicate.InfoLastError] != "" })
	if !at(v1, 1)(st) || !strings.Contains(st.Info[replicate.InfoLastError], "8000") {
		t.Fatalf("%s %v", st.Status, st.Info)
	}
	h.wantWhole(v1)
	held := sizeOf(t, st)
	waitFor(t, "the books to be even", func() bool { a := h.account(); return a.Reserved == 8000-held && a.Stored == 0 })
	h.collect()
	if n, err := h.blocks.Size(t.Context()); err != nil || n > 8000 {
		t.Errorf("%d bytes are left, %v", n, err)
	}
	if rec, err := h.db.Best(t.Context(), site.Name()); err != nil || rec.Sequence() != 2 {
		t.Errorf("the record that is handed on: %v, %v; want the newest", rec, err)
	}
}

// Whatever happens, the books never say less than what is kept, and counting makes them exact.
func TestTheBooksNeverSayLessThanWhatIsKept(t *testing.T) {
	h := newPinHost(t)
	h.limited(replicate.Scope{Quota: 60_000})
	h.serve()
	r := rand.New(rand.NewPCG(1, 2))
	var ids []string
	for i := range 60 {
		switch {
		case len(ids) > 3 && r.IntN(3) == 0:
			k := r.IntN(len(ids))
			if err := h.service.Delete(t.Context(), h.tenant, ids[k]); err != nil {
				t.Fatal(err)
			}
			ids = append(ids[:k], ids[k+1:]...)
		default:
			p := replicate.Pin{CID: h.site(fmt.Sprint("v", r.IntN(6)), 2+r.IntN(10), 1000)}
			if r.IntN(4) == 0 {
				p = withMeta(p, replicate.MetaMaxBytes, strconv.Itoa(2000+r.IntN(12_000)))
			}
			st, err := h.service.Add(t.Context(), h.tenant, p)
			if errors.Is(err, replicate.ErrQuota) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, st.RequestID)
		}
		if i%5 == 0 {
			for _, id := range ids {
				h.wait(id, "ended", func(st replicate.PinStatus) bool { return st.Status.Ended() })
			}
			if a, truth := h.account(), h.uses(); a.Used < truth || truth > 60_000 {
				t.Fatalf("the books say %d, kept are %d of 60000", a.Used, truth)
			}
		}
	}
	for _, id := range ids {
		if err := h.service.Delete(t.Context(), h.tenant, id); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "all pins to go", func() bool { ids, err := h.db.PinIDs(t.Context(), h.tenant.ID); return err == nil && len(ids) == 0 })
	h.wantBooks(0, 0)
}

// Pins of a program that kept no books are booked when the service starts.
func TestPinsFromBeforeThereWereBooksAreBooked(t *testing.T) {
	h := newPinHost(t)
	stop := h.serve()
	site := namingtest.Signer(t, "site")
	id := h.add(namePin(site, h.site("v1", 3, 1000), replicate.MetaMaxBytes, "8000"))
	held := sizeOf(t, h.waitStatus(id, replicate.Pinned))
	stop()
	raw, err := sql.Open("sqlite", h.db.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	for _, q := range []string{"UPDATE pins SET held = -1, reserved = 0", "UPDATE tenants SET used = 0, exact = 0"} {
		if _, err := raw.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	h.build()
	h.serve()
	waitFor(t, "the books", func() bool { ids, err := h.db.Unbooked(t.Context()); return err == nil && len(ids) == 0 })
	h.wantBooks(held, 8000-held)
}
