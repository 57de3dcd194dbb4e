package node

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

const (
	filesEvery  = 30 * time.Second    // how often certificates' files are looked at
	endsSoon    = 14 * 24 * time.Hour // before a certificate's end, the log says so
	remindEvery = 24 * time.Hour
	maxCertFile = 1 << 20 // bytes
)

// certFiles are the operator's own certificates. Whoever renews them, as certbot
// does, writes the files anew; they are read again when they have changed.
type certFiles struct {
	pairs []*certPair
	log   *slog.Logger
}

// certPair is one certificate with its key. All but current belongs to whoever looks.
type certPair struct {
	files    TLSPair
	current  atomic.Pointer[tls.Certificate]
	read     [sha256.Size]byte // what both files held when they were last read
	told     string            // the mistake that the log knows of
	reminded time.Time
}

// openCertFiles reads all pairs. The error says which file, and what is wrong with it.
func openCertFiles(files []TLSPair, log *slog.Logger) (*certFiles, error) {
	c := &certFiles{log: log}
	for _, f := range files {
		p := &certPair{files: f}
		if _, err := p.look(); err != nil {
			return nil, fmt.Errorf("gateway.tls.files: %w", err)
		}
		c.pairs = append(c.pairs, p)
		c.remind(p, time.Now())
	}
	return c, nil
}

// watch looks at the files again and again until ctx ends.
func (c *certFiles) watch(ctx context.Context) {
	if len(c.pairs) == 0 {
		return
	}
	tick := time.NewTicker(filesEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.look()
		}
	}
}

// look reads what has changed. A pair that can't be used, half of it being written
// yet for example, leaves the one before it in place.
func (c *certFiles) look() {
	for _, p := range c.pairs {
		changed, err := p.look()
		switch {
		case err != nil && err.Error() != p.told:
			p.told = err.Error()
			c.log.Error("the certificate is as it was", "err", err)
		case err == nil && changed:
			c.log.Info("certificate read again", "file", p.files.Cert, "until", p.current.Load().Leaf.NotAfter)
			p.reminded = time.Time{}
		}
		if err == nil {
			p.told = ""
		}
		c.remind(p, time.Now())
	}
}

// remind says once a day that a certificate has ended, or will soon.
func (c *certFiles) remind(p *certPair, now time.Time) {
	end := p.current.Load().Leaf.NotAfter
	if now.Add(endsSoon).Before(end) || now.Sub(p.reminded) < remindEvery {
		return
	}
	p.reminded = now
	if now.After(end) {
		c.log.Error("certificate has expired: browsers refuse it; put a new one in its place, it is read without a restart", "file", p.files.Cert, "expired", end)
		return
	}
	c.log.Warn("certificate ends soon; put a new one in its place, it is read without a restart", "file", p.files.Cert, "until", end)
}

// look reads the pair, and uses it where it is another than the last.
func (p *certPair) look() (changed bool, err error) {
	cert, err := readCertFile(p.files.Cert)
	if err != nil {
		return false, err
	}
	key, err := readCertFile(p.files.Key)
	if err != nil {
		return false, err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d ", len(cert))
	h.Write(cert)
	h.Write(key)
	read := [sha256.Size]byte(h.Sum(nil))
	if read == p.read && p.current.Load() != nil {
		return false, nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return false, fmt.Errorf("%s with %s: %w; cert is the chain as PEM (certbot's fullchain.pem), key what belongs to its first certificate (privkey.pem)", p.files.Cert, p.files.Key, err)
	}
	p.read = read
	p.current.Store(&pair)
	return true, nil
}

// readCertFile says what to do about a file that can't be read.
func readCertFile(path string) ([]byte, error) {
	if path == "" {
		return nil, errors.New("each pair needs both, cert and key")
	}
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxCertFile {
		return nil, fmt.Errorf("%s is larger than %d bytes: no certificate is", path, maxCertFile)
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%w; let the user that runs holdfast read it", err)
	}
	return b, err
}

// choose is the certificate for a handshake: the first that suits the name asked for,
// the first of all where the client asked for none. Nil: none suits.
func (c *certFiles) choose(hello *tls.ClientHelloInfo) *tls.Certificate {
	for _, p := range c.pairs {
		if cert := p.current.Load(); hello.SupportsCertificate(cert) == nil {
			return cert
		}
	}
	return nil
}
