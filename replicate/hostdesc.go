package replicate

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
	"unicode/utf8"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/holdfast-sites/holdfast/merkle"
)

// HostPath is where a host describes itself, below the base of its services.
const HostPath = "/holdfast/1/host"

// hostContext begins what the signature of a host description covers.
const hostContext = "holdfast-host-description/1\n"

const (
	maxHostAddrs    = 32
	maxHostGateways = 8
	maxHostName     = 128
	// maxHostAge is how far a description's time may be from the reader's clock.
	maxHostAge = 24 * time.Hour
	// hostTime is how long fetching one may take.
	hostTime = 15 * time.Second
)

// HostDescription is what a host says of itself; see docs/formats.md. Signed
// by the host, and untrusted beyond that.
type HostDescription struct {
	Version     int       `json:"version"` // 0 is written as 1
	Peer        peer.ID   `json:"peer"`
	Time        time.Time `json:"time"` // when it was made; zero is written as now
	Name        string    `json:"name"` // at most 128 bytes
	Addrs       []string  `json:"addrs"`
	Gateways    []string  `json:"gateways"`   // base URLs
	FreeBytes   int64     `json:"free_bytes"` // neither used nor reserved
	MaxPinBytes int64     `json:"max_pin_bytes"`
	Draining    bool      `json:"draining"` // it takes no new pins, and wants to be empty
	Software    string    `json:"software"` // at most 128 bytes
	Terms       HostTerms `json:"terms"`
}

// HostTerms are what a host offers to do. A zero is no limit.
type HostTerms struct {
	AuditsPerHour      int        `json:"audits_per_hour"`
	AuditBytesPerDay   int64      `json:"audit_bytes_per_day"`
	IngressBytesPerDay int64      `json:"ingress_bytes_per_day"`
	EgressBytesPerDay  int64      `json:"egress_bytes_per_day"`
	MaxSiteBytes       int64      `json:"max_site_bytes"` // unique bytes under one root
	Until              *time.Time `json:"until"`          // when the operator means to stop; nil: not known
}

// negative tells whether one of the numbers is none.
func (t HostTerms) negative() bool {
	return t.AuditsPerHour < 0 || t.AuditBytesPerDay < 0 || t.IngressBytesPerDay < 0 || t.EgressBytesPerDay < 0 || t.MaxSiteBytes < 0
}

// AddrInfo is the host's identity and those of its addresses that this program can read.
func (d HostDescription) AddrInfo() peer.AddrInfo {
	info := peer.AddrInfo{ID: d.Peer}
	for _, s := range d.Addrs {
		a, err := ma.NewMultiaddr(s)
		if err != nil {
			continue
		}
		if bare, id := peer.SplitAddr(a); bare != nil && (id == "" || id == d.Peer) {
			info.Addrs = append(info.Addrs, bare)
		}
	}
	return info
}

var hostFields = []string{"version", "peer", "time", "name", "addrs", "gateways", "free_bytes", "max_pin_bytes", "draining", "software",
	"terms", "crit"}

// SignHostDescription makes the JSON that HostPath serves. ErrInvalid where the description
// breaks a limit or names another peer than the key's.
func SignHostDescription(d HostDescription, key crypto.PrivKey) ([]byte, error) {
	if d.Version == 0 {
		d.Version = formatVersion
	}
	if d.Time.IsZero() {
		d.Time = time.Now()
	}
	d.Time = d.Time.UTC().Truncate(time.Second)
	if d.Terms.Until != nil {
		until := d.Terms.Until.UTC().Truncate(time.Second)
		d.Terms.Until = &until
	}
	d.Addrs, d.Gateways = append([]string{}, d.Addrs...), append([]string{}, d.Gateways...) // [] rather than null
	if !d.Peer.MatchesPrivateKey(key) {
		return nil, fmt.Errorf("%w: host description of %s signed by another key", ErrInvalid, d.Peer)
	}
	if err := d.check(); err != nil {
		return nil, fmt.Errorf("%w: host description: %v", ErrInvalid, err)
	}
	raw, err := seal(hostContext, d, key)
	if err != nil {
		return nil, fmt.Errorf("host description: %w", err)
	}
	if len(raw) > maxMessage {
		return nil, fmt.Errorf("%w: host description of %d bytes, more than %d", ErrInvalid, len(raw), maxMessage)
	}
	return raw, nil
}

// ParseHostDescription reads and checks what HostPath served. Errors:
// merkle.ErrMalformed, ErrSignature (a kind of it), merkle.ErrUnsupported for a version or
// critical field that is not known here. A time more than 24 h from now is ErrClock, too.
func ParseHostDescription(raw []byte, now time.Time) (HostDescription, error) {
	d, err := parseHost(raw, now)
	if err != nil {
		return HostDescription{}, fmt.Errorf("host description: %w", err)
	}
	return d, nil
}

func parseHost(raw []byte, now time.Time) (HostDescription, error) {
	var d HostDescription
	payload, signer, err := unseal(hostContext, raw, maxMessage, hostFields)
	if err != nil {
		return d, err
	}
	if err := json.Unmarshal(payload, &d); err != nil {
		return d, fmt.Errorf("%w: %v", merkle.ErrMalformed, err)
	}
	if d.Peer != signer {
		return d, fmt.Errorf("%w: it describes %s and is signed by %s", merkle.ErrMalformed, d.Peer, signer)
	}
	if err := d.check(); err != nil {
		return d, fmt.Errorf("%w: %v", merkle.ErrMalformed, err)
	}
	if now.Sub(d.Time).Abs() > maxHostAge {
		return d, fmt.Errorf("%w: %w: the host's says %s, the one here %s", merkle.ErrMalformed, ErrClock,
			d.Time.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	d.Time = d.Time.UTC()
	return d, nil
}

// check holds what both sides agree on.
func (d HostDescription) check() error {
	switch {
	case len(d.Name) > maxHostName || !utf8.ValidString(d.Name):
		return fmt.Errorf("the name is longer than %d bytes or not UTF-8", maxHostName)
	case len(d.Addrs) > maxHostAddrs:
		return fmt.Errorf("%d addresses, more than %d", len(d.Addrs), maxHostAddrs)
	case len(d.Gateways) > maxHostGateways:
		return fmt.Errorf("%d gateways, more than %d", len(d.Gateways), maxHostGateways)
	case len(d.Software) > maxHostName || !utf8.ValidString(d.Software):
		return fmt.Errorf("the software's name is longer than %d bytes or not UTF-8", maxHostName)
	case d.FreeBytes < 0 || d.MaxPinBytes < 0 || d.Terms.negative():
		return fmt.Errorf("a negative number")
	}
	for _, a := range d.Addrs {
		if len(a) > maxAddrBytes || len(a) == 0 || a[0] != '/' {
			return fmt.Errorf("%q is no multiaddr of at most %d bytes", a, maxAddrBytes)
		}
	}
	for _, g := range d.Gateways {
		if err := checkBaseURL(g); err != nil {
			return fmt.Errorf("gateway %q: %v", g, err)
		}
	}
	return nil
}

// NewHostHandler serves the host's description, signed anew for each request,
// under any path: the caller mounts it at HostPath. What describe leaves out
// (Peer, Time) is filled in.
func NewHostHandler(describe func(ctx context.Context) (HostDescription, error), key crypto.PrivKey) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
			return
		}
		raw, err := describeHost(r.Context(), describe, key)
		if err != nil {
			http.Error(w, "the host can't describe itself just now", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store") // it says how much room there is now
		w.Write(raw)
	})
}

func describeHost(ctx context.Context, describe func(context.Context) (HostDescription, error), key crypto.PrivKey) ([]byte, error) {
	d, err := describe(ctx)
	if err != nil {
		return nil, err
	}
	if d.Peer == "" {
		if d.Peer, err = peer.IDFromPrivateKey(key); err != nil {
			return nil, err
		}
	}
	return SignHostDescription(d, key)
}

// FetchHostDescription gets and checks the description of the host whose
// services are under base. Redirects are refused: who is asked answers itself.
// It ends within 15 s. A nil client means a plain one.
// Errors: ErrUnavailable (of this package) where there is no answer, and those of ParseHostDescription.
func FetchHostDescription(ctx context.Context, hc *http.Client, base string, now time.Time) (HostDescription, error) {
	u, err := url.JoinPath(base, HostPath)
	if err != nil {
		return HostDescription{}, fmt.Errorf("%w: base URL: %v", ErrInvalid, err)
	}
	ctx, cancel := context.WithTimeout(ctx, hostTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return HostDescription{}, fmt.Errorf("%w: base URL: %v", ErrInvalid, err)
	}
	client := http.Client{}
	if hc != nil {
		client = *hc
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(req)
	if err != nil {
		return HostDescription{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return HostDescription{}, fmt.Errorf("%w: %s answered %s", ErrUnavailable, u, resp.Status)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxMessage+1))
	if err != nil {
		return HostDescription{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return ParseHostDescription(raw, now)
}
