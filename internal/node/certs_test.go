package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"golang.org/x/time/rate"

	"github.com/holdfast-sites/holdfast/gateway"
	"github.com/holdfast-sites/holdfast/internal/testnet/dnstest"
	"github.com/holdfast-sites/holdfast/naming/deny"
)

const hookFile = "HOLDFAST_TEST_HOOK_FILE"

// TestMain is the dns_hook of the tests, too: it writes down what it is called with.
func TestMain(m *testing.M) {
	if file := os.Getenv(hookFile); file != "" && len(os.Args) == 4 {
		text := ""
		if os.Args[1] == "add" {
			text = os.Args[3]
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// authority is an ACME authority that validates at the ports given. It gives the directory's URL, the file of
// the root by which it is trusted, and the roots of what it issues, which is valid for as long as is said.
func authority(t *testing.T, resolver string, plain, secure net.Listener, lives ...time.Duration) (directory, rootFile string, issued *x509.CertPool) {
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	t.Setenv("PEBBLE_WFE_NONCEREJECT", "0")
	quiet := stdlog.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	var profile ca.Profile
	for _, d := range lives {
		profile.ValidityPeriod = uint64(d / time.Second)
	}
	issuer := ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": profile})
	port := func(ln net.Listener) int { p, _ := portOf(ln); return p }
	front := wfe.New(quiet, store, va.New(quiet, port(plain), port(secure), true, resolver, store), issuer, nil, true, false, 0, 0)
	srv := httptest.NewTLSServer(front.Handler())
	t.Cleanup(srv.Close)
	rootFile = filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(rootFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	issued = x509.NewCertPool()
	issued.AddCert(issuer.GetRootCert(0).Cert)
	return srv.URL + wfe.DirectoryPath, rootFile, issued
}

func listenLoopback(t *testing.T) net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func TestCertificatesAreForTheConfigsNamesAndForDomainsThatAreKept(t *testing.T) {
	hook := filepath.Join(t.TempDir(), "txt")
	t.Setenv(hookFile, hook)
	plain, secure := listenLoopback(t), listenLoopback(t)
	directory, rootFile, issued := authority(t, dnstest.Everywhere(t, hook), plain, secure)
	cfg := GatewayTLS{
		Listen: "127.0.0.1:0", Names: []string{"site.example", "*.wild.example"}, OnDemand: true, PerHour: 1,
		CA: directory, CARoots: rootFile, DNSHook: []string{os.Args[0]}, Email: "op@site.example",
	}
	if err := cfg.check(); err != nil {
		t.Fatal(err)
	}
	var asked []string
	keeps := func(_ context.Context, domain string) error {
		asked = append(asked, domain)
		if strings.HasPrefix(domain, "kept") {
			return nil
		}
		return errNotOurs
	}
	c, err := openCerts(cfg, t.TempDir(), plain, secure, keeps, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%s %s", r.Host, r.Proto) })
	port, _ := portOf(secure)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	go func() { done <- gateway.Serve(ctx, plain, c.plain(h, port), nil) }()
	go func() { done <- gateway.ServeTLS(ctx, secure, c.tlsConfig(), h, nil) }()
	defer func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}()
	if err := c.named.ManageSync(ctx, cfg.Names); err != nil { // what manage does behind our back
		t.Fatal(err)
	}
	client := func(ln net.Listener) *http.Client {
		tr := &http.Transport{
			ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: issued},
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, ln.Addr().String())
			},
		}
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	get := func(name string) (string, error) {
		resp, err := client(secure).Get("https://" + name + "/")
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return string(b), err
	}
	for _, name := range []string{"site.example", "a.wild.example", "kept.example"} {
		if got, err := get(name); err != nil || got != name+" HTTP/2.0" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"stranger.example", "a.b.wild.example", "kept2.example"} { // the last is one more than may be in an hour
		if got, err := get(name); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
	if len(asked) == 0 || asked[0] != "kept.example" {
		t.Errorf("for names of the config it was asked whether they are kept: %v", asked)
	}
	for url, want := range map[string]string{
		"http://site.example/a%20b?c=d": fmt.Sprintf("https://site.example:%d/a%%20b?c=d", port),
		"http://blog.localhost/":        "", "http://127.0.0.1/": "",
	} {
		resp, err := client(plain).Get(url)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Get("Location"); got != want {
			t.Errorf("%s leads to %q, want %q", url, got, want)
		}
	}
}

func TestACertificateFromAFileNeedsNobody(t *testing.T) {
	dir := t.TempDir()
	srv := httptest.NewUnstartedServer(nil)
	srv.StartTLS()
	defer srv.Close()
	pair := srv.TLS.Certificates[0]
	keyDER, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	files := TLSPair{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	for path, b := range map[string]*pem.Block{files.Cert: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, files.Key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ln := listenLoopback(t)
	defer ln.Close()
	c, err := openCerts(GatewayTLS{Listen: "x", Files: []TLSPair{files}}, dir, nil, ln, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	got, err := c.tlsConfig().GetCertificate(&tls.ClientHelloInfo{ServerName: "example.com", SupportedVersions: []uint16{tls.VersionTLS13}, SignatureSchemes: []tls.SignatureScheme{tls.PSSWithSHA256}})
	if err != nil || string(got.Certificate[0]) != string(pair.Certificate[0]) {
		t.Errorf("%v", err)
	}
	if _, err := openCerts(GatewayTLS{Files: []TLSPair{{files.Key, files.Cert}}}, dir, nil, ln, nil, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "gateway.tls.files") {
		t.Errorf("key and certificate changed about: %v", err)
	}
}

func TestMistakesInTheTLSTableNameTheKey(t *testing.T) {
	for want, c := range map[string]GatewayTLS{
		"gateway.tls.listen":   {Names: []string{"a.example"}},
		"nothing to have":      {Listen: ":443"},
		"gateway.tls.names":    {Listen: ":443", Names: []string{"nonsense"}},
		"gateway.tls.dns_hook": {Listen: ":443", Names: []string{"*.a.example"}},
		"gateway.tls.per_hour": {Listen: ":443", OnDemand: true, PerHour: -1},
	} {
		if err := c.check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if _, err := (GatewayTLS{CARoots: filepath.Join(t.TempDir(), "none")}).roots(); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestNoCertificateIsOrderedForWhatAConfiguredOneCovers(t *testing.T) {
	asked := ""
	c := &certs{
		cfg: GatewayTLS{Names: []string{"site.example", "*.wild.example"}}, pace: rate.NewLimiter(1, 10), known: map[string]time.Time{},
		keeps: func(_ context.Context, domain string) error {
			asked += domain + " "
			return nil
		},
	}
	for _, name := range []string{"site.example", "a.wild.example"} {
		if err := c.decide(t.Context(), name); !errors.Is(err, errOnTheWay) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"wild.example", "a.b.wild.example", "kept.example"} {
		if err := c.decide(t.Context(), name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if asked != "wild.example a.b.wild.example kept.example " {
		t.Errorf("looked for the sites of %q", asked)
	}
}

func TestACertificateThatIsThereIsUsedWhileDNSIsSilent(t *testing.T) {
	ln := listenLoopback(t)
	defer ln.Close()
	answers := map[string]error{
		"silent.example": fmt.Errorf("%w: timeout", errNoAnswer), "new.example": fmt.Errorf("%w: timeout", errNoAnswer), "moved.example": errNotOurs,
	}
	keeps := func(_ context.Context, domain string) error { return answers[domain] }
	c, err := openCerts(GatewayTLS{Listen: "x", OnDemand: true}, t.TempDir(), nil, ln, keeps, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	for _, name := range []string{"silent.example", "moved.example"} {
		if err := c.asked.Storage.Store(t.Context(), certmagic.StorageKeys.SiteCert(c.issuer.IssuerKey(), name), []byte("a certificate")); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.decide(t.Context(), "silent.example"); err != nil {
		t.Errorf("with a certificate: %v", err)
	}
	if err := c.decide(t.Context(), "new.example"); !errors.Is(err, errNoAnswer) {
		t.Errorf("without one: %v", err)
	}
	if err := c.decide(t.Context(), "moved.example"); !errors.Is(err, errNotOurs) {
		t.Errorf("of a domain that leads elsewhere: %v", err)
	}
}

func TestWhetherADomainIsKeptIsUnknownOnlyWhileDNSIsSilent(t *testing.T) {
	list := filepath.Join(t.TempDir(), "deny")
	if err := os.WriteFile(list, []byte("/ipns/denied.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	denied, err := deny.Open(deny.Config{Files: []string{list}})
	if err != nil {
		t.Fatal(err)
	}
	silent := func(_ context.Context, host string) ([]string, time.Duration, error) {
		if strings.Contains(host, "odd.example") {
			return []string{"dnslink=nonsense"}, time.Minute, nil
		}
		return nil, 0, errors.New("timeout")
	}
	n := &Node{denied: denied, domains: domains{readers: true, lookup: silent}}
	for domain, unknown := range map[string]bool{"silent.example": true, "odd.example": false, "denied.example": false} {
		if err := n.keepsDomain(t.Context(), domain); err == nil || errors.Is(err, errNoAnswer) != unknown {
			t.Errorf("%s: %v", domain, err)
		}
	}
}

// TestACertificateIsRenewedBeforeItsEndWhileReadersAreServed also where it is for a domain on demand.
func TestACertificateIsRenewedBeforeItsEndWhileReadersAreServed(t *testing.T) {
	hook := filepath.Join(t.TempDir(), "txt")
	t.Setenv(hookFile, hook)
	plain, secure := listenLoopback(t), listenLoopback(t)
	port, _ := portOf(secure)
	// Certmagic goes on with a renewal that it has begun, and has others of the same name wait for it: no other test has these.
	configured, asked := fmt.Sprintf("site-%d.example", port), fmt.Sprintf("kept-%d.example", port)
	directory, rootFile, issued := authority(t, dnstest.Everywhere(t, hook), plain, secure, time.Hour)
	c, err := openCerts(GatewayTLS{
		Listen: "127.0.0.1:0", Names: []string{configured}, OnDemand: true, CA: directory, CARoots: rootFile, renewLook: 100 * time.Millisecond, renewPart: 0.9999,
	}, t.TempDir(), plain, secure, func(context.Context, string) error { return nil }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() { _ = gateway.Serve(ctx, plain, c.plain(h, port), nil) })
	serving.Go(func() { _ = gateway.ServeTLS(ctx, secure, c.tlsConfig(), h, nil) })
	serving.Go(func() { _ = c.manage(ctx) })
	defer serving.Wait()
	defer cancel()
	read := func(name string) (*big.Int, error) {
		tr := &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: issued},
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, secure.Addr().String())
			},
		}
		defer tr.CloseIdleConnections()
		resp, err := (&http.Client{Transport: tr}).Get("https://" + name + "/")
		if err != nil {
			return nil, err
		}
		resp.Body.Close()
		return resp.TLS.PeerCertificates[0].SerialNumber, nil
	}
	first := map[string]*big.Int{}
	names := []string{configured, asked}
	for len(first) < len(names) { // the configured one comes behind our back
		for _, name := range names {
			if serial, err := read(name); err == nil {
				first[name] = serial
			}
		}
		if t.Context().Err() != nil {
			t.Fatal("no certificates")
		}
	}
	if !c.has(t.Context(), asked) || c.has(t.Context(), "other.example") {
		t.Error("which certificates there are is not known")
	}
	c.mu.Lock()
	clear(c.known) // as after a restart
	c.mu.Unlock()
	for c.pace.Allow() { // no new ones in this hour
	}
	for _, name := range names {
		for {
			serial, err := read(name)
			if err != nil {
				t.Fatalf("%s is not served while its certificate is renewed: %v", name, err)
			}
			if serial.Cmp(first[name]) != 0 {
				break
			}
		}
	}
}
