package e2e

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	stdlog "log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"

	"github.com/holdfast-sites/holdfast/internal/control"
	"github.com/holdfast-sites/holdfast/internal/testnet/dnstest"
)

// authority is an ACME authority (Let's Encrypt's own for tests). Whoever asks it waits
// until it is told at which ports names are to be validated.
type authority struct {
	directory string         // URL
	rootFile  string         // by which its directory is trusted
	issued    *x509.CertPool // of what it issues
	open      func(plain, secure string)

	mu      sync.Mutex
	ordered map[string]int // certificates, by name
}

// order notes what a request for a certificate (RFC 8555, section 7.4) is for.
func (a *authority) order(r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	var signed struct{ Payload string }
	_ = json.Unmarshal(body, &signed)
	var order struct{ Identifiers []struct{ Value string } }
	payload, _ := base64.RawURLEncoding.DecodeString(signed.Payload)
	_ = json.Unmarshal(payload, &order)
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range order.Identifiers {
		a.ordered[id.Value]++
	}
}

// names are those for which certificates were ordered, once or more often: a validation may fail.
func (a *authority) names() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Sorted(maps.Keys(a.ordered))
}

// newAuthority finds every name at this machine, and every TXT record in the file.
func newAuthority(t *testing.T, w *world, txtFile string) *authority {
	// Not t.Setenv, which wants a test alone: nobody else reads these.
	os.Setenv("PEBBLE_VA_NOSLEEP", "1")
	os.Setenv("PEBBLE_WFE_NONCEREJECT", "0")
	quiet := stdlog.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	issuer := ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {}})
	a := &authority{issued: x509.NewCertPool(), ordered: map[string]int{}}
	opened := make(chan http.Handler, 1)
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case h := <-opened:
			opened <- h
			if strings.HasPrefix(r.URL.Path, "/order-plz") {
				a.order(r)
			}
			h.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(srv.Close)
	resolver := dnstest.Everywhere(t, txtFile)
	a.open = func(plain, secure string) {
		port := func(at string) int {
			_, p, _ := net.SplitHostPort(at)
			n, _ := strconv.Atoi(p)
			return n
		}
		checks := va.New(quiet, port(plain), port(secure), true, resolver, store)
		front := wfe.New(quiet, store, checks, issuer, nil, true, false, 0, 0)
		opened <- front.Handler()
	}
	a.directory, a.rootFile = srv.URL+wfe.DirectoryPath, w.home("authority.pem")
	w.writeFiles("", map[string][]byte{"authority.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})})
	a.issued.AddCert(issuer.GetRootCert(0).Cert)
	return a
}

// TestCertificatesComeForWhatIsKeptAndForNothingElse goes to a real authority with the real program.
func TestCertificatesComeForWhatIsKeptAndForNothingElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	var p published
	w.writeFiles("site", map[string][]byte{"index.html": []byte("<h1>hello</h1>")})
	w.must(&p, "gate", "publish", w.home("site"), "--site", "blog", "--copies", "0", "--network", "offline")
	txtFile, hook := w.home("txt"), w.home("dns-txt")
	script := fmt.Sprintf("#!/bin/sh\nif [ \"$1\" = add ]; then printf %%s \"$3\" > %s; else : > %s; fi\n", txtFile, txtFile)
	if err := os.WriteFile(hook, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	a := newAuthority(t, w, txtFile)
	w.configure("gate", fmt.Sprintf(`
[gateway]
listen = "127.0.0.1:0"
[gateway.dnslink]
"site.example" = "/ipns/%[1]s"
"a.wild.example" = "/ipns/%[1]s"
"kept.example" = "/ipns/%[1]s"
"elsewhere.example" = "/ipfs/bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
[gateway.tls]
listen = "127.0.0.1:0"
names = ["site.example", "*.wild.example"]
on_demand = true
dns_hook = [%[2]q]
ca = %[3]q
ca_roots = %[4]q
`, p.Name, hook, a.directory, a.rootFile))
	_, plain, secure := w.serveSecure("gate")
	a.open(plain, secure)
	read := func(host string) error {
		resp, err := readerAt(t, plain, secure, a.issued).Get("https://" + host + "/")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if b, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || string(b) != "<h1>hello</h1>" {
			return fmt.Errorf("%s %q, %v", resp.Status, b, err)
		}
		return nil
	}
	for _, host := range []string{"site.example", "a.wild.example", "kept.example"} { // two of the config, one on demand
		var err error
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
			if err = read(host); err == nil {
				break
			}
		}
		if err != nil {
			t.Fatalf("%s: %v", host, err)
		}
	}
	for _, host := range []string{"elsewhere.example", "stranger.example", "a.b.wild.example"} {
		if err := read(host); err == nil {
			t.Errorf("%s was served", host)
		}
	}
	if got := a.names(); !slices.Equal(got, []string{"*.wild.example", "kept.example", "site.example"}) {
		t.Errorf("certificates were ordered for %q", got)
	}
}

func TestAGatewayWhoseAuthorityIsDownServesWhatItCan(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.writeFiles("site", map[string][]byte{"index.html": []byte("<h1>hello</h1>")})
	w.must(nil, "gate", "publish", w.home("site"), "--site", "blog", "--copies", "0", "--network", "offline")
	gone := httptest.NewServer(nil)
	gone.Close()
	roots := w.ownCertificate("gate", "own.example", "blog.localhost")
	w.configure("gate", fmt.Sprintf(`
[gateway]
listen = "127.0.0.1:0"
[gateway.tls]
listen = "127.0.0.1:0"
names = ["site.example"]
ca = %q
files = [{cert = %q, key = %q}]
`, gone.URL, w.home("gate")+"/cert.pem", w.home("gate")+"/key.pem"))
	said := make(chan string, 64)
	w.begin(func(line string) {
		select {
		case said <- line:
		default:
		}
	}, "gate", "serve", "--network", "offline")
	deadline := time.After(patience)
	for told := false; !told; {
		select {
		case line := <-said:
			told = strings.Contains(line, "no certificate") && strings.Contains(line, "site.example") && strings.Contains(line, "refused")
		case <-deadline:
			t.Fatal("the log doesn't say that there is no certificate, and why")
		}
	}
	socket, err := control.SocketPath(w.dir, w.home("gate"))
	if err != nil {
		t.Fatal(err)
	}
	client, err := control.Dial(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var info struct {
		Gateway string `json:"gateway"`
		Secure  string `json:"gateway_tls"`
	}
	if err := client.Node(t.Context(), &info); err != nil {
		t.Fatal(err)
	}
	plain, secure := strings.TrimPrefix(info.Gateway, "http://"), strings.TrimPrefix(info.Secure, "https://")
	reader := readerAt(t, plain, secure, roots)
	resp, err := reader.Get("https://blog.localhost/")
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("the operator's own certificate: %v", err)
	}
	resp.Body.Close()
	if _, err := reader.Get("https://site.example/"); err == nil {
		t.Error("there is a certificate from nobody")
	}
}
