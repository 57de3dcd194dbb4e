package replicate

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"log/slog"
	"math"
	"strings"

	"github.com/ipld/go-ipld-prime/datamodel"
	"github.com/ipld/go-ipld-prime/fluent/qp"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/holdfast-sites/holdfast/merkle"
)

const (
	invitePrefix   = "hfi1"
	maxInvite      = 4 << 10 // characters
	maxInviteToken = 1024
)

// Invite is everything that an author needs to use a host; see docs/formats.md.
// It carries a token: treat it as a secret. Printing or logging an Invite
// leaves the token out; only Encode shows it.
type Invite struct {
	Base  string  // http(s) URL of the host's services, or a multiaddr ending in /p2p/ID
	Peer  peer.ID // the host
	Token string  `json:"-"` // visible ASCII, at most 1024 bytes
	Name  string  // how the host calls itself, at most 128 bytes
	Quota int64   // unique bytes that the token is good for; 0: no limit

	// Of give and take: Answers is the host whose invite this one answers, and Answered the SHA-256 of that invite's
	// token, by which that host knows which of its tokens is meant. Both are empty, or Answers stands alone.
	Answers  peer.ID
	Answered [sha256.Size]byte
}

var inviteFields = []string{"version", "base", "peer", "token", "name", "quota", "answers", "answered", "crit"}

// Encode makes the string to hand over. ErrInvalid, naming the field, where
// the invite breaks a limit of the format.
func (i Invite) Encode() (string, error) {
	if err := i.check(); err != nil {
		return "", fmt.Errorf("%w: invite: %v", ErrInvalid, err)
	}
	raw, err := encodeMap(func(m datamodel.MapAssembler) {
		qp.MapEntry(m, "version", qp.Int(formatVersion))
		qp.MapEntry(m, "base", qp.String(i.Base))
		qp.MapEntry(m, "peer", qp.String(i.Peer.String()))
		qp.MapEntry(m, "token", qp.String(i.Token))
		qp.MapEntry(m, "name", qp.String(i.Name))
		i.encodeOptional(m)
	})
	if err != nil {
		return "", fmt.Errorf("%w: invite: %v", ErrInvalid, err)
	}
	return invitePrefix + base64.RawURLEncoding.EncodeToString(raw), nil
}

// encodeOptional writes the fields that are left out where they say nothing.
func (i Invite) encodeOptional(m datamodel.MapAssembler) {
	if i.Quota > 0 {
		qp.MapEntry(m, "quota", qp.Int(i.Quota))
	}
	if i.Answers != "" {
		qp.MapEntry(m, "answers", qp.String(i.Answers.String()))
	}
	if i.Answered != ([sha256.Size]byte{}) {
		qp.MapEntry(m, "answered", qp.Bytes(i.Answered[:]))
	}
}

// ParseInvite reads an invite; space around it is ignored. merkle.ErrMalformed,
// or merkle.ErrUnsupported for a version or critical field that is not known
// here. No error repeats the text, since it is a secret.
func ParseInvite(s string) (Invite, error) {
	i, err := parseInvite(s)
	if err != nil {
		return Invite{}, fmt.Errorf("invite: %w", err)
	}
	return i, nil
}

func parseInvite(s string) (Invite, error) {
	s = strings.TrimSpace(s)
	if len(s) > maxInvite {
		return Invite{}, fmt.Errorf("%w: %d characters, more than %d", merkle.ErrMalformed, len(s), maxInvite)
	}
	text, ok := strings.CutPrefix(s, invitePrefix)
	if !ok {
		return Invite{}, fmt.Errorf("%w: it does not begin with %s", merkle.ErrMalformed, invitePrefix)
	}
	if strings.ContainsAny(text, "\r\n") { // which the decoder would skip
		return Invite{}, fmt.Errorf("%w: it has line breaks", merkle.ErrMalformed)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return Invite{}, fmt.Errorf("%w: %v", merkle.ErrMalformed, err)
	}
	n, err := decodeMap(raw, maxInvite)
	if err != nil {
		return Invite{}, fmt.Errorf("%w: not in canonical DAG-CBOR", merkle.ErrMalformed)
	}
	r := readObject(n, inviteFields)
	if r.err != nil {
		return Invite{}, r.err
	}
	i := Invite{
		Base:  r.text("base", maxURLBytes),
		Peer:  r.peerID("peer"),
		Token: r.text("token", maxInviteToken),
		Name:  r.text("name", maxHostName),
	}
	if r.has("quota") {
		i.Quota = r.integer("quota", 1, math.MaxInt64)
	}
	if r.has("answers") {
		i.Answers = r.peerID("answers")
	}
	if r.has("answered") {
		copy(i.Answered[:], r.bytes("answered", len(i.Answered)))
	}
	if r.err != nil {
		return Invite{}, r.err
	}
	if err := i.check(); err != nil {
		return Invite{}, fmt.Errorf("%w: %v", merkle.ErrMalformed, err)
	}
	return i, nil
}

// check holds what both sides agree on. It never names the token.
func (i Invite) check() error {
	if err := i.Peer.Validate(); err != nil {
		return fmt.Errorf("peer: %v", err)
	}
	if i.Token == "" || len(i.Token) > maxInviteToken {
		return fmt.Errorf("the token is empty or longer than %d bytes", maxInviteToken)
	}
	for _, b := range []byte(i.Token) {
		if b <= ' ' || b > '~' { // it travels in a header
			return fmt.Errorf("the token is not visible ASCII")
		}
	}
	if i.Quota < 0 {
		return fmt.Errorf("a quota of %d bytes", i.Quota)
	}
	if i.Answers == "" && i.Answered != ([sha256.Size]byte{}) {
		return fmt.Errorf("it says which token it answers, and not whose")
	}
	if i.Answers != "" {
		if err := i.Answers.Validate(); err != nil {
			return fmt.Errorf("answers: %v", err)
		}
	}
	if len(i.Name) > maxHostName || strings.ToValidUTF8(i.Name, "") != i.Name {
		return fmt.Errorf("the name is longer than %d bytes or not UTF-8", maxHostName)
	}
	if !strings.HasPrefix(i.Base, "/") {
		if err := checkBaseURL(i.Base); err != nil {
			return fmt.Errorf("base: %v", err)
		}
		return nil
	}
	if len(i.Base) > maxURLBytes {
		return fmt.Errorf("base of %d bytes, more than %d", len(i.Base), maxURLBytes)
	}
	a, err := ma.NewMultiaddr(i.Base)
	if err != nil {
		return fmt.Errorf("base: %v", err)
	}
	if _, id := peer.SplitAddr(a); id != i.Peer {
		return fmt.Errorf("base does not end in /p2p/%s", i.Peer)
	}
	return nil
}

// Answer makes an invite the answer to another: give and take.
func (i *Invite) Answer(to Invite) {
	i.Answers, i.Answered = to.Peer, sha256.Sum256([]byte(to.Token))
}

// String is the invite without its token.
func (i Invite) String() string {
	return fmt.Sprintf("invite to %s (%s) at %s", nameOf(i.Name, i.Peer), i.Peer, i.Base)
}

// GoString is String, so that %#v shows no more.
func (i Invite) GoString() string { return i.String() }

// LogValue is String, so that logs show no more.
func (i Invite) LogValue() slog.Value { return slog.StringValue(i.String()) }
