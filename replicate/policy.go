package replicate

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/ipld/go-ipld-prime/datamodel"
	"github.com/ipld/go-ipld-prime/fluent/qp"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	mh "github.com/multiformats/go-multihash"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
)

// Limits of a policy, docs/formats.md; MaxKeep is that of pins.
const (
	MaxCopies       = 64
	MaxAvailability = 1_000_000 // millionths: always
	MaxGrace        = 365 * 24 * time.Hour
	MaxRoster       = 64

	maxAddrs     = 16
	maxAddrBytes = 256
	maxURLBytes  = 512
	maxLabels    = 8
	maxLabelSize = 64
	maxPeerID    = 128
	// maxUnix is the last second of the year 9999, which is as far as RFC 3339 can tell.
	maxUnix = 253402300799
)

// The labels that an author may give a host. Those who share a value may fail together; hosts of one operator
// are one failure domain, of which a plan takes a second only when the others are used up.
const (
	LabelOperator = "operator"
	LabelNetwork  = "network" // AS64500, or the provider
	LabelRegion   = "region"
	LabelSoftware = "software"
)

// Policy is what an author wants for one site; see docs/formats.md. It names
// neither root nor release, so that one policy serves many releases.
type Policy struct {
	Copies       int           // wanted proved copies, 0..64
	Availability int           // target in millionths, 999900 is 99.99 %; 0: none
	Keep         int           // releases whose roots holders keep, 1..64; 0 is written as DefaultKeep
	Grace        time.Duration // whole seconds for which the root before the current one stays after a switch, however few are kept; at most MaxGrace
	MaxBytes     int64         // unique bytes over the kept roots that a holder may spend; 0: no limit
	Expires      time.Time     // whole seconds; after it hosts follow the policy no longer; required
	Roster       []Member      // at most 64, in the order of takeover
	Crit         []string      // fields that a reader must understand or refuse
}

// Member is a host in a policy's roster, as the author knows it.
type Member struct {
	ID     peer.ID
	Addrs  []string          // multiaddrs without the host's own /p2p
	URL    string            // base URL of its services; "" where it has none
	Labels map[string]string // the author's: operator, network, region, software
}

// Domain is the failure domain of the member: its operator label, or itself
// where it has none.
func (m Member) Domain() string {
	if op := m.Labels[LabelOperator]; op != "" {
		return op
	}
	return m.ID.String()
}

// AddrInfo is the member's identity with the addresses that this program can
// read; those of transports that it doesn't know are left out, so that an
// author may list them. ErrMalformed where addresses are given and none can be read.
func (m Member) AddrInfo() (peer.AddrInfo, error) {
	info := peer.AddrInfo{ID: m.ID}
	var last error
	for _, s := range m.Addrs {
		a, err := ma.NewMultiaddr(s)
		if err != nil {
			last = err
			continue
		}
		info.Addrs = append(info.Addrs, a)
	}
	if len(info.Addrs) == 0 && last != nil {
		return info, fmt.Errorf("%w: no address of %s can be read: %v", merkle.ErrMalformed, m.ID, last)
	}
	return info, nil
}

var policyFields = []string{"version", "copies", "availability", "keep", "grace", "maxBytes", "expires", "roster", "crit"}

// policyPrefix is how a policy's block is named.
var policyPrefix = cid.Prefix{Version: 1, Codec: cid.DagCBOR, MhType: mh.SHA2_256, MhLength: 32}

// EncodePolicy makes the policy's block. ErrInvalid, naming the field, where
// the policy breaks a limit of the format. The same policy gives the same block.
func EncodePolicy(p Policy) (blockstore.Block, error) {
	if p.Keep == 0 {
		p.Keep = DefaultKeep
	}
	if err := checkPolicy(p); err != nil {
		return blockstore.Block{}, fmt.Errorf("%w: policy: %v", ErrInvalid, err)
	}
	raw, err := encodeMap(func(m datamodel.MapAssembler) {
		qp.MapEntry(m, "version", qp.Int(formatVersion))
		qp.MapEntry(m, "copies", qp.Int(int64(p.Copies)))
		qp.MapEntry(m, "availability", qp.Int(int64(p.Availability)))
		qp.MapEntry(m, "keep", qp.Int(int64(p.Keep)))
		qp.MapEntry(m, "grace", qp.Int(int64(p.Grace/time.Second)))
		qp.MapEntry(m, "maxBytes", qp.Int(p.MaxBytes))
		qp.MapEntry(m, "expires", qp.Int(p.Expires.Unix()))
		qp.MapEntry(m, "roster", qp.List(int64(len(p.Roster)), func(l datamodel.ListAssembler) {
			for _, member := range p.Roster {
				qp.ListEntry(l, qp.Map(4, putMember(member)))
			}
		}))
		putTexts(m, "crit", p.Crit)
	})
	if err != nil {
		return blockstore.Block{}, fmt.Errorf("%w: policy: %v", ErrInvalid, err)
	}
	b, err := blockstore.NewBlock(policyPrefix, raw)
	if err != nil {
		return blockstore.Block{}, err
	}
	// What could not be read back (not UTF-8, too large) must not be signed. A
	// critical field of a later version may be written by who knows it.
	if _, err := decodePolicy(b); err != nil && !errors.Is(err, merkle.ErrUnsupported) {
		return blockstore.Block{}, fmt.Errorf("%w: policy: %v", ErrInvalid, err)
	}
	return b, nil
}

func putMember(member Member) func(datamodel.MapAssembler) {
	return func(m datamodel.MapAssembler) {
		qp.MapEntry(m, "id", qp.String(member.ID.String()))
		putTexts(m, "addrs", member.Addrs)
		qp.MapEntry(m, "url", qp.String(member.URL))
		qp.MapEntry(m, "labels", qp.Map(int64(len(member.Labels)), func(lm datamodel.MapAssembler) {
			for k, v := range member.Labels { // the encoder sorts
				qp.MapEntry(lm, k, qp.String(v))
			}
		}))
	}
}

// DecodePolicy reads a policy's block. merkle.ErrUnsupported for a version or
// a critical field that is not known here, merkle.ErrMalformed for anything
// that does not follow the format.
func DecodePolicy(b blockstore.Block) (Policy, error) {
	p, err := decodePolicy(b)
	if err != nil {
		return Policy{}, fmt.Errorf("policy %s: %w", b.Cid(), err)
	}
	return p, nil
}

func decodePolicy(b blockstore.Block) (Policy, error) {
	if !b.Cid().Defined() || b.Cid().Prefix() != policyPrefix {
		return Policy{}, fmt.Errorf("%w: not a DAG-CBOR block named by SHA2-256", merkle.ErrMalformed)
	}
	n, err := decodeMap(b.RawData(), maxMessage)
	if err != nil {
		return Policy{}, err
	}
	r := readObject(n, policyFields)
	if r.err != nil {
		return Policy{}, r.err
	}
	p := Policy{
		Copies:       int(r.integer("copies", 0, MaxCopies)),
		Availability: int(r.integer("availability", 0, MaxAvailability)),
		Keep:         int(r.integer("keep", 1, MaxKeep)),
		Grace:        time.Duration(r.integer("grace", 0, int64(MaxGrace/time.Second))) * time.Second,
		MaxBytes:     r.integer("maxBytes", 0, 1<<63-1),
		Expires:      time.Unix(r.integer("expires", 0, maxUnix), 0).UTC(),
		Crit:         r.texts("crit", maxCrit, maxName),
	}
	for _, n := range r.list("roster", 0, MaxRoster) {
		p.Roster = append(p.Roster, readMember(r, n))
	}
	if r.err != nil {
		return Policy{}, r.err
	}
	if err := checkPolicy(p); err != nil {
		return Policy{}, fmt.Errorf("%w: %v", merkle.ErrMalformed, err)
	}
	return p, nil
}

func readMember(outer *mapReader, n datamodel.Node) Member {
	if n.Kind() != datamodel.Kind_Map {
		outer.fail("roster", "an entry is not a map")
		return Member{}
	}
	r := &mapReader{node: n, err: outer.err}
	m := Member{
		ID:     r.peerID("id"),
		Addrs:  r.texts("addrs", maxAddrs, maxAddrBytes),
		URL:    r.text("url", maxURLBytes),
		Labels: r.textMap("labels", maxLabels, maxLabelSize),
	}
	outer.err = r.err
	return m
}

// peerID accepts one spelling only, so that equal identities are equal texts.
func (r *mapReader) peerID(name string) peer.ID {
	s := r.text(name, maxPeerID)
	id, err := parsePeerID(s)
	if err != nil {
		r.fail(name, err)
	}
	return id
}

func parsePeerID(s string) (peer.ID, error) {
	id, err := peer.Decode(s)
	if err != nil {
		return "", err
	}
	if id.String() != s {
		return "", fmt.Errorf("%q is not the base58 spelling of a peer id", s)
	}
	return id, nil
}

// ReadPolicy gets and decodes a policy. Errors: those of the getter and of DecodePolicy.
func ReadPolicy(ctx context.Context, g blockstore.Getter, c cid.Cid) (Policy, error) {
	b, err := g.Get(ctx, c)
	if err != nil {
		return Policy{}, fmt.Errorf("policy: %w", err)
	}
	return DecodePolicy(b)
}

// checkPolicy holds what writer and reader agree on. Multiaddrs are not parsed
// by either: an older reader would refuse the whole policy for one new transport.
func checkPolicy(p Policy) error {
	switch {
	case p.Copies < 0 || p.Copies > MaxCopies:
		return fmt.Errorf("copies %d is not within 0..%d", p.Copies, MaxCopies)
	case p.Availability < 0 || p.Availability > MaxAvailability:
		return fmt.Errorf("availability %d is not within 0..%d millionths", p.Availability, MaxAvailability)
	case p.Keep < 1 || p.Keep > MaxKeep:
		return fmt.Errorf("keep %d is not within 1..%d", p.Keep, MaxKeep)
	case p.Grace < 0 || p.Grace > MaxGrace || p.Grace%time.Second != 0:
		return fmt.Errorf("a grace of %s is not whole seconds within 0..%s", p.Grace, MaxGrace)
	case p.MaxBytes < 0:
		return fmt.Errorf("maxBytes %d is negative", p.MaxBytes)
	case p.Expires.Unix() < 0 || p.Expires.Unix() > maxUnix:
		return fmt.Errorf("no expiry, or one that is out of range")
	case len(p.Roster) > MaxRoster:
		return fmt.Errorf("%d hosts in the roster, more than %d", len(p.Roster), MaxRoster)
	case len(p.Crit) > maxCrit:
		return fmt.Errorf("%d critical fields, more than %d", len(p.Crit), maxCrit)
	}
	for _, c := range p.Crit {
		if len(c) > maxName {
			return fmt.Errorf("the name of a critical field has %d bytes, more than %d", len(c), maxName)
		}
	}
	seen := make(map[peer.ID]bool)
	for _, m := range p.Roster {
		if seen[m.ID] {
			return fmt.Errorf("%s is in the roster twice", m.ID)
		}
		seen[m.ID] = true
		if err := checkMember(m); err != nil {
			return fmt.Errorf("roster, %s: %v", m.ID, err)
		}
	}
	return nil
}

func checkMember(m Member) error {
	if err := m.ID.Validate(); err != nil {
		return err
	}
	if len(m.Addrs) > maxAddrs {
		return fmt.Errorf("%d addresses, more than %d", len(m.Addrs), maxAddrs)
	}
	for _, a := range m.Addrs {
		if err := checkAddr(a); err != nil {
			return err
		}
	}
	if m.URL != "" {
		if err := checkBaseURL(m.URL); err != nil {
			return err
		}
	}
	if len(m.Labels) > maxLabels {
		return fmt.Errorf("%d labels, more than %d", len(m.Labels), maxLabels)
	}
	for k, v := range m.Labels {
		if k == "" || len(k) > maxLabelSize || len(v) > maxLabelSize {
			return fmt.Errorf("label %q is empty or longer than %d bytes", k, maxLabelSize)
		}
	}
	return nil
}

func checkAddr(s string) error {
	if len(s) > maxAddrBytes || !strings.HasPrefix(s, "/") {
		return fmt.Errorf("%q is no multiaddr of at most %d bytes", s, maxAddrBytes)
	}
	a, err := ma.NewMultiaddr(s)
	if err != nil {
		return nil // of a transport that is not known here: AddrInfo leaves it out
	}
	if _, last := ma.SplitLast(a); last != nil && last.Protocol().Code == ma.P_P2P {
		return fmt.Errorf("%q ends in a peer id", s)
	}
	return nil
}

// checkBaseURL accepts what paths can be appended to and requests be sent to.
func checkBaseURL(s string) error {
	if len(s) > maxURLBytes {
		return fmt.Errorf("URL of %d bytes, more than %d", len(s), maxURLBytes)
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return fmt.Errorf("not a URL")
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.Opaque != "":
		return fmt.Errorf("not an absolute http or https URL")
	case u.User != nil:
		return fmt.Errorf("a base URL carries no user or password")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(s, "#"):
		return fmt.Errorf("a base URL carries no query or fragment")
	}
	return nil
}
