package node

import (
	"fmt"
	"net/netip"
	"os"
	"sync"

	"github.com/holdfast-sites/holdfast/gateway"
)

// GatewayLimits is the [gateway.limits] table: what one client takes, by its
// IPv4 address or IPv6 /64. 0: no limit.
type GatewayLimits struct {
	Requests   float64 `toml:"requests_per_second"` // on average
	Burst      int     `toml:"burst"`               // requests at once; 0: ten seconds' worth
	Bytes      int64   `toml:"bytes_per_second"`
	Concurrent int     `toml:"concurrent"` // requests at a time
}

// GatewayAccessLog is the [gateway.access_log] table.
type GatewayAccessLog struct {
	File          string `toml:"file"`           // empty: none is written
	Format        string `toml:"format"`         // "common" (default), "combined", "vhost_combined"
	FullAddresses bool   `toml:"full_addresses"` // not cut to /24 and /48
}

// guard fills in what the gateway keeps its readers to. The error names the key.
func (c GatewayConfig) guard(cfg *gateway.Config) error {
	for key, n := range map[string]float64{
		"max_concurrent": float64(c.MaxConcurrent), "max_retrievals": float64(c.MaxRetrievals),
		"retrieval_blocks": float64(c.RetrievalBlocks), "retrieval_bytes": float64(c.RetrievalBytes),
		"limits.requests_per_second": c.Limits.Requests, "limits.burst": float64(c.Limits.Burst),
		"limits.bytes_per_second": float64(c.Limits.Bytes), "limits.concurrent": float64(c.Limits.Concurrent),
	} {
		if n < 0 {
			return fmt.Errorf("gateway.%s is negative; leave it out for the default", key)
		}
	}
	if b := c.Limits.Bytes; b > 0 && b < gateway.MinClientBytes {
		return fmt.Errorf("gateway.limits.bytes_per_second is %d; with less than %d pages don't get through", b, gateway.MinClientBytes)
	}
	if err := gateway.CheckAccessFormat(c.AccessLog.Format); err != nil {
		return fmt.Errorf("gateway.access_log.format: %w", err)
	}
	for _, s := range c.TrustedProxies {
		p, err := netip.ParsePrefix(s)
		if a, aerr := netip.ParseAddr(s); aerr == nil {
			p, err = a.Prefix(a.BitLen())
		}
		if err != nil {
			return fmt.Errorf("gateway.trusted_proxies: %q is neither an address nor a network like 10.0.0.0/8", s)
		}
		cfg.TrustedProxies = append(cfg.TrustedProxies, p)
	}
	cfg.MaxConcurrent, cfg.MaxRetrievals = c.MaxConcurrent, c.MaxRetrievals
	cfg.RetrievalBlocks, cfg.RetrievalBytes = c.RetrievalBlocks, c.RetrievalBytes
	cfg.Clients = gateway.ClientLimits{Requests: c.Limits.Requests, Burst: c.Limits.Burst, Bytes: c.Limits.Bytes, Concurrent: c.Limits.Concurrent}
	cfg.AccessLog = gateway.AccessLog{Format: c.AccessLog.Format, FullAddresses: c.AccessLog.FullAddresses}
	return nil
}

// logFile is a file that is written at its end, and begun anew where another
// program has moved it away.
type logFile struct {
	path string

	mu   sync.Mutex
	file *os.File
}

func openLogFile(path string) (*logFile, error) {
	l := &logFile{path: path}
	return l, l.reopen()
}

func (l *logFile) reopen() error {
	f, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if l.file != nil {
		l.file.Close()
	}
	l.file = f
	return nil
}

// Write implements io.Writer.
func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.moved() {
		if err := l.reopen(); err != nil {
			return 0, err
		}
	}
	return l.file.Write(p)
}

func (l *logFile) moved() bool {
	now, err := os.Stat(l.path)
	if err != nil {
		return os.IsNotExist(err)
	}
	was, err := l.file.Stat()
	return err != nil || !os.SameFile(now, was)
}

// Close implements io.Closer.
func (l *logFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}
