package replicate

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/naming"
)

// Status is where a pin stands (Pinning Service API 1.0.0).
type Status string

// The statuses of the specification.
const (
	Queued  Status = "queued"
	Pinning Status = "pinning"
	Pinned  Status = "pinned"
	Failed  Status = "failed"
)

// Ended tells whether the status is one that a pin stays in.
func (s Status) Ended() bool { return s == Pinned || s == Failed }

// Keys that we add to a pin's meta; see docs/formats.md.
const (
	MetaName     = "holdfast.name"
	MetaRole     = "holdfast.role"
	MetaKeep     = "holdfast.keep"
	MetaMaxBytes = "holdfast.max_bytes"
	MetaSite     = "holdfast.site"
	MetaAuditor  = "holdfast.auditor"
)

// The values of MetaRole.
const (
	RoleHolder  = "holder"
	RoleStandby = "standby"
)

// Keys in the info of a pin's status; see docs/formats.md.
const (
	InfoBytesDone  = "bytes_done"
	InfoBlocksDone = "blocks_done"
	InfoRoot       = "root"
	InfoSequence   = "sequence"
	InfoLastError  = "last_error"
	InfoNextTry    = "next_try"
	InfoKept       = "kept"
	InfoBytes      = "bytes"       // of blocks that the pin keeps, each once
	InfoBytesTotal = "bytes_total" // of the DAG; while it is fetched as its root block says, which may count bytes twice
	InfoRate       = "rate"        // bytes a second of the fetch in hand
	InfoReserved   = "reserved"    // bytes of the quota that are reserved for the pin
	InfoSources    = "sources"     // whom the last fetch asked
	InfoNamePut    = "name_put"    // when this host last put the name's record into routing
)

// Limits of a pin; see the specification and docs/formats.md.
const (
	MaxPinName      = 255 // characters
	MaxOrigins      = 20
	MaxOriginBytes  = 512
	MaxMetaKeys     = 64
	MaxMetaKeyBytes = 128
	MaxMetaValBytes = 1024
	MaxKeep         = 64
	DefaultKeep     = 2
)

// Pin is what somebody wants to be kept, as in the specification. Its JSON is
// the specification's.
type Pin struct {
	CID     cid.Cid
	Name    string
	Origins []string // multiaddrs ending in /p2p/ID
	Meta    map[string]string
}

type pinJSON struct {
	CID     string            `json:"cid"`
	Name    string            `json:"name,omitempty"`
	Origins []string          `json:"origins,omitempty"`
	Meta    map[string]string `json:"meta,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (p Pin) MarshalJSON() ([]byte, error) {
	if !p.CID.Defined() {
		return nil, errors.New("pin without CID")
	}
	return json.Marshal(pinJSON{p.CID.String(), p.Name, p.Origins, p.Meta})
}

// UnmarshalJSON implements json.Unmarshaler. It checks the form only; Check
// has the limits.
func (p *Pin) UnmarshalJSON(b []byte) error {
	var j struct {
		pinJSON
		Meta metaJSON `json:"meta"`
	}
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	c, err := parseCID(j.CID)
	if err != nil {
		return fmt.Errorf("cid: %w", err)
	}
	*p = Pin{CID: c, Name: j.Name, Origins: j.Origins, Meta: j.Meta}
	return nil
}

// metaJSON is an object of strings. A null in it is none: encoding/json alone
// would make an empty string of it.
type metaJSON map[string]string

// UnmarshalJSON implements json.Unmarshaler.
func (m *metaJSON) UnmarshalJSON(b []byte) error {
	var values map[string]*string
	if err := json.Unmarshal(b, &values); err != nil || values == nil {
		return err
	}
	*m = make(metaJSON, len(values))
	for k, v := range values {
		if v == nil {
			return fmt.Errorf("meta %q is null, not a string", cut(k))
		}
		(*m)[k] = *v
	}
	return nil
}

// maxCIDText is longer than any CID that we allow, in any base: decoding takes
// time that grows with the square of the length.
const maxCIDText = 1200

func parseCID(s string) (cid.Cid, error) {
	if len(s) > maxCIDText {
		return cid.Undef, fmt.Errorf("longer than %d characters", maxCIDText)
	}
	return cid.Decode(s)
}

// Check refuses a pin that breaks a limit or whose meta can't be understood.
// The error is an InvalidError, which names the field.
func (p Pin) Check() error {
	if err := blockstore.CheckCID(p.CID); err != nil {
		return invalid("cid", "%v", err)
	}
	if !utf8.ValidString(p.Name) || utf8.RuneCountInString(p.Name) > MaxPinName {
		return invalid("name", "must be UTF-8 of at most %d characters", MaxPinName)
	}
	if len(p.Origins) > MaxOrigins {
		return invalid("origins", "%d are more than %d", len(p.Origins), MaxOrigins)
	}
	for _, o := range p.Origins {
		if len(o) > MaxOriginBytes {
			return invalid("origins", "an address is longer than %d bytes", MaxOriginBytes)
		}
		if _, err := peer.AddrInfoFromString(o); err != nil {
			return invalid("origins", "%q is no multiaddr that ends in /p2p/ID", o)
		}
	}
	if len(p.Meta) > MaxMetaKeys {
		return invalid("meta", "%d keys are more than %d", len(p.Meta), MaxMetaKeys)
	}
	for k, v := range p.Meta {
		if len(k) > MaxMetaKeyBytes || len(v) > MaxMetaValBytes || !utf8.ValidString(k) || !utf8.ValidString(v) {
			return invalid("meta", "keys are UTF-8 of at most %d bytes, values of %d", MaxMetaKeyBytes, MaxMetaValBytes)
		}
	}
	_, err := p.Terms()
	return err
}

// PinTerms are what a pin's meta asks of a holdfast host.
type PinTerms struct {
	Follow   naming.Name // zero: a snapshot
	Standby  bool
	Keep     int         // roots of the name
	MaxBytes int64       // unique bytes; 0: the host's limit
	Site     naming.Name // zero where not given; for a name pin the followed name
	Auditor  peer.ID     // empty where not given
}

// Terms reads the pin's meta keys. The error is an InvalidError.
func (p Pin) Terms() (PinTerms, error) {
	t := PinTerms{Keep: DefaultKeep}
	var err error
	if s, ok := p.Meta[MetaName]; ok {
		if t.Follow, err = naming.ParseName(s); err != nil {
			return PinTerms{}, invalid("meta", "%s: %v", MetaName, err)
		}
		t.Site = t.Follow
	} else if s, ok := p.Meta[MetaSite]; ok {
		if t.Site, err = naming.ParseName(s); err != nil {
			return PinTerms{}, invalid("meta", "%s: %v", MetaSite, err)
		}
	}
	switch p.Meta[MetaRole] {
	case "", RoleHolder:
	case RoleStandby:
		t.Standby = true
	default:
		return PinTerms{}, invalid("meta", "%s must be %s or %s", MetaRole, RoleHolder, RoleStandby)
	}
	if s, ok := p.Meta[MetaKeep]; ok {
		if t.Keep, err = strconv.Atoi(s); err != nil || t.Keep < 1 || t.Keep > MaxKeep {
			return PinTerms{}, invalid("meta", "%s must be 1 to %d", MetaKeep, MaxKeep)
		}
	}
	if s, ok := p.Meta[MetaMaxBytes]; ok {
		if t.MaxBytes, err = strconv.ParseInt(s, 10, 64); err != nil || t.MaxBytes < 0 {
			return PinTerms{}, invalid("meta", "%s must be a number of bytes", MetaMaxBytes)
		}
	}
	if s, ok := p.Meta[MetaAuditor]; ok {
		if t.Auditor, err = peer.Decode(s); err != nil {
			return PinTerms{}, invalid("meta", "%s must be a peer id", MetaAuditor)
		}
	}
	return t, nil
}

// PinStatus is a pin and where it stands, as in the specification.
type PinStatus struct {
	RequestID string            `json:"requestid"`
	Status    Status            `json:"status"`
	Created   time.Time         `json:"created"`
	Pin       Pin               `json:"pin"`
	Delegates []string          `json:"delegates"`
	Info      map[string]string `json:"info,omitempty"`
}

// PinResults is one page of a list, as in the specification. Count is how many
// match in all.
type PinResults struct {
	Count   int         `json:"count"`
	Results []PinStatus `json:"results"`
}

// Match is how a Query's Name is compared.
type Match string

// The strategies of the specification. The empty Match is MatchExact.
const (
	MatchExact    Match = "exact"
	MatchIExact   Match = "iexact"
	MatchPartial  Match = "partial"
	MatchIPartial Match = "ipartial"
)

// Limits of a Query.
const (
	DefaultQueryLimit = 10
	MaxQueryLimit     = 1000
	MaxQueryCIDs      = 10
)

// Query selects pins. The zero value is the ten newest pinned ones: without any
// of CIDs, Name, Status and Meta, only pinned ones match.
type Query struct {
	CIDs   []cid.Cid
	Name   string // empty: any
	Match  Match
	Status []Status
	Before time.Time // zero: no bound; else strictly before
	After  time.Time // likewise
	Limit  int       // 0: DefaultQueryLimit
	Meta   map[string]string
}

// Statuses are those that match; nil means all.
func (q Query) Statuses() []Status {
	if len(q.Status) == 0 && len(q.CIDs) == 0 && q.Name == "" && len(q.Meta) == 0 {
		return []Status{Pinned}
	}
	return q.Status
}

// Check refuses a query that breaks a limit. The error is an InvalidError.
func (q Query) Check() error {
	if q.Limit < 0 || q.Limit > MaxQueryLimit {
		return invalid("limit", "must be 1 to %d", MaxQueryLimit)
	}
	if len(q.CIDs) > MaxQueryCIDs {
		return invalid("cid", "%d are more than %d", len(q.CIDs), MaxQueryCIDs)
	}
	if !utf8.ValidString(q.Name) || utf8.RuneCountInString(q.Name) > MaxPinName {
		return invalid("name", "must be UTF-8 of at most %d characters", MaxPinName)
	}
	switch q.Match {
	case "", MatchExact, MatchIExact, MatchPartial, MatchIPartial:
	default:
		return invalid("match", "must be exact, iexact, partial or ipartial")
	}
	for _, s := range q.Status {
		switch s {
		case Queued, Pinning, Pinned, Failed:
		default:
			return invalid("status", "must be of queued, pinning, pinned, failed")
		}
	}
	if len(q.Meta) > MaxMetaKeys {
		return invalid("meta", "%d keys are more than %d", len(q.Meta), MaxMetaKeys)
	}
	return nil
}

// Tenant is whom a pin belongs to, one for each token, and what the token allows.
type Tenant struct {
	ID, Label string
	Scope     Scope
}

// InvalidError says which field of a request is wrong, and why. It is an ErrInvalid.
type InvalidError struct {
	Field  string
	Reason string
}

func (e *InvalidError) Error() string {
	return strings.Join([]string{ErrInvalid.Error(), e.Field, e.Reason}, ": ")
}

// Unwrap is ErrInvalid.
func (e *InvalidError) Unwrap() error { return ErrInvalid }

func invalid(field, format string, args ...any) error {
	return &InvalidError{Field: field, Reason: fmt.Sprintf(format, args...)}
}

// ParsePin reads a pin's JSON and checks it. Origins that are named twice are
// there once. The error is an InvalidError.
func ParsePin(b []byte) (Pin, error) {
	var p Pin
	if err := json.Unmarshal(b, &p); err != nil {
		return Pin{}, invalid("body", "%v", err)
	}
	if err := p.Check(); err != nil {
		return Pin{}, err
	}
	var once []string // in the order given
	for _, o := range p.Origins {
		if !slices.Contains(once, o) {
			once = append(once, o)
		}
	}
	p.Origins = once
	return p, nil
}
