package replicate_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
	"github.com/holdfast-sites/holdfast/replicate"
)

// call makes one request to a handler, without a network.
func (h *pinHost) call(method, path string, body io.Reader) (*httptest.ResponseRecorder, string) {
	h.t.Helper()
	r := httptest.NewRequest(method, path, body)
	r.Header.Set("Authorization", "Bearer "+h.token)
	w := httptest.NewRecorder()
	replicate.NewHandler(h.service, replicate.HandlerConfig{}).ServeHTTP(w, r)
	var f struct {
		Error struct{ Reason, Details string }
	}
	if w.Code >= 400 {
		if err := json.Unmarshal(w.Body.Bytes(), &f); err != nil || f.Error.Reason == "" {
			h.t.Fatalf("%s %s: %d with the body %q", method, path, w.Code, w.Body)
		}
	}
	return w, f.Error.Reason + ": " + f.Error.Details
}

func bodyOf(t *testing.T, p replicate.Pin) io.Reader {
	t.Helper()
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(b)
}

func TestATokenPinsTheSitesThatItIsForAndNoOthers(t *testing.T) {
	h := newPinHost(t)
	mine, other := namingtest.Signer(t, "mine"), namingtest.Signer(t, "other")
	h.limited(replicate.Scope{Sites: []naming.Name{mine.Name()}})
	root := namingtest.CID("root")
	for _, c := range []struct {
		what string
		pin  replicate.Pin
		code int
	}{
		{"a name pin of the site", namePin(mine, root), http.StatusAccepted},
		{"a root of the site", withMeta(replicate.Pin{CID: root}, replicate.MetaSite, mine.Name().String()), http.StatusAccepted},
		{"a name pin of another site", namePin(other, root), http.StatusForbidden},
		{"a root of another site", withMeta(replicate.Pin{CID: root}, replicate.MetaSite, other.Name().String()), http.StatusForbidden},
		{"a name pin of another site that says it is of this one", namePin(other, root, replicate.MetaSite, mine.Name().String()), http.StatusForbidden},
		{"a root of no site", replicate.Pin{CID: root}, http.StatusForbidden},
	} {
		if w, why := h.call("POST", "/pins", bodyOf(t, c.pin)); w.Code != c.code || w.Code == 403 && !strings.HasPrefix(why, "FORBIDDEN: ") {
			t.Errorf("%s: %d %s, want %d", c.what, w.Code, why, c.code)
		}
	}
}

func TestATokensLimitForOnePinHolds(t *testing.T) {
	h := newPinHost(t)
	h.limited(replicate.Scope{MaxPinBytes: 5000})
	h.serve()
	h.waitStatus(h.add(replicate.Pin{CID: h.site("v1", 20, 1000)}), replicate.Failed)
	h.waitStatus(h.add(replicate.Pin{CID: h.site("v1", 2, 1000)}), replicate.Pinned)
	if w, why := h.call("POST", "/pins", bodyOf(t, withMeta(replicate.Pin{CID: namingtest.CID("x")}, replicate.MetaMaxBytes, "5001"))); w.Code != http.StatusConflict || !strings.HasPrefix(why, "INSUFFICIENT_FUNDS") {
		t.Errorf("%d %s", w.Code, why)
	}
}

func TestAnExpiredTokenIsRefusedWithTheReasonAndItsPinsStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPinHost(t)
		h.limited(replicate.Scope{Expires: time.Now().Add(time.Hour)})
		h.serve()
		root := h.site("v1", 3, 100)
		id := h.add(replicate.Pin{CID: root})
		time.Sleep(time.Hour - time.Second)
		if w, why := h.call("GET", "/pins/"+id, nil); w.Code != http.StatusOK {
			t.Fatalf("a second before its end: %d %s", w.Code, why)
		}
		time.Sleep(time.Second)
		w, why := h.call("GET", "/pins/"+id, nil)
		if w.Code != http.StatusUnauthorized || !strings.Contains(why, "expired") || w.Header().Get("WWW-Authenticate") == "" {
			t.Fatalf("at its end: %d %s", w.Code, why)
		}
		h.wantKept(id, root)
	})
}

func TestARequestTooManyIsTurnedAwayUntilItMayCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPinHost(t)
		h.limited(replicate.Scope{Rate: 60})
		for i := range 60 {
			if w, why := h.call("GET", "/pins", nil); w.Code != http.StatusOK {
				t.Fatalf("request %d: %d %s", i, w.Code, why)
			}
		}
		w, why := h.call("GET", "/pins", nil)
		if w.Code != http.StatusTooManyRequests || !strings.HasPrefix(why, "TOO_MANY_REQUESTS") || w.Header().Get("Retry-After") != "2" {
			t.Fatalf("the 61st: %d %s, Retry-After %q", w.Code, why, w.Header().Get("Retry-After"))
		}
		other, secret := h.scoped("other", replicate.Scope{Rate: 60})
		h.tenant, h.token, secret = other, secret, h.token
		if w, _ := h.call("GET", "/pins", nil); w.Code != http.StatusOK {
			t.Errorf("another tenant: %d", w.Code)
		}
		h.token = secret
		time.Sleep(10 * time.Second)
		for i := range 10 {
			if w, why := h.call("GET", "/pins", nil); w.Code != http.StatusOK {
				t.Fatalf("request %d after 10 s: %d %s", i, w.Code, why)
			}
		}
		if w, _ := h.call("GET", "/pins", nil); w.Code != http.StatusTooManyRequests {
			t.Errorf("the 11th after 10 s: %d", w.Code)
		}
	})
}

// hooked does something when it is read for the first time.
type hooked struct {
	io.Reader
	hook func()
}

func (r *hooked) Read(p []byte) (int, error) {
	if r.hook != nil {
		r.hook()
		r.hook = nil
	}
	return r.Reader.Read(p)
}

func TestATokenThatIsRevokedWhileItsRequestIsReadIsGoodForNothing(t *testing.T) {
	h := newPinHost(t)
	body := &hooked{bodyOf(t, replicate.Pin{CID: namingtest.CID("x")}), func() {
		if err := h.db.RevokeToken(t.Context(), h.tenant.ID); err != nil {
			t.Error(err)
		}
	}}
	if w, why := h.call("POST", "/pins", body); w.Code != http.StatusUnauthorized {
		t.Fatalf("%d %s", w.Code, why)
	}
	if rows, n, err := h.db.ListPins(t.Context(), "", replicate.Query{Status: []replicate.Status{replicate.Queued}}); err != nil || n != 0 {
		t.Errorf("kept %v, %v", rows, err)
	}
}

func TestWhatARevokedTokenPinnedStaysWithinItsQuota(t *testing.T) {
	h := newPinHost(t)
	h.limited(replicate.Scope{Quota: 10_000})
	hold, reached := make(chan struct{}), make(chan struct{})
	h.fetcher.set(func(f *copier) {
		f.gate = func(_ context.Context, _ blockstore.Session, n int) error {
			if n == 2 {
				close(reached)
				<-hold
			}
			return nil
		}
	})
	id := h.add(replicate.Pin{CID: h.site("v1", 20, 1000)})
	h.serve()
	<-reached
	if err := h.db.RevokeToken(t.Context(), h.tenant.ID); err != nil {
		t.Fatal(err)
	}
	close(hold)
	if st := h.waitStatus(id, replicate.Failed); !strings.Contains(st.Info[replicate.InfoLastError], "quota") {
		t.Errorf("%v", st.Info)
	}
}

func TestATokenTellsWhatItIsGoodFor(t *testing.T) {
	h := newPinHost(t, func(c *replicate.ServiceConfig) { c.MaxPinBytes = 9000 })
	end := time.Now().Add(24 * time.Hour).UTC().Truncate(time.Second)
	site := namingtest.Signer(t, "site")
	h.limited(replicate.Scope{Sites: []naming.Name{site.Name()}, Quota: 20_000, Rate: 600, Expires: end})
	h.serve()
	id := h.add(namePin(site, h.site("v1", 3, 1000), replicate.MetaMaxBytes, "5000"))
	held := sizeOf(t, h.waitStatus(id, replicate.Pinned))
	srv := httptest.NewServer(replicate.NewHandler(h.service, replicate.HandlerConfig{}))
	defer srv.Close()
	got, err := replicate.NewClient(srv.URL, h.token, nil).Tenant(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.Label != "limited" || len(got.Sites) != 1 || got.Sites[0] != site.Name() || got.QuotaBytes != 20_000 || got.UsedBytes != held ||
		got.ReservedBytes != 5000-held || got.MaxPinBytes != 9000 || got.RequestsPerMinute != 600 || !got.Expires.Equal(end) || got.Draining {
		t.Errorf("%+v", got)
	}
	if got.Free() != 15_000 {
		t.Errorf("free %d", got.Free())
	}
	if _, err := replicate.NewClient(srv.URL, "hft_wrong", nil).Tenant(t.Context()); !errors.Is(err, replicate.ErrUnauthorized) {
		t.Errorf("a stranger: %v", err)
	}
	if w, _ := h.call("POST", replicate.TenantPath, nil); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
	_, h.token = h.newTenant("any")
	if w, _ := h.call("GET", replicate.TenantPath, nil); !strings.Contains(w.Body.String(), `"sites":[]`) || !strings.Contains(w.Body.String(), `"expires":null`) {
		t.Errorf("a token without limits: %s", w.Body)
	}
}

func FuzzParseTenantInfo(f *testing.F) {
	for _, s := range []string{
		`{"version":1,"label":"anna","sites":[],"quota_bytes":5,"used_bytes":1,"reserved_bytes":1,"max_pin_bytes":0,"requests_per_minute":6,"expires":null,"draining":false}`,
		`{"version":1,"expires":"2027-11-22T10:00:00Z","crit":["quota_bytes"],"other":1}`, `{"version":2}`, `{"version":1,"crit":["x"]}`, `null`, `[]`,
		`{"version":1,"used_bytes":-1}`, `{"version":1,"sites":["k51"]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := replicate.ParseTenantInfo(b)
		if err != nil {
			if !errors.Is(err, merkle.ErrMalformed) && !errors.Is(err, merkle.ErrUnsupported) {
				t.Fatalf("error of no kind: %v", err)
			}
			return
		}
		if info.Free() < -1 || info.UsedBytes < 0 || len(info.Sites) > replicate.MaxTokenSites {
			t.Fatalf("accepted %+v", info)
		}
	})
}
