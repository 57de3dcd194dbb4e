package replicate_test

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
	"github.com/holdfast-sites/holdfast/replicate"
)

var reportTime = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// reportKey is a host's key that is the same in every run.
func reportKey(t testing.TB) crypto.PrivKey {
	t.Helper()
	key, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed([]byte("holdfast site report test seed 1")))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// someReport has a value in every field.
func someReport(t testing.TB) replicate.SiteReport {
	t.Helper()
	id, err := peer.IDFromPrivateKey(reportKey(t))
	if err != nil {
		t.Fatal(err)
	}
	other, err := peer.Decode(somePeer)
	if err != nil {
		t.Fatal(err)
	}
	site := namingtest.Signer(t, "site").Name()
	return replicate.SiteReport{
		Peer: id, Time: reportTime, Site: site, Role: replicate.RoleStandby, Holds: reportTime.Add(-time.Hour),
		Root: namingtest.CID("root"), Sequence: 7, Policy: namingtest.CID("policy"),
		Members: []replicate.ReportMember{{
			Peer: other, Rank: 0, Seen: reportTime, Held: reportTime.Add(-time.Minute), Uptime: 948_000, Patience: 12 * time.Hour,
		}},
		Events: []replicate.Event{{Site: site, At: reportTime.Add(-time.Hour), Kind: replicate.EventTookOver, Host: id, Detail: "2 of 3 present"}},
	}
}

func TestASiteReportIsReadAsItWasSigned(t *testing.T) {
	want := someReport(t)
	raw, err := replicate.SignSiteReport(want, reportKey(t))
	if err != nil {
		t.Fatal(err)
	}
	golden := "testdata/site-report.golden"
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(golden, append(raw, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(golden)
	if err != nil || strings.TrimSpace(string(kept)) != string(raw) {
		t.Errorf("it is not what %s has: %v\n%s", golden, err, raw)
	}
	got, err := replicate.ParseSiteReport(raw, reportTime.Add(time.Hour))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v, %v\nwant %+v", got, err, want)
	}
	none := replicate.SiteReport{Time: reportTime, Site: want.Site, Role: replicate.RoleHolder}
	if raw, err = replicate.SignSiteReport(none, reportKey(t)); err != nil {
		t.Fatal(err)
	}
	none.Peer = want.Peer
	if got, err = replicate.ParseSiteReport(raw, reportTime); err != nil || !reflect.DeepEqual(got, none) {
		t.Errorf("read %+v, %v", got, err)
	}
}

func TestASiteReportHasRoomForTheNewestEventsWhateverTheySay(t *testing.T) {
	r := someReport(t)
	worst := r.Events[0]
	worst.Detail = strings.Repeat("\x01", 512)
	r.Events = nil
	for i := range replicate.MaxEvents {
		e := worst
		e.At = reportTime.Add(-time.Duration(i) * time.Second)
		r.Events = append(r.Events, e)
	}
	raw, err := replicate.SignSiteReport(r, reportKey(t))
	if err != nil || len(raw) > 256<<10 {
		t.Fatalf("%d bytes, %v", len(raw), err)
	}
	got, err := replicate.ParseSiteReport(raw, reportTime)
	if err != nil || len(got.Events) < 20 || !got.Events[0].At.Equal(reportTime) {
		t.Errorf("%d events, %v", len(got.Events), err)
	}
}

func TestASiteReportThatBreaksALimitIsRefused(t *testing.T) {
	key := reportKey(t)
	raw, err := replicate.SignSiteReport(someReport(t), key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := replicate.ParseSiteReport(raw, reportTime.Add(25*time.Hour)); !errors.Is(err, replicate.ErrClock) {
		t.Errorf("a day old: %v", err)
	}
	if _, err := replicate.ParseSiteReport(append(raw, make([]byte, 256<<10)...), reportTime); !errors.Is(err, merkle.ErrMalformed) {
		t.Errorf("too large: %v", err)
	}
	var env map[string]any
	if err := json.Unmarshal(raw, &env); err != nil {
		t.Fatal(err)
	}
	env["signature"] = "AAAA"
	forged, _ := json.Marshal(env)
	if _, err := replicate.ParseSiteReport(forged, reportTime); !errors.Is(err, replicate.ErrSignature) {
		t.Errorf("forged: %v", err)
	}
	// A host description is signed by the same key, for another purpose.
	desc, err := replicate.SignHostDescription(replicate.HostDescription{Peer: someReport(t).Peer, Time: reportTime}, key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := replicate.ParseSiteReport(desc, reportTime); !errors.Is(err, replicate.ErrSignature) {
		t.Errorf("a host description: %v", err)
	}
	for what, change := range map[string]func(*replicate.SiteReport){
		"role":          func(r *replicate.SiteReport) { r.Role = "owner" },
		"no site":       func(r *replicate.SiteReport) { r.Site = naming.Name{} },
		"65 members":    func(r *replicate.SiteReport) { r.Members = make([]replicate.ReportMember, 65) },
		"257 events":    func(r *replicate.SiteReport) { r.Events = make([]replicate.Event, 257) },
		"a long detail": func(r *replicate.SiteReport) { r.Events[0].Detail = strings.Repeat("x", 513) },
		"not UTF-8":     func(r *replicate.SiteReport) { r.Events[0].Detail = "\xff" },
		"a long kind":   func(r *replicate.SiteReport) { r.Events[0].Kind = replicate.EventKind(strings.Repeat("x", 33)) },
		"uptime":        func(r *replicate.SiteReport) { r.Members[0].Uptime = 1_000_001 },
		"rank":          func(r *replicate.SiteReport) { r.Members[0].Rank = 64 },
	} {
		r := someReport(t)
		change(&r)
		if _, err := replicate.SignSiteReport(r, key); !errors.Is(err, replicate.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestSiteReportsAreForTenantsThatPinTheSite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newKeptHost(t)
		_, stranger := h.newTenant("stranger")
		handler := replicate.NewReportHandler(h.keeper, reportKey(t), replicate.HandlerConfig{})
		ask := func(method, path, token string) *http.Response {
			req := httptest.NewRequest(method, path, nil)
			if token != "" {
				req.Header.Set("Authorization", "Bearer "+token)
			}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, req)
			return w.Result()
		}
		path := replicate.ReportPath + h.signer.Name().String()
		for _, tt := range []struct {
			method, path, token string
			want                int
		}{
			{"GET", path, h.token, 200},
			{"GET", path, "", 401},
			{"GET", path, stranger, 404},
			{"GET", replicate.ReportPath + namingtest.Signer(t, "other").Name().String(), h.token, 404},
			{"GET", replicate.ReportPath + "blog", h.token, 400},
			{"POST", path, h.token, 405},
		} {
			resp := ask(tt.method, tt.path, tt.token)
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != tt.want {
				t.Errorf("%s %s: %d, want %d: %s", tt.method, tt.path, resp.StatusCode, tt.want, body)
			}
			if tt.want == 200 {
				if r, err := replicate.ParseSiteReport(body, time.Now()); err != nil || r.Site != h.signer.Name() || len(r.Members) != 4 {
					t.Errorf("%+v, %v", r, err)
				}
			}
		}
		hc := &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			return w.Result(), nil
		})}
		r, err := replicate.FetchSiteReport(t.Context(), hc, "http://host", h.token, h.signer.Name(), time.Now())
		if err != nil || r.Role != replicate.RoleStandby {
			t.Errorf("%+v, %v", r, err)
		}
		if _, err := replicate.FetchSiteReport(t.Context(), hc, "http://host", stranger, h.signer.Name(), time.Now()); !errors.Is(err, replicate.ErrNotFound) {
			t.Errorf("a stranger: %v", err)
		}
		if _, err := replicate.FetchSiteReport(t.Context(), hc, "http://host", "hft_x", h.signer.Name(), time.Now()); !errors.Is(err, replicate.ErrUnauthorized) {
			t.Errorf("no token: %v", err)
		}
	})
}

func FuzzParseSiteReport(f *testing.F) {
	key := reportKey(f)
	raw, err := replicate.SignSiteReport(someReport(f), key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"payload":"e30=","peer":"` + somePeer + `","signature":""}`))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := replicate.ParseSiteReport(raw, reportTime)
		if err == nil && (r.Site.IsZero() || len(r.Events) > replicate.MaxEvents || len(r.Members) > replicate.MaxRoster) {
			t.Fatalf("%+v", r)
		}
	})
}

// What is signed may be anything, too: the signature is the host's own.
func FuzzSiteReportPayload(f *testing.F) {
	raw, err := replicate.SignSiteReport(someReport(f), reportKey(f))
	if err != nil {
		f.Fatal(err)
	}
	var env struct{ Payload []byte }
	if err := json.Unmarshal(raw, &env); err != nil {
		f.Fatal(err)
	}
	f.Add(env.Payload)
	f.Add([]byte(`{"version":1,"crit":["members"],"members":[{"patience":9223372036854775807}]}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		key := reportKey(t)
		sig, err := key.Sign(append([]byte("holdfast-site-report/1\n"), payload...))
		if err != nil {
			t.Fatal(err)
		}
		id, _ := peer.IDFromPrivateKey(key)
		raw, err := json.Marshal(map[string]any{"payload": payload, "peer": id, "signature": sig})
		if err != nil {
			t.Fatal(err)
		}
		r, err := replicate.ParseSiteReport(raw, reportTime)
		if err != nil {
			return
		}
		again, err := replicate.SignSiteReport(r, key)
		if err != nil {
			t.Fatalf("%+v was read and can't be written: %v", r, err)
		}
		if _, err := replicate.ParseSiteReport(again, reportTime); err != nil {
			t.Fatal(fmt.Errorf("%+v: %w", r, err))
		}
	})
}
