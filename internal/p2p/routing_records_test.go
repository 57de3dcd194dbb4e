package p2p

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
)

// kinds are the two ways in which a record may be kept: for good and in the small cache.
var kinds = map[string]func(naming.Name) bool{"followed": all, "a guest": nil}

func wantPut(t testing.TB, what string, h http.Handler, rec naming.Record, want int) {
	t.Helper()
	if status, body := putRecord(t, h, rec.Name(), rec.Bytes()); status != want {
		t.Errorf("%s: sequence %d got %d %q, want %d", what, rec.Sequence(), status, body, want)
	}
}

func wantServed(t testing.TB, what string, h http.Handler, want naming.Record) {
	t.Helper()
	if status, raw := getRecord(t, h, want.Name()); status != http.StatusOK || !bytes.Equal(raw, want.Bytes()) {
		t.Errorf("%s: %d, %d bytes; want sequence %d", what, status, len(raw), want.Sequence())
	}
}

func TestARecordThatIsNoneIsNeitherStoredNorServedWhoeverPutsIt(t *testing.T) {
	s := namingtest.Signer(t, "a")
	for _, f := range namingtest.Faults(t, "a") {
		want := http.StatusBadRequest
		if errors.Is(f.Kind, naming.ErrTooLarge) {
			want = http.StatusRequestEntityTooLarge
		}
		for kind, accept := range kinds {
			records := naming.NewMemoryRecords()
			h := offlineRouting(t, records, RoutingOptions{
				Accept:   accept,
				Accepted: func(naming.Record) { t.Errorf("%s, %s: it was told on", f.Row, kind) },
			})
			status, body := putRecord(t, h, s.Name(), f.Raw)
			if status != want || !strings.Contains(body, f.Says) || strings.ContainsAny(body, "\r\x00") {
				t.Errorf("%s, %s: %d %q, want %d that says %q", f.Row, kind, status, body, want, f.Says)
			}
			if got, _ := getRecord(t, h, s.Name()); got != http.StatusNotFound {
				t.Errorf("%s, %s: it is served", f.Row, kind)
			}
			if _, err := records.Best(t.Context(), s.Name()); !errors.Is(err, naming.ErrNotFound) {
				t.Errorf("%s, %s: it was stored (%v)", f.Row, kind, err)
			}
		}
	}
}

func TestAGoodRecordIsKeptForGoodOnlyWhereItsNameIsFollowed(t *testing.T) {
	s := namingtest.Signer(t, "a")
	largest := namingtest.Sized(t, "a", naming.MaxRecordSize)
	for kind, accept := range kinds {
		records := naming.NewMemoryRecords()
		told := 0
		h := offlineRouting(t, records, RoutingOptions{Accept: accept, Accepted: func(naming.Record) { told++ }})
		if status, body := putRecord(t, h, s.Name(), largest); status != http.StatusOK {
			t.Fatalf("%s: 10 240 bytes: %d %s", kind, status, body)
		}
		if status, raw := getRecord(t, h, s.Name()); status != http.StatusOK || !bytes.Equal(raw, largest) {
			t.Errorf("%s: served with %d", kind, status)
		}
		_, err := records.Best(t.Context(), s.Name())
		if kept := err == nil; kept != (kind == "followed") || kept != (told == 1) {
			t.Errorf("%s: kept for good: %t, told on %d times", kind, kept, told)
		}
	}
}

func TestAClockADayOffIsNamedWhereARecordSeemsExpired(t *testing.T) {
	rec := namingtest.Record(t, namingtest.Signer(t, "a"), 1, "x", namingtest.FarFuture)
	h := offlineRouting(t, naming.NewMemoryRecords(), RoutingOptions{
		Accept: all, Now: func() time.Time { return namingtest.FarFuture.Add(24 * time.Hour) },
	})
	status, body := putRecord(t, h, rec.Name(), rec.Bytes())
	if status != http.StatusBadRequest || !strings.Contains(body, "clock here says 2090-01-03T03:04:05Z") {
		t.Errorf("%d %s", status, body)
	}
}

func TestPutRecordNeverGoesBack(t *testing.T) {
	for kind, accept := range kinds {
		s := newSigner(t)
		h := offlineRouting(t, naming.NewMemoryRecords(), RoutingOptions{Accept: accept})
		newer := sign(t, s, 7, time.Hour)
		wantPut(t, kind, h, newer, http.StatusOK)
		wantPut(t, kind+", again", h, newer, http.StatusOK)
		wantPut(t, kind+", older", h, sign(t, s, 6, 2*time.Hour), http.StatusConflict)
		wantPut(t, kind+", same sequence, ends before", h, sign(t, s, 7, time.Minute), http.StatusConflict)
		wantServed(t, kind, h, newer)
	}
}

func TestAnOlderRecordIsRefusedAfterARestartAndAfterTheNewerHasExpired(t *testing.T) {
	s, now := newSigner(t), time.Now()
	newer, older := sign(t, s, 7, time.Hour), sign(t, s, 6, 48*time.Hour)
	records := naming.NewMemoryRecords() // what outlives a restart; that state's do is tested there
	for _, what := range []string{"at first", "after a restart", "after its end"} {
		h := offlineRouting(t, records, RoutingOptions{Accept: all, Now: func() time.Time { return now }})
		if what == "at first" {
			wantPut(t, what, h, newer, http.StatusOK)
		}
		wantPut(t, what, h, older, http.StatusConflict)
		if what != "after its end" {
			wantServed(t, what, h, newer)
			now = now.Add(50 * time.Minute)
		} else if status, _ := getRecord(t, h, s.Name()); status != http.StatusNotFound {
			t.Errorf("%s: %d", what, status)
		}
	}
}

func TestASiteIsNotMovedByWhoeverHasItsKeyAlone(t *testing.T) {
	s, ours, his := namingtest.Signer(t, "a"), namingtest.Recovery(t, "a"), namingtest.Recovery(t, "thief")
	thief, end := namingtest.Signer(t, "thief").Name(), time.Now().Add(time.Hour)
	for kind, accept := range kinds {
		h := offlineRouting(t, naming.NewMemoryRecords(), RoutingOptions{Accept: accept})
		kept := namingtest.Committed(t, s, ours, 3, end)
		wantPut(t, kind, h, kept, http.StatusOK)
		wantPut(t, kind+", last with his commitment", h, namingtest.Last(t, s, his, thief), http.StatusBadRequest)
		wantPut(t, kind+", last without one", h, namingtest.PlainLast(t, s, thief), http.StatusBadRequest)
		wantPut(t, kind+", next with his commitment", h, namingtest.Committed(t, s, his, 4, end), http.StatusBadRequest)
		wantServed(t, kind, h, kept)
		last := namingtest.Last(t, s, ours, namingtest.Signer(t, "new").Name())
		wantPut(t, kind+", ours", h, last, http.StatusOK)
		wantPut(t, kind+", after ours", h, namingtest.Committed(t, s, ours, naming.MaxSequence-1, end), http.StatusConflict)
		wantServed(t, kind, h, last)
	}
}

func TestWhatTheNetworkSaysIsHeldAgainstWhatIsKept(t *testing.T) {
	s, end := namingtest.Signer(t, "a"), time.Now().Add(time.Hour)
	kept := namingtest.Committed(t, s, namingtest.Recovery(t, "a"), 3, end)
	for what, c := range map[string]struct {
		found naming.Record
		want  naming.Record
	}{
		"a thief's": {namingtest.Last(t, s, namingtest.Recovery(t, "thief"), namingtest.Signer(t, "thief").Name()), kept},
		"an older":  {namingtest.Committed(t, s, namingtest.Recovery(t, "a"), 2, end), kept},
		"a newer":   {namingtest.Committed(t, s, namingtest.Recovery(t, "a"), 4, end), namingtest.Committed(t, s, namingtest.Recovery(t, "a"), 4, end)},
	} {
		records := naming.NewMemoryRecords()
		if err := records.Accept(t.Context(), kept); err != nil {
			t.Fatal(err)
		}
		h := offlineRouting(t, records, RoutingOptions{Lookup: func(context.Context, naming.Name) (naming.Record, error) { return c.found, nil }})
		wantServed(t, what, h, c.want)
	}
}

func TestAFollowedNameIsServedFromHereWithoutAsking(t *testing.T) {
	s, records, now, asked := newSigner(t), naming.NewMemoryRecords(), time.Now(), 0
	rec, next := sign(t, s, 1, time.Hour), sign(t, s, 2, 3*time.Hour)
	var told naming.Record
	h := offlineRouting(t, records, RoutingOptions{
		Accept: all, Now: func() time.Time { return now }, Accepted: func(r naming.Record) { told = r },
		Lookup: func(context.Context, naming.Name) (naming.Record, error) { asked++; return next, nil },
	})
	wantPut(t, "first", h, rec, http.StatusOK)
	wantServed(t, "alive", h, rec)
	if asked != 0 {
		t.Errorf("the network was asked %d times", asked)
	}
	now = now.Add(2 * time.Hour)
	wantServed(t, "when it has expired here", h, next)
	if best, err := records.Best(t.Context(), s.Name()); err != nil || best.Compare(next) != 0 || told.Compare(next) != 0 {
		t.Errorf("what was found is not kept and told on: %v", err)
	}
}

func TestANameThatIsFollowedNoLongerKeepsItsFloor(t *testing.T) {
	s, records := newSigner(t), naming.NewMemoryRecords()
	if err := records.Accept(t.Context(), sign(t, s, 9, time.Hour)); err != nil {
		t.Fatal(err)
	}
	wantPut(t, "older", offlineRouting(t, records, RoutingOptions{}), sign(t, s, 8, time.Hour), http.StatusConflict)
}

func TestAGuestThatComesToBeFollowedKeepsItsFloor(t *testing.T) {
	s, records, followed := newSigner(t), naming.NewMemoryRecords(), false
	h := offlineRouting(t, records, RoutingOptions{Accept: func(naming.Name) bool { return followed }})
	guest := sign(t, s, 9, time.Hour)
	wantPut(t, "as a guest", h, guest, http.StatusOK)
	followed = true
	wantPut(t, "older", h, sign(t, s, 8, time.Hour), http.StatusConflict)
	if best, err := records.Best(t.Context(), s.Name()); err != nil || best.Compare(guest) != 0 {
		t.Errorf("the guest was not kept: %v", err)
	}
}

func TestGetRecordServesTheBestAndNeverAnExpiredOne(t *testing.T) {
	s, records := newSigner(t), naming.NewMemoryRecords()
	older, newer := sign(t, s, 1, 24*time.Hour), sign(t, s, 2, time.Hour)
	now := time.Now()
	var found naming.Record
	h := offlineRouting(t, records, RoutingOptions{
		Now: func() time.Time { return now },
		Lookup: func(context.Context, naming.Name) (naming.Record, error) {
			if found.IsZero() {
				return found, naming.ErrNotFound
			}
			return found, nil
		},
	})
	if status, _ := getRecord(t, h, s.Name()); status != http.StatusNotFound {
		t.Errorf("nothing is known: %d", status)
	}
	found = older
	wantServed(t, "what the lookup found", h, older)
	if err := records.Accept(t.Context(), newer); err != nil {
		t.Fatal(err)
	}
	wantServed(t, "the newer of two", h, newer)
	now = now.Add(2 * time.Hour)
	if status, body := getRecord(t, h, s.Name()); status != http.StatusNotFound {
		t.Errorf("after the newest has expired: %d, %d bytes", status, len(body))
	}
}

func TestARecordIsCachedForItsTTLAndNoLongerThanItLives(t *testing.T) {
	s, records := newSigner(t), naming.NewMemoryRecords()
	rec := sign(t, s, 1, time.Hour)
	if err := records.Accept(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	end := rec.ValidUntil()
	now := end.Add(-time.Hour)
	h := offlineRouting(t, records, RoutingOptions{Now: func() time.Time { return now }})
	path := "/routing/v1/ipns/" + s.Name().String()
	resp := request(t, h, http.MethodGet, path, nil)
	for header, want := range map[string]string{
		"Content-Type":        naming.MediaType,
		"Cache-Control":       "public, max-age=60, stale-while-revalidate=60, stale-if-error=3600",
		"Expires":             end.UTC().Format(http.TimeFormat),
		"Last-Modified":       now.UTC().Format(http.TimeFormat),
		"Vary":                "Accept",
		"Content-Disposition": `attachment; filename="` + s.Name().String() + `.ipns-record"`,
		"Content-Length":      fmt.Sprint(len(rec.Bytes())),
	} {
		if got := resp.Header.Get(header); got != want {
			t.Errorf("%s is %q, want %q", header, got, want)
		}
	}
	etag := resp.Header.Get("Etag")
	for tags, want := range map[string]int{etag: 304, `"other", W/` + etag: 304, "*": 304, `"other"`: 200} {
		if resp := request(t, h, http.MethodGet, path, nil, "If-None-Match", tags); resp.StatusCode != want || resp.Header.Get("Etag") != etag {
			t.Errorf("If-None-Match: %s: %d, want %d", tags, resp.StatusCode, want)
		}
	}
	if resp := request(t, h, http.MethodGet, path, nil, "If-Modified-Since", now.Add(time.Hour).UTC().Format(http.TimeFormat)); resp.StatusCode != 200 {
		t.Errorf("If-Modified-Since: %d: a record may change within a second", resp.StatusCode)
	}
	resp = request(t, h, http.MethodHead, path, nil)
	if body, err := io.ReadAll(resp.Body); err != nil || len(body) > 0 || resp.StatusCode != 200 || resp.Header.Get("Etag") != etag {
		t.Errorf("HEAD: %d, %d bytes, %v", resp.StatusCode, len(body), resp.Header)
	}
	now = end.Add(-10 * time.Second)
	if got := request(t, h, http.MethodGet, path, nil).Header.Get("Cache-Control"); got != "public, max-age=10, stale-while-revalidate=10, stale-if-error=10" {
		t.Errorf("10 s before the end: %q", got)
	}
}

func TestNamingsClientSpeaksToTheHandler(t *testing.T) {
	s := newSigner(t)
	server := httptest.NewServer(offlineRouting(t, naming.NewMemoryRecords(), RoutingOptions{Accept: all}))
	defer server.Close()
	c := naming.NewRoutingClient("host", server.URL, server.Client())
	if _, err := c.Fetch(t.Context(), s.Name()); !errors.Is(err, naming.ErrNotFound) {
		t.Errorf("before: %v", err)
	}
	rec := sign(t, s, 2, time.Hour)
	if err := c.Put(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	if raw, err := c.Fetch(t.Context(), s.Name()); err != nil || !bytes.Equal(raw, rec.Bytes()) {
		t.Errorf("after: %v", err)
	}
	if err := c.Put(t.Context(), sign(t, s, 1, time.Hour)); !errors.Is(err, naming.ErrOlder) {
		t.Errorf("an older one: %v", err)
	}
}

func FuzzRoutingPut(f *testing.F) {
	s, ours := namingtest.Signer(f, "a"), namingtest.Recovery(f, "a")
	kept := namingtest.Committed(f, s, ours, 5, namingtest.FarFuture)
	last := namingtest.Last(f, s, ours, namingtest.Signer(f, "new").Name()).Bytes()
	f.Add(kept.Bytes())
	f.Add(last)
	f.Add(last[:len(last)-64])
	f.Add(namingtest.Last(f, s, namingtest.Recovery(f, "thief"), namingtest.Signer(f, "thief").Name()).Bytes())
	f.Add([]byte{})
	f.Add(kept.Bytes()[:100])
	now := time.Now()
	node := open(f, func(c *Config) { c.Network = Offline })
	f.Fuzz(func(t *testing.T, raw []byte) {
		node.cfg.Records = naming.NewMemoryRecords()
		h := node.RoutingHandler(RoutingOptions{Accept: all, Now: func() time.Time { return now }})
		wantPut(t, "the first", h, kept, http.StatusOK)
		status, _ := putRecord(t, h, s.Name(), raw)
		rec, err := naming.OpenRecord(s.Name(), raw, now)
		if taken := err == nil && rec.Compare(kept) >= 0 && rec.MayFollow(kept) == nil; taken != (status == http.StatusOK) || status >= 500 {
			t.Errorf("%x: status %d (%v)", raw, status, err)
		}
	})
}

func TestWhatWasFoundForACallerNeverGoesBackForTheNext(t *testing.T) {
	for kind, accept := range kinds {
		s := newSigner(t)
		newer := sign(t, s, 7, time.Hour)
		found := newer
		h := offlineRouting(t, naming.NewMemoryRecords(), RoutingOptions{
			Accept: accept,
			Lookup: func(context.Context, naming.Name) (naming.Record, error) { return found, nil },
		})
		wantServed(t, kind, h, newer)
		found = sign(t, s, 6, time.Hour) // by somebody else who is behind
		wantServed(t, kind+", asked again", h, newer)
		wantPut(t, kind+", put", h, found, http.StatusConflict)
	}
}
