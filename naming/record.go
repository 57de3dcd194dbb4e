package naming

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ipfs/boxo/ipns"
	ipnspb "github.com/ipfs/boxo/ipns/pb"
	"github.com/ipfs/go-cid"
	"github.com/ipld/go-ipld-prime/codec/dagcbor"
	"github.com/ipld/go-ipld-prime/node/basicnode"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"
)

// Keys of our metadata in a record's signed data (docs/formats.md).
const (
	metaRelease     = "_holdfast_release"
	metaPolicy      = "_holdfast_policy"
	metaRecovery    = "_holdfast_recovery"
	metaRecoveryKey = "_holdfast_recovery_key"
	metaRecoverySig = "_holdfast_recovery_sig"
)

// Record is an IPNS record whose signature is its name's: there is no other way to get one than OpenRecord,
// OpenStored and Signer.Sign. Records are immutable, safe to share, and totally ordered by Compare. The zero value
// is no record; it loses against every other.
type Record struct{ s *recordState }

type recordState struct {
	name       Name
	raw        []byte
	value      contentPath
	sequence   uint64
	ttl        time.Duration
	validUntil time.Time
	release    cid.Cid
	policy     cid.Cid
	recovery   Commitment
	last       lastProof
}

// OpenRecord checks raw and opens it as the record of n at the time now: size, V2 signature by the name's key,
// agreement of the V1 and the V2 fields, kind and form of its end of life, sequence, value, our metadata, expiry.
// raw is copied. Errors: ErrTooLarge, ErrSignature, ErrExpired or another ErrInvalidRecord; the text names what is
// wrong.
//
// Source: https://specs.ipfs.tech/ipns/ipns-record/#record-verification
func OpenRecord(n Name, raw []byte, now time.Time) (Record, error) {
	r, err := OpenStored(n, raw)
	if err != nil {
		return Record{}, err
	}
	if r.Expired(now) {
		return Record{}, expiredError(r, now)
	}
	return r, nil
}

// expiredError names the clock, since a wrong one is the likelier cause where it says that a fresh record is dead.
func expiredError(r Record, now time.Time) error {
	return fmt.Errorf("%w: it was valid until %s, and the clock here says %s", ErrExpired,
		r.ValidUntil().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
}

// OpenStored is OpenRecord without the expiry check: for what was accepted before, or is to be shown.
func OpenStored(n Name, raw []byte) (Record, error) {
	if len(raw) > MaxRecordSize {
		return Record{}, ErrTooLarge
	}
	if n.IsZero() {
		return Record{}, fmt.Errorf("%w: no name to check it against", ErrInvalidRecord)
	}
	// The decoders below are handed attackers' bytes; what they keep must not change under us.
	raw = bytes.Clone(raw)
	rec, err := ipns.UnmarshalRecord(raw)
	if err != nil {
		return Record{}, recordError(err)
	}
	// boxo looks at the expiry last but one, by the wall clock. Whoever needs the expiry asks with a time of their own.
	if err := ipns.ValidateWithName(rec, ipns.NameFromPeer(n.id)); err != nil && !errors.Is(err, ipns.ErrExpiredRecord) {
		return Record{}, recordError(err)
	}
	s := &recordState{name: n, raw: raw}
	if err := s.readData(rec); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrInvalidRecord, err)
	}
	return Record{s}, nil
}

// recordError puts boxo's errors under ours.
func recordError(err error) error {
	for _, e := range []error{ipns.ErrSignature, ipns.ErrPublicKeyMismatch, ipns.ErrPublicKeyNotFound, ipns.ErrInvalidPublicKey, peer.ErrNoPublicKey} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w (%w)", ErrSignature, e)
		}
	}
	if errors.Is(err, ipns.ErrRecordSize) {
		return ErrTooLarge
	}
	return fmt.Errorf("%w: %w", ErrInvalidRecord, err)
}

// readData takes what we use out of a record whose signature was checked, within our bounds.
func (s *recordState) readData(rec *ipns.Record) error {
	value, err := rawValue(s.raw)
	if err != nil {
		return err
	}
	if s.value, err = parseContentPath(value); err != nil {
		return err
	}
	if s.sequence, err = rec.Sequence(); err != nil {
		return err
	}
	if s.sequence > MaxSequence {
		return fmt.Errorf("a sequence above 2^63-1 or below 0")
	}
	if s.validUntil, err = rec.Validity(); err != nil {
		return err
	}
	if y := s.validUntil.Year(); y < 1 || y > 9999 {
		return fmt.Errorf("the end of life is in the year %d", y)
	}
	// A record without a TTL is not to be cached; a negative one of an expired record was not looked at yet.
	if ttl, err := rec.TTL(); err == nil {
		if ttl < 0 {
			return fmt.Errorf("a negative TTL")
		}
		s.ttl = ttl
	}
	if s.release, err = metadataCID(rec, metaRelease); err != nil {
		return err
	}
	if s.policy, err = metadataCID(rec, metaPolicy); err != nil {
		return err
	}
	if err := s.readRecovery(rec); err != nil {
		return err
	}
	return s.checkLast()
}

// readRecovery takes what a record says of its site's recovery key.
func (s *recordState) readRecovery(rec *ipns.Record) error {
	commitment, err := metadataBytes(rec, metaRecovery)
	if err != nil {
		return err
	}
	if commitment != nil {
		if copy(s.recovery[:], commitment) != len(commitment) || len(commitment) != len(s.recovery) || s.recovery.IsZero() {
			return fmt.Errorf("metadata %s is no commitment", metaRecovery)
		}
	}
	key, err := metadataBytes(rec, metaRecoveryKey)
	if err != nil {
		return err
	}
	s.last.key = key
	s.last.sig, err = metadataBytes(rec, metaRecoverySig)
	return err
}

// rawValue is the value as it was signed. boxo only shows it cleaned, which hides "..".
func rawValue(raw []byte) ([]byte, error) {
	var pb ipnspb.IpnsRecord
	if err := proto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	b := basicnode.Prototype.Map.NewBuilder()
	if err := dagcbor.Decode(b, bytes.NewReader(pb.GetData())); err != nil {
		return nil, err
	}
	v, err := b.Build().LookupByString("Value")
	if err != nil {
		return nil, err
	}
	return v.AsBytes()
}

// metadataBytes is nil where the record has no such key.
func metadataBytes(rec *ipns.Record, key string) ([]byte, error) {
	v, err := rec.Metadata(key)
	if errors.Is(err, ipns.ErrMetadataNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	b, err := v.AsBytes()
	if err != nil {
		return nil, fmt.Errorf("metadata %s is not bytes", key)
	}
	return append([]byte{}, b...), nil // empty is not absent
}

func metadataCID(rec *ipns.Record, key string) (cid.Cid, error) {
	b, err := metadataBytes(rec, key)
	if b == nil || err != nil {
		return cid.Undef, err
	}
	c, err := cid.Cast(b)
	if err != nil {
		return cid.Undef, fmt.Errorf("metadata %s is not a CID: %w", key, err)
	}
	return c, nil
}

// IsZero tells whether r is no record. Only IsZero, Compare, Delegate and MayFollow may be called on such a one.
func (r Record) IsZero() bool { return r.s == nil }

// Name is the name whose key signed the record.
func (r Record) Name() Name { return r.s.name }

// Value is the content path that was signed, "/ipfs/<cid>" or "/ipns/<name>", perhaps with a path behind it. It
// holds no "..", empty segment or control character.
func (r Record) Value() string { return r.s.value.text }

// Root is the CID of a value "/ipfs/<cid>"; false for /ipns/ values and for those that go on below the CID.
func (r Record) Root() (cid.Cid, bool) {
	return r.s.value.root, r.s.value.root.Defined() && r.s.value.bare
}

// Below is the CID and the path behind it of a value "/ipfs/<cid>/a/b", which Root is false for: "/a/b". False for all others.
func (r Record) Below() (root cid.Cid, path string, ok bool) {
	v := r.s.value
	if !v.root.Defined() || v.bare {
		return cid.Undef, "", false
	}
	parts := strings.SplitN(v.text, "/", 4)
	return v.root, "/" + parts[3], true
}

// Target is the name of a value "/ipns/<name>"; false for /ipfs/ values and for those that go on below the name.
func (r Record) Target() (Name, bool) {
	return r.s.value.target, !r.s.value.target.IsZero() && r.s.value.bare
}

// Delegate is the name that publishes for r's: the target of a value "/ipns/<name>" that is no last record's. Of the zero
// Record too.
func (r Record) Delegate() (Name, bool) {
	if r.s == nil || r.IsLast() {
		return Name{}, false
	}
	return r.Target()
}

// Sequence counts the author's records, at most MaxSequence.
func (r Record) Sequence() uint64 { return r.s.sequence }

// TTL is for how long the author lets caches use the record unasked; 0 where the record has none.
func (r Record) TTL() time.Duration { return r.s.ttl }

// ValidUntil is the end of life, in UTC, between the years 1 and 9999.
func (r Record) ValidUntil() time.Time { return r.s.validUntil }

// Expired tells whether the end of life has passed at now.
func (r Record) Expired(now time.Time) bool { return now.After(r.s.validUntil) }

// Release is the CID of the release block, Undef where the record names none.
func (r Record) Release() cid.Cid { return r.s.release }

// Policy is the CID of the policy block, Undef where the record names none.
func (r Record) Policy() cid.Cid { return r.s.policy }

// Recovery is the commitment to the site's recovery key; zero where the record has none.
func (r Record) Recovery() Commitment { return r.s.recovery }

// Bytes is the record as it was received, with all metadata that we don't know; a copy.
func (r Record) Bytes() []byte { return bytes.Clone(r.s.raw) }

// Compare orders records of one name as the IPNS specification selects among them: the higher sequence wins, then
// the later end of life, then the larger bytes. 0 only for identical bytes.
//
// Source: https://specs.ipfs.tech/ipns/ipns-record/#record-verification
func (r Record) Compare(o Record) int {
	if r.s == nil || o.s == nil {
		switch {
		case r.s != nil:
			return 1
		case o.s != nil:
			return -1
		}
		return 0
	}
	return cmp.Or(
		cmp.Compare(r.s.sequence, o.s.sequence),
		r.s.validUntil.Compare(o.s.validUntil),
		bytes.Compare(r.s.raw, o.s.raw),
	)
}
