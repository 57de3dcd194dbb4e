package node

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/p2p"
	"github.com/holdfast-sites/holdfast/replicate"
)

// What Examine goes by.
const (
	nameSoon    = 30 * 24 * time.Hour // before a name or a promise ends
	clockSkew   = 2 * time.Minute     // by which this machine's clock may be off
	askTime     = 5 * time.Second     // for one host to answer
	askedAtOnce = 16
)

// ExamineRequest says how far Examine goes.
type ExamineRequest struct {
	Here    bool     `json:"here,omitempty"`    // ask nobody
	Domains []string `json:"domains,omitempty"` // whose DNSLinks are to be looked at
}

// Examination is what was looked at.
type Examination struct {
	Checks []Diagnosis `json:"checks"`
}

// ExamineMachine looks at what the configuration asks of this machine: addresses, certificates, the disk. It asks nobody,
// and changes nothing. running says that the configuration's node runs, and has the addresses.
func ExamineMachine(cfg Config, running bool) []Diagnosis {
	out := []Diagnosis{disk(cfg)}
	if !running {
		out = append(out, addresses(cfg)...)
	}
	return append(out, certificates(cfg, time.Now())...)
}

func broken(check, about, message, advice string) Diagnosis {
	return Diagnosis{Check: check, About: about, Broken: true, Message: message, Advice: advice}
}

func fine(check, about, message string) Diagnosis {
	return Diagnosis{Check: check, About: about, Fine: true, Message: message}
}

func disk(cfg Config) Diagnosis {
	dir := cfg.Home
	for {
		if _, err := os.Stat(dir); err == nil || filepath.Dir(dir) == dir {
			break
		}
		dir = filepath.Dir(dir) // the home is not there yet
	}
	free, total := diskSpace(dir)
	return diskOf(cfg.Home, free, total)
}

func diskOf(home string, free, total int64) Diagnosis {
	switch {
	case total == 0:
		return Diagnosis{Check: "disk", About: home, Fine: true, Message: "how much is free is not known"}
	case free < min(diskReserve, total/diskShare):
		return broken("disk", home, fmt.Sprintf("%d MB of %d MB are free: nothing more is taken for others, and a publish may fail", free>>20, total>>20), "holdfast gc, or make room on the disk")
	}
	return fine("disk", home, fmt.Sprintf("%d MB are free", free>>20))
}

// addresses tries to listen where the configuration says.
func addresses(cfg Config) (out []Diagnosis) {
	try := func(setting, addr string, listen func() (interface{ Close() error }, error)) {
		if addr == "" {
			return
		}
		ln, err := listen()
		if err == nil {
			ln.Close()
			out = append(out, fine("address", setting, addr+" is free"))
			return
		}
		advice := fmt.Sprintf(`%s = "127.0.0.1:0" takes a free one; sudo ss -ltnup shows who has it`, setting)
		if !errors.Is(err, syscall.EADDRINUSE) {
			advice = "set " + setting + " in config.toml to an address of this machine"
		}
		out = append(out, broken("address", setting, notListening(err, addr, setting).Error(), advice))
	}
	tcp := func(addr string) func() (interface{ Close() error }, error) {
		return func() (interface{ Close() error }, error) { return net.Listen("tcp", addr) }
	}
	try("gateway.listen", cfg.Gateway.Listen, tcp(cfg.Gateway.Listen))
	try("gateway.tls.listen", cfg.Gateway.TLS.Listen, tcp(cfg.Gateway.TLS.Listen))
	if cfg.Gateway.TLS.HTTP3 {
		try("gateway.tls.http3", cfg.Gateway.TLS.Listen, func() (interface{ Close() error }, error) {
			return net.ListenPacket("udp", cfg.Gateway.TLS.Listen)
		})
	}
	try("pins.listen", cfg.Pins.Listen, tcp(cfg.Pins.Listen))
	return out
}

// certificates looks at those of files, and at those that an authority gave.
func certificates(cfg Config, now time.Time) (out []Diagnosis) {
	for _, f := range cfg.Gateway.TLS.Files {
		p := &certPair{files: f}
		if _, err := p.look(); err != nil {
			out = append(out, broken("certificate", f.Cert, err.Error(), "correct gateway.tls.files in config.toml"))
			continue
		}
		out = append(out, certificate(f.Cert, p.current.Load().Leaf, now, "renew it and write it over the old one; certbot: sudo certbot renew"))
	}
	for _, name := range cfg.Gateway.TLS.Names {
		file := strings.ReplaceAll(name, "*", "wildcard_") + ".crt"
		found, _ := filepath.Glob(filepath.Join(cfg.Home, "certificates", "certificates", "*", strings.TrimSuffix(file, ".crt"), file))
		if len(found) == 0 {
			out = append(out, Diagnosis{Check: "certificate", About: name, Message: "there is none yet", Advice: "holdfast serve --verbose asks the authority for it, and says what it answers"})
			continue
		}
		b, err := os.ReadFile(found[0])
		block, _ := pem.Decode(b)
		if err != nil || block == nil {
			out = append(out, broken("certificate", name, found[0]+" is no certificate", "delete it, and restart holdfast serve, which asks for a new one"))
			continue
		}
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			out = append(out, broken("certificate", name, err.Error(), "delete "+found[0]+", and restart holdfast serve, which asks for a new one"))
			continue
		}
		out = append(out, certificate(name, leaf, now, "it should have been renewed long ago; holdfast serve --verbose says what the authority answers"))
	}
	return out
}

func certificate(about string, leaf *x509.Certificate, now time.Time, advice string) Diagnosis {
	end := leaf.NotAfter.UTC().Format(time.DateOnly)
	switch {
	case now.After(leaf.NotAfter):
		return broken("certificate", about, "has expired on "+end+": browsers refuse it", advice)
	case now.Before(leaf.NotBefore):
		return broken("certificate", about, "is not valid before "+leaf.NotBefore.UTC().Format(time.DateOnly)+": is this machine's clock right?", "sudo timedatectl set-ntp true")
	case now.Add(endsSoon).After(leaf.NotAfter):
		return broken("certificate", about, "ends on "+end, advice)
	}
	return fine("certificate", about, "is valid until "+end)
}

// examine looks at everything: the configuration, this machine, the sites, and, unless it is to ask nobody, the hosts
// and domains.
func (n *Node) examine(ctx context.Context, req ExamineRequest) (Examination, error) {
	now := time.Now()
	out := Examination{append(Doctor(n.cfg), ExamineMachine(n.cfg, n.serves)...)}
	sites, err := n.author.Status(ctx, author.StatusRequest{}, func(author.Event) {})
	if err != nil {
		return out, err
	}
	for _, s := range sites {
		out.Checks = append(out.Checks, siteEnds(s, now))
	}
	if req.Here || n.cfg.Network == string(p2p.Offline) {
		return out, nil
	}
	hosts, err := n.author.ListHosts(ctx)
	if err != nil {
		return out, err
	}
	out.Checks = append(out.Checks, n.examineHosts(ctx, hosts)...)
	for _, d := range req.Domains {
		report, err := n.author.CheckDomain(ctx, author.DomainRequest{Domain: d})
		switch advice := "holdfast domain check " + d; {
		case err != nil:
			out.Checks = append(out.Checks, broken("domain", d, err.Error(), advice+" --resolver system"))
		case report.Verdict != author.DomainOK:
			out.Checks = append(out.Checks, broken("domain", d, report.Message, advice+" shows the records that should be there"))
		default:
			out.Checks = append(out.Checks, fine("domain", d, report.Message))
		}
	}
	return out, nil
}

// siteEnds tells how long a site is promised to be there.
func siteEnds(s author.SiteStatus, now time.Time) Diagnosis {
	name, day := s.Alias, func(t *time.Time) string { return t.UTC().Format(time.DateOnly) }
	if name == "" {
		name = s.Name
	}
	switch {
	case s.Published != nil && s.Published.After(now.Add(clockSkew)):
		return broken("clock", name, "was published on "+s.Published.UTC().Format(time.RFC3339)+", which is yet to come by this machine's clock ("+now.UTC().Format(time.RFC3339)+")", "sudo timedatectl set-ntp true")
	case s.ValidUntil == nil:
		return fine("site", name, "is not published yet")
	case !s.ValidUntil.After(now):
		return broken("site", name, "its name has ended on "+day(s.ValidUntil)+": nobody finds it any more", "holdfast name renew "+name)
	case s.ValidUntil.Before(now.Add(nameSoon)):
		return broken("site", name, "its name ends on "+day(s.ValidUntil), "holdfast name renew "+name)
	case s.SafeUntil != nil && !s.SafeUntil.After(now):
		return broken("site", name, "what its hosts promised has ended on "+day(s.SafeUntil), "holdfast apply --yes --site "+name)
	case s.SafeUntil != nil && s.SafeUntil.Before(now.Add(nameSoon)):
		return broken("site", name, "what its hosts promise ends on "+day(s.SafeUntil), "holdfast apply --yes --site "+name)
	case s.Copies > 0 && s.Proved < s.MinCopies:
		return broken("site", name, fmt.Sprintf("%d of %d wanted copies stand proved", s.Proved, s.MinCopies), "holdfast apply --yes --site "+name)
	}
	return fine("site", name, "its name is good until "+day(s.ValidUntil))
}

// met is how a host answered.
type met struct {
	err  error
	skew time.Duration // by which this machine's clock is ahead of its
}

// examineHosts asks all hosts at once, and compares clocks.
func (n *Node) examineHosts(ctx context.Context, hosts []author.HostInfo) (out []Diagnosis) {
	hosts = slices.DeleteFunc(hosts, func(h author.HostInfo) bool { return h.URL == "" || h.Kind != "" || h.Out || h.Leaving })
	if len(hosts) == 0 {
		return nil
	}
	answers := make([]met, len(hosts))
	slots := make(chan struct{}, askedAtOnce)
	var asked sync.WaitGroup
	for i, h := range hosts {
		asked.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			answers[i] = n.meetHost(ctx, h)
		})
	}
	asked.Wait()
	silent, off := 0, []time.Duration{}
	for i, h := range hosts {
		name := h.Name
		if name == "" {
			name = h.ID
		}
		if answers[i].err == nil {
			out, off = append(out, fine("host", name, "answers")), append(off, answers[i].skew)
			continue
		}
		silent++
		since := "has never answered"
		if h.Seen != nil {
			since = "answered last on " + h.Seen.UTC().Format(time.RFC3339)
		}
		out = append(out, broken("host", name, fmt.Sprintf("doesn't answer (%v); it %s", answers[i].err, since), "ask its operator, or put the sites elsewhere: holdfast host leave "+name))
	}
	if silent == len(hosts) && !connected() {
		out = append(out, broken("network", "this machine", "has no address but its own: no host can be reached", "connect it to a network"))
	}
	slices.Sort(off)
	if len(off) > 0 {
		if skew := off[len(off)/2]; skew.Abs() > clockSkew {
			word := "ahead of"
			if skew < 0 {
				word = "behind"
			}
			return append(out, broken("clock", "this machine", fmt.Sprintf("its clock is %v %s its hosts': records and certificates are judged by it", skew.Abs().Round(time.Second), word), "sudo timedatectl set-ntp true"))
		}
		out = append(out, fine("clock", "this machine", "agrees with its hosts'"))
	}
	return out
}

func (n *Node) meetHost(ctx context.Context, h author.HostInfo) met {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(h.URL, "/")+replicate.HostPath, nil)
	if err != nil {
		return met{err: err}
	}
	resp, err := n.web.Do(req)
	if at := new(url.Error); errors.As(err, &at) {
		err = at.Err // without the URL, which says nothing new
	}
	if err != nil {
		return met{err: err}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return met{err: errors.New(resp.Status)}
	}
	at, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return met{} // not every proxy sends one
	}
	return met{skew: time.Since(at).Truncate(time.Second)}
}

// connected tells whether this machine has an address that others could have a way to.
func connected() bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return true // nobody knows
	}
	return slices.ContainsFunc(addrs, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast()
	})
}

// HasHome tells whether anything was ever kept at the home.
func HasHome(home string) bool {
	_, err := os.Stat(filepath.Join(home, "state.db"))
	return !errors.Is(err, fs.ErrNotExist)
}
