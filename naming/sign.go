package naming

import (
	"fmt"
	"time"

	"github.com/ipfs/boxo/ipns"
	"github.com/ipfs/boxo/path"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// DefaultTTL is for how long readers may use a record unasked when nothing else is said.
	DefaultTTL = time.Minute
	// DefaultLifetime is how long a record lives when nothing else is said.
	DefaultLifetime = 365 * 24 * time.Hour
)

// Statement is what a Signer signs.
type Statement struct {
	Value      string        // /ipfs/<cid> or /ipns/<name>
	Sequence   uint64        // at most MaxSequence
	TTL        time.Duration // 0: DefaultTTL
	ValidUntil time.Time     // required, before the year 10000
	Release    cid.Cid       // may be Undef
	Policy     cid.Cid       // may be Undef
	Recovery   Commitment    // may be zero

	last lastProof // of SignLast
}

// Signer signs without showing its key.
type Signer interface {
	// Name is what it signs for.
	Name() Name
	// Recovery is what the site's records commit to; zero where the key has no recovery key.
	Recovery() Commitment
	// Sign makes the record of a statement. It knows no predecessor: Next gives the statement that may follow one.
	// ErrInvalidRecord where the statement breaks a bound.
	Sign(s Statement) (Record, error)
}

// Next is the sequence rule: the statement s, changed so that it may follow best, the best record seen by self and
// network (zero for none). Its sequence is higher than best's and at least 1, it doesn't end before best does, since
// a release never shortens the life that its predecessor promised, and it carries best's commitment. ErrInvalidRecord
// where nothing can follow best but a last record, or nothing at all; ErrRecovery where s has a commitment of its own,
// and best another: to go on from there would hand the site to whoever has that recovery key.
func Next(best Record, s Statement) (Statement, error) {
	if best.IsZero() {
		s.Sequence = max(s.Sequence, 1)
		return s, nil
	}
	switch {
	case best.IsLast():
		return Statement{}, fmt.Errorf("%w: %s was moved to %s for good; publish under that name", ErrInvalidRecord, best.Name(), best.Value())
	case best.Sequence() >= MaxSequence-1:
		return Statement{}, fmt.Errorf("%w: %s is at sequence %d, and the last sequence is for moving it; publish under a new key", ErrInvalidRecord, best.Name(), best.Sequence())
	}
	switch {
	case s.Recovery.IsZero():
		s.Recovery = best.Recovery()
	case !best.Recovery().IsZero() && best.Recovery() != s.Recovery:
		return Statement{}, fmt.Errorf("%w: sequence %d of %s names another one than the key here: somebody else has signed it", ErrRecovery, best.Sequence(), best.Name())
	}
	s.Sequence = max(s.Sequence, best.Sequence()+1)
	if best.ValidUntil().After(s.ValidUntil) {
		s.ValidUntil = best.ValidUntil()
	}
	return s, nil
}

// keySigner is a Signer with its key in memory.
type keySigner struct {
	name     Name
	key      crypto.PrivKey
	recovery Commitment
}

func newKeySigner(key crypto.PrivKey, recovery Commitment) (*keySigner, error) {
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("deriving the name of a key: %w", err)
	}
	return &keySigner{NameOf(id), key, recovery}, nil
}

func (k *keySigner) Name() Name           { return k.name }
func (k *keySigner) Recovery() Commitment { return k.recovery }

// String keeps the key out of whatever prints a signer.
func (k *keySigner) String() string   { return "signer of " + k.name.String() }
func (k *keySigner) GoString() string { return k.String() }

func (k *keySigner) Sign(s Statement) (Record, error) {
	if s.Sequence > MaxSequence {
		return Record{}, fmt.Errorf("%w: sequence %d is above 2^63-1", ErrInvalidRecord, s.Sequence)
	}
	if s.ValidUntil.IsZero() {
		return Record{}, fmt.Errorf("%w: no end of life given", ErrInvalidRecord)
	}
	if s.TTL < 0 {
		return Record{}, fmt.Errorf("%w: a negative TTL", ErrInvalidRecord)
	}
	if s.TTL == 0 {
		s.TTL = DefaultTTL
	}
	value, err := parseContentPath([]byte(s.Value))
	if err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrInvalidRecord, err)
	}
	boxoPath, err := path.NewPath(value.text)
	if err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrInvalidRecord, err)
	}
	meta := map[string]any{}
	if s.Release.Defined() {
		meta[metaRelease] = s.Release.Bytes()
	}
	if s.Policy.Defined() {
		meta[metaPolicy] = s.Policy.Bytes()
	}
	if !s.Recovery.IsZero() {
		meta[metaRecovery] = s.Recovery[:]
	}
	if s.last.key != nil {
		meta[metaRecoveryKey], meta[metaRecoverySig] = []byte(s.last.key), s.last.sig
	}
	rec, err := ipns.NewRecord(k.key, boxoPath, s.Sequence, s.ValidUntil, s.TTL, ipns.WithMetadata(meta))
	if err != nil {
		return Record{}, fmt.Errorf("signing a record: %w", err)
	}
	raw, err := ipns.MarshalRecord(rec)
	if err != nil {
		return Record{}, fmt.Errorf("signing a record: %w", err)
	}
	// What we sign passes the same door as what comes from outside.
	return OpenStored(k.name, raw)
}
