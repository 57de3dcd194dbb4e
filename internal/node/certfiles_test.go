package node

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// ownCert is a certificate that signs itself, as PEM.
func ownCert(t *testing.T, name string, until time.Time) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: serial, DNSNames: []string{name}, NotBefore: until.AddDate(-1, 0, 0), NotAfter: until, KeyUsage: x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

func writeFile(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func pairIn(dir string) TLSPair {
	return TLSPair{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
}

// hello asks for a name as browsers do.
func hello(name string) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{
		ServerName: name, SupportedProtos: []string{"h2"}, SupportedVersions: []uint16{tls.VersionTLS13},
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}, CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256},
	}
}

// lines is a log that is written to and read side by side.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// take is what was written since it was last called.
func (l *lines) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()
	return l.text.String()
}

func TestACertificateThatWasRenewedIsUsedWithoutARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files, log := pairIn(t.TempDir()), &lines{}
		year := time.Now().AddDate(1, 0, 0)
		cert, key := ownCert(t, "site.example", year)
		writeFile(t, files.Cert, cert)
		writeFile(t, files.Key, key)
		c, err := openCertFiles([]TLSPair{files}, slog.New(slog.NewTextHandler(log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go c.watch(ctx)
		serial := func() string { return c.choose(hello("site.example")).Leaf.SerialNumber.String() }
		look := func() string {
			log.take()
			time.Sleep(3 * filesEvery)
			synctest.Wait()
			return log.take()
		}
		first := serial()
		if said := look(); said != "" || serial() != first {
			t.Errorf("nothing has changed: %s", said)
		}

		newCert, newKey := ownCert(t, "site.example", year)
		writeFile(t, files.Cert, newCert)
		if said := look(); serial() != first || strings.Count(said, "the certificate is as it was") != 1 || !strings.Contains(said, "key.pem") {
			t.Errorf("half of it is new, and that should be said once: %s", said)
		}
		writeFile(t, files.Key, newKey[:len(newKey)/2])
		if said := look(); serial() != first || !strings.Contains(said, "as it was") {
			t.Errorf("a key that is half written: %s", said)
		}
		writeFile(t, files.Key, newKey)
		if said := look(); serial() == first || strings.Count(said, "read again") != 1 {
			t.Errorf("both are new: %s", said)
		}
		if err := os.Remove(files.Cert); err != nil {
			t.Fatal(err)
		}
		second := serial()
		if said := look(); serial() != second || !strings.Contains(said, "no such file") {
			t.Errorf("the file is gone: %s", said)
		}
	})
}

func TestTheEndOfACertificateIsToldInTimeAndOnceADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files, log := pairIn(t.TempDir()), &bytes.Buffer{}
		cert, key := ownCert(t, "site.example", time.Now().AddDate(0, 0, 16))
		writeFile(t, files.Cert, cert)
		writeFile(t, files.Key, key)
		c, err := openCertFiles([]TLSPair{files}, slog.New(slog.NewTextHandler(log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		for day, want := range map[int]string{1: "", 3: "ends soon", 17: "expired"} {
			log.Reset()
			for range 3 {
				c.remind(c.pairs[0], time.Now().AddDate(0, 0, day))
			}
			if said := log.String(); (want == "") != (said == "") || strings.Count(said, "level=") > 1 || !strings.Contains(said, want) {
				t.Errorf("day %d: want %q, the log says %s", day, want, said)
			}
			c.pairs[0].reminded = time.Time{}
		}
	})
}

func TestOneOfSeveralCertificatesIsChosenByTheNameThatIsAskedFor(t *testing.T) {
	var pairs []TLSPair
	for _, name := range []string{"a.example", "*.b.example"} {
		files := pairIn(t.TempDir())
		cert, key := ownCert(t, name, time.Now().AddDate(1, 0, 0))
		writeFile(t, files.Cert, cert)
		writeFile(t, files.Key, key)
		pairs = append(pairs, files)
	}
	c, err := openCertFiles(pairs, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a.example": "a.example", "x.b.example": "*.b.example", "": "a.example", "c.example": "", "y.x.b.example": ""} {
		got := ""
		if cert := c.choose(hello(name)); cert != nil {
			got = cert.Leaf.DNSNames[0]
		}
		if got != want {
			t.Errorf("%q gets %q, want %q", name, got, want)
		}
	}
}

func TestACertificateThatCantBeUsedSaysWhichFileAndWhatToDo(t *testing.T) {
	dir := t.TempDir()
	files, log := pairIn(dir), slog.New(slog.DiscardHandler)
	cert, key := ownCert(t, "a.example", time.Now().AddDate(1, 0, 0))
	_, other := ownCert(t, "a.example", time.Now().AddDate(1, 0, 0))
	big := filepath.Join(dir, "big")
	writeFile(t, files.Cert, cert)
	writeFile(t, files.Key, other)
	writeFile(t, big, make([]byte, maxCertFile+1))
	for want, pair := range map[string]TLSPair{
		"fullchain.pem":             files,
		"no such file":              {filepath.Join(dir, "none"), files.Key},
		"both, cert and key":        {Cert: files.Cert},
		"larger than":               {big, files.Key},
		"is a directory":            {dir, files.Key},
		"privkey.pem":               {files.Key, files.Cert},
		"gateway.tls.files: " + dir: files,
	} {
		if _, err := openCertFiles([]TLSPair{pair}, log); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	if os.Geteuid() != 0 { // who may read everything
		writeFile(t, files.Key, key)
		if err := os.Chmod(files.Key, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := openCertFiles([]TLSPair{files}, log); err == nil || !strings.Contains(err.Error(), "let the user that runs holdfast read it") {
			t.Error(err)
		}
	}
}
