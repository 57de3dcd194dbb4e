package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// secureReady is what a gateway with TLS says when it is ready.
type secureReady struct {
	Secure string `json:"gateway_tls"`
}

// serveSecure starts a gateway with TLS; secure is where that is, HOST:PORT.
func (w *world) serveSecure(home string) (n *node, plain, secure string) {
	w.t.Helper()
	n = &node{w: w, home: home}
	line := n.startCommand(w.command(context.Background(), home, "serve", "--network", "offline"))
	var r secureReady
	if err := json.Unmarshal(line, &r); err != nil {
		w.t.Fatal(err)
	}
	return n, strings.TrimPrefix(n.Gateway, "http://"), strings.TrimPrefix(r.Secure, "https://")
}

// ownCertificate writes a certificate that signs itself into the home, and gives whom to trust.
func (w *world) ownCertificate(home string, names ...string) (roots *x509.CertPool) {
	w.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: names, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		w.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		w.t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	w.writeFiles(home, map[string][]byte{"cert.pem": cert, "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})})
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(cert)
	return roots
}

// readerAt is a browser that finds every name at the addresses given, and follows no redirects.
func readerAt(t *testing.T, plain, secure string, roots *x509.CertPool) *http.Client {
	tr := &http.Transport{
		ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			at := plain
			if !strings.HasSuffix(addr, ":80") {
				at = secure
			}
			return (&net.Dialer{}).DialContext(ctx, network, at)
		},
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// TestAGatewayServesTheWorld goes through what an operator sets up for a public gateway, with the real program.
func TestAGatewayServesTheWorld(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	film := make([]byte, 24<<20)
	_, _ = rand.Read(film)
	w.writeFiles("site", map[string][]byte{"index.html": []byte("<h1>hello</h1>"), "film.mp4": film})
	var p published
	w.must(&p, "gate", "publish", w.home("site"), "--site", "blog", "--copies", "0", "--network", "offline")
	roots := w.ownCertificate("gate", "site.example", "blog.localhost")
	logFile := w.home("access.log")
	w.configure("gate", fmt.Sprintf(`
[gateway]
listen = "127.0.0.1:0"
trusted_proxies = ["127.0.0.1"]
dnslink = {"site.example" = "/ipns/%s"}
[gateway.tls]
listen = "127.0.0.1:0"
http3 = true
files = [{cert = %q, key = %q}]
[gateway.limits]
requests_per_second = 0.01
burst = 5
[gateway.access_log]
file = %q
format = "vhost_combined"
`, p.Name, w.home("gate")+"/cert.pem", w.home("gate")+"/key.pem", logFile))
	n, plain, secure := w.serveSecure("gate")
	reader := readerAt(t, plain, secure, roots)
	get := func(c *http.Client, where string, header ...string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequest(http.MethodGet, where, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp, string(b)
	}
	_, port, _ := net.SplitHostPort(secure)

	// HTTPS with the operator's certificate, HTTP/2, and HTTP/3 announced and spoken.
	for _, host := range []string{"site.example", "blog.localhost"} {
		resp, body := get(reader, "https://"+host+"/")
		if resp.StatusCode != 200 || resp.ProtoMajor != 2 || body != "<h1>hello</h1>" || resp.Header.Get("Alt-Svc") != fmt.Sprintf(`h3=":%s"; ma=86400`, port) {
			t.Errorf("%s: %s %s %q, Alt-Svc %q", host, resp.Proto, resp.Status, body, resp.Header.Get("Alt-Svc"))
		}
	}
	over3 := &http3.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, Dial: func(ctx context.Context, _ string, tc *tls.Config, qc *quic.Config) (*quic.Conn, error) {
		return quic.DialAddr(ctx, secure, tc, qc)
	}}
	if resp, body := get(&http.Client{Transport: over3}, "https://site.example/"); resp.StatusCode != 200 || resp.ProtoMajor != 3 || body != "<h1>hello</h1>" {
		t.Errorf("HTTP/3: %s %s %q", resp.Proto, resp.Status, body)
	}
	over3.Close()
	if _, err := readerAt(t, plain, secure, roots).Get("https://stranger.example/"); err == nil {
		t.Error("a name without a certificate was served")
	}

	// Pages lead to https, but for this machine's own.
	for host, want := range map[string]string{"site.example": "https://site.example:" + port + "/a?b", "blog.localhost": ""} {
		resp, _ := get(reader, "http://"+host+"/a?b")
		if got := resp.Header.Get("Location"); got != want || (want != "") != (resp.StatusCode == http.StatusTemporaryRedirect) {
			t.Errorf("http://%s: %s to %q", host, resp.Status, got)
		}
	}

	// A client behind the trusted proxy has its limit, and nobody else's.
	for i := range 7 {
		resp, _ := get(reader, "https://site.example/", "X-Forwarded-For", "203.0.113.9")
		if want := map[bool]int{true: 200, false: 429}[i < 5]; resp.StatusCode != want || (want == 429) != (resp.Header.Get("Retry-After") != "") {
			t.Errorf("request %d: %s, Retry-After %q", i+1, resp.Status, resp.Header.Get("Retry-After"))
		}
	}
	if resp, _ := get(reader, "https://site.example/", "X-Forwarded-For", "203.0.114.9"); resp.StatusCode != 200 {
		t.Errorf("another client: %s", resp.Status)
	}

	// The access log says who came, and is begun anew where it was moved away.
	log, _ := os.ReadFile(logFile)
	for _, want := range []string{"203.0.113.0 - - [", `"GET / HTTP/2.0" 429`, `"GET / HTTP/3.0" 200`, "site.example 127.0.0.0"} {
		if !strings.Contains(string(log), want) {
			t.Errorf("the access log has no %q:\n%s", want, log)
		}
	}
	if err := os.Rename(logFile, logFile+".1"); err != nil {
		t.Fatal(err)
	}
	get(reader, "https://blog.localhost/")
	if again, _ := os.ReadFile(logFile); strings.Count(string(again), "\n") != 1 {
		t.Errorf("after the rotation: %q", again)
	}

	// What is denied is gone at once, and comes back.
	w.must(nil, "gate", "deny", "add", "/ipns/"+p.Name, "--status", "451")
	if resp, _ := get(reader, "https://site.example/"); resp.StatusCode != 451 {
		t.Errorf("denied: %s", resp.Status)
	}
	w.must(nil, "gate", "deny", "remove", "/ipns/"+p.Name)
	if resp, _ := get(reader, "https://site.example/"); resp.StatusCode != 200 {
		t.Errorf("denied no more: %s", resp.Status)
	}

	// A download that runs is not cut short when the operator ends the node.
	resp, err := reader.Get("https://site.example/film.mp4")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	ended := make(chan time.Duration, 1)
	go func() { ended <- n.stop() }()
	if rest, err := io.Copy(io.Discard, resp.Body); err != nil || rest != int64(len(film)-1<<20) {
		t.Errorf("%d bytes, %v", rest, err)
	}
	<-ended
	if code := n.Cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestAGatewayThatCantServeSaysWhatToDo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	w.ownCertificate("gate", "site.example")
	cert, key := w.home("gate")+"/cert.pem", w.home("gate")+"/key.pem"
	for name, c := range map[string]struct{ config, says string }{
		"the port is taken":       {fmt.Sprintf("[gateway.tls]\nlisten = %q\nfiles = [{cert = %q, key = %q}]", taken.Addr(), cert, key), "is taken by another program; choose another address"},
		"not this machine's":      {"[gateway]\nlisten = \"192.0.2.1:8080\"", "is no address of this machine"},
		"there is no such file":   {fmt.Sprintf("[gateway.tls]\nlisten = \"127.0.0.1:0\"\nfiles = [{cert = \"/none.pem\", key = %q}]", key), "gateway.tls.files: open /none.pem: no such file"},
		"a pair that is none":     {fmt.Sprintf("[gateway.tls]\nlisten = \"127.0.0.1:0\"\nfiles = [{cert = %q, key = %q}]", key, cert), "certbot's fullchain.pem"},
		"a wildcard, no hook":     {"[gateway.tls]\nlisten = \"127.0.0.1:0\"\nnames = [\"*.site.example\"]", "needs gateway.tls.dns_hook"},
		"a misspelt setting":      {"[gateway.tls]\nlisten = \"127.0.0.1:0\"\nhttp2 = true", "meant to be gateway.tls.http3?"},
		"limits below a page":     {"[gateway.limits]\nbytes_per_second = 100", "gateway.limits.bytes_per_second is 100"},
		"a log in no such folder": {"[gateway.access_log]\nfile = \"/none/access.log\"", "gateway.access_log.file"},
	} {
		if !strings.Contains(c.config, "[gateway]\n") {
			c.config = "[gateway]\nlisten = \"127.0.0.1:0\"\n" + c.config
		}
		w.configure("gate", c.config)
		r := w.try("gate", "serve", "--network", "offline")
		if _, message, _ := r.failure(t); r.code == 0 || !strings.Contains(message, c.says) {
			t.Errorf("%s: exit code %d, %q", name, r.code, message)
		}
	}
}
