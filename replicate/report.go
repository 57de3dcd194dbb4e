package replicate

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
)

// ReportPath is where a host tells of its sites, below the base of its services; the name follows.
const ReportPath = "/holdfast/1/sites/"

// reportContext begins what the signature of a site report covers.
const reportContext = "holdfast-site-report/1\n"

const (
	maxReport     = 256 << 10
	maxEventKind  = 32
	maxReportTime = 24 * time.Hour // from the reader's clock
)

// SiteReport is what a host has seen of a site's holders, and what it did; see docs/formats.md.
// Signed by the host, and hearsay beyond that.
type SiteReport struct {
	Peer     peer.ID // who reports
	Time     time.Time
	Site     naming.Name
	Role     string    // RoleHolder or RoleStandby
	Holds    time.Time // since when it holds the site; zero where it doesn't
	Root     cid.Cid   // the root it holds, likewise
	Sequence uint64
	Policy   cid.Cid
	Members  []ReportMember // by rank, but itself; at most MaxRoster
	Events   []Event        // newest first; at most MaxEvents
}

// ReportMember is what the host has seen of one other member of the site's roster.
type ReportMember struct {
	Peer      peer.ID
	Rank      int
	Seen      time.Time // when it last answered; zero: never. So are the others
	Held      time.Time // when it last proved that it holds the site
	Absent    time.Time // since when it says, or was found, not to
	Uptime    int       // low estimate, millionths
	Patience  time.Duration
	Convicted bool
}

// The JSON of a report.
type (
	reportJSON struct {
		Version  int64        `json:"version"`
		Peer     peer.ID      `json:"peer"`
		Time     time.Time    `json:"time"`
		Site     string       `json:"site"`
		Role     string       `json:"role"`
		Holds    *time.Time   `json:"holds"`
		Root     string       `json:"root"`
		Sequence uint64       `json:"sequence"`
		Policy   string       `json:"policy"`
		Members  []memberJSON `json:"members"`
		Events   []eventJSON  `json:"events"`
	}
	memberJSON struct {
		Peer      peer.ID    `json:"peer"`
		Rank      int        `json:"rank"`
		Seen      *time.Time `json:"seen"`
		Held      *time.Time `json:"held"`
		Absent    *time.Time `json:"absent"`
		Uptime    int        `json:"uptime"`
		Patience  int64      `json:"patience"` // seconds
		Convicted bool       `json:"convicted"`
	}
	eventJSON struct {
		At     time.Time `json:"at"`
		Kind   EventKind `json:"kind"`
		Host   peer.ID   `json:"host"`
		Detail string    `json:"detail"`
	}
)

var reportFields = []string{"version", "peer", "time", "site", "role", "holds", "root", "sequence", "policy", "members", "events", "crit"}

// SignSiteReport makes the JSON that ReportPath serves; the oldest events are left out
// where they have no room. Peer is the key's. ErrInvalid where the report breaks a limit.
func SignSiteReport(r SiteReport, key crypto.PrivKey) ([]byte, error) {
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, err
	}
	r.Peer = id
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("%w: site report: %v", ErrInvalid, err)
	}
	for {
		raw, err := seal(reportContext, r.json(), key)
		if err != nil || len(raw) <= maxReport {
			return raw, err
		}
		if len(r.Events) == 0 {
			return nil, fmt.Errorf("%w: site report of %d bytes, more than %d", ErrInvalid, len(raw), maxReport)
		}
		r.Events = r.Events[:len(r.Events)/2]
	}
}

func (r SiteReport) json() reportJSON {
	out := reportJSON{
		Version: formatVersion, Peer: r.Peer, Time: wholeSeconds(r.Time), Site: r.Site.String(), Role: r.Role, Holds: orNull(r.Holds),
		Root: textOf(r.Root), Sequence: r.Sequence, Policy: textOf(r.Policy), Members: []memberJSON{}, Events: []eventJSON{},
	}
	for _, m := range r.Members {
		out.Members = append(out.Members, memberJSON{
			Peer: m.Peer, Rank: m.Rank, Seen: orNull(m.Seen), Held: orNull(m.Held), Absent: orNull(m.Absent),
			Uptime: m.Uptime, Patience: int64(m.Patience / time.Second), Convicted: m.Convicted,
		})
	}
	for _, e := range r.Events {
		out.Events = append(out.Events, eventJSON{At: wholeSeconds(e.At), Kind: e.Kind, Host: e.Host, Detail: e.Detail})
	}
	return out
}

func wholeSeconds(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = wholeSeconds(t)
	return &t
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

func cidOrNone(s string) (cid.Cid, error) {
	if s == "" {
		return cid.Undef, nil
	}
	return parseCID(s)
}

func textOf(c cid.Cid) string {
	if !c.Defined() {
		return ""
	}
	return c.String()
}

// ParseSiteReport reads and checks what ReportPath served for a site. Errors: merkle.ErrMalformed, ErrSignature
// (a kind of it), merkle.ErrUnsupported for a version or critical field that is not
// known here. A time more than 24 h from now is ErrClock, too.
func ParseSiteReport(raw []byte, now time.Time) (SiteReport, error) {
	payload, signer, err := unseal(reportContext, raw, maxReport, reportFields)
	if err != nil {
		return SiteReport{}, fmt.Errorf("site report: %w", err)
	}
	var j reportJSON
	if err := json.Unmarshal(payload, &j); err != nil {
		return SiteReport{}, fmt.Errorf("site report: %w: %v", merkle.ErrMalformed, err)
	}
	r, err := j.report()
	if err == nil && r.Peer != signer {
		err = fmt.Errorf("it is by %s and signed by %s", r.Peer, signer)
	}
	if err == nil {
		err = r.check()
	}
	if err != nil {
		return SiteReport{}, fmt.Errorf("site report: %w: %v", merkle.ErrMalformed, err)
	}
	if now.Sub(r.Time).Abs() > maxReportTime {
		return SiteReport{}, fmt.Errorf("site report: %w: %w: the host's says %s, the one here %s", merkle.ErrMalformed, ErrClock,
			r.Time.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return r, nil
}

func (j reportJSON) report() (SiteReport, error) {
	r := SiteReport{Peer: j.Peer, Time: j.Time.UTC(), Role: j.Role, Holds: orZero(j.Holds), Sequence: j.Sequence}
	var err error
	if r.Site, err = naming.ParseName(j.Site); err != nil {
		return r, fmt.Errorf("site: %v", err)
	}
	if len(j.Members) > MaxRoster || len(j.Events) > MaxEvents {
		return r, fmt.Errorf("%d members and %d events, more than %d and %d", len(j.Members), len(j.Events), MaxRoster, MaxEvents)
	}
	if r.Root, err = cidOrNone(j.Root); err != nil {
		return r, fmt.Errorf("root: %v", err)
	}
	if r.Policy, err = cidOrNone(j.Policy); err != nil {
		return r, fmt.Errorf("policy: %v", err)
	}
	for _, m := range j.Members {
		r.Members = append(r.Members, ReportMember{
			Peer: m.Peer, Rank: m.Rank, Seen: orZero(m.Seen), Held: orZero(m.Held), Absent: orZero(m.Absent),
			Uptime: m.Uptime, Patience: time.Duration(min(max(m.Patience, -1), maxPatienceText)) * time.Second, Convicted: m.Convicted,
		})
	}
	for _, e := range j.Events {
		r.Events = append(r.Events, Event{Site: r.Site, At: e.At.UTC(), Kind: e.Kind, Host: e.Host, Detail: e.Detail})
	}
	return r, nil
}

// maxPatienceText bounds a patience, in seconds, so that it fits a Duration.
const maxPatienceText = 10 * 365 * 24 * 3600

// check holds what both sides agree on.
func (r SiteReport) check() error {
	switch {
	case r.Site.IsZero() || r.Peer == "":
		return fmt.Errorf("no site or no peer")
	case r.Role != RoleHolder && r.Role != RoleStandby:
		return fmt.Errorf("role %s", strconv.Quote(cut(r.Role)))
	case len(r.Members) > MaxRoster:
		return fmt.Errorf("%d members, more than %d", len(r.Members), MaxRoster)
	case len(r.Events) > MaxEvents:
		return fmt.Errorf("%d events, more than %d", len(r.Events), MaxEvents)
	}
	for _, m := range r.Members {
		if m.Peer == "" || m.Rank < 0 || m.Rank >= MaxRoster || m.Uptime < 0 || m.Uptime > MaxAvailability || m.Patience < 0 {
			return fmt.Errorf("member %q is out of range", m.Peer)
		}
	}
	for _, e := range r.Events {
		if e.Kind == "" || len(e.Kind) > maxEventKind || len(e.Detail) > maxDetail || !utf8.ValidString(e.Detail) {
			return fmt.Errorf("an event is longer than it may be")
		}
	}
	return nil
}
