package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/holdfast-sites/holdfast/naming"
)

// Config is what config.toml in the home can say; a flag of the command line
// wins over it. The zero value is a node without any listener on the private
// network. Home must be set.
type Config struct {
	Home string `toml:"-"`
	// RuntimeDir is where the control socket's folder is made; empty: the
	// system's folder for temporary files.
	RuntimeDir string       `toml:"-"`
	Tool       string       `toml:"-"` // what releases say they were made by
	Log        *slog.Logger `toml:"-"` // nil: discard
	// Keys is how the sites' keys are opened; its Dir is the home's.
	Keys naming.KeyringConfig `toml:"-"`

	// Dial opens the TCP connections of the libp2p host and to the URLs of hosts. nil: the system's dialler.
	Dial func(ctx context.Context, network, address string) (net.Conn, error) `toml:"-"`

	Network string   `toml:"network"` // "private" (default), "public", "offline"
	Peers   []string `toml:"peers"`   // multiaddrs ending in /p2p/ID, kept connected
	Host    bool     `toml:"host"`    // keep sites for token holders

	P2P       P2PConfig       `toml:"p2p"`
	Gateway   GatewayConfig   `toml:"gateway"`
	Pins      PinsConfig      `toml:"pins"`
	Admission AdmissionConfig `toml:"admission"`
	Publish   PublishConfig   `toml:"publish"`
	Store     StoreConfig     `toml:"store"`

	Timeouts TimeoutsConfig `toml:"timeouts"`
	Repair   RepairConfig   `toml:"repair"`
	DNS      DNSConfig      `toml:"dns"`
}

// DNSConfig is the [dns] table. Nobody is asked unless it, or gateway.dns, says so.
type DNSConfig struct {
	Resolvers []string `toml:"resolvers"` // "system", "https://HOST/dns-query", "udp://IP:PORT": each where those before gave no answer
}

// P2PConfig is the [p2p] table.
type P2PConfig struct {
	Listen       []string `toml:"listen"`        // multiaddrs; default: TCP and QUIC on a free port
	Announce     []string `toml:"announce"`      // multiaddrs told to others in place of those listened on
	PSKFile      string   `toml:"psk_file"`      // 32 bytes, raw or hex: a private network's key
	AllowPrivate bool     `toml:"allow_private"` // dial private addresses that tenants name
	Routers      []string `toml:"routers"`       // delegated routers' base URLs: names are put and asked for there, and on the public network providers too
}

// GatewayConfig is the [gateway] table.
type GatewayConfig struct {
	Listen           string                 `toml:"listen"` // "127.0.0.1:8080"; empty: no gateway
	URL              string                 `toml:"url"`    // how readers elsewhere reach it, e.g. "https://sites.example"
	RetrievalTimeout Duration               `toml:"retrieval_timeout"`
	ReadyBytes       int64                  `toml:"ready_bytes"`      // kept in memory to be served again at once; 0: 64 MiB, negative: nothing
	RetrievalBlocks  int                    `toml:"retrieval_blocks"` // fetched from peers for one request; default 65536
	RetrievalBytes   int64                  `toml:"retrieval_bytes"`  // likewise; default 16 GiB
	MaxConcurrent    int                    `toml:"max_concurrent"`   // requests that are worked on at once; default 4096
	MaxRetrievals    int                    `toml:"max_retrievals"`   // requests that wait for peers at once; default 1024
	TrustedProxies   []string               `toml:"trusted_proxies"`  // whose X-Forwarded-For, -Host and -Proto count
	Limits           GatewayLimits          `toml:"limits"`
	TLS              GatewayTLS             `toml:"tls"`
	AccessLog        GatewayAccessLog       `toml:"access_log"`
	Hosts            map[string]GatewayHost `toml:"hosts"`
	DNSLink          map[string]string      `toml:"dnslink"` // domain → "/ipns/…"; no DNS is asked
	DNS              bool                   `toml:"dns"`     // ask DNS for DNSLink records of whatever domain readers name; without [dns]: the system's resolver
}

// GatewayHost is one [gateway.hosts."example.com"] table.
type GatewayHost struct {
	Paths         []string `toml:"paths"`
	Subdomains    bool     `toml:"subdomains"`
	InlineDNSLink bool     `toml:"inline_dnslink"`
	Deserialized  *bool    `toml:"deserialized"` // false: nothing but what clients can check, blocks, CARs and records; default true
}

func (h GatewayHost) trustless() bool { return h.Deserialized != nil && !*h.Deserialized }

// PinsConfig is the [pins] table.
type PinsConfig struct {
	Listen      string `toml:"listen"`        // "127.0.0.1:0"; empty: over libp2p only
	URL         string `toml:"url"`           // how authors elsewhere reach it
	Name        string `toml:"name"`          // how the host calls itself; default: the machine's name
	MaxPinBytes int64  `toml:"max_pin_bytes"` // unique bytes a pin may take; default 10 GiB

	Capacity      int64     `toml:"capacity"`        // bytes kept and reserved here, for anybody; 0: what the disk has, but for a reserve
	IngressPerDay int64     `toml:"ingress_per_day"` // bytes fetched for pins in a UTC day; 0: no limit
	EgressPerDay  int64     `toml:"egress_per_day"`  // bytes sent to peers and readers in a UTC day, before strangers have to wait; 0: no limit
	Until         time.Time `toml:"until"`           // when the operator means to stop, for the host's description
}

// AdmissionConfig is the [admission] table: which pins a host takes.
type AdmissionConfig struct {
	Allow        []string `toml:"allow"`          // names; empty: any, and pins without one
	MaxSiteBytes int64    `toml:"max_site_bytes"` // unique bytes under one root; 0: no limit
	Denylist     string   `toml:"denylist"`       // one more denylist than those of the home's folder denylists; read again when it changes
}

// PublishConfig is the [publish] table: defaults of the flags of the same names.
type PublishConfig struct {
	Copies   *int     `toml:"copies"`
	Keep     int      `toml:"keep"`
	Lifetime Duration `toml:"lifetime"`
	TTL      Duration `toml:"ttl"`
	Symlinks string   `toml:"symlinks"` // "follow" (default) or "keep"; for build too
	Strict   bool     `toml:"strict"`   // refuse what the preflight warns of
}

// StoreConfig is the [store] table.
type StoreConfig struct {
	CollectEvery Duration `toml:"collect_every"` // how often a node that serves looks whether there is something to collect; 1h
}

// TimeoutsConfig is the [timeouts] table: how long others may keep this node
// waiting. 0 is each room's own default, which suits the internet.
type TimeoutsConfig struct {
	Connect Duration `toml:"connect"` // to reach one peer; 10s
	Request Duration `toml:"request"` // one request to a host's services; 30s
	Resolve Duration `toml:"resolve"` // everybody who is asked for a name; 10s
	Stall   Duration `toml:"stall"`   // one source of a fetch that sends nothing; 20s
	Idle    Duration `toml:"idle"`    // a fetch without one new block, from anybody; 60s
}

// Duration is a time.Duration that people write as "30s", "90d" or "1y".
type Duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) (err error) {
	*d, err = ParseDuration(string(b))
	return err
}

// ParseDuration reads what time.ParseDuration reads, and whole days (24 hours
// each) and years (365 days each). Negative ones are errors.
func ParseDuration(text string) (Duration, error) {
	for unit, length := range map[string]time.Duration{"d": 24 * time.Hour, "y": 365 * 24 * time.Hour} {
		number, ok := strings.CutSuffix(text, unit)
		if n, err := strconv.ParseUint(number, 10, 32); ok && err == nil && time.Duration(n) <= math.MaxInt64/length {
			return Duration(time.Duration(n) * length), nil
		}
	}
	v, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("a duration is like 30s, 24h, 90d or 1y, not %q", text)
	}
	if v < 0 {
		return 0, fmt.Errorf("duration %q is negative", text)
	}
	return Duration(v), nil
}

// maxConfig bounds config.toml, in bytes.
const maxConfig = 1 << 20

// LoadConfig reads config.toml in the home; a missing file is an empty one.
// Unknown keys are errors: a misspelt setting must not be silently ignored.
func LoadConfig(home string) (Config, error) {
	c := Config{Home: home}
	path := filepath.Join(home, "config.toml")
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return c, err
	}
	if len(b) > maxConfig {
		return c, fmt.Errorf("%s is larger than %d bytes", path, maxConfig)
	}
	meta, err := toml.NewDecoder(bytes.NewReader(b)).Decode(&c)
	if err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	if un := meta.Undecoded(); len(un) > 0 {
		names := make([]string, len(un))
		hint := ""
		for i, k := range un {
			names[i] = k.String()
			if near := meant(k); near != "" && hint == "" {
				hint = fmt.Sprintf("; is %s meant to be %s?", k, near)
			}
		}
		return c, fmt.Errorf("%s: unknown settings: %s%s", path, strings.Join(names, ", "), hint)
	}
	return c, nil
}
