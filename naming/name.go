package naming

import (
	"fmt"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multibase"
	mh "github.com/multiformats/go-multihash"
)

// Namespace begins the content path and the routing key of every name.
const Namespace = "/ipns/"

// maxNameText bounds what ParseName reads, in bytes. The longest true spelling, a key's CID in base 2, has about 340.
const maxNameText = 512

// maxInlineKey is the largest public key that a name carries within itself, in bytes (libp2p peer id spec); a larger
// key is named by its SHA2-256.
const maxInlineKey = 42

// Name is the hash of a public key: what a site is called, and what its records are checked against. Names are
// comparable with == and serve as map keys. The zero value is no name.
type Name struct{ id peer.ID }

// ParseName reads a name in any spelling of the IPNS specification: a CID of codec libp2p-key in any multibase
// (k51…, bafz…), or a bare multihash in base58 (12D3Koo…, Qm…), with or without "/ipns/" before it. All spellings of a
// key give the same Name. Anything else is ErrInvalidName.
//
// Source: https://specs.ipfs.tech/ipns/ipns-record/#ipns-name
func ParseName(s string) (Name, error) {
	if len(s) > maxNameText {
		return Name{}, fmt.Errorf("%w: %d bytes are too long", ErrInvalidName, len(s))
	}
	text := strings.TrimPrefix(s, Namespace)
	var id peer.ID
	var err error
	if strings.HasPrefix(text, "Qm") || strings.HasPrefix(text, "1") {
		id, err = parseBase58(text)
	} else {
		id, err = parseKeyCID(text)
	}
	if err == nil {
		err = checkKeyHash(id)
	}
	if err != nil {
		return Name{}, fmt.Errorf("%w: %q: %w", ErrInvalidName, s, err)
	}
	return Name{id}, nil
}

func parseBase58(text string) (peer.ID, error) {
	m, err := mh.FromB58String(text)
	if err != nil {
		return "", err
	}
	if m.B58String() != text {
		return "", fmt.Errorf("not the plain base58 of its bytes")
	}
	return peer.ID(m), nil
}

func parseKeyCID(text string) (peer.ID, error) {
	base, raw, err := multibase.Decode(text)
	if err != nil {
		return "", err
	}
	// Go's base32 and base64 skip line breaks and ignore spare bits; a name must read the same everywhere.
	if again, err := multibase.Encode(base, raw); err != nil || !strings.EqualFold(again, text) {
		return "", fmt.Errorf("not the plain multibase of its bytes")
	}
	c, err := cid.Cast(raw)
	if err != nil {
		return "", err
	}
	return peer.FromCid(c)
}

// checkKeyHash refuses multihashes that no key can have, so that a Name is always one that something could sign for.
func checkKeyHash(id peer.ID) error {
	d, err := mh.Decode([]byte(id))
	if err != nil {
		return err
	}
	switch {
	case d.Code == mh.SHA2_256 && d.Length == 32:
		return nil
	case d.Code == mh.IDENTITY && d.Length <= maxInlineKey:
		_, err := id.ExtractPublicKey()
		return err
	}
	return fmt.Errorf("no public key has a %d-byte hash of kind 0x%x", d.Length, d.Code)
}

// NameOf is the name that the key of this peer signs for. The id must be valid: NameOf of junk is a name that nothing
// resolves and that has no spelling.
func NameOf(id peer.ID) Name { return Name{id} }

// String is the one spelling that we write: the CIDv1 of codec libp2p-key in base36, "k51…". "" for the zero value.
func (n Name) String() string {
	c := peer.ToCid(n.id)
	if !c.Defined() {
		return ""
	}
	s, err := c.StringOfBase(multibase.Base36)
	if err != nil {
		return ""
	}
	return s
}

// Peer is the peer id of the name's key.
func (n Name) Peer() peer.ID { return n.id }

// IsZero tells whether n is no name.
func (n Name) IsZero() bool { return n.id == "" }

// RoutingKey is the key of the name's record in the DHT and on pubsub: "/ipns/" and the bytes of the multihash.
func (n Name) RoutingKey() []byte { return append([]byte(Namespace), n.id...) }

// MarshalText is String.
func (n Name) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText is ParseName; an empty text is the zero Name, as MarshalText writes it.
func (n *Name) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*n = Name{}
		return nil
	}
	parsed, err := ParseName(string(b))
	if err != nil {
		return err
	}
	*n = parsed
	return nil
}
