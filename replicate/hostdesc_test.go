package replicate

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/merkle"
)

func sampleHost() HostDescription {
	until := testTime.Add(24 * time.Hour)
	return HostDescription{
		Version: 1, Peer: idNumber(2), Time: testTime, Name: "alice",
		Addrs:     []string{"/ip4/203.0.113.7/tcp/4001/p2p/" + idNumber(2).String()},
		Gateways:  []string{"http://alice.example:8080"},
		FreeBytes: 100_000_000, MaxPinBytes: 1_000_000_000, Draining: true, Software: "holdfast/0.1.0",
		Terms: HostTerms{
			AuditsPerHour: 12, AuditBytesPerDay: 1, IngressBytesPerDay: 2, EgressBytesPerDay: 3, MaxSiteBytes: 4, Until: &until,
		},
	}
}

func TestTheHostDescriptionIsTheGoldenOne(t *testing.T) {
	d := sampleHost()
	raw, err := SignHostDescription(d, keyNumber(2))
	if err != nil {
		t.Fatal(err)
	}
	var s envelope
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	golden(t, "host.golden", fmt.Sprintf("%s\n%s\n", raw, s.Payload))
	back, err := ParseHostDescription(raw, testTime)
	if err != nil || !reflect.DeepEqual(back, d) {
		t.Fatalf("%+v came back as %+v, %v", d, back, err)
	}
	if info := back.AddrInfo(); info.ID != d.Peer || len(info.Addrs) != 1 {
		t.Fatalf("%v", info)
	}
}

func TestADescriptionFromBeforeThereWasDrainingIsStillRead(t *testing.T) {
	both, err := os.ReadFile(filepath.Join("testdata", "host_early.golden"))
	if err != nil {
		t.Fatal(err)
	}
	raw, _, _ := bytes.Cut(both, []byte("\n"))
	d, err := ParseHostDescription(raw, testTime)
	if err != nil || d.Draining || d.Software != "" || d.Terms != (HostTerms{AuditsPerHour: 12}) || d.FreeBytes != 100_000_000 {
		t.Fatalf("%+v, %v", d, err)
	}
}

// signedBy signs any payload with key n, and says that it is peer's.
func signedBy(t testing.TB, payload string, n, peer byte) []byte {
	t.Helper()
	signature, err := keyNumber(n).Sign([]byte(hostContext + payload))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(envelope{Payload: []byte(payload), Peer: idNumber(peer), Signature: signature})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func payloadWith(t testing.TB, change func(map[string]any)) string {
	t.Helper()
	raw, err := json.Marshal(sampleHost())
	if err != nil {
		t.Fatal(err)
	}
	m := make(map[string]any)
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	change(m)
	raw, err = json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestAHostDescriptionIsCheckedBeforeItIsBelieved(t *testing.T) {
	set := func(key string, v any) string { return payloadWith(t, func(m map[string]any) { m[key] = v }) }
	many := func(n int, s string) []string { return strings.Split(strings.Repeat(s+" ", n), " ")[:n] }
	for name, c := range map[string]struct {
		raw  []byte
		want error
	}{
		"as it is":             {signedBy(t, payloadWith(t, func(map[string]any) {}), 2, 2), nil},
		"a field of later":     {signedBy(t, set("colour", "red"), 2, 2), nil},
		"a day old":            {signedBy(t, set("time", testTime.Add(-24*time.Hour)), 2, 2), nil},
		"32 addresses":         {signedBy(t, set("addrs", many(32, "/ip4/1.2.3.4/tcp/1")), 2, 2), nil},
		"33 addresses":         {signedBy(t, set("addrs", many(33, "/ip4/1.2.3.4/tcp/1")), 2, 2), merkle.ErrMalformed},
		"9 gateways":           {signedBy(t, set("gateways", many(9, "http://a")), 2, 2), merkle.ErrMalformed},
		"a gateway of script":  {signedBy(t, set("gateways", []string{"javascript:alert(1)"}), 2, 2), merkle.ErrMalformed},
		"a critical later one": {signedBy(t, set("crit", []string{"colour"}), 2, 2), merkle.ErrUnsupported},
		"version 2":            {signedBy(t, set("version", 2), 2, 2), merkle.ErrUnsupported},
		"over a day old":       {signedBy(t, set("time", testTime.Add(-24*time.Hour-time.Second)), 2, 2), merkle.ErrMalformed},
		"from the future":      {signedBy(t, set("time", testTime.Add(25*time.Hour)), 2, 2), merkle.ErrMalformed},
		"no time":              {signedBy(t, set("time", nil), 2, 2), merkle.ErrMalformed},
		"describes another":    {signedBy(t, payloadWith(t, func(map[string]any) {}), 3, 3), merkle.ErrMalformed},
		"signed by another":    {signedBy(t, payloadWith(t, func(map[string]any) {}), 3, 2), ErrSignature},
		"negative room":        {signedBy(t, set("free_bytes", -1), 2, 2), merkle.ErrMalformed},
		"a long name":          {signedBy(t, set("name", strings.Repeat("x", 129)), 2, 2), merkle.ErrMalformed},
		"empty":                {nil, merkle.ErrMalformed},
		"HTML":                 {[]byte("<html>"), merkle.ErrMalformed},
		"no peer":              {[]byte(`{"payload":"e30=","signature":""}`), merkle.ErrUnsupported},
		"payload no object":    {signedBy(t, "[]", 2, 2), merkle.ErrMalformed},
		"too large":            {bytes.Repeat([]byte(" "), maxMessage+1), merkle.ErrMalformed},
	} {
		if _, err := ParseHostDescription(c.raw, testTime); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

func TestAHostDescriptionThatBreaksALimitIsNotSigned(t *testing.T) {
	for name, change := range map[string]func(*HostDescription){
		"another's peer": func(d *HostDescription) { d.Peer = idNumber(3) },
		"no multiaddr":   func(d *HostDescription) { d.Addrs = []string{"alice.example"} },
		"negative":       func(d *HostDescription) { d.MaxPinBytes = -1 },
		"not UTF-8":      func(d *HostDescription) { d.Name = "\xff" },
	} {
		d := sampleHost()
		change(&d)
		if _, err := SignHostDescription(d, keyNumber(2)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAHostDescribesItselfOverHTTP(t *testing.T) {
	describe := func(context.Context) (HostDescription, error) {
		d := sampleHost()
		d.Peer, d.Time = "", time.Time{} // for the handler to fill in
		return d, nil
	}
	mux := http.NewServeMux()
	mux.Handle("/base"+HostPath, NewHostHandler(describe, keyNumber(2)))
	mux.Handle("/broken"+HostPath, NewHostHandler(func(context.Context) (HostDescription, error) {
		return HostDescription{}, errors.New("secret reason")
	}, keyNumber(2)))
	srv := httptest.NewServer(mux)
	defer srv.Close()

	for _, base := range []string{srv.URL + "/base", srv.URL + "/base/"} {
		d, err := FetchHostDescription(t.Context(), srv.Client(), base, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if d.Peer != idNumber(2) || d.Name != "alice" || time.Since(d.Time) > time.Hour {
			t.Fatalf("%+v", d)
		}
	}
	if _, err := FetchHostDescription(t.Context(), nil, srv.URL+"/broken", time.Now()); !errors.Is(err, ErrUnavailable) || strings.Contains(err.Error(), "secret") {
		t.Fatal(err)
	}
	resp, err := srv.Client().Post(srv.URL+"/base"+HostPath, "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Fatal(resp.Status)
	}
}

func TestFetchingAHostDescriptionIsBoundedAndFollowsNobody(t *testing.T) {
	elsewhere := 0
	mux := http.NewServeMux()
	mux.HandleFunc("/redirect/", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) })
	mux.HandleFunc("/elsewhere", func(http.ResponseWriter, *http.Request) { elsewhere++ })
	mux.HandleFunc("/endless/", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(bytes.Repeat([]byte(" "), 4096)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/bomb/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		z.Write(make([]byte, 50<<20))
		z.Close()
	})
	mux.HandleFunc("/page/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") })
	srv := httptest.NewServer(mux)
	defer srv.Close()
	for path, want := range map[string]error{
		"/redirect": ErrUnavailable, "/missing": ErrUnavailable,
		"/endless": merkle.ErrMalformed, "/bomb": merkle.ErrMalformed, "/page": merkle.ErrMalformed,
	} {
		if _, err := FetchHostDescription(t.Context(), srv.Client(), srv.URL+path, time.Now()); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", path, err, want)
		}
	}
	if elsewhere != 0 {
		t.Error("the redirect was followed")
	}
	if _, err := FetchHostDescription(t.Context(), nil, "://", time.Now()); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	srv.Close()
	if _, err := FetchHostDescription(t.Context(), nil, srv.URL, time.Now()); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
}

func FuzzParseHostDescription(f *testing.F) {
	raw, err := SignHostDescription(sampleHost(), keyNumber(2))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw, []byte("{}"))
	payload, err := json.Marshal(sampleHost())
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("{}"), payload)
	f.Fuzz(func(t *testing.T, raw, payload []byte) {
		for _, b := range [][]byte{raw, signedBy(t, string(payload), 2, 2)} {
			d, err := ParseHostDescription(b, testTime)
			if err != nil {
				if !errors.Is(err, merkle.ErrMalformed) && !errors.Is(err, merkle.ErrUnsupported) {
					t.Fatalf("error of no kind: %v", err)
				}
				continue
			}
			if len(d.Addrs) > maxHostAddrs || d.Peer == "" || d.FreeBytes < 0 {
				t.Fatalf("accepted %+v", d)
			}
			d.AddrInfo()
		}
	})
}
