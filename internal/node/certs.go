package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/ipfs/go-cid"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/holdfast-sites/holdfast/naming"
)

// certs has the gateway's certificates: from files, and from an authority for
// the names of the config and for domains of sites that are kept here.
type certs struct {
	cfg    GatewayTLS
	issuer *certmagic.ACMEIssuer
	// named is for the config's names, and asked for whatever else is asked for: one
	// certmagic config would leave the names, too, until somebody asks.
	named, asked *certmagic.Config
	stop         func()
	files        *certFiles
	// keeps tells whether a domain leads to a site of this node; errNoAnswer: nobody knows.
	keeps func(ctx context.Context, domain string) error
	pace  *rate.Limiter // of certificates on demand

	mu    sync.Mutex
	known map[string]time.Time // domains that were kept a moment ago, until when that counts
}

const (
	hookTime   = 5 * time.Minute // for the record to be there
	keptFor    = time.Hour       // that a domain is one of ours need not be found out again
	maxKept    = 10_000
	decideTime = 20 * time.Second
)

// openCerts reads the certificates' files. It asks nobody; manage does.
func openCerts(cfg GatewayTLS, home string, plain, secure net.Listener, keeps func(context.Context, string) error, log *slog.Logger) (*certs, error) {
	roots, err := cfg.roots()
	if err != nil {
		return nil, err
	}
	files, err := openCertFiles(cfg.Files, log)
	if err != nil {
		return nil, err
	}
	c := &certs{cfg: cfg, files: files, keeps: keeps, pace: rate.NewLimiter(rate.Limit(float64(cfg.perHour())/3600), cfg.perHour()), known: map[string]time.Time{}}
	cache := certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(cert certmagic.Certificate) (*certmagic.Config, error) {
			if len(cert.Names) > 0 && slices.Contains(cfg.Names, cert.Names[0]) {
				return c.named, nil
			}
			return c.asked, nil
		},
		RenewCheckInterval: cfg.renewLook,
		Logger:             zap.NewNop(),
	})
	c.stop = cache.Stop
	settings := certmagic.Config{
		Storage:            &certmagic.FileStorage{Path: filepath.Join(home, "certificates")},
		RenewalWindowRatio: cfg.renewPart,
		Logger:             zap.NewNop(),
		OCSP:               certmagic.OCSPConfig{DisableStapling: true}, // authorities give it up, and it tells them of us
		OnEvent: func(_ context.Context, event string, data map[string]any) error {
			switch event {
			case "cert_obtained":
				log.Info("certificate", "name", data["identifier"])
			case "cert_failed":
				log.Error("no certificate", "name", data["identifier"], "err", data["error"])
			}
			return nil
		},
	}
	if len(cfg.Names) > 0 {
		settings.DefaultServerName = strings.TrimPrefix(cfg.Names[0], "*.")
	}
	c.named = certmagic.New(cache, settings)
	if cfg.OnDemand {
		settings.OnDemand = &certmagic.OnDemandConfig{DecisionFunc: c.decide}
	}
	c.asked = certmagic.New(cache, settings)
	issuer := certmagic.ACMEIssuer{CA: cfg.CA, TestCA: cfg.CA, Email: cfg.Email, Agreed: true, TrustedRoots: roots, Logger: zap.NewNop()}
	if cfg.CA == "" {
		issuer.CA, issuer.TestCA = certmagic.LetsEncryptProductionCA, certmagic.LetsEncryptStagingCA
	}
	var local bool
	issuer.AltTLSALPNPort, local = portOf(secure)
	issuer.ListenHost, _, _ = net.SplitHostPort(secure.Addr().String())
	issuer.DisableHTTPChallenge = true
	if plain != nil {
		port, plainLocal := portOf(plain)
		issuer.AltHTTPPort, issuer.DisableHTTPChallenge = port, plainLocal && !local
	}
	if len(cfg.DNSHook) > 0 {
		issuer.DNS01Solver = dnsHook(cfg.DNSHook)
	}
	for _, magic := range []*certmagic.Config{c.named, c.asked} {
		c.issuer = certmagic.NewACMEIssuer(magic, issuer)
		magic.Issuers = []certmagic.Issuer{c.issuer}
	}
	return c, nil
}

// close ends the care for renewals.
func (c *certs) close() { c.stop() }

// manage obtains what the config names, and keeps all certificates fresh, until ctx ends.
func (c *certs) manage(ctx context.Context) error {
	if len(c.cfg.Names) > 0 {
		if err := c.named.ManageAsync(ctx, c.cfg.Names); err != nil {
			return fmt.Errorf("gateway.tls.names: %w", err)
		}
	}
	c.files.watch(ctx)
	<-ctx.Done()
	return nil
}

// tlsConfig speaks HTTP/2 and 1.1, and answers an authority's challenges.
// The operator's own certificates come before those of the authority.
func (c *certs) tlsConfig() *tls.Config {
	t := c.asked.TLSConfig()
	// A handshake for one of the config's names must not come to asked: that takes a certificate which is to be renewed
	// out of use where decide says no.
	asked, named := t.GetCertificate, c.named.TLSConfig().GetCertificate
	t.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if !slices.Equal(hello.SupportedProtos, []string{acmez.ACMETLS1Protocol}) {
			if cert := c.files.choose(hello); cert != nil {
				return cert, nil
			}
		}
		if hello.ServerName == "" && len(c.cfg.Names) > 0 || c.covered(strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))) {
			return named(hello)
		}
		return asked(hello)
	}
	t.NextProtos = append([]string{"h2", "http/1.1"}, t.NextProtos...)
	return t
}

var (
	errNotOurs  = errors.New("no site that is kept here")
	errOnTheWay = errors.New("a certificate of gateway.tls.names will do for it, and is not there yet")
	errNoAnswer = errors.New("DNS does not say where it leads")
)

// covered tells whether a certificate of the configured names does for the name.
func (c *certs) covered(name string) bool {
	return slices.ContainsFunc(c.cfg.Names, func(n string) bool { return certmagic.MatchWildcard(name, n) })
}

// has tells whether there is a certificate for the name already, which is to be used again or renewed.
func (c *certs) has(ctx context.Context, name string) bool {
	return c.asked != nil && c.asked.Storage.Exists(ctx, certmagic.StorageKeys.SiteCert(c.issuer.IssuerKey(), name))
}

// decide tells whether a certificate may be asked for, used or renewed: for a domain of a site
// that is kept here and that none of the configured names covers, and so many new ones an hour. While nobody can say
// where a domain leads, what was right before goes on: readers of a site that is here need no DNS of ours.
func (c *certs) decide(ctx context.Context, name string) error {
	if c.covered(name) {
		return errOnTheWay
	}
	now := time.Now()
	c.mu.Lock()
	until := c.known[name]
	c.mu.Unlock()
	if now.Before(until) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, decideTime)
	defer cancel()
	domain, err := naming.ParseDomain(name)
	if err != nil {
		return err
	}
	switch err := c.keeps(ctx, domain); {
	case errors.Is(err, errNoAnswer) && c.has(ctx, name):
		return nil
	case err != nil:
		return err
	}
	if !c.has(ctx, name) && !c.pace.AllowN(now, 1) {
		return fmt.Errorf("%d certificates an hour are enough (gateway.tls.per_hour)", c.cfg.perHour())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) >= maxKept {
		clear(c.known)
	}
	c.known[name] = now.Add(keptFor)
	return nil
}

// plain is what the unencrypted port serves: an authority's challenges, and the
// way to the encrypted one. This machine's own addresses go on as they are.
func (c *certs) plain(h http.Handler, securePort int) http.Handler {
	if !c.cfg.NoRedirect {
		h = toHTTPS(h, securePort)
	}
	return c.issuer.HTTPChallengeHandler(h)
}

func toHTTPS(h http.Handler, port int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.Host
		if host, _, err := net.SplitHostPort(r.Host); err == nil {
			name = host
		}
		domain, err := naming.ParseDomain(name)
		if _, ipErr := netip.ParseAddr(strings.Trim(name, "[]")); err != nil || ipErr == nil || strings.HasSuffix(domain, ".localhost") {
			h.ServeHTTP(w, r)
			return
		}
		if port != 443 {
			domain = net.JoinHostPort(domain, strconv.Itoa(port))
		}
		to := "https://" + domain + r.URL.EscapedPath()
		if r.URL.RawQuery != "" {
			to += "?" + r.URL.RawQuery
		}
		// Temporary: a browser would go by a permanent one long after TLS was taken away.
		http.Redirect(w, r, to, http.StatusTemporaryRedirect)
	})
}

// dnsHook answers DNS-01 challenges by a command of the operator's.
type dnsHook []string

// Present implements acmez.Solver. The command returns when the record can be seen.
func (h dnsHook) Present(ctx context.Context, c acme.Challenge) error { return h.run(ctx, "add", c) }

// CleanUp implements acmez.Solver.
func (h dnsHook) CleanUp(ctx context.Context, c acme.Challenge) error {
	return h.run(context.WithoutCancel(ctx), "remove", c)
}

func (h dnsHook) run(ctx context.Context, what string, c acme.Challenge) error {
	ctx, cancel := context.WithTimeout(ctx, hookTime)
	defer cancel()
	args := append(slices.Clone(h[1:]), what, c.DNS01TXTRecordName(), c.DNS01KeyAuthorization())
	out, err := exec.CommandContext(ctx, h[0], args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("gateway.tls.dns_hook: %s %s: %w: %.200q", h[0], what, err, out)
	}
	return nil
}

// keepsDomain tells whether a domain's DNSLink leads to a site that is kept here; errNoAnswer where that can't be known now.
func (n *Node) keepsDomain(ctx context.Context, domain string) error {
	links := n.domains.forReaders()
	if links == nil {
		return errors.New("no DNS is asked; set gateway.dns or gateway.dnslink")
	}
	if _, err := n.denied.Path("/ipns/" + domain); err != nil {
		return err
	}
	path, _, err := links.Resolve(ctx, domain)
	switch {
	case errors.Is(err, naming.ErrNotFound), errors.Is(err, naming.ErrDNSLink):
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	ns, id, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	id, _, _ = strings.Cut(id, "/")
	if name, err := naming.ParseName(id); ns == "ipns" && err == nil {
		if n.keepsName(ctx, name) {
			return nil
		}
	} else if root, err := cid.Decode(id); ns == "ipfs" && err == nil {
		if held, err := n.holds(ctx, root); err == nil && held {
			return nil
		}
	}
	return fmt.Errorf("%w: %s leads to %s", errNotOurs, domain, path)
}

// keepsName tells whether a name is that of a site of this home's, of a pin, or followed.
func (n *Node) keepsName(ctx context.Context, name naming.Name) bool {
	sites, _ := n.state.Sites(ctx)
	for _, s := range sites {
		if s.Name == name {
			return true
		}
	}
	names, _ := n.state.KeptNames(ctx)
	return slices.Contains(names, name)
}
